"""The fixed header of MQTT's packets (MQTT 5.0, 2.1): where a packet ends, before its body is there.

What a header alone can betray is refused here, so that a peer cannot make hawk buffer what will never be a packet, or
more than hawk agreed to. Bodies are the codec's.
"""

from collections.abc import Iterable

from hawk.errors import ProtocolError

Buffer = bytes | bytearray | memoryview

PUBLISH = 3
_FLAGGED_TYPES = frozenset((6, 8, 10))  # PUBREL, SUBSCRIBE, UNSUBSCRIBE: the reserved flags are 0010

MALFORMED_PACKET = 0x81
PROTOCOL_VIOLATION = 0x82
PACKET_TOO_LARGE = 0x95


def frame_length(buffer: Buffer, start: int, *, maximum_packet_size: int) -> int | None:
    """The whole length in bytes of the packet that begins at `start`; None while its header is incomplete.

    Raises `ProtocolError`: 0x81 for a header that no packet has, 0x95 for a length above `maximum_packet_size`.
    """
    available = len(buffer) - start
    if available < 1:
        return None
    packet_type = buffer[start] >> 4
    _check_flags(packet_type, buffer[start] & 0x0F)
    remaining = 0
    for place in range(4):
        if available < place + 2:
            return None
        digit = buffer[start + 1 + place]
        remaining |= (digit & 0x7F) << (7 * place)
        if digit < 0x80:
            if digit == 0 and place > 0:
                what = "the remaining length takes more bytes than it needs"
                raise ProtocolError(what, reason_code=MALFORMED_PACKET, offset=1 + place, packet_type=packet_type)
            length = place + 2 + remaining
            if length > maximum_packet_size:
                what = f"a packet of {length} bytes, above the maximum packet size of {maximum_packet_size}"
                raise ProtocolError(what, reason_code=PACKET_TOO_LARGE, offset=1, packet_type=packet_type)
            return length
    what = "the remaining length takes more than four bytes"
    raise ProtocolError(what, reason_code=MALFORMED_PACKET, offset=4, packet_type=packet_type)


def check_property_length(buffer: Buffer, start: int, *, size: int, before: int, after: int) -> int:
    """Check that the properties of a packet end where they say (MQTT 5.0, 2.2.2.1), which the codec does not do.

    The packet is whole, readable, `size` bytes long, begins at `start`; `before` bytes of its variable header stand
    ahead of the property length, and `after` bytes follow the properties. Returns their length in bytes. Raises
    `ProtocolError` 0x81.
    """
    _, body_at = _variable_byte_integer(buffer, start + 1)
    length, properties_at = _variable_byte_integer(buffer, body_at + before)
    if properties_at + length != start + size - after:
        what = "the properties do not end where their length says"
        offset = properties_at - start
        raise ProtocolError(what, reason_code=MALFORMED_PACKET, offset=offset, packet_type=buffer[start] >> 4)
    return length


def check_texts(texts: Iterable[str | None], packet_type: int) -> None:
    """Check that no text of a packet holds U+0000 (MQTT-1.5.4-2); the codec does not. Raises `ProtocolError` 0x81."""
    for text in texts:
        if text is not None and "\0" in text:
            what = "a text contains U+0000"
            raise ProtocolError(what, reason_code=MALFORMED_PACKET, packet_type=packet_type)


def _check_flags(packet_type: int, flags: int) -> None:
    what = ""
    if packet_type == 0:
        what = "packet type 0 is reserved"
    elif packet_type == PUBLISH:
        if flags & 0b0110 == 0b0110:
            what = "a PUBLISH has no QoS 3"
        elif flags & 0b1110 == 0b1000:
            what = "a PUBLISH at QoS 0 is never a duplicate"
    elif flags != (0b0010 if packet_type in _FLAGGED_TYPES else 0):
        what = "the reserved flags of the fixed header are wrong"
    if what:
        raise ProtocolError(what, reason_code=MALFORMED_PACKET, packet_type=packet_type)


def _variable_byte_integer(buffer: Buffer, at: int) -> tuple[int, int]:
    """The well-formed integer at `at`, and where it ends (MQTT 5.0, 1.5.5)."""
    value = shift = 0
    while True:
        digit = buffer[at]
        at += 1
        value |= (digit & 0x7F) << shift
        if digit < 0x80:
            return value, at
        shift += 7
