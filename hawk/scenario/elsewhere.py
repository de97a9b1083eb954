"""Where a scenario can be played: by which clock, at which broker; and what is left of it elsewhere than it was written for.

Pure. `reading.py` tells what a file itself has wrong; `moved` leaves it out, and says so, where somebody chose another
place for the file. See `fault_kinds.py` for what each fault needs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from hawk.config import Config
from hawk.errors import ConfigInvalid, Problem
from hawk.scenario.expectations import Expectation, labels_of, parse
from hawk.scenario.fault_kinds import FAULT_KINDS
from hawk.scenario.model import BrokerPart, Clock, Fault, FaultEntry, RandomEntry, Scenario, TimelineEntry


class BrokerMissing(Exception):
    """The broker at a scenario's URL lets nobody in, so that nothing can be rehearsed there."""


class Misfit(NamedTuple):
    """A fault that cannot be done: where it stands in the file (`timeline.3.fault`), and why not."""

    path: str
    why: str


def misfits(timeline: Iterable[TimelineEntry | None], scenario: Scenario) -> Iterator[Misfit]:
    """Every fault that cannot be done by the clock of `scenario`, to its broker or to its clients. Of the timeline, None
    stands for what could not be read.
    """
    for place, entry in enumerate(timeline):
        match entry:
            case FaultEntry():
                why = _why_not(entry.fault, scenario)
                if why:
                    yield Misfit(f"timeline.{place}.fault", why)
            case RandomEntry():
                reasons = [_why_not(fault, scenario) for fault in entry.pick]
                yield from (Misfit(_pick(place, number), why) for number, why in enumerate(reasons) if why)
            case _:
                continue


def labels_in(timeline: Iterable[TimelineEntry]) -> set[str]:
    """What expectations may call the faults of a timeline: by their label, else by their kind."""
    faults: list[tuple[str, Fault]] = []
    for entry in timeline:
        if isinstance(entry, FaultEntry):
            faults.append((entry.label, entry.fault))
        elif isinstance(entry, RandomEntry):
            faults += [("", fault) for fault in entry.pick]
    return {label or fault.words for label, fault in faults}


def moved(scenario: Scenario, *, clock: Clock, url: str | None) -> Scenario:
    """The scenario by that clock, and with a URL at that broker, without what cannot be done there.

    Its `left_out` says of each fault and each expectation that is missing where it stands and why it is. Raises
    `ConfigInvalid` when no fault is left of a timeline that had some.
    """
    there = replace(scenario, clock=clock, broker=scenario.broker if url is None else BrokerPart(url=url))
    found = list(misfits(scenario.timeline, there))
    left_out = [scenario.problem_at(path, f"left out: {why}") for path, why in found]
    unfit = {path for path, _ in found}
    timeline = tuple(_without(scenario.timeline, unfit))
    if left_out and not labels_in(timeline):
        nothing = Problem(scenario.name, "nothing is left of its timeline, so that there is nothing to rehearse")
        raise ConfigInvalid([*left_out, nothing])
    if url is not None and scenario.broker.sessions == "lose":
        why = "left out: hawk cannot make somebody else's broker forget its sessions"
        left_out.append(scenario.problem_at("broker.session", why))
    gone = labels_in(scenario.timeline) - labels_in(timeline)
    expectations: list[Expectation] = []
    for place, expectation in enumerate(scenario.expectations):
        missing = gone.intersection(labels_of(expectation))
        by_qos = [] if url is None else _by_qos(expectation, scenario)
        if missing:
            why = f"left out, as the fault that it is about is: {', '.join(sorted(missing))}"
            left_out.append(scenario.problem_at(f"expect.{place}", why))
        elif by_qos:
            why = "is asked of each quality of service alone: MQTT keeps the order of one, not of one among others"
            left_out.append(scenario.problem_at(f"expect.{place}", why))
            expectations += by_qos
        else:
            expectations.append(expectation)
    told = tuple(map(str, left_out))
    return replace(there, timeline=timeline, expectations=tuple(expectations), left_out=told)


def _by_qos(expectation: Expectation, scenario: Scenario) -> list[Expectation]:
    """An expectation of order, for each quality of service: what somebody else's broker takes is seen when it passes it
    on (MQTT 5 section 4.6), which for QoS 2 is later than when it took it.
    """
    published = sorted({each.qos for each in scenario.traffic if each.rate is not None})
    if expectation.metric != "reordered" or expectation.filter.qos_operator or len(published) < 2:
        return []
    others = f"{expectation.argument}, " if expectation.argument else ""
    limit = f"{expectation.operator} {expectation.limit_text}"
    texts = [f"reordered({others}qos=={qos}) {limit}" for qos in published]
    return [parse(text, why=expectation.why, abort=expectation.abort) for text in texts]


def _why_not(fault: Fault, scenario: Scenario) -> str:
    kind = FAULT_KINDS[fault.kind]
    if scenario.clock == "real" and kind.virtual_only:
        return f"{fault.kind} needs `clock: virtual`"
    if scenario.broker.url is not None and not kind.real:
        # Not the URL itself: a password may be part of it.
        config = Config.from_url(scenario.broker.url)
        return f"{fault.kind} can be done to hawk's own broker only, not to {config.broker}:{config.port}"
    if fault.kind == "host.disk_full" and scenario.outbox != "durable":
        return "host.disk_full touches nothing without `outbox: durable` under `client:`"
    return ""


def _without(timeline: tuple[TimelineEntry, ...], unfit: set[str]) -> Iterator[TimelineEntry]:
    for place, entry in enumerate(timeline):
        if isinstance(entry, RandomEntry):
            pick = tuple(fault for number, fault in enumerate(entry.pick) if _pick(place, number) not in unfit)
            if pick:
                yield entry._replace(pick=pick)
        elif f"timeline.{place}.fault" not in unfit:
            yield entry


def _pick(place: int, number: int) -> str:
    return f"timeline.{place}.random.pick.{number}"
