"""What a journal looks like along its time axis: lanes of bins, and one row for each message. Pure; draws nothing."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple

from hawk.scenario.journal import (
    Delivered,
    FateMet,
    FaultRan,
    Journal,
    QueueDepth,
    Sent,
    StateEntered,
)

GOOD_FATES = ("acknowledged", "sent")
OPEN = "open"
"""The fate of a message of which nothing more was told when the run ended."""

REPEATED = "repeated"
"""The fate of a message that was acknowledged, and that the broker got more than once."""

_CONNECTED, _FAILED = "connected", "failed"


class Span(NamedTuple):
    """One client in one state. Instants in seconds since the run began."""

    client: str
    state: str
    from_s: float
    to_s: float
    cause: str


class Bin(NamedTuple):
    """The clients' connections in one piece of the axis, as shares of their time."""

    connected: float
    failed: float
    known: bool


class MessageRow(NamedTuple):
    """One message from the application to its end. `latency_s` None: the broker never had it."""

    message: int
    client: str
    topic: str
    qos: int
    sent_at_s: float
    latency_s: float | None
    fate: str
    detail: str
    times: int


def axis_end_s(journal: Journal) -> float:
    """Where the axis ends: with the script, or with the run if that ended later or broke off."""
    return max(journal.header.duration_s, journal.end_s) if journal.events else journal.header.duration_s


def spans_of(journal: Journal) -> list[Span]:
    """Who was in which state for how long, in order of time; what lasted no time is left out."""
    end_s = axis_end_s(journal)
    began: dict[str, StateEntered] = {}
    spans = list[Span]()
    for entered in journal.of(StateEntered):
        before = began.get(entered.client)
        if before is not None and entered.at_s > before.at_s:
            spans.append(Span(before.client, before.state, before.at_s, entered.at_s, before.cause))
        began[entered.client] = entered
    spans += [
        Span(each.client, each.state, each.at_s, end_s, each.cause) for each in began.values() if each.at_s < end_s
    ]
    return sorted(spans, key=lambda span: (span.from_s, span.client))


def state_bins(journal: Journal, count: int) -> list[Bin]:
    """How connected the clients were, in `count` equal pieces of the axis."""
    end_s = axis_end_s(journal)
    connected, failed, known = [0.0] * count, [0.0] * count, [0.0] * count
    for span in spans_of(journal):
        for index, share_s in _pieces(span.from_s, span.to_s, end_s, count):
            known[index] += share_s
            connected[index] += share_s if span.state == _CONNECTED else 0
            failed[index] += share_s if span.state == _FAILED else 0
    return [
        Bin(up / all_s, down / all_s, True) if all_s else Bin(0, 0, False)
        for up, down, all_s in zip(connected, failed, known, strict=True)
    ]


def queue_bins(journal: Journal, count: int) -> list[int]:
    """The deepest outbox of any client, in `count` equal pieces of the axis."""
    end_s = axis_end_s(journal)
    depths = dict[str, QueueDepth]()
    peaks = [0] * count
    for now in journal.of(QueueDepth):
        before = depths.get(now.client)
        if before is not None:
            _raise(peaks, before.at_s, now.at_s, before.depth, end_s)
        _raise(peaks, now.at_s, now.at_s, now.depth, end_s)
        depths[now.client] = now
    for last in depths.values():
        _raise(peaks, last.at_s, end_s, last.depth, end_s)
    return peaks


def latency_bins(messages: Iterable[MessageRow], end_s: float, count: int) -> list[float | None]:
    """The 99th percentile of the latency of what was published in each piece; None where nothing arrived."""
    gathered: list[list[float]] = [[] for _ in range(count)]
    for row in messages:
        if row.latency_s is not None:
            gathered[_index(row.sent_at_s, end_s, count)].append(row.latency_s)
    return [percentile(each, 0.99) if each else None for each in gathered]


def fault_bins(faults: Iterable[FaultRan], end_s: float, count: int) -> list[bool]:
    """Whether a fault was there, in each piece."""
    there = [False] * count
    for fault in faults:
        for index in range(_index(fault.at_s, end_s, count), _index(fault.ends_at_s, end_s, count) + 1):
            there[index] = True
    return there


def messages_of(journal: Journal) -> list[MessageRow]:
    """Every message in the order it was published, with how it ended."""
    fates = {each.message: each for each in journal.of(FateMet)}
    arrivals, times = dict[int, Delivered](), dict[int, int]()
    for each in journal.of(Delivered):
        arrivals.setdefault(each.message, each)
        times[each.message] = max(times.get(each.message, 0), each.times)
    return [_row(sent, fates.get(sent.message), arrivals.get(sent.message), times) for sent in journal.of(Sent)]


def drawable(faults: Sequence[FaultRan]) -> list[FaultRan]:
    """The occurrences that may be drawn, each with an end that is not before its beginning."""
    return [each._replace(ends_at_s=max(each.at_s, each.ends_at_s)) for each in faults]


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed. Of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def thinned(rows: Sequence[MessageRow], most: int) -> list[MessageRow]:
    """At most about `most` rows that look like all of them: whatever ended badly or stands out in latency stays."""
    if len(rows) <= most:
        return list(rows)
    step = ceil(len(rows) / (most / 2))
    kept = list[MessageRow]()
    for start in range(0, len(rows), step):
        group = rows[start : start + step]
        kept += {max(group, key=_slowness), min(group, key=_slowness)}
    strange = [row for row in rows if row.fate not in GOOD_FATES][:most]
    return sorted({*kept, *strange}, key=lambda row: row.message)


def _row(sent: Sent, fate: FateMet | None, arrival: Delivered | None, times: dict[int, int]) -> MessageRow:
    told = OPEN if fate is None else fate.fate
    count = times.get(sent.message, 0)
    return MessageRow(
        sent.message,
        sent.client,
        sent.topic,
        sent.qos,
        sent.at_s,
        None if arrival is None else arrival.latency_s,
        REPEATED if told in GOOD_FATES and count > 1 else told,
        "" if fate is None else fate.detail,
        count,
    )


def _slowness(row: MessageRow) -> float:
    return -1.0 if row.latency_s is None else row.latency_s


def _raise(peaks: list[int], from_s: float, to_s: float, depth: int, end_s: float) -> None:
    if depth:
        first, last = _index(from_s, end_s, len(peaks)), _index(to_s, end_s, len(peaks))
        for index in range(first, last + 1):
            peaks[index] = max(peaks[index], depth)


def _index(at_s: float, end_s: float, count: int) -> int:
    return min(count - 1, max(0, int(at_s / end_s * count))) if end_s > 0 else 0


def _pieces(from_s: float, to_s: float, end_s: float, count: int) -> Iterable[tuple[int, float]]:
    """The bins that a stretch of time lies in, and how many seconds of it are in each."""
    edges = [end_s * index / count for index in range(count + 1)]
    for index in range(max(0, bisect_right(edges, from_s) - 1), count):
        if edges[index] >= to_s:
            return
        share_s = min(to_s, edges[index + 1]) - max(from_s, edges[index])
        if share_s > 0:
            yield index, share_s
