"""Reads a password from a file of its own. The password is in no problem, no warning and no log."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

MASK = "***"
"""What stands for a secret wherever settings are shown."""

_LARGEST_BYTES = 65_537


class PasswordFile(NamedTuple):
    """A file that holds the password, not opened yet."""

    path: Path


class Secret(NamedTuple):
    """What a password file held; `readable_by_all` says that its mode lets every user of the machine read it."""

    password: str
    readable_by_all: bool


def read_password(file: PasswordFile) -> Secret | str:
    """The password without one newline at its end, or a sentence on what keeps it from being read."""
    try:
        with file.path.open("rb") as stream:
            data = stream.read(_LARGEST_BYTES + 1)
            mode = os.fstat(stream.fileno()).st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "is not a file name"
    if len(data) > _LARGEST_BYTES:
        return "is larger than a password can be"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "does not hold UTF-8 text"
    if "\0" in text:
        return "must be UTF-8 text of at most 65,535 bytes, without NUL"
    password = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    return Secret(password, stat.S_ISREG(mode) and bool(mode & stat.S_IROTH))
