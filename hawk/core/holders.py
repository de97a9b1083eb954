"""Who receives what: the records that the parts of `core/subscriptions` share, and the decisions that all add to."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from hawk.messages import Channel, Delivered, InboxCommit, Lane
from hawk.packets import Outgoing, SubscribeFilter
from hawk.values import Message


class Overrun(NamedTuple):
    """A link that has ended, on which the broker exceeded our Receive Maximum."""

    link: int
    messages: int
    """How many came although our Receive Maximum was used up."""
    given_up: bool
    """Hawk itself hung up, because there was no memory for more."""


class Blocking(NamedTuple):
    """A delivery that has kept those behind it from being acknowledged for `BLOCKED_TOO_LONG_S`."""

    topic: str
    key: str
    behind: int
    """How many wait for it."""


class Run(NamedTuple):
    """What one subscription is given at once."""

    channel: Channel[tuple[Delivered, ...]]
    delivered: tuple[Delivered, ...]


@dataclass(slots=True)
class Decisions:
    """What the shell must do now, in the order of the fields."""

    commit: InboxCommit | None = None
    """What the inbox must keep; the next such decision comes after its answer."""
    lane: Lane | None = None
    """Where `packets` go; None when there is no link."""
    packets: list[Outgoing] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    ended: list[Channel[tuple[Delivered, ...]]] = field(default_factory=list)
    """Channels to close: nothing more will be delivered to them."""
    answers: list[tuple[Channel[int], int]] = field(default_factory=list)
    unanswered: list[Channel[int]] = field(default_factory=list)
    """Channels to close without an answer: their subscription ended before the broker spoke."""
    ready: Lane | None = None
    refused: list[tuple[str, int]] = field(default_factory=list)
    """Filters that the broker, by its SUBACK or its CONNACK, does not grant, and the reason code."""
    still_subscribed: list[tuple[str, int]] = field(default_factory=list)
    """Filters that the broker does not let go of, and the reason code; it is asked again on the next link."""
    overflowing: list[str] = field(default_factory=list)
    """Filters of subscriptions that began to lose QoS 0 messages: one for each episode."""
    rejected: list[tuple[str, str]] = field(default_factory=list)
    """Topics of deliveries that an application rejected, and its reasons."""
    abandoned: int = 0
    """Messages that nobody came for, or that no handler could handle, and that are rejected for that."""
    abandoning: bool = False
    """An episode of abandoning begins: none was abandoned for `return_grace_s`."""
    blocking: Blocking | None = None
    """An episode of blocking begins."""
    is_too_slow: bool = False
    """An episode begins in which what is received is handled more slowly than the broker would send."""
    receive_maximum_exceeded: list[int] = field(default_factory=list)
    """Numbers of links on which the broker began to exceed our Receive Maximum: each link once."""
    overruns: list[Overrun] = field(default_factory=list)
    given: list["Holder"] = field(default_factory=list)
    """Those whose `run` is not empty; for the core, which makes `runs` of it."""


@dataclass(eq=False, slots=True)
class Holder:
    """One subscription of the application. `since`: deliveries of lower numbers came before it.

    `asked_by`: the subscription identifier of the SUBSCRIBE that was sent for it, and so of the retained messages that
    are for it. `takes_retained`: the filter keeps the retain flag as published, so the flag does not say who asked.
    """

    number: int
    wanted: SubscribeFilter
    deliveries: Channel[tuple[Delivered, ...]]
    answer: Channel[int] | None
    since: int
    asked: bool = False
    asked_by: int = 0
    takes_retained: bool = False
    refused: bool = False
    unhandled: dict[int, "Arrival"] = field(default_factory=dict)
    unhandled_at_qos_0: int = 0
    unhandled_bytes_at_qos_0: int = 0
    lent_at_qos_0: int = 0
    buffer: deque["Arrival"] = field(default_factory=deque)
    """Unhandled and not handed over yet, because so much at QoS 0 is. Its first, if any, is of QoS 0."""
    overflowing: bool = False
    run: list[Delivered] = field(default_factory=list)

    @property
    def filter(self) -> str:
        """The topic filter."""
        return self.wanted.filter


class Arrival:
    """One PUBLISH that came. It ends when nobody has it unhandled and it waits for nobody; its payload is then let go.

    `given`: how many have it or are done with it. `settled`: it may be acknowledged, which at QoS 2 is when the inbox has
    kept that it ended. `unwanted`: it came for a filter that was being left, so it waits for nobody. `fingerprint`: of
    QoS 2, by which it is told from another message.
    """

    __slots__ = (
        *("abandoned", "delivered", "dropped", "ended", "fingerprint", "given", "given_later", "identifier", "message"),
        *("named", "rejected", "returns", "settled", "unwanted", "waiting"),
    )

    def __init__(self, delivered: Delivered, identifier: int, named: tuple[int, ...]) -> None:
        self.delivered = delivered
        self.message = delivered.message
        self.identifier = identifier
        self.named = named
        self.waiting = self.given = self.returns = 0
        self.ended = self.settled = self.dropped = self.rejected = self.abandoned = self.unwanted = False
        self.given_later: tuple[int, ...] = ()
        self.fingerprint: int | None = None

    @property
    def number(self) -> int:
        """hawk's own, in the order of arrival."""
        return self.delivered.delivery

    @property
    def qos(self) -> int:
        """The QoS that it came with."""
        return self.message.qos

    @property
    def size_bytes(self) -> int:
        """What it counts for against a bound in bytes."""
        return self.message.size_bytes


# What is left of a message, by its QoS, when only its acknowledgement is still owed.
SPENT = tuple(Message("", b"", qos) for qos in range(3))


def fingerprint_of(message: Message) -> int:
    """A checksum of what a broker never changes when it repeats a message."""
    return crc32(message.payload, crc32(message.topic.encode()))


def is_another(known: int | None, fingerprint: int | None) -> bool:
    """Whether a PUBLISH of QoS 2 is another message than the one that is known under its identifier.

    MQTT knows no such case, but it comes about when either side has lost its memory: a broker that started again from an
    older copy of the session, or a process that died before it had kept that the session is a new one.
    """
    return known is not None and known != fingerprint


def answer_holders(holders: Iterable[Holder], code: int, decisions: Decisions) -> None:
    """Tell those of them who still wait for the broker's word."""
    for holder in holders:
        if holder.answer is not None:
            decisions.answers.append((holder.answer, code))
            holder.answer = None
