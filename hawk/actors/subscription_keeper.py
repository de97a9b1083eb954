"""The Subscription keeper: subscribes to what the application wants, delivers what comes, acknowledges what is handled.

The shell of `core/subscriptions`, which decides; this module only receives and sends. It knows the Queue keeper
by one message, `Ready`, and an application by the channels that its requests carry.
"""

import math
from collections.abc import Iterable
from typing import TypeVar, assert_never

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.actors.mailbox import RETRY_REPORT_S, Reporter, receive_by, take_all
from hawk.actors.refusal_policy import FencedPolicy
from hawk.actors.subscription_log import SubscriptionLog
from hawk.config import Config
from hawk.core.holders import Decisions
from hawk.core.subscriptions import Subscriptions
from hawk.messages import (
    Channel,
    Handled,
    InboundReport,
    InboxCommit,
    InboxCommitFailed,
    InboxCommitted,
    InboxRecovered,
    Incoming,
    LaneOpened,
    LinkDown,
    Ready,
    Rejected,
    Report,
    Returned,
    StopReceiving,
    Subscribe,
    ToSubscriptionKeeper,
    Transmit,
    Unsubscribe,
)
from hawk.packets import SubscribeFilter

T = TypeVar("T")


class SubscriptionKeeper:
    """Runs until it is cancelled, also after `StopReceiving`, so that nobody who tells it something waits in vain.

    It closes every channel that a request brought: an answer once given, deliveries when the subscription ends.
    """

    def __init__(
        self,
        *,
        config: Config,
        inbox: MemoryObjectReceiveStream[ToSubscriptionKeeper],
        to_queue_keeper: MemoryObjectSendStream[Ready],
        to_inbox_task: MemoryObjectSendStream[InboxCommit],
        reporter: Reporter,
        recovered: InboxRecovered = InboxRecovered(),
        declared: Iterable[SubscribeFilter] = (),
        run: str = "",
    ) -> None:
        self._inbox = inbox
        self._to_queue_keeper = to_queue_keeper
        self._to_inbox_task = to_inbox_task
        self._reporter = reporter
        self._policy = FencedPolicy(config.refusal_policy, "hawk.subscription_keeper")
        self._core = Subscriptions(config, recovered=recovered, declared=declared, run=run, judge=self._policy)
        self._log = SubscriptionLog(config)
        self._reported = InboundReport()
        self._stops: list[Channel[None]] = []

    async def run(self) -> None:
        """Receive, ask the core, act; for ever. Cancelling leaves at most the decisions of one batch undone."""
        try:
            while True:
                first = await receive_by(self._inbox, self._deadline())
                now = anyio.current_time()
                for message in take_all(self._inbox, first):
                    self._hear(message, now)
                self._core.tick(now)
                await self._act(self._core.take(), now)
                self._report()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Close what subscriptions still hold, when hawk ends without a stop: nobody would close it after this."""
        self._core.stop()
        decisions = self._core.take()
        for deliveries in decisions.ended:
            deliveries.close()
        for answer in decisions.unanswered:
            answer.close()

    def _deadline(self) -> float:
        deadline = self._core.deadline
        if self._reporter.has_unsent:
            deadline = min(deadline, anyio.current_time() + RETRY_REPORT_S)
        return deadline

    def _hear(self, message: ToSubscriptionKeeper, now: float) -> None:
        match message:
            case Incoming():
                self._core.incoming(message.lane, message.packets, now)
            case Handled():
                self._core.handled(message.subscription, message.deliveries)
            case InboxCommitted():
                self._core.committed(now)
            case Rejected():
                self._core.reject(message.subscription, message.delivery, message.reason)
            case Returned():
                self._core.give_back(message.subscription, message.deliveries, now)
            case Subscribe():
                self._core.subscribe(message)
            case Unsubscribe():
                self._core.unsubscribe(message.subscription, now, message.unseen)
            case LaneOpened():
                self._policy.begin_episode()
                self._core.open_lane(message.lane, message.connack, now)
            case LinkDown():
                self._core.link_down(message.lane)
            case InboxCommitFailed():
                if self._core.commit_failed(now):
                    self._log.inbox_unavailable(message.why)
            case StopReceiving():
                self._core.stop()
                self._stops.append(message.answer)
            case _:
                assert_never(message)

    async def _act(self, decisions: Decisions, now: float) -> None:
        self._log.tell(decisions, self._core.counters.slots if decisions.is_too_slow else (), now)
        if decisions.commit is not None:
            # One at a time, so there is always room.
            self._to_inbox_task.send_nowait(decisions.commit)
        self._transmit(decisions)
        for deliveries, delivered in decisions.runs:
            try:
                deliveries.send_nowait(delivered)
            except anyio.BrokenResourceError:
                # Nobody reads it any more. It stays unhandled until the Unsubscribe that is coming returns it.
                continue
        for deliveries in decisions.ended:
            deliveries.close()
        for answer, code in decisions.answers:
            _tell(answer, code)
        for answer in decisions.unanswered:
            answer.close()
        if self._core.is_settled or self._core.deadline < math.inf:
            # A disk that fails does not hold up a stop: the broker's session has what it could not keep.
            for stop in self._stops:
                _tell(stop, None)
            self._stops.clear()
        if decisions.ready is not None:
            await self._to_queue_keeper.send(Ready(decisions.ready))

    def _transmit(self, decisions: Decisions) -> None:
        lane = decisions.lane
        if lane is None or not decisions.packets:
            return
        try:
            lane.send_nowait(Transmit(tuple(decisions.packets)))
        except anyio.BrokenResourceError:
            # The link is gone and its LinkDown is coming. What it had brought before it went is still delivered.
            return

    def _report(self) -> None:
        counters = self._core.counters._replace(revision=self._reported.revision)
        if counters != self._reported:
            self._reported = counters._replace(revision=counters.revision + 1)
            self._reporter.report(Report(self._reported))
        elif self._reporter.has_unsent:
            self._reporter.retry()


def _tell(answer: Channel[T], value: T) -> None:
    try:
        answer.send_nowait(value)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        # Whoever asked has lost patience and let go of the channel; the subscription's end is told separately.
        return
    finally:
        answer.close()
