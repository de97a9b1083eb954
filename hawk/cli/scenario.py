"""`hawk scenario`: rehearse scripted outages, and judge them.

Exit code 0 when every run passed, 1 when one did not, 2 when a file or an option is wrong.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from hawk.cli.documents import document, refuse, write
from hawk.cli.exit_codes import ExitCode
from hawk.errors import ConfigInvalid, Problem

if TYPE_CHECKING:
    from hawk.scenario.model import Backend, Scenario

scenario_app = App(name="scenario", help="Rehearse scripted outages, and judge them.")

Flag = Parameter(negative=())
_ENDINGS = (".yaml", ".yml")
_OUT = Path("out")


@scenario_app.command
def run(
    *files: Path,
    seed: int | None = None,
    seeds: str | None = None,
    backend: Literal["trio", "asyncio", "both"] | None = None,
    report: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    junit: Path | None = None,
    jobs: int | None = None,
) -> int:
    """Run scenario files, and judge each run. Exit 0: all passed; 1: one did not; 2: a file or an option is wrong.

    Each run writes a journal.jsonl into a folder of its own. A failing seed of a sweep is shrunk to a minimal file.

    Parameters
    ----------
    files
        Scenario files, or folders of them.
    seed
        Run with this seed alone, in the place of the file's.
    seeds
        Run with each of these seeds: 1..50.
    backend
        Run on this event loop alone, or on both, in the place of the file's.
    report
        Write each run's picture too, as report.html and report.png, into this folder; journals alone go to `out`.
    as_json
        Print one JSON object for each run and nothing else.
    junit
        Write the results as JUnit XML too.
    jobs
        How many runs at once; by default one for each core.
    """
    from hawk.cli.scenario_run import run_scenarios
    from hawk.scenario.variants import variants

    try:
        chosen = _seeds(seed, seeds)
        backends = _backends(backend)
        scenarios = [
            variant
            for path, scenario in _read(files)
            for variant in variants(scenario, seeds=chosen, backends=backends)
        ]
    except ConfigInvalid as invalid:
        return refuse(invalid)
    return run_scenarios(
        scenarios, folder=report or _OUT, pages=report is not None, as_json=as_json, junit=junit, jobs=jobs
    )


@scenario_app.command
def check(*files: Path) -> int:
    """Tell everything that is wrong with scenario files, without running them.

    Parameters
    ----------
    files
        Scenario files, or folders of them.
    """
    from hawk.scenario.variants import variants

    try:
        for path, scenario in _read(files):
            runs = len(variants(scenario))
            write(f"{path}: no problems; {runs} run{'s' if runs != 1 else ''}\n")
    except ConfigInvalid as invalid:
        return refuse(invalid)
    return ExitCode.OK


@scenario_app.command(name="list")
def list_(*files: Path) -> int:
    """Print name, length, runs and story of each scenario.

    Parameters
    ----------
    files
        Scenario files, or folders of them; by default the folder `scenarios`.
    """
    from hawk.scenario.units import show_duration
    from hawk.scenario.variants import variants

    try:
        rows = [
            (scenario.name, show_duration(scenario.duration_s), str(len(variants(scenario))), scenario.about)
            for _, scenario in _read(files or (Path("scenarios"),))
        ]
    except ConfigInvalid as invalid:
        return refuse(invalid)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, length, runs, about in rows:
        write(f"{name:<{widths[0]}}  {length:>{widths[1]}}  {runs:>{widths[2]}} runs  {about}\n")
    return ExitCode.OK


@scenario_app.command
def show(file: Path, /, *, seed: int | None = None) -> int:
    """Print a scenario with everything that its seed draws written out: each fault at its instant.

    Parameters
    ----------
    file
        A scenario file.
    seed
        Draw with this seed, in the place of the file's.
    """
    from dataclasses import replace

    from hawk.scenario.schedule import as_entries, schedule
    from hawk.scenario.writing import scenario_yaml

    try:
        [(_, scenario)] = _read((file,))
    except ConfigInvalid as invalid:
        return refuse(invalid)
    drawn = scenario.seed if seed is None else seed
    write(scenario_yaml(replace(scenario, seed=drawn, timeline=as_entries(schedule(scenario, drawn)))))
    return ExitCode.OK


@scenario_app.command
def new() -> int:
    """Print a scenario file to begin with."""
    from hawk.scenario.template import TEMPLATE

    write(TEMPLATE)
    return ExitCode.OK


@scenario_app.command
def schema() -> int:
    """Print the JSON Schema of a scenario file, for editors."""
    from hawk.scenario.schema import json_schema

    write(document(json_schema()))
    return ExitCode.OK


@scenario_app.command
def replay(*journals: Path, as_json: Annotated[bool, Parameter(name="--json", negative=())] = False) -> int:
    """Judge journals again, without running anything. Exit 0: all pass; 1: one does not; 2: one is no journal.

    Parameters
    ----------
    journals
        Files journal.jsonl, or the folders that hold one.
    as_json
        Print one JSON object for each and nothing else.
    """
    from hawk.cli.scenario_view import verdict_json
    from hawk.scenario.journal import Journal, JournalBroken
    from hawk.scenario.judging import judge
    from hawk.scenario.report import show
    from hawk.scenario.sweep import read_journal

    passed = True
    for path in journals:
        try:
            journal = read_journal(path)
            verdict = judge(journal)
        except JournalBroken as error:
            return refuse(ConfigInvalid([Problem(str(path), str(error))]))
        except OSError as error:
            return refuse(ConfigInvalid([Problem(str(path), f"cannot be read: {error.strerror}")]))
        passed = passed and verdict.passed
        again = Journal(journal.header, journal.events, verdict)
        write(verdict_json(verdict) if as_json else show(again))
    return ExitCode.OK if passed else ExitCode.FAILED


@scenario_app.command
def diff(first: Path, second: Path, /) -> int:
    """Compare two journals: what they expect and how it came out, and the first event that differs.

    Exit 0: the same events; 1: they differ; 2: one is no journal.

    Parameters
    ----------
    first
        A file journal.jsonl, or the folder that holds one.
    second
        Another.
    """
    from hawk.cli.scenario_view import show_difference
    from hawk.scenario.journal import JournalBroken
    from hawk.scenario.sweep import read_journal

    read = []
    for path in (first, second):
        try:
            read.append(read_journal(path))
        except JournalBroken as error:
            return refuse(ConfigInvalid([Problem(str(path), str(error))]))
        except OSError as error:
            return refuse(ConfigInvalid([Problem(str(path), f"cannot be read: {error.strerror}")]))
    text = show_difference(*read)
    write(text or "the same\n")
    return ExitCode.FAILED if text else ExitCode.OK


def _read(paths: Sequence[Path]) -> "list[tuple[Path, Scenario]]":
    """Every scenario of those files and folders. Raises `ConfigInvalid` with the problems of all of them."""
    from hawk.scenario.reading import read_scenario

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


def _seeds(seed: int | None, seeds: str | None) -> list[int] | None:
    if seed is not None and seeds is not None:
        raise ConfigInvalid([Problem("--seed", "stands beside --seeds; give one of the two")])
    if seed is not None:
        if seed < 0:
            raise ConfigInvalid([Problem("--seed", "must be 0 or more")])
        return [seed]
    if seeds is None:
        return None
    first, dots, last = seeds.partition("..")
    if not dots or not first.strip().isdigit() or not last.strip().isdigit() or int(last) < int(first):
        raise ConfigInvalid([Problem("--seeds", f"must be two numbers (1..50), not {seeds!r}")])
    return list(range(int(first), int(last) + 1))


def _backends(backend: str | None) -> "list[Backend] | None":
    match backend:
        case "trio":
            return ["trio"]
        case "asyncio":
            return ["asyncio"]
        case "both":
            return ["trio", "asyncio"]
        case _:
            return None
