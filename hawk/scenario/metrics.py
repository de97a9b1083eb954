"""What each metric of an expectation measures, over the facts of one journal. Pure.

A measure is a number in the metric's unit, a word, or None with a sentence on why there is none.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Final, NamedTuple

from hawk.messages import StateChanged
from hawk.scenario.expectations import DROP_REASONS, Expectation
from hawk.scenario.facts import CONNECTED, Facts, Interval
from hawk.scenario.journal import KILLED, Delivered, QueueDepth
from hawk.testing.history import illegal_edges, reordered
from hawk.values import ConnectionState, FateKind

_TOLD: Final = frozenset(
    {FateKind.DROPPED, FateKind.DEAD_LETTERED, FateKind.EXPIRED, FateKind.SUPERSEDED, FateKind.UNKNOWN}
)
"""Fates that a stated policy gives (promise C2): such a message is not lost."""
_EXCUSED = frozenset(fate.value for fate in _TOLD)
_DELIVERED = frozenset({FateKind.ACKNOWLEDGED.value, FateKind.SENT.value})


class Measure(NamedTuple):
    """What was measured, or why there is nothing to measure."""

    value: float | str | None
    note: str = ""


def measure(expectation: Expectation, facts: Facts) -> Measure:
    """Measure what an expectation is about."""
    return _MEASURES[expectation.metric](expectation, facts)


def _lost(expectation: Expectation, facts: Facts) -> Measure:
    excused = {fate.message for fate in facts.fates if fate.fate in _EXCUSED}
    chosen = _chosen(expectation, facts)
    through = facts.first_arrivals.keys() | excused
    gone = [each for each in facts.accepted if each in chosen and each not in through]
    return _counted(gone, facts)


def _duplicates(expectation: Expectation, facts: Facts) -> Measure:
    chosen = facts.chosen(expectation.filter)
    return _counted([each.message for each in facts.arrivals if each.times > 1 and each.message in chosen], facts)


def _reordered(expectation: Expectation, facts: Facts) -> Measure:
    """By client, in the order of acceptance, as promise C3 has it; a message that was refused for now goes to the back.

    Two tasks of one application that publish at the same instant have no order; two messages on one topic have.
    """
    chosen = _chosen(expectation, facts)
    place = {message: place for place, message in enumerate(facts.first_arrivals)}
    found: set[int] = set()
    for key in (_client_of, _topic_of):
        accepted: dict[object, list[int]] = defaultdict(list)
        arrived: dict[object, list[int]] = defaultdict(list)
        for message in facts.accepted.keys() & chosen & place.keys():
            accepted[key(facts, message)].append(message)
        for message in place:
            if message in chosen and message in facts.accepted:
                arrived[key(facts, message)].append(message)
        for group, messages in accepted.items():
            if key is _topic_of:
                messages.sort()
            else:
                messages.sort(key=lambda message: (facts.accepted[message].at_s, place[message]))
            found.update(reordered(messages, arrived[group]))
    return _counted(sorted(found), facts)


def _client_of(facts: Facts, message: int) -> object:
    return facts.sent[message].client


def _topic_of(facts: Facts, message: int) -> object:
    return facts.sent[message].client, facts.sent[message].topic


def _missed(expectation: Expectation, facts: Facts) -> Measure:
    return _counted(sorted(facts.missed() & facts.chosen(expectation.filter)), facts)


def _delivered(expectation: Expectation, facts: Facts) -> Measure:
    chosen = facts.chosen(expectation.filter)
    intervals = facts.intervals(expectation.window)
    return _in_time(
        intervals, lambda: sum(_is_within(each.at_s, intervals) for each in _firsts(facts) if each.message in chosen)
    )


def _dropped(expectation: Expectation, facts: Facts) -> Measure:
    fates = DROP_REASONS[expectation.argument] if expectation.argument else None
    intervals = facts.intervals(expectation.window)

    def counted() -> int:
        return sum(
            (each.fate in fates if fates is not None else each.fate not in _DELIVERED)
            and _is_within(each.at_s, intervals)
            for each in facts.fates
        )

    return _in_time(intervals, counted)


def _latency(expectation: Expectation, facts: Facts) -> Measure:
    """Of messages that were sent and arrived within the same part of the run."""
    chosen = facts.chosen(expectation.filter)
    intervals = facts.intervals(expectation.window)
    latencies = sorted(
        each.latency_s
        for each in _firsts(facts)
        if each.message in chosen
        and any(part.holds(each.at_s) and part.holds(each.at_s - each.latency_s) for part in intervals)
    )
    if not latencies:
        return Measure(None, "no message was sent and delivered in that time")
    share = {"p50": 0.5, "p99": 0.99, "max": 1.0}[expectation.metric.rpartition(".")[2]]
    return Measure(latencies[math.ceil(share * len(latencies)) - 1])


def _queue(expectation: Expectation, facts: Facts) -> Measure:
    intervals = facts.intervals(expectation.window)
    in_bytes = expectation.metric.startswith("queue.bytes")
    by_client: dict[str, list[QueueDepth]] = defaultdict(list)
    for each in facts.journal.of(QueueDepth):
        by_client[each.client].append(each)
    peak = 0
    for readings in by_client.values():
        times = [each.at_s for each in readings]
        for part in intervals:
            # What was the depth when the part began is a depth of that part too.
            first = max(0, bisect_left(times, part.begins_at_s) - 1)
            held = [each for each in readings[first:] if each.at_s <= part.ends_at_s]
            peak = max([peak, *(each.size_bytes if in_bytes else each.depth for each in held)])
    return _in_time(intervals, lambda: peak)


def _attempts(expectation: Expectation, facts: Facts) -> Measure:
    intervals = facts.intervals(expectation.window)
    return _in_time(intervals, lambda: sum(_is_within(at_s, intervals) for at_s in facts.attempts))


def _attempts_rate(expectation: Expectation, facts: Facts) -> Measure:
    """The most dials in any stretch as long as the limit's unit of time, of all clients together."""
    intervals = facts.intervals(expectation.window)
    every_s: float = expectation.limit.every_s
    most = 0
    for part in intervals:
        times = [at_s for at_s in facts.attempts if part.holds(at_s)]
        first = 0
        for last, at_s in enumerate(times):
            while times[first] <= at_s - every_s:
                first += 1
            most = max(most, last - first + 1)
    return _in_time(intervals, lambda: most)


def _detect(expectation: Expectation, facts: Facts) -> Measure:
    faults = facts.faults.get(expectation.argument, [])
    return _worst(map(facts.detect_s, faults), expectation.argument)


def _recovery(expectation: Expectation, facts: Facts) -> Measure:
    faults = facts.faults.get(expectation.argument, [])
    return _worst(map(facts.recovery_s, faults), expectation.argument)


def _availability(expectation: Expectation, facts: Facts) -> Measure:
    share = facts.availability(facts.intervals(expectation.window))
    return Measure(None, "there was no such time in this run") if share is None else Measure(share)


def _connects(expectation: Expectation, facts: Facts) -> Measure:
    intervals = facts.intervals(expectation.window)
    entries = [each.at_s for states in facts.states.values() for each in states if each.state == CONNECTED]
    return _in_time(intervals, lambda: sum(_is_within(at_s, intervals) for at_s in entries))


def _state(expectation: Expectation, facts: Facts) -> Measure:
    return Measure(" and ".join(sorted(facts.end_states())))


def _states(expectation: Expectation, facts: Facts) -> Measure:
    if expectation.argument:
        wanted = ConnectionState[expectation.argument].value
        return Measure(sum(each.state == wanted for states in facts.states.values() for each in states))
    for client, states in facts.states.items():
        changes = [
            StateChanged(ConnectionState(before.state), ConnectionState(after.state))
            for before, after in pairwise(states)
        ]
        # A process that is killed changes no state: it is gone, and the next one begins anew.
        killed = {place for place, each in enumerate(states[1:]) if each.cause == KILLED}
        found = [each for each in illegal_edges(changes) if each.position not in killed]
        if found:
            return Measure("illegal", f"{client}: {found[0].what}")
    return Measure("legal")


_MEASURES: Final[Mapping[str, Callable[[Expectation, Facts], Measure]]] = {
    "lost": _lost,
    "duplicates": _duplicates,
    "reordered": _reordered,
    "missed": _missed,
    "delivered": _delivered,
    "dropped": _dropped,
    "latency.p50": _latency,
    "latency.p99": _latency,
    "latency.max": _latency,
    "queue.depth.max": _queue,
    "queue.bytes.max": _queue,
    "attempts": _attempts,
    "attempts.rate.max": _attempts_rate,
    "detect": _detect,
    "recovery": _recovery,
    "availability": _availability,
    "connects": _connects,
    "state": _state,
    "states": _states,
}


def _chosen(expectation: Expectation, facts: Facts) -> set[int]:
    """What the filter means; without a word about QoS, QoS 1 and 2, of which alone something is promised."""
    chosen = facts.chosen(expectation.filter)
    return chosen if expectation.filter.qos_operator else {each for each in chosen if facts.sent[each].qos}


def _firsts(facts: Facts) -> Iterable[Delivered]:
    return facts.first_arrivals.values()


def _is_within(at_s: float, intervals: Iterable[Interval]) -> bool:
    return any(part.holds(at_s) for part in intervals)


def _in_time(intervals: list[Interval], count: Callable[[], int]) -> Measure:
    return Measure(count()) if intervals else Measure(None, "there was no such time in this run")


def _worst(durations_s: Iterable[float], label: str) -> Measure:
    found = list(durations_s)
    return Measure(max(found)) if found else Measure(None, f"{label} did not happen in this run")


_MOST_SHOWN = 5


def _counted(messages: list[int], facts: Facts) -> Measure:
    shown = ", ".join(f"{each} ({facts.sent[each].topic})" for each in messages[:_MOST_SHOWN])
    rest = f" and {len(messages) - _MOST_SHOWN} more" if len(messages) > _MOST_SHOWN else ""
    return Measure(len(messages), f"messages {shown}{rest}" if messages else "")
