"""The files beside an outbox, and the directory that they are in."""

import os
from pathlib import Path


def beside(path: Path, ending: str) -> Path:
    """The file whose name goes on with `ending`."""
    return path.with_name(path.name + ending)


def identity_of(file: Path | str | int) -> tuple[int, int] | None:
    """Which file it is that has this name, or is open; None if there is none. Raises OSError."""
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def sync_directory(path: Path) -> None:
    """Make sure that the names of the files beside `path` survive a power cut. Raises OSError."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
