"""What waits to be sent, in the order of acceptance: its front in memory, the rest in the store.

    head          entries in memory, oldest first: what goes out next
    behind        messages that only the store has, or will have once they are committed; read in pages as `head` empties
    loose         QoS 0 that came in after one of those: no store keeps it, so it waits in memory for its turn

Without a store everything is in `head`. Nobody but a sender who still listens costs memory for what is behind.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hawk.core.admission import Admission
from hawk.core.commits import LONGEST_WAIT_S, Commits
from hawk.core.delivery import PLAIN, Entry, from_record
from hawk.core.expiries import Expiries
from hawk.core.fates import Fates, nobody
from hawk.core.latest import Latest
from hawk.messages import LatestRecord, Page, ReadPage, Recovered, ReplyReference
from hawk.values import Fate, FateKind, Message


class Paging(NamedTuple):
    """How much of the backlog is in memory: newcomers up to the first two bounds, what is read by pages of the others."""

    most_messages: int = 10_000
    most_bytes: int = 16 * 1024 * 1024
    page_messages: int = 2_000
    page_bytes: int = 4 * 1024 * 1024


EXPIRED = Fate(FateKind.EXPIRED, "its time was over before it could be sent")
_SUPERSEDED = Fate(FateKind.SUPERSEDED, "a newer message on its topic took its place")
_DAMAGED = Fate(FateKind.DAMAGED, "the outbox file could not be read there; the record was set aside")
_UNREAD = Message("", b"")
_MISSING = Fate(FateKind.DAMAGED, "the outbox file has lost the record")


class Backlog:
    """The messages that wait."""

    def __init__(
        self, admission: Admission, fates: Fates, commits: Commits, latest: Latest, paging: Paging = Paging()
    ) -> None:
        self._paging = paging
        self.head: deque[Entry] = deque()
        self.expiries = Expiries()
        self._admission = admission
        self._fates = fates
        self._commits = commits
        self._latest = latest
        self._paged = commits.durable
        self._loose: deque[Entry] = deque()
        self._loose_bytes = 0
        self._gone: set[int] = set()
        self._replies: dict[int, ReplyReference] = {}
        self._most_replies = 1024
        self._cursor = 0
        self._behind = 0
        self._behind_bytes = 0
        self._on_disk = 0
        self._reading: ReadPage | None = None
        self._swept_up_to = 0
        self._failures = 0
        self._not_before = -math.inf

    # ---------------------------------------------------------------------------------------------- coming in

    def recover(self, recovered: Recovered, now: float) -> None:
        """Take over what an earlier run left behind those under way."""
        self._cursor = max((record.number for record in recovered.under_way), default=0)
        self._behind = self._on_disk = recovered.queued
        self._behind_bytes = recovered.queued_bytes
        self._admission.add(recovered.queued_bytes, recovered.queued)
        if recovered.next_expiry_s is not None:
            self.expiries.behind_at = now + recovered.next_expiry_s
        for record in recovered.latest:
            self._supersede(self._latest.put(record))

    def room_in_head(self) -> float:
        """How many newcomers may wait in memory: none while any is behind."""
        if not self._paged:
            return math.inf
        if self._behind or self._loose or self._head_bytes >= self._paging.most_bytes:
            return 0
        return self._paging.most_messages - len(self.head)

    def put_behind(self, entry: Entry) -> None:
        """A newcomer for which there is no room in `head`."""
        if entry.message.qos:
            self._behind += 1
            self._behind_bytes += entry.size_bytes
        elif not self._behind:
            self.head.append(entry)
            self._cursor = entry.number
        else:
            self._loose.append(entry)
            self._loose_bytes += entry.size_bytes

    def note_head(self, number: int) -> None:
        """Everything up to this number that waits is in `head`."""
        self._cursor = number

    def note_terms(self, entry: Entry, *, accepted: bool) -> None:
        """This newcomer may expire or be replaced; once accepted it takes the place of an older one."""
        self.expiries.add(entry)
        if accepted and entry.terms.latest:
            self._supersede(self._latest.put(entry))

    def committed(self, entries: Sequence[Entry]) -> int:
        """The store has these now. Returns how many of them it has alone from now on."""
        spilled = 0
        for entry in entries:
            if entry.terms.latest:
                replaced = self._latest.put(entry)
                self._supersede(replaced)
                if replaced is entry:
                    continue  # a newer one at QoS 0, which waited for no store
            if entry.number <= self._cursor:
                continue
            spilled += 1
            if entry.reply() is not None:
                self._replies[entry.number] = entry.reply
            if entry.terms is not PLAIN:
                self.expiries.spill(entry)
                self._latest.move(entry, to_store=True)
        self._on_disk += spilled
        if len(self._replies) > self._most_replies:
            self._replies = {number: reply for number, reply in self._replies.items() if reply() is not None}
            self._most_replies = max(1024, 2 * len(self._replies))
        return spilled

    def turn_away(self, entries: Iterable[Entry]) -> None:
        """The store would not take these."""
        for entry in entries:
            self.expiries.discard(entry)
            self._remove(entry)

    # -------------------------------------------------------------------------------------------------- leaving

    def took(self, entry: Entry) -> None:
        """This entry, which was in front, does not wait any more."""
        self._admission.remove(entry.size_bytes)
        if entry.terms is not PLAIN:
            self.expiries.discard(entry)
            self._latest.forget(entry)

    def drop_oldest(self) -> Entry | None:
        """Take out the oldest that waits; None when it has to be read first."""
        self.prune()
        if not self.head:
            return None
        entry = self.head.popleft()
        self.took(entry)
        return entry

    def expire(self, entries: Iterable[Entry]) -> None:
        """The time of these, which are in memory, is over."""
        for entry in entries:
            self._latest.forget(entry)
            self._remove(entry)
            self._fates.end(entry, EXPIRED)

    def prune(self) -> None:
        """Take those out of `head` that went from its middle. Before anybody looks into it."""
        if self._gone:
            self.head = deque(entry for entry in self.head if entry.number not in self._gone)
            self._loose = deque(entry for entry in self._loose if entry.number not in self._gone)
            self._gone.clear()

    def _remove(self, entry: Entry) -> None:
        """Take out an entry that is in memory, wherever it waits."""
        self._admission.remove(entry.size_bytes)
        if entry.message.qos and entry.number > self._cursor:
            self._behind -= 1
            self._behind_bytes -= entry.size_bytes
            self._gather_loose()
            return
        if entry.number > self._cursor:
            self._loose_bytes -= entry.size_bytes
        self._gone.add(entry.number)
        if len(self._gone) > 64 + len(self.head) // 2:
            self.prune()

    def _supersede(self, older: Entry | LatestRecord | None) -> None:
        if older is None:
            return
        if isinstance(older, Entry):
            self.expiries.discard(older)
            self._remove(older)
            self._fates.end(older, _SUPERSEDED)
        else:
            self._end_behind(older.number, older.size_bytes, Message(older.topic, b"", older.qos), _SUPERSEDED)

    def _end_behind(self, number: int, size_bytes: int, message: Message, fate: Fate) -> None:
        """A message that only the store has meets its fate."""
        self._on_disk -= 1
        self._behind -= 1
        self._behind_bytes -= size_bytes
        self._admission.remove(size_bytes)
        self._fates.end_kept(number, self._replies.pop(number, None), message, fate)
        self._gather_loose()

    # ---------------------------------------------------------------------------------------------------- pages

    def take_read(self, now: float) -> ReadPage | None:
        """What the store is to read next: what has expired, or the next page when `head` runs low."""
        if now < self._read_at():
            return None
        if now >= self.expiries.behind_at:
            after = max(self._cursor, self._swept_up_to)
            self._reading = ReadPage(after, *self._paging[2:], expired=True)
        else:
            self._reading = ReadPage(self._cursor, *self._paging[2:])
        return self._reading

    def read_failed(self, now: float) -> None:
        """The store could not read; it is asked again later."""
        self._reading = None
        self._failures += 1
        self._not_before = now + min(LONGEST_WAIT_S, 2.0 ** min(10, self._failures - 1))

    def page_read(self, page: Page, now: float) -> int:
        """The store has read. Returns the highest number that came into `head`, 0 for none."""
        request, self._reading = self._reading, None
        assert request is not None, "the store answered a reading that nobody asked for"
        self._failures, self._not_before = 0, -math.inf
        for number in page.damaged:
            if not self._commits.is_leaving(number):
                self._lose(number, _DAMAGED)
        if request.expired:
            for record in page.records:
                if not self._commits.is_leaving(record.number):
                    self._latest.forget_record(record.message.topic, record.number)
                    self._end_behind(record.number, record.message.size_bytes, record.message, EXPIRED)
            self._swept_up_to = 0 if page.end else page.records[-1].number
            if page.end:
                self.expiries.behind_at = _instant(page.next_expiry_s, now)
            return 0
        for record in page.records:
            if self._on_disk and not self._commits.is_leaving(record.number):
                entry = from_record(record, self._replies.pop(record.number, nobody), now)
                self._gather_loose(entry.number)
                self.head.append(entry)
                self._on_disk -= 1
                self._behind -= 1
                self._behind_bytes -= entry.size_bytes
                if entry.terms is not PLAIN:
                    self.expiries.add(entry)
                    self._latest.move(entry, to_store=False)
            self._cursor = max(self._cursor, record.number)
        if page.end and self._on_disk:
            self._lose_what_is_missing()
        self.expiries.behind_at = _instant(page.next_expiry_s, now)
        self._gather_loose()
        return self._cursor

    def _lose(self, number: int, fate: Fate) -> None:
        self._on_disk -= 1
        self._behind -= 1
        self._admission.remove(0)
        self._fates.end_kept(number, self._replies.pop(number, None), _UNREAD, fate)

    def _lose_what_is_missing(self) -> None:
        """The store had counted more than it can read: whoever listens is told, and nobody waits for ever."""
        for number in list(self._replies)[: self._on_disk]:
            self._lose(number, _MISSING)
        self._fates.books.end(FateKind.DAMAGED, self._on_disk)
        self._behind -= self._on_disk
        self._admission.remove(0, self._on_disk)
        self._on_disk = 0

    def _gather_loose(self, before: float = math.inf) -> None:
        """Move into `head` the QoS 0 messages whose turn is before that number, or all when nothing is behind."""
        if not self._behind and self._behind_bytes:
            # Damaged records took their sizes with them.
            self._admission.remove(self._behind_bytes, 0)
            self._behind_bytes = 0
        while self._loose and (not self._behind or self._loose[0].number < before < math.inf):
            entry = self._loose.popleft()
            self._cursor = max(self._cursor, entry.number)
            if entry.number in self._gone:
                # Its bytes went with it.
                self._gone.remove(entry.number)
            else:
                self._loose_bytes -= entry.size_bytes
                self.head.append(entry)

    def _read_at(self) -> float:
        if self._reading is not None or not self._on_disk:
            return math.inf
        _, _, page_messages, page_bytes = self._paging
        low = len(self.head) < max(1, page_messages // 2) and self._head_bytes < max(1, page_bytes // 2)
        return max(self._not_before, -math.inf if low else self.expiries.behind_at)

    @property
    def _head_bytes(self) -> int:
        return self._admission.waiting_bytes - self._behind_bytes - self._loose_bytes

    # ---------------------------------------------------------------------------------------------- what there is

    def deadline(self) -> float:
        """When something of this falls due by itself."""
        return min(self._read_at(), self.expiries.deadline())

    @property
    def failing(self) -> bool:
        """Whether the last reading failed."""
        return bool(self._failures)

    @property
    def kept_behind(self) -> int:
        """How many messages only the store has."""
        return self._on_disk

    def take_listeners(self) -> list[tuple[ReplyReference, Message]]:
        """Who listens for what only the store has, with what is known of it."""
        listeners = [(reply, _UNREAD) for _, reply in sorted(self._replies.items())]
        self._replies.clear()
        return listeners

    def drain(self) -> list[Entry]:
        """All that is in memory and not unwritten, and none is left; from now on nothing is read, and nothing expires."""
        self.prune()
        left = [*self.head, *self._loose]
        self.head.clear()
        self._loose.clear()
        self.expiries = Expiries()
        self._on_disk = 0
        return left


def _instant(in_s: float | None, now: float) -> float:
    return math.inf if in_s is None else now + in_s
