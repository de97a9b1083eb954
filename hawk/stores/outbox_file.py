"""One outbox file from its opening to its end: who may open it, what trouble with the disk means, how it heals.

Blocking, and of one thread: `sqlite` is the port around it. SQL is in `tables`.

    outbox.db          the messages; -wal and -shm beside it are SQLite's
    outbox.db.lock     who has it open
    outbox.db.ballast  room for deletions on a full disk
"""

import logging
import math
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from hawk.errors import OutboxInUse, StoreFailed
from hawk.eventlog import log_event
from hawk.messages import Commit, Page, ReadPage, Recovered
from hawk.stores.ballast import Ballast
from hawk.stores.claim import Claim
from hawk.stores.machine import Machine
from hawk.stores.places import sync_directory
from hawk.stores.recovery import count_missing, read_recovered
from hawk.stores.salvage import Lost, put_back, rescue, take_over
from hawk.stores.schema import FileError, check_tables, code_of, connect, mark, prepare
from hawk.stores.tables import Tables, Tally

logger = logging.getLogger("hawk.store")

T = TypeVar("T")
Durability = Literal["power", "process"]

RESCUES_APART_S = 60.0
_MOST_LOG_BYTES = 16 * 1024 * 1024
_FULL = (sqlite3.SQLITE_FULL,)
_PERHAPS_FULL = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""How a quota that is used up looks, among other things."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class OutboxFile:
    """The outbox at `path`. `durability` "power": what is committed survives a power cut, "process": only a crash of hawk."""

    def __init__(self, path: Path, *, durability: Durability, machine: Machine) -> None:
        self._durability = durability
        self._machine = machine
        self._claim = Claim(path)
        self._ballast = Ballast(path)
        self._connection: sqlite3.Connection | None = None
        self._tables: Tables | None = None
        self._known = Tally()
        """What was in the file when its connection was dropped."""
        self._doubtful: tuple[int, ...] = ()
        self._no_rescue_before_s = -math.inf

    @property
    def path(self) -> Path:
        """Where it is. Once it is open, that is the file itself and no link to it."""
        return self._claim.path

    def open(self) -> Recovered:
        """Take the lock, open the file or make it, and say what is in it. Raises `OutboxInUse`, `StoreFailed`.

        A damaged file is kept beside it under another name, and what can be read of it taken over.
        """
        self._claim.take(self._machine.clocks().calendar)
        self._ballast = Ballast(self.path)
        try:
            recovered = self._open_or_rescue()
        except BaseException:
            # What became of the file before it was open is not for this hawk to undo.
            self._let_go()
            raise
        if not self._ballast.put():
            log_event(logger, logging.WARNING, "outbox has no ballast", path=self._ballast.path)
        return recovered

    def commit(self, changes: Commit) -> None:
        """Write `changes`, all or nothing. Raises `StoreFailed`."""
        if changes.insert and not (self._ballast.stands or self._ballast.put()):
            # What room there is stays for deletions.
            raise StoreFailed("no space left on device: the outbox takes nothing new until there is room again")
        self._stay_in_place()
        try:
            self._write(changes)
        except FileError as error:
            self._write_anew(changes, error)
        try:
            self._stay_in_place()
        except StoreFailed:
            self._doubt(changes)
            raise
        self._doubtful = ()

    def page(self, request: ReadPage) -> Page:
        """Read a page. Damaged rows on the way are set aside. Raises `StoreFailed`."""
        try:
            return self._read(request)
        except FileError:
            self._stay_in_place()
            self._drop_connection()
        return self._once_more(lambda: self._read(request))

    def close(self) -> None:
        """Close the file and release the lock. Idempotent; never raises."""
        try:
            self._stay_in_place()
        except StoreFailed as failed:
            log_event(logger, logging.ERROR, "outbox is lost", path=self.path, why=str(failed))
        self._let_go()

    # ----------------------------------------------------------------------------------------- opening

    def _open_or_rescue(self) -> Recovered:
        """Open the file, whatever it takes."""
        try:
            return self._with_room(self._open_and_look)
        except FileError as error:
            if code_of(error) not in _DAMAGED:
                raise self._failure(error) from error
        except OSError as error:
            raise self._failure(error) from error
        lost = self._rescue()
        try:
            return self._read_recovered(lost)
        except FileError as error:
            raise self._failure(error) from error

    def _open_and_look(self) -> Recovered:
        """Raises sqlite3's errors and `StoreFailed`."""
        self._connect()
        connection, tables = self._present()
        return self._read_recovered(count_missing(connection, tables, self.path.stat().st_size))

    def _rescue(self) -> int:
        """Put a new file in the place of a damaged one, and open it. Returns how many messages are known to be lost."""
        self._drop_connection()
        try:
            kept, lost = self._with_room(lambda: rescue(self.path, self._machine))
        except (*FileError, OSError) as error:
            raise StoreFailed(f"{self.path} is damaged, and what it holds cannot be saved: {error}") from error
        log_event(
            logger,
            logging.ERROR,
            "outbox was damaged",
            path=self.path,
            damaged_file=kept,
            lost=lost.messages,
            dead_letters_lost=lost.dead,
        )
        try:
            self._reopen()
        except FileError as error:
            raise self._failure(error) from error
        return lost.messages + lost.dead

    def _connect(self) -> None:
        """Raises sqlite3's errors and `StoreFailed`."""
        self._end_rescue()
        is_new = self._claim.make_file()
        connection = self._connection = connect(self.path)
        connection.execute("PRAGMA cell_size_check = ON")
        mark(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_MOST_LOG_BYTES}")
        if prepare(connection) and is_new:
            self._sync_directory()
        check_tables(connection)
        self._tables = Tables(connection, self._machine.clocks, syncs=self._durability == "power")
        self._note_open()
        if is_new and any(self._known):
            self._tell_gone(Lost(self._known.messages, self._known.dead))

    def _end_rescue(self) -> None:
        """If a rescue was begun and not ended, the file that it made is the one to open."""
        try:
            take_over(self.path)
        except OSError as error:
            raise StoreFailed(f"{self.path} cannot be replaced by what was rescued of it: {error}") from error

    def _note_open(self) -> None:
        try:
            self._claim.note_open()
        except OSError as error:
            raise StoreFailed(f"{self.path}: {error.strerror}") from error

    def _sync_directory(self) -> None:
        try:
            sync_directory(self.path)
        except OSError as error:
            raise StoreFailed(f"{self.path.parent}: {error.strerror}") from error

    def _read_recovered(self, lost: int) -> Recovered:
        _, tables = self._present()
        return read_recovered(tables, lost=lost, here=self._place(), set_aside=self._set_aside)

    def _place(self) -> tuple[str, str]:
        """Where the file is: on which machine, and which file of it."""
        return self._machine.machine_id, str(self._claim.inode)

    # ----------------------------------------------------------------------------------------- trouble

    def _write(self, changes: Commit) -> None:
        if self._connection is None:
            self._reopen()
        _, tables = self._present()
        place = self._place() if changes.identity is not None else ("", "")
        tables.apply(changes, undone=self._doubtful, place=place)

    def _write_anew(self, changes: Commit, error: Exception) -> None:
        """After a failure: on a full disk with the ballast's room, else on a connection that has looked at the file anew.

        What of the failed attempt reached the disk nobody knows: the first thing of the next one is to undo it.
        """
        self._doubt(changes)
        full = code_of(error) in _FULL
        if full or getattr(error, "sqlite_errorcode", 0) in _PERHAPS_FULL:
            self._ballast.give_up()
        if full:
            self._shrink_log()
        else:
            self._stay_in_place()
            self._drop_connection()
        if full and changes.insert:
            raise self._failure(error) from error
        self._once_more(lambda: self._write(changes))
        if not full:
            log_event(logger, logging.WARNING, "outbox was reopened", path=self.path, why=str(error))

    def _once_more(self, act: Callable[[], T]) -> T:
        """What `act` returns, if need be after a rescue. Raises `StoreFailed`."""
        try:
            return act()
        except FileError as error:
            self._heal(error)
        try:
            return act()
        except FileError as error:
            self._drop_connection()
            raise self._failure(error) from error

    def _heal(self, error: Exception) -> None:
        """Rescue a file of which only its use has shown that it is damaged: not all of a large one is looked at before.

        Where that does not help, it is not tried again for a while. Raises `StoreFailed`.
        """
        self._drop_connection()
        now_s = self._machine.clocks().since_boot_s
        if code_of(error) not in _DAMAGED or now_s < self._no_rescue_before_s:
            raise self._failure(error) from error
        self._no_rescue_before_s = now_s + RESCUES_APART_S
        self._rescue()

    def _doubt(self, changes: Commit) -> None:
        self._doubtful += tuple(record.number for record in changes.insert)

    def _stay_in_place(self) -> None:
        """If somebody took the file, its log or its lock from its place, write all that is open there again.

        So nothing that is kept goes with it, and nothing is accepted that the next hawk would not find. Not to be saved is
        what a crash takes before this was called, and what is open when hawk ends while another file is in that place.
        Raises `StoreFailed`.
        """
        if self._connection is None:
            return
        connection, tables = self._present()
        try:
            if self._claim.is_in_place():
                return
            self._claim.keep_lock(self._machine.clocks().calendar)
            if self._claim.is_in_place():
                return
            self._claim.check_vacancy()
            lost = put_back(self.path, connection, self._claim.inode, self._machine, tables.tally)
            self._tell_gone(lost)
            self._drop_connection()
            self._reopen()
        except OutboxInUse as error:
            raise StoreFailed(str(error)) from error
        except (*FileError, OSError) as error:
            raise StoreFailed(
                f"{self.path} was taken from its place while hawk runs on it, and cannot be written there again: {error}"
            ) from error
        self._ballast.put()

    def _tell_gone(self, lost: Lost) -> None:
        log_event(
            logger,
            logging.ERROR,
            "outbox was gone from its place",
            path=self.path,
            lost=lost.messages,
            dead_letters_lost=lost.dead,
        )

    def _shrink_log(self) -> None:
        """Take what the log holds into the file, where deletions need no new room, and the log's own room back."""
        connection, _ = self._present()
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except FileError as error:
            log_event(logger, logging.DEBUG, "outbox log not shrunk", path=self.path, why=str(error))

    def _read(self, request: ReadPage) -> Page:
        if self._connection is None:
            self._reopen()
        _, tables = self._present()
        page = tables.pages.read(request)
        self._set_aside(page.damaged)
        return page

    def _set_aside(self, damaged: Sequence[int]) -> None:
        if not damaged:
            return
        _, tables = self._present()
        tables.set_aside(damaged)
        log_event(logger, logging.ERROR, "messages damaged", path=self.path, messages=len(damaged), first=damaged[0])

    def _reopen(self) -> None:
        """Raises sqlite3's errors and `StoreFailed`."""
        try:
            self._connect()
        except BaseException:
            self._drop_connection()
            raise

    def _with_room(self, function: Callable[[], T]) -> T:
        """What `function` returns; on a full disk it gets the ballast's room."""
        try:
            return function()
        except FileError as error:
            if code_of(error) not in (*_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
                raise
            if not self._ballast.give_up():
                raise
            self._drop_connection()
            return function()

    def _let_go(self) -> None:
        self._drop_connection()
        self._known = Tally()
        self._claim.release()

    def _drop_connection(self) -> None:
        if self._tables is not None:
            self._known = self._tables.tally
        connection, self._connection, self._tables = self._connection, None, None
        if connection is not None:
            try:
                connection.close()
            except FileError as error:
                log_event(logger, logging.DEBUG, "outbox not closed well", path=self.path, why=str(error))

    def _present(self) -> tuple[sqlite3.Connection, Tables]:
        if self._connection is None or self._tables is None:
            raise StoreFailed(f"{self.path} is not open")
        return self._connection, self._tables

    def _failure(self, error: Exception) -> StoreFailed:
        return StoreFailed(f"{self.path}: {error}")
