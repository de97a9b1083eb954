"""Virtual time on trio: a clock that jumps, a seeded scheduler, and an end to waiting for ever. Part of `virtual_time`.

Some names here are private to trio. `_private` looks them up, so an upgrade that takes one away is told at once.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NoReturn, TypeVar

import anyio
import trio

Result = TypeVar("Result")
MayJump = Callable[[float, float], bool]

_MOST_ABANDONMENTS = 3


def run_on_trio(program: Callable[[], Awaitable[Result]], *, may_jump: MayJump, seed: int) -> Result:
    """Run `program()` in virtual time; `may_jump(now, next_at)` is asked before the clock goes on.

    It answers False when the clock must not go on yet, and is asked again if nothing can run by then. It raises when the
    program must end where it stands.
    """
    clock = _JumpingClock(may_jump)
    with _scheduled_by(Random(seed)):
        return anyio.run(clock.watch(program), backend="trio", backend_options={"clock": clock})


class StepsOnTrio:
    """A program that runs only while `run_until` does: trio is a guest there, and its host is whoever calls that."""

    def __init__(self, program: Callable[[], Awaitable[None]], *, may_jump: MayJump, seed: int) -> None:
        self.has_ended = False
        self._may_jump = may_jump
        self._random = Random(seed)
        self._ticks: deque[Callable[[], object]] = deque()
        self._outcome: Any = None
        self._done: Callable[[], bool] = lambda: False
        clock = _JumpingClock(self._may_go_on)
        with _scheduled_by(self._random):
            trio.lowlevel.start_guest_run(
                clock.watch(program),
                run_sync_soon_threadsafe=self._ticks.append,
                done_callback=self._end,
                host_uses_signal_set_wakeup_fd=True,
                clock=clock,
            )

    def run_until(self, done: Callable[[], bool]) -> None:
        """Run until `done()`, or the program's end; its error is raised."""
        self._done = done
        with _scheduled_by(self._random):
            while not (self.has_ended or done()):
                self._ticks.popleft()()
        if self.has_ended:
            self._outcome.unwrap()

    def _may_go_on(self, now: float, next_at: float) -> bool:
        # A tick ends by looking for the next deadline: what is done by then is done at this instant.
        return not self._done() and self._may_jump(now, next_at)

    def _end(self, outcome: object) -> None:
        self.has_ended, self._outcome = True, outcome


def skip_on_trio(seconds: float) -> bool:
    """Move the clock on, if this runs in virtual time on trio; returns whether it does."""
    try:
        clock = trio.lowlevel.current_clock()
    except RuntimeError:
        return False
    if not isinstance(clock, _JumpingClock):
        return False
    clock.skip(seconds)
    return True


class _Abandoned(BaseException):
    """Raised in a task that must end. Not an Exception, so that loops which survive those do not survive it."""


class _JumpingClock(trio.abc.Clock):
    """Stands still while a task can run, and goes to the next deadline when none can: then alone trio asks how long to
    sleep. Trio's own mock clock needs a pass of the event loop for each jump, and time to be computed at each look.
    """

    def __init__(self, may_jump: MayJump) -> None:
        self.main: trio.lowlevel.Task | None = None
        self._may_jump = may_jump
        self._now = 0.0
        self._abandonments = 0
        self._waiting_for_idle: Any = None
        self._callbacks: Any = None

    def watch(self, program: Callable[[], Awaitable[Result]]) -> Callable[[], Awaitable[Result]]:
        """The program, whose task is known here: the one to begin with when all must be abandoned."""

        async def main() -> Result:
            self.main = trio.lowlevel.current_task()
            return await program()

        return main

    def start_clock(self) -> None:
        """Called inside the event loop that begins."""
        runner = _private(_private(_private(trio._core, "_run"), "GLOBAL_RUN_CONTEXT"), "runner")
        self._waiting_for_idle = _private(runner, "waiting_for_idle")
        self._callbacks = _private(runner, "entry_queue")
        _private(self._callbacks, "size")

    def current_time(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Let that much time pass at once."""
        self._now += seconds

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Every task waits: go to `deadline`, and do not sleep. What was called in from outside (Ctrl-C) comes first, and
        who waits for every task to wait (`wait_all_tasks_blocked`): for that trio must believe that it would sleep.
        """
        if self._waiting_for_idle:
            return deadline - self._now
        if deadline > self._now and not self._callbacks.size():
            self._jump_to(deadline)
        return 0.0

    def _jump_to(self, deadline: float) -> None:
        try:
            jumps = self._may_jump(self._now, deadline)
        except Exception:
            if self.main is None or self._abandonments == _MOST_ABANDONMENTS:
                raise
            self._abandonments += 1
            _abandon(self.main)
        else:
            if jumps:
                self._now = deadline


def _abandon(task: trio.lowlevel.Task) -> None:
    """Raise in `task` and in all below it, at the point where each waits. Shields stop a cancellation, but not this."""

    def raise_it() -> NoReturn:
        raise _Abandoned(f"gave up waiting in task {task.name}")

    if _private(task, "_abort_func") is not None:
        _private(task, "_attempt_abort")(raise_it)
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            _abandon(child)


@contextmanager
def _scheduled_by(random: Random) -> Iterator[None]:
    """Let trio order the tasks of each pass by that generator; afterwards as before."""
    scheduler = _private(trio._core, "_run")
    before = _private(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING"), _private(scheduler, "_r")
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = True, random
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = before


def _private(owner: object, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        raise RuntimeError(f"trio {trio.__version__} has no {name}: virtual time must be taught its ways") from None
