"""The handshake: CONNECT says what the settings say; every answer is a Connack, a wait, or a `ProtocolError`."""

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hawk.config import Config
from hawk.connecting import Credentials, Will
from hawk.errors import ProtocolError
from hawk.packets import Connack, ConnectRequest
from hawk.protocol.version5 import decode_connack, encode_connect, reason_name
from hawk.values import Properties

# Of ill-formed UTF-8 the codec tells the interpreter's unraisable hook before it panics.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")

LIMIT = 10_000


def decoded(data: bytes, *, clean_start: bool = False) -> tuple[Connack, int] | None:
    return decode_connack(data, clean_start=clean_start, maximum_packet_size=LIMIT)


FULL = mqtt5.ConnAckPacket(
    session_present=True,
    session_expiry_interval=60,
    assigned_client_id="auto-1",
    server_keep_alive=15,
    receive_max=20,
    topic_alias_max=10,
    max_qos=mqtt5.QoS.AT_LEAST_ONCE,
    retain_available=False,
    max_packet_size=1000,
    wildcard_subscription_available=False,
    subscription_id_available=False,
    shared_subscription_available=False,
    user_properties=[("a", "b")],
).write()


def test_connect_carries_the_will_with_everything_that_belongs_to_it() -> None:
    properties = Properties(
        expiry_s=1.2,
        content_type="text/plain",
        response_topic="r",
        correlation_data=b"c",
        user=(("k", "v"), ("k", "w")),
    )
    will = Will("status", "gone", qos=2, retain=True, delay_s=7, properties=properties)
    request = ConnectRequest("me", clean_start=True, will=will)
    read, _ = mqtt5.read(memoryview(encode_connect(Config(), request)))
    assert isinstance(read, mqtt5.ConnectPacket)
    assert read.will == mqtt5.Will(
        "status",
        payload=b"gone",
        qos=mqtt5.QoS.EXACTLY_ONCE,
        retain=True,
        payload_format_indicator=1,
        message_expiry_interval=2,
        content_type="text/plain",
        response_topic="r",
        correlation_data=b"c",
        will_delay_interval=7,
        user_properties=[("k", "v"), ("k", "w")],
    )


@pytest.mark.parametrize(
    "request_",
    [
        ConnectRequest("x" * 65_536, clean_start=True),
        ConnectRequest("\ud800", clean_start=True),
        ConnectRequest("me", clean_start=True, credentials=Credentials("secret" * 11_000)),
        ConnectRequest("me", clean_start=True, credentials=Credentials("u", b"secret" * 11_000)),
        ConnectRequest("me", clean_start=True, credentials=Credentials("u", 7)),  # type: ignore[arg-type]
        ConnectRequest("me", clean_start=True, will=Will("secret/#")),
        ConnectRequest("me", clean_start=True, will=Will("t", delay_s=1 << 32)),
        ConnectRequest("me", clean_start=True, will=Will("t", qos=3)),
    ],
)
def test_what_no_connect_can_carry_is_told_without_repeating_it(request_: ConnectRequest) -> None:
    with pytest.raises(ValueError, match="nothing that MQTT can carry") as caught:
        encode_connect(Config(), request_)
    assert "secret" not in str(caught.value)


def test_connect_carries_the_settings() -> None:
    config = Config(
        health_check_interval=29.2,
        session_expiry_s=77,
        receive_maximum=9,
        max_packet_size=4096,
    )
    request = ConnectRequest("me", clean_start=True, credentials=Credentials("u", "s\u00e9cret"))
    read, _ = mqtt5.read(memoryview(encode_connect(config, request)))
    assert read == mqtt5.ConnectPacket(
        "me",
        username="u",
        password="s\u00e9cret".encode(),
        clean_start=True,
        keep_alive=30,
        session_expiry_interval=77,
        receive_max=9,
        max_packet_size=4096,
    )


@pytest.mark.parametrize(("interval", "keep_alive"), [(0.1, 1), (1.0, 1), (1.001, 2), (60.0, 60), (65_535, 65_535)])
def test_keep_alive_is_never_zero_and_never_shorter_than_the_interval(interval: float, keep_alive: int) -> None:
    config = Config(health_check_interval=interval)
    read, _ = mqtt5.read(memoryview(encode_connect(config, ConnectRequest("me", clean_start=False))))
    assert isinstance(read, mqtt5.ConnectPacket)
    assert read.keep_alive == keep_alive


def test_every_limit_of_a_connack_is_understood() -> None:
    expected = Connack(
        reason="success",
        session_present=True,
        receive_maximum=20,
        maximum_packet_size=1000,
        maximum_qos=1,
        retain_available=False,
        topic_alias_maximum=10,
        server_keep_alive_s=15,
        assigned_client_identifier="auto-1",
        session_expiry_s=60,
        wildcard_available=False,
        shared_available=False,
        subscription_identifier_available=False,
    )
    assert decoded(FULL + b"\xd0\x00") == (expected, len(FULL))


def test_a_connack_without_properties_means_the_defaults() -> None:
    assert decoded(b"\x20\x03\x00\x00\x00") == (Connack(reason="success"), 5)


def test_every_proper_prefix_waits_for_more() -> None:
    for cut in range(len(FULL)):
        assert decoded(FULL[:cut]) is None


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x80, "unspecified error"),
        (0x84, "unsupported protocol version"),
        (0x86, "bad user name or password"),
        (0x87, "not authorized"),
        (0x9B, "QoS not supported"),
        (0x9F, "connection rate exceeded"),
    ],
)
def test_a_refusal_is_told_in_words(code: int, name: str) -> None:
    packet = mqtt5.ConnAckPacket(
        reason_code=mqtt5.ConnAckReasonCode(code), reason_str="go\naway", server_reference="other"
    )
    assert reason_name(code) == name
    assert decoded(packet.write(), clean_start=True) == (
        Connack(code, f"{name}: go?away", server_reference="other"),
        len(packet.write()),
    )


def test_a_broker_of_mqtt_311_is_recognised_by_its_refusal() -> None:
    answer = decoded(b"\x20\x02\x00\x01")
    assert answer is not None
    assert answer[0].reason_code == 0x84
    assert "3.1.1" in answer[0].reason


@pytest.mark.parametrize(
    ("data", "what", "reason_code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP", 0x82),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH", 0x82),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS", 0x82),
        (b"\x20\x02\x00\x00", "3.1.1", 0x81),
        (b"\x20\x02\x00\x05", "3.1.1", 0x81),
        (b"\x20\x02\x01\x00", "3.1.1", 0x81),
        (b"\x30\x05\x00\x01a\x00x", "first packet", 0x82),
        (b"\xe0\x00", "first packet", 0x82),
        (b"\x40\x02\x00\x01", "first packet", 0x82),
        (b"\xff\xff\xff", "first packet", 0x82),
        (b"\x00", "first packet", 0x82),
        (b"Hello", "first packet", 0x82),
        (b"\x21\x03\x00\x00\x00", "flags", 0x81),
        (b"\x20\xff\xff\xff\x7f", "maximum packet size", 0x95),
        (b"\x20\xff\xff\xff\xff\x01", "four bytes", 0x81),
        (b"\x20\x00", "Invalid", 0x81),
        (b"\x20\x01\x00", "Invalid", 0x81),
        (b"\x20\x03\x02\x00\x00", "flags", 0x81),
        (b"\x20\x03\x00\x01\x00", "", 0x81),
        (b"\x20\x06\x00\x00\x03\x21\x00\x00", "", 0x81),
        (b"\x20\x08\x00\x00\x05\x27\x00\x00\x00\x00", "", 0x81),
        (b"\x20\x05\x00\x00\x02\x25\x02", "", 0x81),
        (b"\x20\x05\x00\x00\x01\x25\x01", "properties do not end", 0x81),
        (b"\x20\x07\x00\x00\x04\x12\x00\x01\xff", "UTF-8", 0x81),
        (b"\x20\x07\x00\x00\x04\x12\x00\x01\x00", "U+0000", 0x81),
    ],
)
def test_what_is_no_answer_of_an_mqtt_5_broker_is_told_apart(data: bytes, what: str, reason_code: int) -> None:
    with pytest.raises(ProtocolError) as refused:
        decoded(data)
    assert what in refused.value.what
    assert refused.value.reason_code == reason_code


def test_strangers_are_named_also_when_they_dribble() -> None:
    for beginning in (b"H", b"HT", b"HTTP", b"S", b"SSH", b"\x15"):
        assert decoded(beginning) is None


def test_a_session_after_a_clean_start_is_a_protocol_error() -> None:
    present = mqtt5.ConnAckPacket(session_present=True).write()
    assert decoded(present) is not None
    with pytest.raises(ProtocolError) as refused:
        decoded(present, clean_start=True)
    assert refused.value.reason_code == 0x82


@settings(max_examples=2000, deadline=None)
@given(st.integers(0, len(FULL) - 1), st.integers(0, 255), st.booleans())
def test_a_changed_byte_is_an_answer_a_wait_or_a_protocol_error(at: int, byte: int, clean_start: bool) -> None:
    data = bytearray(FULL)
    data[at] = byte
    try:
        answer = decoded(bytes(data), clean_start=clean_start)
    except ProtocolError:
        return
    assert answer is None or answer[1] <= len(data)
