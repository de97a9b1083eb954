"""Virtual time on trio: its mock clock, a seeded scheduler, and an end to waiting for ever. Part of `virtual_time`.

Some names here are private to trio. `_private` looks them up, so an upgrade that takes one away is told at once.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn, TypeVar

import anyio
import trio

Result = TypeVar("Result")
MayJump = Callable[[float, float], bool]

_MOST_ABANDONMENTS = 3


def run_on_trio(program: Callable[[], Awaitable[Result]], *, may_jump: MayJump, seed: int) -> Result:
    """Run `program()` in virtual time; `may_jump(now, next_at)` is asked before the clock goes on.

    It answers False when it has cancelled the program instead, and raises when the program must end where it stands.
    """
    jumper = _Jumper(may_jump)

    async def main() -> Result:
        jumper.main = trio.lowlevel.current_task()
        return await program()

    with _scheduled_by(seed):
        return anyio.run(main, backend="trio", backend_options={"clock": jumper.clock})


def skip_on_trio(seconds: float) -> bool:
    """Move the clock on, if this runs in virtual time on trio; returns whether it does."""
    try:
        clock = trio.lowlevel.current_clock()
    except RuntimeError:
        return False
    jump = getattr(clock, "jump", None)
    if jump is None:
        return False
    jump(seconds)
    return True


class _Abandoned(BaseException):
    """Raised in a task that must end. Not an Exception, so that loops which survive those do not survive it."""


class _Jumper:
    """Moves a mock clock to the next deadline when every task waits. Without one, trio's own jump waits for ever."""

    def __init__(self, may_jump: MayJump) -> None:
        self.clock: Any = _mock_clock()
        self.main: trio.lowlevel.Task | None = None
        self._may_jump = may_jump
        self._abandonments = 0
        _private(self.clock, "_autojump")  # trio would silently ignore the hook if it had another name for it
        self.clock._autojump = self._jump

    def _jump(self) -> None:
        wait_s = trio.lowlevel.current_statistics().seconds_to_next_deadline
        now = self.clock.current_time()
        try:
            jumps = self._may_jump(now, now + wait_s)
        except Exception:
            if self.main is None or self._abandonments == _MOST_ABANDONMENTS:
                raise
            self._abandonments += 1
            _abandon(self.main)
        else:
            if jumps and wait_s > 0:
                self.clock.jump(wait_s)


def _mock_clock() -> Any:
    # Not by its public name: `trio.testing` imports all of pytest where that is installed, a second of work.
    return _private(import_module("trio._core._mock_clock"), "MockClock")(autojump_threshold=0)


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
def _scheduled_by(seed: int) -> Iterator[None]:
    """Let trio order the tasks of each pass by a generator seeded with `seed`; afterwards as before."""
    scheduler = _private(trio._core, "_run")
    before = _private(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING")
    random = _private(scheduler, "_r")
    state = random.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before


def _private(owner: object, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        raise RuntimeError(f"trio {trio.__version__} has no {name}: virtual time must be taught its ways") from None
