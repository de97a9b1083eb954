"""Who receives what: the records that `core/filters` and `core/deliveries` share, and the decisions both add to."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from hawk.messages import Channel, Delivered, Lane
from hawk.packets import Outgoing
from hawk.values import Message


class Overrun(NamedTuple):
    """A link that has ended, on which the broker exceeded our Receive Maximum."""

    link: int
    messages: int
    """How many came although our Receive Maximum was used up."""
    given_up: bool
    """Hawk itself hung up, because there was no memory for more."""


@dataclass(slots=True)
class Decisions:
    """What the shell must do now, in the order of the fields."""

    lane: Lane | None = None
    """Where `packets` go; None when there is no link."""
    packets: list[Outgoing] = field(default_factory=list)
    deliveries: list[tuple[Channel[Delivered], Delivered]] = field(default_factory=list)
    ended: list[Channel[Delivered]] = field(default_factory=list)
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
    abandoned: int = 0
    """Messages that waited `RETURN_GRACE_S` for a holder, and are acknowledged without one."""
    abandoning: bool = False
    """An episode of abandoning begins: none was abandoned for `RETURN_GRACE_S`."""
    receive_maximum_exceeded: list[int] = field(default_factory=list)
    """Numbers of links on which the broker began to exceed our Receive Maximum: each link once."""
    overruns: list[Overrun] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Holder:
    """One subscription of the application. `since`: deliveries of lower numbers came before it."""

    number: int
    filter: str
    qos: int
    deliveries: Channel[Delivered]
    answer: Channel[int] | None
    since: int
    unhandled: dict[int, "Arrival"] = field(default_factory=dict)
    unhandled_at_qos_0: int = 0
    overflowing: bool = False


@dataclass(eq=False, slots=True)
class Arrival:
    """One PUBLISH that came. It ends when nobody has it unhandled and it is not parked; its payload is then let go."""

    number: int
    message: Message
    identifier: int
    redelivered: bool
    waiting: int = 0
    ended: bool = False
    dropped: bool = False
    returned: bool = False
    given_again: set[int] = field(default_factory=set)


def answer_holders(holders: Iterable[Holder], code: int, decisions: Decisions) -> None:
    """Tell those of them who still wait for the broker's word."""
    for holder in holders:
        if holder.answer is not None:
            decisions.answers.append((holder.answer, code))
            holder.answer = None
