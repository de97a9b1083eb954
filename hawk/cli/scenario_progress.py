"""How far `hawk scenario run` is, told on stderr while it goes on; `--live` shows the lanes of each run as they grow.

Nothing here waits or decides. `rich` comes in with the lanes only.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from hawk.cli.documents import complain_of
from hawk.scenario.audience import OnLook, SoFar
from hawk.scenario.model import Scenario
from hawk.scenario.report import show
from hawk.scenario.variants import title_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_LINE_EVERY_PERCENT = 10


class Progress(Protocol):
    """Tells it. Each run has a place in the list, and a share of it is done, from 0 to 1."""

    @property
    def look(self) -> OnLook | None:
        """What is shown the run itself a few times a second, where somebody wants to see it."""

    def tell(self, place: int, share: float) -> None:
        """So much of a run is done."""

    def done(self) -> None:
        """One more run is done, and its outcome is about to be told."""

    def clear(self) -> None:
        """Take away what stands on the terminal."""


def progress_of(scenarios: Sequence[Scenario], *, live: bool) -> Progress:
    """The one for these runs and this stderr."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not live:
        return ProgressLine(scenarios, shows=is_terminal)
    if is_terminal:
        from rich.console import Console

        console = Console(stderr=True)
        if not console.is_dumb_terminal:
            return LiveLanes(scenarios, console)
    return PlainLines(scenarios)


class ProgressLine:
    """One line that is written over, where stderr is a terminal."""

    look = None

    def __init__(self, scenarios: Sequence[Scenario], *, shows: bool) -> None:
        self._scenarios = scenarios
        self._shows = shows
        self._done = 0

    def tell(self, place: int, share: float) -> None:
        """Write it anew."""
        what = f"{title_of(self._scenarios[place])}: {100 * share:.0f} %"
        self._write(f"{self._done}/{len(self._scenarios)} runs \u00b7 {what}")

    def done(self) -> None:
        """Count it, and make room."""
        self._done += 1
        self.clear()

    def clear(self) -> None:
        """Leave an empty line."""
        self._write("")

    def _write(self, line: str) -> None:
        if self._shows:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()


class PlainLines:
    """A line for each tenth of a run, where nothing can be written over."""

    look = None

    def __init__(self, scenarios: Sequence[Scenario]) -> None:
        self._scenarios = scenarios
        self._told = [0] * len(scenarios)

    def tell(self, place: int, share: float) -> None:
        """Write a line, if this is one more tenth."""
        percent = round(100 * share) // _LINE_EVERY_PERCENT * _LINE_EVERY_PERCENT
        if percent > self._told[place]:
            self._told[place] = percent
            complain_of([f"{title_of(self._scenarios[place])}: {percent} %"])

    def done(self) -> None:
        """Nothing: the outcome is a line of its own."""

    def clear(self) -> None:
        """Nothing: what was written stays."""


class LiveLanes:
    """The lanes of the run that goes on, drawn over themselves; they make room for its report."""

    def __init__(self, scenarios: Sequence[Scenario], console: "Console") -> None:
        self._runs = len(scenarios)
        self._console = console
        self._done = 0
        self._live: Live | None = None

    def look(self, so_far: SoFar) -> None:
        """Draw them."""
        from rich.live import Live
        from rich.text import Text

        lanes = show(so_far.journal, colour=not self._console.no_color, now_s=so_far.now_s)
        picture = Text.from_ansi(lanes, no_wrap=True, overflow="crop")
        picture.append(f"\n{self._done}/{self._runs} runs \u00b7 Ctrl-C ends it", "dim")
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()
        self._live.update(picture, refresh=True)

    def tell(self, place: int, share: float) -> None:
        """Nothing: the lanes say it."""

    def done(self) -> None:
        """Count it, and make room."""
        self._done += 1
        self.clear()

    def clear(self) -> None:
        """Take the lanes away, and give the cursor back."""
        if self._live is not None:
            self._live.stop()
            self._live = None
