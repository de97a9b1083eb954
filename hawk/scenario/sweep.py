"""Runs one scenario, or many on all cores, each in a process of its own; judges each and writes its journal.

A run that raises is an outcome too: a hawk that crashes is what a rehearsal is there to find.
"""

import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing.context import SpawnContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any, NamedTuple

from hawk.scenario.audience import NOBODY, Audience, OnLook
from hawk.scenario.elsewhere import BrokerMissing
from hawk.scenario.journal import Journal, Verdict, from_lines
from hawk.scenario.judging import judge
from hawk.scenario.model import Scenario
from hawk.scenario.variants import folder_of
from hawk.testing.virtual_pace import Pace

JOURNAL = "journal.jsonl"
_LOOK_EVERY_S = 0.2

OnProgress = Callable[[int, float], None]
"""Is told the place of a run in the list, and how much of it is done, from 0 to 1."""


class Outcome(NamedTuple):
    """How one run came out. `verdict` is None when it raised, and `error` says what. `cpu_s` is what it cost, `page` the
    picture for a browser, if one was asked for.
    """

    scenario: Scenario
    verdict: Verdict | None
    journal: Path
    error: str = ""
    cpu_s: float = 0.0
    end_s: float = 0.0
    page: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return self.verdict is not None and self.verdict.passed


def run_one(
    scenario: Scenario, folder: Path, audience: Audience = NOBODY, *, pages: bool = False, speed: float = math.inf
) -> Outcome:
    """Run one variant by its clock, judge it, and write its journal below `folder`, and with `pages` its picture as HTML
    and PNG. Raises `OSError` when it cannot write, and `ReportMissing` without the extra `[report]`.

    `speed`: how many virtual seconds may pass in one of the wall clock. It changes nothing of the run.
    """
    path = folder / folder_of(scenario) / JOURNAL
    began = time.process_time()
    try:
        journal = _run(scenario, audience, speed)
        verdict = judge(journal)
    except BrokerMissing as missing:
        return Outcome(scenario, None, path, f"{missing}\n", time.process_time() - began)
    except Exception:  # noqa: BLE001 - told in the outcome, with the traceback
        return Outcome(scenario, None, path, traceback.format_exc(), time.process_time() - began)
    cpu_s = time.process_time() - began
    judged = Journal(journal.header, journal.events, verdict)
    write_journal(judged, path)
    page = _write_pages(judged, path.parent) if pages else None
    return Outcome(scenario, verdict, path, "", cpu_s, journal.end_s, page)


def run_all(
    scenarios: Sequence[Scenario],
    folder: Path,
    *,
    jobs: int | None = None,
    on_progress: OnProgress | None = None,
    on_look: OnLook | None = None,
    pages: bool = False,
    speed: float = math.inf,
) -> Iterator[Outcome]:
    """Run them all, the longest first, and yield each outcome as it comes. `jobs`: how many at once, by default the cores.

    An expectation with `abort: true` that is broken ends the sweep: what has not begun is not run.
    Closing the iterator early ends the processes. `on_look` is shown each run that goes on in this process: with `jobs=1` all.
    """
    jobs = min(jobs or os.cpu_count() or 1, len(scenarios))
    if jobs <= 1:
        yield from _in_this_process(scenarios, folder, on_progress, on_look, pages=pages, speed=speed)
        return
    context = multiprocessing.get_context("spawn")
    progress: SimpleQueue[tuple[int, float]] = context.SimpleQueue()
    others = set(multiprocessing.active_children())
    pool, ctrl_c = _pool(jobs, context, progress), _NotedCtrlC()
    try:
        with ctrl_c:
            order = sorted(range(len(scenarios)), key=lambda place: -_weight(scenarios[place]))
            waiting = {pool.submit(_run_in_worker, place, scenarios[place], folder, pages, speed) for place in order}
        while waiting:
            with ctrl_c:
                done, waiting = wait(waiting, timeout=_LOOK_EVERY_S, return_when=FIRST_COMPLETED)
                while not progress.empty():
                    told = progress.get()
                    if on_progress is not None:
                        on_progress(*told)
            for future in done:
                with ctrl_c:
                    outcome = future.result()
                yield outcome
                if is_abort(outcome):
                    return
    finally:
        with ctrl_c:
            pool.shutdown(wait=False, cancel_futures=True)
            # What they still run is nobody's any more, and a process that waits for the next run would wait for ever.
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()


class _NotedCtrlC:
    """Blocks at whose end a Ctrl-C that came in them is raised: in their midst it would leave a pool of processes with a lock
    that nobody gives back, and the pool would never end.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._came = False

    def __enter__(self) -> None:
        self._before, self._came = None, False
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._before = signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self._came:
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True


def read_journal(path: Path) -> Journal:
    """Read a journal, or the one in a folder. Raises `OSError` or `JournalBroken`."""
    with (path / JOURNAL if path.is_dir() else path).open(encoding="utf-8") as file:
        return from_lines(file)


def write_journal(journal: Journal, path: Path) -> None:
    """Write a journal; the folder is made. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(journal.lines())


def is_abort(outcome: Outcome) -> bool:
    """Whether this outcome ends a sweep."""
    if outcome.verdict is None:
        return False
    stops = {each.text for each in outcome.scenario.expectations if each.abort}
    return any(not row.passed and row.expectation in stops for row in outcome.verdict.rows)


def _run(scenario: Scenario, audience: Audience, speed: float) -> Journal:
    if scenario.clock == "real":
        from hawk.scenario.real import run_for_real

        return run_for_real(scenario, audience=audience)
    from hawk.scenario.simulation import simulate

    return simulate(scenario, audience=audience, pace=Pace(speed))


def _write_pages(journal: Journal, folder: Path) -> Path:
    from hawk.scenario.report_page import write_page, write_png

    page = folder / "report.html"
    write_page(journal, page)
    write_png(journal, folder / "report.png")
    return page


def _in_this_process(
    scenarios: Sequence[Scenario],
    folder: Path,
    on_progress: OnProgress | None,
    on_look: OnLook | None,
    *,
    pages: bool,
    speed: float,
) -> Iterator[Outcome]:
    for place, scenario in enumerate(scenarios):

        def tell(share: float, place: int = place) -> None:
            if on_progress is not None:
                on_progress(place, share)

        outcome = run_one(scenario, folder, Audience(tell, on_look), pages=pages, speed=speed)
        yield outcome
        if is_abort(outcome):
            return


def _weight(scenario: Scenario) -> float:
    """About how long a run takes, in messages and dials."""
    per_s = sum(
        each.clients * each.rate.messages / each.rate.every_s for each in scenario.traffic if each.rate is not None
    )
    return math.inf if scenario.clock == "real" else scenario.duration_s * (per_s + scenario.clients / 10)


def _pool(jobs: int, context: SpawnContext, progress: "SimpleQueue[tuple[int, float]]") -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(progress,))


_progress: "SimpleQueue[tuple[int, float]] | None" = None


def _begin_worker(progress: "SimpleQueue[tuple[int, float]]") -> None:
    global _progress  # noqa: PLW0603 - the one thing that a worker is given before its work
    _progress = progress
    # A Ctrl-C goes to all processes of a terminal; the one that started this one answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, name="hawk scenario parent", daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers. This thread touches nothing of a run: it waits, and ends the process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(place: int, scenario: Scenario, folder: Path, pages: bool, speed: float) -> Outcome:
    queue = _progress
    tell = None if queue is None else lambda share: queue.put((place, share))
    return run_one(scenario, folder, Audience(tell), pages=pages, speed=speed)
