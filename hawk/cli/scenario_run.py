"""What `hawk scenario run` does once it knows what to run: verdicts, files, and the shrinking of what fails."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from hawk.cli.exit_codes import ExitCode
from hawk.cli.scenario_progress import progress_of
from hawk.cli.scenario_view import junit as as_junit
from hawk.cli.scenario_view import outcome_json
from hawk.cli.termination import Termination, sigterm_like_ctrl_c
from hawk.errors import ConfigInvalid, Problem
from hawk.scenario.model import Scenario
from hawk.scenario.report import Ending, show
from hawk.scenario.report_page import ReportMissing
from hawk.scenario.sweep import Outcome, read_journal, run_all
from hawk.scenario.variants import folder_of, title_of

_SHRUNK_AT_MOST = 3
_SHOWN_IN_FULL = 4
"""Up to so many runs are each shown with lanes and table; of more, only those that failed."""


class Output(NamedTuple):
    """What becomes of the outcomes. `pages`: each run's picture is written too, beside its journal in `folder`. `live`: each
    run is shown while it goes on.
    """

    folder: Path
    pages: bool = False
    as_json: bool = False
    junit: Path | None = None
    live: bool = False

    def make_ready(self, scenarios: Sequence[Scenario]) -> None:
        """Make the folders, before anything runs for minutes. Raises `ConfigInvalid` where nothing could be written."""
        problems = [
            Problem(str(self.folder / name), f"{count} runs would write there; give the scenarios names of their own")
            for name, count in Counter(map(folder_of, scenarios)).items()
            if count > 1
        ]
        problems += _why_no_folder(self.folder)
        if self.junit is not None:
            problems += _why_no_folder(self.junit.parent)
            if self.junit.is_dir():
                problems.append(Problem(str(self.junit), "cannot be written: is a folder"))
        if self.pages and any(find_spec(name) is None for name in ("altair", "vl_convert")):
            problems.append(Problem("--report", str(ReportMissing())))
        if self.live and self.as_json:
            problems.append(
                Problem("--live", "is for people, and --json prints for programs alone; give one of the two")
            )
        if problems:
            raise ConfigInvalid(problems)


def run_scenarios(scenarios: Sequence[Scenario], output: Output, *, jobs: int | None, speed: float) -> int:
    """Run them all and tell each verdict as it comes; the exit code.

    Ctrl-C and SIGTERM end it after it has told, and written, what was done until then. Raises `KeyboardInterrupt` for the one;
    for the other it failed, as it is not known how the rest would have come out.
    """
    with sigterm_like_ctrl_c() as termination:
        try:
            return _run_and_tell(scenarios, output, termination, jobs=jobs, speed=speed)
        except BaseException as error:
            if not (termination.came and _is_interrupt(error)):
                raise
            return ExitCode.FAILED


def _run_and_tell(
    scenarios: Sequence[Scenario], output: Output, termination: Termination, *, jobs: int | None, speed: float
) -> int:
    """Raises `KeyboardInterrupt` when it was interrupted, by whatever it was."""
    progress = progress_of(scenarios, live=output.live)
    outcomes: list[Outcome] = []
    try:
        for outcome in run_all(
            scenarios,
            output.folder,
            jobs=jobs,
            on_progress=progress.tell,
            on_look=progress.look,
            pages=output.pages,
            speed=speed,
        ):
            if termination.came:
                # How this run would have come out without it is not known.
                raise KeyboardInterrupt
            outcomes.append(outcome)
            progress.done()
            full = len(scenarios) <= _SHOWN_IN_FULL or not outcome.passed
            _write(outcome_json(outcome) if output.as_json else _told(outcome) if full else _told_in_a_line(outcome))
    except BaseException as error:
        if not (_is_interrupt(error) or (termination.came and isinstance(error, BrokenProcessPool))):
            raise
        progress.clear()
        _summarise(scenarios, outcomes, output, interrupted=True)
        raise KeyboardInterrupt from None
    finally:
        progress.clear()
    failed = _summarise(scenarios, outcomes, output)
    for shrunk in _shrink_all(scenarios, failed, output.folder):
        _tell(shrunk)
    return ExitCode.FAILED if failed else ExitCode.OK


def _summarise(
    scenarios: Sequence[Scenario], outcomes: Sequence[Outcome], output: Output, *, interrupted: bool = False
) -> list[Outcome]:
    """Write the file for JUnit, and say how many passed; those that failed."""
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if output.junit is not None:
        output.junit.write_text(as_junit(outcomes), encoding="utf-8")
    if not output.as_json and (len(scenarios) > 1 or interrupted):
        not_run = len(scenarios) - len(outcomes)
        left = f", {not_run} were not {'finished' if interrupted else 'begun'}" if not_run else ""
        failures = "".join(f"\n  FAIL {title_of(outcome.scenario)}" for outcome in failed)
        _write(f"\n{len(outcomes) - len(failed)} of {len(scenarios)} runs passed{left}{failures}\n")
    return failed


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is a Ctrl-C, alone or in the group of the nursery that it came up in."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


def _why_no_folder(folder: Path) -> list[Problem]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return [Problem(str(folder), f"cannot be made: {error.strerror}")]
    return [] if os.access(folder, os.W_OK | os.X_OK) else [Problem(str(folder), "cannot be written")]


def _told(outcome: Outcome) -> str:
    """Lanes and table."""
    scenario = outcome.scenario
    if outcome.verdict is None:
        return f"{title_of(scenario)}\nFAIL: the run did not come to its end\n{outcome.error}\n"
    file = scenario.source or "FILE"
    again = "" if outcome.passed else f"hawk scenario run {file} --seed {scenario.seed} --backend {scenario.backend}"
    ending = Ending(outcome.cpu_s, str(outcome.page or outcome.journal), again)
    colour = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return show(read_journal(outcome.journal), colour=colour, ending=ending) + "\n"


def _told_in_a_line(outcome: Outcome) -> str:
    rows = 0 if outcome.verdict is None else len(outcome.verdict.rows)
    return f"PASS {rows}/{rows}  {title_of(outcome.scenario)}  {outcome.cpu_s:.1f} s of CPU time\n"


def _shrink_all(scenarios: Sequence[Scenario], failed: Sequence[Outcome], folder: Path) -> list[str]:
    """The first failing seeds of each sweep as minimal files; sentences that say where."""
    from hawk.scenario.shrinking import shrink
    from hawk.scenario.writing import scenario_yaml

    told, seen = [], set[str]()
    for outcome in sorted(failed, key=lambda each: (each.scenario.name, each.scenario.seed)):
        scenario = outcome.scenario
        is_sweep = len({each.seed for each in scenarios if each.name == scenario.name}) > 1
        if not is_sweep or scenario.clock == "real" or scenario.name in seen or len(seen) == _SHRUNK_AT_MOST:
            continue
        seen.add(scenario.name)
        _tell(f"shrinking {title_of(scenario)} ...")
        smallest = shrink(scenario)
        if smallest is None:
            told.append(f"{title_of(scenario)}: what fails is no expectation that could be kept while shrinking")
            continue
        path = folder / f"{scenario.name}-seed-{scenario.seed}-minimal.yaml"
        path.write_text(scenario_yaml(smallest), encoding="utf-8")
        told.append(f"minimal file: {path} ({len(smallest.timeline)} faults)")
    return told


def _tell(sentence: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{sentence}\n")


def _write(text: str) -> None:
    if sys.stdout is not None:
        sys.stdout.write(text)
        sys.stdout.flush()
