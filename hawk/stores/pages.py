"""The outbox file, read: a page of what waits, and what the next hawk has to know at once. `tables` writes it.

A row that is damaged is told by its number and is no error; sqlite3's errors come up as they are.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from hawk.core.expiry import Clocks
from hawk.messages import Page, ReadPage, Record, Withheld
from hawk.stores.expiries import Expiries
from hawk.stores.rows import RowDamaged, read_body, read_progress
from hawk.values import Stage

_ALL = (
    "SELECT message.number, body, progress.number, identifier, stage, refusals, checksum FROM message"
    " LEFT JOIN progress ON progress.number = message.number"
)
_BEHIND = f"{_ALL} WHERE message.number > ? ORDER BY message.number"
_BEHIND_ALONE = "SELECT number, body, NULL FROM message WHERE number > ? ORDER BY number"
_UP_TO = f"{_ALL} WHERE message.number <= ? ORDER BY message.number"
_NEXT = f"{_BEHIND} LIMIT ?"
_ONE = f"{_ALL} WHERE message.number = ?"
_LATEST = (
    "SELECT message.number, body, NULL FROM latest JOIN message ON message.number = latest.number"
    " WHERE latest.number > ? ORDER BY latest.number"
)


class Found(NamedTuple):
    """A record as it was read, or None in its place when the row is damaged."""

    number: int
    record: Record | None


class Pages:
    """What is in one open outbox. `clocks` tells the present moment."""

    def __init__(self, connection: sqlite3.Connection, clocks: Callable[[], Clocks], expiries: Expiries) -> None:
        self._connection = connection
        self._clocks = clocks
        self._expiries = expiries

    def read(self, request: ReadPage) -> Page:
        """What waits behind a number. The damaged rows that it names are still to be set aside."""
        records: list[Record] = []
        damaged: list[int] = []
        size_bytes, end = 0, True
        for number, record in self._expired(request) if request.expired else self._behind(request):
            if record is None:
                damaged.append(number)
                continue
            size_bytes += record.message.size_bytes
            if len(records) == request.most_messages or (records and size_bytes > request.most_bytes):
                end = False
                break
            records.append(record)
        next_expiry_s = self._next_expiry_s(request, records, end=end)
        return Page(tuple(records), end, tuple(damaged), next_expiry_s)

    def _behind(self, request: ReadPage) -> Iterator[Found]:
        """Oldest first. One row at a time is in memory, however large they are."""
        has_progress = self._connection.execute("SELECT 1 FROM progress LIMIT 1").fetchone()
        return self._waiting(_BEHIND if has_progress else _BEHIND_ALONE, request.after)

    def _expired(self, request: ReadPage) -> Iterator[Found]:
        wrong: list[tuple[int, float | None]] = []
        now = self._clocks()
        for number in self._expiries.over_behind(request.after):
            row = self._connection.execute(_ONE, (number,)).fetchone()
            found = Found(number, None) if row is None else _found(row, now)
            remaining_s = None if found.record is None else found.record.remaining_s
            if row is None or (found.record is not None and (remaining_s is None or remaining_s > 0)):
                wrong.append((number, remaining_s))
            elif found.record is None or found.record.stage is Stage.QUEUED:
                yield found
        # The message knows better than the table that is looked up.
        self._expiries.correct(wrong)

    def _waiting(self, query: str, number: int) -> Iterator[Found]:
        now = self._clocks()
        for row in self._connection.execute(query, (number,)):
            found = _found(row, now)
            if found.record is None or found.record.stage is Stage.QUEUED:
                yield found

    def _next_expiry_s(self, request: ReadPage, records: Sequence[Record], *, end: bool) -> float | None:
        if request.expired:
            return self._expiries.next_s(request.after, pending_only=end)
        return self._expiries.next_s(records[-1].number if records else request.after)

    def behind(self, number: int, most: int) -> list[Found]:
        """So many of the next messages, whether they wait or are under way."""
        now = self._clocks()
        return [_found(row, now) for row in self._connection.execute(_NEXT, (number, most)).fetchall()]

    def under_way(self) -> list[Found]:
        """Everything up to the last record that has an identifier, oldest first."""
        (last,) = self._connection.execute("SELECT max(number) FROM progress WHERE identifier > 0").fetchone()
        if last is None:
            return []
        now = self._clocks()
        return [_found(row, now) for row in self._connection.execute(_UP_TO, (last,))]

    def withheld(self) -> list[Withheld]:
        """The identifiers that are withheld. In doubt one is: it costs nothing but itself."""
        rows = self._connection.execute("SELECT identifier, number FROM withheld ORDER BY identifier")
        return [Withheld(*row) for row in rows]

    def latest_behind(self, number: int) -> list[Found]:
        """What a newer message would replace."""
        now = self._clocks()
        return [_found(row, now) for row in self._connection.execute(_LATEST, (number,))]

    def next_expiry_s(self, after: int) -> float | None:
        """In how many seconds the first message behind that number expires."""
        return self._expiries.next_s(after)


def _found(row: tuple[Any, ...], now: Clocks) -> Found:
    number = row[0]
    try:
        body = read_body(number, row[1])
        identifier, stage, refusals = 0, Stage.QUEUED, 0
        if row[2] is not None:
            try:
                _, identifier, stage, refusals = read_progress(row[2:])
            except RowDamaged:
                # At QoS 1 to begin anew is a repeat, which is allowed. At QoS 2 nobody knows any more what may be sent.
                if body.message.qos == 2:
                    raise
    except RowDamaged:
        return Found(number, None)
    remaining_s = None if body.remaining_s is None else body.remaining_now_s(now)
    return Found(number, Record(number, body.message, identifier, stage, refusals, remaining_s, body.latest))
