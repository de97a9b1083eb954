"""The outbox file in SQL: how a commit is written, and the sums that are kept. `pages` reads what is written here.

Of one open connection and one thread. Errors of sqlite3 come up as they are; what they mean is `outbox_file`'s affair.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from hawk.core.expiry import Clocks
from hawk.messages import Commit, DeadLetter, Identity, Progress, Record, Withheld
from hawk.stores.expiries import Expiries
from hawk.stores.pages import Pages
from hawk.stores.rows import (
    Death,
    RowDamaged,
    body_of,
    checksum_of,
    death_checksum,
    identity_row,
    progress_row,
    read_identity,
    withheld_row,
)
from hawk.values import Stage

_PLAIN = (0, Stage.QUEUED, 0, None, "")
"""What stands behind number and message in the records of which there is nothing else to write."""


_INSERTS = tuple((size, "INSERT INTO message VALUES" + ",".join(["(?, ?, ?)"] * size)) for size in (256, 32, 4, 1))
_IDENTIFIER = (
    "SELECT identifier, number FROM progress WHERE number = ? AND typeof(identifier) = 'integer' AND identifier > 0"
)
READ_IDENTITY = "SELECT client_identifier, session, machine_id, inode, endpoint, shared, checksum FROM identity"
WRITE_IDENTITY = (
    "INSERT OR REPLACE INTO identity (one, client_identifier, session, machine_id, inode, endpoint, shared, checksum)"
    " VALUES (1, ?, ?, ?, ?, ?, ?, ?)"
)
_WAIT_FOR_THE_DISK = "PRAGMA synchronous = FULL"
_LEAVE_IT_TO_THE_SYSTEM = "PRAGMA synchronous = NORMAL"


class Tally(NamedTuple):
    """Sums over the file, kept with every commit."""

    messages: int = 0
    size_bytes: int = 0
    last_number: int = 0
    dead: int = 0


class Tables:
    """One outbox that is open. `clocks` tells the present moment."""

    def __init__(self, connection: sqlite3.Connection, clocks: Callable[[], Clocks], *, syncs: bool = True) -> None:
        self._connection = connection
        self._clocks = clocks
        self._syncs = syncs
        self._waits_for_the_disk: bool | None = None
        self._expiries = Expiries(connection, clocks)
        self.pages = Pages(connection, clocks, self._expiries)
        self.tally = self._read_tally()
        self._progressed = {number for (number,) in connection.execute("SELECT number FROM progress")}
        self._has_latest = connection.execute("SELECT 1 FROM latest LIMIT 1").fetchone() is not None

    def apply(self, changes: Commit, *, undone: Sequence[int] = (), place: tuple[str, str] = ("", "")) -> None:
        """Write all of `changes` in one transaction. `undone` are numbers that must not be there before it.

        `place` is where the file is, and is kept with the identity. With `syncs` the disk is waited for, unless there are
        only deletions: a power cut that undoes those makes QoS 1 repeat a message and QoS 2 a PUBREL, which both allow, and
        whatever is written after them makes them safe, too.
        """
        waits = bool(changes.insert or changes.progress or changes.dead or changes.identity or changes.withheld)
        if self._syncs and waits is not self._waits_for_the_disk:
            self._connection.execute(_WAIT_FOR_THE_DISK if waits else _LEAVE_IT_TO_THE_SYSTEM)
            self._waits_for_the_disk = waits
        with self._transaction():
            if undone:
                self._delete(undone)
            if changes.insert:
                self._insert(changes.insert)
            if changes.progress:
                self._advance(changes.progress)
            if changes.dead:
                self._bury(changes.dead)
            if changes.delete:
                self._delete(changes.delete)
            if changes.withheld:
                self._withhold(changes.withheld)
            if changes.released:
                released = [(identifier,) for identifier in changes.released]
                self._connection.executemany("DELETE FROM withheld WHERE identifier = ?", released)
            if changes.identity is not None:
                self._identify(changes.identity, place)

    def set_aside(self, numbers: Sequence[int]) -> None:
        """Move damaged rows out of the way."""
        found_at = self._clocks().calendar
        with self._transaction():
            self._withhold(self._under_way(numbers))
            self._connection.executemany(
                "INSERT INTO damaged (number, found_at, body) SELECT number, ?, body FROM message WHERE number = ?",
                [(found_at, number) for number in numbers],
            )
            self._delete(numbers)

    def revive(self, records: Sequence[Record], dead: Sequence[int]) -> None:
        """Write the messages of dead letters anew, and forget those letters."""
        with self._transaction():
            if records:
                self._insert(records)
            self._forget_dead(dead)

    def purge(self, *, dead: Sequence[int] = (), waiting: Sequence[int] = (), set_aside: bool = False) -> None:
        """Forget dead letters, messages, and what was set aside."""
        with self._transaction():
            self._forget_dead(dead)
            self._withhold(self._under_way(waiting))
            self._delete(waiting)
            if set_aside:
                self._connection.execute("DELETE FROM damaged")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block or nothing, the sums with it."""
        tally, progressed = self.tally, self._progressed.copy()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.write_tally()
            self._connection.execute("COMMIT")
        except BaseException:
            self.tally, self._progressed = tally, progressed
            roll_back(self._connection)
            raise

    def _insert(self, records: Sequence[Record]) -> None:
        now = self._clocks()
        rows = [(record.number, record.message.size_bytes, body_of(record, now)) for record in records]
        self._insert_rows(rows)
        special = [record for record in records if record[2:] != _PLAIN]
        if special:
            self._expiries.add([(each.number, each.remaining_s) for each in special if each.remaining_s is not None])
            self._advance(
                [Progress(each.number, each.identifier, each.stage, each.refusals) for each in special if _moved(each)]
            )
            latest = [(each.number,) for each in special if each.latest]
            self._connection.executemany("INSERT OR REPLACE INTO latest VALUES (?)", latest)
            self._has_latest = self._has_latest or bool(latest)
        tally = self.tally
        self.tally = tally._replace(
            messages=tally.messages + len(rows),
            size_bytes=tally.size_bytes + sum(row[1] for row in rows),
            last_number=max(tally.last_number, rows[-1][0]),
        )

    def _insert_rows(self, rows: Sequence[tuple[int, int, bytes]]) -> None:
        """Many with one statement, which does not stop for the interpreter between two of them."""
        begins = 0
        for size, statement in _INSERTS:
            while len(rows) - begins >= size:
                batch = rows[begins : begins + size]
                self._connection.execute(statement, [value for row in batch for value in row])
                begins += size

    def _advance(self, progress: Sequence[Progress]) -> None:
        # All of them first, for an identifier may go from one to another.
        self._forget_progress(each.number for each in progress)
        rows = [progress_row(*each) for each in progress if _moved(each)]
        kept = "INSERT INTO progress SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM message WHERE number = ?1)"
        self._connection.executemany(kept, rows)
        self._progressed.update(row[0] for row in rows)

    def _forget_progress(self, numbers: Iterable[int]) -> None:
        known = [(number,) for number in numbers if number in self._progressed]
        if known:
            self._connection.executemany("DELETE FROM progress WHERE number = ?", known)
            self._progressed.difference_update(number for (number,) in known)

    def _bury(self, letters: Sequence[DeadLetter]) -> None:
        died_at = self._clocks().calendar
        deaths = [(each, Death(each.reason, int(each.reason_code), each.attempts, died_at)) for each in letters]
        before = self._connection.total_changes
        self._connection.executemany(
            "INSERT OR REPLACE INTO dead"
            " SELECT number, ?2, ?3, ?4, ?5, size_bytes, body, ?6 FROM message WHERE number = ?1",
            [(each.number, *death, death_checksum(each.number, death)) for each, death in deaths],
        )
        self.tally = self.tally._replace(dead=self.tally.dead + self._connection.total_changes - before)
        self._delete(letter.number for letter in letters)

    def _withhold(self, withheld: Iterable[Withheld]) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO withheld VALUES (?, ?, ?)", map(withheld_row, withheld))

    def _under_way(self, numbers: Iterable[int]) -> list[Withheld]:
        """Those of these messages that the broker's session may hold. In doubt it does: that costs an identifier."""
        wanted = self._progressed.intersection(numbers)
        return [Withheld(*row) for number in wanted for row in self._connection.execute(_IDENTIFIER, (number,))]

    def _forget_dead(self, numbers: Sequence[int]) -> None:
        before = self._connection.total_changes
        self._connection.executemany("DELETE FROM dead WHERE number = ?", [(number,) for number in numbers])
        self.tally = self.tally._replace(dead=self.tally.dead - (self._connection.total_changes - before))

    def _delete(self, numbers: Iterable[int]) -> None:
        """Acknowledgements come in order, so the numbers make few runs, and a run is deleted in one go."""
        ordered = sorted(numbers)
        messages = size_bytes = 0
        for run in _runs(ordered):
            between = "FROM message WHERE number BETWEEN ? AND ?"
            count, total = self._connection.execute(f"SELECT count(*), total(size_bytes) {between}", run).fetchone()
            if not count:
                continue
            messages += count
            size_bytes += int(total)
            self._connection.execute(f"DELETE {between}", run)
            self._expiries.remove(run)
            if self._has_latest:
                self._connection.execute("DELETE FROM latest WHERE number BETWEEN ? AND ?", run)
        if self._progressed:
            self._forget_progress(ordered)
        tally = self.tally
        self.tally = tally._replace(messages=tally.messages - messages, size_bytes=tally.size_bytes - size_bytes)

    def read_identity(self) -> tuple[Identity, tuple[str, str]] | None:
        """Who hawk was, and where the file was then. None if nobody was, or nobody knows."""
        row = self._connection.execute(READ_IDENTITY).fetchone()
        try:
            return None if row is None else read_identity(row)
        except RowDamaged:
            return None

    def recount(self, *, at_least: int = 0) -> None:
        """Take the sums from the messages themselves. `at_least` is a number that was given before."""
        count, total, last = self._connection.execute(
            "SELECT count(*), total(size_bytes), max(number) FROM message"
        ).fetchone()
        (dead, last_dead) = self._connection.execute("SELECT count(*), max(number) FROM dead").fetchone()
        last_number = max(last or 0, last_dead or 0, self.tally.last_number, at_least)
        self.tally = Tally(count, int(total), last_number, dead)

    def _identify(self, identity: Identity, place: tuple[str, str]) -> None:
        row = identity_row(identity, place)
        self._connection.execute(WRITE_IDENTITY, row)

    def _read_tally(self) -> Tally:
        row = self._connection.execute("SELECT messages, size_bytes, last_number, dead, checksum FROM tally").fetchone()
        if row is not None and checksum_of(*row[:4]) == row[4]:
            return Tally(*row[:4])
        self.tally = Tally()
        self.recount()
        return self.tally

    def write_tally(self, tally: Tally | None = None) -> None:
        """Write the sums. Part of a transaction."""
        tally = tally or self.tally
        self._connection.execute(
            "INSERT OR REPLACE INTO tally VALUES (1, ?, ?, ?, ?, ?)", (*tally, checksum_of(*tally))
        )


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that failed, if SQLite has not done so itself."""
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The error that led here is the one to tell; a connection in this state is closed.
            return


def _moved(record: Record | Progress) -> bool:
    return bool(record.identifier or record.refusals or record.stage is not Stage.QUEUED)


def _runs(ordered: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of numbers without a gap."""
    if not ordered:
        return
    if ordered[-1] - ordered[0] == len(ordered) - 1:
        yield ordered[0], ordered[-1]
        return
    first = last = ordered[0]
    for number in ordered[1:]:
        if number > last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
