"""When which fault begins and ends: a timeline with its repeats, chances and random weather, drawn from the seed. Pure."""

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from hawk.scenario.fault_kinds import FAULT_KINDS
from hawk.scenario.model import Fault, FaultEntry, HealEntry, RandomEntry, Scenario

_LONGEST_RANDOM = 100_000


class Occurrence(NamedTuple):
    """One fault, once. `begins_at_s` and `ends_at_s` count from the start; they are the same for a blow."""

    begins_at_s: float
    ends_at_s: float
    label: str
    fault: Fault
    scripted: bool = True


def schedule(scenario: Scenario, seed: int) -> tuple[Occurrence, ...]:
    """Every occurrence in the order of their beginnings. What goes on ends with `heal`, and with the script."""
    healed_at = [entry.at_s for entry in scenario.timeline if isinstance(entry, HealEntry)]
    healed_at = sorted([*healed_at, scenario.duration_s])
    found: list[Occurrence] = []
    for number, entry in enumerate(scenario.timeline):
        # Each entry draws for itself, so that leaving one out changes nothing about the others.
        random = Random(f"timeline {seed} {number}")
        match entry:
            case FaultEntry():
                found += _repeated(entry, random)
            case RandomEntry():
                found += _drawn(entry, random)
            case HealEntry():
                continue
    ended = (_healed(each, healed_at) for each in found if each.begins_at_s < scenario.duration_s)
    return tuple(sorted(ended, key=lambda each: (each.begins_at_s, each.ends_at_s)))


def as_entries(occurrences: Iterable[Occurrence]) -> tuple[FaultEntry, ...]:
    """A timeline that says in so many words what was drawn."""
    return tuple(
        FaultEntry(
            each.begins_at_s,
            each.fault,
            for_s=each.ends_at_s - each.begins_at_s if FAULT_KINDS[each.fault.kind].lasting else None,
            label=each.label if each.label != each.fault.words else "",
            scripted=each.scripted,
        )
        for each in occurrences
    )


def _repeated(entry: FaultEntry, random: Random) -> Iterator[Occurrence]:
    for repeat in range(entry.times):
        at_s = entry.at_s + repeat * entry.every_s
        if entry.chance == 1.0 or random.random() < entry.chance:
            yield Occurrence(
                at_s,
                _end(at_s, entry.fault, entry.for_s),
                entry.label or entry.fault.words,
                entry.fault,
                entry.scripted,
            )


def _drawn(entry: RandomEntry, random: Random) -> Iterator[Occurrence]:
    at_s = entry.from_s
    for _ in range(_LONGEST_RANDOM):
        # To a millisecond: a file that says what was drawn says exactly that.
        at_s = round(at_s + random.uniform(*entry.every), 3)
        fault, lasting_s = random.choice(entry.pick), round(random.uniform(*entry.lasting), 3)
        if at_s >= entry.to_s:
            return
        ends_at_s = min(_end(at_s, fault, lasting_s), entry.to_s)
        yield Occurrence(at_s, ends_at_s, fault.words, fault, scripted=False)


def _end(at_s: float, fault: Fault, for_s: float | None) -> float:
    kind = FAULT_KINDS[fault.kind]
    if not kind.lasting:
        return at_s
    lasts_s = for_s if for_s is not None else kind.default_for_s
    return float("inf") if lasts_s is None else round(at_s + lasts_s, 6)


def _healed(occurrence: Occurrence, healed_at: list[float]) -> Occurrence:
    first = next((at_s for at_s in healed_at if at_s > occurrence.begins_at_s), occurrence.ends_at_s)
    return occurrence._replace(ends_at_s=min(occurrence.ends_at_s, first))
