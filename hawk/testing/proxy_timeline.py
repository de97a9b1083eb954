"""Weather as a list: spells, each one fault for a while, read from text and played on a `hawk.testing.network.Network`.

    at 20s blackhole up for 15s      # bytes towards the broker vanish, from 20 s to 35 s
    latency 400ms                    # at once, until `latency off`, or `heal`
    at 1m reset

One spell a line. Where two of one kind overlap, the one that began last counts; blackholes of two ways add up.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from math import inf
from typing import Literal, NamedTuple

import anyio

from hawk.testing.network import Network
from hawk.testing.network_transit import Way

_UNITS: dict[str, dict[str, float]] = {
    "duration": {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400},
    "rate": {"B/s": 1, "KB/s": 1e3, "MB/s": 1e6, "KiB/s": 1024, "MiB/s": 1024**2},
    "size": {"B": 1, "KB": 1e3, "MB": 1e6, "KiB": 1024, "MiB": 1024**2},
}
_EXAMPLES = {"duration": "250ms, 30s, 2m", "rate": "4KB/s, 1MB/s", "size": "5B, 64KB"}

MEASURED = {
    "latency": "duration",
    "jitter": "duration",
    "coalesce": "duration",
    "bandwidth": "rate",
    "slice": "size",
    "cut_after": "size",
}
"""The faults that have a value, and what it is measured in: seconds, bytes per second, or bytes."""

SWITCHED = ("refuse", "name_lookup", "blackhole", "stall")
"""The faults that are on or off."""

INSTANT = ("reset", "cut", "half_close", "heal")
"""The faults that happen and are over; `heal` ends every spell."""

ONE_WAY = ("blackhole", "half_close")
"""The faults that a way may be given for: up is towards the broker."""

FAULTS = (*MEASURED, *SWITCHED, *INSTANT)
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z/]+)")


class TimelineInvalid(ValueError):
    """A line that is no spell; says which word, and what could stand there."""


class Spell(NamedTuple):
    """One fault for a while. `for_s` None: until `heal`. `value` in seconds, bytes per second or bytes, as MEASURED says.

    `at_s` None: at once.
    """

    fault: str
    at_s: float | None = None
    value: float = 0.0
    way: Literal["both", "up", "down"] = "both"
    for_s: float | None = None

    def __str__(self) -> str:
        """The line that reads back as this spell."""
        words = [] if self.at_s is None else ["at", f"{self.at_s:g}s"]
        words.append(self.fault)
        if self.fault in MEASURED:
            words.append(f"{self.value:.15g}{ {'duration': 's', 'rate': 'B/s', 'size': 'B'}[MEASURED[self.fault]] }")
        if self.way != "both":
            words.append(self.way)
        return " ".join(words if self.for_s is None else [*words, "for", f"{self.for_s:g}s"])


class Ended(NamedTuple):
    """`FAULT off`: every spell of that fault that has begun is over."""

    fault: str

    def __str__(self) -> str:
        return f"{self.fault} off"


def read_line(line: str) -> Spell | Ended | None:
    """The spell of one line; None of an empty one or a comment. Raises `TimelineInvalid`."""
    words = line.partition("#")[0].replace("link.", "").split()
    if not words:
        return None
    at_s, for_s, value, way = None, None, None, "both"
    if words[0] == "at":
        at_s = _measured("duration", words[1] if len(words) > 1 else "")
        words = words[2:]
    fault = words.pop(0).replace("-", "_") if words else ""
    if fault not in FAULTS:
        raise TimelineInvalid(f"unknown fault {fault!r}; {_suggestion(fault)}")
    if words == ["off"] and fault not in INSTANT and at_s is None:
        return Ended(fault)
    if fault in MEASURED:
        value = _measured(MEASURED[fault], words.pop(0) if words else "")
    if fault in ONE_WAY and words and words[0] in ("up", "down", "both"):
        way = words.pop(0)
    if fault not in INSTANT and words and words[0] == "for":
        for_s = _measured("duration", words[1] if len(words) > 1 else "")
        words = words[2:]
    if words:
        raise TimelineInvalid(f"{' '.join(words)!r} means nothing after {fault!r}")
    return Spell(fault, at_s, value or 0.0, way, for_s)  # type: ignore[arg-type]


def read_timeline(text: str, *, name: str = "timeline") -> list[Spell]:
    """The spells of a text, each with its time; a line without one is at 0. Raises `TimelineInvalid` for all bad lines."""
    spells, problems = list[Spell](), list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        try:
            spell = read_line(line)
            if isinstance(spell, Ended):
                raise TimelineInvalid("a spell ends by 'for', or by 'at ... heal'")
        except TimelineInvalid as invalid:
            problems.append(f"{name}:{number}: {invalid}")
        else:
            spells += [] if spell is None else [spell._replace(at_s=spell.at_s or 0.0)]
    if problems:
        raise TimelineInvalid("\n".join(problems))
    return spells


class Weather:
    """Plays spells on a network. Every moment's faults follow from the spells that last, not from the order of calls."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._lasting: list[Spell] = []
        self._dark: frozenset[Way] = frozenset()
        self._stalled = False
        self._closed = (False, False)
        self._cut_after = 0

    def begin(self, spell: Spell) -> None:
        """The spell has come; it lasts until `end`, unless it is one that is over at once."""
        match spell.fault:
            case "heal":
                self._lasting.clear()
            case "reset":
                self._network.reset_all()
            case "cut":
                self._network.cut_all()
            case "half_close":
                self._network.half_close(spell.way)
            case _:
                self._lasting.append(spell)
        self._apply()

    def end(self, spell: Spell) -> None:
        """The spell is over; nothing happens if it was already."""
        if spell in self._lasting:
            self._lasting.remove(spell)
            self._apply()

    def end_all(self, fault: str) -> None:
        """Every spell of that fault is over."""
        self._lasting = [spell for spell in self._lasting if spell.fault != fault]
        self._apply()

    async def play(self, spells: Iterable[Spell]) -> None:
        """Play a timeline that begins now, and return when its last spell has come and every limited one is over."""
        began_at = anyio.current_time()
        changes = list[tuple[float, int, Spell, bool]]()
        for spell in sorted(spells, key=lambda each: each.at_s or 0.0):
            begins_at = began_at + (spell.at_s or 0.0)
            changes.append((begins_at, len(changes), spell, True))
            if spell.for_s is not None:
                changes.append((begins_at + spell.for_s, len(changes), spell, False))
        for due_at, _, spell, begins in sorted(changes):
            await anyio.sleep_until(due_at)
            if begins:
                self.begin(spell)
            else:
                self.end(spell)

    def _apply(self) -> None:
        network = self._network
        network.latency_s = self._value("latency", 0.0)
        network.jitter_s = self._value("jitter", 0.0)
        network.coalesce_s = self._value("coalesce", 0.0)
        network.bandwidth_bytes_per_s = self._value("bandwidth", inf)
        network.slice_bytes = int(self._value("slice", 0))
        cut_after, self._cut_after = self._cut_after, int(self._value("cut_after", 0))
        if cut_after != self._cut_after:
            network.cut_after(self._cut_after or None)
        self._open_or_close()
        self._darken()

    def _open_or_close(self) -> None:
        before, self._closed = self._closed, (self._lasts("refuse"), self._lasts("name_lookup"))
        if self._closed == before:
            return
        if any(before):
            self._network.allow()
        if self._closed[0]:
            self._network.refuse()
        if self._closed[1]:
            self._network.name_lookup_fails()

    def _darken(self) -> None:
        ways = {spell.way for spell in self._lasting if spell.fault == "blackhole"}
        dark: frozenset[Way] = frozenset(way for way in ("up", "down") if way in ways or "both" in ways)
        stalled = self._lasts("stall")
        if (self._dark - dark) or (self._stalled and not stalled):
            self._network.heal()
        if dark:
            self._network.blackhole("both" if len(dark) > 1 else next(iter(dark)))
        if stalled:
            self._network.stall()
        self._dark, self._stalled = dark, stalled

    def _value(self, fault: str, otherwise: float) -> float:
        return next((spell.value for spell in reversed(self._lasting) if spell.fault == fault), otherwise)

    def _lasts(self, fault: str) -> bool:
        return any(spell.fault == fault for spell in self._lasting)


def _measured(measure: str, word: str) -> float:
    found, units = _NUMBER.fullmatch(word), _UNITS[measure]
    value = float(found[1]) * units[found[2]] if found and found[2] in units else -1.0
    if value < 0 or (measure != "duration" and value < 1):
        raise TimelineInvalid(f"{word!r} is not a {measure} (try {_EXAMPLES[measure]})")
    return value


def _suggestion(fault: str) -> str:
    near = get_close_matches(fault, FAULTS, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(FAULTS)}"
