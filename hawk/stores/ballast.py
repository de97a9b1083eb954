"""A megabyte beside the outbox that is given up when the disk is full: then even a deletion needs room to be written.

While it is gone the outbox takes nothing new, so that the room it left goes to deletions alone.
"""

import os
from pathlib import Path

from hawk.stores.places import beside

BALLAST_BYTES = 1024 * 1024


class Ballast:
    """The file `<outbox>.ballast`."""

    def __init__(self, outbox: Path) -> None:
        self.path = beside(outbox, ".ballast")
        self.stands = False

    def put(self) -> bool:
        """Make sure that it is there, whole. False if there is no room for it, or it cannot be written."""
        try:
            self.stands = self.path.stat().st_size >= BALLAST_BYTES or self._write()
        except FileNotFoundError:
            self.stands = self._write()
        except OSError:
            self.stands = False
        return self.stands

    def give_up(self) -> bool:
        """Free its room. True if there was any."""
        self.stands = False
        try:
            self.path.unlink()
        except OSError:
            return False
        return True

    def _write(self) -> bool:
        try:
            # Bytes that no file system makes small.
            with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(os.urandom(BALLAST_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self.give_up()
            return False
        return True
