"""One entry on its way: what to send for it, and what to expect.

    QoS 1   PUBLISH ----------> PUBACK                         done
    QoS 2   PUBLISH ----------> PUBREC, PUBREL ------> PUBCOMP done

The table below is MQTT 5 section 4.3.3 and 4.4 as rows: what an entry waits for, what came, what follows. An entry
completes as an entry, never by its identifier alone, because identifiers are used again. `core/window.py` keeps the entries
that are under way together.
"""

import math
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from hawk.core.expiry import with_remaining
from hawk.core.wire_size import publish_size_bytes
from hawk.messages import Record, ReplyReference
from hawk.packets import AckKind, Acknowledgement, Connack
from hawk.values import Fate, FateKind, Message, Stage

PACKET_IDENTIFIER_NOT_FOUND = 0x92
PACKET_TOO_LARGE = 0x95
RETAIN_NOT_SUPPORTED = 0x9A
QOS_NOT_SUPPORTED = 0x9B


class Awaits(Enum):
    """What an entry that is under way waits for."""

    PUBACK = "puback"
    PUBREC = "pubrec"
    PUBCOMP = "pubcomp"


_FIRST_AWAITED = (Awaits.PUBREC, Awaits.PUBACK, Awaits.PUBREC)
"""By QoS; at QoS 0 nothing comes."""


class Next(Enum):
    """What follows from an acknowledgement."""

    COMPLETE = "complete"
    RELEASE = "release"
    JUDGE = "judge"
    """The broker refused it: what follows is for a judge to say."""
    IGNORE = "ignore"


_IGNORED = (Next.IGNORE, Next.IGNORE)

TRACK: dict[tuple[Awaits, AckKind], tuple[Next, Next]] = {
    (Awaits.PUBACK, AckKind.PUBACK): (Next.COMPLETE, Next.JUDGE),
    (Awaits.PUBACK, AckKind.PUBREC): _IGNORED,
    (Awaits.PUBACK, AckKind.PUBCOMP): _IGNORED,
    (Awaits.PUBREC, AckKind.PUBACK): _IGNORED,
    (Awaits.PUBREC, AckKind.PUBREC): (Next.RELEASE, Next.JUDGE),
    (Awaits.PUBREC, AckKind.PUBCOMP): _IGNORED,
    (Awaits.PUBCOMP, AckKind.PUBACK): _IGNORED,
    # The PUBREL is under way already, and a link repeats nothing.
    (Awaits.PUBCOMP, AckKind.PUBREC): _IGNORED,
    # Whatever PUBCOMP says, 0x92 included, the broker holds the identifier no more.
    (Awaits.PUBCOMP, AckKind.PUBCOMP): (Next.COMPLETE, Next.COMPLETE),
}
"""What follows where the acknowledgement is a success, and where it is not."""


class Terms(NamedTuple):
    """What few messages have: when they expire (hawk's time), and the `latest` rule that they fall under."""

    expires_at: float = math.inf
    latest: str = ""


PLAIN = Terms()
"""Never expires, is never replaced. Compared by identity: most messages have just this."""


class Entry:
    """One message in the outbox, from its admission to its fate. `number` grows with the order of acceptance."""

    __slots__ = ("awaits", "identifier", "message", "number", "refusals", "reply", "size_bytes", "terms")

    def __init__(self, number: int, message: Message, reply: ReplyReference, terms: Terms = PLAIN) -> None:
        self.number = number
        self.message = message
        self.reply = reply
        self.terms = terms
        self.size_bytes = message.size_bytes
        self.identifier = 0
        self.refusals = 0
        self.awaits = _FIRST_AWAITED[message.qos]

    @property
    def stage(self) -> Stage:
        """How far a store is to remember it: at QoS 1 an identifier may change after a restart."""
        if self.awaits is Awaits.PUBCOMP:
            return Stage.RELEASED
        return Stage.PUBLISHED if self.identifier and self.awaits is Awaits.PUBREC else Stage.QUEUED

    def is_expired(self, now: float) -> bool:
        """Whether its time is over. What the broker has received already does not expire any more."""
        return self.terms is not PLAIN and now >= self.terms.expires_at and self.awaits is not Awaits.PUBCOMP

    def message_at(self, now: float) -> Message:
        """The message as it goes on the wire now: its expiry is what is left of it."""
        expires_at = self.terms.expires_at
        return self.message if expires_at == math.inf else with_remaining(self.message, expires_at - now)

    def to_record(self, now: float) -> Record:
        """As a store keeps it."""
        if self.terms is PLAIN and not (self.identifier or self.refusals):
            return Record(self.number, self.message)
        stage = self.stage
        identifier = self.identifier if stage is not Stage.QUEUED else 0
        expires_at, latest = self.terms
        remaining_s = None if expires_at == math.inf else expires_at - now
        return Record(self.number, self.message, identifier, stage, self.refusals, remaining_s, latest)


def from_record(record: Record, reply: ReplyReference, now: float) -> Entry:
    """As a store has kept it."""
    terms = PLAIN
    if record.remaining_s is not None or record.latest:
        terms = Terms(math.inf if record.remaining_s is None else now + record.remaining_s, record.latest)
    entry = Entry(record.number, record.message, reply, terms)
    entry.identifier, entry.refusals = record.identifier, record.refusals
    if record.stage is Stage.RELEASED:
        entry.awaits = Awaits.PUBCOMP
    return entry


def obstacle_to(message: Message, connack: Connack) -> Fate | None:
    """Why this broker can never take this message; None when it can (MQTT 5 section 3.2.2.3)."""
    if message.qos > connack.maximum_qos:
        why = f"the broker takes QoS {connack.maximum_qos} at most, and this is QoS {message.qos}"
        return Fate(FateKind.DEAD_LETTERED, why, QOS_NOT_SUPPORTED)
    if message.retain and not connack.retain_available:
        why = "the broker keeps no retained messages, and this is one"
        return Fate(FateKind.DEAD_LETTERED, why, RETAIN_NOT_SUPPORTED)
    limit = connack.maximum_packet_size
    if limit is not None and (size_bytes := publish_size_bytes(message)) > limit:
        why = f"the broker takes packets of {limit} bytes at most, and this one has {size_bytes}"
        return Fate(FateKind.DEAD_LETTERED, why, PACKET_TOO_LARGE)
    return None


def is_unrestricted(connack: Connack) -> bool:
    """Whether `obstacle_to` finds none for any message."""
    return connack.maximum_qos == 2 and connack.retain_available and connack.maximum_packet_size is None


def unknown_releases(acknowledgements: Iterable[Acknowledgement]) -> list[Acknowledgement]:
    """The PUBRELs that tell the broker: this PUBREC is about a message hawk does not know (MQTT 5 section 4.3.3)."""
    return [
        Acknowledgement(AckKind.PUBREL, acknowledgement.identifier, PACKET_IDENTIFIER_NOT_FOUND)
        for acknowledgement in acknowledgements
        if acknowledgement.kind is AckKind.PUBREC and acknowledgement.reason_code < 0x80
    ]
