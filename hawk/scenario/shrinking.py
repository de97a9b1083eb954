"""Makes a failing scenario small: less weather, less traffic, fewer clients, a shorter script, while it still fails.

What `random` had drawn is written out first, so that each fault can be left out by itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from hawk.scenario.judging import judge
from hawk.scenario.model import FaultEntry, Scenario
from hawk.scenario.schedule import as_entries, schedule
from hawk.scenario.simulation import simulate

Entry = TypeVar("Entry")
Fails = Callable[[Scenario], bool]

_MOST_RUNS = 400
_SHORTEST_S = 1.0


class _Budget(Exception):
    """Enough runs."""


def shrink(scenario: Scenario, *, fails: Fails | None = None, most_runs: int = _MOST_RUNS) -> Scenario | None:
    """The smallest scenario found that breaks an expectation which this one breaks, after at most so many runs.

    None when it does not fail once its random weather is written out: then it is no bug of the script's to shrink.
    `fails` answers for one candidate; by default the candidate is run and judged.
    """
    explicit = replace(scenario, timeline=as_entries(schedule(scenario, scenario.seed)), matrix={}, abort_if=None)
    if fails is None:
        broken = broken_by(explicit)
        explicit = replace(explicit, expectations=tuple(each for each in explicit.expectations if each.text in broken))
        if not broken:
            return None

        def fails(candidate: Scenario) -> bool:
            return bool(broken & broken_by(candidate))

    elif not fails(explicit):
        return None
    search = _Search(explicit, fails, most_runs)
    try:
        search.run()
    except _Budget:
        pass
    return search.best


def broken_by(scenario: Scenario) -> frozenset[str]:
    """The expectations that a run of it breaks. What raises counts as breaking all."""
    try:
        verdict = judge(simulate(scenario))
    except Exception:  # noqa: BLE001 - a hawk that crashes is what a sweep is there to find
        return frozenset(each.text for each in scenario.expectations)
    texts = {each.text for each in scenario.expectations}
    return frozenset(row.expectation for row in verdict.rows if not row.passed and row.expectation in texts)


class _Search:
    """Greedy, one dimension after the other, until nothing more can go."""

    def __init__(self, scenario: Scenario, fails: Fails, most_runs: int) -> None:
        self.best = scenario
        self._fails = fails
        self._runs_left = most_runs

    def run(self) -> None:
        before = None
        while before != self.best:
            before = self.best
            self._drop_entries()
            self._shorten_faults()
            self._drop_traffic()
            self._have_fewer_clients()
            self._shorten()

    def _try(self, candidate: Scenario) -> bool:
        if not self._runs_left:
            raise _Budget
        self._runs_left -= 1
        if self._fails(candidate):
            self.best = candidate
            return True
        return False

    def _drop_entries(self) -> None:
        """First halves, then quarters, then one by one."""
        size = max(1, len(self.best.timeline) // 2)
        while True:
            place = 0
            while place < len(self.best.timeline):
                if not self._try(replace(self.best, timeline=_without(self.best.timeline, place, size))):
                    place += size
            if size == 1:
                return
            size //= 2

    def _shorten_faults(self) -> None:
        for place, entry in enumerate(self.best.timeline):
            if isinstance(entry, FaultEntry) and entry.for_s is not None and entry.for_s > _SHORTEST_S:
                timeline = list(self.best.timeline)
                timeline[place] = entry._replace(for_s=round(max(_SHORTEST_S, entry.for_s / 2), 3))
                self._try(replace(self.best, timeline=tuple(timeline)))

    def _drop_traffic(self) -> None:
        place = 0
        while place < len(self.best.traffic) and len(self.best.traffic) > 1:
            fewer = _without(self.best.traffic, place, 1)
            # A file in which nothing is published is none.
            if all(each.rate is None for each in fewer) or not self._try(replace(self.best, traffic=fewer)):
                place += 1

    def _have_fewer_clients(self) -> None:
        for clients in _smaller(self.best.clients):
            traffic = tuple(each._replace(clients=min(each.clients, clients)) for each in self.best.traffic)
            if self._try(replace(self.best, traffic=traffic)):
                return

    def _shorten(self) -> None:
        """To the last fault and a little more; what begins later is not there."""
        last_s = max((each.at_s for each in self.best.timeline if isinstance(each, FaultEntry)), default=0.0)
        for share in (0.25, 0.5, 0.75):
            duration_s = float(round(self.best.duration_s * share))
            if duration_s > max(last_s, _SHORTEST_S) and self._try(replace(self.best, duration_s=duration_s)):
                return


def _without(entries: Sequence[Entry], place: int, size: int) -> tuple[Entry, ...]:
    return (*entries[:place], *entries[place + size :])


def _smaller(clients: int) -> Iterator[int]:
    for fewer in (1, clients // 4, clients // 2):
        if 0 < fewer < clients:
            yield fewer
