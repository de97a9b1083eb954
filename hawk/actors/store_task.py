"""The store task: the one place that touches the outbox file. One commit at a time; the Queue keeper gathers the next."""

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.errors import StoreFailed
from hawk.messages import Commit, CommitFailed, Committed, ToQueueKeeper
from hawk.ports import OutboxStore


class StoreTask:
    """Carries commits to a store and its answers back. A stalled disk stalls this task and no other."""

    def __init__(
        self,
        store: OutboxStore,
        *,
        inbox: MemoryObjectReceiveStream[Commit],
        to_queue_keeper: MemoryObjectSendStream[ToQueueKeeper],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._to_queue_keeper = to_queue_keeper

    async def run(self) -> None:
        """Serve until cancelled. A commit that is cancelled is applied or not, as the store promises, and never half."""
        while True:
            commit = await self._inbox.receive()
            answer: ToQueueKeeper
            try:
                await self._store.commit(commit)
            except StoreFailed as failed:
                answer = CommitFailed(str(failed))
            else:
                answer = Committed()
            await self._to_queue_keeper.send(answer)
