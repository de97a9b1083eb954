"""pytest's second plugin: `pytest scenarios/` runs each scenario file as a test, one for each run of its matrix.

A YAML file is a scenario when it says `hawk: 1`; others are left alone. Loading this imports nothing but pytest.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hawk.scenario.model import Scenario
    from hawk.scenario.sweep import Outcome

_ENDINGS = (".yaml", ".yml")
_IS_SCENARIO = re.compile(rb"^hawk:[ \t]*1[ \t]*(#.*)?\r?$", re.MULTILINE)
_HEAD_BYTES = 4096


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ScenarioFile | None":
    """A scenario file is collected wherever pytest comes across one."""
    if file_path.suffix not in _ENDINGS:
        return None
    try:
        with file_path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None  # whoever needs the file will say so
    return ScenarioFile.from_parent(parent, path=file_path) if _IS_SCENARIO.search(head) else None


class ScenarioFile(pytest.File):
    """One file; as many tests as its matrix has runs."""

    def collect(self) -> Iterator["ScenarioItem"]:
        """Read the file. Raises `CollectError` with every problem, each with its place."""
        try:
            from hawk.errors import ConfigInvalid
            from hawk.scenario.reading import read_scenario
            from hawk.scenario.variants import title_of, variants
        except ModuleNotFoundError as missing:
            raise self.CollectError(f"scenario files need: pip install 'hawk-mqtt[cli]' ({missing})") from None
        try:
            runs = variants(read_scenario(self.path))
        except ConfigInvalid as invalid:
            raise self.CollectError(str(invalid)) from None
        for run in runs:
            yield ScenarioItem.from_parent(self, name="-".join(title_of(run).split()), scenario=run)


class ScenarioFailed(Exception):
    """A run that broke an expectation, or raised. Holds its outcome."""

    def __init__(self, outcome: "Outcome") -> None:
        self.outcome = outcome
        super().__init__(str(outcome.journal))


class ScenarioItem(pytest.Item):
    """One run, judged."""

    def __init__(self, *, scenario: "Scenario", **others: Any) -> None:
        super().__init__(**others)
        self._scenario = scenario

    def runtest(self) -> None:
        """Run it. Of a run that failed the journal is kept."""
        import shutil
        import tempfile

        from hawk.scenario.sweep import run_one

        folder = Path(tempfile.mkdtemp(prefix="hawk-scenario-"))
        outcome = run_one(self._scenario, folder)
        if not outcome.passed:
            raise ScenarioFailed(outcome)
        shutil.rmtree(folder)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The lanes and the table, and where the journal is."""
        if not isinstance(excinfo.value, ScenarioFailed):
            return super().repr_failure(excinfo, style)
        from hawk.scenario.report import Ending, show
        from hawk.scenario.sweep import read_journal

        outcome = excinfo.value.outcome
        if outcome.verdict is None:
            return outcome.error
        again = f"hawk scenario run {self.path} --seed {self._scenario.seed} --backend {self._scenario.backend}"
        return f"{show(read_journal(outcome.journal), ending=Ending(replay=again))}journal: {outcome.journal}"

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands, and what it is called."""
        return self.path, None, f"scenario: {self.name}"
