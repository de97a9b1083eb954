"""The Subscription keeper's shell, with memory channels and a fake lane, on both backends."""

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream

from hawk.actors.mailbox import Reporter
from hawk.actors.subscription_keeper import SubscriptionKeeper
from hawk.config import Config
from hawk.core.wanted import Wanted
from hawk.messages import (
    Delivered,
    Handled,
    InboundReport,
    InboxCommit,
    InboxCommitted,
    Incoming,
    LaneOpened,
    LinkDown,
    Ready,
    Report,
    StopReceiving,
    Subscribe,
    ToSubscriptionKeeper,
    Transmit,
    Unsubscribe,
)
from hawk.packets import (
    AckKind,
    Acknowledgement,
    Connack,
    Delivery,
    DisconnectRequest,
    Outgoing,
    SubscribeFilter,
    SubscribeOutcome,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hawk.values import Cause, CauseKind, Message, Verdict

pytestmark = pytest.mark.anyio

FIRST = 65_024
A_NAME = Wanted("a").first_name
DEFAULTS = Config()


class FakeLane:
    """Keeps what was transmitted; raises what it is told to."""

    number = 1

    def __init__(self, fault: Exception | None = None) -> None:
        self.sent: list[tuple[Outgoing, ...]] = []
        self.fault = fault

    def send_nowait(self, transmit: Transmit, /) -> None:
        if self.fault is not None:
            raise self.fault
        self.sent.append(transmit.packets)


class Reading:
    """One subscription as an application holds it."""

    def __init__(self, number: int, text: str) -> None:
        to_me, self.deliveries = anyio.create_memory_object_stream[tuple[Delivered, ...]](math.inf)
        to_asker, self.answer = anyio.create_memory_object_stream[int](1)
        self.request = Subscribe(number, SubscribeFilter(text, 1), to_me, to_asker)

    def take(self) -> list[Delivered]:
        """Everything that was delivered and not taken yet."""
        taken: list[Delivered] = []
        try:
            while True:
                taken += self.deliveries.receive_nowait()
        except anyio.WouldBlock:
            return taken

    def close(self) -> None:
        self.deliveries.close()
        self.answer.close()


class Rig:
    """A running keeper and every channel around it."""

    def __init__(self, config: Config, stats_capacity: int) -> None:
        self.to_keeper, inbox = anyio.create_memory_object_stream[ToSubscriptionKeeper](1_024)
        self.inbox: MemoryObjectReceiveStream[ToSubscriptionKeeper] = inbox
        self.to_queue, self.queue = anyio.create_memory_object_stream[Ready](10)
        self.to_stats, self.stats = anyio.create_memory_object_stream[Report](stats_capacity)
        self.to_inbox_task, self.inbox_task = anyio.create_memory_object_stream[InboxCommit](1)
        self.keeper = SubscriptionKeeper(
            config=config,
            inbox=inbox,
            to_queue_keeper=self.to_queue,
            to_inbox_task=self.to_inbox_task,
            reporter=Reporter(self.to_stats),
        )
        self.lane = FakeLane()
        self.readings: list[Reading] = []
        self.kept: list[InboxCommit] = []

    def tell(self, *messages: ToSubscriptionKeeper) -> None:
        for message in messages:
            self.to_keeper.send_nowait(message)

    async def keep(self) -> None:
        """Be the inbox task."""
        while True:
            self.kept.append(await self.inbox_task.receive())
            await self.to_keeper.send(InboxCommitted())

    async def settle(self) -> None:
        await anyio.wait_all_tasks_blocked()
        assert self.inbox.statistics().current_buffer_used == 0

    def read(self, text: str) -> Reading:
        reading = Reading(len(self.readings) + 1, text)
        self.readings.append(reading)
        self.tell(reading.request)
        return reading

    async def stop(self) -> None:
        answer, answered = anyio.create_memory_object_stream[None](1)
        self.tell(StopReceiving(answer))
        with anyio.fail_after(1), answered:
            await answered.receive()

    def newest_report(self) -> InboundReport:
        newest = None
        try:
            while True:
                newest = self.stats.receive_nowait().state
        except anyio.WouldBlock:
            assert isinstance(newest, InboundReport)
            return newest

    def close(self) -> None:
        for reading in self.readings:
            reading.close()
        ends = (self.to_keeper, self.inbox, self.to_queue, self.queue, self.to_stats, self.stats)
        for channel in (*ends, self.to_inbox_task, self.inbox_task):
            channel.close()


@asynccontextmanager
async def running(config: Config = DEFAULTS, *, stats_capacity: int = 1_024) -> AsyncIterator[Rig]:
    rig = Rig(config, stats_capacity)
    try:
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(rig.keeper.run)
            nursery.start_soon(rig.keep)
            yield rig
            await rig.stop()
            nursery.cancel_scope.cancel()
    finally:
        rig.close()


def suback(identifier: int = FIRST, code: int = 1) -> SubscribeOutcome:
    return SubscribeOutcome(identifier, (code,))


def publish(topic: str = "a", *, identifier: int = 1) -> Delivery:
    return Delivery(Message(topic, b"secret", 1 if identifier else 0), identifier)


def link_down(lane: FakeLane) -> LinkDown:
    return LinkDown(lane, Cause(CauseKind.CLOSED_BY_PEER, "gone"), Verdict.AGAIN, proven=True)


async def test_a_subscription_from_subscribe_to_acknowledgement() -> None:
    async with running() as rig:
        reading = rig.read("a")
        rig.tell(LaneOpened(rig.lane, Connack()))
        await rig.settle()
        assert rig.lane.sent == [(SubscribeRequest(FIRST, (SubscribeFilter("a", 1),), A_NAME),)]
        assert rig.queue.statistics().current_buffer_used == 0
        rig.tell(Incoming(rig.lane, (suback(), publish())))
        await rig.settle()
        assert await reading.answer.receive() == 1
        assert rig.queue.receive_nowait().lane is rig.lane
        (delivered,) = reading.take()
        assert delivered.message == Message("a", b"secret", 1)
        rig.tell(Handled(1, (delivered.delivery,)))
        await rig.settle()
        assert rig.lane.sent[1:] == [(Acknowledgement(AckKind.PUBACK, 1),)]
        assert rig.newest_report()[1:] == (1, 1, 0, 0, 0, 0, 0, ())


async def test_what_waits_becomes_one_transmission() -> None:
    async with running() as rig:
        reading = rig.read("a")
        rig.tell(LaneOpened(rig.lane, Connack()), Incoming(rig.lane, (suback(),)))
        await rig.settle()
        rig.tell(*(Incoming(rig.lane, (publish(identifier=number),)) for number in (1, 2, 3)))
        await rig.settle()
        numbers = [one.delivery for one in reading.take()]
        before = len(rig.lane.sent)
        rig.tell(*(Handled(1, (number,)) for number in reversed(numbers)))
        await rig.settle()
        assert rig.lane.sent[before:] == [tuple(Acknowledgement(AckKind.PUBACK, number) for number in (1, 2, 3))]


async def test_ready_comes_when_subacks_are_overdue() -> None:
    async with running(Config(suback_timeout_s=0.05)) as rig:
        rig.read("a")
        rig.tell(LaneOpened(rig.lane, Connack()))
        with anyio.fail_after(1):
            assert (await rig.queue.receive()).lane is rig.lane
        await rig.settle()
        assert rig.queue.statistics().current_buffer_used == 0


async def test_without_a_subscription_a_lane_is_ready_at_once_and_nothing_is_sent() -> None:
    async with running() as rig:
        rig.tell(LaneOpened(rig.lane, Connack()))
        await rig.settle()
        assert rig.queue.receive_nowait().lane is rig.lane
        assert rig.lane.sent == []
        assert rig.stats.statistics().current_buffer_used == 0


async def test_a_broken_lane_is_ignored_and_what_it_brought_is_delivered() -> None:
    async with running() as rig:
        reading = rig.read("a")
        rig.lane.fault = anyio.BrokenResourceError()
        rig.tell(LaneOpened(rig.lane, Connack()))
        await rig.settle()
        rig.tell(Incoming(rig.lane, (publish(identifier=0),)))
        await rig.settle()
        assert [one.message.topic for one in reading.take()] == ["a"]
        new = FakeLane()
        rig.tell(link_down(rig.lane), LaneOpened(new, Connack()))
        await rig.settle()
        assert len(new.sent) == 1


async def test_messages_of_another_lane_are_dropped() -> None:
    async with running() as rig:
        reading = rig.read("a")
        old = FakeLane()
        rig.tell(LaneOpened(old, Connack()), link_down(old), LaneOpened(rig.lane, Connack()))
        rig.tell(Incoming(old, (publish(),)), link_down(old))
        await rig.settle()
        assert reading.deliveries.statistics().current_buffer_used == 0
        assert old.sent == []
        rig.tell(Incoming(rig.lane, (publish(),)))
        await rig.settle()
        assert reading.deliveries.statistics().current_buffer_used == 1


async def test_an_application_that_is_gone_harms_nobody() -> None:
    async with running() as rig:
        gone, reading = rig.read("a"), rig.read("a")
        gone.close()
        rig.tell(LaneOpened(rig.lane, Connack()), Incoming(rig.lane, (suback(),)))
        await rig.settle()
        rig.tell(Incoming(rig.lane, (suback(), publish())))
        await rig.settle()
        assert await reading.answer.receive() == 1
        (delivered,) = reading.take()
        rig.tell(Handled(2, (delivered.delivery,)))
        await rig.settle()
        assert len(rig.lane.sent) == 1
        rig.tell(Unsubscribe(1), Unsubscribe(2))
        successor = rig.read("a")
        await rig.settle()
        with pytest.raises(anyio.EndOfStream):
            reading.deliveries.receive_nowait()
        assert [one.redelivered for one in successor.take()] == [True]


@pytest.mark.parametrize("end", ["receiver", "both ends"])
async def test_a_suback_after_the_asker_lost_patience_harms_nobody(end: str) -> None:
    """Whoever asks with a deadline lets go of the answer's channel, on its own side or altogether."""
    async with running() as rig:
        reading = rig.read("a")
        rig.tell(LaneOpened(rig.lane, Connack()))
        await rig.settle()
        reading.answer.close()
        if end == "both ends":
            reading.request.answer.close()
        rig.tell(Incoming(rig.lane, (suback(), publish())))
        await rig.settle()
        assert [one.message.topic for one in reading.take()] == ["a"]


async def test_the_last_unsubscribe_goes_to_the_broker_and_ends_the_iteration() -> None:
    async with running() as rig:
        reading = rig.read("a")
        rig.tell(LaneOpened(rig.lane, Connack()))
        await rig.settle()
        rig.tell(Unsubscribe(1))
        await rig.settle()
        assert rig.lane.sent[1:] == [(UnsubscribeRequest(FIRST + 1, ("a",)),)]
        with pytest.raises(anyio.EndOfStream):
            await reading.deliveries.receive()
        with pytest.raises(anyio.EndOfStream):
            await reading.answer.receive()


async def test_a_stop_acknowledges_what_is_handled_and_ends_every_iteration_normally() -> None:
    async with running() as rig:
        reading, waiting = rig.read("a"), rig.read("b")
        rig.tell(LaneOpened(rig.lane, Connack()))
        await rig.settle()
        rig.tell(Incoming(rig.lane, (publish(identifier=1), publish(identifier=2))))
        await rig.settle()
        one, two = reading.take()
        rig.tell(Handled(1, (one.delivery,)))
        await rig.stop()
        assert rig.lane.sent[-1] == (Acknowledgement(AckKind.PUBACK, 1),)
        assert [message async for message in reading.deliveries] == []
        with pytest.raises(anyio.EndOfStream):
            await waiting.answer.receive()
        rig.tell(Handled(1, (two.delivery,)))
        await rig.settle()
        assert rig.lane.sent[-1] == (Acknowledgement(AckKind.PUBACK, 2),)


async def test_a_stop_is_idempotent_and_later_messages_are_still_heard() -> None:
    async with running() as rig:
        await rig.stop()
        await rig.stop()
        rig.tell(LaneOpened(rig.lane, Connack()))
        await rig.settle()
        assert rig.queue.receive_nowait().lane is rig.lane
        late = rig.read("a")
        await rig.settle()
        assert [message async for message in late.deliveries] == []
        assert rig.lane.sent == []


async def test_a_refusal_is_answered_and_logged_without_any_payload(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as rig:
        reading = rig.read("a")
        rig.tell(LaneOpened(rig.lane, Connack()))
        await rig.settle()
        rig.tell(Incoming(rig.lane, (suback(code=0x87), publish(identifier=1))))
        await rig.settle()
        assert await reading.answer.receive() == 0x87
        ((event, fields),) = warnings(caplog)
        assert (event, fields["filter"], fields["reason"]) == ("subscription refused", "a", "Not authorized")
        assert fields["reason_code"] == "0x87"
        assert "access rules" in str(fields["remedy"])
        assert "secret" not in caplog.text


async def test_a_broker_beyond_the_receive_maximum_is_named_once_a_link_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with running(Config(receive_maximum=2)) as rig:
        reading = rig.read("a")
        rig.tell(LaneOpened(rig.lane, Connack()), Incoming(rig.lane, (suback(),)))
        for first in (1, 11):
            rig.tell(Incoming(rig.lane, tuple(publish(identifier=first + number) for number in range(10))))
            await rig.settle()
        ((event, fields),) = warnings(caplog)
        assert (event, fields["link"], fields["receive_maximum"]) == ("receive maximum exceeded", 1, 2)
        assert "raise receive_maximum" in str(fields["remedy"])
        numbers = tuple(one.delivery for one in reading.take())
        before = len(rig.lane.sent)
        rig.tell(Handled(1, numbers))
        await rig.settle()
        assert rig.lane.sent[before:] == [tuple(Acknowledgement(AckKind.PUBACK, 1 + number) for number in range(20))]
        # All that happens in one pass: the link it was about is named, and not the next one.
        new = FakeLane()
        new.number = 2
        rig.tell(*(Incoming(rig.lane, (publish(identifier=number),)) for number in (31, 32, 33)))
        rig.tell(link_down(rig.lane), LaneOpened(new, Connack()))
        rig.tell(*(Incoming(new, (publish(identifier=number),)) for number in (1, 2, 3)), link_down(new))
        await rig.settle()
        assert [fields["link"] for _, fields in warnings(caplog)] == [1, 2]
        counted = [record.__dict__["hawk"] for record in caplog.records if record.levelno == logging.INFO]
        assert counted == [{"link": 1, "messages_beyond": 19}, {"link": 2, "messages_beyond": 1}]
        assert "secret" not in caplog.text


async def test_a_flood_beyond_all_memory_ends_the_link_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as rig:
        rig.read("a")
        rig.tell(LaneOpened(rig.lane, Connack()), Incoming(rig.lane, (suback(),)))
        message = Message("a", b"secret".ljust(1024 * 1024), 1)
        rig.tell(Incoming(rig.lane, tuple(Delivery(message, identifier) for identifier in range(1, 200))))
        await rig.settle()
        assert rig.lane.sent[-1] == (DisconnectRequest(0x93),)
        (_, first), (event, fields) = warnings(caplog)
        assert (event, fields["link"], fields["messages_beyond"]) == ("receive maximum exceeded too far", 1, 1)
        assert fields["remedy"] == first["remedy"]
        assert "secret" not in caplog.text


def warnings(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, object]]]:
    """Events and fields."""
    return [
        (record.__dict__["event"], record.__dict__["hawk"])
        for record in caplog.records
        if record.levelno == logging.WARNING
    ]


async def test_a_report_that_did_not_fit_is_sent_later_by_itself() -> None:
    async with running(stats_capacity=1) as rig:
        reading = rig.read("a")
        filler = Report(None)
        rig.to_stats.send_nowait(filler)
        rig.tell(LaneOpened(rig.lane, Connack()))
        rig.tell(Incoming(rig.lane, (publish(identifier=0), publish("nobody", identifier=0))))
        await rig.settle()
        assert rig.stats.receive_nowait() == filler
        with anyio.fail_after(1):
            report = (await rig.stats.receive()).state
        assert report == InboundReport(revision=1, received=2, dropped=1, unhandled=1)
        assert reading.deliveries.statistics().current_buffer_used == 1


async def test_an_idle_keeper_waits_without_a_deadline() -> None:
    async with running() as rig:
        rig.tell(LaneOpened(rig.lane, Connack()))
        await rig.settle()
        assert rig.inbox.statistics().tasks_waiting_receive == 1
        assert rig.to_stats.statistics().current_buffer_used == 0
