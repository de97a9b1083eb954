"""What a file expects of a run: `metric[(filter)] operator value [during L | after L[+1m] | at end]`, read. Pure.

What each metric measures is in `metrics.py`.
"""

import operator
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final, Literal, NamedTuple

from hawk.scenario import units
from hawk.values import ConnectionState, FateKind

Unit = Literal["count", "duration", "size", "rate", "share", "state", "legality"]
ArgumentKind = Literal["nothing", "messages", "label", "reason", "state"]

OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class MetricKind(NamedTuple):
    """A metric as files name it: its unit, and what may stand in brackets behind it."""

    unit: Unit
    what: str
    argument: ArgumentKind = "nothing"
    needs_argument: bool = False
    of_time: bool = False
    """Whether a part of the run can be asked for (`during`, `after`)."""


METRICS: Final[Mapping[str, MetricKind]] = {
    "lost": MetricKind("count", "accepted, never taken by the broker, and no fate told (QoS >= 1)", "messages"),
    "duplicates": MetricKind("count", "times that the broker took a message again", "messages"),
    "reordered": MetricKind("count", "messages taken out of the order in which their client sent them", "messages"),
    "missed": MetricKind("count", "taken by the broker and never given to a subscriber (QoS >= 1)", "messages"),
    "delivered": MetricKind("count", "messages that the broker took", "messages", of_time=True),
    "dropped": MetricKind("count", "messages given up, and told: of one reason or of all", "reason", of_time=True),
    "latency.p50": MetricKind("duration", "half the messages were at the broker sooner", "messages", of_time=True),
    "latency.p99": MetricKind("duration", "99 of 100 messages were there sooner", "messages", of_time=True),
    "latency.max": MetricKind("duration", "how long the slowest message took", "messages", of_time=True),
    "queue.depth.max": MetricKind("count", "the most messages that waited in one client", of_time=True),
    "queue.bytes.max": MetricKind("size", "the most bytes that waited in one client", of_time=True),
    "attempts": MetricKind("count", "dials of all clients", of_time=True),
    "attempts.rate.max": MetricKind("rate", "the most dials of all clients in one unit of time", of_time=True),
    "detect": MetricKind("duration", "from a fault's start until the slowest client left CONNECTED", "label", True),
    "recovery": MetricKind(
        "duration", "from a fault's end until all are CONNECTED and what waited then is delivered", "label", True
    ),
    "availability": MetricKind("share", "how much of the time the clients were CONNECTED, on average", of_time=True),
    "connects": MetricKind("count", "how often a client became CONNECTED", of_time=True),
    "state": MetricKind("state", "the state of all clients at the end"),
    "states": MetricKind("legality", "`== legal`, or states(FAILED) == 0: how often a state was entered", "state"),
}
PERCENT_OF_SENT: Final = frozenset({"lost", "duplicates", "reordered", "missed", "delivered"})
"""Counts whose limit may be a share of what was accepted."""

DROP_REASONS: Final[Mapping[str, tuple[str, ...]]] = {
    "overflow": (FateKind.DROPPED.value,),
    "refused": (FateKind.DEAD_LETTERED.value,),
    "full": (FateKind.FULL.value,),
    "unavailable": (FateKind.UNAVAILABLE.value,),
    **{
        kind.value: (kind.value,)
        for kind in (FateKind.EXPIRED, FateKind.SUPERSEDED, FateKind.UNKNOWN, FateKind.DAMAGED, FateKind.ABANDONED)
    },
}
STATES: Final = tuple(state.name for state in ConnectionState)
CALM: Final = "calm"


class Filter(NamedTuple):
    """Which messages count: those of a topic (or a filter of topics), and those of a quality of service."""

    topic: str = ""
    qos_operator: str = ""
    qos: int = 0


class Window(NamedTuple):
    """Which part of the run counts: `during` or `after` a label, or `calm`; `plus_s` later."""

    kind: Literal["all", "during", "after"] = "all"
    label: str = ""
    plus_s: float = 0.0


class Expectation(NamedTuple):
    """One expectation. `limit` has the metric's unit: a number, a name, or `Percent`. `text` is how the file says it,
    `limit_text` how it says the limit.
    """

    text: str
    metric: str
    argument: str
    filter: Filter
    operator: str
    limit: Any
    limit_text: str
    window: Window
    why: str = ""
    abort: bool = False


class Percent(NamedTuple):
    """A limit as a share of what was accepted."""

    share: float


class NoExpectation(ValueError):
    """A text is no expectation; the message says why, in the words of a located problem."""


_SHAPE = re.compile(
    r"\s*(?P<metric>[a-z][a-z0-9_.]*)\s*(?:\((?P<argument>[^()]*)\))?\s*"
    r"(?P<operator>==|!=|<=|>=|<|>|=)\s*(?P<value>.*?)\s*"
    r"(?:(?P<when>during|after)\s+(?P<label>[^\s+]+)(?:\s*\+\s*(?P<plus>\S+))?|(?P<end>at\s+end))?\s*\Z"
)
_QOS = re.compile(r"qos\s*(==|>=|<=|<|>|=)\s*([012])\Z")


def parse(text: str, *, why: str = "", abort: bool = False) -> Expectation:
    """Read one expectation. Raises `NoExpectation`."""
    found = _SHAPE.match(text)
    if found is None:
        raise NoExpectation(
            "not an expectation (try `lost == 0`, `recovery(restart) <= 9s`, `state == CONNECTED at end`)"
        )
    name, argument = found["metric"], (found["argument"] or "").strip()
    kind = METRICS.get(name)
    if kind is None:
        raise NoExpectation(f"unknown metric {name!r}{_suggestion(name, METRICS)}")
    sign = "==" if found["operator"] == "=" else found["operator"]
    message_filter = _argument(name, kind, argument)
    unit: Unit = "count" if name == "states" and argument else kind.unit
    limit = _limit(name, unit, sign, found["value"])
    window = _window(found["when"], found["label"], found["plus"])
    if window.kind != "all" and not kind.of_time:
        raise NoExpectation(f"{name} is of the whole run; it has no `during` or `after`")
    if window.kind == "after" and window.label == CALM:
        raise NoExpectation("calm has no end; say `during calm`")
    return Expectation(
        " ".join(text.split()), name, argument, message_filter, sign, limit, found["value"], window, why, abort
    )


def labels_of(expectation: Expectation) -> list[str]:
    """The labels of faults that it names; each must be one of the timeline's."""
    labels = [expectation.argument] if METRICS[expectation.metric].argument == "label" else []
    if expectation.window.kind != "all" and expectation.window.label != CALM:
        labels.append(expectation.window.label)
    return labels


def _argument(name: str, kind: MetricKind, argument: str) -> Filter:
    if not argument:
        if kind.needs_argument:
            raise NoExpectation(f"{name} needs the label of a fault: {name}(label)")
        return Filter()
    match kind.argument:
        case "nothing":
            raise NoExpectation(f"{name} takes nothing in brackets")
        case "reason" if argument not in DROP_REASONS:
            raise NoExpectation(f"unknown reason {argument!r}{_suggestion(argument, DROP_REASONS)}")
        case "state" if argument not in STATES:
            raise NoExpectation(f"unknown state {argument!r}{_suggestion(argument, STATES)}")
        case "messages":
            return _filter(argument)
        case "label" | "reason" | "state":
            return Filter()


def _filter(argument: str) -> Filter:
    chosen = Filter()
    for part in (part.strip() for part in argument.split(",")):
        if (found := _QOS.match(part)) is not None:
            chosen = chosen._replace(qos_operator="==" if found[1] == "=" else found[1], qos=int(found[2]))
        elif part.startswith("topic=") and len(part) > len("topic="):
            chosen = chosen._replace(topic=part.removeprefix("topic=").lstrip("=").strip())
        else:
            raise NoExpectation(f"unknown filter {part!r} (try qos>=1, topic=boat/alarm)")
    return chosen


def _limit(name: str, unit: Unit, sign: str, value: str) -> Any:
    try:
        match unit:
            case "count" if value.endswith("%") and name in PERCENT_OF_SENT:
                return Percent(units.share(value))
            case "count":
                return units.count(value)
            case "duration":
                return units.duration_s(value)
            case "size":
                return units.size_bytes(int(value) if value.isdigit() else value)
            case "rate":
                return units.frequency(value)
            case "share":
                return units.share(value)
            case "state":
                return _word(sign, value, STATES)
            case "legality":
                return _word(sign, value, ("legal",))
    except NoExpectation:
        raise
    except ValueError as error:
        raise NoExpectation(f"{value!r} is {error}") from None


def _word(sign: str, value: str, words: tuple[str, ...]) -> str:
    if sign not in ("==", "!="):
        raise NoExpectation("a word is compared with == or !=")
    if value not in words:
        raise NoExpectation(f"unknown word {value!r}{_suggestion(value, words) or '; one of ' + ', '.join(words)}")
    return value


def _window(when: str | None, label: str, plus: str | None) -> Window:
    match when:
        case "during":
            return Window("during", label, _plus_s(plus))
        case "after":
            return Window("after", label, _plus_s(plus))
        case _:
            return Window()


def _plus_s(text: str | None) -> float:
    try:
        return 0.0 if text is None else units.duration_s(text)
    except ValueError as error:
        raise NoExpectation(f"{text!r} is {error}") from None


def _suggestion(word: str, words: Any) -> str:
    close = get_close_matches(word, list(words), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
