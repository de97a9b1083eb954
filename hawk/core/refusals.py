"""What MQTT 5's reason codes mean for the next dial and for the operator, and what all of them are called.

One row for every reason code that the specification lists for CONNACK and DISCONNECT (sections 3.2.2.2 and 3.14.2.1). A
code without a row is taken for the generic 0x80. Pure; the Connector acts on what is judged here. What is said of single
messages and filters is in `core/answers`.
"""

from enum import IntEnum
from typing import Literal, NamedTuple

from hawk.core.answers import PUBLISH, SUBSCRIBE, UNSPECIFIED_ERROR, UNSUBSCRIBE
from hawk.values import Cause, CauseKind, Verdict


class Level(IntEnum):
    """How loud a refusal is logged; the values are those of the standard library's logging."""

    INFO = 20
    WARNING = 30
    ERROR = 40


class Refusal(NamedTuple):
    """What a refusal means: its name, what to do next, what the operator can do, how loud to say it."""

    name: str
    verdict: Verdict
    remedy: str
    level: Level = Level.WARNING


def judge(cause: Cause, *, on_auth_failure: Literal["retry", "fail"]) -> Refusal | None:
    """What a failed dial or a lost link means; None for what says no more than that there was no answer."""
    match cause.kind:
        case CauseKind.UNTRUSTED:
            return _UNTRUSTED
        case CauseKind.UNPREPARED:
            return _UNPREPARED
        case CauseKind.REFUSED if cause.reason_code is not None:
            return judge_connack(cause.reason_code, on_auth_failure=on_auth_failure)
        case CauseKind.DISCONNECT if cause.reason_code is not None:
            return judge_disconnect(cause.reason_code)
        case _:
            return None


def judge_connack(reason_code: int, *, on_auth_failure: Literal["retry", "fail"]) -> Refusal:
    """What that refusal of a CONNECT means. `on_auth_failure` decides about 0x86 and 0x87.

    Their level is ERROR: for the first in a row; the Connector lowers it for those that follow.
    """
    refusal = CONNACK.get(reason_code, CONNACK[UNSPECIFIED_ERROR])
    if reason_code in _AUTHENTICATION and on_auth_failure == "fail":
        return refusal._replace(verdict=Verdict.NEVER)
    return refusal


def judge_disconnect(reason_code: int) -> Refusal:
    """What it means that the broker ended the link with that reason code."""
    return DISCONNECT.get(reason_code, DISCONNECT[UNSPECIFIED_ERROR])


def reason_name(packet: str, reason_code: int) -> str:
    """The specification's name of a reason code in that packet ("PUBACK", ...); unknown ones are unspecified errors."""
    return _NAMES[packet].get(reason_code, "Unspecified error")


_AUTHENTICATION = frozenset((0x86, 0x87))

_AGAIN, _SLOWLY, _AT_THE_CAP, _NEVER = Verdict.AGAIN, Verdict.SLOWLY, Verdict.AT_THE_CAP, Verdict.NEVER
_ERROR = Level.ERROR

_WAIT = "nothing to do here: hawk dials again"
_ASK_BROKER = "see the broker's log; hawk dials again"
_REPORT = "the broker cannot read hawk's packets: check that this port speaks MQTT 5, and report a defect"
_ELSEWHERE = "set `broker` to the server that it names, if it names one; hawk does not follow by itself"
_OVERLOADED = "lower the number of clients or raise the broker's limits; hawk dials again, slowly"
_ACCESS = "check `username`, `password` and the broker's access rules"
_NO_WILL = "the broker does not accept the `will`: change it, or use a broker that allows it"
_NOT_HERE = "do not use this feature with this broker, or use another broker"

_UNTRUSTED = Refusal(
    "Not trusted", _SLOWLY, "check `tls_ca_file`, `tls_server_name`, the broker's certificate and both clocks"
)
_UNPREPARED = Refusal("Not dialled", _AGAIN, "mend what it names; hawk asks again at each dial", _ERROR)

CONNACK: dict[int, Refusal] = {
    0x80: Refusal("Unspecified error", _AGAIN, _ASK_BROKER),
    0x81: Refusal("Malformed Packet", _NEVER, _REPORT, _ERROR),
    0x82: Refusal("Protocol Error", _NEVER, _REPORT, _ERROR),
    0x83: Refusal("Implementation specific error", _AGAIN, _ASK_BROKER),
    0x84: Refusal("Unsupported Protocol Version", _NEVER, "use a broker that speaks this version of MQTT", _ERROR),
    0x85: Refusal("Client Identifier not valid", _NEVER, "set another `client_id`", _ERROR),
    0x86: Refusal("Bad User Name or Password", _AGAIN, "check `username` and `password`", _ERROR),
    0x87: Refusal("Not authorized", _AGAIN, _ACCESS, _ERROR),
    0x88: Refusal("Server unavailable", _AGAIN, _WAIT),
    0x89: Refusal("Server busy", _SLOWLY, _OVERLOADED),
    0x8A: Refusal("Banned", _NEVER, "ask the broker's operator to lift the ban on this client", _ERROR),
    0x8C: Refusal("Bad authentication method", _NEVER, "use an `authentication` that this broker supports", _ERROR),
    0x90: Refusal("Topic Name invalid", _NEVER, _NO_WILL, _ERROR),
    0x95: Refusal("Packet too large", _NEVER, "shorten `client_id`, `username`, `password` or `will`", _ERROR),
    0x97: Refusal("Quota exceeded", _SLOWLY, _OVERLOADED),
    0x99: Refusal("Payload format invalid", _NEVER, _NO_WILL, _ERROR),
    0x9A: Refusal("Retain not supported", _NEVER, _NO_WILL, _ERROR),
    0x9B: Refusal("QoS not supported", _NEVER, _NO_WILL, _ERROR),
    0x9C: Refusal("Use another server", _AGAIN, _ELSEWHERE),
    0x9D: Refusal("Server moved", _AGAIN, _ELSEWHERE),
    0x9F: Refusal("Connection rate exceeded", _SLOWLY, _OVERLOADED),
}
"""Section 3.2.2.2, without 0x00."""

DISCONNECT: dict[int, Refusal] = {
    0x00: Refusal("Normal disconnection", _AGAIN, _WAIT),
    0x04: Refusal("Disconnect with Will Message", _AGAIN, _WAIT),
    0x80: Refusal("Unspecified error", _AGAIN, _ASK_BROKER),
    0x81: Refusal("Malformed Packet", _AGAIN, _REPORT),
    0x82: Refusal("Protocol Error", _AGAIN, _REPORT),
    0x83: Refusal("Implementation specific error", _AGAIN, _ASK_BROKER),
    0x87: Refusal("Not authorized", _AGAIN, _ACCESS),
    0x89: Refusal("Server busy", _SLOWLY, _OVERLOADED),
    0x8B: Refusal("Server shutting down", _AGAIN, _WAIT),
    0x8C: Refusal("Bad authentication method", _AGAIN, _ACCESS),
    0x8D: Refusal("Keep Alive timeout", _AGAIN, "the network held hawk's pings back, or the process was suspended"),
    0x8E: Refusal("Session taken over", _AT_THE_CAP, "give each client its own `client_id`"),
    0x8F: Refusal("Topic Filter invalid", _AGAIN, "check the filters of the subscriptions"),
    0x90: Refusal("Topic Name invalid", _AGAIN, "check the topics of the messages"),
    0x93: Refusal("Receive Maximum exceeded", _AGAIN, "lower `max_inflight`, and report a defect"),
    0x94: Refusal("Topic Alias invalid", _AGAIN, _REPORT),
    0x95: Refusal("Packet too large", _AGAIN, "send smaller messages or raise the broker's limit"),
    0x96: Refusal("Message rate too high", _AGAIN, "publish more slowly or raise the broker's limit"),
    0x97: Refusal("Quota exceeded", _SLOWLY, _OVERLOADED),
    0x98: Refusal("Administrative action", _AGAIN, "ask the broker's operator; hawk dials again"),
    0x99: Refusal("Payload format invalid", _AGAIN, "check the payloads of the messages"),
    0x9A: Refusal("Retain not supported", _AGAIN, _NOT_HERE),
    0x9B: Refusal("QoS not supported", _AGAIN, _NOT_HERE),
    0x9C: Refusal("Use another server", _AGAIN, _ELSEWHERE),
    0x9D: Refusal("Server moved", _AGAIN, _ELSEWHERE),
    0x9E: Refusal("Shared Subscriptions not supported", _AGAIN, _NOT_HERE),
    0x9F: Refusal("Connection rate exceeded", _SLOWLY, _OVERLOADED),
    0xA0: Refusal("Maximum connect time", _AGAIN, _WAIT),
    0xA1: Refusal("Subscription Identifiers not supported", _AGAIN, _NOT_HERE),
    0xA2: Refusal("Wildcard Subscriptions not supported", _AGAIN, _NOT_HERE),
}
"""Section 3.14.2.1, and 0x8C of section 2.4. None of it is for good: the link had been accepted as it is."""

_RELEASE_NAMES = {0x00: "Success", 0x92: "Packet Identifier not found"}

_NAMES: dict[str, dict[int, str]] = {
    "CONNACK": {0x00: "Success"} | {code: refusal.name for code, refusal in CONNACK.items()},
    "PUBACK": {code: answer.name for code, answer in PUBLISH.items()},
    "PUBREC": {code: answer.name for code, answer in PUBLISH.items()},
    "PUBREL": _RELEASE_NAMES,
    "PUBCOMP": _RELEASE_NAMES,
    "SUBACK": {code: answer.name for code, answer in SUBSCRIBE.items()},
    "UNSUBACK": {code: answer.name for code, answer in UNSUBSCRIBE.items()},
    "DISCONNECT": {code: refusal.name for code, refusal in DISCONNECT.items()},
}
