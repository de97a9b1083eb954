"""Bytes from the broker to `Arrivals`, for an established link (MQTT 5.0, chapter 3).

The codec does the parsing; this module does what the codec leaves open: packets that a broker must not send, packet
identifier 0, topics that no topic name may be, aliases that hawk did not offer, property lengths that lie. The hot
path, a run of short acknowledgements, stands in line.
"""

from struct import Struct

import mqtt5

from hawk.errors import ProtocolError
from hawk.packets import AckKind, Acknowledgement, Arrivals, Delivery, SubscribeOutcome
from hawk.protocol.framing import MALFORMED_PACKET, PROTOCOL_VIOLATION, Buffer, check_property_length, check_texts
from hawk.protocol.version5.guard import read_packet
from hawk.protocol.version5.reasons import legible, reason_text
from hawk.values import NO_PROPERTIES, Cause, CauseKind, Message, Properties

_PUBLISH = 3
_TOPIC_ALIAS_INVALID = 0x94

_PUBACK = 0x40
_SUCCESSES = b"\x00\x10"
_PUBACK_RUNS = {4: Struct("!xxH"), 5: Struct("!xxHx")}
# So that short runs between other packets do not each look at all that is left.
_LONGEST_RUN = 1024
_SHORT_ACKNOWLEDGEMENT = Struct("!HH")
_SHORT_KINDS = {0x5002: AckKind.PUBREC, 0x6202: AckKind.PUBREL, 0x7002: AckKind.PUBCOMP}

_NEVER_FROM_A_BROKER = {
    1: "a CONNECT came from the broker",
    2: "a second CONNACK came",
    8: "a SUBSCRIBE came from the broker",
    10: "an UNSUBSCRIBE came from the broker",
    12: "a PINGREQ came from the broker",
    15: "an AUTH came, and no authentication was asked for",
}


_Answer = (
    mqtt5.PubAckPacket
    | mqtt5.PubRecPacket
    | mqtt5.PubRelPacket
    | mqtt5.PubCompPacket
    | mqtt5.SubAckPacket
    | mqtt5.UnsubAckPacket
    | mqtt5.DisconnectPacket
)


class Decoder:
    """Turns what a link reads after the CONNACK into `Arrivals`. `feed` never raises, whatever the bytes.

    When the broker says DISCONNECT, or breaks the protocol, `ending` says so from then on, and nothing more is read.
    Keeps at most one incomplete packet: `maximum_packet_size` bytes and one read.
    """

    __slots__ = ("_incomplete", "_maximum_packet_size", "ending")

    def __init__(self, *, maximum_packet_size: int) -> None:
        self.ending: Cause | None = None
        """Why nothing more is read: the broker's DISCONNECT, or what it did wrong."""
        self._maximum_packet_size = maximum_packet_size
        self._incomplete = bytearray()

    def has_ended(self) -> bool:
        """Whether `ending` is set."""
        return self.ending is not None

    def feed(self, data: bytes) -> Arrivals:
        """All that the packets completed by `data` say, up to the one that ends the link; look at `ending` after it."""
        arrivals = Arrivals()
        if self.ending is not None:
            return arrivals
        buffer: bytes | bytearray = data
        if self._incomplete:
            self._incomplete += data
            buffer = self._incomplete
        try:
            taken = self._take_packets(buffer, arrivals)
        except ProtocolError as error:
            self.ending = protocol_error_cause(error)
        if self.ending is not None:
            self._incomplete = bytearray()
        elif buffer is data:
            self._incomplete += data[taken:]
        else:
            del self._incomplete[:taken]
        return arrivals

    def _take_packets(self, buffer: bytes | bytearray, arrivals: Arrivals) -> int:
        """Sort every whole packet into `arrivals`; returns how many bytes they took."""
        position, end = 0, len(buffer)
        with memoryview(buffer) as view:
            while position < end and self.ending is None:
                if position + 4 <= end:
                    if buffer[position] == _PUBACK and (length := _take_pubacks(buffer, position, arrivals)):
                        position += length
                        continue
                    header, identifier = _SHORT_ACKNOWLEDGEMENT.unpack_from(buffer, position)
                    kind = _SHORT_KINDS.get(header)
                    if kind is not None and identifier:
                        acknowledgement = Acknowledgement(kind, identifier)
                        if kind is AckKind.PUBREL:
                            arrivals.inbound.append(acknowledgement)
                        else:
                            arrivals.acknowledgements.append(acknowledgement)
                        position += 4
                        continue
                packet_type = buffer[position] >> 4
                if packet_type in _NEVER_FROM_A_BROKER:
                    raise _violation(_NEVER_FROM_A_BROKER[packet_type], packet_type)
                with view[position:] as rest:  # released at once: a buffer that is viewed cannot grow
                    whole = read_packet(rest, maximum_packet_size=self._maximum_packet_size)
                if whole is None:
                    break
                packet, size = whole
                self._sort(packet, arrivals, buffer, position, size)
                position += size
        return position

    def _sort(self, packet: mqtt5.Packet, arrivals: Arrivals, buffer: Buffer, start: int, size: int) -> None:
        match packet:
            case mqtt5.PublishPacket():
                arrivals.inbound.append(_delivery(packet, buffer, start, size))
            case mqtt5.PubAckPacket():
                arrivals.acknowledgements.append(_acknowledgement(AckKind.PUBACK, packet, buffer, start, size))
            case mqtt5.PubRecPacket():
                arrivals.acknowledgements.append(_acknowledgement(AckKind.PUBREC, packet, buffer, start, size))
            case mqtt5.PubCompPacket():
                arrivals.acknowledgements.append(_acknowledgement(AckKind.PUBCOMP, packet, buffer, start, size))
            case mqtt5.PubRelPacket():
                arrivals.inbound.append(_acknowledgement(AckKind.PUBREL, packet, buffer, start, size))
            case mqtt5.SubAckPacket() | mqtt5.UnsubAckPacket():
                arrivals.inbound.append(_subscribe_outcome(packet, buffer, start, size))
            case mqtt5.PingRespPacket():
                arrivals.pong = True
            case mqtt5.DisconnectPacket():
                self.ending = _farewell(packet, buffer, start, size)
            case _:
                raise _violation("a packet that hawk does not expect", buffer[start] >> 4)


def _take_pubacks(buffer: Buffer, position: int, arrivals: Arrivals) -> int:
    """Take the run of plain PUBACKs that begins there: four bytes each, or five with a reason code that says success.

    Found and read as slices, not packet by packet: under load a read holds hundreds of them. Returns their bytes.
    """
    size = 4 if buffer[position + 1] == 2 else 5
    packets = bytes(buffer[position : position + min(_LONGEST_RUN, (len(buffer) - position) // size) * size])
    run = len(packets) // size
    for offset, wanted in ((0, b"\x40"), (1, b"\x02" if size == 4 else b"\x03")):
        column = packets[offset : run * size : size]
        run -= len(column.lstrip(wanted))
    if size == 5:
        column = packets[4 : run * size : size]
        run -= len(column.lstrip(_SUCCESSES))
    identifiers = [identifier for (identifier,) in _PUBACK_RUNS[size].iter_unpack(packets[: run * size])]
    if 0 in identifiers:
        run = identifiers.index(0)
        del identifiers[run:]
    if arrivals.acknowledgements:
        arrivals.acknowledgements += [Acknowledgement(AckKind.PUBACK, identifier) for identifier in identifiers]
    else:
        arrivals.acknowledged += identifiers
    return run * size


def protocol_error_cause(error: ProtocolError) -> Cause:
    """The cause that a link ends with when its peer broke the protocol; its reason code is what DISCONNECT says."""
    text = f"{error.what} (packet type {error.packet_type}, offset {error.offset})"
    return Cause(CauseKind.PROTOCOL_ERROR, text, error.reason_code)


def _delivery(packet: mqtt5.PublishPacket, buffer: Buffer, start: int, size: int) -> Delivery:
    topic, qos = packet.topic, int(packet.qos)
    if "\0" in topic:
        raise ProtocolError("a topic contains U+0000", reason_code=MALFORMED_PACKET, packet_type=buffer[start] >> 4)
    if "+" in topic or "#" in topic:
        raise _violation("a topic name contains a wildcard", buffer[start] >> 4)
    if packet.duplicate and not qos:
        what = "a PUBLISH at QoS 0 is never a duplicate"
        raise ProtocolError(what, reason_code=MALFORMED_PACKET, packet_type=buffer[start] >> 4)
    identifier = 0 if packet.packet_id is None else _checked_identifier(packet.packet_id, buffer, start)
    before = 2 + (len(topic) if topic.isascii() else len(topic.encode())) + (2 if qos else 0)
    payload = packet.payload
    length = check_property_length(buffer, start, size=size, before=before, after=len(payload))
    if not length:
        return Delivery(Message(topic, payload, qos, packet.retain), identifier, packet.duplicate)
    named = tuple(packet.subscription_ids)
    # What a broker adds to every message of a subscription, and mostly all there is.
    properties = NO_PROPERTIES if len(named) == 1 and length == _named_bytes(named[0]) else _properties(packet)
    return Delivery(Message(topic, payload, qos, packet.retain, properties), identifier, packet.duplicate, named)


def _named_bytes(subscription_identifier: int) -> int:
    """How long the property is that carries it: its own byte, and a variable byte integer (sections 1.5.5, 3.3.2.3.8)."""
    return 1 + max(1, -(-subscription_identifier.bit_length() // 7))


def _properties(packet: mqtt5.PublishPacket) -> Properties:
    """What a PUBLISH carries beside its payload (MQTT 5.0, 3.3.2.3)."""
    if packet.topic_alias is not None:
        what = "a topic alias, and hawk allows none"
        raise ProtocolError(what, reason_code=_TOPIC_ALIAS_INVALID, packet_type=_PUBLISH)
    text_says, response_topic = packet.payload_format_indicator, packet.response_topic
    if text_says > 1:
        what = "the payload format indicator is neither 0 nor 1"
        raise ProtocolError(what, reason_code=MALFORMED_PACKET, packet_type=_PUBLISH)
    check_texts((packet.content_type, response_topic), _PUBLISH)
    user = tuple(packet.user_properties)
    for pair in user:
        check_texts(pair, _PUBLISH)
    if response_topic is not None and (not response_topic or "+" in response_topic or "#" in response_topic):
        raise _violation("a response topic is no topic name", _PUBLISH)
    expiry_s = packet.message_expiry_interval
    return Properties(
        None if expiry_s is None else float(expiry_s),
        text_says == 1,
        packet.content_type,
        response_topic,
        packet.correlation_data,
        user,
    )


def _acknowledgement(
    kind: AckKind,
    packet: mqtt5.PubAckPacket | mqtt5.PubRecPacket | mqtt5.PubRelPacket | mqtt5.PubCompPacket,
    buffer: Buffer,
    start: int,
    size: int,
) -> Acknowledgement:
    identifier = _checked_identifier(packet.packet_id, buffer, start)
    # Shorter ones have no properties (MQTT 5.0, 3.4.2.2.1).
    if buffer[start + 1] > 3 and check_property_length(buffer, start, size=size, before=3, after=0):
        _check_diagnostics(packet, buffer, start)
    return Acknowledgement(kind, identifier, int(packet.reason_code))


def _subscribe_outcome(
    packet: mqtt5.SubAckPacket | mqtt5.UnsubAckPacket, buffer: Buffer, start: int, size: int
) -> SubscribeOutcome:
    identifier = _checked_identifier(packet.packet_id, buffer, start)
    reason_codes = tuple(int(code) for code in packet.reason_codes)
    if not reason_codes:
        raise _violation("an answer to a subscription without a reason code", buffer[start] >> 4)
    if check_property_length(buffer, start, size=size, before=2, after=len(reason_codes)):
        _check_diagnostics(packet, buffer, start)
    return SubscribeOutcome(identifier, reason_codes, leaving=isinstance(packet, mqtt5.UnsubAckPacket))


def _farewell(packet: mqtt5.DisconnectPacket, buffer: Buffer, start: int, size: int) -> Cause:
    code = int(packet.reason_code)
    # Shorter ones have no properties (MQTT 5.0, 3.14.2.2.1).
    if buffer[start + 1] > 1 and check_property_length(buffer, start, size=size, before=1, after=0):
        check_texts((packet.server_reference,), buffer[start] >> 4)
        _check_diagnostics(packet, buffer, start)
    if packet.reason_code == mqtt5.DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE:
        raise _violation("a DISCONNECT with the reason code of a client", buffer[start] >> 4)
    if packet.session_expiry_interval is not None:
        raise _violation("a DISCONNECT of the broker sets the session expiry", buffer[start] >> 4)
    text = reason_text(code, packet.reason_str, success="normal disconnection")
    reference = packet.server_reference
    return Cause(CauseKind.DISCONNECT, text, code, None if reference is None else legible(reference))


def _check_diagnostics(packet: _Answer, buffer: Buffer, start: int) -> None:
    """The Reason String and the User Properties, which nothing depends on, are texts all the same."""
    packet_type = buffer[start] >> 4
    check_texts((packet.reason_str,), packet_type)
    for pair in packet.user_properties:
        check_texts(pair, packet_type)


def _checked_identifier(identifier: int, buffer: Buffer, start: int) -> int:
    if identifier == 0:
        raise _violation("packet identifier 0", buffer[start] >> 4)
    return identifier


def _violation(what: str, packet_type: int) -> ProtocolError:
    return ProtocolError(what, reason_code=PROTOCOL_VIOLATION, packet_type=packet_type)
