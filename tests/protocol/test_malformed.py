"""One row for each way in which a broker can break the protocol, and what hawk says to it."""

from typing import NamedTuple

import pytest

from hawk.protocol.version5 import Decoder
from hawk.values import CauseKind

# Of ill-formed UTF-8 the codec tells the interpreter's unraisable hook before it panics.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")

GOOD = b"\x40\x02\x00\x63"


def frame(header: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes((header, len(body))) + body


def publish(properties: bytes = b"", *, topic: bytes = b"a", header: int = 0x30, length: int | None = None) -> bytes:
    identifier = b"\x00\x01" if header & 0b0110 else b""
    length = len(properties) if length is None else length
    body = len(topic).to_bytes(2, "big") + topic + identifier + bytes((length,)) + properties + b"payload"
    return frame(header, body)


class Bad(NamedTuple):
    """What is wrong, the bytes, the reason code of hawk's DISCONNECT."""

    what: str
    data: bytes
    reason_code: int


TABLE = [
    Bad("type 0", b"\x00\x00", 0x81),
    Bad("type 0 with flags", b"\x0f\x00", 0x81),
    Bad("remaining length of five bytes", b"\x30\xff\xff\xff\xff\x01", 0x81),
    Bad("remaining length of five bytes in a PINGRESP", b"\xd0\x80\x80\x80\x80\x00", 0x81),
    Bad("remaining length longer than needed", b"\xd0\x80\x00", 0x81),
    Bad("remaining length longer than needed, three bytes", b"\x30\x8a\x80\x00", 0x81),
    Bad("256 MiB announced", b"\x30\xff\xff\xff\x7f", 0x95),
    Bad("one byte above the limit announced", b"\x30\xfe\x07", 0x95),
    Bad("a large SUBACK announced", b"\x90\xff\xff\x7f", 0x95),
    # packets that a broker never sends
    Bad("CONNECT", b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc", 0x82),
    Bad("CONNECT, only its header", b"\x10\x10", 0x82),
    Bad("second CONNACK", b"\x20\x03\x00\x00\x00", 0x82),
    Bad("second CONNACK, a refusal", b"\x20\x03\x00\x87\x00", 0x82),
    Bad("second CONNACK, of MQTT 3.1.1", b"\x20\x02\x00\x00", 0x82),
    Bad("SUBSCRIBE", b"\x82\x07\x00\x01\x00\x00\x01a\x00", 0x82),
    Bad("UNSUBSCRIBE", b"\xa2\x06\x00\x01\x00\x00\x01a", 0x82),
    Bad("PINGREQ", b"\xc0\x00", 0x82),
    Bad("AUTH, short", b"\xf0\x00", 0x82),
    Bad("AUTH", b"\xf0\x02\x18\x00", 0x82),
    # fixed header flags
    Bad("PUBACK with flags", b"\x41\x02\x00\x01", 0x81),
    Bad("PUBREC with flags", b"\x52\x02\x00\x01", 0x81),
    Bad("PUBREL without flags", b"\x60\x02\x00\x01", 0x81),
    Bad("PUBREL with wrong flags", b"\x63\x02\x00\x01", 0x81),
    Bad("PUBCOMP with flags", b"\x78\x02\x00\x01", 0x81),
    Bad("SUBACK with flags", b"\x92\x04\x00\x01\x00\x00", 0x81),
    Bad("UNSUBACK with flags", b"\xb2\x04\x00\x01\x00\x00", 0x81),
    Bad("PINGRESP with flags", b"\xd1\x00", 0x81),
    Bad("DISCONNECT with flags", b"\xe2\x00", 0x81),
    Bad("QoS 3", publish(header=0x36), 0x81),
    Bad("QoS 3, duplicate", publish(header=0x3E), 0x81),
    Bad("duplicate at QoS 0", publish(header=0x38), 0x81),
    Bad("duplicate and retained at QoS 0", publish(header=0x39), 0x81),
    # packet identifiers
    Bad("PUBLISH QoS 1 with identifier 0", frame(0x32, b"\x00\x01a\x00\x00\x00x"), 0x82),
    Bad("PUBLISH QoS 2 with identifier 0", frame(0x34, b"\x00\x01a\x00\x00\x00x"), 0x82),
    Bad("PUBACK with identifier 0", b"\x40\x02\x00\x00", 0x82),
    Bad("PUBREC with identifier 0", b"\x50\x02\x00\x00", 0x82),
    Bad("PUBREL with identifier 0", b"\x62\x02\x00\x00", 0x82),
    Bad("PUBCOMP with identifier 0", b"\x70\x02\x00\x00", 0x82),
    Bad("PUBACK with identifier 0 and a reason", b"\x40\x03\x00\x00\x10", 0x82),
    Bad("SUBACK with identifier 0", b"\x90\x04\x00\x00\x00\x00", 0x82),
    Bad("UNSUBACK with identifier 0", b"\xb0\x04\x00\x00\x00\x00", 0x82),
    # topics
    Bad("wildcard # in a topic", publish(topic=b"a/#"), 0x82),
    Bad("wildcard + in a topic", publish(topic=b"+/a"), 0x82),
    Bad("wildcard inside a level", publish(topic=b"a#b"), 0x82),
    Bad("U+0000 in a topic", publish(topic=b"a\x00b"), 0x81),
    Bad("topic of ill-formed UTF-8", publish(topic=b"\xff\xfe"), 0x81),
    Bad("topic with a surrogate", publish(topic=b"\xed\xa0\x80"), 0x81),
    Bad("topic with an overlong encoding", publish(topic=b"\xc0\x80"), 0x81),
    Bad("topic cut inside a character", publish(topic=b"\xe2\x82"), 0x81),
    Bad("empty topic without an alias", publish(topic=b""), 0x81),
    Bad("topic alias with a topic", publish(b"\x23\x00\x01"), 0x94),
    Bad("topic alias alone", publish(b"\x23\x00\x01", topic=b""), 0x94),
    Bad("topic alias 0", publish(b"\x23\x00\x00"), 0x81),
    # lengths inside
    Bad("empty PUBLISH", b"\x30\x00", 0x81),
    Bad("PUBLISH with half a topic length", b"\x30\x01\x00", 0x81),
    Bad("topic beyond the packet", b"\x30\x05\x00\x50a\x00x", 0x81),
    Bad("PUBLISH without identifier", b"\x32\x03\x00\x01a", 0x81),
    Bad("PUBLISH without property length", b"\x30\x03\x00\x01a", 0x81),
    Bad("property length beyond the packet", publish(b"\x01\x01", length=100), 0x81),
    Bad("property running past the property length", publish(b"\x01\x01", length=1), 0x81),
    Bad("user property past the property length", publish(b"\x26\x00\x01a\x00\x01b", length=3), 0x81),
    Bad("property length longer than needed", b"\x30\x06\x00\x01a\x80\x00x", 0x81),
    Bad("property length of five bytes", b"\x30\x0a\x00\x01a\xff\xff\xff\xff\x01x", 0x81),
    Bad("empty PUBACK", b"\x40\x00", 0x81),
    Bad("PUBACK with half an identifier", b"\x40\x01\x00", 0x81),
    Bad("PUBACK with bytes behind", b"\x40\x05\x00\x01\x00\x00\x00", 0x81),
    Bad("PUBACK with a property beyond", b"\x40\x07\x00\x01\x00\x03\x1f\x00\x09", 0x81),
    Bad("PUBACK whose property length lies", b"\x40\x08\x00\x01\x00\x01\x1f\x00\x01a", 0x81),
    Bad("PUBREL with half an identifier", b"\x62\x01\x00", 0x81),
    Bad("empty SUBACK packet", b"\x90\x00", 0x81),
    Bad("SUBACK without property length", b"\x90\x02\x00\x01", 0x81),
    Bad("SUBACK without reason codes", b"\x90\x03\x00\x01\x00", 0x82),
    Bad("SUBACK whose property length lies", b"\x90\x08\x00\x01\x01\x1f\x00\x01a\x00", 0x81),
    Bad("UNSUBACK without reason codes", b"\xb0\x03\x00\x01\x00", 0x82),
    Bad("PINGRESP with a body", b"\xd0\x01\x00", 0x81),
    Bad("DISCONNECT with bytes behind", b"\xe0\x03\x8b\x00\x00", 0x81),
    Bad("DISCONNECT whose property length lies", b"\xe0\x06\x8b\x01\x1f\x00\x01a", 0x81),
    # properties
    Bad("unknown property", publish(b"\x7f\x01"), 0x81),
    Bad("property 0", publish(b"\x00"), 0x81),
    Bad("property of another packet", publish(b"\x21\x00\x05"), 0x81),
    Bad("payload format indicator twice", publish(b"\x01\x01\x01\x01"), 0x81),
    Bad("payload format indicator 7", publish(b"\x01\x07"), 0x81),
    Bad("payload format indicator 2", publish(b"\x01\x02"), 0x81),
    Bad("subscription identifier 0", publish(b"\x0b\x00"), 0x81),
    Bad("message expiry twice", publish(b"\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01"), 0x81),
    Bad("content type of ill-formed UTF-8", publish(b"\x03\x00\x01\xff"), 0x81),
    Bad("reason string twice", b"\x40\x0c\x00\x01\x00\x08\x1f\x00\x01a\x1f\x00\x01b", 0x81),
    Bad("reason string of ill-formed UTF-8", b"\x40\x08\x00\x01\x00\x04\x1f\x00\x01\xff", 0x81),
    Bad("user property of ill-formed UTF-8", publish(b"\x26\x00\x01\xff\x00\x01b"), 0x81),
    # reason codes
    Bad("PUBACK with an unknown reason", b"\x40\x03\x00\x01\x01", 0x81),
    Bad("PUBREC with a reason of PUBCOMP", b"\x50\x03\x00\x01\x92", 0x81),
    Bad("PUBREL with a reason of PUBACK", b"\x62\x03\x00\x01\x10", 0x81),
    Bad("PUBCOMP with an unknown reason", b"\x70\x03\x00\x01\xff", 0x81),
    Bad("SUBACK that grants QoS 3", b"\x90\x04\x00\x01\x00\x03", 0x81),
    Bad("UNSUBACK with a reason of SUBACK", b"\xb0\x04\x00\x01\x00\x01", 0x81),
    Bad("DISCONNECT with an unknown reason", b"\xe0\x01\x01", 0x81),
    Bad("DISCONNECT with the reason of a client", b"\xe0\x01\x04", 0x82),
    Bad("DISCONNECT that sets the session expiry", b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01", 0x82),
    # not MQTT at all
    Bad("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n", 0x81),
    Bad("zeros", bytes(64), 0x81),
    Bad("ones", b"\xff" * 64, 0x82),
]


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.what)
def test_a_malformed_packet_ends_the_link_after_all_that_was_good(bad: Bad) -> None:
    for pieces in ([GOOD + bad.data + GOOD], [GOOD, *(bytes((byte,)) for byte in bad.data), GOOD]):
        decoder = Decoder(maximum_packet_size=1000)
        arrivals = [decoder.feed(piece) for piece in pieces]
        assert decoder.ending is not None
        assert decoder.ending.kind is CauseKind.PROTOCOL_ERROR
        assert decoder.ending.reason_code == bad.reason_code, decoder.ending
        assert [identifier for part in arrivals for identifier in part.acknowledged] == [0x63]
        assert not any(part.inbound or part.pong for part in arrivals)
        assert "payload" not in decoder.ending.text.replace("payload format", "")


def test_the_names_of_the_table_are_unique() -> None:
    assert len({bad.what for bad in TABLE}) == len(TABLE)
    assert len({bad.data for bad in TABLE}) == len(TABLE)
