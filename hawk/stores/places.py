"""The files beside an outbox, and the directory that they are in."""

import os
from pathlib import Path


def beside(path: Path, ending: str) -> Path:
    """The file whose name goes on with `ending`."""
    return path.with_name(path.name + ending)


def sync_directory(path: Path) -> None:
    """Make sure that the names of the files beside `path` survive a power cut. Raises OSError."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
