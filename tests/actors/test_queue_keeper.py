"""The Queue keeper alone: what it sends to whom, and that it takes what waits before it minds a deadline."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from hawk import Config
from hawk.actors.mailbox import LatestSender, Reporter, open_lane, take_all
from hawk.actors.queue_keeper import QueueKeeper
from hawk.actors.refusal_policy import FencedPolicy
from hawk.core.outbox import Outbox
from hawk.messages import (
    Commit,
    CommitFailed,
    Committed,
    LaneOpened,
    LinkDown,
    MessageSettled,
    Offer,
    Offers,
    Open,
    Ready,
    ReplyReference,
    Report,
    Room,
    Settled,
    Stalled,
    Stop,
    StopReport,
    ToHealthProbe,
    ToQueueKeeper,
    WatchFates,
)
from hawk.packets import AckKind, Acknowledgement, Connack, Publish
from hawk.testing.virtual_time import Backend, run
from hawk.values import Cause, CauseKind, Fate, FateKind, Ledger, Message, Verdict

CONFIG = Config(ack_timeout_s=10.0, max_inflight=4)
LOST = Cause(CauseKind.RESET_BY_PEER, "broken")

both_backends = pytest.mark.parametrize("backend", ["trio", "asyncio"])


def offers_of(*messages: Message, reply: ReplyReference, asks: bool = False) -> Offers:
    return Offers(Offer(messages, reply, sum(message.size_bytes for message in messages), asks))


class Sender:
    """A reply slot that keeps what it is told."""

    def __init__(self) -> None:
        self.accepted = 0
        self.fates: list[FateKind] = []

    def accept(self, ledger: Ledger, messages: int = 1) -> None:
        self.accepted += messages

    def settle(self, fate: Fate, ledger: Ledger, messages: int = 1) -> None:
        self.fates += [fate.kind] * messages

    def offer(self, count: int, *, qos: int = 1, asks: bool = False) -> Offers:
        return offers_of(*(Message("a", b"%d" % n, qos) for n in range(count)), reply=lambda: self, asks=asks)


class Bench:
    """A Queue keeper and what it tells the others."""

    def __init__(self, *, durable: bool, stats_capacity: int = 100) -> None:
        self.to_keeper, inbox = anyio.create_memory_object_stream[ToQueueKeeper](1000)
        to_store, self.of_store = anyio.create_memory_object_stream[Commit](1)
        to_connector, self.of_connector = anyio.create_memory_object_stream[Open](10)
        to_health_probe, self.of_health_probe = anyio.create_memory_object_stream[ToHealthProbe](10)
        to_stats, self.of_stats = anyio.create_memory_object_stream[Report](stats_capacity)
        self.room = LatestSender[Room]()
        self.ends: list[Any] = [self.to_keeper, inbox, to_store, self.of_store, to_connector, self.of_connector]
        self.ends += [to_health_probe, self.of_health_probe, to_stats, self.of_stats, self.room]
        self.keeper = QueueKeeper(
            Outbox(CONFIG, durable=durable),
            inbox=inbox,
            to_store=to_store if durable else None,
            to_connector=to_connector,
            to_health_probe=to_health_probe,
            room=self.room,
            reporter=Reporter(to_stats),
            policy=FencedPolicy(None, "hawk.queue_keeper"),
        )

    async def tell(self, *messages: ToQueueKeeper) -> None:
        for message in messages:
            self.to_keeper.send_nowait(message)
        await anyio.sleep(0.01)

    def lane(self, number: int = 1) -> tuple[Any, Any]:
        lane, outgoing = open_lane(number, 50)
        self.ends += [lane, outgoing]
        return lane, outgoing

    def sent(self, outgoing: Any) -> list[Publish]:
        """What went on the lane since last asked."""
        return [packet for transmit in take_all(outgoing, None) for packet in transmit.packets]


@asynccontextmanager
async def running(*, durable: bool = False, stats_capacity: int = 100) -> AsyncIterator[Bench]:
    bench = Bench(durable=durable, stats_capacity=stats_capacity)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.keeper.run)
        yield bench
        tasks.cancel_scope.cancel()
    for end in bench.ends:
        end.close()


@both_backends
def test_the_backlog_flows_when_ready_and_within_the_window(backend: Backend) -> None:
    async def flow() -> None:
        sender = Sender()
        async with running() as bench:
            lane, outgoing = bench.lane()
            await bench.tell(sender.offer(6), LaneOpened(lane, Connack()))
            assert bench.sent(outgoing) == []
            await bench.tell(Ready(lane))
            first = bench.sent(outgoing)
            assert [packet.message.payload for packet in first] == [b"0", b"1", b"2", b"3"]
            done = tuple(Acknowledgement(AckKind.PUBACK, packet.identifier) for packet in first[:2])
            await bench.tell(Settled(lane, done))
            assert [packet.message.payload for packet in bench.sent(outgoing)] == [b"4", b"5"]
            assert sender.fates == [FateKind.ACKNOWLEDGED] * 2

    run(flow, backend=backend)


class Insatiable(Sender):
    """Offers the next message as soon as it hears that the last one is accepted; at the same moment the lane opens."""

    def __init__(self, bench: Bench, *others: ToQueueKeeper) -> None:
        super().__init__()
        self.bench = bench
        self.others = others
        self.accepted_once = anyio.Event()

    def accept(self, ledger: Ledger, messages: int = 1) -> None:
        super().accept(ledger, messages)
        self.accepted_once.set()

    async def run(self) -> None:
        self.bench.to_keeper.send_nowait(self.offer(1, asks=True))
        await self.accepted_once.wait()
        for message in (self.offer(1, asks=True), *self.others):
            self.bench.to_keeper.send_nowait(message)


@both_backends
def test_who_is_told_of_a_commit_comes_into_the_next_with_those_who_waited_for_it(backend: Backend) -> None:
    async def two_tasks() -> None:
        async with running(durable=True) as bench, anyio.create_task_group() as tasks:
            lane, outgoing = bench.lane()
            first, second = Insatiable(bench, LaneOpened(lane, Connack()), Ready(lane)), Sender()
            tasks.start_soon(first.run)
            commit = await bench.of_store.receive()
            assert len(commit.insert) == 1
            await bench.tell(second.offer(2, asks=True))
            bench.to_keeper.send_nowait(Committed())
            commit = await bench.of_store.receive()
            assert len(commit.insert) == 3, "one commit for all, and not another for each of them"
            sent = [packet for packet in bench.sent(outgoing) if isinstance(packet, Publish)]
            assert len(sent) == 1, "what came while they spoke is not left until the disk answers"
            await bench.tell(Committed())
            assert (first.accepted, second.accepted) == (2, 2)

    run(two_tasks, backend=backend)


@both_backends
def test_what_is_about_an_old_lane_changes_nothing(backend: Backend) -> None:
    async def be_late() -> None:
        sender = Sender()
        async with running() as bench:
            old, of_old = bench.lane(1)
            new, of_new = bench.lane(2)
            await bench.tell(sender.offer(1), LaneOpened(old, Connack()), Ready(old))
            identifier = bench.sent(of_old)[0].identifier
            await bench.tell(LinkDown(old, LOST, Verdict.AGAIN, False), LaneOpened(new, Connack()))
            acknowledgement = Acknowledgement(AckKind.PUBACK, identifier)
            await bench.tell(Ready(old), Settled(old, (acknowledgement,)), LinkDown(old, LOST, Verdict.AGAIN, False))
            assert sender.fates == []
            assert bench.sent(of_new) == []
            await bench.tell(Ready(new))
            again = bench.sent(of_new)
            assert len(again) == 1
            await bench.tell(Settled(new, (Acknowledgement(AckKind.PUBACK, again[0].identifier),)))
            assert sender.fates == [FateKind.ACKNOWLEDGED]

    run(be_late, backend=backend)


@both_backends
def test_one_commit_at_a_time_and_what_came_meanwhile_goes_together(backend: Backend) -> None:
    async def commit() -> None:
        sender = Sender()
        async with running(durable=True) as bench:
            await bench.tell(sender.offer(1, asks=True))
            await bench.tell(sender.offer(1, asks=True), sender.offer(1, asks=True))
            assert [len(each.insert) for each in take_all(bench.of_store, None)] == [1]
            assert sender.accepted == 0
            await bench.tell(Committed())
            assert sender.accepted == 1
            assert [len(each.insert) for each in take_all(bench.of_store, None)] == [2]
            await bench.tell(CommitFailed("no space"))
            assert sender.fates == [FateKind.UNAVAILABLE] * 2
            assert sender.accepted == 1

    run(commit, backend=backend)


@both_backends
def test_a_broker_that_acknowledges_nothing_is_told_to_the_probe_again_and_again(backend: Backend) -> None:
    async def stall() -> None:
        async with running() as bench:
            lane, _ = bench.lane()
            await bench.tell(Sender().offer(1), LaneOpened(lane, Connack()), Ready(lane))
            await anyio.sleep(CONFIG.ack_timeout_s - 0.1)
            assert take_all(bench.of_health_probe, None) == []
            await anyio.sleep(2 * CONFIG.ack_timeout_s)
            assert take_all(bench.of_health_probe, None) == [Stalled(lane)] * 2

    run(stall, backend=backend)


@both_backends
def test_a_stop_without_a_link_asks_for_one_dial_and_abandons_what_is_left_in_time(backend: Backend) -> None:
    async def stop() -> None:
        sender = Sender()
        async with running() as bench:
            await bench.tell(sender.offer(3))
            answer, answered = anyio.create_memory_object_stream[StopReport](1)
            began_at = anyio.current_time()
            bench.to_keeper.send_nowait(Stop(2.0, answer))
            with answered:
                report = await answered.receive()
            assert anyio.current_time() - began_at == pytest.approx(2.0)
            assert report == StopReport(abandoned=3)
            assert take_all(bench.of_connector, None) == [Open()]
            assert sender.fates == [FateKind.ABANDONED] * 3
            await bench.tell(sender.offer(1, asks=True))
            assert sender.fates[3:] == [FateKind.STOPPED]

    run(stop, backend=backend)


@both_backends
def test_an_acknowledgement_that_waits_beside_an_overdue_stop_is_heard_first(backend: Backend) -> None:
    async def race() -> None:
        sender = Sender()
        async with running() as bench:
            lane, outgoing = bench.lane()
            await bench.tell(sender.offer(1), LaneOpened(lane, Connack()), Ready(lane))
            identifier = bench.sent(outgoing)[0].identifier
            answer, answered = anyio.create_memory_object_stream[StopReport](1)
            # Overdue on arrival, with the acknowledgement behind it in the same inbox.
            bench.to_keeper.send_nowait(Stop(0.0, answer))
            bench.to_keeper.send_nowait(Settled(lane, (Acknowledgement(AckKind.PUBACK, identifier),)))
            with answered:
                assert await answered.receive() == StopReport(acknowledged=1)
            assert sender.fates == [FateKind.ACKNOWLEDGED]

    run(race, backend=backend)


@both_backends
def test_fates_are_events_while_somebody_watches_and_none_is_lost_behind_a_full_inbox(backend: Backend) -> None:
    async def watch() -> None:
        async with running(stats_capacity=1) as bench:
            lane, _ = bench.lane()
            await bench.tell(LaneOpened(lane, Connack()), Ready(lane), WatchFates(watched=True))
            for number in range(5):
                await bench.tell(offers_of(Message(f"t/{number}", b"", 0), reply=lambda: None))
                await bench.tell(Settled(lane, (), 1))
            take_all(bench.of_stats, None)
            await anyio.sleep(0.2)
            report = bench.of_stats.receive_nowait()
            told = [event.topic for event in report.events if isinstance(event, MessageSettled)]
            assert told == [f"t/{number}" for number in range(5)]
            await bench.tell(WatchFates(watched=False), offers_of(Message("quiet", b"", 0), reply=lambda: None))
            await bench.tell(Settled(lane, (), 1))
            assert [report.events for report in take_all(bench.of_stats, None)] == [()]

    run(watch, backend=backend)
