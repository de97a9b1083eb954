"""An inbox in memory: what receiving remembers lasts as long as this object, and so over a stop and the next start.

What an `MQTTInterface` uses unless it is given another; and, with a commit that fails on demand, what rehearsals use.
"""

import anyio.lowlevel

from hawk.errors import OutboxInUse, StoreFailed
from hawk.messages import InboxCommit, InboxRecord, InboxRecovered


class MemoryInboxStore:
    """An `InboxStore` without a file."""

    def __init__(self) -> None:
        self._records: dict[int, InboxRecord] = {}
        self._filters: dict[str, None] = {}
        self._open = False
        self._failing = ""

    @property
    def kept(self) -> InboxRecovered:
        """What is kept now."""
        return InboxRecovered(tuple(self._records.values()), tuple(self._filters))

    async def open(self) -> InboxRecovered:
        """Return what is kept. Raises `OutboxInUse` while another hawk has it open."""
        await anyio.lowlevel.checkpoint()
        if self._open:
            raise OutboxInUse("another hawk has this inbox open; close it first")
        self._open = True
        return self.kept

    async def commit(self, changes: InboxCommit) -> None:
        """Apply `changes`. Raises `StoreFailed` while told to fail. Cancelling: applied or not, never half."""
        await anyio.lowlevel.checkpoint()
        if self._failing:
            raise StoreFailed(self._failing)
        if changes.forget:
            self._records.clear()
        for identifier in changes.delete:
            self._records.pop(identifier, None)
        self._records.update((record.identifier, record) for record in changes.insert)
        for topic_filter in changes.leave:
            self._filters.pop(topic_filter, None)
        self._filters.update(dict.fromkeys(changes.join))

    async def aclose(self) -> None:
        """Close. Idempotent."""
        await anyio.lowlevel.checkpoint()
        self._open = False

    def fail(self, why: str) -> None:
        """From now on every commit fails with these words; empty heals."""
        self._failing = why

    def crash(self) -> None:
        """The process is gone without closing: the next one may open it."""
        self._open = False
