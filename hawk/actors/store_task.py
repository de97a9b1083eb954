"""The store task: the one place that touches the outbox file. One call at a time; the Queue keeper gathers the next commit."""

from typing import assert_never

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.errors import StoreFailed
from hawk.messages import Commit, CommitFailed, Committed, PageFailed, ReadPage, ToQueueKeeper, ToStoreTask
from hawk.ports import OutboxStore


class StoreTask:
    """Carries commits and readings to a store and its answers back. A stalled disk stalls this task and no other."""

    def __init__(
        self,
        store: OutboxStore,
        *,
        inbox: MemoryObjectReceiveStream[ToStoreTask],
        to_queue_keeper: MemoryObjectSendStream[ToQueueKeeper],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._to_queue_keeper = to_queue_keeper

    async def run(self) -> None:
        """Serve until cancelled. A commit that is cancelled is applied or not, as the store promises, and never half."""
        while True:
            request = await self._inbox.receive()
            answer: ToQueueKeeper
            match request:
                case Commit():
                    answer = await self._commit(request)
                case ReadPage():
                    answer = await self._read(request)
                case _:
                    assert_never(request)
            await self._to_queue_keeper.send(answer)

    async def _commit(self, commit: Commit) -> ToQueueKeeper:
        try:
            await self._store.commit(commit)
        except StoreFailed as failed:
            return CommitFailed(str(failed))
        return Committed()

    async def _read(self, request: ReadPage) -> ToQueueKeeper:
        try:
            return await self._store.page(request)
        except StoreFailed as failed:
            return PageFailed(str(failed))
