"""Virtual time on asyncio: an event loop that moves its clock where others wait for I/O. Part of `virtual_time`.

It has no selector, no socket and no thread. It leans on four names that are private to `asyncio.BaseEventLoop`
(`_ready`, `_scheduled`, `_selector`, `_write_to_self`), which are the same from Python 3.11 to 3.14.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from random import Random
from typing import Any, TypeVar

import anyio

Result = TypeVar("Result")
MayJump = Callable[[float, float], bool]


def run_on_asyncio(program: Callable[[], Awaitable[Result]], *, may_jump: MayJump, seed: int) -> Result:
    """Run `program()` in virtual time; `may_jump(now, next_at)` is asked before the clock goes on.

    It answers False when the clock must not go on yet, and is asked again if nothing can run by then. It raises when the
    program must end where it stands.
    """
    options = {"loop_factory": lambda: _VirtualLoop(may_jump, Random(seed))}
    return anyio.run(program, backend="asyncio", backend_options=options)


class StepsOnAsyncio:
    """A program that runs only while `run_until` does."""

    def __init__(self, program: Callable[[], Awaitable[None]], *, may_jump: MayJump, seed: int) -> None:
        async def main() -> None:
            await program()

        loop = self._loop = _VirtualLoop(may_jump, Random(seed))
        self._runner = asyncio.Runner(loop_factory=lambda: loop)
        self._task = self._runner.get_loop().create_task(main())
        self._task.add_done_callback(lambda _: loop.stop())

    @property
    def has_ended(self) -> bool:
        """Whether the program has."""
        return self._task.done()

    def run_until(self, done: Callable[[], bool]) -> None:
        """Run until `done()`, or the program's end; its error is raised."""
        self._loop.is_done = done
        broken = True
        try:
            self._loop.run_forever()
            broken = False
        finally:
            self._loop.is_done = _never
            if broken or self._task.done():
                self._runner.close()
        if self._task.done():
            self._task.result()


def skip_on_asyncio(seconds: float) -> bool:
    """Move the clock on, if this runs in virtual time on asyncio; returns whether it does."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    if not isinstance(loop, _VirtualLoop):
        return False
    loop.skip(seconds)
    return True


def _never() -> bool:
    return False


class _NumberedTask(asyncio.Task[Any]):
    """A task that knows how many were made before it."""

    number = 0


class _VirtualLoop(asyncio.BaseEventLoop):
    """An event loop that draws the order of the tasks that are ready at the same instant, as trio does.

    Callbacks of other kinds keep their places: tasks change places only between two of them. Sorting by number first
    undoes the order in which anyio cancels the tasks of a scope, which hangs on memory addresses.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, may_jump: MayJump, random: Random) -> None:
        super().__init__()
        self._selector = self
        self._may_jump = may_jump
        self._random = random
        self._now = 0.0
        self._tasks_made = 0
        self._made_in_thread = threading.get_ident()
        self.is_done: Callable[[], bool] = _never
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Let that much time pass at once."""
        self._now += seconds

    def select(self, timeout: float | None) -> list[object]:
        """Called once in every pass; `timeout` is 0 while a callback is ready. There is never an event."""
        if self.is_done():
            self.stop()
        elif timeout == 0:
            if len(self._ready) > 1:
                self._shuffle()
        else:
            next_at = self._scheduled[0].when() if self._scheduled else inf
            if self._may_jump(self._now, next_at):
                self._now = next_at
        return []

    def _process_events(self, event_list: list[object]) -> None:
        """There is no I/O, so there are no events."""

    def _write_to_self(self) -> None:
        """Called when a callback comes from outside the loop. Raises RuntimeError if it comes from another thread."""
        if threading.get_ident() != self._made_in_thread:
            raise RuntimeError("no thread can wake a program that runs in virtual time")

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, /, **options: Any) -> _NumberedTask:
        task = _NumberedTask(coroutine, loop=loop, **options)
        self._tasks_made += 1
        task.number = self._tasks_made
        return task

    def _shuffle(self) -> None:
        ready, steps = self._ready, list[tuple[int, asyncio.Handle]]()
        for _ in range(len(ready)):
            handle = ready.popleft()
            task = getattr(getattr(handle, "_callback", None), "__self__", None)
            if isinstance(task, _NumberedTask):
                steps.append((task.number, handle))
            else:
                self._put_back(steps)
                ready.append(handle)
        self._put_back(steps)

    def _put_back(self, steps: list[tuple[int, asyncio.Handle]]) -> None:
        if len(steps) > 1:
            steps.sort(key=lambda step: step[0])
            self._random.shuffle(steps)
        self._ready.extend(handle for _, handle in steps)
        steps.clear()
