"""The inbox task: keeps what receiving must remember. One commit at a time; the Subscription keeper gathers the next."""

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.errors import StoreFailed
from hawk.messages import InboxCommit, InboxCommitFailed, InboxCommitted, ToSubscriptionKeeper
from hawk.ports import InboxStore


class InboxTask:
    """Carries commits to an inbox store and its answers back. A stalled disk stalls this task and no other."""

    def __init__(
        self,
        store: InboxStore,
        *,
        inbox: MemoryObjectReceiveStream[InboxCommit],
        to_subscription_keeper: MemoryObjectSendStream[ToSubscriptionKeeper],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._to_subscription_keeper = to_subscription_keeper

    async def run(self) -> None:
        """Serve until cancelled. A commit that is cancelled is applied or not, as the store promises, and never half."""
        while True:
            commit = await self._inbox.receive()
            answer: ToSubscriptionKeeper
            try:
                await self._store.commit(commit)
            except StoreFailed as failed:
                answer = InboxCommitFailed(str(failed))
            else:
                answer = InboxCommitted()
            await self._to_subscription_keeper.send(answer)
