"""Change an outbox file while no hawk runs on it: it takes the same lock, so that it says who does.

Blocking; for the command line, and not for an event loop. `inspection` is for reading.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from hawk.errors import StoreFailed
from hawk.messages import Record
from hawk.stores.claim import Claim
from hawk.stores.machine import Machine
from hawk.stores.rows import RowDamaged, read_body
from hawk.stores.schema import FileError, check_tables, connect, prepare
from hawk.stores.tables import Tables


class Upkeep:
    """An outbox file that nobody else has open."""

    def __init__(self, connection: sqlite3.Connection, machine: Machine) -> None:
        self._connection = connection
        self._tables = Tables(connection, machine.clocks)

    def replay(self, numbers: Iterable[int] | None) -> list[int]:
        """Put dead letters, or all of them (None), behind what waits, with their full time to live. Returns their numbers.

        Each gets a new number. Raises `StoreFailed` if one of the numbers is none of a sound dead letter.
        """
        replayed, records = [], []
        number = self._tables.tally.last_number
        for old in self._wanted("dead", numbers):
            (body,) = self._connection.execute("SELECT body FROM dead WHERE number = ?", (old,)).fetchone()
            try:
                read = read_body(old, body)
            except RowDamaged:
                if numbers is None:
                    continue
                raise StoreFailed(f"dead letter {old} is damaged and cannot be replayed") from None
            number += 1
            expiry_s = read.message.properties.expiry_s
            records.append(Record(number, read.message, remaining_s=expiry_s, latest=read.latest))
            replayed.append(old)
        self._tables.revive(records, replayed)
        return replayed

    def purge_dead(self, numbers: Iterable[int] | None) -> list[int]:
        """Delete dead letters, or all of them (None). Returns their numbers. Raises `StoreFailed` if one is not there."""
        wanted = self._wanted("dead", numbers)
        self._tables.purge(dead=wanted)
        return wanted

    def purge_waiting(self, numbers: Iterable[int] | None) -> list[int]:
        """Delete messages that nobody has received yet. As `purge_dead`."""
        wanted = self._wanted("message", numbers)
        self._tables.purge(waiting=wanted)
        return wanted

    def purge_damaged(self) -> int:
        """Delete what was set aside. Returns how much it was."""
        (rows,) = self._connection.execute("SELECT count(*) FROM damaged").fetchone()
        self._tables.purge(set_aside=True)
        return int(rows)

    def vacuum(self) -> None:
        """Give back the room that deleted messages have left."""
        self._connection.execute("VACUUM")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _wanted(self, table: str, numbers: Iterable[int] | None) -> list[int]:
        query = {"dead": "SELECT number FROM dead ORDER BY 1", "message": "SELECT number FROM message ORDER BY 1"}[
            table
        ]
        known = {number for (number,) in self._connection.execute(query)}
        wanted = known if numbers is None else set(numbers)
        if missing := sorted(wanted - known):
            raise StoreFailed(f"there is no number {', '.join(map(str, missing))} among them")
        return sorted(wanted)


@contextmanager
def keep_up(path: Path, machine: Machine) -> Iterator[Upkeep]:
    """Open an outbox file to change it. Raises `OutboxInUse`, which names the holder, and `StoreFailed`, also in the block."""
    if not path.is_file():
        raise StoreFailed(f"{path}: there is no such file")
    claim = Claim(path)
    claim.take(machine.clocks().calendar)
    try:
        with closing(connect(claim.path)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            prepare(connection)
            check_tables(connection)
            yield Upkeep(connection, machine)
    except FileError as error:
        raise StoreFailed(f"{path}: {error}") from error
    finally:
        claim.release()
