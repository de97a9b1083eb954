"""The values that hawk's messages carry: what a message is, how it can end, where the connection stands."""

from enum import Enum
from typing import NamedTuple


class ConnectionState(Enum):
    """What the connection is doing, in the five words of the specification."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    FAILED = "failed"


class Properties(NamedTuple):
    """What MQTT 5 lets a message carry beside its payload (section 3.3.2.3); all of it is optional.

    `expiry_s`: seconds after which nobody wants the message any more; whole ones on the wire, rounded up. `text`: the
    payload is UTF-8 text (Payload Format Indicator 1). `response_topic` and `correlation_data`: where and under which
    mark an answer is expected. `user`: pairs of names and values, in order, names may repeat.
    """

    expiry_s: float | None = None
    text: bool = False
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user: tuple[tuple[str, str], ...] = ()

    @property
    def size_bytes(self) -> int:
        """What they count for against a bound in bytes."""
        texts = sum(len(name) + len(value) for name, value in self.user)
        return texts + len(self.content_type or "") + len(self.response_topic or "") + len(self.correlation_data or b"")


NO_PROPERTIES = Properties()


class Message(NamedTuple):
    """What an application publishes. `payload` is bytes already; `qos` is 0, 1 or 2."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: Properties = NO_PROPERTIES

    @property
    def size_bytes(self) -> int:
        """What the message counts for against a bound in bytes."""
        topic, payload, _, _, properties = self
        size_bytes = len(payload) + len(topic)
        return size_bytes if properties is NO_PROPERTIES else size_bytes + properties.size_bytes

    def __repr__(self) -> str:
        """Without the payload (promise C10)."""
        retain = ", retain" if self.retain else ""
        return f"<Message: {self.topic!r}, {len(self.payload)} bytes, QoS {self.qos}{retain}>"


class Stage(Enum):
    """How far a kept message has come, as the outbox file knows it."""

    QUEUED = "queued"
    """It waits, or is under way at QoS 1, whose identifier may change after a restart."""
    PUBLISHED = "published"
    """QoS 2, with a packet identifier; the PUBLISH may have been sent."""
    RELEASED = "released"
    """QoS 2, and the broker has said PUBREC: only a PUBREL is left to send."""


class FateKind(Enum):
    """How a message ended. Each is a column of the ledger, but FULL, UNAVAILABLE and STOPPED: never accepted."""

    ACKNOWLEDGED = "acknowledged"
    SENT = "sent"
    DEAD_LETTERED = "dead_lettered"
    EXPIRED = "expired"
    DROPPED = "dropped"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"
    DAMAGED = "damaged"
    ABANDONED = "abandoned"
    FULL = "full"
    UNAVAILABLE = "unavailable"
    STOPPED = "stopped"


class Fate(NamedTuple):
    """The end of one message: what became of it, and, where a broker or a disk spoke, what it said."""

    kind: FateKind
    detail: str = ""
    reason_code: int = 0


class Ledger(NamedTuple):
    """Where every message went, as one whole value (promise C4). `revision` orders two ledgers of one keeper.

    recovered + accepted + replayed = acknowledged + sent + dead_lettered + expired + dropped + superseded + unknown
    + damaged + abandoned + queued + in_flight, in every snapshot.

    Beside the columns: `taken` and `taken_bytes`, what the keeper has received of what was offered within its room;
    `waited`, the messages that could not go out at once.
    """

    revision: int = 0
    taken: int = 0
    taken_bytes: int = 0
    recovered: int = 0
    accepted: int = 0
    replayed: int = 0
    acknowledged: int = 0
    sent: int = 0
    dead_lettered: int = 0
    expired: int = 0
    dropped: int = 0
    superseded: int = 0
    unknown: int = 0
    damaged: int = 0
    abandoned: int = 0
    queued: int = 0
    in_flight: int = 0
    waited: int = 0

    @property
    def balance(self) -> int:
        """Left side of C4 minus its right side: 0, or hawk has a bug."""
        into = self.recovered + self.accepted + self.replayed
        ended = self.acknowledged + self.sent + self.dead_lettered + self.expired + self.dropped
        ended += self.superseded + self.unknown + self.damaged + self.abandoned
        return into - ended - self.queued - self.in_flight


class CauseKind(Enum):
    """Who or what ended a link, or kept one from coming up."""

    UNREACHABLE = "unreachable"
    UNPREPARED = "not dialled"
    UNTRUSTED = "not trusted"
    REFUSED = "refused"
    CLOSED_BY_PEER = "closed by peer"
    RESET_BY_PEER = "reset by peer"
    DISCONNECT = "disconnect"
    PROTOCOL_ERROR = "protocol error"
    HUNG_UP = "hung up"
    CLOSED = "closed"


class Cause(NamedTuple):
    """Why a dial failed or a link ended, in words and, where MQTT gave one, as a reason code."""

    kind: CauseKind
    text: str
    reason_code: int | None = None
    server_reference: str | None = None

    def __str__(self) -> str:
        code = "" if self.reason_code is None else f" (0x{self.reason_code:02x})"
        return f"{self.kind.value}: {self.text}{code}"


class Verdict(Enum):
    """What a refusal or a loss leads to. hawk's own are in `core/refusals` and `core/answers`.

    |            | CONNACK, DISCONNECT       | PUBACK, PUBREC             | SUBACK, UNSUBACK                   |
    |------------|---------------------------|----------------------------|------------------------------------|
    | AGAIN      | dialled after a delay     | sent again after a delay   | asked again after a delay          |
    | SLOWLY     | after ten times the delay | after ten times the delay  | asked again on the next link       |
    | AT_THE_CAP | after `max_retry_delay`   | after `max_retry_delay`    | asked again each `max_retry_delay` |
    | NEVER      | FAILED                    | a dead letter, `Refused`   | asked again for a new subscriber   |

    Delays are those of `ReconnectionConfig`, each longer than the one before. A message is sent again `message_retry_limit`
    times at most. A subscriber is told `Refused` by SLOWLY and NEVER; by the other two it waits on.
    """

    AGAIN = "again"
    SLOWLY = "slowly"
    AT_THE_CAP = "at the cap"
    NEVER = "never"


class Judgement(NamedTuple):
    """What a broker refused, and what hawk makes of it.

    `packet` is "CONNACK", "DISCONNECT", "PUBACK", "PUBREC", "SUBACK" or "UNSUBACK"; `name` is the specification's for the
    reason code.
    """

    packet: str
    reason_code: int
    name: str
    verdict: Verdict
