"""`publish`, `publish_nowait`, `publish_many` and their receipts, as an application meets them (C1, C2, C3)."""

import enum
import gc
import math
import weakref
from typing import Any

import anyio
import pytest

from hawk import (
    Config,
    Dropped,
    MessageInvalid,
    MQTTInterface,
    OutboxFull,
    Receipt,
    ReconnectionConfig,
    Refused,
    Stopped,
    UnknownFate,
)
from hawk.config import OverflowPolicy
from hawk.packets import AckKind, Arrivals, ConnectRequest
from hawk.ports import Dialer, Link
from hawk.stores.memory import MemoryStore
from hawk.testing.rehearsal import Rehearsal

CONFIG = Config(reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=1.0, max_retry_delay=4.0))

RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)

RELEASED = memoryview(b"gone")
RELEASED.release()


class Room(enum.StrEnum):
    KITCHEN = "house/kitchen"


def small(overflow: OverflowPolicy, size: int = 3) -> Config:
    """A hawk with next to no room."""
    return Config(message_queue_size=size, overflow=overflow, reconnection=CONFIG.reconnection)


class LosesEveryPubcomp:
    """A dialer whose links bring no PUBCOMP: the broker has the message, and hawk never hears of the end."""

    def __init__(self, inner: Dialer) -> None:
        self._inner = inner

    async def dial(self, request: ConnectRequest) -> Link:
        return _LosesEveryPubcomp(await self._inner.dial(request))


class _LosesEveryPubcomp:
    def __init__(self, link: Link) -> None:
        self._link = link
        self.connack = link.connack
        self.send = link.send
        self.aclose = link.aclose

    async def receive(self) -> Arrivals:
        arrivals = await self._link.receive()
        arrivals.acknowledgements[:] = [each for each in arrivals.acknowledgements if each.kind is not AckKind.PUBCOMP]
        return arrivals


async def until_empty(mqtt: MQTTInterface) -> None:
    """Wait until everything has met its fate."""
    with anyio.fail_after(60.0):
        while mqtt.stats["queue_size"]:
            await anyio.sleep(0.01)


# ------------------------------------------------------------------------------------------ payloads


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (b"\x00\xff", b"\x00\xff"),
        (b"", b""),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abcd")[::2], b"ac"),
        ("grün", "grün".encode()),
        ("", b""),
        ({"value": 23.5, "ö": None}, '{"value":23.5,"ö":null}'.encode()),
        ([1, "two", [True]], b'[1,"two",[true]]'),
        (7, b"7"),
        (-0.5, b"-0.5"),
        (True, b"true"),
        (None, b"null"),
    ],
)
async def test_a_payload_of_each_kind_arrives_as_bytes(payload: Any, sent: bytes) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        receipt = await mqtt.publish("kinds", payload)
        await receipt.acknowledged()
        assert rehearsal.broker.received() == [("kinds", sent)]


async def test_what_the_sender_changes_after_the_call_is_not_sent() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        reading, raw = {"value": 1}, bytearray(b"one")
        receipts = [await mqtt.publish("dict", reading), await mqtt.publish("bytes", memoryview(raw))]
        receipts.append(mqtt.publish_nowait("nowait", raw))
        reading["value"] = 2
        raw[:] = b"two"
        for receipt in receipts:
            await receipt.acknowledged()
        assert rehearsal.broker.received() == [("dict", b'{"value":1}'), ("bytes", b"one"), ("nowait", b"one")]


@pytest.mark.parametrize(
    "payload",
    [math.nan, math.inf, {1, 2}, object(), "\ud800", {"x": "\udfff"}, RECURSIVE, {(1, 2): 3}, 1j, RELEASED, 10**5000],
    ids=["nan", "inf", "set", "object", "surrogate", "nested surrogate", "recursive", "tuple key", "complex", "released",
         "huge number"],
)  # fmt: skip
async def test_a_payload_that_cannot_be_encoded_raises_at_the_call_and_counts_as_failed(payload: Any) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        await mqtt.connect()
        with pytest.raises(MessageInvalid, match="payload for 'a/b'"):
            await mqtt.publish("a/b", payload)
        with pytest.raises(MessageInvalid):
            mqtt.publish_nowait("a/b", payload)
        with pytest.raises(MessageInvalid):
            await mqtt.publish_many([("a/b", "good"), ("a/b", payload)])
        assert mqtt.stats["messages_failed"] == 3
        assert mqtt.stats["accepted"] == mqtt.stats["queue_size"] == 0
        await (await mqtt.publish("a/b", "after")).acknowledged()
        assert rehearsal.broker.received() == [("a/b", b"after")]


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "#", "a\0b", "x" * 65_536, "\ud800", None, b"bytes", 7])
async def test_a_topic_that_mqtt_cannot_carry_raises_at_the_call_and_counts_as_failed(topic: Any) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        with pytest.raises(MessageInvalid):
            await mqtt.publish(topic, "x")
        assert mqtt.stats["messages_failed"] == 1
        assert mqtt.stats["accepted"] == 0


async def test_unusual_topics_that_mqtt_can_carry_arrive() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        topics = [Room.KITCHEN, "/", "a//b", " ", "x" * 65_535, "grün/🙂"]
        for topic in topics:
            await mqtt.publish(topic, "x")
        await until_empty(mqtt)
        assert [topic for topic, _ in rehearsal.broker.received()] == topics


@pytest.mark.parametrize("qos", [-1, 3, "1", 1.0, True, None.__class__])
async def test_a_qos_that_mqtt_does_not_know_raises_at_the_call(qos: Any) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        with pytest.raises(MessageInvalid, match="qos must be 0, 1 or 2"):
            await mqtt.publish("a", "x", qos=qos)
        with pytest.raises(MessageInvalid):
            mqtt.subscribe("a", qos=qos)
        await (await mqtt.publish("a", "after")).acknowledged()


@pytest.mark.parametrize("retain", [1, "false", None])
async def test_a_retain_that_is_neither_true_nor_false_raises_at_the_call(retain: Any) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        with pytest.raises(MessageInvalid, match="retain"):
            await mqtt.publish("a", "x", retain=retain)
        await (await mqtt.publish("a", "after")).acknowledged()


# ---------------------------------------------------------------------------------- QoS, retain, order


async def test_qos_is_the_configured_one_unless_named() -> None:
    async with Rehearsal() as rehearsal:
        for default in (0, 1, 2):
            async with rehearsal.open_mqtt(Config(qos=default)) as mqtt:
                await (await mqtt.publish("default", "x")).acknowledged()
                for qos in (0, 1, 2):
                    await (await mqtt.publish("named", "x", qos=qos)).acknowledged()
        arrived = [arrival.qos for arrival in rehearsal.broker.arrivals]
        assert arrived == [0, 0, 1, 2, 1, 0, 1, 2, 2, 0, 1, 2]


async def test_retain_is_told_to_the_broker() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        await mqtt.publish("a", "kept", retain=True)
        await mqtt.publish("a", "not kept")
        await (await mqtt.publish_many([("a", "kept too")], retain=True)).acknowledged()
        assert [arrival.retain for arrival in rehearsal.broker.arrivals] == [True, False, True]


@pytest.mark.parametrize("down_at_first", [False, True])
async def test_a_plain_loop_arrives_in_order(down_at_first: bool) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        if down_at_first:
            rehearsal.network.refuse()
        else:
            await mqtt.connect()
        for number in range(900):
            await mqtt.publish("n", number, qos=number % 3)
        rehearsal.network.allow()
        await until_empty(mqtt)
        assert [int(payload) for _, payload in rehearsal.broker.received()] == list(range(900))


async def test_the_three_ways_to_publish_keep_one_order() -> None:
    config = Config(message_queue_size=20, overflow="wait", max_inflight=3)
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(config) as mqtt:
        await mqtt.connect()
        expected = []
        for number in range(0, 300, 30):
            await mqtt.publish_many([("n", n) for n in range(number, number + 28)])
            await mqtt.publish("n", number + 28)
            expected += list(range(number, number + 29))
            try:
                mqtt.publish_nowait("n", number + 29)
                expected.append(number + 29)
            except OutboxFull:
                continue
        await until_empty(mqtt)
        assert [int(payload) for _, payload in rehearsal.broker.received()] == expected


async def test_what_is_published_before_connect_is_queued_and_goes_out_then() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        receipt = await mqtt.publish("early", "x")
        await receipt.accepted()
        await anyio.sleep(1.0)
        assert mqtt.connection_state.value == "disconnected"
        assert not rehearsal.broker.records, "publish() alone dials nobody"
        assert mqtt.stats["messages_queued"] == mqtt.stats["queue_size"] == mqtt.stats["queued"] == 1
        await mqtt.connect()
        await receipt.acknowledged()
        assert rehearsal.broker.received() == [("early", b"x")]
        await mqtt.disconnect()


# -------------------------------------------------------------------------------------- publish_nowait


async def test_publish_nowait_before_the_start_raises_stopped() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        with pytest.raises(Stopped):
            mqtt.publish_nowait("a", "x")
        await mqtt.connect()
        await mqtt.publish_nowait("a", "x").acknowledged()
        await mqtt.disconnect()
        with pytest.raises(Stopped):
            mqtt.publish_nowait("a", "x")


async def test_publish_nowait_without_room_raises_outbox_full_while_connected() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small("drop_oldest")) as mqtt:
        await mqtt.connect()
        receipts = [mqtt.publish_nowait("n", number) for number in range(3)]
        with pytest.raises(OutboxFull):
            mqtt.publish_nowait("n", 3)
        for receipt in receipts:
            await receipt.accepted()
            await receipt.acknowledged()
        assert mqtt.stats["dropped"] == 0
        assert [int(payload) for _, payload in rehearsal.broker.received()] == [0, 1, 2]


@pytest.mark.parametrize("overflow", ["wait", "reject"])
async def test_publish_nowait_without_room_raises_outbox_full_while_down(overflow: OverflowPolicy) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small(overflow)) as mqtt:
        rehearsal.network.refuse()
        for number in range(3):
            mqtt.publish_nowait("n", number)
        with pytest.raises(OutboxFull):
            mqtt.publish_nowait("n", 3)
        assert mqtt.stats["accepted"] == mqtt.stats["queue_size"] == 3
        rehearsal.network.allow()
        await until_empty(mqtt)
        assert [int(payload) for _, payload in rehearsal.broker.received()] == [0, 1, 2]


async def test_publish_nowait_while_down_tells_the_receipt_whom_the_policy_dropped() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small("drop_oldest")) as mqtt:
        rehearsal.network.refuse()
        receipts = [mqtt.publish_nowait("n", number) for number in range(5)]
        for receipt in receipts[3:]:
            await receipt.accepted()
        for receipt in receipts[:2]:
            with pytest.raises(Dropped):
                await receipt.acknowledged()
        rehearsal.network.allow()
        await until_empty(mqtt)
        assert [int(payload) for _, payload in rehearsal.broker.received()] == [2, 3, 4]


# ---------------------------------------------------------------------------------------- publish_many


async def test_an_empty_batch_is_accepted_and_acknowledged_at_once() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        receipt = await mqtt.publish_many([])
        await receipt.accepted()
        await receipt.acknowledged()
        assert receipt.settled
        assert mqtt.stats["accepted"] == 0


async def test_of_a_batch_with_one_bad_message_none_is_accepted() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        await mqtt.connect()
        with pytest.raises(MessageInvalid):
            await mqtt.publish_many([("a", "1"), ("a/#", "2"), ("a", "3")])
        await anyio.sleep(1.0)
        assert mqtt.stats["accepted"] == 0
        assert mqtt.stats["messages_failed"] == 1
        assert rehearsal.broker.received() == []


async def test_twenty_thousand_at_once_with_the_defaults_all_arrive_in_order() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(Config()) as mqtt:
        await mqtt.connect()
        receipt = await mqtt.publish_many(("n", b"%d" % number) for number in range(20_000))
        await receipt.acknowledged()
        assert mqtt.stats["dropped"] == 0
        assert mqtt.stats["messages_published"] == mqtt.stats["accepted"] == 20_000
        assert [int(payload) for _, payload in rehearsal.broker.received()] == list(range(20_000))


async def test_a_batch_that_meets_an_overflow_tells_it() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small("drop_oldest")) as mqtt:
        rehearsal.network.refuse()
        receipt = await mqtt.publish_many([("n", number) for number in range(5)])
        assert (mqtt.stats["accepted"], mqtt.stats["dropped"], mqtt.stats["queue_size"]) == (5, 2, 3)
        rehearsal.network.allow()
        with pytest.raises(Dropped):
            await receipt.acknowledged()
        assert [int(payload) for _, payload in rehearsal.broker.received()] == [2, 3, 4]


# -------------------------------------------------------------------------------- overflow, link down


async def test_drop_oldest_keeps_the_newest_and_tells_the_oldest() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small("drop_oldest")) as mqtt:
        rehearsal.network.refuse()
        receipts = [await mqtt.publish("n", number) for number in range(10)]
        assert (mqtt.stats["dropped"], mqtt.stats["queue_size"]) == (7, 3)
        for receipt in receipts[:7]:
            with pytest.raises(Dropped):
                await receipt.acknowledged()
        rehearsal.network.allow()
        for receipt in receipts[7:]:
            await receipt.acknowledged()
        assert [int(payload) for _, payload in rehearsal.broker.received()] == [7, 8, 9]


async def test_drop_newest_turns_newcomers_away() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small("drop_newest")) as mqtt:
        rehearsal.network.refuse()
        for number in range(3):
            await mqtt.publish("n", number)
        for number in range(3, 6):
            with pytest.raises(Dropped):
                await mqtt.publish("n", number)
        assert (mqtt.stats["dropped"], mqtt.stats["queue_size"]) == (3, 3)
        rehearsal.network.allow()
        await until_empty(mqtt)
        assert [int(payload) for _, payload in rehearsal.broker.received()] == [0, 1, 2]


async def test_reject_raises_and_accepts_nothing() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small("reject")) as mqtt:
        rehearsal.network.refuse()
        for number in range(3):
            await mqtt.publish("n", number)
        with pytest.raises(OutboxFull):
            await mqtt.publish("n", 3)
        assert (mqtt.stats["accepted"], mqtt.stats["dropped"], mqtt.stats["queue_size"]) == (3, 0, 3)


async def test_wait_waits_and_loses_nothing() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small("wait")) as mqtt:
        rehearsal.network.refuse()
        for number in range(3):
            await mqtt.publish("n", number)
        with anyio.move_on_after(2.0) as waited:
            await mqtt.publish("n", 3)
        assert waited.cancelled_caught
        rehearsal.network.allow()
        for number in range(4, 8):
            await mqtt.publish("n", number)
        await until_empty(mqtt)
        assert [int(payload) for _, payload in rehearsal.broker.received()] == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "reject"])
@pytest.mark.parametrize("batch", [4, 7])
async def test_the_bound_holds_however_the_messages_come(overflow: OverflowPolicy, batch: int) -> None:
    """A batch or a `publish_nowait` that asked for room has used it: what follows may not take it a second time."""
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small(overflow, 5)) as mqtt:
        rehearsal.network.refuse()
        for number in range(12):
            try:
                match number % 3:
                    case 0:
                        await mqtt.publish_many([("n", number)] * batch)
                    case 1:
                        mqtt.publish_nowait("n", number)
                    case _:
                        await mqtt.publish("n", number)
            except (Dropped, OutboxFull):
                pass
            assert mqtt.stats["queue_size"] <= 5 + 1, "a publish_nowait under way may stand beside the bound"
        await anyio.sleep(0.1)
        assert mqtt.stats["queue_size"] <= 5


async def test_while_connected_a_full_outbox_makes_publish_wait_and_drops_nothing() -> None:
    config = Config(message_queue_size=3, max_inflight=1, reconnection=CONFIG.reconnection)
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(config) as mqtt:
        await mqtt.connect()
        rehearsal.network.latency_s = 0.1
        for number in range(20):
            await mqtt.publish("n", number)
        await until_empty(mqtt)
        assert mqtt.stats["dropped"] == 0
        assert [int(payload) for _, payload in rehearsal.broker.received()] == list(range(20))


async def test_a_message_larger_than_the_whole_bound_is_sent_alone() -> None:
    config = Config(message_queue_bytes=100)
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(config) as mqtt:
        await mqtt.connect()
        for _ in range(3):
            await mqtt.publish("n", b"x" * 500)
        await until_empty(mqtt)
        assert len(rehearsal.broker.received()) == 3


# -------------------------------------------------------------------------------------------- receipts


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_refused_message_is_told_with_its_reason_and_the_next_one_flows(qos: int) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        rehearsal.broker.answer_publishes_with(0x87, topic="secret")
        refused = await mqtt.publish("secret", "x", qos=qos)
        passed = await mqtt.publish("open", "x", qos=qos)
        await refused.accepted()
        with pytest.raises(Refused, match="Not authorized") as caught:
            await refused.acknowledged()
        assert caught.value.reason_code == 0x87
        await passed.acknowledged()
        assert mqtt.stats["messages_failed"] == mqtt.stats["dead_lettered"] == 1
        with pytest.raises(Refused):
            await refused.acknowledged()


async def test_a_batch_tells_the_first_that_was_not_delivered_and_delivers_the_rest() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        rehearsal.broker.answer_publishes_with(0x87, topic="secret")
        receipt = await mqtt.publish_many([("open", 1), ("secret", 2), ("open", 3)])
        with pytest.raises(Refused):
            await receipt.acknowledged()
        assert receipt.settled
        assert mqtt.stats["messages_published"] == receipt.delivered == 2


async def test_the_receipt_of_a_cancelled_batch_tells_what_the_broker_has_of_it() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small("wait")) as mqtt:
        rehearsal.network.refuse()
        receipts: list[Receipt] = []
        with anyio.move_on_after(1):
            await mqtt.publish_many([("n", number) for number in range(5)], on_receipt=receipts.append)
        assert [receipt.delivered for receipt in receipts] == [0]
        rehearsal.network.allow()
        await mqtt.connect()
        await mqtt.disconnect()
        assert [int(payload) for _, payload in rehearsal.broker.received()] == [0, 1, 2]
        assert [receipt.delivered for receipt in receipts] == [3]


async def test_what_is_left_at_disconnect_is_told_stopped() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        rehearsal.network.refuse()
        receipt = await mqtt.publish("a", "x")
        waiting: list[type[Exception]] = []

        async def wait() -> None:
            try:
                await receipt.acknowledged()
            except Stopped:
                waiting.append(Stopped)

        nursery.start_soon(wait)
        await anyio.sleep(0.1)
        report = await mqtt.disconnect(drain_s=0.5)
        assert report.abandoned == 1
        with pytest.raises(Stopped):
            await receipt.acknowledged()
        await anyio.sleep(0.1)
        assert waiting == [Stopped]
        assert mqtt.stats["abandoned"] == 1
        assert mqtt.stats["queue_size"] == 0


async def test_with_an_outbox_what_is_left_at_disconnect_is_kept_and_goes_out_with_the_next_run() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        ports = rehearsal.ports(CONFIG, outbox_store=MemoryStore(sync_s=0.01))
        mqtt = MQTTInterface(CONFIG, nursery, ports=ports)
        rehearsal.network.refuse()
        receipt = await mqtt.publish("a", "x")
        assert (await mqtt.disconnect()).kept == 1
        with pytest.raises(Stopped, match="kept"):
            await receipt.acknowledged()
        rehearsal.network.allow()
        await mqtt.connect()
        await until_empty(mqtt)
        assert rehearsal.broker.received() == [("a", b"x")]
        await mqtt.disconnect()


async def test_a_qos_2_message_whose_session_the_broker_forgot_is_told_unknown() -> None:
    async with Rehearsal() as rehearsal:
        ports = rehearsal.ports(CONFIG, dialer=LosesEveryPubcomp(rehearsal.dialer(CONFIG)))
        async with rehearsal.open_mqtt(CONFIG, ports=ports) as mqtt:
            receipt = await mqtt.publish("a", "x", qos=2)
            await anyio.sleep(1.0)
            await rehearsal.broker.restart(sessions="lose")
            with pytest.raises(UnknownFate):
                await receipt.acknowledged()
            assert mqtt.stats["unknown"] == 1


async def test_a_receipt_that_its_sender_let_go_costs_nothing_and_loses_nothing() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        rehearsal.network.refuse()
        held: list[weakref.ref[Receipt]] = [weakref.ref(await mqtt.publish("n", number)) for number in range(50)]
        gc.collect()
        assert [receipt() for receipt in held] == [None] * 50
        rehearsal.network.allow()
        await until_empty(mqtt)
        assert len(rehearsal.broker.received()) == 50


async def test_many_may_wait_for_one_receipt_and_a_cancelled_wait_ends_only_itself() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        rehearsal.network.refuse()
        receipt = await mqtt.publish("a", "x")
        told: list[int] = []

        async def wait(number: int) -> None:
            await receipt.acknowledged()
            told.append(number)

        async with anyio.create_task_group() as waiters:
            for number in range(5):
                waiters.start_soon(wait, number)
            with anyio.move_on_after(1.0):
                await receipt.acknowledged()
            rehearsal.network.allow()
        assert sorted(told) == [0, 1, 2, 3, 4]


# ---------------------------------------------------------------------------------------- cancellation


async def test_publish_cancelled_while_it_waits_for_room_is_accepted_or_not_and_never_half() -> None:
    """Twenty senders in line, cancelled at twenty different moments while room comes and goes."""
    config = Config(message_queue_size=2, max_inflight=1, overflow="wait", reconnection=CONFIG.reconnection)
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(config) as mqtt:
        await mqtt.connect()
        rehearsal.network.latency_s = 0.1
        accepted: list[int] = []
        cancelled: list[int] = []

        async def send(number: int) -> None:
            with anyio.move_on_after(0.03 * number) as scope:
                await mqtt.publish("n", number)
                accepted.append(number)
            if scope.cancelled_caught:
                cancelled.append(number)

        async with anyio.create_task_group() as senders:
            for number in range(1, 21):
                senders.start_soon(send, number)
        await until_empty(mqtt)
        arrived = [int(payload) for _, payload in rehearsal.broker.received()]
        assert len(arrived) == len(set(arrived)) == mqtt.stats["accepted"] == mqtt.stats["messages_published"]
        assert set(accepted) <= set(arrived), "publish() returned, so it is accepted"
        assert accepted
        assert cancelled
        assert len(set(arrived) & set(cancelled)) <= len(cancelled) // 2, "a cancelled sender leaves the line"


async def test_a_cancelled_publish_that_stood_in_line_is_never_sent() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(small("wait")) as mqtt:
        rehearsal.network.refuse()
        await mqtt.publish_many([("n", number) for number in range(3)])
        with anyio.move_on_after(0.5):
            await mqtt.publish("n", "cancelled")
        with anyio.move_on_after(0.5):
            await mqtt.publish_many([("n", "cancelled")] * 10)
        rehearsal.network.allow()
        await until_empty(mqtt)
        assert [payload for _, payload in rehearsal.broker.received()] == [b"0", b"1", b"2"]
        assert mqtt.stats["accepted"] == 3


async def test_publish_in_a_cancelled_scope_accepts_nothing() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        await mqtt.connect()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await mqtt.publish("n", "never")
        await anyio.sleep(1.0)
        assert mqtt.stats["accepted"] == 0
        assert rehearsal.broker.received() == []


async def test_publish_while_hawk_stops_raises_stopped_and_accepts_nothing() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        rehearsal.network.refuse()
        await mqtt.publish("n", "before")
        nursery.start_soon(mqtt.disconnect)
        await anyio.sleep(0.5)
        with pytest.raises(Stopped):
            await mqtt.publish("n", "while")
        with pytest.raises(Stopped):
            await mqtt.publish_many([("n", "while")])
        with pytest.raises(Stopped):
            mqtt.publish_nowait("n", "while")
        await mqtt.disconnect()
        stats = mqtt.stats
        assert (stats["accepted"], stats["abandoned"], stats["queue_size"]) == (1, 1, 0)
