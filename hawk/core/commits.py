"""What the store is to write: one commit at a time, and the next one gathers meanwhile (group commit)."""

import math

from hawk.core.delivery import Entry
from hawk.messages import Commit, Record

LONGEST_WAIT_S = 60.0


class Commits:
    """Insertions and deletions on their way to the store. Without a store (`durable` False) there are none."""

    def __init__(self, *, durable: bool) -> None:
        self.durable = durable
        self._inserts: dict[int, Entry] = {}
        self._deletes: list[int] = []
        self._under_way: tuple[dict[int, Entry], list[int]] | None = None
        self._failures = 0
        self._not_before = -math.inf
        self.committed_number: float = 0 if durable else math.inf

    def recover(self, number: int) -> None:
        """The store holds this entry already."""
        self.committed_number = max(self.committed_number, number)

    def insert(self, entry: Entry) -> bool:
        """Keep this entry, if it is one to keep: QoS 1 and 2, with a store. True when acceptance has to wait for it."""
        if not self.durable or not entry.message.qos:
            return False
        self._inserts[entry.number] = entry
        return True

    def delete(self, entry: Entry) -> None:
        """This entry has met its fate. If it is on its way to the store, its acceptance is not told after that."""
        if not self.durable or not entry.message.qos:
            return
        if entry.number in self._inserts:
            del self._inserts[entry.number]
            return
        if self._under_way is not None:
            self._under_way[0].pop(entry.number, None)
        self._deletes.append(entry.number)

    def holds(self, entry: Entry) -> bool:
        """Whether this entry may be relied on: committed, or never to be."""
        return entry.number <= self.committed_number or not entry.message.qos

    def keeps(self, entry: Entry) -> bool:
        """Whether this entry outlives the process."""
        return self.durable and bool(entry.message.qos) and entry.number <= self.committed_number

    @property
    def idle(self) -> bool:
        """Whether everything that was asked for is written."""
        return self._under_way is None and not self._inserts and not self._deletes

    def take(self, now: float) -> Commit | None:
        """The next commit, if none is under way and there is something to write.

        After a failure deletions alone wait their turn; a newcomer always tries, so that its sender hears the truth.
        """
        if self._under_way is not None or not (self._inserts or (self._deletes and now >= self._not_before)):
            return None
        self._under_way = (self._inserts, self._deletes)
        self._inserts, self._deletes = {}, []
        entries, deletes = self._under_way
        return Commit(tuple(Record(number, entry.message) for number, entry in entries.items()), tuple(deletes))

    def done(self) -> list[Entry]:
        """The commit is written. Returns the entries that it made safe."""
        assert self._under_way is not None, "the store answered a commit that nobody asked for"
        entries = list(self._under_way[0].values())
        self._under_way, self._failures, self._not_before = None, 0, -math.inf
        if entries:
            self.committed_number = entries[-1].number
        return entries

    def failed(self, now: float) -> set[int]:
        """The commit is not written. Returns the numbers of the entries that it turns away, those gathered meanwhile too."""
        assert self._under_way is not None, "the store answered a commit that nobody asked for"
        entries, deletes = self._under_way
        turned_away = {*entries, *self._inserts}
        self._under_way, self._inserts = None, {}
        self._deletes = [*deletes, *self._deletes]
        self._failures += 1
        self._not_before = now + min(LONGEST_WAIT_S, 2.0 ** min(10, self._failures - 1))
        return turned_away

    def deadline(self) -> float:
        """When the next commit is to be taken: -inf for at once, inf while there is none to take."""
        if self._under_way is not None:
            return math.inf
        if self._inserts:
            return -math.inf
        return self._not_before if self._deletes else math.inf
