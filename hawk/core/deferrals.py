"""Messages that the broker refused for now: each waits until its time, then for credit, in front of the backlog.

They are bounded as what waits is: while too many are deferred the outbox sends nothing new, so a broker that refuses
everything for now fills no memory.
"""

import math
from collections import deque
from heapq import heapify, heappop, heappush

from hawk.core.delivery import Entry


class Deferrals:
    """Entries by the instant at which they are tried again. `due`: those whose time has come, oldest first."""

    def __init__(self, *, most_messages: int, most_bytes: int) -> None:
        self.due: deque[Entry] = deque()
        self._sleeping: list[tuple[float, int, Entry]] = []
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sleeping) + len(self.due)

    @property
    def full(self) -> bool:
        """Whether nothing new may be sent, because it could be deferred as well."""
        return len(self) >= self._most_messages or self._bytes >= self._most_bytes

    def add(self, entry: Entry, again_at: float) -> None:
        """Try this entry again at that instant."""
        heappush(self._sleeping, (again_at, entry.number, entry))
        self._bytes += entry.size_bytes

    def wake(self, now: float) -> None:
        """Move into `due` those whose time has come."""
        woken: list[Entry] = []
        while self._sleeping and self._sleeping[0][0] <= now:
            woken.append(heappop(self._sleeping)[2])
        self.due.extend(sorted(woken, key=lambda entry: entry.number))

    def take(self) -> None:
        """The first of `due` is sent, or has met its fate."""
        self._bytes -= self.due.popleft().size_bytes

    def take_expired(self, now: float) -> list[Entry]:
        """Take out those whose time is over."""
        expired = [entry for entry in (*self.due, *(entry for _, _, entry in self._sleeping)) if entry.is_expired(now)]
        if expired:
            self.due = deque(entry for entry in self.due if not entry.is_expired(now))
            self._sleeping = [sleeper for sleeper in self._sleeping if not sleeper[2].is_expired(now)]
            heapify(self._sleeping)
            self._bytes -= sum(entry.size_bytes for entry in expired)
        return expired

    def deadline(self) -> float:
        """When the next is due; inf for never. Those that are due already wait for credit, and not for time."""
        return self._sleeping[0][0] if self._sleeping else math.inf

    def drain(self) -> list[Entry]:
        """All of them, and none is left."""
        entries = sorted([*self.due, *(entry for _, _, entry in self._sleeping)], key=lambda entry: entry.number)
        self.due.clear()
        self._sleeping.clear()
        self._bytes = 0
        return entries
