"""How `hawk demo` is shown: a live screen on a terminal, plain lines everywhere else.

A view looks and never touches: it reads moments and happenings, ten times a second. `rich` comes in with the live view only.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import anyio

from hawk.cli import demo_words
from hawk.cli.demo_run import DemoRun, Happening, Moment
from hawk.values import ConnectionState

if TYPE_CHECKING:
    from rich.console import Console, OverflowMethod, RenderableType
    from rich.text import Text

FRAME_S = 0.1
PLAIN_LINE_S = 1.0
WIDTH = 80

_BAR_CELLS = 44
_HAPPENINGS_SHOWN = 6
_LOOKS = {
    ConnectionState.CONNECTED: ("green", "●", "+"),
    ConnectionState.RECONNECTING: ("yellow", "◐", "~"),
    ConnectionState.CONNECTING: ("blue", "◌", "."),
    ConnectionState.DISCONNECTED: ("bright_black", "○", "-"),
    ConnectionState.FAILED: ("red", "✖", "x"),
}
_HEIGHTS = "▁▂▃▄▅▆▇█"
_ASCII_HEIGHTS = "_.:-=+*#"


class View(Protocol):
    """Shows one run while it goes on."""

    async def watch(self) -> None:
        """Show until cancelled; what is shown last stays."""


class PlainView:
    """Lines of text: one for each happening, and one a second for how it stands."""

    def __init__(self, run: DemoRun, write_line: Callable[[str], None]) -> None:
        self._run = run
        self._write_line = write_line
        self._shown = 0

    async def watch(self) -> None:
        """Write lines until cancelled, and then those that are still missing."""
        next_line_s = 0.0
        try:
            while True:
                self._write_happenings()
                moment = self._run.moment()
                if moment.at_s >= next_line_s:
                    next_line_s += PLAIN_LINE_S
                    self._write_line(demo_words.status(moment))
                await anyio.sleep(FRAME_S)
        finally:
            self._write_happenings()

    def _write_happenings(self) -> None:
        while self._shown < len(self._run.happenings):
            # Counted first: a line that cannot be written is not tried again.
            self._shown += 1
            self._write_line(demo_words.happening(self._run.happenings[self._shown - 1]))


class LiveView:
    """One screen, drawn over itself ten times a second."""

    def __init__(self, run: DemoRun, console: "Console") -> None:
        self._run = run
        self._console = console
        self._queue_sizes: list[tuple[float, int]] = []

    async def watch(self) -> None:
        """Draw until cancelled; the last screen stays, and the cursor comes back."""
        from rich.live import Live

        with Live(console=self._console, auto_refresh=False, get_renderable=self.screen) as live:
            while True:
                live.refresh()
                await anyio.sleep(FRAME_S)

    def screen(self) -> "RenderableType":
        """The screen of this moment."""
        moment = self._run.moment()
        self._queue_sizes.append((moment.at_s, moment.queue_size))
        history = _history(self._queue_sizes, length_s=self._run.schedule.length_s)
        ascii_only = self._console.options.ascii_only
        return draw(moment, self._run.happenings, queue_history=history, ascii_only=ascii_only)


def draw(
    moment: Moment, happenings: Sequence[Happening], *, queue_history: Sequence[int], ascii_only: bool
) -> "RenderableType":
    """The screen as rich draws it. A state has a colour, a sign and its word, so that none of them is needed alone."""
    from rich.box import ASCII, ROUNDED
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    too_long: OverflowMethod = "crop" if ascii_only else "ellipsis"
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(no_wrap=True, overflow=too_long)
    rows.add_row("broker", _broker(moment, ascii_only=ascii_only))
    trying = "" if moment.next_try_in_s is None else f"   {demo_words.next_try(moment)}"
    rows.add_row("sensors", _state(moment.publisher, ascii_only=ascii_only).append(trying))
    rows.add_row("subscriber", _state(moment.subscriber, ascii_only=ascii_only))
    rows.add_row("queue", _bar(moment, ascii_only=ascii_only))
    rows.add_row("", _curve(queue_history, moment.queue_limit, ascii_only=ascii_only))
    rates = f"{moment.accepted_per_s:5.1f}/s accepted   {moment.delivered_per_s:5.1f}/s delivered"
    rows.add_row("rates", rates)
    totals = f"{moment.sent} sent   {moment.delivered} delivered   {moment.underway} on their way"
    rows.add_row("readings", f"{totals}   {moment.repeats} repeated")
    rows.add_row("reconnected", f"{moment.reconnections} times" if moment.reconnections != 1 else "once")
    lines = [demo_words.at(*one) for one in happenings[-_HAPPENINGS_SHOWN:]]
    log = Text("\n".join([""] * (_HAPPENINGS_SHOWN - len(lines)) + lines), no_wrap=True, overflow=too_long)
    if lines:
        log.stylize("bold", len(log) - len(lines[-1]))
    return Panel(
        Group(rows, Text(), log),
        title=f"hawk demo   {moment.at_s:.1f} s",
        subtitle="Ctrl-C ends it",
        box=ASCII if ascii_only else ROUNDED,
        width=WIDTH,
        padding=(1, 2),
    )


def _state(state: ConnectionState, *, ascii_only: bool) -> "Text":
    colour, sign, ascii_sign = _LOOKS[state]
    return _marked(ascii_sign if ascii_only else sign, state.name, colour)


def _broker(moment: Moment, *, ascii_only: bool) -> "Text":
    if moment.broker_is_up:
        return _marked("+" if ascii_only else "●", "UP", "green")
    if moment.broker_returns_in_s is None:
        return _marked("-" if ascii_only else "○", "STARTING", "bright_black")
    return _marked("x" if ascii_only else "✖", "DOWN", "red").append(f"   back in {moment.broker_returns_in_s:.1f} s")


def _marked(sign: str, word: str, colour: str) -> "Text":
    from rich.text import Text

    return Text().append(f"{sign} {word:<12}", f"bold {colour}")


def _bar(moment: Moment, *, ascii_only: bool) -> "Text":
    """How full the queue is; a queue that holds anything shows at least one cell."""
    from rich.text import Text

    cells = min(_BAR_CELLS, -(-moment.queue_size * _BAR_CELLS // moment.queue_limit))
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    bar = Text().append(full * cells, _LOOKS[moment.publisher][0]).append(empty * (_BAR_CELLS - cells), "bright_black")
    return bar.append(f"  {moment.queue_size} of {moment.queue_limit}")


def _curve(sizes: Sequence[int], limit: int, *, ascii_only: bool) -> "Text":
    """The queue over the whole run, so that a drain too quick for the eye can still be seen."""
    from rich.text import Text

    heights = _ASCII_HEIGHTS if ascii_only else _HEIGHTS
    tallest = max(limit // 2, *sizes, 1)
    signs = [heights[(size * len(heights) - 1) // tallest] if size else " " for size in sizes]
    return Text("".join(signs), style="cyan")


def _history(sizes: Sequence[tuple[float, int]], *, length_s: float) -> list[int]:
    """The largest size in each slice of the run, as many slices as the bar has cells."""
    slices = dict[int, int]()
    for at_s, size in sizes:
        place = min(_BAR_CELLS - 1, int(at_s / length_s * _BAR_CELLS))
        slices[place] = max(slices.get(place, 0), size)
    return [slices.get(place, 0) for place in range(max(slices, default=-1) + 1)]
