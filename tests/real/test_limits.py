"""What Mosquitto announces in its CONNACK, hawk obeys: its Receive Maximum and its Maximum Packet Size."""

from typing import Any

import anyio
import mqtt5
import pytest

import hawk

pytestmark = pytest.mark.anyio

WINDOW = 5
QUOTA_EXCEEDED = 0x97
PATIENCE_S = 20


def qos_2(identifier: int) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket("window", b"x", qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=identifier)


def test_mosquitto_refuses_what_goes_beyond_its_receive_maximum(start_mosquitto: Any, raw_client: Any) -> None:
    """The test below rests on it."""
    broker = start_mosquitto(max_inflight_messages=WINDOW)
    client = raw_client(broker.port, "greedy")
    assert client.connack.receive_max == WINDOW
    client.send(*map(qos_2, range(1, WINDOW + 2)))
    answers = [client.receive() for _ in range(WINDOW + 1)]
    client.close()
    assert all(isinstance(answer, mqtt5.PubRecPacket) for answer in answers)
    assert [int(answer.reason_code) for answer in answers] == [0] * WINDOW + [QUOTA_EXCEEDED]


async def test_receive_maximum_is_obeyed(start_mosquitto: Any) -> None:
    broker = start_mosquitto(max_inflight_messages=WINDOW)
    with anyio.fail_after(PATIENCE_S):
        # One refusal, and the message is set aside: so none came.
        async with hawk.open_mqtt(broker.url, message_retry_limit=0) as mqtt:
            await mqtt.connect()
            receipt = await mqtt.publish_many([("window", str(number)) for number in range(500)], qos=2)
            assert mqtt.stats["in_flight"] <= WINDOW
            await receipt.acknowledged()
            assert (mqtt.stats["acknowledged"], mqtt.stats["total_disconnections"]) == (500, 0)


async def test_a_packet_too_large_is_set_aside_and_the_link_stays(start_mosquitto: Any) -> None:
    broker = start_mosquitto(max_packet_size=1000)
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(broker.url) as mqtt:
            await mqtt.connect()
            large = await mqtt.publish("size", b"x" * 1000)
            small = await mqtt.publish("size", b"x" * 900)
            with pytest.raises(hawk.Refused, match="1000 bytes at most"):
                await large.acknowledged()
            await small.acknowledged()
            stats = mqtt.stats
    assert (stats["dead_lettered"], stats["acknowledged"], stats["total_disconnections"]) == (1, 1, 0)
