"""Properties of messages, both ways, and the topic aliases that a link may use (MQTT 5 sections 3.3.2.3 and 3.3.2.3.4)."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from hawk import Config, MessageInvalid, Properties, ReceivedMessage, ReconnectionConfig, Refused
from hawk.testing.broker import Broker
from hawk.testing.rehearsal import Rehearsal

CONFIG = Config(
    client_id="writer",
    reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=1.0, max_retry_delay=4.0),
)
WHOLE = Properties(
    expiry_s=60.0,
    text=True,
    content_type="text/plain",
    response_topic="answers/\u00e9",
    correlation_data=b"\x00\xff",
    user=(("n", "v"), ("n", ""), ("", "\u00e9")),
)


async def take(messages: Any) -> ReceivedMessage:
    """The next message, within a minute."""
    with anyio.fail_after(60.0):
        message = await anext(messages)
    assert isinstance(message, ReceivedMessage)
    return message


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_properties_arrive_as_they_were_sent_whichever_way_they_were_handed_over(qos: int) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        await mqtt.connect()
        async with mqtt.subscribe("a/#", qos=2) as messages:
            await mqtt.publish("a/1", "one", qos=qos, properties=WHOLE)
            await mqtt.publish_many([("a/2", "two"), ("a/3", "three")], qos=qos, properties=WHOLE)
            mqtt.publish_nowait("a/4", "four", qos=qos, properties=WHOLE)
            await mqtt.publish("a/5", "five", qos=qos)
            received = [await take(messages) for _ in range(5)]
        assert [each.topic for each in received] == ["a/1", "a/2", "a/3", "a/4", "a/5"]
        assert [each.properties for each in received] == [WHOLE] * 4 + [Properties()]


async def test_bad_properties_are_told_to_the_sender_and_counted_and_nothing_is_accepted() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        await mqtt.connect()
        bad = Properties(content_type="a\0")
        with pytest.raises(MessageInvalid, match="content_type has a NUL"):
            await mqtt.publish("a", "x", properties=bad)
        with pytest.raises(MessageInvalid, match="content_type has a NUL"):
            mqtt.publish_nowait("a", "x", properties=bad)
        with pytest.raises(MessageInvalid, match="is UTF-8"):
            await mqtt.publish_many([("a", "good"), ("a", b"\xff")], properties=Properties(text=True))
        assert mqtt.stats["messages_failed"] == 3
        assert mqtt.stats["accepted"] == 0


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_properties_count_against_the_maximum_packet_size_to_the_byte(qos: int) -> None:
    """What does not fit is a dead letter with MQTT's reason, and the link stays."""
    head_bytes = 2 + 2 + len("a") + (2 if qos else 0) + 1 + len("x")
    fits = Properties(content_type="c" * (100 - head_bytes - 3))
    exceeds = Properties(content_type="c" * (100 - head_bytes - 2))
    async with Rehearsal(broker=Broker(maximum_packet_size=100)) as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        await mqtt.connect()
        receipt = await mqtt.publish("a", "x", qos=qos, properties=exceeds)
        with pytest.raises(Refused) as refused:
            await receipt.acknowledged()
        assert refused.value.reason_code == 0x95
        await (await mqtt.publish("a", "x", qos=qos, properties=fits)).acknowledged()
        assert mqtt.stats["dead_lettered"] == 1
        assert mqtt.stats["total_disconnections"] == 0
        assert len(rehearsal.broker.received()) == 1


async def test_properties_count_against_the_bound_of_the_outbox() -> None:
    config = Config(broker="nowhere", message_queue_bytes=1000, overflow="reject")
    async with Rehearsal() as rehearsal:
        await rehearsal.broker.kill()
        async with rehearsal.open_mqtt(config) as mqtt:
            heavy = Properties(correlation_data=bytes(900))
            await mqtt.publish("a", "x", properties=heavy)
            assert mqtt.stats["queued"] == 1
            with pytest.raises(Exception, match="wait in the outbox"):
                await mqtt.publish("a", "x", properties=heavy)


@pytest.mark.parametrize("sessions", ["kept", "lost"])
@pytest.mark.parametrize("topic_alias_maximum", [1, 3, 65_535])
async def test_aliases_change_nothing_of_what_arrives_over_links_that_are_cut(
    sessions: str, topic_alias_maximum: int
) -> None:
    """An alias of an earlier link would reach the broker as an unknown one, or as another topic."""
    broker = Broker(topic_alias_maximum=topic_alias_maximum)
    config = replace(CONFIG, max_inflight=8)  # so that a link lives to hear some acknowledgements
    async with Rehearsal(seed=5, broker=broker) as rehearsal, rehearsal.open_mqtt(config) as mqtt:
        sent = []
        rehearsal.network.cut_after(700)  # every link carries so much, and mostly ends inside a packet
        for number in range(300):
            if number % 30 == 0:
                await mqtt.connect()
                if sessions == "lost" and number == 150:
                    await broker.kill()
                    await broker.restart(sessions="lose")
            topic = f"boat/{number * 7 % 5}"
            sent.append((topic, b"%d" % number))
            await mqtt.publish(topic, b"%d" % number, qos=1 + number % 2)
        with anyio.fail_after(3600.0):
            while mqtt.stats["queue_size"]:
                await anyio.sleep(1.0)
        rehearsal.network.cut_after(None)
        await (await mqtt.publish("boat/last", b"")).acknowledged()
        assert mqtt.stats["total_disconnections"] >= 5
        assert set(broker.received()) == {*sent, ("boat/last", b"")}
        goodbyes = [record for record in broker.records if record.packet == "DISCONNECT" and record.direction == "out"]
        assert goodbyes == [], "the broker had nothing to complain about"
        assert mqtt.stats["dead_lettered"] == 0
