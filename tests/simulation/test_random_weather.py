"""Whole hawks with a durable outbox and subscriptions, half an hour of random weather each: nothing lost, nothing missed.

`pytest --deep` runs two hundred seeds; by default two. `--seed N` runs one. `hawk scenario run scenarios/random_weather.yaml
--seeds 1..200` is the same on all cores.
"""

from pathlib import Path

import pytest

from hawk.scenario.judging import judge
from hawk.scenario.model import Backend
from hawk.scenario.reading import read_scenario
from hawk.scenario.simulation import simulate
from hawk.scenario.variants import variants

FILE = Path(__file__).parents[2] / "scenarios" / "random_weather.yaml"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_no_promise_is_broken_in_random_weather(backend: Backend, deep: bool, request: pytest.FixtureRequest) -> None:
    chosen = request.config.getoption("--seed")
    # By turns, so that the deep version is two hundred runs on both backends together.
    seeds = range(1 if backend == "trio" else 2, 201 if deep else 3, 2) if chosen is None else [int(chosen)]
    for scenario in variants(read_scenario(FILE), seeds=list(seeds), backends=[backend]):
        verdict = judge(simulate(scenario))
        assert verdict.passed, f"seed {scenario.seed}: {[row for row in verdict.rows if not row.passed]}"
