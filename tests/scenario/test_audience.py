"""Who looks on sees the run as it is, and changes nothing: neither by looking nor by slowing it down."""

from math import inf
from pathlib import Path

import pytest

from hawk.scenario.audience import Audience, SoFar
from hawk.scenario.journal import FaultRan, Journal, QueueDepth
from hawk.scenario.model import Backend, Scenario
from hawk.scenario.reading import read_text
from hawk.scenario.report import show
from hawk.scenario.simulation import simulate
from hawk.scenario.sweep import run_all
from hawk.scenario.variants import variants
from hawk.testing.virtual_pace import Pace

ROUGH = """\
hawk: 1
name: rough
duration: 60s
client: {outbox: durable, max_retries: null, max_retry_delay: 4s, health_check_interval: 10s}
traffic:
  - {pub: "s/{i}/a", clients: 3, rate: 2/s, qos: 1}
  - {pub: "s/{i}/b", clients: 2, rate: poisson 20/min, qos: 2}
  - {sub: "s/#", clients: 2, qos: 2}
timeline:
  - {at: 0s, fault: link.latency, mean: 50ms, jitter: 40ms, as: slow}
  - {at: 10s, fault: broker.down, for: 10s, as: down}
  - {at: 25s, fault: link.reset, as: blow}
  - {at: 30s, fault: client.crash, for: 5s}
  - {at: 40s, fault: host.suspend, for: 5s}
  - {at: 50s, fault: link.blackhole, as: last}
expect: [lost == 0]
"""


NOTED_LATE = (FaultRan, QueueDepth)
"""Events that a run notes some time after their instants."""


class Wall:
    """A wall clock that goes on when somebody sleeps, and by `step_s` whenever it is read."""

    def __init__(self, step_s: float) -> None:
        self.now = 0.0
        self._step_s = step_s

    def read(self) -> float:
        self.now += self._step_s
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


Watched = tuple[Journal, list[tuple[float, SoFar]], float]
"""The journal, what was seen and when by the wall clock, and how long it took."""


def rough(backend: Backend) -> Scenario:
    [variant] = variants(read_text(ROUGH, "rough.yaml"), seeds=[3], backends=[backend])
    return variant


def watched(scenario: Scenario, speed: float) -> Watched:
    wall, seen = Wall(0.0001 if speed == inf else 0.0), list[tuple[float, SoFar]]()

    def look(so_far: SoFar) -> None:
        seen.append((wall.now, so_far))
        show(so_far.journal, colour=True, now_s=so_far.now_s)

    pace = Pace(speed, wall_clock=wall.read, sleep=wall.sleep)
    journal = simulate(scenario, audience=Audience(on_look=look), pace=pace)
    return journal, seen, wall.now


@pytest.fixture(scope="module", params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return "trio" if request.param == "trio" else "asyncio"


@pytest.fixture(scope="module")
def tenfold(backend: Backend) -> Watched:
    return watched(rough(backend), 10.0)


def test_a_run_that_is_slowed_down_and_watched_writes_the_same_bytes(backend: Backend, tenfold: Watched) -> None:
    alone = "".join(simulate(rough(backend)).lines())
    journal, seen, took_s = tenfold
    assert "".join(journal.lines()) == alone
    assert took_s >= journal.end_s / 10
    assert len(seen) >= took_s * 3
    journal, seen, _ = watched(rough(backend), inf)
    assert "".join(journal.lines()) == alone
    assert seen


def test_what_is_seen_is_what_has_happened_until_then(tenfold: Watched) -> None:
    journal, seen, _ = tenfold
    told = [event for event in journal.events if not isinstance(event, NOTED_LATE)]
    instants = [so_far.now_s for _, so_far in seen]
    assert instants == sorted(instants)
    for wall_s, so_far in seen:
        happened = [event for event in so_far.journal.events if not isinstance(event, NOTED_LATE)]
        assert happened == told[: len(happened)]
        assert all(event.at_s >= so_far.now_s for event in told[len(happened) :])
        # The host sleeps through five of its seconds at once, and the wall clock takes a while to follow.
        assert -0.001 < so_far.now_s - 10 * wall_s < 5.001


def test_a_fault_is_seen_once_from_its_beginning_with_the_end_that_it_will_have(tenfold: Watched) -> None:
    journal, seen, _ = tenfold
    ran = spans(journal)
    assert len(ran) == 6
    assert max(so_far.now_s for _, so_far in seen) > 60
    for _, so_far in seen:
        shown = spans(so_far.journal)
        assert len(shown) == len(so_far.journal.of(FaultRan))
        assert {label: span for label, span in ran.items() if span[0] < so_far.now_s}.items() <= shown.items()
        assert shown.items() <= ran.items()


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_speed_comes_to_every_run_wherever_it_is_run(jobs: int, tmp_path: Path) -> None:
    """One that is none, so that nobody waits."""
    outcomes = list(run_all([rough("trio"), rough("asyncio")], tmp_path, jobs=jobs, speed=0.0))
    assert ["speed must be above 0" in outcome.error for outcome in outcomes] == [True, True]


def spans(journal: Journal) -> dict[str, tuple[float, float]]:
    return {each.label: (round(each.at_s, 6), round(each.ends_at_s, 6)) for each in journal.of(FaultRan)}
