"""A disk that lives in memory, for rehearsals: what is committed outlives the hawk that wrote it, as a file would.

Its tail is explicit. `commit` appends to an unsynced tail and then syncs it; `crash` keeps a prefix of that tail that the
given `Random` draws, as a power cut would, and the same store is opened again by the next hawk.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

import anyio
import anyio.lowlevel

from hawk.errors import OutboxInUse, StoreFailed
from hawk.messages import Commit, DeadLetter, Identity, LatestRecord, Page, ReadPage, Record, Recovered, Withheld
from hawk.values import Stage


class Buried(NamedTuple):
    """A dead letter as this store keeps it."""

    letter: DeadLetter
    record: Record


class Disk:
    """What is safe: the part of a `MemoryStore` that survives a power cut, without time or waiting of its own."""

    def __init__(self) -> None:
        self.dead: dict[int, Buried] = {}
        self.identity: Identity | None = None
        self.withheld: dict[int, int] = {}
        """The number of the message, by identifier."""
        self._kept: dict[int, _Kept] = {}
        self._last_number = 0

    def records(self, now: float) -> list[Record]:
        """What is kept, oldest first, with what is left of its expiry."""
        return [kept.at(now) for _, kept in sorted(self._kept.items())]

    def recovered(self, now: float) -> Recovered:
        """What the next hawk is told when it opens this."""
        records = self.records(now)
        last_under_way = max((record.number for record in records if record.identifier), default=0)
        queued = [record for record in records if record.number > last_under_way]
        return Recovered(
            identity=self.identity,
            under_way=tuple(record for record in records if record.number <= last_under_way),
            queued=len(queued),
            queued_bytes=sum(record.message.size_bytes for record in queued),
            last_number=self._last_number,
            dead=len(self.dead),
            latest=tuple(
                LatestRecord(record.message.topic, record.number, record.message.size_bytes, record.message.qos)
                for record in queued
                if record.latest
            ),
            next_expiry_s=_next_expiry_s(queued),
            withheld=tuple(Withheld(*each) for each in sorted(self.withheld.items())),
        )

    def page(self, request: ReadPage, now: float) -> Page:
        """Waiting records behind a number, oldest first."""
        waiting = [
            record for record in self.records(now) if record.number > request.after and record.stage is Stage.QUEUED
        ]
        wanted = [r for r in waiting if not request.expired or (r.remaining_s is not None and r.remaining_s <= 0)]
        records: list[Record] = []
        size_bytes = 0
        for record in wanted[: request.most_messages]:
            size_bytes += record.message.size_bytes
            if records and size_bytes > request.most_bytes:
                break
            records.append(record)
        taken = {record.number for record in records}
        rest = [record for record in waiting if record.number not in taken]
        return Page(tuple(records), len(records) == len(wanted), next_expiry_s=_next_expiry_s(rest))

    def apply(self, changes: Commit, written_at: float) -> None:
        """One transaction."""
        for record in changes.insert:
            self._kept[record.number] = _Kept(record, written_at)
            self._last_number = max(self._last_number, record.number)
        for number, identifier, stage, refusals in changes.progress:
            if kept := self._kept.get(number):
                record = kept.record._replace(identifier=identifier, stage=stage, refusals=refusals)
                self._kept[number] = kept._replace(record=record)
        for letter in changes.dead:
            if kept := self._kept.pop(letter.number, None):
                self.dead[letter.number] = Buried(letter, kept.record)
        for number in changes.delete:
            self._kept.pop(number, None)
        self.withheld.update(changes.withheld)
        for identifier in changes.released:
            self.withheld.pop(identifier, None)
        if changes.identity is not None:
            self.identity = changes.identity
        identifiers = [kept.record.identifier for kept in self._kept.values() if kept.record.identifier]
        identifiers += self.withheld
        assert len(set(identifiers)) == len(identifiers), "an identifier is unique among what is kept and withheld"


class MemoryStore:
    """An `OutboxStore` without a file. `sync_s` is how long a sync takes, in hawk's time."""

    def __init__(self, *, sync_s: float = 0.0) -> None:
        self.sync_s = sync_s
        self.commits = 0
        self.calls = 0
        self.fail_call: Callable[[int], str] = _never
        self._disk = Disk()
        self._tail: list[tuple[Commit, float]] = []
        self._open = False
        self._failing = ""
        self._crashes = 0
        self._flowing: anyio.Event | None = None

    @property
    def durable(self) -> bool:
        """What is committed is kept, as long as this object is."""
        return True

    @property
    def records(self) -> tuple[Record, ...]:
        """What is safe now, oldest first."""
        return tuple(self._disk.records(0.0))

    @property
    def dead(self) -> tuple[Buried, ...]:
        """The dead letters that are safe now, oldest first."""
        return tuple(buried for _, buried in sorted(self._disk.dead.items()))

    @property
    def identity(self) -> Identity | None:
        """Who the hawk of this store is for its broker."""
        return self._disk.identity

    @property
    def unsynced(self) -> int:
        """How many commits stand in the tail: written, and not safe yet."""
        return len(self._tail)

    async def open(self) -> Recovered:
        """Say what is kept. Raises `OutboxInUse` while another hawk has it open."""
        await anyio.lowlevel.checkpoint()
        if self._open:
            raise OutboxInUse("another hawk has this outbox open; close it first")
        self._call()
        self._open = True
        return self._disk.recovered(anyio.current_time())

    async def commit(self, changes: Commit) -> None:
        """Write and sync. Cancelled before the sync, the write stays in the tail.

        Raises `StoreFailed` while told to fail, and when the power was lost before the sync had ended.
        """
        try:
            self._call()
        except StoreFailed:
            await anyio.lowlevel.checkpoint()
            raise
        self._tail.append((changes, anyio.current_time()))
        crashes = self._crashes
        while self._flowing is not None:
            await self._flowing.wait()
        if self.sync_s:
            await anyio.sleep(self.sync_s)
        if crashes != self._crashes:
            raise StoreFailed("the power was lost")
        self._sync(len(self._tail))
        self.commits += 1

    async def page(self, request: ReadPage) -> Page:
        """Read waiting records. Raises `StoreFailed` while told to fail."""
        await anyio.lowlevel.checkpoint()
        self._call()
        return self._disk.page(request, anyio.current_time())

    async def aclose(self) -> None:
        """Sync and close."""
        await anyio.lowlevel.checkpoint()
        if self._open:
            self._sync(len(self._tail))
            self._open = False

    def stall(self) -> None:
        """From now on no sync ends, until `flow`."""
        if self._flowing is None:
            self._flowing = anyio.Event()

    def flow(self) -> None:
        """End a stall."""
        if self._flowing is not None:
            self._flowing.set()
            self._flowing = None

    def fail(self, why: str) -> None:
        """From now on every call fails with these words; empty heals."""
        self._failing = why

    def crash(self, random: Random) -> int:
        """Lose power: a random prefix of the unsynced tail survives. Returns how many commits were lost."""
        survives = random.randint(0, len(self._tail))
        lost = len(self._tail) - survives
        self._sync(survives)
        self._tail.clear()
        self._open = False
        self._crashes += 1
        return lost

    def _call(self) -> None:
        """Count a call. `fail_call` is asked with its number, from 1, and answers with the words of a failure or ""."""
        self.calls += 1
        if why := self._failing or self.fail_call(self.calls):
            raise StoreFailed(why)

    def _sync(self, commits: int) -> None:
        for changes, written_at in self._tail[:commits]:
            self._disk.apply(changes, written_at)
        del self._tail[:commits]


class _Kept(NamedTuple):
    record: Record
    written_at: float

    def at(self, now: float) -> Record:
        remaining_s = self.record.remaining_s
        if remaining_s is None:
            return self.record
        return self.record._replace(remaining_s=remaining_s - max(0.0, now - self.written_at))


def _next_expiry_s(records: list[Record]) -> float | None:
    return min((record.remaining_s for record in records if record.remaining_s is not None), default=None)


def _never(call: int) -> str:
    return ""
