"""What a broker may and may not send, generated from MQTT 5: one table for each packet type, one row for each packet.

A row says what the packet is, its bytes, and whether the link is kept or closed, then with the reason code of hawk's
DISCONNECT. Where the text says Protocol Error and the codec cannot tell that from a Malformed Packet, the row says 0x81
all the same: both end the link (section 4.13.1). Guards C9.
"""

from collections.abc import Iterator
from typing import NamedTuple, cast

import anyio
import pytest

from hawk.config import Config
from hawk.errors import LinkLost, ProtocolError
from hawk.links.stream import StreamLink, open_link
from hawk.packets import ConnectRequest
from hawk.protocol.version5 import Decoder, decode_connack
from hawk.testing.memory_stream import memory_stream_pair
from hawk.testing.virtual_time import run
from hawk.values import Cause, CauseKind

# Of ill-formed UTF-8 the codec tells the interpreter's unraisable hook before it panics.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")

LIMIT = 1000
GOOD = b"\x40\x02\x00\x63"

MALFORMED, VIOLATION, TOPIC_ALIAS_INVALID, TOO_LARGE = 0x81, 0x82, 0x94, 0x95


class Row(NamedTuple):
    """What it is, the bytes, and the reason code that ends the link; None keeps it."""

    what: str
    data: bytes
    closes: int | None = None


class Property(NamedTuple):
    """A property of section 2.2.2.2: its name, and a value that is well-formed wherever it is allowed."""

    name: str
    value: bytes


def text(data: bytes) -> bytes:
    """A UTF-8 Encoded String, or Binary Data."""
    return len(data).to_bytes(2, "big") + data


PROPERTIES = {
    0x01: Property("payload format indicator", b"\x01"),
    0x02: Property("message expiry interval", b"\x00\x00\x00\x3c"),
    0x03: Property("content type", text(b"c")),
    0x08: Property("response topic", text(b"r")),
    0x09: Property("correlation data", text(b"\xff\x00")),
    0x0B: Property("subscription identifier", b"\x07"),
    0x11: Property("session expiry interval", b"\x00\x00\x00\x3c"),
    0x12: Property("assigned client identifier", text(b"i")),
    0x13: Property("server keep alive", b"\x00\x3c"),
    0x15: Property("authentication method", text(b"m")),
    0x16: Property("authentication data", text(b"\xff")),
    0x17: Property("request problem information", b"\x01"),
    0x18: Property("will delay interval", b"\x00\x00\x00\x3c"),
    0x19: Property("request response information", b"\x01"),
    0x1A: Property("response information", text(b"i")),
    0x1C: Property("server reference", text(b"s")),
    0x1F: Property("reason string", text(b"r")),
    0x21: Property("receive maximum", b"\x00\x0a"),
    0x22: Property("topic alias maximum", b"\x00\x0a"),
    0x23: Property("topic alias", b"\x00\x01"),
    0x24: Property("maximum QoS", b"\x01"),
    0x25: Property("retain available", b"\x01"),
    0x26: Property("user property", text(b"n") + text(b"v")),
    0x27: Property("maximum packet size", b"\x00\x00\x10\x00"),
    0x28: Property("wildcard subscription available", b"\x01"),
    0x29: Property("subscription identifier available", b"\x01"),
    0x2A: Property("shared subscription available", b"\x01"),
}
TEXTS = frozenset((0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F))
TRUE_OR_FALSE = frozenset((0x01, 0x24, 0x25, 0x28, 0x29, 0x2A))
NEVER_ZERO = {0x0B: b"\x00", 0x21: b"\x00\x00", 0x23: b"\x00\x00", 0x27: b"\x00\x00\x00\x00"}
MORE_THAN_ONCE = frozenset((0x0B, 0x26))

DIAGNOSTICS = frozenset((0x1F, 0x26))
REASONS_OF_PUBLISH = frozenset((0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99))
REASONS_OF_RELEASE = frozenset((0x00, 0x92))
REASONS_OF_CONNACK = frozenset(
    (0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F),
)
REASONS_OF_SUBACK = frozenset((0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2))
REASONS_OF_UNSUBACK = frozenset((0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91))
REASONS_OF_DISCONNECT = frozenset(
    (0x00, *range(0x80, 0x84), 0x87, 0x89, 0x8B, *range(0x8D, 0x91), *range(0x93, 0xA3)),
)
EVERY_REASON = sorted(
    REASONS_OF_PUBLISH
    | REASONS_OF_RELEASE
    | REASONS_OF_CONNACK
    | REASONS_OF_SUBACK
    | REASONS_OF_UNSUBACK
    | REASONS_OF_DISCONNECT
    | {0x04, 0x18, 0x19, 0x03, 0x7F, 0xA3, 0xFF}
)


class Kind(NamedTuple):
    """A packet type: its first byte, what stands before its properties and behind them, and what is allowed in it."""

    name: str
    first_byte: int
    before: bytes
    after: bytes
    properties: frozenset[int]
    reasons: frozenset[int]

    def packet(self, properties: bytes = b"", *, reason: int = 0, length: int | None = None) -> bytes:
        """The packet with these properties; `length` is what it says of their length."""
        length = len(properties) if length is None else length
        return frame(self.first_byte, self.body(reason, bytes((length,)) + properties))

    def body(self, reason: int, properties: bytes) -> bytes:
        """What follows the fixed header. The reason code is the last byte before the properties, or behind them."""
        before, after = self.before, self.after
        if self.reasons and after:
            after = bytes((reason,))
        elif self.reasons:
            before = before[:-1] + bytes((reason,))
        return before + properties + after


def frame(first_byte: int, body: bytes) -> bytes:
    """A packet of up to 16,383 bytes behind its fixed header."""
    length = len(body)
    digits = bytes((length,)) if length < 128 else bytes((length & 0x7F | 0x80, length >> 7))
    return bytes((first_byte,)) + digits + body


OF_PUBLISH = frozenset((0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26))
OF_CONNACK = frozenset(
    (0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A)
)
NONE: frozenset[int] = frozenset()

CONNACK = Kind("CONNACK", 0x20, b"\x00\x00", b"", OF_CONNACK, REASONS_OF_CONNACK)
PUBLISH = Kind("PUBLISH", 0x32, text(b"t") + b"\x00\x09", b"payload", OF_PUBLISH, NONE)
PUBACK = Kind("PUBACK", 0x40, b"\x00\x09\x00", b"", DIAGNOSTICS, REASONS_OF_PUBLISH)
PUBREC = Kind("PUBREC", 0x50, b"\x00\x09\x00", b"", DIAGNOSTICS, REASONS_OF_PUBLISH)
PUBREL = Kind("PUBREL", 0x62, b"\x00\x09\x00", b"", DIAGNOSTICS, REASONS_OF_RELEASE)
PUBCOMP = Kind("PUBCOMP", 0x70, b"\x00\x09\x00", b"", DIAGNOSTICS, REASONS_OF_RELEASE)
SUBACK = Kind("SUBACK", 0x90, b"\x00\x09", b"\x00", DIAGNOSTICS, REASONS_OF_SUBACK)
UNSUBACK = Kind("UNSUBACK", 0xB0, b"\x00\x09", b"\x00", DIAGNOSTICS, REASONS_OF_UNSUBACK)
DISCONNECT = Kind("DISCONNECT", 0xE0, b"\x00", b"", frozenset((0x11, 0x1C, 0x1F, 0x26)), REASONS_OF_DISCONNECT)

ANSWERS = (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK)
KINDS = (PUBLISH, *ANSWERS, DISCONNECT)
"""What may come on an established link. PINGRESP has nothing in it, and CONNACK has a table of its own."""

BAD_TEXTS = {
    "ill-formed UTF-8": b"\xff",
    "a surrogate": b"\xed\xa0\x80",
    "an overlong encoding": b"\xc0\xaf",
    "a character that is cut off": b"\xe2\x82",
    "U+0000": b"a\x00",
}


def encoded(identifier: int, value: bytes | None = None) -> bytes:
    """One property, with its usual value or that one."""
    return bytes((identifier,)) + (PROPERTIES[identifier].value if value is None else value)


def rows_of_properties(kind: Kind) -> Iterator[Row]:
    """Section 2.2.2: which properties, how often, and with which values."""
    for identifier, (name, _) in PROPERTIES.items():
        one = encoded(identifier)
        if identifier not in kind.properties:
            yield Row(f"{kind.name} with {name}", kind.packet(one), MALFORMED)
            continue
        yield from rows_of_one_property(kind, identifier, name, one)
    for identifier in (0x00, 0x04, 0x10, 0x14, 0x1B, 0x2B, 0x7E):
        unknown = bytes((identifier, 1))
        yield Row(f"{kind.name} with the unknown property 0x{identifier:02x}", kind.packet(unknown), MALFORMED)
    long = encoded(0x26)
    yield Row(f"{kind.name} whose property length is one too long", kind.packet(long, length=len(long) + 1), MALFORMED)
    yield Row(f"{kind.name} whose property length is one too short", kind.packet(long, length=len(long) - 1), MALFORMED)
    yield Row(f"{kind.name} whose property length is far too long", kind.packet(long, length=100), MALFORMED)
    lengths = {
        "longer than needed": b"\x80\x00",
        "of five bytes": b"\xff\xff\xff\xff\x01",
        "that never ends": b"\xff" * 9,
    }
    for what, digits in lengths.items():
        yield Row(f"{kind.name} with a property length {what}", frame(kind.first_byte, kind.body(0, digits)), MALFORMED)


def rows_of_one_property(kind: Kind, identifier: int, name: str, one: bytes) -> Iterator[Row]:
    """What can be wrong with a property that is allowed."""
    alone = {0x23: TOPIC_ALIAS_INVALID, 0x11: VIOLATION if kind is DISCONNECT else None}.get(identifier)
    yield Row(f"{kind.name} with {name}, which is allowed", kind.packet(one), alone)
    if identifier not in MORE_THAN_ONCE:
        yield Row(f"{kind.name} with {name} twice", kind.packet(one * 2), MALFORMED)
    else:
        yield Row(f"{kind.name} with {name} three times", kind.packet(one * 3))
    # With its last byte the value takes the only reason code of a SUBACK, which then has none.
    swallows = kind in (SUBACK, UNSUBACK)
    yield Row(f"{kind.name} with {name} cut off", kind.packet(one[:-1]), VIOLATION if swallows else MALFORMED)
    yield Row(f"{kind.name} with {name} and nothing in it", kind.packet(one[:1]), MALFORMED)
    if identifier in TEXTS:
        for what, bad in BAD_TEXTS.items():
            yield Row(f"{kind.name} with {name} of {what}", kind.packet(encoded(identifier, text(bad))), MALFORMED)
        beyond = encoded(identifier, b"\xff\xff" + b"x")
        yield Row(f"{kind.name} with {name} longer than the packet", kind.packet(beyond), MALFORMED)
    if identifier == 0x26:
        for what, bad in BAD_TEXTS.items():
            for place, pair in (("name", text(bad) + text(b"v")), ("value", text(b"n") + text(bad))):
                data = kind.packet(encoded(identifier, pair))
                yield Row(f"{kind.name} with {name} whose {place} is of {what}", data, MALFORMED)
    if identifier in TRUE_OR_FALSE:
        yield Row(f"{kind.name} with {name} 0", kind.packet(encoded(identifier, b"\x00")))
        for value in (2, 0x80, 0xFF):
            data = kind.packet(encoded(identifier, bytes((value,))))
            # A maximum QoS of 2 is against the letter, and says no more than its absence.
            closes = None if (identifier, value) == (0x24, 2) else MALFORMED
            yield Row(f"{kind.name} with {name} {value}", data, closes)
    if identifier in NEVER_ZERO:
        yield Row(f"{kind.name} with {name} 0", kind.packet(encoded(identifier, NEVER_ZERO[identifier])), MALFORMED)


def rows_of_reasons(kind: Kind) -> Iterator[Row]:
    """Section 2.4: a reason code that this packet does not have."""
    if not kind.reasons:
        return
    for reason in EVERY_REASON:
        if reason in kind.reasons:
            yield Row(f"{kind.name} with reason 0x{reason:02x}, which is listed", kind.packet(reason=reason))
        else:
            code = VIOLATION if kind is DISCONNECT and reason == 0x04 else MALFORMED
            yield Row(f"{kind.name} with reason 0x{reason:02x}", kind.packet(reason=reason), code)


def rows_of_flags(kind: Kind) -> Iterator[Row]:
    """Section 2.1.3: the reserved flags."""
    good = kind.first_byte & 0x0F
    for flags in range(16):
        if flags == good:
            continue
        data = bytes((kind.first_byte & 0xF0 | flags,)) + kind.packet()[1:]
        yield Row(f"{kind.name} with the flags {flags:04b}", data, MALFORMED)


def rows_of_lengths(kind: Kind) -> Iterator[Row]:
    """A packet that ends before what it must hold, or goes on behind it."""
    body = kind.body(0, b"\x00")
    shortest = {"PUBLISH": 6, "SUBACK": 4, "UNSUBACK": 4, "CONNACK": 3, "DISCONNECT": 0}.get(kind.name, 2)
    for length in range(shortest):
        what = f"{kind.name} of {length} bytes"
        no_codes = kind.name in ("SUBACK", "UNSUBACK") and length == 3
        yield Row(what, frame(kind.first_byte, body[:length]), VIOLATION if no_codes else MALFORMED)
    if kind.name not in ("PUBLISH", "SUBACK", "UNSUBACK"):
        for more in (b"\x00", b"\x26", b"xx"):
            yield Row(f"{kind.name} with {more.hex()} behind its end", frame(kind.first_byte, body + more), MALFORMED)


def rows_of_identifiers() -> Iterator[Row]:
    """Section 2.2.1: a packet identifier is never 0."""
    for kind in ANSWERS:
        body = b"\x00\x00" + kind.body(0, b"\x00")[2:]
        yield Row(f"{kind.name} with identifier 0", frame(kind.first_byte, body), VIOLATION)
        yield Row(f"{kind.name} with identifier 65535", frame(kind.first_byte, b"\xff\xff" + body[2:]))
        if kind not in (SUBACK, UNSUBACK):
            yield Row(f"short {kind.name} with identifier 0", frame(kind.first_byte, b"\x00\x00"), VIOLATION)
            yield Row(f"short {kind.name}", frame(kind.first_byte, b"\x00\x09"))
            yield Row(f"{kind.name} with a reason and identifier 0", frame(kind.first_byte, b"\x00\x00\x00"), VIOLATION)
            yield Row(f"{kind.name} with a reason and no properties", frame(kind.first_byte, b"\x00\x09\x00"))
    for first_byte, qos in ((0x32, 1), (0x34, 2), (0x3A, 1), (0x3C, 2)):
        what = f"PUBLISH 0x{first_byte:02x} at QoS {qos}"
        yield Row(f"{what} with identifier 0", frame(first_byte, text(b"t") + b"\x00\x00\x00x"), VIOLATION)
        yield Row(f"{what}, which is whole", frame(first_byte, text(b"t") + b"\x00\x09\x00x"))


def rows_of_publish() -> Iterator[Row]:
    """Section 3.3: flags and topics."""
    for first_byte in (0x36, 0x37, 0x3E, 0x3F):
        yield Row(f"PUBLISH 0x{first_byte:02x} at QoS 3", frame(first_byte, PUBLISH.body(0, b"\x00")), MALFORMED)
    for first_byte in (0x38, 0x39):
        data = frame(first_byte, text(b"t") + b"\x00x")
        yield Row(f"PUBLISH 0x{first_byte:02x}, repeated at QoS 0", data, MALFORMED)
    for first_byte in (0x30, 0x31):
        yield Row(f"PUBLISH 0x{first_byte:02x}, which is whole", frame(first_byte, text(b"t") + b"\x00x"))
    topics: dict[str, tuple[bytes, int | None]] = {
        "a wildcard # alone": (b"#", VIOLATION),
        "a wildcard + alone": (b"+", VIOLATION),
        "a wildcard at its end": (b"a/#", VIOLATION),
        "a wildcard in its middle": (b"a/+/b", VIOLATION),
        "a wildcard inside a level": (b"a#b", VIOLATION),
        "nothing, and no alias": (b"", MALFORMED),
        "a slash alone": (b"/", None),
        "a space": (b" ", None),
        "a topic of the broker's own": (b"$SYS/x", None),
        "a character of four bytes": ("\U0001f985".encode(), None),
        "a byte order mark": (b"\xef\xbb\xbft", None),
    }
    for what, bad in BAD_TEXTS.items():
        topics[what] = (bad, MALFORMED)
    for what, (topic, closes) in topics.items():
        for qos, first_byte, identifier in ((0, 0x30, b""), (1, 0x32, b"\x00\x09")):
            data = frame(first_byte, text(topic) + identifier + b"\x00x")
            yield Row(f"PUBLISH at QoS {qos} whose topic is {what}", data, closes)
    for what, topic in {"#": b"a/#", "+": b"+", "nothing": b""}.items():
        data = PUBLISH.packet(encoded(0x08, text(topic)))
        yield Row(f"PUBLISH whose response topic is {what}", data, VIOLATION)
    yield Row("PUBLISH with an alias and no topic", frame(0x30, text(b"") + b"\x03\x23\x00\x01x"), TOPIC_ALIAS_INVALID)
    yield Row("PUBLISH whose topic is longer than the packet", frame(0x30, b"\x00\x50t\x00x"), MALFORMED)
    yield Row("PUBLISH without a payload", frame(0x30, text(b"t") + b"\x00"))
    everything = b"".join(encoded(each) for each in sorted(OF_PUBLISH - {0x23}))
    yield Row("PUBLISH with every property", PUBLISH.packet(everything))
    yield Row("PUBLISH with the longest subscription identifier", PUBLISH.packet(encoded(0x0B, b"\xff\xff\xff\x7f")))
    yield Row(
        "PUBLISH with a subscription identifier of five bytes", PUBLISH.packet(b"\x0b\xff\xff\xff\xff\x01"), MALFORMED
    )


def rows_of_frames() -> Iterator[Row]:
    """Section 2.1: what no packet begins with, and what only a client says."""
    for flags in range(16):
        yield Row(f"type 0 with the flags {flags:04b}", bytes((flags, 0)), MALFORMED)
    never = {
        "CONNECT": b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc",
        "CONNECT, only its header": b"\x10\x10",
        "second CONNACK": b"\x20\x03\x00\x00\x00",
        "second CONNACK, a refusal": b"\x20\x03\x00\x87\x00",
        "second CONNACK, of MQTT 3.1.1": b"\x20\x02\x00\x00",
        "SUBSCRIBE": b"\x82\x07\x00\x01\x00\x00\x01a\x00",
        "UNSUBSCRIBE": b"\xa2\x06\x00\x01\x00\x00\x01a",
        "PINGREQ": b"\xc0\x00",
        "AUTH, short": b"\xf0\x00",
        "AUTH": b"\xf0\x02\x18\x00",
        "AUTH with a method": b"\xf0\x06\x18\x04\x15\x00\x01m",
    }
    for what, data in never.items():
        yield Row(what, data, VIOLATION)
    for first_byte, name in ((0x30, "PUBLISH"), (0x40, "PUBACK"), (0x90, "SUBACK"), (0xD0, "PINGRESP")):
        start = bytes((first_byte,))
        yield Row(f"{name} with a remaining length of five bytes", start + b"\xff\xff\xff\xff\x01", MALFORMED)
        yield Row(f"{name} with a remaining length that never ends", start + b"\x80" * 5, MALFORMED)
        yield Row(f"{name} with a remaining length longer than needed", start + b"\x82\x00" + bytes(2), MALFORMED)
        yield Row(f"{name} of 256 MiB announced", start + b"\xff\xff\xff\x7f", TOO_LARGE)
        yield Row(f"{name} one byte above the limit announced", start + b"\xe6\x07", TOO_LARGE)
    yield Row("PINGRESP", b"\xd0\x00")
    for flags in range(1, 16):
        yield Row(f"PINGRESP with the flags {flags:04b}", bytes((0xD0 | flags, 0)), MALFORMED)
    for body in (b"\x00", b"\x00\x00"):
        yield Row(f"PINGRESP with a body of {len(body)} bytes", frame(0xD0, body), MALFORMED)
    yield Row("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n", MALFORMED)
    yield Row("zeros", bytes(64), MALFORMED)
    yield Row("ones", b"\xff" * 64, VIOLATION)
    yield Row("SUBACK with 100 codes", frame(0x90, b"\x00\x09\x00" + b"\x01" * 100))
    yield Row("SUBACK whose last code is unknown", frame(0x90, b"\x00\x09\x00\x01\x01\x03"), MALFORMED)
    yield Row("DISCONNECT, empty", b"\xe0\x00")
    yield Row("DISCONNECT with a reason and no properties", b"\xe0\x01\x8b")


def tables() -> dict[str, list[Row]]:
    """Every row for an established link, by packet type. Packets are shorter than what the tests allow."""
    found = {"frames": [*rows_of_frames()], "topics": [*rows_of_publish()], "identifiers": [*rows_of_identifiers()]}
    for kind in KINDS:
        found[kind.name] = [*rows_of_properties(kind), *rows_of_reasons(kind), *rows_of_lengths(kind)]
        if kind is not PUBLISH:
            found[kind.name] += rows_of_flags(kind)
    return found


def rows_of_connack() -> list[Row]:
    """Every row for the answer to a CONNECT with Clean Start."""
    found = [
        *rows_of_properties(CONNACK),
        *rows_of_reasons(CONNACK),
        *rows_of_flags(CONNACK),
        *rows_of_lengths(CONNACK),
    ]
    for flags in range(1, 256):
        if flags.bit_count() == 1 or flags == 0xFF:
            what = "a session that was not asked for" if flags == 1 else f"the acknowledge flags 0x{flags:02x}"
            found.append(
                Row(f"CONNACK with {what}", frame(0x20, bytes((flags, 0, 0))), VIOLATION if flags == 1 else MALFORMED)
            )
    everything = b"".join(encoded(each) for each in sorted(OF_CONNACK))
    found.append(Row("CONNACK with every property", CONNACK.packet(everything)))
    return found


TABLES, TABLE_OF_CONNACK = tables(), rows_of_connack()
ROWS = [row for table in TABLES.values() for row in table]


def test_the_tables_are_long_and_say_nothing_twice() -> None:
    every = [*ROWS, *TABLE_OF_CONNACK]
    assert len({row.what for row in every}) == len(every)
    assert sum(row.closes is not None for row in every) >= 1_000
    assert sum(row.closes is None for row in every) >= 100


def matches(row: Row, ending: Cause | None) -> bool:
    """Whether a link ended, or did not, as the row says. A broken rule is told without any payload (promise C10)."""
    if row.closes is None:
        return ending is None or (row.what.startswith("DISCONNECT") and ending.kind is CauseKind.DISCONNECT)
    if ending is None or "payload" in ending.text.replace("payload format", ""):
        return False
    return (ending.kind, ending.reason_code) == (CauseKind.PROTOCOL_ERROR, row.closes)


@pytest.mark.parametrize("table", TABLES)
def test_each_packet_keeps_or_closes_and_what_came_before_it_is_delivered(table: str) -> None:
    wrong: list[tuple[str, Cause | None]] = []
    for row in TABLES[table]:
        # Whole, and byte by byte: a header alone may betray it, and a body may not be there yet.
        for pieces in ([GOOD + row.data], [GOOD, *(bytes((byte,)) for byte in row.data)]):
            decoder = Decoder(maximum_packet_size=LIMIT)
            arrivals = [decoder.feed(piece) for piece in pieces]
            said = [identifier for part in arrivals for identifier in part.acknowledged]
            fits = matches(row, decoder.ending) and said[:1] == [0x63]
            if row.closes is not None:
                others = any(part.inbound or part.pong or part.acknowledgements for part in arrivals)
                fits = fits and said == [0x63] and not others
            # A link that lives goes on with the next packet; one that does not hears nothing more.
            fits = fits and (decoder.feed(GOOD).acknowledged == [0x63]) == (decoder.ending is None)
            if not fits:
                wrong.append((row.what, decoder.ending))
    assert wrong == []


def test_each_answer_to_a_connect_is_understood_or_refused() -> None:
    wrong: list[tuple[str, object]] = []
    for row in TABLE_OF_CONNACK:
        outcome: object
        try:
            answer = decode_connack(row.data + GOOD, clean_start=True, maximum_packet_size=LIMIT)
        except ProtocolError as error:
            outcome, fits = error, error.reason_code == row.closes
        else:
            # What follows is left for the link.
            outcome, fits = answer, row.closes is None and answer is not None and answer[1] == len(row.data)
        if not fits:
            wrong.append((row.what, outcome))
    assert wrong == []


async def ending_of(link: StreamLink, *, within_s: float) -> tuple[list[int], Cause | None]:
    """The identifiers of the PUBACKs that come, and why the link ended; None when it did not in that time."""
    said: list[int] = []
    lost: list[object] = []
    with anyio.move_on_after(within_s):
        try:
            while True:
                said += (await link.receive()).acknowledged
        except LinkLost as error:
            lost.append(error.cause)
    return said, cast(Cause, lost[0]) if lost else None


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_link_says_to_its_broker_what_the_row_says(backend: str) -> None:
    """A sample of the rows, of every packet type some, through a link and its stream."""
    config, request = Config(max_packet_size=LIMIT), ConnectRequest("client", True)

    async def program() -> None:
        for row in ROWS[::7]:
            client, broker = memory_stream_pair()
            await broker.send(b"\x20\x03\x00\x00\x00" + GOOD + row.data)
            link = await open_link(client, config=config, request=request)
            said, ending = await ending_of(link, within_s=5.0)
            written = await broker.receive()
            assert written[0] == 0x10, "CONNECT"
            farewell = b"" if row.closes is None else bytes((0xE0, 1, row.closes))
            assert matches(row, ending), row.what
            assert said[0] == 0x63, row.what
            assert written.endswith(farewell), row.what
            await link.aclose()

    run(program, backend=backend, limit_s=100_000.0)
