"""What `hawk scenario run` does once it knows what to run: progress, verdicts, files, and the shrinking of what fails."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hawk.cli.exit_codes import ExitCode
from hawk.cli.scenario_view import junit as as_junit
from hawk.cli.scenario_view import outcome_json, show_verdict
from hawk.scenario.model import Scenario
from hawk.scenario.sweep import Outcome, run_all
from hawk.scenario.units import show_duration
from hawk.scenario.variants import title_of

_SHRUNK_AT_MOST = 3


def run_scenarios(
    scenarios: Sequence[Scenario], *, folder: Path, as_json: bool, junit: Path | None, jobs: int | None
) -> int:
    """Run them all and tell each verdict as it comes; the exit code."""
    progress = _Progress(scenarios)
    outcomes: list[Outcome] = []
    try:
        for outcome in run_all(scenarios, folder, jobs=jobs, on_progress=progress.tell):
            outcomes.append(outcome)
            progress.done(outcome)
            _write(outcome_json(outcome) if as_json else _told(outcome))
    finally:
        progress.clear()
    if junit is not None:
        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.write_text(as_junit(outcomes), encoding="utf-8")
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for shrunk in _shrink_all(scenarios, failed, folder):
        _tell(shrunk)
    if not as_json and len(scenarios) > 1:
        not_run = len(scenarios) - len(outcomes)
        _write(
            f"\n{len(outcomes) - len(failed)} of {len(scenarios)} runs passed"
            + (f", {not_run} were not begun" if not_run else "")
            + "".join(f"\n  FAIL {title_of(outcome.scenario)}" for outcome in failed)
            + "\n"
        )
    return ExitCode.FAILED if failed else ExitCode.OK


def _told(outcome: Outcome) -> str:
    scenario, verdict = outcome.scenario, outcome.verdict
    took = f"{show_duration(outcome.end_s)} {'simulated' if scenario.clock == 'virtual' else 'passed'}"
    head = f"{title_of(scenario)} \u00b7 {scenario.clock} clock \u00b7 {took} in {outcome.cpu_s:.2f} s of CPU time\n"
    if verdict is None:
        return f"{head}FAIL: the run raised\n{outcome.error}\n"
    again = f"journal {outcome.journal}"
    if not verdict.passed:
        again += f" \u00b7 again: --seed {scenario.seed} --backend {scenario.backend}"
    return f"{head}{show_verdict(verdict).rstrip()} \u00b7 {again}\n\n"


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


class _Progress:
    """One line on stderr that is written over, where stderr is a terminal."""

    def __init__(self, scenarios: Sequence[Scenario]) -> None:
        self._shares = [0.0] * len(scenarios)
        self._scenarios = scenarios
        self._shows = sys.stderr is not None and sys.stderr.isatty()
        self._done = 0

    def tell(self, place: int, share: float) -> None:
        self._shares[place] = share
        self._show(f"{title_of(self._scenarios[place])}: {100 * share:.0f} %")

    def done(self, outcome: Outcome) -> None:
        self._done += 1
        self.clear()

    def clear(self) -> None:
        if self._shows:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _show(self, what: str) -> None:
        if self._shows:
            sys.stderr.write(f"\r\x1b[K{self._done}/{len(self._shares)} runs \u00b7 {what}")
            sys.stderr.flush()


def _tell(sentence: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{sentence}\n")


def _write(text: str) -> None:
    if sys.stdout is not None:
        sys.stdout.write(text)
        sys.stdout.flush()
