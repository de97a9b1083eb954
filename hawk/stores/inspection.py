"""Look into an outbox file while a hawk may be running on it: read-only, a few hundred rows at a time, never in its way.

Blocking; for the command line, and not for an event loop. `upkeep` is for changes.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from hawk.core.expiry import Clocks
from hawk.errors import StoreFailed
from hawk.messages import Identity, Record
from hawk.stores.pages import Found
from hawk.stores.rows import Death, RowDamaged, is_date, read_body, read_death
from hawk.stores.schema import VERSION, FileError, connect, version_of
from hawk.stores.tables import Tables, Tally

ROWS_AT_ONCE = 500
_DEAD = (
    "SELECT number, body, reason, reason_code, attempts, died_at, checksum FROM dead"
    " WHERE number > ? ORDER BY number LIMIT ?"
)

T = TypeVar("T")


class Dead(NamedTuple):
    """A dead letter: the message, and what became of it. What does not match its checksum is None."""

    number: int
    record: Record | None
    death: Death | None


class Damaged(NamedTuple):
    """What is left of a row that was set aside. None: this row is damaged itself."""

    number: int | None
    found_at: float | None
    body_bytes: int


class Findings(NamedTuple):
    """What a check has looked at, and every problem that it found, each in a sentence."""

    messages: int
    dead: int
    set_aside: int
    problems: tuple[str, ...]


class Inspection:
    """An outbox file, open for reading. `clocks` tells the present moment."""

    def __init__(self, connection: sqlite3.Connection, clocks: Callable[[], Clocks]) -> None:
        self._connection = connection
        self._clocks = clocks

    def waiting(self) -> Iterator[Found]:
        """Every message that waits or is under way, oldest first; a damaged one by its number alone."""
        pages = Tables(self._connection, self._clocks).pages
        yield from _in_turns(lambda number: pages.behind(number, ROWS_AT_ONCE))

    def dead(self) -> Iterator[Dead]:
        """Every dead letter, oldest first."""
        for number, body, *told, checksum in _in_turns(self._dead_behind):
            yield Dead(number, self._record(number, body), _death(number, told, checksum))

    def damaged(self) -> Iterator[Damaged]:
        """Every row that was set aside, in the order in which they were found."""
        query = "SELECT number, found_at, coalesce(length(body), 0) FROM damaged ORDER BY found"
        for row in self._connection.execute(query).fetchall():
            yield Damaged(row[0] if isinstance(row[0], int) else None, row[1] if is_date(row[1]) else None, row[2])

    def find(self, number: int) -> Found | Dead | None:
        """The message of that number, wherever it is; None if there is none."""
        [*waiting] = Tables(self._connection, self._clocks).pages.behind(number - 1, 1)
        if waiting and waiting[0].number == number:
            return waiting[0]
        return next((letter for letter in self.dead() if letter.number == number), None)

    def sums(self) -> tuple[Tally, Identity | None]:
        """The sums that the file keeps, and who its hawk is for the broker."""
        tables = Tables(self._connection, self._clocks)
        known = tables.read_identity()
        return tables.tally, None if known is None else known[0]

    def check(self) -> Findings:
        """Look at every page and every row."""
        problems = [
            f"the file: {what}" for (what,) in self._connection.execute("PRAGMA integrity_check(20)") if what != "ok"
        ]
        if problems:
            return Findings(0, 0, 0, tuple(problems))
        self._connection.execute("BEGIN")  # so that the sums and the rows are of one moment
        try:
            return self._check_rows()
        finally:
            self._connection.execute("ROLLBACK")

    def _check_rows(self) -> Findings:
        messages, dead, problems = 0, 0, list[str]()
        size_bytes = 0
        for number, record in self.waiting():
            messages += 1
            if record is None:
                problems.append(f"message {number}: does not match its checksum")
            else:
                size_bytes += record.message.size_bytes
        for letter in self.dead():
            dead += 1
            if letter.record is None or letter.death is None:
                problems.append(f"dead letter {letter.number}: does not match its checksum")
        tally, _ = self.sums()
        counted = tally._replace(messages=messages, size_bytes=size_bytes, dead=dead)
        if not problems and tally != counted:
            problems.append(
                f"the sums: {tally.messages} messages of {tally.size_bytes} bytes and {tally.dead} dead letters,"
            )
            problems[-1] += f" and counted are {messages} of {size_bytes} and {dead}"
        return Findings(messages, dead, sum(1 for _ in self.damaged()), tuple(problems))

    def _dead_behind(self, number: int) -> list[Any]:
        return self._connection.execute(_DEAD, (number, ROWS_AT_ONCE)).fetchall()

    def _record(self, number: int, body: object) -> Record | None:
        try:
            read = read_body(number, body)
        except RowDamaged:
            return None
        return Record(number, read.message, latest=read.latest)


def _death(number: int, told: Sequence[Any], checksum: object) -> Death | None:
    try:
        return read_death(number, told, checksum)
    except RowDamaged:
        return None


@contextmanager
def inspect(path: Path, clocks: Callable[[], Clocks]) -> Iterator[Inspection]:
    """Open an outbox file for reading. What goes wrong in the block with the file is raised as `StoreFailed`."""
    if not path.is_file():
        raise StoreFailed(f"{path}: there is no such file")
    try:
        address = f"file:{quote(str(path.absolute()))}?mode=ro"
        with closing(connect(address, uri=True)) as connection:
            version = version_of(connection)
            if version == 0:
                raise StoreFailed("nothing was ever written to this outbox")
            if version < VERSION:
                raise StoreFailed("this outbox was written by an older hawk: `hawk outbox vacuum` brings it up to date")
            yield Inspection(connection, clocks)
    except FileError as error:
        raise StoreFailed(f"{path}: {error}") from error


def _in_turns(rows_behind: Callable[[int], list[Any]]) -> Iterator[Any]:
    """All rows, with a transaction of its own for each few hundred. The number comes first in each."""
    number = -1
    while rows := rows_behind(number):
        yield from rows
        number = rows[-1][0]
