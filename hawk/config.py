"""The settings: frozen, validated when they are made, every problem told at once.

`ReconnectionConfig` holds SPEC.md's parameters of reconnection; `Config` holds everything else and one of those.
`Config.from_mapping` takes both flat, as SPEC.md's `mqtt:` section writes them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from hawk.errors import ConfigInvalid, Problem

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

    `broker`, `port`: the endpoint. `client_id`: the client identifier; None draws one at random.
    `enabled` False: nothing is dialled, and `publish()` raises `Stopped` at once.
    `qos`: of a publish that names none. `session_expiry_s`: how long the broker is asked to keep the session; None is 3,600,
    with an outbox file 604,800.
    `health_check_interval`: the keep alive. `ping_timeout_s`: None is the smaller of 10 and half the keep alive.
    `message_queue_size`, `message_queue_bytes`: bounds of what waits to be sent; None is 64 MiB, with an outbox file 1 GiB.
    `overflow`: what happens beyond them while the link is down; while it is up, `publish()` waits.
    `outbox`: the file that keeps accepted messages of QoS 1 and 2 until their fate is known; None keeps them in memory.
    `durability`: "power", they survive a power cut; "process", only a crash of the process, and are accepted faster.
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
    client_id: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    enabled: bool = True
    qos: int = 1
    reconnection: ReconnectionConfig = ReconnectionConfig()
    health_check_interval: float = 60.0
    ping_timeout_s: float | None = None
    message_queue_size: int = 1000
    message_queue_bytes: int | None = None
    overflow: OverflowPolicy = "drop_oldest"
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

    def __post_init__(self) -> None:
        problems = _Problems(self)
        problems.text("broker", least=1)
        problems.integer("port", 1, _MAXIMUM_UINT16)
        for key in ("client_id", "username", "password"):
            if getattr(self, key) is not None:
                problems.text(key)
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
    def from_url(cls, url: str, **settings: Any) -> "Config":
        """Make a Config of `mqtt://[user[:password]@]host[:port]` and flat settings. Raises `ConfigInvalid`.

        Settings win over the URL. Name and password are percent-decoded; no error repeats them.
        """
        problems: list[Problem] = []
        found: dict[str, Any] = {}
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            # What the parser says quotes the URL, and so perhaps the password.
            what = (
                "cannot be read: mqtt://[user[:password]@]host[:port], with /, #, ? and @ in a password percent-encoded"
            )
            raise ConfigInvalid([Problem("url", what)]) from None
        if parts.scheme not in ("mqtt", "tcp"):
            problems.append(Problem("url", "must begin with mqtt://"))
        if not host:
            problems.append(Problem("url", "names no host (mqtt://host:port)"))
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            problems.append(Problem("url", "must end after host and port"))
        found["broker"] = host or "localhost"
        if port is not None:
            found["port"] = port
        if parts.username is not None:
            found["username"] = unquote(parts.username)
        if parts.password is not None:
            found["password"] = unquote(parts.password)
        try:
            config = cls.from_mapping(found | settings)
        except ConfigInvalid as invalid:
            problems += invalid.problems
        if problems:
            raise ConfigInvalid(problems)
        return config


def _unknown(key: str, known: set[str]) -> str:
    close = get_close_matches(str(key), known, n=1)
    return "unknown setting" + (f"; did you mean {close[0]!r}?" if close else "")
