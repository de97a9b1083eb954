"""The claim of one hawk to one outbox file: that it is an outbox or to become one, and that nobody else has it.

Nothing is made or changed beside what is no outbox. A name is followed through symbolic links to the file, so that all of
them lead to one lock. Hard links do not: each name of such a file has a lock and a log of its own, two hawks under two names
are not noticed, and they destroy the file. An outbox has one name.
"""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from hawk.errors import StoreFailed
from hawk.stores.lock import OutboxLock
from hawk.stores.places import beside, identity_of
from hawk.stores.schema import APPLICATION_ID, FileError, code_of, connect

_TRACES = (".ballast", ".rescued")
"""What only an outbox has beside it: with one of these it is one, even if its first page does not say so any more."""

_LEAST_BYTES = 512
"""The smallest page, and so the smallest database."""


class Claim:
    """The claim to the outbox at `path`. Once it is taken, that is the file itself and no link to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # As text, for every commit looks at them.
        self._name, self._rescued = str(path), str(beside(path, ".rescued"))
        self._lock = OutboxLock(path)
        self._noted: dict[str, tuple[int, int]] = {}

    def take(self, taken_at: float) -> None:
        """Hold it until `release`. Raises `OutboxInUse`, which names the holder, and `StoreFailed`."""
        self.path = Path(os.path.realpath(self.path))
        self._name, self._rescued = str(self.path), str(beside(self.path, ".rescued"))
        self._noted = {}
        self._lock = OutboxLock(self.path)
        if not os.path.exists(self._lock.path):
            try:
                check_file(self.path)
            except StoreFailed:
                # Somebody else may be about to make an outbox: then the lock is there by now.
                if not os.path.exists(self._lock.path):
                    raise
        self._lock.take()
        try:
            check_file(self.path)
        except BaseException:
            self._lock.release()
            raise
        self._lock.sign(taken_at)

    def release(self) -> None:
        """Let others have it, and forget what was open. Idempotent."""
        self._noted = {}
        self._lock.release()

    def note_open(self) -> None:
        """The file and its log, as they are now, are open from here on. Raises OSError."""
        file, log = self.path.stat(), beside(self.path, "-wal")
        noted = {
            str(self.path): (file.st_dev, file.st_ino),
            str(log): identity_of(log),
            str(self._lock.path): self._lock.identity,
        }
        self._noted = {name: identity for name, identity in noted.items() if identity is not None}

    @property
    def inode(self) -> int:
        """That of the file that is open."""
        return self._noted[str(self.path)][1]

    def is_in_place(self) -> bool:
        """Whether what is open, the lock too, still has its names, and will have at the next start. Raises OSError.

        A file that was emptied is as good as gone, for SQLite then does away with its log, too. What a rescue made that was
        not ended would take its place.
        """
        return (
            all(identity_of(name) == known for name, known in self._noted.items())
            and os.path.getsize(self._name) > 0
            and not os.path.exists(self._rescued)
        )

    def keep_lock(self, taken_at: float) -> None:
        """If the lock's file has lost its name, take a new one. Raises `OutboxInUse` if another was faster, `StoreFailed`."""
        if identity_of(self._lock.path) == self._lock.identity:
            return
        lock = OutboxLock(self.path)
        lock.take()
        self._lock.release()
        self._lock = lock
        lock.sign(taken_at)
        if lock.identity is not None:
            self._noted[str(lock.path)] = lock.identity

    def check_vacancy(self) -> None:
        """Raise `StoreFailed` if what has the file's name now is a file of somebody else. Raises OSError."""
        found = identity_of(self.path)
        if found is not None and found != self._noted.get(str(self.path)) and self.path.stat().st_size:
            raise StoreFailed(
                f"another file was put in the place of {self.path} while hawk runs on it; move that one away, and hawk writes"
                " its own there again, or start hawk anew to go on with that one"
            )

    def make_file(self) -> bool:
        """Make sure that there is a file, for nobody else's eyes. True if there was none or an empty one.

        Raises `StoreFailed`.
        """
        check_file(self.path)
        try:
            try:
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                status = self.path.stat()
                if status.st_mode & 0o077:
                    self.path.chmod(0o600)
                return not status.st_size
        except OSError as error:
            raise StoreFailed(f"{self.path}: {error.strerror}") from error
        return True


def check_file(path: Path) -> None:
    """Raise `StoreFailed` unless this is an outbox, a file with nothing in it, or none yet. Changes nothing."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no file that keeps anything"
            raise StoreFailed(f"{path} is {kind}; name a file for the outbox")
        if not os.access(path, os.R_OK | os.W_OK):
            raise StoreFailed(f"{path} may not be read and written by this user")
        if not status.st_size or any(beside(path, ending).exists() for ending in _TRACES):
            return
        application = _application_of(path) if status.st_size >= _LEAST_BYTES else None
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreFailed(f"{path}: {error.strerror}") from error
    except FileError as error:
        raise StoreFailed(f"{path}: {error}") from error
    if application is None:
        raise StoreFailed(f"{path} is no outbox; name another file for it")
    if application != APPLICATION_ID:
        raise StoreFailed(f"{path} is a SQLite database of another program; name another file for the outbox")


def _application_of(path: Path) -> int | None:
    """Whose file the first page says that it is; None for no database. Raises sqlite3's other errors.

    SQLite reads it, and as a file that never changes: so it makes nothing beside it. A file that is opened and closed in any
    other way takes with it all locks that this process has there, those of an application's own connections too.
    """
    with closing(connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except FileError as error:
            if code_of(error) != sqlite3.SQLITE_NOTADB:
                raise
            return None
    return int(application)
