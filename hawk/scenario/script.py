"""Plays the occurrences of a timeline one after another, and notes for each when it was and whether it bit."""

from collections.abc import Sequence
from typing import NamedTuple

import anyio

from hawk.scenario.client import Client
from hawk.scenario.expectations import OPERATORS
from hawk.scenario.fault_kinds import FAULT_KINDS
from hawk.scenario.journal import FaultRan
from hawk.scenario.model import AbortIf
from hawk.scenario.recorder import Recorder
from hawk.scenario.schedule import Occurrence
from hawk.scenario.weather import Weather

_LOOKS_IN_A_SPELL = 20
_LOOK_AT_LEAST_EVERY_S = 0.05
_LOOK_WITHOUT_A_SPELL_S = 0.5


class Script:
    """The timeline of one run as it is played; one task at a time."""

    def __init__(self, weather: Weather, recorder: Recorder) -> None:
        self._weather = weather
        self._recorder = recorder
        self._going_on: dict[int, tuple[Occurrence, _Begun]] = {}
        self._over: list[tuple[Occurrence, _Begun, float]] = []

    async def play(self, occurrences: Sequence[Occurrence]) -> None:
        """Begin and end each in its time. What ends at an instant ends before what begins there."""
        # By place, not by value: one file may script the same twice.
        boundaries = [(each.begins_at_s, 1, place) for place, each in enumerate(occurrences)]
        boundaries += [
            (each.ends_at_s, 0 if each.ends_at_s > each.begins_at_s else 2, place)
            for place, each in enumerate(occurrences)
            if FAULT_KINDS[each.fault.kind].lasting
        ]
        for at_s, what, place in sorted(boundaries):
            await anyio.sleep_until(self._recorder.began_at + at_s)
            occurrence = occurrences[place]
            if what == 1:
                await self._begin(place, occurrence)
            elif place in self._going_on:
                await self._end(place)

    async def heal(self) -> None:
        """End what goes on, in the order of beginning, and note every fault that there was."""
        for place in list(self._going_on):
            await self._end(place)
        for occurrence, begun, ended_at_s in self._over:
            # A blow is felt a little later, and a calendar that was set at the next look: so all bites count to the end.
            lasting = FAULT_KINDS[occurrence.fault.kind].lasting
            bites = begun.bites if lasting else self._weather.bites(occurrence.fault.kind) - begun.bites
            self._recorder.note(_noted(occurrence, begun.at_s, ended_at_s, bites))
        self._over.clear()

    @property
    def so_far(self) -> list[FaultRan]:
        """Every fault that has begun and is not noted yet, whatever it bit; one that goes on ends when it shall end."""
        begun = [(occurrence, begun.at_s, occurrence.ends_at_s) for occurrence, begun in self._going_on.values()]
        begun += [(occurrence, begun.at_s, ended_at_s) for occurrence, begun, ended_at_s in self._over]
        return [_noted(occurrence, at_s, ends_at_s, 0) for occurrence, at_s, ends_at_s in begun]

    async def _begin(self, place: int, occurrence: Occurrence) -> None:
        begun = _Begun(self._recorder.now_s, self._weather.bites(occurrence.fault.kind))
        if FAULT_KINDS[occurrence.fault.kind].lasting:
            self._going_on[place] = (occurrence, begun)
        else:
            self._over.append((occurrence, begun, begun.at_s))
        await self._weather.begin(occurrence)

    async def _end(self, place: int) -> None:
        occurrence, begun = self._going_on.pop(place)
        bites = self._weather.bites(occurrence.fault.kind) - begun.bites
        await self._weather.end(occurrence)
        self._over.append((occurrence, _Begun(begun.at_s, bites), self._recorder.now_s))


async def watch_abort(
    abort_if: AbortIf, clients: Sequence[Client], recorder: Recorder, aborted: list[str], scope: anyio.CancelScope
) -> None:
    """Look at a gauge again and again; once it has been beyond its limit for long enough, say so and cancel `scope`."""
    every_s = max(_LOOK_AT_LEAST_EVERY_S, abort_if.for_s / _LOOKS_IN_A_SPELL or _LOOK_WITHOUT_A_SPELL_S)
    beyond_since_s: float | None = None
    beyond = OPERATORS[abort_if.operator]
    while True:
        await anyio.sleep(every_s)
        if abort_if.gauge == "queue.depth":
            value = max(client.queue_size for client in clients)
        else:
            value = max(client.size_bytes for client in clients)
        if not beyond(value, abort_if.limit):
            beyond_since_s = None
        else:
            beyond_since_s = recorder.now_s if beyond_since_s is None else beyond_since_s
            if recorder.now_s - beyond_since_s >= abort_if.for_s:
                aborted.append(f"{abort_if.text}: it was {value} at {recorder.now_s:.1f} s")
                scope.cancel()
                return


class _Begun(NamedTuple):
    at_s: float
    bites: int


def _noted(occurrence: Occurrence, at_s: float, ended_at_s: float, bites: int) -> FaultRan:
    fault = occurrence.fault
    arguments = dict(fault.arguments) | ({"way": fault.way} if fault.way else {})
    return FaultRan(at_s, ended_at_s, occurrence.label, fault.words, arguments, bites, occurrence.scripted)
