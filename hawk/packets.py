"""MQTT's packets as hawk speaks of them: what an actor puts on a lane, and what a link reads. No bytes here."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from hawk.connecting import NO_CREDENTIALS, Authenticator, Credentials, Endpoint, Will
from hawk.values import Message


@dataclass(frozen=True, slots=True)
class Connack:
    """What the broker said in its CONNACK: the session, and the limits it sets."""

    reason_code: int = 0
    reason: str = ""
    session_present: bool = False
    receive_maximum: int = 65_535
    maximum_packet_size: int | None = None
    maximum_qos: int = 2
    retain_available: bool = True
    topic_alias_maximum: int = 0
    server_keep_alive_s: int | None = None
    assigned_client_identifier: str | None = None
    session_expiry_s: int | None = None
    wildcard_available: bool = True
    shared_available: bool = True
    subscription_identifier_available: bool = True
    server_reference: str | None = None
    authentication_data: bytes | None = field(default=None, repr=False)


class Challenge(NamedTuple):
    """An AUTH of the broker's before its CONNACK (MQTT 5 section 4.12). Without the data in its `repr`."""

    data: bytes | None

    def __repr__(self) -> str:
        """Nothing of it."""
        return "<Challenge>"


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """What differs from dial to dial; everything else a dialer knows from the configuration.

    `endpoint` None is the configuration's first. `authenticator` has not been asked anything yet.
    """

    client_identifier: str
    clean_start: bool
    endpoint: Endpoint | None = None
    credentials: Credentials = NO_CREDENTIALS
    will: Will | None = None
    authenticator: Authenticator | None = None


class Publish(NamedTuple):
    """A PUBLISH. `identifier` is 0 at QoS 0."""

    message: Message
    identifier: int = 0
    duplicate: bool = False


class AckKind(IntEnum):
    """The acknowledgements of QoS 1 and 2; the values are MQTT's packet types."""

    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7


class Acknowledgement(NamedTuple):
    """A PUBACK, PUBREC, PUBREL or PUBCOMP, in either direction."""

    kind: AckKind
    identifier: int
    reason_code: int = 0


class SubscribeFilter(NamedTuple):
    """One topic filter of a SUBSCRIBE, with the highest QoS wanted and its options (MQTT 5 section 3.8.3.1).

    `no_local`: not what this client publishes itself. `retain_as_published`: keep the retain flag of what is passed on.
    `retain_handling`: retained messages are sent 0: at each SUBSCRIBE, 1: if the subscription is new, 2: never.
    """

    filter: str
    qos: int = 1
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class SubscribeRequest(NamedTuple):
    """A SUBSCRIBE. With a `subscription_identifier` every PUBLISH that it causes carries it (section 3.8.2.1.2)."""

    identifier: int
    filters: tuple[SubscribeFilter, ...]
    subscription_identifier: int = 0


class UnsubscribeRequest(NamedTuple):
    """An UNSUBSCRIBE."""

    identifier: int
    filters: tuple[str, ...]


class PingRequest(NamedTuple):
    """A PINGREQ."""


class DisconnectRequest(NamedTuple):
    """A DISCONNECT. `session_expiry_s` None leaves the session's expiry as CONNECT set it."""

    reason_code: int = 0
    session_expiry_s: int | None = None


Outgoing = Publish | Acknowledgement | SubscribeRequest | UnsubscribeRequest | PingRequest | DisconnectRequest


class Delivery(NamedTuple):
    """A PUBLISH from the broker. `identifier` is 0 at QoS 0; the subscription identifiers say which SUBSCRIBEs caused it."""

    message: Message
    identifier: int = 0
    duplicate: bool = False
    subscription_identifiers: tuple[int, ...] = ()


class SubscribeOutcome(NamedTuple):
    """A SUBACK, or where `leaving` an UNSUBACK: one reason code for each filter asked for."""

    identifier: int
    reason_codes: tuple[int, ...]
    leaving: bool = False


Inbound = Delivery | Acknowledgement | SubscribeOutcome


@dataclass(slots=True)
class Arrivals:
    """All that one read from a link brought, sorted by who must hear it; each list keeps the wire's order."""

    acknowledged: list[int] = field(default_factory=list)
    """Identifiers of the PUBACKs that say success, up to the first other acknowledgement: most of what ever arrives, and
    so the one kind without an object."""
    acknowledgements: list[Acknowledgement] = field(default_factory=list)
    """The PUBACKs, PUBRECs and PUBCOMPs after those."""
    inbound: list[Inbound] = field(default_factory=list)
    """PUBLISH, PUBREL, SUBACK and UNSUBACK: about messages that hawk receives."""
    pong: bool = False

    @property
    def says_something(self) -> bool:
        """Whether any packet came."""
        return bool(self.acknowledged or self.acknowledgements or self.inbound or self.pong)
