"""`hawk scenario`: rehearse scripted outages, and judge them.

Exit code 0 when every run passed, 1 when one did not, 2 when a file or an option is wrong.
"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from hawk.cli.documents import document, line_of, problems_of, refuse, write
from hawk.cli.exit_codes import ExitCode
from hawk.errors import ConfigInvalid, Problem

scenario_app = App(name="scenario", help="Rehearse scripted outages, and judge them.")

Flag = Parameter(negative=())
Json = Annotated[bool, Parameter(name="--json", negative=())]
_OUT = Path("out")


@scenario_app.command
def run(
    *files: Path,
    seed: int | None = None,
    seeds: str | None = None,
    backend: Literal["trio", "asyncio", "both"] | None = None,
    clock: Literal["real"] | None = None,
    broker: str | None = None,
    shorten: float | None = None,
    speed: str | None = None,
    live: Annotated[bool, Flag] = False,
    report: Path | None = None,
    as_json: Json = False,
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
    clock
        Run by the real clock, on sockets, in the place of the file's. What cannot be done there is left out, and told.
    broker
        Run by the real clock against the broker at this URL, through hawk's own fault proxy. What cannot be done to it is
        left out, and told.
    shorten
        Run in this fraction of the time: 60 makes a minute of an hour. For the real clock.
    speed
        How fast virtual time may pass at most: real, 10x, 0.5x, or max, which is the default. A run that is slowed down so
        that you can watch it does the same, byte for byte. The real clock has one speed: real.
    live
        Show the lanes of each run on stderr while it goes on, one run after the other; best with --speed. Where stderr is
        no terminal, print a line for each tenth of a run. Not with --json, nor with more than one of --jobs.
    report
        Write each run's picture too, as report.html and report.png, into this folder; journals alone go to `out`.
    as_json
        Print one JSON object for each run and nothing else.
    junit
        Write the results as JUnit XML too.
    jobs
        How many runs at once; by default one for each core.
    """
    from hawk.cli.scenario_choice import Choice, jobs_of, runs_of, speed_of
    from hawk.cli.scenario_run import Output, run_scenarios

    choice = Choice(seed=seed, seeds=seeds, backend=backend, clock=clock, broker=broker, shorten=shorten)
    output = Output(report or _OUT, pages=report is not None, as_json=as_json, junit=junit, live=live)
    try:
        scenarios = runs_of(files, choice)
        fastest, at_once = speed_of(speed, scenarios), jobs_of(jobs, live=live)
        output.make_ready(scenarios)
    except ConfigInvalid as invalid:
        return refuse(invalid)
    return run_scenarios(scenarios, output, jobs=at_once, speed=fastest)


@scenario_app.command
def check(*files: Path, as_json: Json = False) -> int:
    """Tell everything that is wrong with scenario files, without running them.

    Parameters
    ----------
    files
        Scenario files, or folders of them.
    as_json
        Print one JSON object.
    """
    from hawk.cli.scenario_choice import read
    from hawk.scenario.variants import variants

    try:
        runs_of = {str(path): len(variants(scenario)) for path, scenario in read(files)}
    except ConfigInvalid as invalid:
        if as_json:
            write(document({"runs": {}, "problems": problems_of(invalid)}))
        return refuse(invalid)
    if as_json:
        write(document({"runs": runs_of, "problems": []}))
    else:
        write("".join(f"{path}: no problems; {runs} run{'s' if runs != 1 else ''}\n" for path, runs in runs_of.items()))
    return ExitCode.OK


@scenario_app.command(name="list")
def list_(*files: Path, as_json: Json = False) -> int:
    """Print name, length, runs and story of each scenario.

    Parameters
    ----------
    files
        Scenario files, or folders of them; by default the folder `scenarios`.
    as_json
        Print one JSON object for each, with its length in seconds.
    """
    from hawk.cli.scenario_choice import read
    from hawk.scenario.units import show_duration
    from hawk.scenario.variants import variants

    try:
        found = [(scenario, len(variants(scenario))) for _, scenario in read(files or (Path("scenarios"),))]
    except ConfigInvalid as invalid:
        return refuse(invalid)
    if as_json:
        for scenario, runs in found:
            told = {"name": scenario.name, "duration_s": scenario.duration_s, "runs": runs, "about": scenario.about}
            write(line_of(told))
        return ExitCode.OK
    rows = [(each.name, show_duration(each.duration_s), str(runs), each.about) for each, runs in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, length, count, about in rows:
        write(f"{name:<{widths[0]}}  {length:>{widths[1]}}  {count:>{widths[2]}} runs  {about}\n")
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

    from hawk.cli.scenario_choice import read
    from hawk.scenario.schedule import as_entries, schedule
    from hawk.scenario.writing import scenario_yaml

    try:
        [(_, scenario)] = read((file,))
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
def replay(*journals: Path, as_json: Json = False) -> int:
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

    if not journals:
        return refuse(ConfigInvalid([Problem("hawk scenario replay", "name a journal.jsonl, or the folder of one")]))
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
