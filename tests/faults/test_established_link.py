"""Faults of an established link: it dies, falls silent, speaks nonsense, or is slow. Guards C2, C4, C6 and C9."""

import logging
from itertools import pairwise
from typing import Any

import anyio
import mqtt5
import pytest

from hawk import ConnectionState

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")

CONNECTED, FAILED, RECONNECTING = ConnectionState.CONNECTED, ConnectionState.FAILED, ConnectionState.RECONNECTING
INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR

KEEP_ALIVE_S, PING_TIMEOUT_S = 10.0, 4.0
FOUND_WITHIN_S = 1.5 * KEEP_ALIVE_S + PING_TIMEOUT_S

DISCONNECT_CODES = [
    *(0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8D, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98),
    *(0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2, 0x00),
]
SLOW_CODES = {0x89, 0x97, 0x9F}


def publish(topic: bytes = b"down", *, first: int = 0x30, identifier: bytes = b"", properties: bytes = b"\0") -> bytes:
    """A PUBLISH of any kind, whole as far as its length goes."""
    body = len(topic).to_bytes(2, "big") + topic + identifier + properties + b"phantom"
    return bytes((first, len(body))) + body


NONSENSE = {
    "type 0": (b"\x00\x00", 0x81),
    "flags of PUBACK": (b"\x41\x02\x00\x01", 0x81),
    "flags of PUBREL": (b"\x60\x02\x00\x01", 0x81),
    "flags of PINGRESP": (b"\xd1\x00", 0x81),
    "flags of SUBACK": (b"\x92\x04\x00\x01\x00\x00", 0x81),
    "a length of five bytes": (b"\x30\xff\xff\xff\xff\x7f", 0x81),
    "a length longer than needed": (b"\x40\x82\x00\x00\x01", 0x81),
    "random bytes": (bytes.fromhex("93a1c4778e21bb09d2fa"), 0x81),
    "HTTP": (b"HTTP/1.1 200 OK\r\n\r\n", 0x81),
    "QoS 3": (publish(first=0x36, identifier=b"\0\1"), 0x81),
    "DUP at QoS 0": (publish(first=0x38), 0x81),
    "PUBLISH with identifier 0": (publish(first=0x32, identifier=b"\0\0"), 0x82),
    "PUBACK with identifier 0": (b"\x40\x02\x00\x00", 0x82),
    "PUBREC with identifier 0": (b"\x50\x02\x00\x00", 0x82),
    "PUBREL with identifier 0": (b"\x62\x02\x00\x00", 0x82),
    "PUBCOMP with identifier 0": (b"\x70\x02\x00\x00", 0x82),
    "SUBACK with identifier 0": (b"\x90\x04\x00\x00\x00\x00", 0x82),
    "ill-formed UTF-8": (publish(b"\xff\xfe"), 0x81),
    "U+0000 in a topic": (publish(b"a\0b"), 0x81),
    "a wildcard topic": (publish(b"a/#"), 0x82),
    "an empty topic": (publish(b""), 0x81),
    "an unknown property": (publish(properties=b"\x02\x7f\x00"), 0x81),
    "a duplicate property": (publish(properties=b"\x04\x01\x00\x01\x00"), 0x81),
    "properties too long": (publish(properties=b"\x7f"), 0x81),
    "a topic alias": (publish(properties=b"\x03\x23\x00\x01"), 0x94),
    "a topic alias of 0": (publish(properties=b"\x03\x23\x00\x00"), 0x81),
    "a payload format of 7": (publish(properties=b"\x02\x01\x07"), 0x81),
    "a subscription identifier of 0": (publish(properties=b"\x02\x0b\x00"), 0x81),
    "an unknown reason code": (b"\x40\x04\x00\x01\xfe\x00", 0x81),
    "a SUBACK without codes": (b"\x90\x03\x00\x01\x00", 0x82),
    "an UNSUBACK without codes": (b"\xb0\x03\x00\x01\x00", 0x82),
    "CONNECT": (mqtt5.ConnectPacket("broker").write(), 0x82),
    "SUBSCRIBE": (mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("#")]).write(), 0x82),
    "UNSUBSCRIBE": (mqtt5.UnsubscribePacket(1, ["#"]).write(), 0x82),
    "PINGREQ": (mqtt5.PingReqPacket().write(), 0x82),
    "AUTH": (mqtt5.AuthPacket().write(), 0x82),
    "DISCONNECT of a client": (b"\xe0\x01\x04", 0x82),
    "DISCONNECT with a session expiry": (b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01", 0x82),
}
"""What no broker may say, and what hawk then says: Malformed Packet, Protocol Error or Topic Alias invalid.

What the codec itself refuses is told as malformed, also where MQTT 5 would rather say Protocol Error.
"""


def kinds_of(packets: list[Any]) -> list[str]:
    return [type(packet).__name__ for packet in packets]


# -------------------------------------------------------------------------------------------- it is gone


@pytest.mark.fault_row("broker SIGKILL / RST / FIN / half-close")
@pytest.mark.parametrize("manner", ["fin", "reset", "half close"])
def test_a_broker_that_goes_leaves_connected_at_once_and_gets_everything_later(rehearse: Any, manner: str) -> None:
    async def go(peer: Any) -> None:
        await peer.welcome()
        for _ in range(3):
            await peer.hear(mqtt5.PublishPacket)
        if manner == "fin":
            await peer.close()
        elif manner == "reset":
            peer.reset()
        else:
            await peer.half_close()
            await peer.hear_the_end()

    async def story(world: Any) -> None:
        await world.connect()
        for payload, qos in (("a", 1), ("b", 2), ("c", 1)):
            await world.publish(payload, qos=qos)
        await world.reach(RECONNECTING, within_s=0.5)
        down = {"total_disconnections": 1, "total_reconnections": 0, "consecutive_failures": 0, "queue_size": 3}
        world.observe(state=RECONNECTING, stats=down, level=WARNING, arrived=[], logged={"connection lost": 1})
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 3)
        up = {"total_connections": 2, "total_reconnections": 1, "queue_size": 0}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["a", "b", "c"])

    rehearse(story, go)


@pytest.mark.fault_row("graceful restart, DISCONNECT 0x8B")
def test_a_broker_that_shuts_down_is_dialled_again(rehearse: Any) -> None:
    async def shut_down(peer: Any) -> None:
        await peer.welcome()
        await peer.hear(mqtt5.PublishPacket)
        reason = mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN
        await peer.inject("DISCONNECT", mqtt5.DisconnectPacket(reason_code=reason))

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        up = {"total_disconnections": 1, "total_reconnections": 1, "consecutive_failures": 0}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["x"], logged={"connection lost": 1})
        assert "0x8b" in world.logged("connection lost")[0].getMessage()

    rehearse(story, shut_down)


def taken_over(peer: Any) -> Any:
    reason = mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER
    return peer.inject("taken over", mqtt5.DisconnectPacket(reason_code=reason))


async def be_taken_over(peer: Any) -> None:
    await peer.welcome()
    await taken_over(peer)


@pytest.mark.fault_row("DISCONNECT 0x8E taken over")
def test_the_third_takeover_within_ten_minutes_fails_and_names_the_client_identifier(rehearse: Any) -> None:
    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(FAILED)
        await anyio.sleep(3600)
        assert len(world.peer.dialled_at) == 3
        assert all(0.9 * 60 <= gap <= 60 for gap in world.gaps()), "the next dial comes after max_retry_delay"
        failed = {"total_connections": 3, "total_disconnections": 3, "queue_size": 1}
        logged = {"connection lost": 3, "connection failed": 1}
        world.observe(state=FAILED, stats=failed, level=ERROR, arrived=[], logged=logged)
        (record,) = world.logged("connection failed")
        assert "client_identifier=boat" in record.getMessage()
        assert record.hawk["client_identifier"] == "boat"

    rehearse(story, be_taken_over, be_taken_over, be_taken_over)


def test_takeovers_further_apart_are_never_given_up(rehearse: Any) -> None:
    async def hold_then_be_taken_over(peer: Any) -> None:
        await peer.welcome()
        with anyio.move_on_after(320):
            await peer.serve()
        await taken_over(peer)

    async def story(world: Any) -> None:
        await world.reach(lambda: len(world.peer.dialled_at) == 7, within_s=4000)
        await world.reach(CONNECTED)
        stats = {"total_connections": 7, "total_disconnections": 6}
        world.observe(state=CONNECTED, stats=stats, level=WARNING, arrived=[], logged={"connection failed": 0})

    rehearse(story, *[hold_then_be_taken_over] * 6)


@pytest.mark.fault_row("DISCONNECT 0x89 0x93-0x98 0xA0..")
@pytest.mark.parametrize("code", DISCONNECT_CODES)
def test_every_other_disconnect_is_answered_by_a_dial_after_backoff(rehearse: Any, code: int) -> None:
    async def say_it(peer: Any) -> None:
        await peer.welcome()
        await peer.hear(mqtt5.PublishPacket)
        await peer.inject("DISCONNECT", bytes((0xE0, 1, code)))
        await peer.hear_the_end()

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        factor = 10 if code in SLOW_CODES else 1
        assert all(
            0.9 * factor * delay <= gap <= 1.1 * factor * delay for gap, delay in zip(world.gaps(), (1, 2), strict=True)
        )
        up = {"total_connections": 3, "total_disconnections": 2, "consecutive_failures": 0, "messages_failed": 0}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["x"], logged={"connection lost": 2})
        assert all(f"0x{code:02x}" in record.getMessage() for record in world.logged("connection lost"))

    rehearse(story, say_it, say_it)


def test_every_byte_as_a_reason_code_of_disconnect_ends_the_link_and_nothing_else(rehearse: Any) -> None:
    def saying(code: int) -> Any:
        async def script(peer: Any) -> None:
            await peer.welcome()
            await peer.inject("DISCONNECT", bytes((0xE0, 2, code, 0)))
            await peer.hear_the_end()

        return script

    codes = [code for code in range(256) if code != 0x8E]

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: len(world.peer.dialled_at) == 256, within_s=30_000)
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        up = {"total_connections": 256, "total_disconnections": 255, "consecutive_failures": 0}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["x"], logged={"connection lost": 255})

    rehearse(story, *map(saying, codes), max_retry_delay=2.0)


@pytest.mark.fault_row("Server Reference in DISCONNECT")
@pytest.mark.parametrize("code", [0x9C, 0x9D])
def test_a_server_reference_of_a_disconnect_is_told_and_not_followed(rehearse: Any, code: int) -> None:
    async def move(peer: Any) -> None:
        await peer.welcome()
        reason = mqtt5.DisconnectReasonCode(code)
        elsewhere = "elsewhere.example:1883\n\x1b[31mforged"
        await peer.inject("DISCONNECT", mqtt5.DisconnectPacket(reason_code=reason, server_reference=elsewhere))

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        up = {"total_connections": 2, "total_disconnections": 1}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["x"], logged={"connection lost": 1})
        (record,) = world.logged("connection lost")
        assert record.hawk["server_reference"].startswith("elsewhere.example:1883")
        assert record.getMessage().isprintable(), "a broker must not forge lines of a log"
        (told,) = [change.cause for change in world.changes if change.after is RECONNECTING]
        assert told.server_reference == record.hawk["server_reference"]

    rehearse(story, move)


# ----------------------------------------------------------------------------------------- it is silent


@pytest.mark.fault_row("blackhole, half-open, hang")
@pytest.mark.parametrize(("keep_alive_s", "ping_timeout_s"), [(KEEP_ALIVE_S, PING_TIMEOUT_S), (1.0, 0.5)])
@pytest.mark.parametrize("sending", [False, True])
@pytest.mark.parametrize("reads", [True, False])
def test_a_silent_broker_is_found_out_also_when_hawk_sends_and_when_a_write_blocks(
    rehearse: Any,
    sending: bool,
    reads: bool,
    keep_alive_s: float,
    ping_timeout_s: float,
) -> None:
    async def fall_silent(peer: Any) -> None:
        await peer.welcome()
        await (peer.only_listen() if reads else peer.stop_reading())

    async def story(world: Any) -> None:
        await world.connect()
        silent_since = anyio.current_time()
        number = 0
        with anyio.fail_after(1.5 * keep_alive_s + ping_timeout_s):
            while world.mqtt.connection_state is CONNECTED:
                if sending:
                    await world.publish(f"{number} {'.' * 400}", qos=1 + number % 2)
                    number += 1
                await anyio.sleep(0.05 * keep_alive_s)
        assert anyio.current_time() - silent_since >= ping_timeout_s, "nobody is given up before he could answer"
        await world.reach(CONNECTED)
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == number)
        up = {"total_connections": 2, "total_disconnections": 1, "queue_size": 0}
        expected = [f"{each} {'.' * 400}" for each in range(number)]
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=expected, logged={"connection lost": 1})

    times = {"health_check_interval": keep_alive_s, "ping_timeout_s": ping_timeout_s}
    rehearse(story, fall_silent, capacity_bytes=1024, **times)


@pytest.mark.fault_row("blackhole, half-open, hang")
@pytest.mark.parametrize("keep_alive_s", [KEEP_ALIVE_S, 1.0])
def test_a_broker_that_stops_answering_pings_is_found_out_after_the_last_one_that_it_answered(
    rehearse: Any, keep_alive_s: float
) -> None:
    silent_since: list[float] = []

    async def tire(peer: Any) -> None:
        await peer.welcome()
        while len(peer.pinged_at) < 3:
            with anyio.move_on_after(0.01 * keep_alive_s):
                await peer.hear()
        silent_since.append(anyio.current_time())
        await peer.only_listen()

    async def story(world: Any) -> None:
        await world.connect()
        await world.reach(lambda: bool(silent_since))
        with anyio.fail_after(1.5 * keep_alive_s + 0.5):
            while world.mqtt.connection_state is CONNECTED:
                await anyio.sleep(0.01)
        down = {"total_connections": 1, "total_disconnections": 1}
        world.observe(state=RECONNECTING, stats=down, level=WARNING, arrived=[], logged={"connection lost": 1})
        assert "no answer to a ping" in world.logged("connection lost")[0].getMessage()

    rehearse(story, tire, health_check_interval=keep_alive_s, ping_timeout_s=0.5)


@pytest.mark.fault_row("idle, only incoming, Server Keep Alive, keepalive 0")
@pytest.mark.parametrize("server_keep_alive_s", [None, 0, 1, 60])
@pytest.mark.parametrize("chatty", [False, True])
def test_pings_come_in_time_and_not_in_a_storm(
    rehearse: Any,
    server_keep_alive_s: int | None,
    chatty: bool,
) -> None:
    keep_alive_s = float(server_keep_alive_s or KEEP_ALIVE_S)
    watched_s = 60 * keep_alive_s

    async def keep_time(peer: Any) -> None:
        peer.fire("server keep alive")
        async with anyio.create_task_group() as tasks:
            await peer.welcome(server_keep_alive=server_keep_alive_s)
            tasks.start_soon(peer.serve)
            while chatty:
                await anyio.sleep(keep_alive_s / 10)
                await peer.say(publish())

    async def story(world: Any) -> None:
        await world.connect()
        started_at = anyio.current_time()
        await anyio.sleep(watched_s)
        (conversation,) = world.peer.conversations
        pings = [started_at, *conversation.pinged_at, started_at + watched_s]
        assert all(later - earlier <= keep_alive_s for earlier, later in pairwise(pings))
        assert len(pings) <= 2 * watched_s / keep_alive_s
        up = {"total_connections": 1, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=up, level=INFO, arrived=[], logged={"connected": 1})

    rehearse(story, keep_time)


# ---------------------------------------------------------------------------------------- it is slow


@pytest.mark.fault_row("latency, throttle, slices of 1-7 bytes, coalesced, CONNACK+PUBLISH in one segment")
@pytest.mark.parametrize("slice_bytes", [1, 2, 3, 7, 1 << 20])
def test_slices_and_coalesced_packets_make_no_difference(rehearse: Any, slice_bytes: int) -> None:
    count = 20

    async def in_slices(peer: Any) -> None:
        connack, greeting = mqtt5.ConnAckPacket(), publish()
        await peer.hear(mqtt5.ConnectPacket)
        answers = connack.write() + greeting
        while True:
            for start in range(0, len(answers), slice_bytes):
                peer.fire("slice")
                await peer.say(answers[start : start + slice_bytes])
                await anyio.sleep(0.01)
            packet = await peer.hear()
            if isinstance(packet, mqtt5.SubscribePacket):
                answers = mqtt5.SubAckPacket(
                    packet.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_EXACTLY_ONCE]
                ).write()
                answers += b"".join(
                    publish(first=0x32, identifier=each.to_bytes(2, "big")) for each in range(1, count + 1)
                )
            elif isinstance(packet, mqtt5.PublishPacket):
                peer.peer.arrived.append(packet.payload.decode())
                answers = mqtt5.PubAckPacket(packet.packet_id).write()
            else:
                answers = b""

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        for number in range(count):
            await world.publish(str(number))
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == count)
        await world.reach(lambda: world.mqtt.stats["handled"] >= count)
        up = {"total_connections": 1, "total_disconnections": 0, "queue_size": 0, "received": count + 1}
        received = ["phantom"] * len(world.received)
        assert count <= len(received) <= count + 1, "the greeting came before or after the subscription"
        expected = [str(number) for number in range(count)]
        world.observe(state=CONNECTED, stats=up, level=INFO, arrived=expected, received=received)

    rehearse(story, in_slices)


@pytest.mark.fault_row("slow reader (broker)")
def test_publish_goes_on_while_a_broker_reads_slowly(rehearse: Any) -> None:
    count = 200

    async def read_slowly(peer: Any) -> None:
        peer.fire("slow reader")
        await peer.welcome()
        while True:
            await anyio.sleep(0.04)
            await peer.answer(await peer.hear())

    async def story(world: Any) -> None:
        await world.connect()
        started_at = anyio.current_time()
        for number in range(count):
            await world.publish(f"{number} {'.' * 300}")
        assert anyio.current_time() - started_at < 1.0
        assert world.mqtt.stats["queue_size"] > count / 2
        assert world.peer.conversations[0].stream.unread_bytes <= 1024
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == count)
        expected = [f"{number} {'.' * 300}" for number in range(count)]
        up = {"total_connections": 1, "total_disconnections": 0, "queue_size": 0}
        world.observe(state=CONNECTED, stats=up, level=INFO, arrived=expected)

    rehearse(story, read_slowly, capacity_bytes=1024)


# ------------------------------------------------------------------------------------ it breaks mid-packet


@pytest.mark.fault_row("truncated packet then close")
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 14])
def test_a_packet_cut_short_is_no_message(rehearse: Any, length: int) -> None:
    async def cut(peer: Any) -> None:
        await peer.welcome()
        await peer.answer(await peer.hear(mqtt5.SubscribePacket))
        whole = publish(first=0x32, identifier=b"\0\1")
        assert length < len(whole)
        await peer.inject("truncated", whole[:length])
        await peer.close()

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        up = {"total_connections": 2, "total_disconnections": 1, "received": 0}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["x"], received=[])

    rehearse(story, cut)


NONSENSE_ROW = (
    "garbage, bit flips, type 0, bad flags, QoS 3, id 0, bad UTF-8, wildcard topic, unknown/duplicate property, "
    "alias, client-only packets"
)


@pytest.mark.fault_row(NONSENSE_ROW)
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_ends_the_link_with_the_right_last_word_and_delivers_nothing(rehearse: Any, name: str) -> None:
    nonsense, reason_code = NONSENSE[name]
    last_words: list[Any] = []

    async def talk_nonsense(peer: Any) -> None:
        await peer.welcome()
        await peer.answer(await peer.hear(mqtt5.SubscribePacket))
        await peer.hear(mqtt5.PublishPacket)
        await peer.inject(name, nonsense, publish())
        last_words.extend(await peer.hear_the_end())

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        assert kinds_of(last_words) == ["DisconnectPacket"]
        assert int(last_words[0].reason_code) == reason_code
        up = {"total_connections": 2, "total_disconnections": 1, "received": 0}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["x"], logged={"connection lost": 1})

    rehearse(story, talk_nonsense)


@pytest.mark.fault_row("256 MB length claimed / really sent")
@pytest.mark.parametrize("sent", [False, True])
def test_a_packet_of_256_mebibytes_is_refused_at_its_header(rehearse: Any, sent: bool) -> None:
    last_words: list[Any] = []
    poured = [0]

    async def pour(peer: Any) -> None:
        await peer.welcome()
        await peer.inject("256 MiB", b"\x30\xff\xff\xff\x7f\x00\x01t\x00")
        if sent:
            for _ in range(64):
                await peer.say(bytes(65_536))
                poured[0] += 65_536
        last_words.extend(await peer.hear_the_end())

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        up = {"total_connections": 2, "total_disconnections": 1, "received": 0}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["x"], logged={"connection lost": 1})
        assert "0x95" in world.logged("connection lost")[0].getMessage()
        if not sent:
            assert int(last_words[-1].reason_code) == 0x95
        # hawk takes one read's worth, and what fits between the two: not 256 MiB, and not the 4 that were poured.
        assert poured[0] <= 8 * 65_536

    rehearse(story, pour, max_packet_size=1 << 20)


@pytest.mark.fault_row("connection dies inside our 4 MB PUBLISH")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_large_message_whose_link_dies_under_it_is_sent_again_whole(rehearse: Any, qos: int) -> None:
    large = "." * (4 << 20)

    async def die_inside(peer: Any) -> None:
        await peer.welcome()
        read_bytes = 0
        while read_bytes < 1 << 20:
            read_bytes += len(await peer.stream.receive())
        peer.reset()

    async def story(world: Any) -> None:
        await world.publish(large, qos=qos)
        await world.publish("behind", qos=qos)
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 2)
        up = {"total_connections": 2, "total_disconnections": 1, "queue_size": 0}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=[large, "behind"])

    rehearse(story, die_inside)


def test_a_large_message_gets_through_a_link_that_is_slow_and_moves(rehearse: Any) -> None:
    large = "." * (2 << 20)

    async def read_slowly(peer: Any) -> None:
        peer.fire("slow reader")
        await peer.welcome(session_present=peer.number > 1)
        received = b""
        while len(received) < len(large):
            await anyio.sleep(1.0)
            received += await peer.stream.receive()
        await peer.say(mqtt5.PubAckPacket(1))
        peer.peer.arrived.append(f"cargo {large}")
        await peer.serve()

    async def story(world: Any) -> None:
        await world.publish(large)
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        up = {"total_connections": 1, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=up, level=INFO, arrived=[large])

    rehearse(story, always=read_slowly, capacity_bytes=65_536)


@pytest.mark.fault_row("drop after N bytes each time")
@pytest.mark.parametrize("session_present", [False, True])
def test_links_that_live_for_a_few_bytes_still_make_progress(rehearse: Any, session_present: bool) -> None:
    count = 30

    async def drop_after_a_while(peer: Any) -> None:
        await peer.welcome(session_present=session_present and peer.number > 1)
        await peer.serve(until=lambda: peer.heard_bytes > 400)
        peer.reset()

    async def story(world: Any) -> None:
        for number in range(count):
            await world.publish(str(number).zfill(50), qos=1)
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == count, within_s=6000)
        dials = len(world.peer.dialled_at)
        assert 5 <= dials <= count
        found = list(dict.fromkeys(world.arrived))
        assert found == [str(number).zfill(50) for number in range(count)], "in order, by first arrival"
        stats = {"acknowledged": count, "queue_size": 0, "total_connections": dials}
        world.observe(state=world.mqtt.connection_state, stats=stats, level=WARNING, arrived=world.arrived)

    rehearse(story, always=drop_after_a_while, max_inflight=4)
