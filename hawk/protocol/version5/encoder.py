"""hawk's packets to bytes (MQTT 5.0, chapter 3). The hot path, a run of PUBLISHes, stands in line."""

from collections.abc import Sequence
from typing import assert_never

import mqtt5

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

_QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE, mqtt5.QoS.EXACTLY_ONCE)
_Rare = Acknowledgement | SubscribeRequest | UnsubscribeRequest | PingRequest | DisconnectRequest


def encode(packets: Sequence[Outgoing]) -> list[bytes]:
    """The bytes of each packet, in order.

    Raises `ValueError` for what MQTT cannot carry: a wildcard in a topic, an identifier at QoS 0, none above it, a
    packet of 256 MiB. Whoever accepts messages has made sure of all that.
    """
    encoded: list[bytes] = []
    append = encoded.append
    new_publish = mqtt5.PublishPacket
    try:
        for packet in packets:
            if isinstance(packet, Publish):
                (topic, payload, qos, retain, _), identifier, duplicate = packet
                publish = new_publish(
                    topic, payload, qos=_QOS[qos], retain=retain, packet_id=identifier or None, duplicate=duplicate
                )
                append(publish.write())
            else:
                append(_encode_rare(packet))
    except BaseException as error:
        if not is_panic(error):
            raise
        raise ValueError("a packet cannot be encoded") from None
    return encoded


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
