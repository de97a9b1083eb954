"""CONNECT and CONNACK (MQTT 5 sections 3.1 and 3.2): who may enter, with what will, under which limits. Pure."""

import math
from typing import Final

from mqtt5 import ConnAckPacket, ConnectPacket, PublishPacket, QoS

from hawk.testing.broker.behaviour import Limits
from hawk.testing.broker.session import Message, Will
from hawk.testing.broker.topics import is_topic

BAD_USER_NAME_OR_PASSWORD: Final = 0x86
BAD_AUTHENTICATION_METHOD: Final = 0x8C
TOPIC_NAME_INVALID: Final = 0x90
RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B


def refusal_of(packet: ConnectPacket, limits: Limits) -> int:
    """The reason code to refuse a CONNECT with, or 0."""
    if packet.authentication_method is not None:
        return BAD_AUTHENTICATION_METHOD
    if limits.users is not None:
        password = limits.users.get(packet.username or "")
        if password is None or packet.password != password.encode():
            return BAD_USER_NAME_OR_PASSWORD
    will = packet.will
    if will is None:
        return 0
    if not is_topic(will.topic):
        return TOPIC_NAME_INVALID
    if int(will.qos) > limits.maximum_qos:
        return QOS_NOT_SUPPORTED
    return RETAIN_NOT_SUPPORTED if will.retain and not limits.retain_available else 0


def will_of(packet: ConnectPacket, client_identifier: str) -> Will | None:
    """The will that a CONNECT leaves with the broker."""
    will = packet.will
    if will is None:
        return None
    carried = PublishPacket(
        will.topic,
        will.payload or b"",
        payload_format_indicator=will.payload_format_indicator,
        content_type=will.content_type,
        response_topic=will.response_topic,
        correlation_data=will.correlation_data,
        user_properties=will.user_properties,
    )
    message = Message(will.topic, carried.payload, int(will.qos), will.retain, client_identifier, math.inf, carried)
    return Will(message, will.will_delay_interval, will.message_expiry_interval)


def connack_of(limits: Limits, *, session_present: bool, assigned_client_identifier: str | None) -> bytes:
    """The CONNACK that accepts, with everything that the client must know."""
    return ConnAckPacket(
        session_present=session_present,
        assigned_client_id=assigned_client_identifier,
        server_keep_alive=limits.server_keep_alive_s,
        receive_max=limits.receive_maximum,
        topic_alias_max=limits.topic_alias_maximum,
        max_qos=QoS(limits.maximum_qos),
        retain_available=limits.retain_available,
        max_packet_size=limits.maximum_packet_size,
    ).write()
