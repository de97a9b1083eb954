"""`hawk demo`: an outage before the reader's eyes, with nothing to install or to start first, and a verdict at the end."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from hawk.cli.exit_codes import ExitCode
from hawk.cli.stderr_lines import complain
from hawk.errors import ConfigInvalid

if TYPE_CHECKING:
    from hawk.cli.demo_run import DemoRun
    from hawk.cli.demo_verdict import Judgement
    from hawk.cli.demo_view import View

Flag = Parameter(negative=())


def demo(
    *,
    fast: Annotated[bool, Flag] = False,
    json: Annotated[bool, Flag] = False,
    sabotage: Literal["lose", "reorder", "repeat"] | None = None,
    backend: Literal["trio", "asyncio"] = "trio",
    seed: int = 0,
    config: Path | None = None,
) -> int:
    """Watch an outage: the broker dies, comes back, and nothing is lost.

    A broker runs inside, on a free port of 127.0.0.1. Three sensors publish through one hawk, another hawk subscribes.
    After 5 seconds the broker dies, after 12 it is back; the end comes within 30, with a verdict: exit 0 when every
    reading arrived, in order, and the connection is up, else 1. At QoS 1 a reading may come twice after an outage; at
    QoS 2, which one of the sensors uses, that fails as well.

    Parameters
    ----------
    fast
        The same outage in virtual time: no sockets, no waiting.
    json
        Print one object and nothing else.
    sabotage
        Lose, reorder or repeat one reading on the wire, to see the verdict fail.
    backend
        The event loop to run on.
    seed
        Of everything drawn at random.
    config
        A YAML or TOML file: the outage with your own delays, timeouts and limits. The broker stays the demo's.
    """
    from hawk.cli.demo_run import SETTINGS, DemoRun
    from hawk.cli.demo_sabotage import Sabotage
    from hawk.cli.demo_stage import play

    settings = SETTINGS
    if config is not None:
        from hawk.service.settings import load_settings

        try:
            settings = load_settings(config, environ=os.environ, flags={}).config
        except ConfigInvalid as invalid:
            complain(str(invalid))
            return ExitCode.USAGE
    run = DemoRun(sabotage=None if sabotage is None else Sabotage(sabotage), settings=settings)
    view = None if json else _view_of(run, plain=fast)
    ended_by = play(run, view, fast=fast, backend=backend, seed=seed)
    judgement = run.judge()
    for line in [_as_json(judgement)] if json else _last_words(judgement, finished=run.finished):
        _write_line(line)
    if ended_by is SIGINT:
        return ExitCode.INTERRUPTED
    return ExitCode.OK if judgement.passed else ExitCode.FAILED


def _view_of(run: "DemoRun", *, plain: bool) -> "View":
    from hawk.cli.demo_view import LiveView, PlainView

    if not plain and sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        if not console.is_dumb_terminal:
            return LiveView(run, console)
    return PlainView(run, _write_line)


def _last_words(judgement: "Judgement", *, finished: bool) -> Iterator[str]:
    from hawk.cli import demo_words

    yield ""
    yield from demo_words.summary(judgement, finished=finished)
    yield ""
    # What `uv run` started is not on the path of the shell that typed it.
    yield from demo_words.next_commands(prefix="uv run " if "UV_RUN_RECURSION_DEPTH" in os.environ else "")


def _as_json(judgement: "Judgement") -> str:
    from json import dumps

    return dumps(judgement.outcome._asdict())


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
