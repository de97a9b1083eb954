"""An outbox file that has just been opened: whether it is whole, and what an earlier hawk left in it. `outbox_file` opens."""

import sqlite3
from collections.abc import Callable, Sequence

from hawk.messages import LatestRecord, Record, Recovered
from hawk.stores.pages import Found
from hawk.stores.schema import damaged
from hawk.stores.tables import Tables

MOST_CHECKED_BYTES = 64 * 1024 * 1024
"""A file up to this size is looked through when it is opened; a larger one would take too long, and is healed in use."""
_OF_OTHERS = ("inbound", "subscribed")
"""Small tables, which are looked through in any file: the inbox, whose they are, cannot heal them."""


def count_missing(connection: sqlite3.Connection, tables: Tables, size_bytes: int) -> int:
    """How many messages the sums know of that are not there; 0 for a large file. Raises sqlite3's error for a damaged one."""
    if size_bytes > MOST_CHECKED_BYTES:
        for table in _OF_OTHERS:
            _check(connection, f"PRAGMA integrity_check({table})")
        return 0
    _check(connection, "PRAGMA integrity_check(1)")
    before = tables.tally
    tables.recount()
    return max(0, before.messages - tables.tally.messages)


def read_recovered(
    tables: Tables, *, lost: int, here: tuple[str, str], set_aside: Callable[[Sequence[int]], None]
) -> Recovered:
    """What an earlier hawk left. Damaged rows are given to `set_aside`; `here` is the machine and the file of it."""
    under_way = tables.pages.under_way()
    after = under_way[-1].number if under_way else 0
    latest = tables.pages.latest_behind(after)
    unreadable = [number for number, record in (*under_way, *latest) if record is None]
    set_aside(unreadable)
    sound = _sound(under_way)
    known = tables.read_identity()
    identity, place = known if known is not None else (None, None)
    copied = place is not None and not _is_same(place, here)
    return Recovered(
        identity=None if copied else identity,
        under_way=tuple(sound),
        queued=tables.tally.messages - len(sound),
        queued_bytes=tables.tally.size_bytes - sum(record.message.size_bytes for record in sound),
        last_number=tables.tally.last_number,
        damaged=lost + len(unreadable),
        dead=tables.tally.dead,
        latest=tuple(
            LatestRecord(record.message.topic, record.number, record.message.size_bytes, record.message.qos)
            for record in _sound(latest)
        ),
        next_expiry_s=tables.pages.next_expiry_s(after),
        copied=copied,
        withheld=tuple(tables.pages.withheld()),
    )


def _check(connection: sqlite3.Connection, query: str) -> None:
    (found,) = connection.execute(query).fetchone()
    if found != "ok":
        raise damaged(found)


def _is_same(place: tuple[str, str], here: tuple[str, str]) -> bool:
    """A machine that is not known counts as the same."""
    return place[1] == here[1] and (not place[0] or not here[0] or place[0] == here[0])


def _sound(found: list[Found]) -> list[Record]:
    return [record for _, record in found if record is not None]
