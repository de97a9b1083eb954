"""Handlers, manual acknowledgement, rejection, redelivery and declared subscriptions, through the whole stack."""

import asyncio
from typing import Any

import anyio
import pytest

from hawk import Config, MessageInvalid, MQTTInterface, ReceivedMessage, ReconnectionConfig, SubscribeFilter
from hawk.packets import ConnectRequest
from hawk.ports import Dialer, Link
from hawk.stores.memory_inbox import MemoryInboxStore
from hawk.testing.rehearsal import Rehearsal

RECONNECTION = ReconnectionConfig(max_retries=None, initial_retry_delay=1.0, max_retry_delay=4.0)
CONFIG = Config(client_id="receiver", reconnection=RECONNECTION)
REJECTED = 0x83


def answers(rehearsal: Rehearsal, packet: str = "PUBACK") -> list[tuple[int, int]]:
    """Identifier and reason code of each acknowledgement that hawk sent, in order."""
    found = [one for one in rehearsal.broker.records if one.direction == "in" and one.packet == packet]
    return [(one.packet_identifier, one.reason_code) for one in found]


async def test_a_handler_is_called_for_each_message_as_long_as_the_block_lasts() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        handled: list[int] = []

        async def handle(message: ReceivedMessage) -> None:
            await anyio.sleep(0.01)
            handled.append(message.json())

        async with mqtt.subscribe("in", qos=2, handler=handle) as subscription:
            for number in range(20):
                rehearsal.broker.publish("in", b"%d" % number, qos=number % 3)
            await anyio.sleep(1.0)
            with pytest.raises(RuntimeError, match="handler"):
                aiter(subscription)
        assert sorted(handled) == list(range(20))
        assert [one for one in handled if one % 3] == [one for one in range(20) if one % 3]
        rehearsal.broker.publish("in", b"20", qos=0)
        await anyio.sleep(1.0)
        assert len(handled) == 20
        assert mqtt.stats["handled"] == 20


async def test_workers_handle_side_by_side_and_acknowledgements_keep_the_order() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        busy, most, finished = 0, 0, []

        async def handle(message: ReceivedMessage) -> None:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await anyio.sleep(10 - message.json())
            busy -= 1
            finished.append(message.json())

        async with mqtt.subscribe("in", handler=handle, workers=4):
            for number in range(8):
                rehearsal.broker.publish("in", b"%d" % number, qos=1)
            await anyio.sleep(60.0)
        assert most == 4
        assert finished != sorted(finished)
        identifiers = [identifier for identifier, _ in answers(rehearsal)]
        assert identifiers == sorted(identifiers)
        assert len(identifiers) == 8


async def test_what_a_handler_fails_on_is_given_again_and_then_set_aside(records: Any) -> None:
    """FAULTS.md, "exception in user handler": no task ends, one ERROR for an episode, and the next message is handled."""
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        seen: list[tuple[bytes, bool, str]] = []

        async def handle(message: ReceivedMessage) -> None:
            seen.append((message.payload, message.redelivered, message.delivery_key))
            if message.payload == b"cargo-bad":
                raise ValueError(message.text())

        async with mqtt.subscribe("in", handler=handle):
            for payload in (b"cargo-bad", b"good"):
                rehearsal.broker.publish("in", payload, qos=1)
            await anyio.sleep(1.0)
        assert sorted((payload, again) for payload, again, _ in seen) == [
            (b"cargo-bad", False),
            (b"cargo-bad", True),
            (b"cargo-bad", True),
            (b"good", False),
        ]
        assert len({key for payload, _, key in seen if payload == b"cargo-bad"}) == 1
        assert [code for _, code in answers(rehearsal)] == [REJECTED, 0]
        stats = mqtt.stats
        assert (stats["handled"], stats["inbound_abandoned"], stats["returned"]) == (1, 1, 3)
        assert records.levels("handler failed") == ["ERROR"]
        assert records.levels("deliveries abandoned") == ["ERROR"]
        assert "cargo-bad" not in records.text()


async def test_a_handler_that_is_cancelled_gives_its_message_back() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        begun = anyio.Event()

        async def hang(message: ReceivedMessage) -> None:
            begun.set()
            await anyio.sleep_forever()

        with anyio.CancelScope() as scope:
            async with mqtt.subscribe("in", handler=hang):
                rehearsal.broker.publish("in", b"x", qos=1)
                await begun.wait()
                scope.cancel()
                await anyio.sleep(1.0)
        assert answers(rehearsal) == []
        async with mqtt.subscribe("in") as messages:
            message = await anext(messages)
            assert (message.payload, message.redelivered) == (b"x", True)


async def test_a_handler_that_waits_for_a_cancelled_task_has_failed_and_is_called_again(
    anyio_backend_name: str, records: Any
) -> None:
    """On asyncio that looks as if the handler's own task were cancelled."""
    if anyio_backend_name == "trio":
        return
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        calls: list[tuple[bytes, bool]] = []

        async def handle(message: ReceivedMessage) -> None:
            calls.append((message.payload, message.redelivered))
            if not message.redelivered:
                other = asyncio.create_task(asyncio.sleep(60.0))
                other.cancel()
                await other

        async with mqtt.subscribe("in", handler=handle, workers=2):
            for number in range(3):
                rehearsal.broker.publish("in", b"%d" % number, qos=1)
            await anyio.sleep(1.0)
        assert sorted(calls) == [(b"%d" % number, again) for number in range(3) for again in (False, True)]
        assert mqtt.stats["handled"] == 3
    assert records.levels("handler failed") == ["ERROR"]


async def test_leaving_a_handlers_block_waits_for_the_message_in_hand() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        begun = anyio.Event()

        async def handle(message: ReceivedMessage) -> None:
            begun.set()
            await anyio.sleep(5.0)

        async with mqtt.subscribe("in", handler=handle):
            rehearsal.broker.publish("in", b"x", qos=1)
            await begun.wait()
        await anyio.sleep(1.0)
        assert [code for _, code in answers(rehearsal)] == [0]


async def test_a_block_that_raises_beside_its_handler_raises_just_that() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:

        async def handle(message: ReceivedMessage) -> None:
            await anyio.sleep_forever()

        async def block() -> None:
            async with mqtt.subscribe("in", handler=handle, workers=3):
                rehearsal.broker.publish("in", b"x", qos=1)
                await anyio.sleep(1.0)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await block()
        assert answers(rehearsal) == []


async def test_with_manual_acknowledgement_only_the_application_ends_a_message(records: Any) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        async with mqtt.subscribe("in", qos=2, ack="manual") as messages:
            for number in range(4):
                rehearsal.broker.publish("in", b"%d" % number, qos=1)
            rehearsal.broker.publish("in", b"at most once", qos=0)
            first, second, third, fourth, last = [await anext(messages) for _ in range(5)]
            assert last.qos == 0
            await third.acknowledge()
            await anyio.sleep(1.0)
            assert answers(rehearsal) == [], "an earlier one is not acknowledged yet"
            await first.acknowledge()
            await second.reject("no such device")
            await anyio.sleep(1.0)
            assert [code for _, code in answers(rehearsal)] == [0, REJECTED, 0]
        async with mqtt.subscribe("in", qos=2) as messages:
            again = await anext(messages)
            assert (again.payload, again.redelivered, again.delivery_key) == (
                fourth.payload,
                True,
                fourth.delivery_key,
            )
        assert mqtt.stats["rejected"] == 1
        (told,) = records.of("message rejected")
        assert told.hawk == {"topic": "in", "reason": "no such device"}


async def test_a_rejected_message_of_qos_2_is_over_and_its_identifier_free() -> None:
    async with (
        Rehearsal() as rehearsal,
        rehearsal.open_mqtt(CONFIG) as mqtt,
        mqtt.subscribe("in", qos=2, ack="manual") as messages,
    ):
        rehearsal.broker.publish("in", b"x", qos=2)
        await (await anext(messages)).reject("no")
        await anyio.sleep(1.0)
        assert [code for _, code in answers(rehearsal, "PUBREC")] == [REJECTED]
        assert rehearsal.broker.sessions["receiver"].in_flight == 0


async def test_a_delivery_that_blocks_the_others_for_a_minute_is_named_once(records: Any) -> None:
    async with (
        Rehearsal() as rehearsal,
        rehearsal.open_mqtt(CONFIG) as mqtt,
        mqtt.subscribe("in/#", ack="manual") as messages,
    ):
        for number in range(5):
            rehearsal.broker.publish(f"in/{number}", b"cargo", qos=1)
        held = [await anext(messages) for _ in range(5)]
        for message in held[1:]:
            await message.acknowledge()
        await anyio.sleep(59.0)
        assert records.of("delivery blocks others") == []
        assert mqtt.stats["receive_slots"] == {"in/#": 1}
        await anyio.sleep(120.0)
        (told,) = records.of("delivery blocks others")
        assert told.levelname == "WARNING"
        assert (told.hawk["topic"], told.hawk["behind"]) == ("in/0", 4)
        assert told.hawk["delivery_key"] == held[0].delivery_key
        await held[0].acknowledge()
        await anyio.sleep(1.0)
        assert len(answers(rehearsal)) == 5
        assert mqtt.stats["receive_slots"] == {}


async def test_a_consumer_that_holds_all_slots_for_a_minute_is_told_of_once(records: Any) -> None:
    """FAULTS.md, "slow consumer", at QoS 1: it moves, and is never caught up with."""
    config = Config(client_id="receiver", reconnection=RECONNECTION, receive_maximum=10)
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(config) as mqtt, mqtt.subscribe("in") as messages:
        for _ in range(300):
            rehearsal.broker.publish("in", b"cargo", qos=1)
        for _ in range(200):
            await anext(messages)
            await anyio.sleep(1.0)
        (told,) = records.of("consumer too slow")
        assert told.levelname == "WARNING"
        assert told.hawk["held_by"] in ("in:9", "in:10")
        assert records.of("delivery blocks others") == []


# ----------------------------------------------------------------------------------- intent that survives


class Resuming:
    """A dialer that asks for the session of an earlier process, as one does that has kept its identity."""

    def __init__(self, inner: Dialer) -> None:
        self._inner = inner

    async def dial(self, request: ConnectRequest) -> Link:
        return await self._inner.dial(ConnectRequest(request.client_identifier, clean_start=False))


async def process(
    rehearsal: Rehearsal, store: MemoryInboxStore, use: Any, *, subscriptions: Any = (), crash: bool = False
) -> None:
    """One process: opens a hawk on what is remembered, uses it, and stops, or is gone from one moment to the next."""
    ports = rehearsal.ports(CONFIG, dialer=Resuming(rehearsal.dialer(CONFIG)), inbox_store=store)
    async with anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, subscriptions=subscriptions, ports=ports)
        await mqtt.connect()
        await anyio.sleep(1.0)
        await use(mqtt)
        if crash:
            rehearsal.network.reset_all()
            rehearsal.network.refuse()
            store.fail("the process is gone")
        await mqtt.disconnect(drain_s=0.0)
    store.fail("")
    rehearsal.network.allow()


async def test_what_is_declared_is_subscribed_first_and_waits_for_its_holder() -> None:
    async with Rehearsal() as rehearsal:
        store = MemoryInboxStore()
        declared = ["in/#", SubscribeFilter("out", qos=2)]

        async def nothing(mqtt: MQTTInterface) -> None:
            assert tuple(rehearsal.broker.sessions["receiver"].subscriptions) == ("in/#", "out")

        async def receive(mqtt: MQTTInterface) -> None:
            await anyio.sleep(20.0)
            async with mqtt.subscribe("in/#") as messages:
                assert (await anext(messages)).payload == b"while away"
            await anyio.sleep(40.0)
            assert tuple(rehearsal.broker.sessions["receiver"].subscriptions) == ("in/#", "out")

        await process(rehearsal, store, nothing, subscriptions=declared)
        rehearsal.broker.publish("in/1", b"while away", qos=1)
        await process(rehearsal, store, receive, subscriptions=declared)


async def test_filters_of_an_earlier_process_are_unsubscribed_after_the_grace() -> None:
    async with Rehearsal() as rehearsal:
        store = MemoryInboxStore()

        async def wait(mqtt: MQTTInterface) -> None:
            assert tuple(rehearsal.broker.sessions["receiver"].subscriptions) == ("kept", "left")
            async with mqtt.subscribe("kept"):
                await anyio.sleep(28.0)
                assert len(rehearsal.broker.sessions["receiver"].subscriptions) == 2
                await anyio.sleep(2.0)
                assert tuple(rehearsal.broker.sessions["receiver"].subscriptions) == ("kept",)

        async def nothing(mqtt: MQTTInterface) -> None:
            pass

        await process(rehearsal, store, nothing, subscriptions=["kept", "left"])
        assert store.kept.filters == ("kept", "left")
        await process(rehearsal, store, wait)


@pytest.mark.parametrize("moment", ["in the handler", "handled"])
async def test_qos_2_is_once_over_a_crash_of_the_process(moment: str) -> None:
    async with Rehearsal() as rehearsal:
        store = MemoryInboxStore()
        given: list[tuple[str, bool]] = []

        async def until_crash(mqtt: MQTTInterface) -> None:
            async with mqtt.subscribe("in", qos=2) as messages:
                rehearsal.broker.publish("in", b"once", qos=2)
                message = await anext(messages)
                given.append((message.delivery_key, message.redelivered))
                if moment == "handled":
                    rehearsal.network.stall()
                    await message.acknowledge()
                    await anyio.sleep(1.0)
                store.fail("the process is gone")
                await anyio.sleep(1.0)
                rehearsal.network.reset_all()

        async def after(mqtt: MQTTInterface) -> None:
            async with mqtt.subscribe("in", qos=2) as messages:
                with anyio.move_on_after(10.0):
                    while True:
                        again = await anext(messages)
                        given.append((again.delivery_key, again.redelivered))
            await anyio.sleep(1.0)

        await process(rehearsal, store, until_crash, crash=True)
        rehearsal.network.heal()
        assert [record.handled for record in store.kept.records] == [moment == "handled"]
        await process(rehearsal, store, after)
        (key, first), *rest = given
        assert not first
        assert rest == ([] if moment == "handled" else [(key, True)])
        assert store.kept.records == ()
        assert rehearsal.broker.sessions["receiver"].in_flight == 0


async def test_while_the_inbox_cannot_be_written_qos_2_waits_and_qos_1_flows(records: Any) -> None:
    async with Rehearsal() as rehearsal:
        store = MemoryInboxStore()
        ports = rehearsal.ports(CONFIG, inbox_store=store)
        async with rehearsal.open_mqtt(CONFIG, ports=ports) as mqtt, mqtt.subscribe("in", qos=2) as messages:
            store.fail("no space left on device")
            for payload, qos in ((b"two", 2), (b"one", 1)):
                rehearsal.broker.publish("in", payload, qos=qos)
            assert (await anext(messages)).payload == b"one"
            await anyio.sleep(20.0)
            store.fail("")
            assert (await anext(messages)).payload == b"two"
            assert records.levels("inbox unavailable") == ["ERROR"]


# -------------------------------------------------------------------------------------------- overlapping


async def test_each_of_overlapping_subscriptions_gets_each_message_once() -> None:
    async with (
        Rehearsal() as rehearsal,
        rehearsal.open_mqtt(CONFIG) as mqtt,
        mqtt.subscribe("a/#") as everything,
        mqtt.subscribe("a/+", qos=2) as one_level,
        mqtt.subscribe("a/1", qos=0) as one,
    ):
        rehearsal.broker.publish("a/1", b"x", qos=2)
        rehearsal.broker.publish("a/1/2", b"y", qos=1)
        assert [(await anext(everything)).payload for _ in range(2)] == [b"x", b"y"]
        assert (await anext(one_level)).payload == b"x"
        assert (await anext(one)).payload == b"x"
        with anyio.move_on_after(5.0) as scope:
            await anext(one)
        assert scope.cancelled_caught
        assert mqtt.stats["unhandled"] == 2


async def test_a_second_block_on_the_same_filter_gets_what_is_retained_and_the_first_not_again() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        await (await mqtt.publish("state", "on", retain=True)).acknowledged()
        async with mqtt.subscribe("state") as first:
            assert (await anext(first)).retain
            async with mqtt.subscribe("state") as second, mqtt.subscribe("state", retain_handling="never") as third:
                assert (await anext(second)).text() == "on"
                await mqtt.publish("state", "off")
                for messages in (first, second, third):
                    message = await anext(messages)
                    assert (message.text(), message.retain) == ("off", False)


async def test_no_local_and_retain_as_published_do_as_they_say() -> None:
    async with (
        Rehearsal() as rehearsal,
        rehearsal.open_mqtt(CONFIG) as mqtt,
        mqtt.subscribe("mine", no_local=True) as mine,
        mqtt.subscribe("flag", retain_as_published=True) as flag,
    ):
        await mqtt.publish("mine", "from here")
        rehearsal.broker.publish("mine", b"from elsewhere", qos=1)
        assert (await anext(mine)).text() == "from elsewhere"
        await mqtt.publish("flag", "x", retain=True)
        assert (await anext(flag)).retain


@pytest.mark.parametrize(
    "options",
    [
        *({"ack": "later"}, {"workers": 0}, {"workers": True}, {"retain_handling": "sometimes"}, {"no_local": 1}),
        *({"retain_as_published": "no"}, {"qos": 3}),
    ],
)
async def test_a_bad_option_raises_at_the_call(options: Any) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        with pytest.raises(MessageInvalid):
            mqtt.subscribe("in", **options)
        with pytest.raises(MessageInvalid, match="share"):
            mqtt.subscribe("$share/g/in", no_local=True)


async def test_a_bad_declaration_raises_before_anything_starts() -> None:
    async with anyio.create_task_group() as nursery:
        with pytest.raises(MessageInvalid):
            MQTTInterface(CONFIG, nursery, subscriptions=["a#"])


# --------------------------------------------------------------------------------------- what a message knows


async def test_a_message_knows_its_topic_and_what_matches_it() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt, mqtt.subscribe("a/#") as messages:
        rehearsal.broker.publish("a//c", b"x", qos=1)
        message = await anext(messages)
        assert message.topic_levels == ("a", "", "c")
        assert message.matches("a/+/c")
        assert not message.matches("a/c")
        with pytest.raises(MessageInvalid):
            message.matches("a#")
        assert "x" not in repr(message).split("bytes")[0].removeprefix("<ReceivedMessage on 'a//c'")


async def test_a_flood_at_qos_0_keeps_the_newest_within_its_bounds_and_is_told_once(records: Any) -> None:
    """FAULTS.md, "slow consumer", at QoS 0."""
    config = Config(client_id="receiver", reconnection=RECONNECTION, receive_queue_size=200)
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(config) as mqtt, mqtt.subscribe("in", qos=0) as messages:
        for number in range(1_000):
            rehearsal.broker.publish("in", b"%d" % number, qos=0)
        await anyio.sleep(1.0)
        assert (mqtt.stats["unhandled"], mqtt.stats["inbound_dropped"]) == (200, 800)
        got = [(await anext(messages)).json() for _ in range(200)]
        assert got[64:] == list(range(864, 1_000)), "what waits is the newest"
        assert records.levels("subscription overflows") == ["WARNING"]
