"""What a broker's answers to PUBLISH, SUBSCRIBE and UNSUBSCRIBE mean: done, again, slowly or never, and what to do.

One row for every reason code that the specification lists for PUBACK and PUBREC (sections 3.4.2.1 and 3.5.2.1), SUBACK
(3.9.3) and UNSUBACK (3.11.3). A code without a row is taken for the generic 0x80. Pure; `core/refusals` has the codes
that end a link or keep one from coming up.
"""

from enum import Enum, auto
from typing import NamedTuple

UNSPECIFIED_ERROR = 0x80


class PublishVerdict(Enum):
    """What a PUBACK or PUBREC means for its message."""

    DONE = auto()
    """The broker has it (or, at a PUBREC, goes on with it)."""
    RETRY = auto()
    """Refused for now: the same message may pass later, and is tried again, each time after a longer wait."""
    REFUSED = auto()
    """Refused for good."""


class FilterVerdict(Enum):
    """What a SUBACK or UNSUBACK means for one filter.

    None is refused for good: the next link may lead to a broker with other rules, so it is asked there once more.
    """

    DONE = auto()
    NEXT_LINK = auto()


class PublishAnswer(NamedTuple):
    """A reason code of PUBACK and PUBREC: its name, what it means, what its sender or the operator can do."""

    name: str
    verdict: PublishVerdict
    remedy: str = ""


class FilterAnswer(NamedTuple):
    """A reason code of SUBACK or UNSUBACK: its name, what it means, what its sender or the operator can do."""

    name: str
    verdict: FilterVerdict
    remedy: str = ""


def judge_puback(reason_code: int) -> PublishVerdict:
    """What that PUBACK or PUBREC means for its message."""
    return PUBLISH.get(reason_code, PUBLISH[UNSPECIFIED_ERROR]).verdict


def judge_suback(reason_code: int) -> FilterAnswer:
    """What that answer to a SUBSCRIBE means for its filter."""
    return SUBSCRIBE.get(reason_code, SUBSCRIBE[UNSPECIFIED_ERROR])


def judge_unsuback(reason_code: int) -> FilterAnswer:
    """What that answer to an UNSUBSCRIBE means for its filter."""
    return UNSUBSCRIBE.get(reason_code, UNSUBSCRIBE[UNSPECIFIED_ERROR])


def explain_refused_publish(reason_code: int) -> str:
    """Why the broker refused a message, and what to do about it, as one sentence."""
    name, _, remedy = PUBLISH.get(reason_code, PUBLISH[UNSPECIFIED_ERROR])
    return f"{name}; {remedy}" if remedy else name


_DONE, _RETRY, _REFUSED = PublishVerdict.DONE, PublishVerdict.RETRY, PublishVerdict.REFUSED
_GRANTED, _NEXT_LINK = FilterVerdict.DONE, FilterVerdict.NEXT_LINK

_ACCESS = "check the broker's access rules for this client and topic"
_LOG = "see the broker's log"
_QUOTA = "raise the broker's quota, or use less of it"
_REPORT = "report a defect: no two requests of hawk share a packet identifier"

PUBLISH: dict[int, PublishAnswer] = {
    0x00: PublishAnswer("Success", _DONE),
    0x10: PublishAnswer("No matching subscribers", _DONE),
    0x80: PublishAnswer("Unspecified error", _RETRY, _LOG),
    0x83: PublishAnswer("Implementation specific error", _RETRY, _LOG),
    0x87: PublishAnswer("Not authorized", _REFUSED, _ACCESS),
    0x90: PublishAnswer("Topic Name invalid", _REFUSED, "use a topic that the broker accepts"),
    # The broker has another message under that identifier. A new attempt has another identifier.
    0x91: PublishAnswer("Packet Identifier in use", _RETRY, "give each client its own `client_id`"),
    0x97: PublishAnswer("Quota exceeded", _RETRY, _QUOTA),
    0x99: PublishAnswer("Payload format invalid", _REFUSED, "the payload is not what its properties say"),
}

SUBSCRIBE: dict[int, FilterAnswer] = {
    0x00: FilterAnswer("Granted QoS 0", _GRANTED),
    0x01: FilterAnswer("Granted QoS 1", _GRANTED),
    0x02: FilterAnswer("Granted QoS 2", _GRANTED),
    0x80: FilterAnswer("Unspecified error", _NEXT_LINK, _LOG),
    0x83: FilterAnswer("Implementation specific error", _NEXT_LINK, _LOG),
    0x87: FilterAnswer("Not authorized", _NEXT_LINK, _ACCESS),
    0x8F: FilterAnswer("Topic Filter invalid", _NEXT_LINK, "use a filter that the broker accepts"),
    0x91: FilterAnswer("Packet Identifier in use", _NEXT_LINK, _REPORT),
    0x95: FilterAnswer("Packet too large", _NEXT_LINK, "shorten the filter, or raise the broker's limit"),
    0x97: FilterAnswer("Quota exceeded", _NEXT_LINK, _QUOTA),
    0x9E: FilterAnswer(
        "Shared Subscriptions not supported", _NEXT_LINK, "subscribe without $share/, or use another broker"
    ),
    0xA1: FilterAnswer("Subscription Identifiers not supported", _NEXT_LINK, "report a defect: hawk uses none"),
    0xA2: FilterAnswer("Wildcard Subscriptions not supported", _NEXT_LINK, "name each topic, or use another broker"),
}
"""Section 3.9.3, and 0x95 of section 2.4, which hawk itself says of a filter that no packet of this broker's can hold."""

UNSUBSCRIBE: dict[int, FilterAnswer] = {
    0x00: FilterAnswer("Success", _GRANTED),
    0x11: FilterAnswer("No subscription existed", _GRANTED),
    0x80: FilterAnswer("Unspecified error", _NEXT_LINK, _LOG),
    0x83: FilterAnswer("Implementation specific error", _NEXT_LINK, _LOG),
    0x87: FilterAnswer("Not authorized", _NEXT_LINK, _ACCESS),
    0x8F: FilterAnswer("Topic Filter invalid", _NEXT_LINK, _LOG),
    0x91: FilterAnswer("Packet Identifier in use", _NEXT_LINK, _REPORT),
}
