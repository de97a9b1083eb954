"""What the store is to write: one commit at a time, and the next one gathers meanwhile (group commit)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from hawk.core.delivery import Entry
from hawk.messages import Commit, DeadLetter, Identity, Progress, Record, Withheld
from hawk.values import Fate

LONGEST_WAIT_S = 60.0
GATHERING_S = 0.005


class Done(NamedTuple):
    """What a commit has made true: entries kept, entries whose progress is known, identifiers that are free."""

    kept: list[Entry]
    secured: list[Entry]
    freed: list[int]


@dataclass(slots=True)
class _Batch:
    """What one commit holds. `strangers`: dead letters that were never kept bring their record along."""

    inserts: dict[int, Entry] = field(default_factory=dict)
    deletes: dict[int, None] = field(default_factory=dict)
    progress: dict[int, Entry] = field(default_factory=dict)
    dead: dict[int, DeadLetter] = field(default_factory=dict)
    strangers: dict[int, Record] = field(default_factory=dict)
    freed: list[int] = field(default_factory=list)
    identity: Identity | None = None
    withheld: dict[int, int] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)

    @property
    def is_owed(self) -> bool:
        """Whether there is something to write that no sender waits for."""
        return bool(self.deletes or self.is_pressing)

    @property
    def is_pressing(self) -> bool:
        """Whether there is something of that which is more than a deletion."""
        return bool(self.progress or self.dead or self.identity or self.withheld or self.released)


class Commits:
    """Changes on their way to the store. Without a store (`durable` False) there are none.

    Deletions alone wait `GATHERING_S` for company, up to `most_gathered` of them: identifiers are free only after it.
    """

    def __init__(self, *, durable: bool, most_gathered: int = 0) -> None:
        self.durable = durable
        self.in_a_hurry = False
        """Nothing waits for company any more."""
        self._most_gathered = most_gathered
        self._gathered_at: float | None = None
        self._next = _Batch()
        self._under_way: _Batch | None = None
        self._failures = 0
        self._not_before = -math.inf
        self.committed_number: float = 0 if durable else math.inf

    # ------------------------------------------------------------------------------------------- what changes

    def recover(self, number: int) -> None:
        """The store holds everything up to this number already."""
        self.committed_number = max(self.committed_number, number)

    def insert(self, entry: Entry) -> bool:
        """Keep this entry, if it is one to keep: QoS 1 and 2, with a store. True when acceptance has to wait for it."""
        if not self.durable or not entry.message.qos:
            return False
        self._next.inserts[entry.number] = entry
        return True

    def progress(self, entry: Entry, freed: int = 0) -> None:
        """The store has to learn how far this entry is, as it is when the next commit is taken; `freed` is an identifier
        that it then has no more.
        """
        if not self.durable:
            return
        self._next.progress[entry.number] = entry
        if freed:
            self._free(entry, freed)

    def delete(self, entry: Entry, *, withholds: bool = False) -> None:
        """This entry has met its fate. If it is on its way to the store, its acceptance is not told after that.

        `withholds`: the broker's session may hold it, and its identifier is withheld until `release`.
        """
        if not self.durable or not entry.message.qos:
            return
        if self._leave(entry, withholds=withholds):
            self._next.deletes[entry.number] = None

    def delete_all(self, entries: Iterable[Entry]) -> None:
        """What `delete` does, for each."""
        if self.durable:
            for entry in entries:
                self.delete(entry)

    def delete_number(self, number: int) -> None:
        """A record that only the store has met its fate."""
        self._next.deletes[number] = None

    def bury(self, entry: Entry, fate: Fate, *, withholds: bool = False) -> None:
        """This entry is set aside for good. `withholds`: as in `delete`."""
        if not self.durable:
            return
        if not entry.message.qos or not self._leave(entry, withholds=withholds):
            # Its time stands still: a dead letter does not expire.
            self._next.strangers[entry.number] = entry.to_record(0.0)._replace(remaining_s=None)
        self._next.dead[entry.number] = DeadLetter(entry.number, fate.detail, fate.reason_code, entry.refusals)

    def release(self, identifiers: Iterable[int]) -> None:
        """These identifiers are withheld no more: the session that may have held something under them has ended."""
        if self.durable:
            self._next.released += identifiers
            self._next.freed += identifiers

    def _leave(self, entry: Entry, *, withholds: bool = False) -> bool:
        """Whether the store knows, or may know, this entry that now ends."""
        batch = self._next
        if withholds:
            batch.withheld[entry.identifier] = entry.number
        elif entry.identifier:
            self._free(entry, entry.identifier)
        if entry.number in batch.inserts:
            del batch.inserts[entry.number]
            return False
        batch.progress.pop(entry.number, None)
        if self._under_way is not None:
            self._under_way.inserts.pop(entry.number, None)
        return True

    def _free(self, entry: Entry, identifier: int) -> None:
        self._next.freed.append(identifier)
        if _is_birth_at_qos_2(entry):
            self._next.released.append(identifier)

    def identify(self, identity: Identity) -> None:
        """Who hawk is for the broker, from now on."""
        if self.durable:
            self._next.identity = identity

    # ----------------------------------------------------------------------------------------- what is so

    def holds(self, entry: Entry) -> bool:
        """Whether this entry may be relied on: committed, or never to be."""
        return entry.number <= self.committed_number or not entry.message.qos

    def keeps(self, entry: Entry) -> bool:
        """Whether this entry outlives the process."""
        return self.durable and bool(entry.message.qos) and 0 < entry.number <= self.committed_number

    def is_unwritten(self, entry: Entry) -> bool:
        """Whether the acceptance of this entry waits for the store."""
        if entry.number in self._next.inserts:
            return True
        return self._under_way is not None and entry.number in self._under_way.inserts

    def is_secured(self, entry: Entry) -> bool:
        """Whether the store knows all that is known of this entry."""
        if entry.number in self._next.progress:
            return False
        return self._under_way is None or entry.number not in self._under_way.progress

    def is_leaving(self, number: int) -> bool:
        """Whether the store does not know yet that this record is over."""
        batches = (self._next,) if self._under_way is None else (self._next, self._under_way)
        return any(number in batch.deletes or number in batch.dead for batch in batches)

    @property
    def unwritten(self) -> list[Entry]:
        """The entries whose acceptance waits for the store, oldest first."""
        under_way = {} if self._under_way is None else self._under_way.inserts
        return [*under_way.values(), *self._next.inserts.values()]

    @property
    def identity_waits(self) -> bool:
        """Whether the store does not know yet who hawk is for the broker."""
        return any(batch is not None and batch.identity is not None for batch in (self._next, self._under_way))

    @property
    def holds_newcomers(self) -> bool:
        """Whether the next commit is free to be taken and has something that a sender waits for."""
        return self._under_way is None and bool(self._next.inserts)

    @property
    def failing(self) -> bool:
        """Whether the last commit failed."""
        return bool(self._failures)

    @property
    def idle(self) -> bool:
        """Whether everything that was asked for is written."""
        return self._under_way is None and not self._next.inserts and not self._next.is_owed

    # ----------------------------------------------------------------------------------------- one at a time

    def take(self, now: float) -> Commit | None:
        """The next commit, if none is under way and there is something to write.

        After a failure what no sender waits for takes its turn; a newcomer always tries, so that it hears the truth.
        """
        batch = self._next
        if self._under_way is not None or not (batch.inserts or (batch.is_owed and now >= self._not_before)):
            return None
        if not batch.inserts and self._may_gather:
            if self._gathered_at is None:
                self._gathered_at = now + GATHERING_S
            if now < self._gathered_at:
                return None
        self._under_way, self._next, self._gathered_at = batch, _Batch(), None
        return Commit(
            insert=(*(entry.to_record(now) for entry in batch.inserts.values()), *batch.strangers.values()),
            delete=tuple(batch.deletes),
            progress=tuple(
                Progress(entry.number, entry.identifier if entry.message.qos == 2 else 0, entry.stage, entry.refusals)
                for entry in batch.progress.values()
                if entry.number > 0
            ),
            dead=tuple(batch.dead.values()),
            identity=batch.identity,
            withheld=tuple(
                Withheld(identifier, number)
                for identifier, number in (batch.withheld | _births(batch.progress)).items()
            ),
            released=tuple(batch.released),
        )

    def done(self) -> Done:
        """The commit is written."""
        batch = self._taken
        self._under_way, self._failures, self._not_before = None, 0, -math.inf
        kept = list(batch.inserts.values())
        if kept:
            self.committed_number = kept[-1].number
        secured = [entry for entry in batch.progress.values() if entry.number not in self._next.progress]
        return Done(kept, secured, batch.freed)

    def failed(self, now: float) -> dict[int, Entry]:
        """The commit is not written. Returns the entries that it turns away, those gathered meanwhile too."""
        failed, later = self._taken, self._next
        turned_away = failed.inserts | later.inserts
        self._under_way = None
        self._next = _Batch(
            {},
            failed.deletes | later.deletes,
            {number: entry for number, entry in failed.progress.items() if number not in later.deletes | later.dead}
            | later.progress,
            failed.dead | later.dead,
            failed.strangers | later.strangers,
            failed.freed + later.freed,
            later.identity or failed.identity,
            failed.withheld | later.withheld,
            failed.released + later.released,
        )
        self._failures += 1
        self._not_before = now + min(LONGEST_WAIT_S, 2.0 ** min(10, self._failures - 1))
        return turned_away

    @property
    def _may_gather(self) -> bool:
        batch = self._next
        return not (self.in_a_hurry or batch.is_pressing or len(batch.deletes) >= self._most_gathered)

    @property
    def _taken(self) -> _Batch:
        assert self._under_way is not None, "the store answered a commit that nobody asked for"
        return self._under_way

    def deadline(self) -> float:
        """When the next commit is to be taken: -inf for at once, inf while there is none to take."""
        if self._under_way is not None:
            return math.inf
        if self._next.inserts:
            return -math.inf
        if not self._next.is_owed:
            return math.inf
        if self._may_gather and self._gathered_at is not None:
            return max(self._not_before, self._gathered_at)
        return self._not_before


def _is_birth_at_qos_2(entry: Entry) -> bool:
    return entry.number < 0 and entry.message.qos == 2


def _births(progress: dict[int, Entry]) -> dict[int, int]:
    """What the store has to know of the birth messages among these, which it does not keep: their identifiers."""
    births = [entry for entry in progress.values() if entry.identifier and _is_birth_at_qos_2(entry)]
    return {birth.identifier: birth.number for birth in births}
