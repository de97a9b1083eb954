"""What the broker sends to subscribers: routing, QoS 1 and 2, sessions, retained messages, wills."""

from typing import Any

import mqtt5
import pytest
from mqtt5 import (
    DisconnectPacket,
    PubAckPacket,
    PubCompPacket,
    PublishPacket,
    PubRecPacket,
    PubRelPacket,
    QoS,
    RetainHandling,
    TopicFilter,
    Will,
)

from hawk.testing.broker import Broker, SessionView

pytestmark = pytest.mark.anyio


async def test_messages_reach_whoever_subscribed(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        assert await client.subscribe("a/+", "b/#", "$share//x", "$share/+/x") == [2, 2, 0x8F, 0x8F]
        for topic in ("a", "b", "a/x/y", "$b/x", "b/x/y", "a/x"):
            broker.publish(topic, b"x")
        assert [(await client.receive_publish()).topic for _ in range(3)] == ["b", "b/x/y", "a/x"]
        await client.ping()


async def test_a_leading_wildcard_does_not_match_dollar_topics(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.subscribe("#", "+/a")
        broker.publish("$SYS/a", b"x")
        await client.ping()
        await client.subscribe("$SYS/#")
        broker.publish("$SYS/a", b"x")
        assert (await client.receive_publish()).topic == "$SYS/a"


async def test_overlapping_filters_give_one_copy_at_the_highest_qos(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.subscribe(TopicFilter("a/#", max_qos=QoS(0)), identifier=7)
        await client.subscribe(TopicFilter("a/+", max_qos=QoS(1)), identifier=8)
        broker.publish("a/b", b"x", qos=2)
        packet = await client.receive_publish()
        assert (int(packet.qos), sorted(packet.subscription_ids)) == (1, [7, 8])
        await client.ping()


async def test_unsubscribe_ends_delivery(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.subscribe("a", "b")
        broker.publish("a", b"x")
        await client.receive_publish()
        await client.send(mqtt5.UnsubscribePacket(2, ["a", "never"]))
        unsuback = await client.receive()
        assert [int(code) for code in unsuback.reason_codes] == [0, 0x11]
        broker.publish("a", b"x")
        broker.publish("b", b"x")
        assert (await client.receive_publish()).topic == "b"
        assert broker.sessions["client"].subscriptions == {"b": 2}


async def test_no_local_keeps_a_client_from_hearing_itself(dial: Any) -> None:
    async with Broker() as broker:
        client, other = await dial(broker), await dial(broker, "other")
        await client.subscribe(TopicFilter("a", no_local=True))
        await client.publish("a", b"own")
        await client.ping()
        await other.publish("a", b"foreign")
        assert (await client.receive_publish()).payload == b"foreign"


async def test_a_shared_subscription_gives_each_message_to_one_member_in_turn(dial: Any) -> None:
    async with Broker() as broker:
        members = [await dial(broker, name, session_expiry_interval=60) for name in ("one", "two", "three")]
        for member in members:
            await member.subscribe("$share/g/a/#")
        other = await dial(broker, "other")
        await other.subscribe("$share/h/a/b")
        for number in range(6):
            broker.publish("a/b", b"%d" % number, qos=0)
        heard = [[(await member.receive_publish()).payload for _ in range(2)] for member in members]
        assert heard == [[b"0", b"3"], [b"1", b"4"], [b"2", b"5"]]
        assert [(await other.receive_publish()).payload for _ in range(6)] == [b"%d" % number for number in range(6)]
        await members[0].stream.aclose()
        await members[1].ping()
        for number in range(2):
            broker.publish("a/b", b"%d" % number, qos=1)
        # Members that are away get nothing while others are there.
        assert {(await member.receive_publish()).payload for member in members[1:]} == {b"0", b"1"}


async def test_a_shared_subscription_cannot_be_no_local(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.send(mqtt5.SubscribePacket(1, [TopicFilter("$share/g/a", no_local=True)]))
        assert await client.receive_disconnect() == 0x82


async def test_properties_are_passed_on(dial: Any) -> None:
    async with Broker() as broker:
        reader, writer = await dial(broker, "reader"), await dial(broker, "writer")
        await reader.subscribe("a")
        properties: dict[str, Any] = {
            "payload_format_indicator": 1,
            "content_type": "text",
            "response_topic": "r",
            "correlation_data": b"c",
            "user_properties": [("k", "v"), ("k", "w")],
        }
        await writer.publish("a", b"x", **properties)
        packet = await reader.receive_publish()
        assert {name: getattr(packet, name) for name in properties} == properties


async def test_qos_1_and_2_flows_complete_and_identifiers_differ(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.subscribe("a")
        broker.publish("a", b"1", qos=1)
        broker.publish("a", b"2", qos=2)
        first, second = await client.receive_publish(), await client.receive_publish()
        assert first.packet_id != second.packet_id
        assert broker.sessions["client"].in_flight == 2
        await client.send(PubAckPacket(first.packet_id), PubRecPacket(second.packet_id))
        assert await client.receive() == PubRelPacket(second.packet_id)
        await client.send(PubCompPacket(second.packet_id))
        await client.ping()
        assert broker.sessions["client"].in_flight == 0
        await client.send(PubRecPacket(77))
        assert int((await client.receive()).reason_code) == 0x92


async def test_an_inbound_refusal_ends_a_qos_2_flow(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, receive_max=1)
        await client.subscribe("a")
        broker.publish("a", b"1", qos=2)
        broker.publish("a", b"2", qos=2)
        first = await client.receive_publish()
        await client.send(PubRecPacket(first.packet_id, reason_code=mqtt5.PubRecReasonCode.QUOTA_EXCEEDED))
        assert (await client.receive_publish()).payload == b"2"


async def test_the_clients_receive_maximum_is_obeyed_and_the_rest_waits_in_order(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, receive_max=2)
        await client.subscribe("a")
        for number in range(5):
            broker.publish("a", b"%d" % number, qos=1)
        for number in range(5):
            packet = await client.receive_publish()
            assert packet.payload == b"%d" % number
            if number:
                # One stays unacknowledged, so only one more comes each time.
                await client.ping()
                await client.send(PubAckPacket(packet.packet_id))
        await client.ping()
        assert broker.sessions["client"] == SessionView(True, {"a": 2}, queued=0, in_flight=1)


async def test_a_resumed_session_gets_everything_again_in_order(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, session_expiry_interval=60)
        await client.subscribe("a")
        for number in range(3):
            broker.publish("a", b"%d" % number, qos=1 + number % 2)
        first = [await client.receive_publish() for _ in range(3)]
        await client.send(PubRecPacket(first[1].packet_id))
        await client.receive()
        await client.stream.aclose()
        other = await dial(broker, "other")
        broker.publish("a", b"lost", qos=0)
        broker.publish("a", b"3", qos=1)
        await other.ping()
        assert broker.sessions["client"] == SessionView(False, {"a": 2}, queued=1, in_flight=3)
        client = await dial(broker, session_expiry_interval=60)
        assert client.connack.session_present
        again = [await client.receive() for _ in range(4)]
        assert again[1] == PubRelPacket(first[1].packet_id)
        publishes = [(p.payload, p.packet_id, p.duplicate) for p in again if isinstance(p, PublishPacket)]
        assert publishes[:2] == [(b"0", first[0].packet_id, True), (b"2", first[2].packet_id, True)]
        assert (publishes[2][0], publishes[2][2]) == (b"3", False)
        await client.ping()


async def test_qos_0_does_not_wait_for_the_next_connection(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, session_expiry_interval=60, receive_max=1)
        await client.subscribe("a")
        for payload, qos in ((b"in flight", 1), (b"waiting", 1), (b"lost", 0)):
            broker.publish("a", payload, qos=qos)
        await client.receive_publish()
        assert broker.sessions["client"].queued == 2
        client = await dial(broker, session_expiry_interval=60)
        assert [(await client.receive_publish()).payload for _ in range(2)] == [b"in flight", b"waiting"]
        await client.ping()


async def test_a_resumed_session_obeys_a_smaller_receive_maximum(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, session_expiry_interval=60)
        await client.subscribe("a")
        for number in range(3):
            broker.publish("a", b"%d" % number, qos=1)
            await client.receive_publish()
        client = await dial(broker, session_expiry_interval=60, receive_max=1)
        for number in range(3):
            packet = await client.receive_publish()
            assert (packet.payload, packet.duplicate) == (b"%d" % number, True)
            await client.ping()
            await client.send(PubAckPacket(packet.packet_id))
        await client.ping()
        assert broker.sessions["client"].in_flight == 0


async def test_clean_start_and_expiry_zero_end_a_session(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, session_expiry_interval=60)
        await client.subscribe("a")
        client = await dial(broker, clean_start=True)
        assert not client.connack.session_present
        assert broker.sessions["client"].subscriptions == {}
        await client.stream.aclose()
        client = await dial(broker)
        assert not client.connack.session_present


async def test_disconnect_may_change_the_expiry(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, session_expiry_interval=60)
        await client.send(DisconnectPacket(session_expiry_interval=0))
        await client.receive_end()
        assert not broker.sessions
        client = await dial(broker)
        await client.send(DisconnectPacket(session_expiry_interval=60))
        assert await client.receive_disconnect() == 0x82


async def test_a_takeover_ends_the_older_connection(dial: Any) -> None:
    async with Broker() as broker:
        older = await dial(broker, session_expiry_interval=60)
        await older.subscribe("a")
        newer = await dial(broker, session_expiry_interval=60)
        assert newer.connack.session_present
        assert await older.receive_disconnect() == 0x8E
        broker.publish("a", b"x", qos=1)
        assert (await newer.receive_publish()).payload == b"x"
        assert broker.sessions["client"].is_connected


async def test_what_is_larger_than_the_client_takes_is_not_sent(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, max_packet_size=100, receive_max=1)
        await client.subscribe("a")
        for size in (200, 10, 200):
            broker.publish("a", bytes(size), qos=1)
        packet = await client.receive_publish()
        assert len(packet.payload) == 10
        await client.send(PubAckPacket(packet.packet_id))
        await client.ping()
        assert broker.sessions["client"] == SessionView(True, {"a": 2}, queued=0, in_flight=0)


async def test_retained_messages_come_with_the_subscription(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        for topic in ("r/1", "r/2", "r/3"):
            await client.publish(topic, b"old", retain=True)
        await client.publish("r/2", b"new", retain=True)
        await client.publish("r/3", b"", retain=True)
        await client.publish("r/4", b"not retained")
        await client.subscribe("r/+")
        heard = [await client.receive_publish() for _ in range(2)]
        assert [(packet.topic, packet.payload, packet.retain) for packet in heard] == [
            ("r/1", b"old", True),
            ("r/2", b"new", True),
        ]
        await client.ping()


async def test_retain_handling_is_obeyed(dial: Any) -> None:
    async with Broker() as broker:
        broker.publish("r", b"x", retain=True)
        client = await dial(broker)
        await client.subscribe(TopicFilter("r", retain_handling=RetainHandling.SEND_NEVER))
        await client.ping()
        await client.subscribe(TopicFilter("r", retain_handling=RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS))
        await client.ping()
        await client.subscribe(TopicFilter("+", retain_handling=RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS))
        assert (await client.receive_publish()).retain
        await client.subscribe(TopicFilter("r", retain_handling=RetainHandling.SEND_ALWAYS))
        assert (await client.receive_publish()).retain
        await client.subscribe("$share/g/r")
        await client.ping()


@pytest.mark.parametrize("as_published", [False, True])
async def test_retain_as_published_decides_the_flag_of_live_messages(dial: Any, as_published: bool) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.subscribe(TopicFilter("r", retain_as_published=as_published))
        broker.publish("r", b"x", retain=True)
        assert (await client.receive_publish()).retain is as_published


@pytest.mark.parametrize(
    ("ending", "said"),
    [("eof", True), ("reset", True), ("disconnect", False), ("disconnect with will", True), ("malformed", True)],
)
async def test_a_will_is_said_unless_the_client_said_goodbye(dial: Any, ending: str, said: bool) -> None:
    async with Broker() as broker:
        reader = await dial(broker, "reader")
        await reader.subscribe("w")
        client = await dial(broker, will=Will("w", payload=b"gone", qos=QoS(1)))
        match ending:
            case "eof":
                await client.stream.aclose()
            case "reset":
                client.stream.reset()
            case "disconnect":
                await client.send(DisconnectPacket())
            case "disconnect with will":
                code = mqtt5.DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE
                await client.send(DisconnectPacket(reason_code=code))
            case "malformed":
                await client.stream.send(b"\x00\x00")
        if said:
            packet = await reader.receive_publish()
            assert (packet.payload, int(packet.qos)) == (b"gone", 1)
        else:
            await client.receive_end()
        await reader.ping()


@pytest.mark.parametrize(("delay_s", "clean_start", "said"), [(0, False, True), (60, False, False), (60, True, True)])
async def test_a_takeover_says_the_will_only_if_it_is_due(
    dial: Any, delay_s: int, clean_start: bool, said: bool
) -> None:
    async with Broker() as broker:
        reader = await dial(broker, "reader")
        await reader.subscribe("w")
        await dial(broker, session_expiry_interval=60, will=Will("w", payload=b"gone", will_delay_interval=delay_s))
        await dial(broker, session_expiry_interval=60, clean_start=clean_start)
        if said:
            assert (await reader.receive_publish()).payload == b"gone"
        await reader.ping()


async def test_the_broker_refuses_to_publish_nonsense() -> None:
    async with Broker() as broker:
        with pytest.raises(ValueError, match="qos"):
            broker.publish("a", b"", qos=3)
        with pytest.raises(ValueError, match="topic"):
            broker.publish("a\0b", b"")
