"""Faults while connecting: nobody there, strangers, refusals, sessions lost and kept. Guards C2, C5, C7, C9 and C10."""

import logging
import socket
import ssl
from contextlib import suppress
from typing import Any

import anyio
import mqtt5
import pytest
from anyio.streams.tls import TLSStream

from hawk import ConnectionState, GaveUp, UnknownFate

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")

CONNECTED, FAILED, RECONNECTING = ConnectionState.CONNECTED, ConnectionState.FAILED, ConnectionState.RECONNECTING
WARNING, ERROR = logging.WARNING, logging.ERROR

REFUSED_FOR_NOW = (0x80, 0x83, 0x88)
REFUSED_SLOWLY = (0x89, 0x97, 0x9F)
REFUSED_FOR_GOOD = (0x81, 0x82, 0x84, 0x85, 0x8A, 0x8C, 0x90, 0x95, 0x99, 0x9A, 0x9B)

PUBLISH = mqtt5.PublishPacket("down", b"cargo from nowhere", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7).write()
STRANGERS = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": bytes(64),
    "a PUBLISH first": PUBLISH,
    "a PINGRESP first": b"\xd0\x00",
    "a SUBACK first": b"\x90\x04\x00\x01\x00\x00",
    "a DISCONNECT first": b"\xe0\x01\x8b",
    "a CONNECT": mqtt5.ConnectPacket("broker").write(),
    "an AUTH": mqtt5.AuthPacket().write(),
    "MQTT 3.1.1": b"\x20\x02\x00\x05",
    "flags of the fixed header": b"\x21\x03\x00\x00\x00",
    "a length of five bytes": b"\x20\xff\xff\xff\xff\x7f",
    "256 MiB announced": b"\x20\xff\xff\xff\x7f" + bytes(64),
    "an unknown reason code": b"\x20\x03\x00\xfe\x00",
    "an unknown property": b"\x20\x05\x00\x00\x02\xff\x00",
    "a property twice": b"\x20\x09\x00\x00\x06\x21\x00\x01\x21\x00\x01",
    "a Receive Maximum of 0": b"\x20\x06\x00\x00\x03\x21\x00\x00",
    "a Maximum Packet Size of 0": b"\x20\x08\x00\x00\x05\x27\x00\x00\x00\x00",
    "a Maximum QoS of 7": b"\x20\x05\x00\x00\x02\x24\x07",
    "ill-formed UTF-8": b"\x20\x08\x00\x00\x05\x1f\x00\x02\xff\xfe",
    "properties too short": b"\x20\x03\x00\x00\x09",
}


def saying(name: str, *packets: Any) -> Any:
    """A peer that answers CONNECT with that, and waits."""

    async def script(peer: Any) -> None:
        await peer.hear(mqtt5.ConnectPacket)
        await peer.inject(name, *packets)
        await peer.hear_the_end()

    return script


def refusing(code: int, **properties: Any) -> Any:
    """A peer that refuses CONNECT with that reason code."""
    return saying("refuse", mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode(code), **properties))


async def accept_then_close(peer: Any) -> None:
    await peer.close()


async def accept_then_reset(peer: Any) -> None:
    peer.reset()


async def hear_connect_then_close(peer: Any) -> None:
    await peer.hear(mqtt5.ConnectPacket)
    await peer.close()


async def hear_connect_then_reset(peer: Any) -> None:
    await peer.hear(mqtt5.ConnectPacket)
    peer.reset()


async def flap(peer: Any) -> None:
    await peer.welcome()
    await peer.close()


# ------------------------------------------------------------------------------------------ nobody there


@pytest.mark.fault_row("refuse (ECONNREFUSED)")
def test_refused_connections_end_in_failed_after_one_dial_more_than_retries_and_then_in_silence(rehearse: Any) -> None:
    async def story(world: Any) -> None:
        await world.publish("before", qos=1)
        await world.reach(FAILED)
        await world.publish("after", qos=2)
        await anyio.sleep(3600)
        assert len(world.peer.dialled_at) == 4
        assert all(lower * 0.9 <= gap <= lower * 1.1 for gap, lower in zip(world.gaps(), (1, 2, 4), strict=True))
        failed = {"consecutive_failures": 4, "total_connections": 0, "total_disconnections": 0, "queue_size": 2}
        logged = {"connection attempt failed": 4, "connection failed": 1}
        world.observe(state=FAILED, stats=failed, level=ERROR, arrived=[], logged=logged)

    rehearse(story, always=ConnectionRefusedError(), max_retries=3)


def test_connect_raises_gave_up_at_failed_and_dials_afresh_each_time(rehearse: Any) -> None:
    async def story(world: Any) -> None:
        for _ in range(3):
            with pytest.raises(GaveUp) as gave_up:
                await world.connect()
            assert gave_up.value.attempts == 2
        failed = {"consecutive_failures": 2, "total_connections": 0}
        world.observe(state=FAILED, stats=failed, level=ERROR, arrived=[], logged={"connection failed": 3})

    rehearse(story, always=ConnectionRefusedError(), max_retries=1)


@pytest.mark.fault_row("accept then close / RST")
@pytest.mark.parametrize(
    "script", [accept_then_close, accept_then_reset, hear_connect_then_close, hear_connect_then_reset]
)
def test_a_peer_that_accepts_and_goes_costs_one_attempt_for_each_delay(rehearse: Any, script: Any) -> None:
    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: len(world.peer.dialled_at) == 5)
        assert all(
            lower * 0.9 <= gap <= lower * 1.1 + 0.1 for gap, lower in zip(world.gaps(), (1, 2, 4, 8), strict=True)
        )
        await anyio.sleep(0.1)
        failing = {"consecutive_failures": 5, "total_connections": 0, "queue_size": 1}
        logged = {"connection attempt failed": 5}
        world.observe(state=RECONNECTING, stats=failing, level=WARNING, arrived=[], logged=logged)
        assert CONNECTED not in [change.after for change in world.changes]

    rehearse(story, always=script)


@pytest.mark.fault_row("hang before CONNACK")
@pytest.mark.parametrize("manner", ["silent", "one byte each 0.7 s", "never read"])
def test_a_peer_that_never_finishes_its_connack_is_left_at_the_connection_timeout(rehearse: Any, manner: str) -> None:
    endless = b"\x20\x7f\x00\x00\x7c" + bytes(122)

    async def hang(peer: Any) -> None:
        if manner == "silent":
            await peer.only_listen()
        elif manner == "never read":
            await peer.stop_reading()
        else:
            await peer.drip("drip", endless, every_s=0.7)

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: len(world.peer.dialled_at) == 3)
        lengths = [gap - lower for gap, lower in zip(world.gaps(), (1, 2), strict=True)]
        assert all(5.0 - 0.2 <= length <= 5.0 + 0.2 for length in lengths), "the timeout is for the whole attempt"
        failing = {"consecutive_failures": 2, "total_connections": 0, "queue_size": 1}
        world.observe(state=RECONNECTING, stats=failing, level=WARNING, arrived=[])

    rehearse(story, always=hang)


@pytest.mark.fault_row("DNS failure, later answer")
def test_a_name_that_cannot_be_looked_up_is_looked_up_again(rehearse: Any) -> None:
    unknown = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(CONNECTED)
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        connected = {"consecutive_failures": 0, "total_connections": 1, "total_reconnections": 0}
        logged = {"connection attempt failed": 2, "connected": 1}
        world.observe(state=CONNECTED, stats=connected, level=WARNING, arrived=["x"], logged=logged)
        assert all("looked up" in str(record.hawk["cause"]) for record in world.logged("connection attempt failed"))

    rehearse(story, unknown, unknown)


@pytest.mark.fault_row("flapping (CONNACK then dead)")
def test_a_flapping_broker_is_dialled_ever_more_slowly_and_never_given_up(rehearse: Any) -> None:
    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: len(world.peer.dialled_at) == 51, within_s=4000)
        least = [0.9 * min(60.0, 2.0**retry) for retry in range(50)]
        assert all(gap >= low for gap, low in zip(world.gaps(), least, strict=True))
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        healthy = {"consecutive_failures": 0, "total_connections": 51, "total_disconnections": 50}
        logged = {"connection lost": 50, "connection failed": 0}
        world.observe(state=CONNECTED, stats=healthy, level=WARNING, arrived=["x"], logged=logged)

    # The budget of two is whole again at each CONNECTED.
    rehearse(story, *[flap] * 50, max_retries=2)


# --------------------------------------------------------------------------------------------- strangers


@pytest.mark.fault_row("garbage / HTTP / wrong protocol / PUBLISH first")
@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_connack_never_leads_to_connected(rehearse: Any, name: str) -> None:
    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        await world.publish("x")
        await world.reach(lambda: len(world.peer.dialled_at) == 3)
        await anyio.sleep(0.1)
        failing = {"consecutive_failures": 3, "total_connections": 0, "queue_size": 1, "received": 0}
        world.observe(state=RECONNECTING, stats=failing, level=WARNING, arrived=[])
        assert CONNECTED not in [change.after for change in world.changes]
        assert all(each.ended_at - each.began_at <= 5.0 for each in world.peer.conversations)

    rehearse(story, always=saying(name, STRANGERS[name]))


@pytest.mark.fault_row("second CONNACK")
@pytest.mark.parametrize("together", [True, False])
def test_a_second_connack_ends_the_link_with_a_protocol_error(rehearse: Any, together: bool) -> None:
    last_words: list[Any] = []

    async def twice(peer: Any) -> None:
        again = mqtt5.ConnAckPacket()
        await peer.welcome(*([again] if together else []))
        peer.fire("second CONNACK")
        if not together:
            await peer.hear(mqtt5.PublishPacket)
            await peer.say(again)
        last_words.extend(await peer.hear_the_end())

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        assert int(last_words[-1].reason_code) == 0x82
        once = {"total_connections": 2, "total_disconnections": 1, "total_reconnections": 1, "queue_size": 0}
        logged = {"connection lost": 1}
        world.observe(state=CONNECTED, stats=once, level=WARNING, arrived=["x"], logged=logged)

    rehearse(story, twice)


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.fault_row("CONNACK 0x80 0x83 0x88 0x89 0x97 0x9F")
@pytest.mark.parametrize("code", REFUSED_FOR_NOW + REFUSED_SLOWLY)
def test_a_refusal_for_now_is_tried_again_and_an_overloaded_broker_slowly(rehearse: Any, code: int) -> None:
    factor = 10 if code in REFUSED_SLOWLY else 1

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        lowest = [0.9 * min(60.0, factor * delay_s) for delay_s in (1, 2, 4)]
        assert all(low <= gap <= 1.3 * low for gap, low in zip(world.gaps(), lowest, strict=True))
        connected = {"consecutive_failures": 0, "total_connections": 1, "total_disconnections": 0}
        logged = {"connection attempt failed": 3, "connection lost": 0}
        world.observe(state=CONNECTED, stats=connected, level=WARNING, arrived=["x"], logged=logged)
        assert all(f"0x{code:02x}" in record.getMessage() for record in world.logged("connection attempt failed"))

    rehearse(story, *[refusing(code)] * 3)


@pytest.mark.fault_row("CONNACK 0x86 0x87")
@pytest.mark.parametrize("code", [0x86, 0x87])
def test_a_refused_password_is_tried_again_loudly_once(rehearse: Any, code: int) -> None:
    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        levels = [record.levelno for record in world.logged("connection attempt failed")]
        assert levels == [ERROR, WARNING, WARNING]
        connected = {"consecutive_failures": 0, "total_connections": 1}
        world.observe(state=CONNECTED, stats=connected, level=ERROR, arrived=["x"])

    rehearse(story, *[refusing(code)] * 3)


@pytest.mark.fault_row("CONNACK 0x86 0x87")
@pytest.mark.parametrize("code", [0x86, 0x87])
def test_a_refused_password_fails_at_once_when_the_operator_wants_that(rehearse: Any, code: int) -> None:
    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(FAILED)
        await anyio.sleep(3600)
        assert len(world.peer.dialled_at) == 1
        world.observe(state=FAILED, stats={"consecutive_failures": 1, "queue_size": 1}, level=ERROR, arrived=[])

    rehearse(story, refusing(code), on_auth_failure="fail")


@pytest.mark.fault_row("CONNACK 0x81 0x82 0x84 0x85 0x8A 0x8C 0x90 0x95 0x99 0x9A 0x9B")
@pytest.mark.parametrize("code", REFUSED_FOR_GOOD)
def test_a_refusal_for_good_fails_at_once_and_says_what_to_do(rehearse: Any, code: int) -> None:
    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(FAILED)
        await anyio.sleep(3600)
        assert len(world.peer.dialled_at) == 1
        failed = {"consecutive_failures": 1, "total_connections": 0, "queue_size": 1}
        world.observe(state=FAILED, stats=failed, level=ERROR, arrived=[], logged={"connection failed": 1})
        (record,) = world.logged("connection failed")
        assert record.hawk["remedy"]
        assert f"0x{code:02x}" in record.getMessage()

    rehearse(story, refusing(code))


@pytest.mark.fault_row("CONNACK 0x9C 0x9D, Server Reference")
@pytest.mark.parametrize("code", [0x9C, 0x9D])
def test_a_server_reference_is_told_and_not_followed(rehearse: Any, code: int) -> None:
    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        connected = {"consecutive_failures": 0, "total_connections": 1}
        world.observe(state=CONNECTED, stats=connected, level=WARNING, arrived=["x"])
        (record,) = world.logged("connection attempt failed")
        assert record.hawk["server_reference"] == "elsewhere.example:1883"
        (told,) = [change.cause for change in world.changes if change.after is RECONNECTING]
        assert told.server_reference == "elsewhere.example:1883"

    rehearse(story, refusing(code, server_reference="elsewhere.example:1883"))


# ---------------------------------------------------------------------------------------------- sessions


@pytest.mark.fault_row("session_present=1 after clean start, reserved flags")
@pytest.mark.parametrize("flags", [0x01, 0x02, 0x03, 0x80, 0xFF])
def test_a_session_after_a_clean_start_and_reserved_flags_are_protocol_errors(rehearse: Any, flags: int) -> None:
    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: len(world.peer.dialled_at) == 2)
        await anyio.sleep(0.1)
        failing = {"consecutive_failures": 2, "total_connections": 0, "queue_size": 1}
        world.observe(state=RECONNECTING, stats=failing, level=WARNING, arrived=[])
        assert CONNECTED not in [change.after for change in world.changes]

    rehearse(story, always=saying("flags", bytes((0x20, 3, flags, 0, 0))))


@pytest.mark.fault_row("session_present=1 when hawk has no record of the session")
def test_a_session_that_hawk_does_not_know_is_never_adopted(rehearse: Any) -> None:
    asked_clean: list[bool] = []

    async def insist(peer: Any) -> None:
        asked_clean.append((await peer.hear(mqtt5.ConnectPacket)).clean_start)
        await peer.inject("session present", mqtt5.ConnAckPacket(session_present=True))
        await peer.hear_the_end()

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        assert asked_clean == [True, True]
        connected = {"total_connections": 1, "total_disconnections": 0}
        logged = {"connection attempt failed": 2}
        world.observe(state=CONNECTED, stats=connected, level=WARNING, arrived=["x"], logged=logged)

    rehearse(story, insist, insist)


@pytest.mark.fault_row("session_present=0 when we have state")
def test_a_forgotten_session_is_begun_anew_and_nothing_is_marked_as_a_repeat(rehearse: Any) -> None:
    first: list[Any] = []
    second: list[Any] = []

    async def swallow(peer: Any) -> None:
        await peer.welcome()
        await peer.answer(await peer.hear(mqtt5.SubscribePacket))
        first.extend([await peer.hear(mqtt5.PublishPacket) for _ in range(4)])
        # The fourth, at QoS 2, was received: only this one's fate nobody can know any more.
        await peer.say(mqtt5.PubRecPacket(first[3].packet_id))
        await peer.hear(mqtt5.PubRelPacket)
        await peer.close()

    async def forget(peer: Any) -> None:
        peer.fire("session lost")
        connect = await peer.welcome(session_present=False)
        assert not connect.clean_start
        await peer.answer(await peer.hear(mqtt5.SubscribePacket))
        for _ in range(3):
            packet = await peer.hear(mqtt5.PublishPacket)
            second.append(packet)
            await peer.answer(packet)
        await peer.serve()

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        await world.connect()
        for payload, qos in (("a", 1), ("b", 1), ("c", 2), ("d", 2)):
            await world.publish(payload, qos=qos)
        world.excuse("d", error=UnknownFate)
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 3)
        assert [packet.duplicate for packet in second] == [False] * 3
        done = {"unknown": 1, "acknowledged": 3, "queue_size": 0, "total_reconnections": 1, "messages_failed": 0}
        logged = {"reconnected": 1, "fate unknown": 1}
        world.observe(state=CONNECTED, stats=done, level=WARNING, arrived=["a", "b", "c"], logged=logged)

    rehearse(story, swallow, forget)


@pytest.mark.fault_row("session_present=1")
def test_a_kept_session_goes_on_with_the_same_identifiers_and_subscribes_nothing_again(rehearse: Any) -> None:
    first: list[Any] = []
    second: list[Any] = []

    async def swallow(peer: Any) -> None:
        await peer.welcome()
        await peer.answer(await peer.hear(mqtt5.SubscribePacket))
        first.extend([await peer.hear(mqtt5.PublishPacket) for _ in range(4)])
        await peer.take(first[3])
        await peer.hear(mqtt5.PubRelPacket)
        await peer.close()

    async def remember(peer: Any) -> None:
        peer.fire("session kept")
        await peer.welcome(session_present=True)
        second.extend([await peer.hear() for _ in range(4)])
        for packet in second:
            await peer.answer(packet)
        await peer.serve()

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        await world.connect()
        for payload, qos in (("a", 1), ("b", 2), ("c", 1), ("d", 2)):
            await world.publish(payload, qos=qos)
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 4)
        releases = [packet for packet in second if isinstance(packet, mqtt5.PubRelPacket)]
        repeats = [packet for packet in second if isinstance(packet, mqtt5.PublishPacket)]
        assert [packet.packet_id for packet in releases] == [first[3].packet_id]
        assert [packet.packet_id for packet in repeats] == [packet.packet_id for packet in first[:3]]
        assert [packet.duplicate for packet in repeats] == [True] * 3
        assert world.peer.conversations[1].count(mqtt5.SubscribePacket) == 0
        done = {"acknowledged": 4, "unknown": 0, "queue_size": 0, "total_reconnections": 1}
        world.observe(
            state=CONNECTED, stats=done, level=WARNING, arrived=["d", "a", "b", "c"], logged={"reconnected": 1}
        )

    rehearse(story, swallow, remember)


# --------------------------------------------------------------------------------------------------- TLS


def shaking_hands(name: str, context: ssl.SSLContext, said: list[bytes]) -> Any:
    """A peer that speaks TLS as `context` says; what hawk says after the handshake goes to `said`."""

    async def script(peer: Any) -> None:
        peer.fire(name)
        try:
            stream = await TLSStream.wrap(peer.stream, server_side=True, ssl_context=context, standard_compatible=False)
            said.append(await stream.receive())
        except (ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream):
            return

    return script


async def hang(peer: Any) -> None:
    peer.fire("handshake hang")
    await anyio.sleep_forever()


@pytest.mark.fault_row("TLS unknown CA / hostname / expired / handshake hang")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("unknown CA", "unable to get local issuer certificate"),
        ("hostname", "not valid for 'boat.example'"),
        ("expired", "certificate has expired"),
        ("plain", "does not speak TLS"),
        ("hang", "did not end within 2.5 s"),
    ],
)
def test_a_broker_that_tls_cannot_vouch_for_is_never_spoken_to_and_is_dialled_slowly(
    rehearse: Any, certificates: Any, fault: str, reason: str
) -> None:
    said: list[bytes] = []
    name = "anchor.example" if fault == "hostname" else "boat.example"
    context = certificates.server_context(name, expired=fault == "expired")
    script = shaking_hands(fault, context, said)
    if fault == "plain":
        script = saying_at_once(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    elif fault == "hang":
        script = hang

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(RECONNECTING)
        failing = {"consecutive_failures": 1, "total_connections": 0, "queue_size": 1}
        logged = {"connection attempt failed": 1}
        world.observe(state=RECONNECTING, stats=failing, level=WARNING, arrived=[], logged=logged)
        record = world.logged("connection attempt failed")[0]
        assert reason in record.getMessage()
        assert "boat" not in str(record.hawk["remedy"])
        assert record.hawk["remedy"]
        await world.reach(lambda: len(world.peer.dialled_at) == 2)
        assert world.gaps()[0] >= 9, "ten times the first delay, less the jitter"
        assert said == [], "CONNECT was sent to a stranger"

    authority = certificates.stranger if fault == "unknown CA" else certificates.authority
    rehearse(story, script, script, tls=True, tls_ca_file=str(authority))


def saying_at_once(data: bytes) -> Any:
    """A peer that speaks before it is spoken to."""

    async def script(peer: Any) -> None:
        await peer.inject("plain", data)
        await peer.stream.receive()
        await anyio.sleep_forever()

    return script


@pytest.mark.fault_row("TLS unknown CA / hostname / expired / handshake hang")
def test_a_broker_is_spoken_to_once_its_certificate_is_mended(rehearse: Any, certificates: Any) -> None:
    """The scripts' own control: with a good certificate CONNECT does come through the same peer."""
    said: list[bytes] = []
    expired = shaking_hands("expired", certificates.server_context("boat.example", expired=True), said)
    mended = shaking_hands("mended", certificates.server_context("boat.example"), said)

    async def story(world: Any) -> None:
        await world.reach(lambda: bool(said))
        assert said[0][:1] == b"\x10"
        world.observe(state=RECONNECTING, stats={"total_connections": 0}, level=WARNING, arrived=[])

    rehearse(story, expired, mended, tls=True, tls_ca_file=str(certificates.authority))


async def spoil_tls_behind_a_message(peer: Any, context: ssl.SSLContext) -> None:
    """A broker that answers a ping, and a middlebox that spoils the record behind the next message."""
    stream = await TLSStream.wrap(peer.stream, server_side=True, ssl_context=context, standard_compatible=False)
    unread = b""

    async def hear() -> Any:
        nonlocal unread
        while True:
            with suppress(IndexError):
                packet, size = mqtt5.read(memoryview(unread))
                unread = unread[size:]
                return packet
            unread += await stream.receive()

    await hear()
    await stream.send(mqtt5.ConnAckPacket(session_present=peer.number > 1).write())
    while True:
        match await hear():
            case mqtt5.PingReqPacket():
                await stream.send(mqtt5.PingRespPacket().write())
            case mqtt5.PublishPacket():
                await peer.inject("spoiled", b"\x17\x03\x03\x00\x20" + bytes(32))


@pytest.mark.fault_row("TLS unknown CA / hostname / expired / handshake hang")
def test_a_record_that_tls_cannot_read_ends_its_link_and_never_costs_the_message(
    rehearse: Any, certificates: Any
) -> None:
    """It is hawk that ends the link, so that it says nothing against the message, however often."""
    context = certificates.server_context("boat.example")

    async def spoil(peer: Any) -> None:
        with suppress(ssl.SSLError):
            await spoil_tls_behind_a_message(peer, context)

    async def story(world: Any) -> None:
        await world.publish("x")
        await world.reach(lambda: world.mqtt.stats["total_disconnections"] == 12)
        waiting = {"queue_size": 1, "dead_lettered": 0}
        world.observe(state=RECONNECTING, stats=waiting, level=WARNING, arrived=[])
        assert "TLS" in world.logged("connection lost")[0].getMessage()

    rehearse(story, *[spoil] * 20, tls=True, tls_ca_file=str(certificates.authority))
