"""The inbox in the outbox file: two tables of its own, written by a connection and a thread of its own.

So that what one broker's session holds, in both directions, is remembered in one file. The outbox opens the file first: its
lock keeps other processes out, and its schema has made the tables.
"""

import logging
import os
import sqlite3
from os import PathLike
from pathlib import Path

import anyio

from hawk.errors import StoreFailed
from hawk.eventlog import log_event
from hawk.messages import InboxCommit, InboxRecovered
from hawk.offload import Worker
from hawk.stores.outbox_file import Durability
from hawk.stores.places import beside, identity_of
from hawk.stores.rows import RowDamaged, inbound_row, read_inbound

logger = logging.getLogger("hawk.store")

_BUSY_S = 5.0
_PATIENCE_S = 0.5


class SQLiteInboxStore:
    """An `InboxStore` in the outbox file at `path`, which an outbox store has open. `durability` is as there."""

    def __init__(self, path: str | PathLike[str], *, durability: Durability = "power") -> None:
        self._tables = _InboxTables(Path(path).absolute(), durability)
        self._name = f"hawk inbox {Path(path).name}"
        self._worker: Worker | None = None

    async def open(self) -> InboxRecovered:
        """Say what an earlier process left. Raises `StoreFailed`. Cancelled, what was opened is closed."""
        if self._worker is not None and not self._worker.has_ended:
            raise StoreFailed(f"the thread {self._worker.name!r} still waits for the disk")
        self._worker = Worker(self._name)
        try:
            return await self._worker.run(self._tables.read)
        except BaseException:
            with anyio.move_on_after(_PATIENCE_S, shield=True):
                await self.aclose()
            raise

    async def commit(self, changes: InboxCommit) -> None:
        """Write all of `changes` or nothing. Raises `StoreFailed`. Cancelling: written or not, never half."""
        if self._worker is None or self._worker.has_ended:
            raise StoreFailed("the inbox is not open")
        await self._worker.run(lambda: self._tables.write(changes))

    async def aclose(self) -> None:
        """Close, and end the thread. Idempotent. Cancelled, both happen once the disk lets go of the thread."""
        if self._worker is not None:
            await self._worker.aclose(last=self._tables.close)


class _InboxTables:
    """The SQL of it. Blocking, and of one thread."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._path = path
        self._durability = durability
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def read(self) -> InboxRecovered:
        """Everything that is sound. A damaged row is forgotten: its message may then be delivered once more."""
        # As the outbox does: from here on that is the file itself, wherever a link to it leads later.
        self._path = Path(os.path.realpath(self._path))
        try:
            connection = self._connected()
            rows = connection.execute(
                "SELECT identifier, key, handled, checksum, fingerprint FROM inbound ORDER BY rowid"
            ).fetchall()
            filters = connection.execute("SELECT filter FROM subscribed ORDER BY rowid").fetchall()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._failure(error) from error
        sound = []
        for row in rows:
            try:
                sound.append(read_inbound(row))
            except RowDamaged:
                continue
        if len(sound) < len(rows):
            log_event(logger, logging.ERROR, "inbox damaged", path=self._path, messages=len(rows) - len(sound))
        return InboxRecovered(tuple(sound), tuple(text for (text,) in filters))

    def write(self, changes: InboxCommit) -> None:
        """In one transaction; after a failure or a move once more on a new connection: writing it twice changes nothing."""
        try:
            self._apply(changes)
            if self._present() == self._opened:
                return
        except (sqlite3.Error, OSError) as error:
            log_event(logger, logging.DEBUG, "inbox is opened again", path=self._path, why=str(error))
        self.close()
        try:
            self._apply(changes)
            if self._present() != self._opened:
                raise StoreFailed(f"{self._path} was replaced while the inbox wrote to it")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._failure(error) from error

    def _present(self) -> tuple[int, int]:
        """Which file is in the place of the outbox. Raises OSError.

        Raises `StoreFailed` where there is none that the next hawk would find: with its next commit the outbox puts one there.
        """
        present = identity_of(self._path)
        if present is None or not self._path.stat().st_size:
            raise StoreFailed(
                f"{self._path} was removed or emptied while hawk runs on it; it is written there again with the next message"
            )
        if beside(self._path, ".rescued").exists():
            raise StoreFailed(f"{self._path} is about to be replaced by what was rescued of it")
        return present

    def close(self) -> None:
        """Close the connection. Idempotent; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                log_event(logger, logging.DEBUG, "inbox not closed well", path=self._path, why=str(error))

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._opened = self._present()
            self._connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=rw", timeout=_BUSY_S, isolation_level=None, uri=True
            )
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if self._durability == 'power' else 'NORMAL'}")
        return self._connection

    def _apply(self, changes: InboxCommit) -> None:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            if changes.forget:
                connection.execute("DELETE FROM inbound")
            connection.executemany("DELETE FROM inbound WHERE identifier = ?", [(each,) for each in changes.delete])
            connection.executemany(
                "INSERT OR REPLACE INTO inbound VALUES (?, ?, ?, ?, ?)",
                [inbound_row(record) for record in changes.insert],
            )
            connection.executemany("DELETE FROM subscribed WHERE filter = ?", [(text,) for text in changes.leave])
            connection.executemany("INSERT OR IGNORE INTO subscribed VALUES (?)", [(text,) for text in changes.join])
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _failure(self, error: Exception) -> StoreFailed:
        return StoreFailed(f"{self._path}: {error}")
