"""A journal looked up in the ways that metrics ask: messages, states over time, faults and what counts as calm. Pure."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from math import inf
from typing import NamedTuple

from hawk.core.topics import matches
from hawk.scenario.expectations import CALM, OPERATORS, Filter, Window
from hawk.scenario.journal import (
    Accepted,
    Attempted,
    Delivered,
    FateMet,
    FaultRan,
    Journal,
    Received,
    Sent,
    StateEntered,
    Subscribed,
)
from hawk.values import ConnectionState

CONNECTED = ConnectionState.CONNECTED.value


class Interval(NamedTuple):
    """From `begins_at_s` to `ends_at_s`, both included."""

    begins_at_s: float
    ends_at_s: float

    def holds(self, at_s: float) -> bool:
        """Whether an instant is in it."""
        return self.begins_at_s <= at_s <= self.ends_at_s


class Facts:
    """One journal. Everything is computed when it is first asked for."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    @cached_property
    def sent(self) -> dict[int, Sent]:
        """Every message that was handed to hawk."""
        return {each.message: each for each in self.journal.of(Sent)}

    @cached_property
    def accepted(self) -> dict[int, Accepted]:
        """Those that hawk took, in order."""
        return {each.message: each for each in self.journal.of(Accepted)}

    @cached_property
    def arrivals(self) -> list[Delivered]:
        """Everything that the broker took, repeats included."""
        return self.journal.of(Delivered)

    @cached_property
    def first_arrivals(self) -> dict[int, Delivered]:
        """When the broker took each message for the first time."""
        return {each.message: each for each in self.arrivals if each.times == 1}

    @cached_property
    def fates(self) -> list[FateMet]:
        """What hawk told."""
        return self.journal.of(FateMet)

    @cached_property
    def attempts(self) -> list[float]:
        """When somebody dialled."""
        return [each.at_s for each in self.journal.of(Attempted)]

    @cached_property
    def states(self) -> dict[str, list[StateEntered]]:
        """The states of each client, in order."""
        found: dict[str, list[StateEntered]] = defaultdict(list)
        for each in self.journal.of(StateEntered):
            found[each.client].append(each)
        return found

    @cached_property
    def faults(self) -> dict[str, list[FaultRan]]:
        """The occurrences of each label, in order; those without one by their kind."""
        found: dict[str, list[FaultRan]] = defaultdict(list)
        for each in self.journal.of(FaultRan):
            found[each.label].append(each)
        return found

    def chosen(self, chosen: Filter) -> set[int]:
        """The messages that a filter means."""
        return {message for message, sent in self.sent.items() if _is_meant(sent, chosen)}

    def missed(self) -> set[int]:
        """Messages of QoS >= 1 that the broker took after somebody had subscribed, and that were never given to it.

        By the real clock an observer tells late what the broker took: there only what was sent after that counts.
        """
        is_real = self.journal.header.clock == "real"
        received: dict[str, set[int]] = defaultdict(set)
        for each in self.journal.of(Received):
            received[each.client].add(each.message)
        found: set[int] = set()
        wanted: dict[tuple[str, str], Subscribed] = {}
        for subscribed in self.journal.of(Subscribed):
            wanted.setdefault((subscribed.client, subscribed.filter), subscribed)
        for subscribed in wanted.values():
            found |= {
                message
                for message, delivered in self.first_arrivals.items()
                if (self.sent[message] if is_real else delivered).at_s >= subscribed.at_s
                and subscribed.qos
                and self.sent[message].qos
                and message not in received[subscribed.client]
                and matches(subscribed.filter, self.sent[message].topic)
            }
        return found

    # --------------------------------------------------------------------------------------------- over time

    def intervals(self, window: Window) -> list[Interval]:
        """The parts of the run that a window means; none where its label never was."""
        match window.kind:
            case "all":
                return [Interval(0.0, self.journal.end_s)]
            case "during" if window.label == CALM:
                return self.calm
            case "during":
                return [
                    Interval(fault.at_s + window.plus_s, fault.ends_at_s) for fault in self.faults.get(window.label, [])
                ]
            case "after":
                ends = [fault.ends_at_s for fault in self.faults.get(window.label, [])]
                return [Interval(max(ends) + window.plus_s, self.journal.end_s)] if ends else []

    @cached_property
    def calm(self) -> list[Interval]:
        """Outside every fault and its recovery."""
        troubled = sorted(
            (fault.at_s, fault.ends_at_s + self.recovery_s(fault))
            for occurrences in self.faults.values()
            for fault in occurrences
        )
        calm, at_s = [], 0.0
        for begins_at_s, ends_at_s in troubled:
            if begins_at_s > at_s:
                calm.append(Interval(at_s, begins_at_s))
            at_s = max(at_s, ends_at_s)
        return [*calm, Interval(at_s, self.journal.end_s)] if at_s < self.journal.end_s else calm

    def recovery_s(self, fault: FaultRan) -> float:
        """From the end of a fault until every client is CONNECTED and what waited then has met its fate; inf for never."""
        up_at_s = max((self._up_at_s(states, fault) for states in self.states.values()), default=inf)
        return max(up_at_s, self._drained_at_s(fault.ends_at_s)) - fault.ends_at_s

    def detect_s(self, fault: FaultRan) -> float:
        """From the start of a fault until the slowest of the clients that were CONNECTED left it; inf for never."""
        slowest_s = 0.0
        for states in self.states.values():
            was = _state_at(states, fault.at_s, before=True)
            if was != CONNECTED:
                continue
            left_at_s = next((each.at_s for each in states if each.at_s >= fault.at_s and each.state != CONNECTED), inf)
            slowest_s = max(slowest_s, left_at_s - fault.at_s)
        return slowest_s

    def availability(self, intervals: Iterable[Interval]) -> float | None:
        """The share of that time in which clients were CONNECTED, on average; None for no time."""
        whole_s = up_s = 0.0
        for interval in intervals:
            for states in self.states.values():
                whole_s += interval.ends_at_s - interval.begins_at_s
                up_s += sum(_overlap_s(interval, *spell) for spell in self._up_spells(states))
        return up_s / whole_s if whole_s > 0 else None

    def end_states(self) -> set[str]:
        """The states in which the clients were in the end, by their names."""
        return {ConnectionState(states[-1].state).name for states in self.states.values()}

    def _up_spells(self, states: list[StateEntered]) -> Iterator[tuple[float, float]]:
        for place, each in enumerate(states):
            if each.state == CONNECTED:
                ends_at_s = states[place + 1].at_s if place + 1 < len(states) else self.journal.end_s
                yield each.at_s, ends_at_s

    def _up_at_s(self, states: list[StateEntered], fault: FaultRan) -> float:
        """The first instant from the end of the fault on at which the client is CONNECTED, and stays so for a moment."""
        ends_at_s = fault.ends_at_s
        for begins, ends in self._up_spells(states):
            # A blow takes effect after it: the link that it ends is still up at its very instant.
            if ends > ends_at_s and not (fault.at_s == ends_at_s and begins < ends_at_s and ends - ends_at_s < _BLOW_S):
                return max(begins, ends_at_s)
        return inf

    @cached_property
    def _ends(self) -> dict[int, float]:
        """When each message was through: taken by the broker, or given up."""
        found = {message: each.at_s for message, each in self.first_arrivals.items()}
        for fate in self.fates:
            found.setdefault(fate.message, fate.at_s)
        return found

    @cached_property
    def _accepted_times(self) -> tuple[list[float], list[float]]:
        """The instants of acceptance in order, and up to each the last instant at which any of those was through."""
        times, through, last = list[float](), list[float](), 0.0
        for message, each in self.accepted.items():
            last = max(last, self._ends.get(message, inf) if self.sent[message].qos else 0.0)
            times.append(each.at_s)
            through.append(last)
        return times, through

    def _drained_at_s(self, at_s: float) -> float:
        times, through = self._accepted_times
        place = bisect_left(times, at_s)
        return max(at_s, through[place - 1]) if place else at_s


_BLOW_S = 1.0


def _state_at(states: list[StateEntered], at_s: float, *, before: bool) -> str:
    was = ""
    for each in states:
        if each.at_s > at_s or (before and each.at_s == at_s and was):
            break
        was = each.state
    return was


def _overlap_s(interval: Interval, begins: float, ends: float) -> float:
    return max(0.0, min(interval.ends_at_s, ends) - max(interval.begins_at_s, begins))


def _is_meant(sent: Sent, chosen: Filter) -> bool:
    if chosen.topic and not matches(chosen.topic, sent.topic):
        return False
    return not chosen.qos_operator or bool(OPERATORS[chosen.qos_operator](sent.qos, chosen.qos))
