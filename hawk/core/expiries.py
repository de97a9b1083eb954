"""When what waits expires: the instants of the messages in memory, and the first one of those that only the store has."""

import math
from heapq import heapify, heappop, heappush

from hawk.core.delivery import Entry

_MOST_STALE = 64


class Expiries:
    """The entries that wait and expire. One that goes out is taken off, and put back when it has to wait again."""

    def __init__(self) -> None:
        self._waiting: dict[int, Entry] = {}
        self._instants: list[tuple[float, int]] = []
        self.behind_at = math.inf
        """When the first of those that only the store has expires, or earlier."""

    def __len__(self) -> int:
        """How many instants are in memory, those of messages that went out included: a bounded share."""
        return len(self._instants)

    def add(self, entry: Entry) -> None:
        """This entry waits, and expires if its terms say so."""
        if entry.terms.expires_at < math.inf and entry.number not in self._waiting:
            self._waiting[entry.number] = entry
            heappush(self._instants, (entry.terms.expires_at, entry.number))

    def discard(self, entry: Entry) -> None:
        """This entry does not wait any more."""
        if self._waiting.pop(entry.number, None) and len(self._instants) > 2 * len(self._waiting) + _MOST_STALE:
            self._instants = [instant for instant in self._instants if instant[1] in self._waiting]
            heapify(self._instants)

    def spill(self, entry: Entry) -> None:
        """Only the store has this entry from now on."""
        self.discard(entry)
        self.behind_at = min(self.behind_at, entry.terms.expires_at)

    def take_due(self, now: float) -> list[Entry]:
        """Those in memory whose time is over; they do not wait any more."""
        due: list[Entry] = []
        while self._instants and self._instants[0][0] <= now:
            _, number = heappop(self._instants)
            if entry := self._waiting.pop(number, None):
                due.append(entry)
        return due

    def deadline(self) -> float:
        """When the next of those in memory expires; inf for never."""
        while self._instants and self._instants[0][1] not in self._waiting:
            heappop(self._instants)
        return self._instants[0][0] if self._instants else math.inf
