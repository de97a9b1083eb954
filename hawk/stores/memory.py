"""A disk that lives in memory, for rehearsals: what is committed outlives the hawk that wrote it, as a file would.

Its tail is explicit. `commit` appends to an unsynced tail and then syncs it; `crash` keeps a prefix of that tail that the
given `Random` draws, as a power cut would, and the same store is opened again by the next hawk.
"""

from collections.abc import Sequence
from random import Random

import anyio
import anyio.lowlevel

from hawk.errors import OutboxInUse, StoreFailed
from hawk.messages import Commit, Record


class MemoryStore:
    """An `OutboxStore` without a file. `sync_s` is how long a sync takes, in hawk's time."""

    def __init__(self, *, sync_s: float = 0.0) -> None:
        self.sync_s = sync_s
        self.commits = 0
        self._synced: dict[int, Record] = {}
        self._tail: list[Commit] = []
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
        return tuple(self._synced.values())

    @property
    def unsynced(self) -> int:
        """How many commits stand in the tail: written, and not safe yet."""
        return len(self._tail)

    async def open(self) -> Sequence[Record]:
        """Return what is kept, oldest first. Raises `OutboxInUse` while another hawk has it open."""
        await anyio.lowlevel.checkpoint()
        if self._open:
            raise OutboxInUse("another hawk has this outbox open; close it first")
        self._open = True
        return sorted(self._synced.values())

    async def commit(self, changes: Commit) -> None:
        """Write and sync. Cancelled before the sync, the write stays in the tail.

        Raises `StoreFailed` while told to fail, and when the power was lost before the sync had ended.
        """
        if self._failing:
            await anyio.lowlevel.checkpoint()
            raise StoreFailed(self._failing)
        self._tail.append(changes)
        crashes = self._crashes
        while self._flowing is not None:
            await self._flowing.wait()
        if self.sync_s:
            await anyio.sleep(self.sync_s)
        if crashes != self._crashes:
            raise StoreFailed("the power was lost")
        self._sync(len(self._tail))
        self.commits += 1

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
        """From now on every commit fails with these words; empty heals."""
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

    def _sync(self, commits: int) -> None:
        for changes in self._tail[:commits]:
            self._synced.update((record.number, record) for record in changes.insert)
            for number in changes.delete:
                self._synced.pop(number, None)
        del self._tail[:commits]
