"""hawk's packets to bytes (MQTT 5.0, chapter 3). The hot path, a run of PUBLISHes, stands in line.

An `Encoder` belongs to one link and dies with it, and with it the topic aliases that it has given out (section
3.3.2.3.4): first come, first served, up to what the broker takes. A topic that a later link carries is spelled out again.
"""

import math
from collections.abc import Sequence
from typing import assert_never

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
_Rare = Acknowledgement | SubscribeRequest | UnsubscribeRequest | PingRequest | DisconnectRequest

SHORTEST_ALIASED = 5
"""An alias takes three bytes, and may lengthen the length of the properties by one: shorter topics gain nothing."""


class Encoder:
    """What one link writes. `topic_alias_maximum` and `maximum_packet_size` are the broker's, from its CONNACK."""

    __slots__ = ("_aliases", "_maximum_packet_size", "_topic_alias_maximum")

    def __init__(self, *, topic_alias_maximum: int = 0, maximum_packet_size: int | None = None) -> None:
        self._topic_alias_maximum = topic_alias_maximum
        self._maximum_packet_size = math.inf if maximum_packet_size is None else maximum_packet_size
        self._aliases: dict[str, int] = {}

    def encode(self, packets: Sequence[Outgoing]) -> list[bytes]:
        """The bytes of each packet, in order; to be written in that order, and all of them, or the link must end.

        Raises `ValueError` for what MQTT cannot carry: a wildcard in a topic, an identifier at QoS 0, none above it, a
        packet of 256 MiB. Whoever accepts messages has made sure of all that.
        """
        encoded: list[bytes] = []
        append = encoded.append
        new_publish, aliases, gives_aliases = mqtt5.PublishPacket, self._aliases, self._topic_alias_maximum > 0
        try:
            for packet in packets:
                if isinstance(packet, Publish):
                    (topic, payload, qos, retain, properties), identifier, duplicate = packet
                    if properties is not NO_PROPERTIES or (gives_aliases and topic not in aliases):
                        append(self._encode_publish(packet))
                    elif gives_aliases:
                        append(_write_publish(packet, "", aliases[topic]))
                    else:
                        publish = new_publish(
                            topic,
                            payload,
                            qos=_QOS[qos],
                            retain=retain,
                            packet_id=identifier or None,
                            duplicate=duplicate,
                        )
                        append(publish.write())
                else:
                    append(_encode_rare(packet))
        except BaseException as error:
            if not is_panic(error):
                raise
            raise ValueError("a packet cannot be encoded") from None
        return encoded

    def _encode_publish(self, packet: Publish) -> bytes:
        topic = packet.message.topic
        if alias := self._aliases.get(topic):
            # Never longer than the topic spelled out, so it fits where that does.
            return _write_publish(packet, "", alias)
        if len(self._aliases) < self._topic_alias_maximum and len(topic) >= SHORTEST_ALIASED:
            alias = len(self._aliases) + 1
            encoded = _write_publish(packet, topic, alias)
            if len(encoded) <= self._maximum_packet_size:
                self._aliases[topic] = alias
                return encoded
        return _write_publish(packet, topic, None)


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
        case SubscribeRequest(identifier, filters):
            topic_filters = [
                # The codec's default, True, is not MQTT's: a live message would then look like a retained one.
                mqtt5.TopicFilter(each.filter, max_qos=_QOS[each.qos], retain_as_published=False)
                for each in filters
            ]
            return mqtt5.SubscribePacket(identifier, topic_filters).write()
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
