"""What a broker's answers to PUBLISH, SUBSCRIBE and UNSUBSCRIBE mean: a success, or again, slowly or never, and what to do.

One row for every reason code that the specification lists for PUBACK and PUBREC (sections 3.4.2.1 and 3.5.2.1), SUBACK
(3.9.3) and UNSUBACK (3.11.3). A code without a row is taken for the generic 0x80. Pure; `core/refusals` has the codes
that end a link or keep one from coming up. What a verdict leads to stands at `values.Verdict`.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from hawk.values import Judgement, Verdict

FAILURE = 0x80
"""The first reason code that is a refusal."""
UNSPECIFIED_ERROR = 0x80

Packet = Literal["PUBACK", "PUBREC", "SUBACK", "UNSUBACK"]

Judge: TypeAlias = Callable[[Judgement], Verdict]
"""What a refusal leads to: `hawks_own`, or an application's `refusal_policy`, which must not raise here."""


class Answer(NamedTuple):
    """A reason code: its name, what it leads to (None: a success), what its sender or the operator can do."""

    name: str
    verdict: Verdict | None = None
    remedy: str = ""


def answer_of(packet: Packet, reason_code: int) -> Answer:
    """What that packet says with that reason code."""
    table = _TABLES[packet]
    return table.get(reason_code, table[UNSPECIFIED_ERROR])


def hawks_own(judgement: Judgement) -> Verdict:
    """The `Judge` that leaves it at the tables."""
    return judgement.verdict


def judge_refusal(packet: Packet, reason_code: int, judge: Judge) -> Verdict:
    """What that refusal leads to, by this judge."""
    name, verdict, _ = answer_of(packet, reason_code)
    assert verdict is not None, "a success is not judged"
    return judge(Judgement(packet, reason_code, name, verdict))


def explain_refused_publish(reason_code: int) -> str:
    """Why the broker refused a message, and what to do about it, as one sentence."""
    name, _, remedy = answer_of("PUBACK", reason_code)
    return f"{name}; {remedy}" if remedy else name


_AGAIN, _SLOWLY, _NEVER = Verdict.AGAIN, Verdict.SLOWLY, Verdict.NEVER

_ACCESS = "check the broker's access rules for this client and topic"
_LOG = "see the broker's log"
_QUOTA = "raise the broker's quota, or use less of it"
_REPORT = "report a defect: no two requests of hawk share a packet identifier"

PUBLISH: dict[int, Answer] = {
    0x00: Answer("Success"),
    0x10: Answer("No matching subscribers"),
    0x80: Answer("Unspecified error", _AGAIN, _LOG),
    0x83: Answer("Implementation specific error", _AGAIN, _LOG),
    0x87: Answer("Not authorized", _NEVER, _ACCESS),
    0x90: Answer("Topic Name invalid", _NEVER, "use a topic that the broker accepts"),
    # The broker has another message under that identifier. A new attempt has another identifier.
    0x91: Answer("Packet Identifier in use", _AGAIN, "give each client its own `client_id`"),
    0x97: Answer("Quota exceeded", _AGAIN, _QUOTA),
    0x99: Answer("Payload format invalid", _NEVER, "the payload is not what its properties say"),
}

# No filter is refused for good: the next link may lead to a broker with other rules, so it is asked there once more.
SUBSCRIBE: dict[int, Answer] = {
    0x00: Answer("Granted QoS 0"),
    0x01: Answer("Granted QoS 1"),
    0x02: Answer("Granted QoS 2"),
    0x80: Answer("Unspecified error", _SLOWLY, _LOG),
    0x83: Answer("Implementation specific error", _SLOWLY, _LOG),
    0x87: Answer("Not authorized", _SLOWLY, _ACCESS),
    0x8F: Answer("Topic Filter invalid", _SLOWLY, "use a filter that the broker accepts"),
    0x91: Answer("Packet Identifier in use", _SLOWLY, _REPORT),
    0x95: Answer("Packet too large", _SLOWLY, "shorten the filter, or raise the broker's limit"),
    0x97: Answer("Quota exceeded", _SLOWLY, _QUOTA),
    0x9E: Answer("Shared Subscriptions not supported", _SLOWLY, "subscribe without $share/, or use another broker"),
    0xA1: Answer(
        "Subscription Identifiers not supported", _SLOWLY, "report a defect of the broker: its CONNACK allows them"
    ),
    0xA2: Answer("Wildcard Subscriptions not supported", _SLOWLY, "name each topic, or use another broker"),
}
"""Section 3.9.3, and 0x95 of section 2.4, which hawk itself says of a filter that no packet of this broker's can hold."""

UNSUBSCRIBE: dict[int, Answer] = {
    0x00: Answer("Success"),
    0x11: Answer("No subscription existed"),
    0x80: Answer("Unspecified error", _SLOWLY, _LOG),
    0x83: Answer("Implementation specific error", _SLOWLY, _LOG),
    0x87: Answer("Not authorized", _SLOWLY, _ACCESS),
    0x8F: Answer("Topic Filter invalid", _SLOWLY, _LOG),
    0x91: Answer("Packet Identifier in use", _SLOWLY, _REPORT),
}

_TABLES: dict[Packet, dict[int, Answer]] = {
    "PUBACK": PUBLISH,
    "PUBREC": PUBLISH,
    "SUBACK": SUBSCRIBE,
    "UNSUBACK": UNSUBSCRIBE,
}
