"""What each setting is for and which values it takes, in words for `hawk config new` and for the JSON Schema.

The dataclasses enforce the bounds; a test holds this table against them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

_UINT16 = 65_535
_UINT32 = 4_294_967_295


class Description(NamedTuple):
    """A setting in words, and its bounds in the words of JSON Schema."""

    text: str
    bounds: Mapping[str, object] = MappingProxyType({})


def _numbers(text: str, minimum: float, maximum: float | None = None) -> Description:
    bounds: dict[str, object] = {"minimum": minimum}
    return Description(text, bounds if maximum is None else bounds | {"maximum": maximum})


DESCRIPTIONS: Final[Mapping[str, Description]] = {
    "url": Description(
        "mqtt://[user[:password]@]host[:port], in the place of `broker`, `port` and what else it names.",
        {"pattern": "^[A-Za-z]+://"},
    ),
    "broker": Description("Name or address of the broker.", {"minLength": 1, "maxLength": _UINT16}),
    "port": _numbers("Its TCP port.", 1, _UINT16),
    "client_id": Description("The client identifier; null draws one at random.", {"maxLength": _UINT16}),
    "username": Description("User name for the broker.", {"maxLength": _UINT16}),
    "password": Description("Password for the broker; better in a file of its own.", {"maxLength": _UINT16}),
    "password_file": Description(
        "File that holds the password, relative to this file; one newline at its end is cut. Read at each dial.",
        {"minLength": 1},
    ),
    "password_command": Description(
        "Program, with its arguments, that prints the password; it is run at each dial.", {"minLength": 1}
    ),
    "tls": Description("true: speak TLS to `broker`; its port is usually 8883."),
    "endpoints": Description(
        "URLs of brokers that share their sessions, with blanks between them, instead of `broker`, `port` and `tls`: "
        "mqtt://host:port, mqtts://host:port, mqtt+unix:///path."
    ),
    "failback_s": _numbers(
        "Seconds between two looks at the first of the endpoints while connected to another.", 0.001
    ),
    "tls_ca_file": Description(
        "PEM file of the authorities that may vouch for the broker, relative to this file; null: the system's.",
        {"minLength": 1},
    ),
    "tls_certificate_file": Description("PEM file of hawk's own certificate, relative to this file.", {"minLength": 1}),
    "tls_key_file": Description("PEM file of its key, if it is not in the same file.", {"minLength": 1}),
    "tls_server_name": Description("Name that the broker's certificate must hold; null: the host's.", {"minLength": 1}),
    "tls_alpn": Description("Protocols to offer in the TLS handshake, with blanks between them.", {"minLength": 1}),
    "tls_insecure": Description("true: anybody may pose as the broker, for no certificate is verified."),
    "will_topic": Description("Topic of the message that the broker publishes when hawk is lost; null: none."),
    "will_payload": Description("Payload of the will."),
    "will_qos": _numbers("Quality of service of the will.", 0, 2),
    "will_retain": Description("true: the broker keeps the will as a retained message."),
    "will_delay_s": _numbers("Seconds that the broker waits for hawk before it publishes the will.", 0, _UINT32),
    "birth_topic": Description("Topic of the message that hawk publishes first on each new connection; null: none."),
    "birth_payload": Description("Payload of the birth message."),
    "birth_qos": _numbers("Quality of service of the birth message.", 0, 2),
    "birth_retain": Description("true: the broker keeps the birth as a retained message."),
    "enabled": Description("false: nothing is dialled, and publishing raises at once."),
    "qos": _numbers("Quality of service of a publish that names none: 0, 1 or 2.", 0, 2),
    "max_retries": _numbers("Dials after the first that may fail in a row before FAILED; null: for ever.", 0, _UINT32),
    "initial_retry_delay": _numbers("Seconds before the first dial again.", 0.001),
    "max_retry_delay": _numbers("The longest wait between two dials, in seconds.", 0.001),
    "backoff_multiplier": _numbers("Each delay is this many times the one before.", 1),
    "jitter_factor": _numbers("The share of a delay, from 0 to 1, within which the wait is drawn at random.", 0, 1),
    "connection_timeout": _numbers("Seconds that name lookup, TCP and CONNACK may take together.", 0.001),
    "health_check_interval": _numbers("The keep alive in seconds: the broker is heard from this often.", 0.1, _UINT16),
    "ping_timeout_s": _numbers(
        "Seconds that a ping may go unanswered; null: the smaller of 10 and half of `health_check_interval`.", 0.01
    ),
    "message_queue_size": _numbers("The most messages that wait to be sent.", 1, _UINT32),
    "message_queue_bytes": _numbers(
        "The most bytes of messages that wait to be sent; null: 64 MiB, with an outbox file 1 GiB.", 1, 1 << 62
    ),
    "overflow": Description("What happens to a message for which there is no room while the link is down."),
    "message_expiry_s": _numbers(
        "Seconds that a message without a time of its own may wait to be sent; null: for ever.", 0.001, _UINT32
    ),
    "latest": Description(
        "Topic filters between commas: of what waits on a topic that matches one only the newest message is kept."
    ),
    "message_retry_limit": _numbers("How often a message is tried again that the broker refused for now.", 0, _UINT32),
    "max_inflight": _numbers("The most messages sent and not yet acknowledged.", 1, 65_023),
    "receive_maximum": _numbers("The most messages that the broker may have on their way to hawk.", 1, _UINT16),
    "max_packet_size": _numbers("The largest packet that hawk takes from the broker, in bytes.", 64, 268_435_460),
    "receive_queue_size": _numbers("The most messages of QoS 0 that one subscription may leave unhandled.", 1, _UINT32),
    "receive_queue_bytes": _numbers("The most bytes of messages of QoS 0 that it may leave unhandled.", 1, 1 << 62),
    "receive_overflow": Description("Which message of QoS 0 is dropped when a subscription leaves more unhandled."),
    "max_deliveries": _numbers(
        "How often a message is given to a handler that fails before it is rejected.", 1, _UINT32
    ),
    "return_grace_s": _numbers("Seconds that a received message waits for somebody to subscribe.", 0),
    "session_expiry_s": _numbers(
        "Seconds that the broker is asked to keep the session without a link; null: 3,600, with an outbox file 604,800.",
        0,
        _UINT32,
    ),
    "stable_after_s": _numbers("Seconds that a link must have been up to count as good again.", 0),
    "ack_timeout_s": _numbers("Seconds that a broker may acknowledge nothing before hawk hangs up.", 0.01),
    "suback_timeout_s": _numbers("Seconds that the backlog waits for subscriptions to be confirmed.", 0.01),
    "drain_s": _numbers("Seconds that a stop may take to deliver what is left.", 0),
    "cancel_drain_s": _numbers("Seconds that a cancellation may take to deliver what is left.", 0),
    "on_auth_failure": Description("What refused credentials lead to."),
    "outbox": Description(
        "File that keeps accepted messages over a crash, relative to the working directory; null: memory.",
        {"minLength": 1, "maxLength": _UINT16},
    ),
    "durability": Description("What the outbox file survives: a power cut, or only a crash of the process."),
}
