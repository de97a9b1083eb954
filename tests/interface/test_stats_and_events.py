"""What an operator reads: `stats`, `connection_state`, `events()` and the log (SPEC.md "Monitoring", C10)."""

import gc
from typing import Any

import anyio
import pytest

from hawk import (
    Config,
    ConnectionState,
    EventStream,
    FateKind,
    GaveUp,
    MessageSettled,
    Missed,
    MQTTInterface,
    ReconnectionConfig,
    StateChanged,
)
from hawk.testing.broker import Broker
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import run

RECONNECTION = ReconnectionConfig(max_retries=3, initial_retry_delay=1.0, max_retry_delay=8.0, jitter_factor=0.0)
CONFIG = Config(reconnection=RECONNECTION)

SPEC_KEYS = {
    "connection_state": str,
    "total_connections": int,
    "total_disconnections": int,
    "total_reconnections": int,
    "messages_published": int,
    "messages_queued": int,
    "messages_failed": int,
    "consecutive_failures": int,
    "queue_size": int,
    "last_connection_attempt": float,
}
"""SPEC.md, "Statistics"."""

C4_OUT = (
    *("acknowledged", "sent", "dead_lettered", "expired", "dropped", "superseded", "unknown", "damaged", "abandoned"),
    *("queued", "in_flight"),
)


def of_spec(mqtt: MQTTInterface) -> dict[str, Any]:
    """SPEC.md's keys that count, without the time; and C4 on the way."""
    stats: dict[str, Any] = dict(mqtt.stats)
    assert stats["recovered"] + stats["accepted"] + stats["replayed"] == sum(stats[key] for key in C4_OUT)
    return {key: stats[key] for key in SPEC_KEYS if key != "last_connection_attempt"}


async def collect(events: EventStream, into: list[Any]) -> None:
    """Read until hawk disconnects."""
    keep = into.append
    async for event in events:
        keep(event)


# ------------------------------------------------------------------------------------------- stats


async def test_the_ten_keys_of_the_specification_are_there_from_the_start_with_their_types() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        assert set(SPEC_KEYS) <= set(mqtt.stats)
        assert mqtt.stats["last_connection_attempt"] is None
        await mqtt.connect()
        stats: dict[str, Any] = dict(mqtt.stats)
        for key, kind in SPEC_KEYS.items():
            assert type(stats[key]) is kind, key
        assert stats["last_connection_attempt"] == 1_700_000_000.0
        await mqtt.disconnect()


async def test_the_ten_keys_over_an_outage() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        expected: dict[str, Any] = {
            "connection_state": "connected", "total_connections": 1, "total_disconnections": 0,
            "total_reconnections": 0, "messages_published": 0, "messages_queued": 0, "messages_failed": 0,
            "consecutive_failures": 0, "queue_size": 0,
        }  # fmt: skip
        await mqtt.connect()
        assert of_spec(mqtt) == expected

        await (await mqtt.publish("a", "goes out at once")).acknowledged()
        await (await mqtt.publish("a", "at QoS 0 too", qos=0)).acknowledged()
        assert of_spec(mqtt) == expected | {"messages_published": 2}

        rehearsal.network.refuse()
        rehearsal.network.reset_all()
        await anyio.sleep(0.5)
        down = expected | {"connection_state": "reconnecting", "messages_published": 2, "total_disconnections": 1}
        assert of_spec(mqtt) == down
        for number in range(5):
            await mqtt.publish("a", number)
            assert of_spec(mqtt) == down | {"messages_queued": number + 1, "queue_size": number + 1}
        await anyio.sleep(3.0)
        waiting = down | {"messages_queued": 5, "queue_size": 5}
        assert of_spec(mqtt) == waiting | {"consecutive_failures": 2}
        assert mqtt.stats["last_connection_attempt"] == 1_700_000_003.0

        rehearsal.network.allow()
        await anyio.sleep(5.0)
        healed = waiting | {
            "connection_state": "connected", "total_connections": 2, "total_reconnections": 1, "messages_published": 7,
            "queue_size": 0,
        }  # fmt: skip
        assert of_spec(mqtt) == healed

        rehearsal.broker.answer_publishes_with(0x87)
        refused = await mqtt.publish("a", "refused")
        with pytest.raises(Exception, match="Not authorized"):
            await refused.acknowledged()
        with pytest.raises(ValueError, match="JSON"):
            await mqtt.publish("a", {1, 2})
        assert of_spec(mqtt) == healed | {"messages_failed": 2}
        await mqtt.disconnect()
        assert of_spec(mqtt) == healed | {
            "messages_failed": 2, "connection_state": "disconnected", "total_disconnections": 2,
        }  # fmt: skip


async def test_consecutive_failures_count_up_to_failed_and_end_at_connected() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        rehearsal.network.refuse()
        with pytest.raises(GaveUp):
            await mqtt.connect()
        assert (mqtt.stats["consecutive_failures"], mqtt.stats["total_connections"]) == (4, 0)
        assert mqtt.stats["total_disconnections"] == 0, "what never was up cannot end"
        rehearsal.network.allow()
        await mqtt.connect()
        assert (mqtt.stats["consecutive_failures"], mqtt.stats["total_reconnections"]) == (0, 0)


async def usage_examples(seed: int) -> None:
    """SPEC.md, "Usage Examples", line by line; some seeds publish before they connect."""
    async with Rehearsal(seed=seed) as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG, keeper_inbox=1 if seed % 3 else 1024))
        assert mqtt.connection_state is ConnectionState.DISCONNECTED
        early = seed % 2
        if early:
            await mqtt.publish("sensors/early", None)
            assert (mqtt.stats["accepted"], mqtt.stats["messages_queued"], mqtt.stats["queue_size"]) == (1, 1, 1)

        await mqtt.connect()
        assert mqtt.connection_state == ConnectionState.CONNECTED
        stats = mqtt.stats
        assert (stats["connection_state"], stats["total_connections"]) == ("connected", 1)
        assert (stats["consecutive_failures"], stats["total_reconnections"]) == (0, 0)
        assert stats["messages_queued"] == early

        receipt = await mqtt.publish("sensors/temperature", {"value": 23.5})
        stats = mqtt.stats
        assert stats["accepted"] == 1 + early
        assert stats["queue_size"] + stats["messages_published"] == 1 + early

        if seed % 5 == 0:
            await receipt.acknowledged()
            assert mqtt.stats["messages_published"] >= 1

        report = await mqtt.disconnect()
        assert report.abandoned == report.kept == 0
        assert mqtt.connection_state is ConnectionState.DISCONNECTED
        stats = mqtt.stats
        assert (stats["connection_state"], stats["total_disconnections"]) == ("disconnected", 1)
        assert (stats["messages_published"], stats["queue_size"]) == (1 + early, 0)
        arrived = [("sensors/early", b"null")] * early + [("sensors/temperature", b'{"value":23.5}')]
        assert rehearsal.broker.received() == arrived


def test_the_usage_examples_read_their_own_writes_under_a_thousand_interleavings() -> None:
    for seed in range(1000):
        run(usage_examples, seed, backend="trio", seed=seed)


def test_the_usage_examples_read_their_own_writes_on_asyncio() -> None:
    for seed in range(100):
        run(usage_examples, seed, backend="asyncio", seed=seed)


async def test_messages_queued_never_falls() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        rehearsal.network.latency_s = 0.05
        highest = 0
        for number in range(400):
            await mqtt.publish("n", number)
            if number % 100 == 50:
                rehearsal.network.reset_all()
            await anyio.sleep(0.01)
            queued = mqtt.stats["messages_queued"]
            assert queued >= highest, number
            highest = queued
        assert highest
        rehearsal.network.latency_s = 0.0


# ------------------------------------------------------------------------------------------ events


async def test_events_tell_every_state_change_and_every_fate_in_order_and_end_at_disconnect() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        seen: list[Any] = []
        nursery.start_soon(collect, mqtt.events(), seen)
        rehearsal.broker.answer_publishes_with(0x87, topic="secret")
        await mqtt.connect()
        for topic in ("a", "secret", "b"):
            await mqtt.publish(topic, "x")
        await (await mqtt.publish("c", "x", qos=0)).acknowledged()
        await anyio.sleep(0.1)
        rehearsal.network.refuse()
        rehearsal.network.reset_all()
        await anyio.sleep(0.1)
        await mqtt.publish("d", "x", qos=2)
        await anyio.sleep(1.5)
        rehearsal.network.allow()
        await anyio.sleep(5.0)
        await mqtt.disconnect()
        await anyio.sleep(0.1)

        states = [(each.before.value, each.after.value) for each in seen if isinstance(each, StateChanged)]
        assert states == [
            ("disconnected", "connecting"),
            ("connecting", "connected"),
            ("connected", "reconnecting"),
            ("reconnecting", "connected"),
            ("connected", "disconnected"),
        ]
        causes = [str(each.cause or "") for each in seen if isinstance(each, StateChanged)]
        assert causes[2].startswith("reset by peer")
        assert not causes[0]
        fates = [(each.topic, each.qos, each.fate.kind) for each in seen if isinstance(each, MessageSettled)]
        assert sorted(fates[:4], key=lambda fate: fate[0]) == [
            ("a", 1, FateKind.ACKNOWLEDGED),
            ("b", 1, FateKind.ACKNOWLEDGED),
            ("c", 0, FateKind.SENT),
            ("secret", 1, FateKind.DEAD_LETTERED),
        ]
        assert [fate for fate in fates[:4] if fate[1]] == [
            ("a", 1, FateKind.ACKNOWLEDGED),
            ("secret", 1, FateKind.DEAD_LETTERED),
            ("b", 1, FateKind.ACKNOWLEDGED),
        ]
        assert fates[4:] == [("d", 2, FateKind.ACKNOWLEDGED)]
        assert len(seen) == len(states) + len(fates)


async def test_events_tell_what_a_stop_abandoned() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        rehearsal.network.refuse()
        seen: list[Any] = []
        await mqtt.publish("a", "x")
        nursery.start_soon(collect, mqtt.events(), seen)
        await anyio.sleep(0.1)
        await mqtt.disconnect(drain_s=0)
        await anyio.sleep(0.1)
        assert [each.fate.kind for each in seen if isinstance(each, MessageSettled)] == [FateKind.ABANDONED]


async def test_a_slow_reader_learns_how_much_it_missed_and_holds_nobody_up() -> None:
    config = Config(message_queue_size=20_000)
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(config) as mqtt:
        await mqtt.connect()
        events = mqtt.events()
        quick: list[Any] = []
        async with anyio.create_task_group() as readers:
            readers.start_soon(collect, mqtt.events(), quick)
            await (await mqtt.publish_many([("n", b"x")] * 12_000)).acknowledged()
            await anyio.sleep(0.1)
            slow = [await anext(events) for _ in range(5_000)]
            await (await mqtt.publish("after", "x")).acknowledged()
            await mqtt.disconnect()
        slow += [event async for event in events]
        missed = [event.events for event in slow if isinstance(event, Missed)]
        assert sum(missed) + sum(1 for event in slow if isinstance(event, MessageSettled)) == 12_001
        assert sum(missed) >= 1_000
        after = [event for event in slow if isinstance(event, MessageSettled) and event.topic == "after"]
        assert len(after) == 1, "once it reads again it is told again"
        told = sum(1 for event in quick if isinstance(event, MessageSettled))
        assert told + sum(event.events for event in quick if isinstance(event, Missed)) == 12_001


async def test_two_readers_see_the_same_and_one_that_leaves_takes_nothing_along() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        first: list[Any] = []
        second: list[Any] = []
        leaving, staying = mqtt.events(), mqtt.events()
        nursery.start_soon(collect, staying, second)
        await mqtt.connect()
        first += [await anext(leaving), await anext(leaving)]
        leaving.close()
        leaving.close()
        with pytest.raises(StopAsyncIteration):
            await anext(leaving)
        await (await mqtt.publish("a", "x")).acknowledged()
        await mqtt.disconnect()
        await anyio.sleep(0.1)
        assert second[:2] == first
        assert [type(each) for each in second] == [StateChanged, StateChanged, MessageSettled, StateChanged]


async def test_a_reader_that_is_let_go_is_forgotten_and_the_next_one_hears_everything() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        await mqtt.connect()
        for _ in range(3):
            let_go = mqtt.events()
            await (await mqtt.publish("first", "x")).acknowledged()
            async for _event in let_go:
                break
            del let_go
            gc.collect()
            await (await mqtt.publish("nobody", "reads")).acknowledged()
            events = mqtt.events()
            await (await mqtt.publish("somebody", "reads")).acknowledged()
            await anyio.sleep(0.1)
            event = await anext(events)
            assert isinstance(event, MessageSettled)
            assert event.topic == "somebody"
            del events
        await mqtt.disconnect()


async def test_a_cancelled_read_loses_no_event() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        events = mqtt.events()
        seen: list[Any] = []
        rehearsal.network.latency_s = 0.05
        nursery.start_soon(mqtt.connect)
        while len(seen) < 2:
            with anyio.move_on_after(0.001):
                seen.append(await anext(events))
            await anyio.sleep(0.1)
        assert [event.after.value for event in seen] == ["connecting", "connected"]
        rehearsal.network.latency_s = 0.0
        await mqtt.disconnect()
        events.close()


async def test_a_reader_hears_the_next_run_when_it_is_opened_between_two() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        await mqtt.connect()
        await mqtt.disconnect()
        events, seen = mqtt.events(), []
        nursery.start_soon(collect, events, seen)
        await anyio.sleep(1.0)
        await mqtt.connect()
        await mqtt.disconnect()
        await anyio.sleep(0.1)
        assert [event.after.value for event in seen] == ["connecting", "connected", "disconnected"]


# ------------------------------------------------------------------------------------------ the log


async def test_the_log_has_the_levels_of_the_specification(records: Any) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        await mqtt.connect()
        rehearsal.network.refuse()
        rehearsal.network.reset_all()
        await anyio.sleep(1.5)
        rehearsal.network.allow()
        await mqtt.connect()
        rehearsal.network.refuse()
        rehearsal.network.reset_all()
        await anyio.sleep(60.0)
        assert mqtt.connection_state is ConnectionState.FAILED
    assert records.levels("connected") == ["INFO"]
    assert records.levels("reconnected") == ["INFO"]
    assert records.levels("connection lost") == ["WARNING", "WARNING"]
    assert records.levels("connection attempt failed") == ["WARNING"] * 5
    assert records.levels("connection failed") == ["ERROR"]
    assert set(records.levels("connection state")) == {"DEBUG"}
    assert len(records.of("connection state")) == 6


async def test_no_record_no_event_and_no_repr_holds_a_payload_or_a_password(records: Any) -> None:
    config = Config(
        username="me", password="hunter2", message_queue_size=3, message_retry_limit=0, reconnection=RECONNECTION
    )
    broker = Broker(users={"me": "hunter2"})
    async with Rehearsal(broker=broker) as rehearsal, rehearsal.open_mqtt(config) as mqtt:
        shown: list[object] = [mqtt, config]
        events: list[Any] = []
        async with anyio.create_task_group() as readers:
            readers.start_soon(collect, mqtt.events(), events)
            await mqtt.connect()
            broker.answer_publishes_with(0x87, topic="refused")
            async with mqtt.subscribe("in") as messages:
                broker.publish("in", b"hunter2", qos=1)
                shown += [messages, await anext(messages)]
                shown.append(await mqtt.publish("refused", "hunter2"))
                shown.append(await mqtt.publish("passed", {"password": "hunter2"}, qos=2))
                await anyio.sleep(1.0)
                rehearsal.network.refuse()
                rehearsal.network.reset_all()
                await anyio.sleep(0.1)
                for _ in range(6):
                    shown.append(await mqtt.publish("dropped", b"hunter2"))
                rehearsal.network.allow()
                broker.refuse_with(0x86)
                await anyio.sleep(3.0)
                broker.refuse_with(None)
                await anyio.sleep(8.0)
            for bad in ({"hunter2"}, {"x": "hunter2\ud800"}, ["hunter2", float("nan")]):
                with pytest.raises(ValueError, match="payload") as caught:
                    await mqtt.publish("bad", bad)  # type: ignore[arg-type]
                shown.append(caught.value)
            shown += [mqtt.stats, await mqtt.disconnect()]
        assert records.of("message refused")
        assert records.of("messages dropped")
        assert records.of("connection attempt failed")
        assert "hunter2" not in records.text()
        assert "hunter2" not in repr(events)
        assert "hunter2" not in " ".join(f"{each!r} {each}" for each in shown)


async def test_a_reader_that_is_full_at_the_end_learns_how_many_it_missed() -> None:
    """Every event is told or counted, also those that found no room before a disconnect."""
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        await mqtt.connect()
        slow = mqtt.events()
        for _ in range(12):
            await (await mqtt.publish_many([("a", "x")] * 1_000)).acknowledged()
        await mqtt.disconnect()
        events = [event async for event in slow]
        assert isinstance(events[-1], Missed)
        # 12,000 fates, and the change to DISCONNECTED.
        assert len(events[:-1]) + events[-1].events == 12_001
