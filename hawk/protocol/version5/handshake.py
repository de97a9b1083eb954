"""CONNECT and CONNACK (MQTT 5.0, 3.1 and 3.2), and what else may answer on a port that was taken for a broker's.

A CONNECT carries the password: its packet is never kept, shown or logged, only its bytes leave this module.
"""

import math

import mqtt5

from hawk.config import Config
from hawk.connecting import Will
from hawk.errors import ProtocolError
from hawk.packets import Challenge, Connack, ConnectRequest
from hawk.protocol.framing import (
    MALFORMED_PACKET,
    PROTOCOL_VIOLATION,
    check_property_length,
    check_texts,
    frame_length,
)
from hawk.protocol.version5.guard import is_panic, read_packet
from hawk.protocol.version5.reasons import legible, reason_text

_CONNACK = 2
_AUTH = 15
_CONTINUE_AUTHENTICATION = 0x18
_UNSUPPORTED_PROTOCOL_VERSION = 0x84
_LENGTH_IN_311 = 4
_STRANGERS = (
    (b"HTTP/", "the peer speaks HTTP, not MQTT"),
    (b"\x15\x03", "the peer speaks TLS, and hawk was told to speak plain TCP"),
    (b"SSH-", "the peer speaks SSH, not MQTT"),
)
"""How other protocols begin their answer. None of these can begin a CONNACK."""


def encode_connect(config: Config, request: ConnectRequest, *, authentication_data: bytes | None = None) -> bytes:
    """The CONNECT for one dial. The keep alive is `health_check_interval` in whole seconds, rounded up.

    Raises `ValueError` for what MQTT cannot carry, without repeating it.
    """
    username, password = request.credentials
    authenticator = request.authenticator
    try:
        return mqtt5.ConnectPacket(
            request.client_identifier,
            username=username,
            password=password.encode() if isinstance(password, str) else password,
            clean_start=request.clean_start,
            will=None if request.will is None else _will(request.will),
            keep_alive=max(1, math.ceil(config.health_check_interval)),
            session_expiry_interval=config.session_kept_s,
            authentication_method=None if authenticator is None else authenticator.method,
            authentication_data=authentication_data,
            receive_max=config.receive_maximum,
            max_packet_size=config.max_packet_size,
        ).write()
    except (ValueError, TypeError, OverflowError):
        # What the codec says may quote what it was given.
        raise ValueError("the client identifier, the credentials or the will is nothing that MQTT can carry") from None
    except BaseException as error:
        if not is_panic(error):
            raise
        raise ValueError("the CONNECT is too large") from None


def encode_auth(method: str, data: bytes | None) -> bytes:
    """The AUTH that goes on with an exchange: reason code 0x18 (MQTT 5.0, 3.15). Raises `ValueError`."""
    reason = mqtt5.AuthReasonCode.CONTINUE_AUTHENTICATION
    try:
        packet = mqtt5.AuthPacket(reason_code=reason, authentication_method=method, authentication_data=data)
        return packet.write()
    except (ValueError, TypeError):
        raise ValueError("the authentication data is nothing that MQTT can carry") from None


def decode_connack(
    received: bytes | bytearray, *, clean_start: bool, maximum_packet_size: int, method: str | None = None
) -> tuple[Connack | Challenge, int] | None:
    """What the broker answered, a refusal included, and how many bytes that took; None while it is not all there.

    `method` is the authentication method that CONNECT named: then an AUTH may come before the CONNACK.
    Raises `ProtocolError` for any other answer. A broker that knows only MQTT 3.1.1 and says so counts as a refusal
    with reason code 0x84, which is what an MQTT 5 broker would say.
    """
    if not received or _may_be_a_stranger(received):
        return None
    packet_type = received[0] >> 4
    if packet_type == _AUTH and method is not None:
        return _read_auth(received, method, maximum_packet_size)
    if packet_type != _CONNACK:
        what = "the first packet of a broker must be a CONNACK"
        raise ProtocolError(what, reason_code=PROTOCOL_VIOLATION, packet_type=packet_type)
    length = frame_length(received, 0, maximum_packet_size=maximum_packet_size)
    if length is None or length > len(received):
        return None
    if length == _LENGTH_IN_311:
        return _read_311(received), length
    with memoryview(received) as view:
        whole = read_packet(view, maximum_packet_size=maximum_packet_size)
    if whole is None:
        return None
    packet, size = whole
    if not isinstance(packet, mqtt5.ConnAckPacket):
        raise ProtocolError("not a CONNACK", reason_code=MALFORMED_PACKET, packet_type=packet_type)
    check_property_length(received, 0, size=size, before=2, after=0)
    connack = _connack(packet)
    if connack.reason_code == 0 and method is not None and packet.authentication_method not in (None, method):
        what = "a CONNACK with another authentication method"
        raise ProtocolError(what, reason_code=PROTOCOL_VIOLATION, packet_type=packet_type)
    if connack.reason_code == 0 and connack.session_present and clean_start:
        what = "a session is present although a clean start was asked for"
        raise ProtocolError(what, reason_code=PROTOCOL_VIOLATION, offset=2, packet_type=packet_type)
    return connack, size


def _will(will: Will) -> mqtt5.Will:
    properties = will.properties
    return mqtt5.Will(
        will.topic,
        payload=will.payload.encode() if isinstance(will.payload, str) else will.payload,
        qos=mqtt5.QoS(will.qos),
        retain=will.retain,
        payload_format_indicator=int(properties.text or isinstance(will.payload, str)),
        message_expiry_interval=None if properties.expiry_s is None else math.ceil(properties.expiry_s),
        content_type=properties.content_type,
        response_topic=properties.response_topic,
        correlation_data=properties.correlation_data,
        will_delay_interval=will.delay_s,
        user_properties=list(properties.user),
    )


def _read_auth(received: bytes | bytearray, method: str, maximum_packet_size: int) -> tuple[Challenge, int] | None:
    """An AUTH goes on with the exchange that CONNECT began, with its method (MQTT-4.12.0-2 and -5)."""
    with memoryview(received) as view:
        whole = read_packet(view, maximum_packet_size=maximum_packet_size)
    if whole is None:
        return None
    packet, size = whole
    if not isinstance(packet, mqtt5.AuthPacket):
        raise ProtocolError("not an AUTH", reason_code=MALFORMED_PACKET, packet_type=_AUTH)
    if int(packet.reason_code) != _CONTINUE_AUTHENTICATION:
        what = "an AUTH before the CONNACK that does not go on with the authentication"
        raise ProtocolError(what, reason_code=PROTOCOL_VIOLATION, packet_type=_AUTH)
    if packet.authentication_method != method:
        what = "an AUTH with another authentication method"
        raise ProtocolError(what, reason_code=PROTOCOL_VIOLATION, packet_type=_AUTH)
    return Challenge(packet.authentication_data), size


def _may_be_a_stranger(received: bytes | bytearray) -> bool:
    """Whether this may become another protocol's answer. Raises `ProtocolError` when it has."""
    for signature, what in _STRANGERS:
        beginning = received[: len(signature)]
        if beginning == signature:
            raise ProtocolError(what, reason_code=PROTOCOL_VIOLATION, packet_type=received[0] >> 4)
        if signature.startswith(beginning):
            return True
    return False


def _read_311(received: bytes | bytearray) -> Connack:
    """A CONNACK of four bytes is MQTT 3.1.1's (MQTT 3.1.1, 3.2): in MQTT 5 the shortest has five."""
    if received[3] == 1:  # "unacceptable protocol version"
        return Connack(_UNSUPPORTED_PROTOCOL_VERSION, "unsupported protocol version: the broker speaks MQTT 3.1.1 only")
    what = f"the broker answered as MQTT 3.1.1 does, with return code {received[3]}"
    raise ProtocolError(what, reason_code=MALFORMED_PACKET, packet_type=_CONNACK)


def _connack(packet: mqtt5.ConnAckPacket) -> Connack:
    code = int(packet.reason_code)
    names = (packet.assigned_client_id, packet.authentication_method)
    check_texts((*names, packet.response_info, packet.server_reference, packet.reason_str), _CONNACK)
    for pair in packet.user_properties:
        check_texts(pair, _CONNACK)
    return Connack(
        reason_code=code,
        reason=reason_text(code, packet.reason_str),
        session_present=packet.session_present,
        receive_maximum=packet.receive_max,
        maximum_packet_size=packet.max_packet_size,
        maximum_qos=int(packet.max_qos),
        retain_available=packet.retain_available,
        topic_alias_maximum=packet.topic_alias_max,
        server_keep_alive_s=packet.server_keep_alive,
        assigned_client_identifier=packet.assigned_client_id,
        session_expiry_s=packet.session_expiry_interval,
        wildcard_available=packet.wildcard_subscription_available,
        shared_available=packet.shared_subscription_available,
        subscription_identifier_available=packet.subscription_id_available,
        server_reference=None if packet.server_reference is None else legible(packet.server_reference),
        authentication_data=packet.authentication_data,
    )
