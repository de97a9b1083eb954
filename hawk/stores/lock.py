"""One process at a time has an outbox: `flock` on `<outbox>.lock`, which says who holds it. It ends with its process."""

import errno
import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from hawk.errors import OutboxInUse, StoreFailed
from hawk.stores.places import beside, identity_of

_MOST_BYTES = 4096


class OutboxLock:
    """The lock of one outbox. The file stays when it is released: to remove it would let two processes hold one each."""

    def __init__(self, outbox: Path) -> None:
        self._outbox = outbox
        self.path = beside(outbox, ".lock")
        self._descriptor: int | None = None

    def take(self) -> None:
        """Hold it until `release`. Raises `OutboxInUse`, which names the holder, and `StoreFailed`."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError as error:
            raise StoreFailed(f"the directory {self.path.parent} does not exist") from error
        except OSError as error:
            raise StoreFailed(f"{self.path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise OutboxInUse(f"{self._outbox} is in use by {holder_of(self._outbox)}; stop it first") from None
            raise StoreFailed(f"{self.path} cannot be locked: {error.strerror}") from error
        self._descriptor = descriptor

    @property
    def identity(self) -> tuple[int, int] | None:
        """Which file it is that is locked, whether or not it still has its name. None: none is."""
        return None if self._descriptor is None else identity_of(self._descriptor)

    def sign(self, taken_at: float) -> None:
        """Write down who holds it."""
        if self._descriptor is None:
            return
        held = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.fromtimestamp(taken_at, UTC).isoformat(timespec="seconds"),
        }
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(held).encode() + b"\n", 0)
        except OSError:
            # On a full disk the lock holds without the words.
            return

    def release(self) -> None:
        """Let others have it. Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def holder_of(outbox: Path) -> str:
    """Who wrote itself into the lock file last: whether it still holds the lock only `take` can tell."""
    try:
        with beside(outbox, ".lock").open("rb") as file:
            held = json.loads(file.read(_MOST_BYTES))
        return f"process {held['pid']} on {held['host']} since {held['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
