"""The scenario files by the real clock, against Mosquitto behind hawk's own proxy, in time lapse.

All runs share one event loop: they wait for most of their time. By default those that take ten seconds; `--deep` runs all.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest

from hawk.scenario.elsewhere import moved
from hawk.scenario.journal import Journal
from hawk.scenario.judging import judge
from hawk.scenario.model import Backend, Scenario
from hawk.scenario.reading import read_text
from hawk.scenario.real import play_for_real
from hawk.scenario.shortening import shortened
from hawk.scenario.variants import variants

FOLDER = Path(__file__).parents[2] / "scenarios"
QUICK = {"broker_restart": 7, "half_open_link": 7, "refused_credentials": 7}
"""How many seconds of it each file is shortened to."""
SHARED_OUT: dict[Backend, dict[str, int]] = {
    "trio": {"broker_restart": 7, "half_open_link": 7},
    "asyncio": {"refused_credentials": 7},
}
DEEP = {
    "broker_flapping": 20,
    "crash_and_replay": 60,
    "disk_full": 60,
    "night_at_sea": 480,
    "outbox_overflow": 120,
    "random_weather": 120,
    "session_forgotten": 60,
    "slow_broker": 60,
    "token_expiry": 240,
}
ALONE = {"thundering_herd": 75}
"""Its clients keep the loop from everybody else."""
FEWER = {
    "thundering_herd": {
        "clients: 1000": "clients: 200",
        "<= 375/s during outage+60s": "<= 375/5s during outage+60s",
        "<= 375/s after outage": "<= 100/s after outage",
    }
}
"""A thousand clients in one process would be a test of that process. The bound on their dials is one of large numbers: a fifth
of the clients needs five times as long for as many, and in one second breaks a fifth of it by chance in every second run. What
returns at once after the outage, and is over in less than that, has room for five standard deviations instead.
"""


class Broker(Protocol):
    port: int

    @property
    def url(self) -> str: ...


def in_time_lapse(name: str, seconds: float, broker: Broker, backend: Backend) -> Scenario:
    text = (FOLDER / f"{name}.yaml").read_text()
    for many, few in FEWER.get(name, {}).items():
        assert many in text
        text = text.replace(many, few)
    there = moved(read_text(text, f"{name}.yaml"), clock="real", url=broker.url)
    [variant] = variants(there, backends=[backend])
    return shortened(variant, variant.duration_s / seconds)


def play_all(chosen: dict[str, int], broker: Broker, backend: Backend) -> Iterator[Journal]:
    journals: list[Journal] = []

    async def play(scenario: Scenario) -> None:
        journals.append(await play_for_real(scenario))

    async def program() -> None:
        async with anyio.create_task_group() as tasks:
            for name, seconds in chosen.items():
                tasks.start_soon(play, in_time_lapse(name, seconds, broker, backend))

    anyio.run(program, backend=backend)
    assert len(journals) == len(chosen)
    yield from journals


def assert_passed(journals: Iterator[Journal]) -> None:
    verdicts = [judge(journal) for journal in journals]
    assert [(each.scenario, [row for row in each.rows if not row.passed]) for each in verdicts if not each.passed] == []


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_files_pass_against_mosquitto(mosquitto: Any, backend: Backend, deep: bool) -> None:
    """By default a few seconds of the quickest, shared out between the backends."""
    for chosen in (QUICK | DEEP, ALONE) if deep else (SHARED_OUT[backend],):
        assert_passed(play_all(chosen, mosquitto, backend))


def test_every_file_is_one_of_them() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == QUICK.keys() | DEEP.keys() | ALONE.keys()
