"""Which runs `hawk scenario run` makes of the files and the options that it is given; nothing runs here."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from hawk.cli.documents import complain_of
from hawk.errors import ConfigInvalid, Problem
from hawk.scenario.elsewhere import moved
from hawk.scenario.model import Backend, Scenario
from hawk.scenario.readers import LARGEST_SEED, broker_url
from hawk.scenario.reading import MOST_VARIANTS, read_scenario
from hawk.scenario.shortening import shortened
from hawk.scenario.variants import variants

_ENDINGS = (".yaml", ".yml")
_SHORTEST = 100_000.0
_TIMES = re.compile(r"([0-9]+(?:\.[0-9]+)?)x")


class Choice(NamedTuple):
    """The options, as they were typed; each stands in the place of what the files say."""

    seed: int | None = None
    seeds: str | None = None
    backend: Literal["trio", "asyncio", "both"] | None = None
    clock: Literal["real"] | None = None
    broker: str | None = None
    shorten: float | None = None


def read(paths: Sequence[Path]) -> list[tuple[Path, Scenario]]:
    """Every scenario of those files and folders. Raises `ConfigInvalid` with the problems of all of them."""
    problems: list[Problem] = []
    found: list[tuple[Path, Scenario]] = []
    if not paths:
        problems.append(Problem("hawk scenario", "name a scenario file, or a folder of them"))
    for path in paths:
        files = sorted(each for each in path.glob("*") if each.suffix in _ENDINGS) if path.is_dir() else [path]
        if not files:
            problems.append(Problem(str(path), "holds no scenario file (.yaml)"))
        for file in files:
            try:
                found.append((file, read_scenario(file)))
            except ConfigInvalid as invalid:
                problems += invalid.problems
    if problems:
        raise ConfigInvalid(problems)
    return found


def runs_of(paths: Sequence[Path], choice: Choice) -> list[Scenario]:
    """One scenario for each run. What cannot be done where it shall be done is left out, and told on stderr.

    Raises `ConfigInvalid`.
    """
    seeds, backends = _seeds(choice), _backends(choice)
    scenarios = [scenario for _, scenario in read(paths)]
    if choice.clock is not None or choice.broker is not None:
        scenarios = _moved(scenarios, choice.broker)
    runs = [run for scenario in scenarios for run in variants(scenario, seeds=seeds, backends=backends)]
    return runs if choice.shorten is None else _shortened(runs, choice.shorten)


def speed_of(speed: str | None, runs: Sequence[Scenario]) -> float:
    """How many virtual seconds may pass in one of the wall clock. Raises `ConfigInvalid`."""
    if speed is None:
        return math.inf
    found = {"real": 1.0, "max": math.inf}.get(speed)
    if found is None:
        times = _TIMES.fullmatch(speed)
        found = float(times[1]) if times else 0.0
        if not 0 < found < math.inf:
            raise ConfigInvalid([Problem("--speed", f"must be real, max or a number of times (10x), not {speed!r}")])
    real = sorted({each.name for each in runs if each.clock == "real"})
    if real and found != 1:
        what = "the real clock has one speed: give real, or leave it out; --shorten 10 plays a story in a tenth of its time"
        raise ConfigInvalid([Problem("--speed", f"{what} ({', '.join(real)})")])
    return found


def jobs_of(jobs: int | None, *, live: bool) -> int | None:
    """How many runs at once; None: one for each core. Raises `ConfigInvalid`."""
    if jobs is not None and jobs < 1:
        raise ConfigInvalid([Problem("--jobs", f"must be 1 or more, not {jobs}")])
    if not live:
        return jobs
    if jobs is not None and jobs > 1:
        raise ConfigInvalid(
            [Problem("--live", f"shows one run at a time, and --jobs {jobs} runs more; give one of the two")]
        )
    return 1


def _moved(scenarios: Sequence[Scenario], url: str | None) -> list[Scenario]:
    """The scenarios by the real clock, at that broker if there is one. Raises `ConfigInvalid` when none can be played."""
    if url is not None:
        try:
            broker_url(url)
        except ValueError as error:
            raise ConfigInvalid([Problem("--broker", str(error))]) from None
    found: list[Scenario] = []
    problems: list[Problem] = []
    for scenario in scenarios:
        try:
            found.append(moved(scenario, clock="real", url=url))
        except ConfigInvalid as invalid:
            problems += invalid.problems
        else:
            complain_of(found[-1].left_out)
    if not found:
        raise ConfigInvalid(problems)
    complain_of(map(str, problems))
    return found


def _shortened(runs: Sequence[Scenario], factor: float) -> list[Scenario]:
    if not 1 <= factor <= _SHORTEST:
        raise ConfigInvalid([Problem("--shorten", f"must be from 1 to {_SHORTEST:g}, not {factor:g}")])
    virtual = sorted({each.name for each in runs if each.clock == "virtual"})
    if virtual:
        what = f"virtual time needs no shortening: give --clock real or --broker URL too ({', '.join(virtual)})"
        raise ConfigInvalid([Problem("--shorten", what)])
    return [shortened(each, factor) for each in runs]


def _seeds(choice: Choice) -> list[int] | None:
    seed, seeds = choice.seed, choice.seeds
    if seed is not None and seeds is not None:
        raise ConfigInvalid([Problem("--seed", "stands beside --seeds; give one of the two")])
    if seed is not None:
        if not 0 <= seed <= LARGEST_SEED:
            raise ConfigInvalid([Problem("--seed", f"must be from 0 to {LARGEST_SEED}")])
        return [seed]
    if seeds is None:
        return None
    first, dots, last = (part.strip() for part in seeds.partition(".."))
    if not (dots and first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= LARGEST_SEED):
        raise ConfigInvalid([Problem("--seeds", f"must be two numbers (1..50), not {seeds!r}")])
    if int(last) - int(first) >= MOST_VARIANTS:
        raise ConfigInvalid([Problem("--seeds", f"{MOST_VARIANTS} seeds are the most")])
    return list(range(int(first), int(last) + 1))


def _backends(choice: Choice) -> list[Backend] | None:
    match choice.backend:
        case "trio":
            return ["trio"]
        case "asyncio":
            return ["asyncio"]
        case "both":
            return ["trio", "asyncio"]
        case _:
            return None
