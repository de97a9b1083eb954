"""The settings: frozen, validated when they are made, every problem told at once.

`ReconnectionConfig` holds SPEC.md's parameters of reconnection; `Config` holds everything else and one of those.
`Config.from_mapping` takes both flat, as SPEC.md's `mqtt:` section writes them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal
from urllib.parse import quote

from hawk.connecting import (
    Address,
    Asked,
    Authenticator,
    Credentials,
    Endpoint,
    RefusalPolicy,
    TLSContext,
    Transport,
    Will,
    parse_endpoints,
    parse_url,
)
from hawk.errors import ConfigInvalid, Problem
from hawk.values import Message

OverflowPolicy = Literal["drop_oldest", "drop_newest", "wait", "reject"]
ReceiveOverflowPolicy = Literal["drop_oldest", "drop_newest"]

_MEBIBYTE = 1024 * 1024
_MAXIMUM_UINT16 = 65_535
_MAXIMUM_UINT32 = 4_294_967_295


class _Problems:
    """Collects what is wrong with a set of settings, so that all of it is told at once."""

    def __init__(self, settings: object) -> None:
        self.settings = settings
        self.found: list[Problem] = []

    def number(self, key: str, least: float, most: float = math.inf, *, unit: str = "") -> None:
        """The setting must be a finite number from `least` to `most`."""
        value = getattr(self.settings, key)
        bounds = f"from {least:g} to {most:g}" if most < math.inf else f"of at least {least:g}"
        wanted = f"must be a number {bounds}{unit}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.found.append(Problem(key, f"{wanted}, not {value!r}"))
        elif not _is_finite(value) or not least <= value <= most:
            self.found.append(Problem(key, f"{wanted}, not {value!r}"))

    def duration(self, key: str, *, least: float = 0.0, most: float = math.inf) -> None:
        """The setting must be a duration in seconds."""
        self.number(key, least, most, unit=" (seconds)")

    def integer(self, key: str, least: int, most: int = _MAXIMUM_UINT32) -> None:
        """The setting must be a whole number from `least` to `most`."""
        value = getattr(self.settings, key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.found.append(Problem(key, f"must be a whole number from {least} to {most}, not {value!r}"))

    def one_of(self, key: str, choices: tuple[object, ...]) -> None:
        """The setting must be one of `choices`."""
        value = getattr(self.settings, key)
        # By type as well: True is not the QoS 1, and 1 not the answer yes.
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            self.found.append(Problem(key, f"must be one of {', '.join(map(repr, choices))}, not {value!r}"))

    def text(self, key: str, *, least: int = 0) -> None:
        """The setting must be text that MQTT can carry: UTF-8 of at most 65,535 bytes, without NUL."""
        value = getattr(self.settings, key)
        if not isinstance(value, str):
            self.found.append(Problem(key, f"must be text, not {type(value).__name__}"))
        elif len(value) < least:
            self.found.append(Problem(key, "must not be empty"))
        elif "\0" in value or not _encodes(value):
            self.found.append(Problem(key, "must be UTF-8 text of at most 65,535 bytes, without NUL"))

    def add(self, key: str, what: str) -> None:
        """The setting is wrong in a way of its own."""
        self.found.append(Problem(key, what))

    def filters(self, key: str) -> None:
        """The setting must be a tuple of topic filters (MQTT 5 section 4.7.1)."""
        value = getattr(self.settings, key)
        if not isinstance(value, tuple):
            self.found.append(Problem(key, f"must be a tuple of topic filters, not {type(value).__name__}"))
            return
        for each in value:
            if not isinstance(each, str) or not _is_filter(each):
                what = "must be topic filters, with + and # alone in their level and # in the last one"
                self.found.append(Problem(key, f"{what}, not {each!r}"))

    def raise_if_any(self) -> None:
        if self.found:
            raise ConfigInvalid(self.found)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False  # a whole number beyond every float


def _encodes(text: str) -> bool:
    try:
        return len(text.encode()) <= _MAXIMUM_UINT16
    except UnicodeEncodeError:
        return False


def _is_filter(text: str) -> bool:
    if not text or "\0" in text or not _encodes(text):
        return False
    *others, last = text.split("/")
    wildcards = all(level == "+" or not ("+" in level or "#" in level) for level in others)
    return wildcards and (last in ("+", "#") or not ("+" in last or "#" in last))


@dataclass(frozen=True, slots=True)
class ReconnectionConfig:
    """When to dial again (SPEC.md, "Reconnection Mechanism").

    `max_retries`: dials after the first that may fail in a row before FAILED; None is for ever.
    `initial_retry_delay`, `max_retry_delay`, `connection_timeout`: seconds. The timeout covers name lookup, TCP and CONNACK.
    `backoff_multiplier`: each delay is this many times the one before, up to `max_retry_delay`.
    `jitter_factor`: from 0 to 1; the wait is drawn from that share around the delay, never above `max_retry_delay`.
    """

    max_retries: int | None = 10
    initial_retry_delay: float = 1.0
    max_retry_delay: float = 300.0
    backoff_multiplier: float = 2.0
    jitter_factor: float = 0.1
    connection_timeout: float = 30.0

    def __post_init__(self) -> None:
        problems = _Problems(self)
        if self.max_retries is not None:
            problems.integer("max_retries", 0)
        problems.duration("initial_retry_delay", least=0.001)
        problems.duration("max_retry_delay", least=0.001)
        problems.number("backoff_multiplier", 1.0)
        problems.number("jitter_factor", 0.0, 1.0)
        problems.duration("connection_timeout", least=0.001)
        if not problems.found and self.max_retry_delay < self.initial_retry_delay:
            what = (
                f"must not be below initial_retry_delay ({self.initial_retry_delay:g}), and is {self.max_retry_delay:g}"
            )
            problems.found.append(Problem("max_retry_delay", what))
        problems.raise_if_any()


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that one hawk is told. Durations are in seconds, sizes in bytes.

    `broker`, `port`: the endpoint; `tls` speaks TLS to it (whose usual port is 8883). `endpoints` replaces the three: URLs
    (`mqtt://`, `mqtts://`, `mqtt+unix://`) of brokers that share their sessions, dialled in order until one accepts. While
    hawk is not at the first, it looks every `failback_s` whether that one can be reached, and goes back to it then.
    `client_id`: the client identifier; None draws one at random, "" lets the broker assign one.
    `username`, `password`: sent with each CONNECT; `password_file` and `password_command` (a program and its arguments,
    whose output is the password) are read at each dial instead, without one newline at the end; so is `credentials`.
    `authentication` makes an `Authenticator` for each dial (MQTT 5 section 4.12).
    `will`: published by the broker when hawk is lost. `birth`: published by hawk on each new link, before the backlog.
    TLS verifies the broker's certificate and name, with the system's authorities or those of `tls_ca_file`. The files
    (PEM) are read at each dial. `tls_certificate_file` and `tls_key_file` are hawk's own certificate. `tls_server_name`:
    the name to verify instead of the host. `tls_alpn`: protocols to offer. `tls_insecure` verifies nothing.
    `tls_context`: an `ssl.SSLContext` instead of all these files.
    Where a callable is allowed (`endpoints`, `client_id`, `credentials`, `tls_context`, `will`, `birth`), it is asked at
    each dial, under `connection_timeout`; what it raises fails that attempt only.
    `refusal_policy`: decides what a refusal leads to, instead of hawk's own tables: a CONNACK, DISCONNECT, PUBACK, PUBREC,
    SUBACK or UNSUBACK. Where it returns None, raises or answers nonsense, the tables stand.
    `enabled` False: nothing is dialled, and `publish()` raises `Stopped` at once.
    `qos`: of a publish that names none. `session_expiry_s`: how long the broker is asked to keep the session; None is 3,600,
    with an outbox file 604,800.
    `health_check_interval`: the keep alive. `ping_timeout_s`: None is the smaller of 10 and half the keep alive.
    `message_queue_size`, `message_queue_bytes`: bounds of what waits to be sent; None is 64 MiB, with an outbox file 1 GiB.
    `overflow`: what happens beyond them while the link is down; while it is up, `publish()` waits.
    `outbox`: the file that keeps accepted messages of QoS 1 and 2 until their fate is known; None keeps them in memory.
    `durability`: "power", they survive a power cut; "process", only a crash of the process, and are accepted faster.
    `message_expiry_s`: how long a message that names no time of its own may wait to be sent; None is for ever. What was
    sent does not expire any more while its session may live.
    `latest`: topic filters; of what waits on a topic that matches one only the newest message is kept.
    `message_retry_limit`: how often a message is tried again that the broker refused for now.
    `max_inflight`: the most messages under way at once. `receive_maximum`, `max_packet_size`: what hawk lets the broker send.
    `receive_queue_size`, `receive_queue_bytes`: what one subscription may leave unhandled at QoS 0; `receive_overflow`:
    which is dropped beyond that. `max_deliveries`: how often a message is given to a handler that fails.
    `return_grace_s`: how long a message waits for somebody to subscribe.
    `stable_after_s`: how long a link must have been up, with an acknowledgement or a pong, to count as good again.
    `ack_timeout_s`: how long a broker may acknowledge nothing. `suback_timeout_s`: how long the backlog waits for SUBACKs.
    `drain_s`, `cancel_drain_s`: how long a stop, or a cancellation, may take to deliver what is left.
    `on_auth_failure`: "retry" (SPEC.md) or "fail": what CONNACK 0x86 and 0x87 lead to.
    """

    broker: str = "localhost"
    port: int = 1883
    tls: bool = False
    endpoints: str | tuple[str, ...] | Asked[str | tuple[str, ...]] | None = None
    failback_s: float = 60.0
    client_id: str | Asked[str] | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    password_command: str | tuple[str, ...] | None = field(default=None, repr=False)
    credentials: Credentials | Asked[Credentials] | None = field(default=None, repr=False)
    authentication: Callable[[], Authenticator] | None = field(default=None, repr=False)
    will: Will | Asked[Will | None] | None = None
    birth: Message | Asked[Message | None] | None = None
    tls_ca_file: str | None = None
    tls_certificate_file: str | None = None
    tls_key_file: str | None = None
    tls_server_name: str | None = None
    tls_alpn: str | tuple[str, ...] | None = None
    tls_insecure: bool = False
    tls_context: TLSContext | Asked[TLSContext] | None = field(default=None, repr=False)
    enabled: bool = True
    qos: int = 1
    reconnection: ReconnectionConfig = ReconnectionConfig()
    health_check_interval: float = 60.0
    ping_timeout_s: float | None = None
    message_queue_size: int = 1000
    message_queue_bytes: int | None = None
    overflow: OverflowPolicy = "drop_oldest"
    message_expiry_s: float | None = None
    latest: tuple[str, ...] = ()
    message_retry_limit: int = 3
    max_inflight: int = 1000
    receive_maximum: int = 100
    max_packet_size: int = 16 * _MEBIBYTE
    receive_queue_size: int = 1000
    receive_queue_bytes: int = 64 * _MEBIBYTE
    receive_overflow: ReceiveOverflowPolicy = "drop_oldest"
    max_deliveries: int = 3
    return_grace_s: float = 30.0
    session_expiry_s: int | None = None
    stable_after_s: float = 30.0
    ack_timeout_s: float = 60.0
    suback_timeout_s: float = 5.0
    drain_s: float = 5.0
    cancel_drain_s: float = 1.0
    on_auth_failure: Literal["retry", "fail"] = "retry"
    outbox: str | None = None
    durability: Literal["power", "process"] = "power"
    refusal_policy: RefusalPolicy | None = None

    def __post_init__(self) -> None:
        problems = _Problems(self)
        problems.text("broker", least=1)
        problems.integer("port", 1, _MAXIMUM_UINT16)
        for key in ("client_id", "username", "password"):
            if getattr(self, key) is not None and not (key == "client_id" and callable(self.client_id)):
                problems.text(key)
        self._check_connection(problems)
        problems.one_of("enabled", (True, False))
        problems.one_of("qos", (0, 1, 2))
        if not isinstance(self.reconnection, ReconnectionConfig):
            problems.found.append(Problem("reconnection", "must be a ReconnectionConfig"))
        problems.duration("health_check_interval", least=0.1, most=_MAXIMUM_UINT16)
        if self.ping_timeout_s is not None:
            problems.duration("ping_timeout_s", least=0.01)
        problems.integer("message_queue_size", 1)
        if self.message_queue_bytes is not None:
            problems.integer("message_queue_bytes", 1, 1 << 62)
        problems.one_of("overflow", ("drop_oldest", "drop_newest", "wait", "reject"))
        if self.message_expiry_s is not None:
            problems.duration("message_expiry_s", least=0.001, most=_MAXIMUM_UINT32)
        problems.filters("latest")
        problems.integer("message_retry_limit", 0)
        problems.integer("max_inflight", 1, 65_023)
        problems.integer("receive_maximum", 1, _MAXIMUM_UINT16)
        problems.integer("max_packet_size", 64, 268_435_460)
        problems.integer("receive_queue_size", 1)
        problems.integer("receive_queue_bytes", 1, 1 << 62)
        problems.one_of("receive_overflow", ("drop_oldest", "drop_newest"))
        problems.integer("max_deliveries", 1)
        if self.session_expiry_s is not None:
            problems.integer("session_expiry_s", 0)
        for key in ("stable_after_s", "return_grace_s", "drain_s", "cancel_drain_s"):
            problems.duration(key)
        for key in ("ack_timeout_s", "suback_timeout_s"):
            problems.duration(key, least=0.01)
        problems.one_of("on_auth_failure", ("retry", "fail"))
        if self.outbox is not None:
            problems.text("outbox", least=1)
        problems.one_of("durability", ("power", "process"))
        problems.raise_if_any()

    def _check_connection(self, problems: _Problems) -> None:
        problems.one_of("tls", (True, False))
        problems.one_of("tls_insecure", (True, False))
        problems.duration("failback_s", least=0.001)
        files = ("password_file", "tls_ca_file", "tls_certificate_file", "tls_key_file", "tls_server_name")
        for key in files:
            if getattr(self, key) is not None:
                problems.text(key, least=1)
        for key, kind in (
            ("credentials", Credentials),
            ("will", Will),
            ("birth", Message),
            ("tls_context", TLSContext),
        ):
            value = getattr(self, key)
            if value is not None and not isinstance(value, kind) and not callable(value):
                problems.add(key, f"must be of type {kind.__name__}, or a callable that returns one")
        for key in ("authentication", "refusal_policy"):
            if getattr(self, key) is not None and not callable(getattr(self, key)):
                problems.add(key, "must be a callable")
        for key in ("tls_alpn", "password_command"):
            value = getattr(self, key)
            if value is not None and not _is_words(value):
                problems.add(key, "must be text, or a tuple of texts, and not empty")
        for key in ("will", "birth"):
            message = getattr(self, key)
            if isinstance(message, Will | Message):
                _check_message(key, message, problems)
        self._check_combinations(problems)

    def _check_combinations(self, problems: _Problems) -> None:
        if self.endpoints is not None and not callable(self.endpoints):
            try:
                parse_endpoints(self.endpoints)
            except (ValueError, TypeError) as error:
                problems.add("endpoints", str(error))
            if self.tls:
                problems.add("tls", "stands beside `endpoints`, whose URLs say it (mqtts://)")
        if self.tls_key_file is not None and self.tls_certificate_file is None:
            problems.add("tls_key_file", "needs `tls_certificate_file` beside it")
        passwords = ("password", "password_file", "password_command", "credentials")
        given = [key for key in passwords if getattr(self, key) is not None]
        for key in given[1:]:
            problems.add(key, f"stands beside `{given[0]}`; give one of the two")
        if self.credentials is not None and self.username is not None:
            problems.add("username", "stands beside `credentials`, which name the user; give one of the two")

    @property
    def addresses(self) -> tuple[Endpoint, ...]:
        """Where to dial, in order, as far as that is known before a callable is asked."""
        if self.endpoints is None or callable(self.endpoints):
            return (Endpoint(Transport.TLS if self.tls else Transport.TCP, self.broker, self.port),)
        return parse_endpoints(self.endpoints)

    @property
    def pong_deadline_s(self) -> float:
        """How long a PINGREQ may go unanswered: `ping_timeout_s`, or the smaller of 10 and half the keep alive."""
        if self.ping_timeout_s is not None:
            return self.ping_timeout_s
        return min(10.0, self.health_check_interval / 2)

    @property
    def most_queue_bytes(self) -> int:
        """The most bytes that wait to be sent: `message_queue_bytes`, or 64 MiB, or 1 GiB in an outbox file."""
        if self.message_queue_bytes is not None:
            return self.message_queue_bytes
        return 64 * _MEBIBYTE if self.outbox is None else 1024 * _MEBIBYTE

    @property
    def session_kept_s(self) -> int:
        """How long the broker is asked to keep the session: `session_expiry_s`, or an hour, or a week with an outbox file."""
        if self.session_expiry_s is not None:
            return self.session_expiry_s
        return 3600 if self.outbox is None else 604_800

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> "Config":
        """Make a Config of flat settings, SPEC.md's names included.

        Raises `ConfigInvalid` with every unknown key, each with a suggestion, and every value out of its bounds.
        """
        own = {f.name for f in fields(cls)} - {"reconnection"}
        of_reconnection = {f.name for f in fields(ReconnectionConfig)}
        known = own | of_reconnection | {"reconnection"}
        problems = [Problem(key, _unknown(key, known)) for key in settings if key not in known]
        chosen: dict[str, Any] = {key: settings[key] for key in settings if key in own}
        if hasattr(chosen.get("outbox"), "__fspath__"):
            chosen["outbox"] = str(chosen["outbox"])
        flat = {key: settings[key] for key in settings if key in of_reconnection}
        if "reconnection" in settings:
            chosen["reconnection"] = settings["reconnection"]
            problems += [Problem(key, "stands beside `reconnection`; give one of the two") for key in flat]
        else:
            try:
                chosen["reconnection"] = ReconnectionConfig(**flat)
            except ConfigInvalid as invalid:
                problems += invalid.problems
        try:
            config = cls(**chosen)
        except ConfigInvalid as invalid:
            problems += invalid.problems
        if problems:
            raise ConfigInvalid(problems)
        return config

    @classmethod
    def from_url(cls, url: str | Sequence[str], **settings: Any) -> "Config":
        """Make a Config of a URL, or of several for `endpoints`, and flat settings. Raises `ConfigInvalid`.

        `mqtt://[user[:password]@]host[:port]`, `mqtts://` for TLS (port 8883), `mqtt+unix:///path` for a Unix socket.
        Settings win over the URL. Name and password are percent-decoded; no error repeats them.
        """
        problems: list[Problem] = []
        found: dict[str, Any] = {}
        if not isinstance(url, str):
            found["endpoints"] = tuple(url)
        else:
            try:
                found = _of_address(parse_url(url))
            except ValueError as error:
                problems.append(Problem("url", str(error)))
        for key, others in _REPLACES.items():
            if settings.get(key) is not None:
                found = {name: value for name, value in found.items() if name not in others}
        try:
            config = cls.from_mapping(found | settings)
        except ConfigInvalid as invalid:
            problems += invalid.problems
        if problems:
            raise ConfigInvalid(problems)
        return config


def _check_message(key: str, message: Will | Message, problems: _Problems) -> None:
    topic: object = message.topic
    if not isinstance(topic, str) or not topic or any(sign in topic for sign in "+#\0") or not _encodes(topic):
        problems.add(key, "its topic must be a topic that can be published to: text, not empty, without +, # and NUL")
    if not isinstance(message.payload, bytes | str):
        problems.add(key, f"its payload must be bytes, not {type(message.payload).__name__}")
    if type(message.qos) is not int or message.qos not in (0, 1, 2):
        problems.add(key, f"its qos must be 0, 1 or 2, not {message.qos!r}")
    if not isinstance(message.retain, bool):
        problems.add(key, f"its retain must be True or False, not {message.retain!r}")
    if isinstance(message, Will) and not (type(message.delay_s) is int and 0 <= message.delay_s <= _MAXIMUM_UINT32):
        problems.add(key, f"its delay_s must be a whole number from 0 to {_MAXIMUM_UINT32}, not {message.delay_s!r}")


_REPLACES = {
    "endpoints": ("broker", "port", "tls"),
    "broker": ("endpoints",),
    "password_file": ("password",),
    "password_command": ("password",),
    "credentials": ("username", "password"),
}
"""Settings that say in another way what a URL said."""


def _of_address(address: Address) -> dict[str, Any]:
    """What a URL says, as settings."""
    (transport, host, port), (username, password) = address
    if transport is Transport.UNIX:
        found: dict[str, Any] = {"endpoints": (f"{transport.value}://{quote(host)}",)}
    else:
        found = {"broker": host, "port": port, "tls": transport is Transport.TLS}
    return found | {key: value for key, value in (("username", username), ("password", password)) if value is not None}


def _is_words(value: object) -> bool:
    words = value.split() if isinstance(value, str) else value
    return isinstance(words, list | tuple) and bool(words) and all(isinstance(word, str) and word for word in words)


def _unknown(key: str, known: set[str]) -> str:
    close = get_close_matches(str(key), known, n=1)
    return "unknown setting" + (f"; did you mean {close[0]!r}?" if close else "")
