"""MQTT 5 as bytes, on the mqtt5 codec: the handshake, then what a link writes and reads."""

from hawk.protocol.version5.decoder import Decoder, protocol_error_cause
from hawk.protocol.version5.encoder import Encoder, encode
from hawk.protocol.version5.handshake import decode_connack, encode_auth, encode_connect
from hawk.protocol.version5.reasons import reason_name

__all__ = [
    "Decoder",
    "Encoder",
    "decode_connack",
    "encode",
    "encode_auth",
    "encode_connect",
    "protocol_error_cause",
    "reason_name",
]
