"""The timeline of a scenario file: faults, random weather, and healing, read against the table of kinds."""

import re
from collections.abc import Iterable
from typing import Any

from hawk.errors import Problem
from hawk.scenario import units
from hawk.scenario.fault_kinds import FAULT_KINDS, Argument
from hawk.scenario.model import WAYS, Fault, FaultEntry, HealEntry, RandomEntry, TimelineEntry
from hawk.scenario.sections import Section, number, one_of, text, unknown, whole
from hawk.scenario.units import Span
from hawk.service.located import Item

_FAULT = re.compile(r"\s*([a-zA-Z0-9_.-]+)\s*(?:\(([^()]*)\))?\s*\Z")
_LABEL = re.compile(r"[A-Za-z][\w-]*\Z")
_MOST_TIMES = 10_000
_COMMON = ("at", "fault", "for", "as", "every", "times", "chance", "way")
_OF_RANDOM = ("from", "to", "every", "for", "pick")
_NO_FAULT = Fault("link.reset")


def read_timeline(items: Iterable[Item], problems: list[Problem]) -> tuple[TimelineEntry | None, ...]:
    """Every entry, in its place; None for one that no sense could be made of."""
    return tuple(_entry(Section(f"timeline.{place}", item, problems)) for place, item in enumerate(items))


def _entry(entry: Section) -> TimelineEntry | None:
    if "random" in entry:
        return _random(entry)
    if "heal" in entry:
        at_s = entry.need("at", units.duration_s, 0.0)
        entry.take("heal", one_of("all"), "all")
        entry.finish()
        return HealEntry(at_s)
    at_s = entry.need("at", units.duration_s, 0.0)
    fault = _fault(entry, "fault")
    if fault is None:
        return None
    kind = FAULT_KINDS[fault.kind]
    for_s = entry.take("for", _lasting, None)
    if for_s is not None and not kind.lasting:
        entry.problem_at("for", f"{fault.kind} is over at once; it has no `for`")
    if for_s is None and kind.needs_for and "for" not in entry:
        entry.problems.append(entry.at.problem(entry.name_of("for"), f"is missing: how long {fault.kind} goes on"))
    label = entry.take("as", _label, "")
    every_s = entry.take("every", units.duration_s, 0.0)
    times = entry.take("times", whole(1, _MOST_TIMES), 1)
    if times > 1 and not every_s:
        entry.problem_at("times", "needs an `every`: how long after one another")
    if "every" in entry and "times" not in entry:
        entry.problem_at("every", "needs a `times`: how often")
    chance = entry.take("chance", number(0, 1), 1.0)
    entry.finish(also=_COMMON)
    return FaultEntry(at_s, fault, for_s, label, every_s, times, chance)


def _fault(entry: Section, key: str) -> Fault | None:
    """The fault with all that it takes; None if its kind is unknown: then nothing about its arguments is told."""
    named = entry.need(key, _named, None)
    if named is None:
        # What it takes is not known, so that no key can be called unknown.
        for each in entry.keys:
            entry.item(each)
        return None
    name, reason = named
    kind = FAULT_KINDS[name]
    if kind.has_way:
        way = entry.take("way", one_of(*WAYS), "both")
    else:
        way = ""
        if "way" in entry:
            entry.item("way")
            entry.problem_at("way", f"{name} has no `way`")
    arguments = {each: _argument(entry, each, argument) for each, argument in kind.arguments.items()}
    return Fault(name, reason, way, arguments)


def _argument(entry: Section, name: str, argument: Argument) -> Any:
    read: Any
    match argument.unit:
        case "duration":
            read = units.duration_s
        case "size":
            read = units.size_bytes
        case "byte rate":
            read = units.byte_rate
        case "share":
            read = number(0, 1)
        case "number":
            read = whole(0, 1_000_000)
        case "words":
            read = one_of(*argument.words)
    return entry.need(name, read, 0.001) if argument.default is None else entry.take(name, read, argument.default)


def _random(entry: Section) -> RandomEntry | None:
    section = entry.section("random")
    entry.finish(also=("random",))
    if section is None:
        entry.problem_at("random", "must be a mapping: {from, to, every, for, pick}")
        return None
    from_s = section.take("from", units.duration_s, 0.0)
    to_s = section.need("to", units.duration_s, 0.0)
    every = section.need("every", units.duration_span, Span(60, 60))
    lasting = section.need("for", units.duration_span, Span(1, 1))
    if "to" in section and to_s <= from_s:
        section.problem_at("to", "must be later than `from`")
    if every.least <= 0:
        section.problem_at("every", "must be longer than nothing")
    pick = [_picked(section, place, item) for place, item in enumerate(section.entries("pick"))]
    if "pick" not in section:
        section.need("pick", text, "")
    elif not pick:
        section.problem_at("pick", "holds no fault to pick from")
    section.finish(also=_OF_RANDOM)
    found = tuple(fault for fault in pick if fault is not None)
    return RandomEntry(from_s, to_s, every, lasting, found) if found else None


def _picked(section: Section, place: int, item: Item) -> Fault | None:
    """A kind alone, or a mapping with what it takes."""
    path = f"{section.path}.pick.{place}"
    if isinstance(item.value, tuple):
        inner = Section(path, item, section.problems)
    else:
        as_fault = Item("fault", item.key_at, item.value, item.value_at)
        inner = Section(path, item._replace(value=(as_fault,)), section.problems)
    fault = _fault(inner, "fault")
    inner.finish()
    return fault


def _named(value: object) -> tuple[str, str] | None:
    """The kind and its reason. Raises ValueError with a sentence."""
    found = _FAULT.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("not a fault (try link.reset, mqtt.connack(server-busy))")
    name, reason = found[1], (found[2] or "").strip()
    if name not in FAULT_KINDS:
        raise ValueError(unknown("fault", name, FAULT_KINDS))
    reasons = FAULT_KINDS[name].reasons
    if reason and not reasons:
        raise ValueError(f"{name} takes nothing in brackets")
    if reasons and not reason:
        raise ValueError(f"{name} needs a reason: {name}({next(iter(reasons))})")
    if reason and reason not in reasons:
        raise ValueError(unknown("reason", reason, reasons))
    return name, reason


def _lasting(value: object) -> float | None:
    found = units.duration_s(value)
    if found <= 0:
        raise ValueError("must be longer than nothing")
    return found


def _label(value: object) -> str:
    found = text(value)
    if not _LABEL.match(found) or found == "calm":
        raise ValueError("not a label: letters, digits, - and _, beginning with a letter, and not `calm`")
    return found
