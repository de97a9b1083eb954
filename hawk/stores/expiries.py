"""When the messages of an outbox file expire: looked up by time, so that a million that do not are not looked at.

What counts is what the message's own row says; this is an index of it. While the machine runs the time since its boot
counts, over a boot the calendar does, as `core/expiry` has it.
"""

import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence

from hawk.core.expiry import EARLIEST_CALENDAR, Clocks

_BY_BOOT = (
    "SELECT since_boot_s FROM expiry INDEXED BY expiry_since_boot"
    " WHERE boot = ? AND since_boot_s > ? AND number > ? ORDER BY since_boot_s LIMIT 1"
)
_BY_CALENDAR = (
    "SELECT calendar FROM expiry INDEXED BY expiry_calendar"
    " WHERE boot = ? AND calendar > ? AND number > ? ORDER BY calendar LIMIT 1"
)
_OVER = (
    # In the order of the numbers: to sort those that are over by number would have to be done anew for each page.
    "SELECT number FROM expiry NOT INDEXED WHERE number > ?1 AND"
    " ((boot = ?2 AND since_boot_s <= ?3) OR (boot <> ?2 AND calendar <= ?4)) ORDER BY number"
)


class Expiries:
    """The tables `boot` and `expiry`."""

    def __init__(self, connection: sqlite3.Connection, clocks: Callable[[], Clocks]) -> None:
        self._connection = connection
        self._clocks = clocks
        self._has_any = connection.execute("SELECT 1 FROM expiry LIMIT 1").fetchone() is not None

    def add(self, expiries: Sequence[tuple[int, float]]) -> None:
        """Messages by number, and what is left of their time now. Part of a transaction."""
        if not expiries:
            return
        self._has_any = True
        now = self._clocks()
        calendar = now.calendar if now.calendar >= EARLIEST_CALENDAR else None
        boot = self._boot(now.boot_id)
        rows = [
            (number, boot, now.since_boot_s + left_s, None if calendar is None else calendar + left_s)
            for number, left_s in expiries
        ]
        self._connection.executemany("INSERT OR REPLACE INTO expiry VALUES (?, ?, ?, ?)", rows)

    def remove(self, run: tuple[int, int]) -> None:
        """Messages from one number to another. Part of a transaction."""
        if self._has_any:
            self._connection.execute("DELETE FROM expiry WHERE number BETWEEN ? AND ?", run)

    def correct(self, found: Sequence[tuple[int, float | None]]) -> None:
        """Messages whose rows say something else: what is left of their time now, None for those that never expire."""
        for number, _ in found:
            self.remove((number, number))
        self.add([(number, left_s) for number, left_s in found if left_s is not None])

    def over_behind(self, after: int) -> Iterator[int]:
        """The numbers of those behind `after` whose time is over, in order."""
        if not self._has_any:
            return
        now = self._clocks()
        calendar = now.calendar if now.calendar >= EARLIEST_CALENDAR else -math.inf
        boot = self._boots().get(now.boot_id, 0)
        for (number,) in self._connection.execute(_OVER, (after, boot, now.since_boot_s, calendar)):
            yield number

    def next_s(self, after: int, *, pending_only: bool = False) -> float | None:
        """In how many seconds the first one behind `after` expires. `pending_only`: of those that have not yet."""
        if not self._has_any:
            return None
        now = self._clocks()
        found = []
        for name, boot in self._boots().items():
            query, time_now = (_BY_BOOT, now.since_boot_s) if name == now.boot_id else (_BY_CALENDAR, now.calendar)
            least = time_now if pending_only else -math.inf
            row = self._connection.execute(query, (boot, least, after)).fetchone()
            if row is not None:
                found.append(row[0] - time_now)
        return min(found, default=None)

    def _boot(self, name: str) -> int:
        """The number of this boot. The first of a boot forgets those boots that nothing here is from."""
        added = self._connection.execute("INSERT OR IGNORE INTO boot (name) VALUES (?)", (name,)).rowcount
        boots = self._boots()
        if added:
            self._connection.execute(
                "DELETE FROM boot WHERE boot <> ? AND NOT EXISTS (SELECT 1 FROM expiry WHERE expiry.boot = boot.boot)",
                (boots[name],),
            )
        return boots[name]

    def _boots(self) -> dict[str, int]:
        return {name: boot for boot, name in self._connection.execute("SELECT boot, name FROM boot")}
