"""What the broker does with CONNECT and with the messages of clients: acknowledgements, limits, malformed bytes."""

from typing import Any

import anyio
import mqtt5
import pytest
from mqtt5 import PubCompPacket, PublishPacket, PubRecPacket, PubRelPacket, QoS, Will

from hawk.testing.broker import Broker

pytestmark = pytest.mark.anyio


async def test_connack_tells_the_limits(dial: Any) -> None:
    async with Broker(
        receive_maximum=7,
        maximum_packet_size=1000,
        maximum_qos=1,
        retain_available=False,
        topic_alias_maximum=3,
        server_keep_alive_s=17,
    ) as broker:
        connack = (await dial(broker, "")).connack
        assert (connack.receive_max, connack.max_packet_size, int(connack.max_qos)) == (7, 1000, 1)
        assert (connack.retain_available, connack.topic_alias_max, connack.server_keep_alive) == (False, 3, 17)
        assert connack.assigned_client_id in broker.sessions


async def test_assigned_client_identifiers_differ(dial: Any) -> None:
    async with Broker() as broker:
        first, second = await dial(broker, ""), await dial(broker, "")
        assert first.connack.assigned_client_id != second.connack.assigned_client_id


@pytest.mark.parametrize(
    ("username", "password", "code"),
    [("ada", b"secret", 0), ("ada", b"wrong", 0x86), ("eve", b"secret", 0x86), (None, None, 0x86)],
)
async def test_only_known_users_enter(dial: Any, username: str | None, password: bytes | None, code: int) -> None:
    async with Broker(users={"ada": "secret"}) as broker:
        client = await dial(broker, username=username, password=password)
        assert int(client.connack.reason_code) == code
        if code:
            await client.receive_end()
            assert not broker.sessions
        else:
            await client.ping()


async def test_enhanced_authentication_is_not_offered(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, authentication_method="SCRAM-SHA-1")
        assert int(client.connack.reason_code) == 0x8C


async def test_everything_before_connect_and_a_second_connect_are_refused(dial: Any, raw_client: Any) -> None:
    async with Broker() as broker:
        early = raw_client(broker.connect())
        await early.send(mqtt5.PingReqPacket())
        await early.receive_end()
        client = await dial(broker)
        await client.send(mqtt5.ConnectPacket("client"))
        assert await client.receive_disconnect() == 0x82


async def test_qos_1_is_acknowledged_and_qos_0_is_not(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.send(PublishPacket("a", b"0"), PublishPacket("a", b"1", qos=QoS(1), packet_id=9))
        assert await client.receive() == mqtt5.PubAckPacket(9)
        await client.ping()
        assert broker.received() == [("a", b"0"), ("a", b"1")]


async def test_all_publishes_of_one_read_are_answered_in_one_write(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.send(*(PublishPacket("a", b"x", qos=QoS(1), packet_id=i) for i in range(1, 101)))
        assert await client.stream.receive() == b"".join(mqtt5.PubAckPacket(i).write() for i in range(1, 101))


async def test_packets_survive_any_slicing(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        data = PublishPacket("a", bytes(300), qos=QoS(1), packet_id=1).write() + mqtt5.PingReqPacket().write()
        for byte in data:
            await client.stream.send(bytes([byte]))
        assert await client.receive() == mqtt5.PubAckPacket(1)
        assert await client.receive() == mqtt5.PingRespPacket()
        assert broker.received() == [("a", bytes(300))]


async def test_a_large_packet_in_many_reads_arrives_whole(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.publish("a", bytes(3_000_000), 1, 1)
        assert await client.receive() == mqtt5.PubAckPacket(1)
        assert broker.received() == [("a", bytes(3_000_000))]


async def test_qos_2_is_taken_once_until_its_pubrel(dial: Any) -> None:
    async with Broker() as broker:
        reader = await dial(broker, "reader")
        await reader.subscribe("a")
        client = await dial(broker, session_expiry_interval=60)
        await client.publish("a", b"once", 2, 5)
        assert await client.receive() == PubRecPacket(5)
        # The identifiers live in the session: a repeat on the next connection is still a repeat.
        client = await dial(broker, session_expiry_interval=60)
        assert client.connack.session_present
        await client.publish("a", b"once", 2, 5, duplicate=True)
        assert await client.receive() == PubRecPacket(5)
        await client.send(PubRelPacket(5))
        assert await client.receive() == PubCompPacket(5)
        await client.send(PubRelPacket(5))
        assert int((await client.receive()).reason_code) == 0x92
        await client.publish("a", b"twice", 2, 5)
        assert await client.receive() == PubRecPacket(5)
        assert [(await reader.receive_publish()).payload for _ in range(2)] == [b"once", b"twice"]
        assert broker.received() == [("a", b"once"), ("a", b"twice")]
        assert [arrival.repeated for arrival in broker.arrivals] == [False, True, False]


async def test_a_repeat_whose_original_never_arrived_counts_as_an_arrival(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        for payload in (b"a", b"a", b"b"):
            await client.publish("t", payload, 1, 1, duplicate=True)
            await client.receive()
        assert broker.received("client") == [("t", b"a"), ("t", b"b")]
        assert broker.received("somebody else") == []


@pytest.mark.parametrize("qos", [1, 2])
async def test_more_in_flight_than_the_receive_maximum_is_refused(dial: Any, qos: int) -> None:
    async with Broker(receive_maximum=2) as broker:
        client = await dial(broker)
        for identifier in (1, 2, 3, 4):
            await client.publish("a", b"x", 1, identifier)
            assert await client.receive() == mqtt5.PubAckPacket(identifier)
        await client.send(*(PublishPacket("a", b"x", qos=QoS(qos), packet_id=i) for i in (1, 2, 3)))
        packets = [await client.receive() for _ in range(2)]
        assert [packet.packet_id for packet in packets] == [1, 2]
        assert await client.receive_disconnect() == 0x93


async def test_a_completed_qos_2_flow_makes_room_for_the_next(dial: Any) -> None:
    async with Broker(receive_maximum=1) as broker:
        client = await dial(broker)
        for identifier in (1, 2, 3):
            await client.publish("a", b"x", 2, identifier)
            assert await client.receive() == PubRecPacket(identifier)
            await client.send(PubRelPacket(identifier))
            assert await client.receive() == PubCompPacket(identifier)


async def test_unanswered_publishes_count_against_the_receive_maximum(dial: Any) -> None:
    async with Broker(receive_maximum=2) as broker:
        broker.acknowledge(False)
        client = await dial(broker)
        for identifier in (1, 2):
            await client.publish("a", b"x", 1, identifier)
            await client.ping()
        await client.publish("a", b"x", 1, 3)
        assert await client.receive_disconnect() == 0x93


@pytest.mark.parametrize("size_bytes", [100, 1_000_000, 200_000_000])
async def test_a_packet_too_large_is_refused_at_its_header(dial: Any, size_bytes: int) -> None:
    async with Broker(maximum_packet_size=100) as broker:
        client = await dial(broker)
        await client.stream.send(PublishPacket("a", bytes(size_bytes)).write()[:200])
        assert await client.receive_disconnect() == 0x95


async def test_a_packet_of_just_the_maximum_size_passes(dial: Any) -> None:
    async with Broker(maximum_packet_size=100) as broker:
        client = await dial(broker)
        packet = PublishPacket("a", bytes(94))
        assert len(packet.write()) == 100
        await client.send(packet)
        await client.ping()
        assert broker.received() == [("a", bytes(94))]


async def test_maximum_qos_and_retain_available_are_enforced(dial: Any) -> None:
    async with Broker(maximum_qos=1, retain_available=False) as broker:
        client = await dial(broker)
        assert await client.subscribe(mqtt5.TopicFilter("a", max_qos=QoS(2))) == [1]
        await client.publish("a", b"x", 2, 1)
        assert await client.receive_disconnect() == 0x9B
        client = await dial(broker)
        await client.publish("a", b"x", retain=True)
        assert await client.receive_disconnect() == 0x9A
        assert int((await dial(broker, will=Will("w", qos=QoS(2)))).connack.reason_code) == 0x9B
        assert int((await dial(broker, will=Will("w", retain=True))).connack.reason_code) == 0x9A


async def test_topic_aliases_are_resolved_and_limited(dial: Any) -> None:
    async with Broker(topic_alias_maximum=1) as broker:
        client = await dial(broker)
        await client.send(PublishPacket("a", b"1", topic_alias=1), PublishPacket("", b"2", topic_alias=1))
        await client.ping()
        assert broker.received() == [("a", b"1"), ("a", b"2")]
        await client.publish("a", b"3", topic_alias=2)
        assert await client.receive_disconnect() == 0x94
        fresh = await dial(broker)
        await fresh.publish("", b"4", topic_alias=1)
        assert await fresh.receive_disconnect() == 0x82


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(
            b"\x30\x06\x00\x02\xff\xfe\x00x",
            0x81,
            # The codec panics at ill-formed UTF-8, and tells the interpreter so as well.
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
            id="ill-formed UTF-8",
        ),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 0x81),
        (b"\x00\x00", 0x81),
        (b"\x30\xff\xff\xff\xff\x01", 0x81),
        (b"\x36\x05\x00\x01a\x00\x01", 0x81),  # QoS 3
        (b"\x32\x06\x00\x01a\x00\x00\x00", 0x81),  # identifier 0
        (b"\x30\x05\x00\x01#\x00x", 0x90),
        (b"\x30\x05\x00\x01\x00\x00x", 0x90),
        (b"\xd0\x00", 0x82),  # a server's packet
        (b"\x82\x03\x00\x01\x00", 0x82),  # SUBSCRIBE of nothing
    ],
)
async def test_malformed_bytes_close_only_their_connection(dial: Any, data: bytes, code: int) -> None:
    async with Broker() as broker:
        witness, client = await dial(broker, "witness"), await dial(broker)
        await client.send(PublishPacket("a", b"before", qos=QoS(1), packet_id=1))
        await client.stream.send(data)
        assert await client.receive() == mqtt5.PubAckPacket(1)
        assert await client.receive_disconnect() == code
        await witness.ping()
        assert broker.received()[0] == ("a", b"before")
        again = await dial(broker)
        await again.ping()


async def test_garbage_before_connect_is_answered_with_nothing(raw_client: Any) -> None:
    async with Broker() as broker:
        client = raw_client(broker.connect())
        await client.stream.send(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a")
        await client.receive_end()


async def test_every_packet_is_recorded_in_order(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, clean_start=True)
        await client.subscribe("a", "b")
        await client.publish("a", b"x", 1, 3)
        await client.receive()
        await client.receive()
        await client.send(mqtt5.PubAckPacket(1), mqtt5.DisconnectPacket())
        await client.receive_end()
        seen = [(record.direction, record.packet, record.packet_identifier) for record in broker.records]
        assert seen == [
            ("in", "CONNECT", 0),
            ("out", "CONNACK", 0),
            ("in", "SUBSCRIBE", 1000),
            ("out", "SUBACK", 1000),
            ("in", "PUBLISH", 3),
            ("out", "PUBACK", 3),
            ("out", "PUBLISH", 1),
            ("in", "PUBACK", 1),
            ("in", "DISCONNECT", 0),
        ]
        assert broker.records[0].clean_start
        assert broker.records[2].filters == ("a", "b")
        assert {(record.client_identifier, record.connection) for record in broker.records} == {("client", 1)}


async def test_without_record_nothing_is_kept(dial: Any) -> None:
    async with Broker(record=False) as broker:
        client = await dial(broker)
        await client.publish("a", b"x", 1, 1)
        await client.receive()
        assert broker.records == []


async def test_two_clients_do_not_wait_for_each_other(dial: Any) -> None:
    """One client that reads nothing holds up neither the broker nor the others."""
    async with Broker() as broker:
        deaf, client = await dial(broker, "deaf"), await dial(broker)
        await deaf.subscribe("a")
        for _ in range(20):
            await client.publish("a", bytes(60_000), 1, 1)
            assert await client.receive() == mqtt5.PubAckPacket(1)
        with anyio.fail_after(2):
            for _ in range(20):
                assert len((await deaf.receive_publish()).payload) == 60_000
