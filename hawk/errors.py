"""The errors of hawk, split by who must act.

    HawkError
    |-- ConfigInvalid        the developer: a setting is wrong (every problem at once)
    |-- MessageInvalid       the developer: a topic, a filter or a payload cannot be sent
    |-- OutboxFull           the caller: the outbox has no room and the policy is to refuse
    |-- OutboxUnavailable    the operator: the outbox cannot be written
    |   `-- OutboxInUse      the operator: another process holds the outbox
    |-- GaveUp               the operator: the connection FAILED; no further dial happens by itself
    |-- Refused              the operator: the broker said no, with a reason code
    |-- Expired              the caller: the message grew too old before it could be sent
    |-- Dropped              the caller: the overflow policy discarded the message
    |-- Superseded           the caller: a newer message on the same topic took its place
    |-- NoResponse           the caller: nobody answered a request in time
    |-- UnknownFate          the caller: the broker forgot the session; the message may have arrived
    `-- Stopped              the caller: hawk stopped before the fate was known

`LinkLost`, `Unreachable`, `Unprepared`, `Untrusted`, `ConnectRefused`, `ProtocolError` and `StoreFailed` live below the
surface: adapters raise them, actors turn them into messages, and no application ever sees one.
"""

from collections.abc import Iterable
from typing import NamedTuple


class HawkError(Exception):
    """The root of every error that hawk raises to an application."""


class Problem(NamedTuple):
    """One thing wrong in a configuration: the key it stands at, and what is wrong with it."""

    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}"


class ConfigInvalid(HawkError, ValueError):
    """The configuration cannot be used. `problems` lists every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        heading = f"{count} problem{'s' if count != 1 else ''} in the configuration"
        super().__init__("\n  ".join([heading, *map(str, self.problems)]))


class MessageInvalid(HawkError, ValueError):
    """A topic, a topic filter, a payload or a QoS cannot be sent. Nothing was accepted."""


class OutboxFull(HawkError):
    """The outbox has no room, and the overflow policy refuses newcomers. The message was not accepted."""


class OutboxUnavailable(HawkError):
    """The outbox could not be written, so the message was not accepted. The cause says why."""


class OutboxInUse(OutboxUnavailable):
    """Another process holds the outbox; the message names it."""


class GaveUp(HawkError):
    """The connection is FAILED: `max_retries` is used up, or the broker refused for good. `connect()` tries again."""

    def __init__(self, why: str, *, attempts: int, reason_code: int | None = None) -> None:
        self.why = why
        self.attempts = attempts
        self.reason_code = reason_code
        after = f" after {attempts} attempt{'s' if attempts != 1 else ''}" if attempts else ""
        super().__init__(f"gave up{after}: {why}")


class Refused(HawkError):
    """The broker refused a message or a subscription. `reason_code` is MQTT 5's, `reason` says it in words."""

    def __init__(self, what: str, *, reason_code: int, reason: str) -> None:
        self.reason_code = reason_code
        self.reason = reason
        super().__init__(f"{what}: {reason} (0x{reason_code:02x})")


class Expired(HawkError):
    """The message expired in the outbox before it could be sent."""


class Dropped(HawkError):
    """The overflow policy discarded the message while the link was down."""


class Superseded(HawkError):
    """A newer message on the same topic replaced this one in the outbox."""


class UnknownFate(HawkError):
    """The broker lost the session while this QoS 2 message was under way: it may or may not have been delivered."""


class NoResponse(HawkError, TimeoutError):
    """Nobody answered a request within its time. `acknowledged`: the broker had acknowledged the request by then."""

    def __init__(self, topic: str, timeout_s: float, *, acknowledged: bool) -> None:
        self.topic = topic
        self.acknowledged = acknowledged
        why = (
            "the broker has the request, so see who answers on that topic"
            if acknowledged
            else "the broker has not acknowledged the request, so see whether the connection is up"
        )
        super().__init__(f"no response to the request on {topic!r} within {timeout_s:g} s: {why}")


class Stopped(HawkError):
    """hawk has stopped, or is stopping. What was asked for did not happen, or its outcome will not be known here."""


class LinkLost(Exception):
    """A link ended. Raised once by a link's send or receive, and from then on always. `cause` says how."""

    def __init__(self, cause: object) -> None:
        self.cause = cause
        super().__init__(str(cause))


class Unreachable(Exception):
    """A dial got no answer that MQTT can use: the name, the port, the handshake or the deadline failed."""


class Unprepared(Exception):
    """A dial ended before it began: what had to be asked for it was not answered, or cannot be used."""


class Untrusted(Exception):
    """A dial ended in its TLS handshake, before CONNECT: the certificate, the name, the protocol, or the time it took."""


class ConnectRefused(Exception):
    """The broker answered CONNECT with a refusal. `connack` is what it said."""

    def __init__(self, connack: object) -> None:
        self.connack = connack
        super().__init__(str(connack))


class ProtocolError(Exception):
    """The peer broke the protocol. `reason_code` is what a DISCONNECT would say; `offset` counts from the packet's start."""

    def __init__(self, what: str, *, reason_code: int = 0x81, offset: int = 0, packet_type: int = 0) -> None:
        self.what = what
        self.reason_code = reason_code
        self.offset = offset
        self.packet_type = packet_type
        super().__init__(f"{what} (packet type {packet_type}, offset {offset}, reason 0x{reason_code:02x})")


class StoreFailed(Exception):
    """The store could not do what it was asked; nothing of that call may be relied on."""
