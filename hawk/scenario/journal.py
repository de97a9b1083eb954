"""The journal of a run: everything that happened, one line of JSON for each event, and at the end the verdict.

The verdict and every picture are made of the journal alone, so that a run can be judged again without running it. Instants
(`at_s`) are seconds since the run began, on hawk's own clock. Two virtual runs of one seed write the same bytes.
No payload and no credential is in it (promise C10).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

FORMAT = 1
KILLED = "killed"
"""The cause of the state "disconnected" of a client that `client.crash` has killed."""
_DECIMALS = 6
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Expected(NamedTuple):
    """One expectation as the file has it: `lost == 0`, why it is asked for, and whether its breach stops a sweep."""

    text: str
    why: str = ""
    abort: bool = False


class Header(NamedTuple):
    """What was run. `client` are hawk's settings without secrets, `clients` the names of all hawks of the run.

    `queue_limit` is `message_queue_size`, `cap_s` the longest delay between two dials. `duration_s` is how long the
    script goes on; the run itself ends a little later, when everything has healed and drained (see `Ended`).
    """

    scenario: str
    about: str
    seed: int
    backend: str
    clock: str
    duration_s: float
    clients: tuple[str, ...]
    client: Mapping[str, Any]
    expectations: tuple[Expected, ...]
    abort_if: str = ""
    queue_limit: int = 0
    cap_s: float = 0.0
    variant: Mapping[str, Any] = _NOTHING
    versions: Mapping[str, str] = _NOTHING
    format: int = FORMAT


class StateEntered(NamedTuple):
    """The connection state of one client from now on: "disconnected", "connecting", "connected", ... `cause`: why."""

    at_s: float
    client: str
    state: str
    cause: str = ""


class FaultRan(NamedTuple):
    """One occurrence of a fault, from its beginning to its end; both are the same for a blow such as `link.reset`.

    `label` is its `as`, else the kind. `bites` counts what it touched: an occurrence without one changed nothing.
    `scripted` is False for what `random` drew.
    """

    at_s: float
    ends_at_s: float
    label: str
    fault: str
    arguments: Mapping[str, Any] = _NOTHING
    bites: int = 0
    scripted: bool = True


class Sent(NamedTuple):
    """The application handed a message to hawk. `message` numbers the messages of the run from 1."""

    at_s: float
    client: str
    message: int
    topic: str
    qos: int
    size_bytes: int


class Accepted(NamedTuple):
    """hawk has taken responsibility (promise C1)."""

    at_s: float
    client: str
    message: int


class Delivered(NamedTuple):
    """The broker took the message. `latency_s` counts from `Sent`; `times` is 1, or more for a repeat."""

    at_s: float
    client: str
    message: int
    latency_s: float
    times: int = 1


class Subscribed(NamedTuple):
    """One client's application receives what matches `filter` from now on."""

    at_s: float
    client: str
    filter: str
    qos: int


class Received(NamedTuple):
    """An application that subscribed was given the message; `client` is the one that received."""

    at_s: float
    client: str
    message: int


class FateMet(NamedTuple):
    """hawk told what became of the message: "acknowledged", "sent", "dropped", "expired", ..., or "refused at once"."""

    at_s: float
    client: str
    message: int
    fate: str
    detail: str = ""


class QueueDepth(NamedTuple):
    """What waits in one client's outbox or is in flight: messages, and their bytes as far as this run knows them."""

    at_s: float
    client: str
    depth: int
    size_bytes: int


class Attempted(NamedTuple):
    """A client dialled. `delay_s` was drawn between `least_s` and `most_s`; None for a dial that waited for nothing."""

    at_s: float
    client: str
    delay_s: float | None = None
    least_s: float | None = None
    most_s: float | None = None


class Logged(NamedTuple):
    """An event of hawk's log, from INFO on."""

    at_s: float
    client: str
    level: str
    event: str
    fields: Mapping[str, Any] = _NOTHING


class Ended(NamedTuple):
    """The run is over, everything healed. `aborted`: why it ended early. `drained`: every outbox was empty by then.

    `balance` is promise C4's left side minus its right side, summed over all clients and checked at every look: 0.
    """

    at_s: float
    aborted: str = ""
    drained: bool = True
    balance: int = 0


Event = (
    StateEntered
    | FaultRan
    | Sent
    | Accepted
    | Delivered
    | Subscribed
    | Received
    | FateMet
    | QueueDepth
    | Attempted
    | Logged
    | Ended
)


class VerdictRow(NamedTuple):
    """One expectation and how it came out, in words for a table; `margin` is how much room was left, 1 for all of it.

    `note` says why there is no number, or what to do.
    """

    expectation: str
    actual: str
    limit: str
    margin: float | None
    passed: bool
    why: str = ""
    note: str = ""


class Verdict(NamedTuple):
    """How a run came out. It passed when every row did."""

    scenario: str
    seed: int
    backend: str
    rows: tuple[VerdictRow, ...]
    aborted: str = ""

    @property
    def passed(self) -> bool:
        """Whether every expectation was met, and every scripted fault bit."""
        return not self.aborted and all(row.passed for row in self.rows)


_KINDS: Final[Mapping[str, type]] = {
    "header": Header,
    "state": StateEntered,
    "fault": FaultRan,
    "sent": Sent,
    "accepted": Accepted,
    "delivered": Delivered,
    "subscribed": Subscribed,
    "received": Received,
    "fate": FateMet,
    "queue": QueueDepth,
    "attempt": Attempted,
    "log": Logged,
    "ended": Ended,
    "verdict": Verdict,
}
_NAME_OF = {kind: name for name, kind in _KINDS.items()}
Kind = TypeVar("Kind")


class JournalBroken(Exception):
    """A file is no journal of this format. `line` counts from 1."""

    def __init__(self, line: int, what: str) -> None:
        self.line = line
        super().__init__(f"line {line}: {what}")


@dataclass(frozen=True, slots=True)
class Journal:
    """A whole run: its header, its events in the order of time, and the verdict once it was judged."""

    header: Header
    events: tuple[Event, ...]
    verdict: Verdict | None = None

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def end_s(self) -> float:
        """When the run was over."""
        return self.events[-1].at_s if self.events else 0.0

    def lines(self) -> Iterator[str]:
        """The journal as lines of JSON, each with its newline."""
        yield to_line(self.header)
        for event in self.events:
            yield to_line(event)
        if self.verdict is not None:
            yield to_line(self.verdict)


def to_line(record: Header | Event | Verdict) -> str:
    """One record as a line of JSON: its kind, then its fields."""
    fields = {"kind": _NAME_OF[type(record)]}
    fields |= {name: _plain(value) for name, value in zip(record._fields, record, strict=True)}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"


def from_lines(lines: Iterable[str]) -> Journal:
    """Read a journal. Fields and kinds that a later hawk added are passed over. Raises `JournalBroken`."""
    header: Header | None = None
    events: list[Event] = []
    verdict: Verdict | None = None
    for number, line in enumerate(lines, 1):
        record = _record(number, line)
        match record:
            case None:
                continue
            case Header():
                header = record
            case Verdict():
                verdict = record
            case _:
                events.append(record)
    if header is None:
        raise JournalBroken(1, "no header: this is no journal of a scenario")
    return Journal(header, tuple(events), verdict)


def _record(number: int, line: str) -> Any:
    try:
        found = json.loads(line)
        kind = _KINDS.get(found.pop("kind"))
        if kind is None:
            return None
        known: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
        fields = {name: value for name, value in found.items() if name in known}
        if kind is Header:
            if fields.get("format") != FORMAT:
                raise JournalBroken(number, f"format {fields.get('format')!r}, and this hawk reads {FORMAT}")
            fields["clients"] = tuple(fields["clients"])
            fields["expectations"] = tuple(Expected(*each) for each in fields["expectations"])
        elif kind is Verdict:
            fields["rows"] = tuple(VerdictRow(*each) for each in fields["rows"])
        return kind(**fields)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise JournalBroken(number, f"is not a record of a journal ({error})") from error


def _plain(value: Any) -> Any:
    """Rounded to a microsecond: what floating point adds beyond that says nothing."""
    match value:
        case float():
            return round(value, _DECIMALS)
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case tuple() | list():
            return [_plain(each) for each in value]
        case _:
            return value
