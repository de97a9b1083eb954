"""The Queue keeper owns the outbox: what is accepted, what is under way, and what became of each message.

It receives, asks `core/outbox`, and sends: commits to the store task, packets on the lane, answers to senders, room to
the application. It never waits for the network or the disk.
"""

import logging
import math
from typing import Protocol, TypeVar, assert_never

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.actors.mailbox import RETRY_REPORT_S, LatestSender, Reporter, answer, receive_by, take_all
from hawk.actors.refusal_policy import FencedPolicy
from hawk.core.outbox import Outbox
from hawk.eventlog import log_event
from hawk.messages import (
    CommitFailed,
    Committed,
    Lane,
    LaneOpened,
    LinkDown,
    MessageSettled,
    Offers,
    Open,
    Page,
    PageFailed,
    Ready,
    Report,
    Room,
    Settled,
    Stalled,
    Stop,
    ToHealthProbe,
    ToQueueKeeper,
    ToStoreTask,
    Transmit,
    WatchFates,
    Withdraw,
    Withheld,
)
from hawk.packets import Outgoing
from hawk.values import FateKind

logger = logging.getLogger("hawk.queue_keeper")

_LOUD = {
    FateKind.DEAD_LETTERED: "message refused",
    FateKind.DROPPED: "messages dropped",
    FateKind.UNKNOWN: "fate unknown",
    FateKind.EXPIRED: "messages expired",
    FateKind.DAMAGED: "records damaged",
}


T_contra = TypeVar("T_contra", contravariant=True)


class _To(Protocol[T_contra]):
    def send_nowait(self, item: T_contra, /) -> None: ...


class QueueKeeper:
    """The shell around one `Outbox`. `to_store` is None when nothing is kept beyond the process; `policy` is its judge."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        inbox: MemoryObjectReceiveStream[ToQueueKeeper],
        to_store: _To[ToStoreTask] | None,
        to_connector: _To[Open],
        to_health_probe: MemoryObjectSendStream[ToHealthProbe],
        room: LatestSender[Room],
        reporter: Reporter,
        policy: FencedPolicy,
    ) -> None:
        self._outbox = outbox
        self._inbox = inbox
        self._to_store = to_store
        self._to_connector = to_connector
        self._to_health_probe = to_health_probe
        self._room = room
        self._reporter = reporter
        self._policy = policy
        self._lane: Lane | None = None
        self._opens_lane = False
        self._stop: Stop | None = None
        self._stop_at = math.inf
        self._fates_watched = False
        self._logged: set[tuple[FateKind, int]] = set()
        self._told_store = False

    @property
    def withheld(self) -> tuple[Withheld, ...]:
        """What the broker's session may hold of what was sent at QoS 2."""
        return self._outbox.withheld

    async def run(self) -> None:
        """Serve until cancelled. Cancelling is safe between any two messages: what was decided has been sent."""
        while True:
            deadline = min(self._outbox.deadline(), self._stop_at)
            if self._reporter.has_unsent:
                deadline = min(deadline, anyio.current_time() + RETRY_REPORT_S)
            first = await receive_by(self._inbox, deadline)
            now = anyio.current_time()
            for message in take_all(self._inbox, first):
                self._take(message, now)
            await self._act(now)

    def _take(self, message: ToQueueKeeper, now: float) -> None:
        outbox = self._outbox
        match message:
            case Offers():
                outbox.offer(message.take(), now)
            case Settled():
                if message.lane is self._lane:
                    outbox.settle(message.acknowledgements, message.sent, now, acknowledged=message.acknowledged)
            case Committed():
                outbox.committed()
                self._told_store = False
            case CommitFailed():
                outbox.commit_failed(message.why, now)
                self._complain(message.why)
            case Page():
                outbox.page_read(message, now)
            case PageFailed():
                outbox.page_failed(now)
                self._complain(message.why)
            case LaneOpened():
                self._lane, self._opens_lane = message.lane, True
                self._logged.clear()
                self._policy.begin_episode()
                _, connack, birth, endpoint, shared = message
                outbox.open(connack, now, birth, endpoint=endpoint, shared=shared)
            case Ready():
                if message.lane is self._lane:
                    outbox.ready()
            case LinkDown():
                if message.lane is self._lane:
                    self._lane = None
                    outbox.close(message.cause, proven=message.proven)
            case Withdraw():
                outbox.withdraw(message.reply)
            case Stop():
                self._stop, self._stop_at = message, now + message.drain_s
                outbox.begin_stop()
                if not outbox.link_up and not outbox.drained:
                    # What is in memory alone gets one more dial, at once.
                    self._to_connector.send_nowait(Open())
            case WatchFates():
                self._fates_watched = message.watched
                outbox.watch_fates(message.watched)
            case _:
                assert_never(message)

    def _complain(self, why: str) -> None:
        """The store fails: said once, until a commit is done again."""
        if not self._told_store:
            self._told_store = True
            log_event(logger, logging.ERROR, "outbox unavailable", why=why)

    async def _act(self, now: float) -> None:
        outbox = self._outbox
        self._transmit(outbox.take_packets(now))
        if outbox.may_gather_more:
            await self._hear_those_who_are_told(now)
            self._transmit(outbox.take_packets(now))
        if self._to_store is not None and (commit := outbox.take_commit(now)):
            self._to_store.send_nowait(commit)
        if self._to_store is not None and (request := outbox.take_read(now)):
            self._to_store.send_nowait(request)
        self._answer()
        if self._lane is not None and outbox.stalled(now):
            await self._to_health_probe.send(Stalled(self._lane))
        if self._stop is not None and (outbox.drained or now >= self._stop_at):
            self._finish(self._stop)
        self._reporter.retry()

    async def _hear_those_who_are_told(self, now: float) -> None:
        """Who has just been told of a commit publishes again at once: one larger commit instead of two that take turns.

        On trio the tasks of a pass run in any order, so that two passes let all of them speak.
        """
        self._answer()
        for _ in range(2):
            await cancel_shielded_checkpoint()
        for message in take_all(self._inbox, None):
            self._take(message, now)

    def _transmit(self, packets: tuple[Outgoing, ...]) -> None:
        if self._lane is None or not (packets or self._opens_lane) or self._outbox.holds_back:
            return
        opening, self._opens_lane = self._opens_lane, False
        try:
            self._lane.send_nowait(Transmit(packets, opening))
        except anyio.BrokenResourceError:
            # The link is gone and `LinkDown` is on its way: what was sent stays in flight until it comes.
            log_event(logger, logging.DEBUG, "lane broken", lane=self._lane.number)

    def _answer(self) -> None:
        answers = self._outbox.take_answers()
        ledger = self._outbox.ledger()
        self._room.send(self._outbox.room())
        events = []
        for reference, message, fate, messages in answers:
            reply = reference()
            if fate is None:
                if reply is not None:
                    reply.accept(ledger, messages)
                continue
            if reply is not None:
                reply.settle(fate, ledger, messages)
            if self._fates_watched:
                events.append(MessageSettled(message.topic, message.qos, fate))
            if fate.kind in _LOUD and (fate.kind, fate.reason_code) not in self._logged:
                # Once for each reason and link: the counts are in `stats`, each fate is told to its receipt.
                self._logged.add((fate.kind, fate.reason_code))
                log_event(logger, logging.WARNING, _LOUD[fate.kind], topic=message.topic, why=fate.detail)
        self._reporter.report(Report(ledger, tuple(events)))

    def _finish(self, stop: Stop) -> None:
        report = self._outbox.end_stop()
        self._stop, self._stop_at = None, math.inf
        self._answer()
        answer(stop.answer, report)
