"""hawk's packets to bytes (MQTT 5.0, chapter 3). The hot path, a run of PUBLISHes, stands in line.

An `Encoder` belongs to one link and dies with it, and with it the topic aliases that it has given out (section
3.3.2.3.4): first come, first served, up to what the broker takes. A topic that a later link carries is spelled out again.

Two PUBLISHes of one topic, QoS, retain flag and payload length differ in identifier and payload alone. So what the codec
wrote for the first is the template of those that follow, at a third of the codec's price.
"""

import math
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple, assert_never

import mqtt5

from hawk.core.wire_size import LARGEST_EXPIRY_S
from hawk.packets import (
    AckKind,
    Acknowledgement,
    DisconnectRequest,
    Outgoing,
    PingRequest,
    Publish,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hawk.protocol.version5.guard import is_panic
from hawk.values import NO_PROPERTIES, Properties

_QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE, mqtt5.QoS.EXACTLY_ONCE)
_RETAIN_HANDLING = (
    mqtt5.RetainHandling.SEND_ALWAYS,
    mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
    mqtt5.RetainHandling.SEND_NEVER,
)
_Rare = Acknowledgement | SubscribeRequest | UnsubscribeRequest | PingRequest | DisconnectRequest

SHORTEST_ALIASED = 5
"""An alias takes three bytes, and may lengthen the length of the properties by one: shorter topics gain nothing."""
ALIAS_BYTES = 3
MOST_TEMPLATES = 1024
LONGEST_TEMPLATE_BYTES = 512

_pack_identifier = Struct(">H").pack


class _Template(NamedTuple):
    """A PUBLISH without its identifier and its payload: what stands before the one, and between the two."""

    head: bytes
    tail: bytes


class Encoder:
    """What one link writes. `topic_alias_maximum` and `maximum_packet_size` are the broker's, from its CONNACK."""

    __slots__ = ("_aliases", "_maximum_packet_size", "_templates", "_topic_alias_maximum")

    def __init__(self, *, topic_alias_maximum: int = 0, maximum_packet_size: int | None = None) -> None:
        self._topic_alias_maximum = topic_alias_maximum
        self._maximum_packet_size = math.inf if maximum_packet_size is None else maximum_packet_size
        self._aliases: dict[str, int] = {}
        self._templates: dict[tuple[str, int, int, bool], _Template] = {}

    def encode(self, packets: Sequence[Outgoing]) -> list[bytes]:
        """The bytes of each packet, in order; to be written in that order, and all of them, or the link must end.

        Raises `ValueError` for what MQTT cannot carry: a wildcard in a topic, an identifier at QoS 0, none above it, a
        packet of 256 MiB. Whoever accepts messages has made sure of all that.
        """
        encoded: list[bytes] = []
        append, template_of, pack_identifier = encoded.append, self._templates.get, _pack_identifier
        try:
            for packet in packets:
                if isinstance(packet, Publish):
                    (topic, payload, qos, retain, properties), identifier, duplicate = packet
                    if not duplicate and properties is NO_PROPERTIES:
                        # ~qos: one without an identifier has no template but at QoS 0.
                        template = template_of((topic, len(payload), qos if identifier else ~qos, retain))
                        if template is not None:
                            head, tail = template
                            append(
                                head + pack_identifier(identifier) + tail + payload if identifier else head + payload
                            )
                            continue
                    append(self._encode_publish(packet))
                else:
                    append(self._encode_rare(packet))
        except BaseException as error:
            if not is_panic(error):
                raise
            raise ValueError("a packet cannot be encoded") from None
        return encoded

    def _encode_publish(self, packet: Publish) -> bytes:
        topic = packet.message.topic
        if alias := self._aliases.get(topic):
            # Never longer than the topic spelled out, so it fits where that does.
            return self._as_template(packet, _write_publish(packet, "", alias))
        if len(self._aliases) < self._topic_alias_maximum and len(topic) >= SHORTEST_ALIASED:
            alias = len(self._aliases) + 1
            encoded = _write_publish(packet, topic, alias)
            if len(encoded) <= self._maximum_packet_size:
                self._aliases[topic] = alias
                return encoded
        return self._as_template(packet, _write_publish(packet, topic, None))

    def _encode_rare(self, packet: _Rare) -> bytes:
        encoded = _encode_rare(packet)
        if isinstance(packet, DisconnectRequest) and len(encoded) > self._maximum_packet_size:
            # Only its property can be left out, and a session that ends later than it might harms nobody.
            return _encode_rare(packet._replace(session_expiry_s=None))
        return encoded

    def _as_template(self, packet: Publish, encoded: bytes) -> bytes:
        """Keep what the codec wrote for those like it. Returns it."""
        (topic, payload, qos, retain, properties), identifier, duplicate = packet
        payload_at = len(encoded) - len(payload)
        if duplicate or properties is not NO_PROPERTIES or payload_at > LONGEST_TEMPLATE_BYTES:
            return encoded
        if len(self._templates) >= MOST_TEMPLATES:
            self._templates.clear()
        if identifier:
            identifier_at = payload_at - 2 - (1 + ALIAS_BYTES if topic in self._aliases else 1)
            assert encoded[identifier_at : identifier_at + 2] == _pack_identifier(identifier)
            template = _Template(encoded[:identifier_at], encoded[identifier_at + 2 : payload_at])
        else:
            template = _Template(encoded[:payload_at], b"")
        self._templates[topic, len(payload), qos if identifier else ~qos, retain] = template
        return encoded


def encode(packets: Sequence[Outgoing]) -> list[bytes]:
    """The bytes of each packet, as `Encoder.encode`, without aliases."""
    return Encoder().encode(packets)


def _write_publish(packet: Publish, topic: str, alias: int | None) -> bytes:
    (_, payload, qos, retain, properties), identifier, duplicate = packet
    if properties is NO_PROPERTIES:
        publish = mqtt5.PublishPacket(
            topic,
            payload,
            qos=_QOS[qos],
            retain=retain,
            packet_id=identifier or None,
            duplicate=duplicate,
            topic_alias=alias,
        )
        return publish.write()
    _, text, content_type, response_topic, correlation_data, user = properties
    publish = mqtt5.PublishPacket(
        topic,
        payload,
        qos=_QOS[qos],
        retain=retain,
        packet_id=identifier or None,
        duplicate=duplicate,
        payload_format_indicator=int(text),
        message_expiry_interval=_expiry_interval(properties),
        content_type=content_type,
        response_topic=response_topic,
        correlation_data=correlation_data,
        topic_alias=alias,
        user_properties=list(user),
    )
    return publish.write()


def _expiry_interval(properties: Properties) -> int | None:
    """Whole seconds, rounded up: a message that may live for another moment is not born dead."""
    expiry_s = properties.expiry_s
    return None if expiry_s is None else min(max(0, math.ceil(expiry_s)), LARGEST_EXPIRY_S)


def _encode_rare(packet: _Rare) -> bytes:
    match packet:
        case Acknowledgement():
            return _encode_acknowledgement(packet)
        case SubscribeRequest(identifier, filters, subscription_identifier):
            topic_filters = [
                mqtt5.TopicFilter(
                    pattern,
                    max_qos=_QOS[qos],
                    no_local=no_local,
                    # The codec's default, True, is not MQTT's: a live message would then look like a retained one.
                    retain_as_published=retain_as_published,
                    retain_handling=_RETAIN_HANDLING[retain_handling],
                )
                for pattern, qos, no_local, retain_as_published, retain_handling in filters
            ]
            return mqtt5.SubscribePacket(
                identifier, topic_filters, subscription_id=subscription_identifier or None
            ).write()
        case UnsubscribeRequest(identifier, patterns):
            return mqtt5.UnsubscribePacket(identifier, list(patterns)).write()
        case PingRequest():
            return mqtt5.PingReqPacket().write()
        case DisconnectRequest(reason_code, session_expiry_s):
            reason = mqtt5.DisconnectReasonCode(reason_code)
            return mqtt5.DisconnectPacket(reason_code=reason, session_expiry_interval=session_expiry_s).write()
        case _:
            assert_never(packet)


def _encode_acknowledgement(acknowledgement: Acknowledgement) -> bytes:
    kind, identifier, code = acknowledgement
    match kind:
        case AckKind.PUBACK:
            return mqtt5.PubAckPacket(identifier, reason_code=mqtt5.PubAckReasonCode(code)).write()
        case AckKind.PUBREC:
            return mqtt5.PubRecPacket(identifier, reason_code=mqtt5.PubRecReasonCode(code)).write()
        case AckKind.PUBREL:
            return mqtt5.PubRelPacket(identifier, reason_code=mqtt5.PubRelReasonCode(code)).write()
        case AckKind.PUBCOMP:
            return mqtt5.PubCompPacket(identifier, reason_code=mqtt5.PubCompReasonCode(code)).write()
        case _:
            assert_never(kind)
