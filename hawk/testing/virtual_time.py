"""Virtual time: a program runs as fast as it can compute, and one seed gives one interleaving, on both backends.

Whenever every task waits, the clock jumps to the next deadline; while any task can run, time stands still. So
`anyio.current_time()`, sleeps and deadlines agree with each other, and a virtual day lasts about a second.

Not for anything outside the process: there are no sockets, files or threads in virtual time. Whoever waited for one
would see time run away (trio), or be told that nothing is left to run (asyncio).
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Literal, TypeVar, TypeVarTuple

import anyio

from hawk.offload import TIME_IS_VIRTUAL
from hawk.testing.virtual_asyncio import StepsOnAsyncio, run_on_asyncio, skip_on_asyncio
from hawk.testing.virtual_pace import Pace
from hawk.testing.virtual_trio import StepsOnTrio, run_on_trio, skip_on_trio

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")
Backend = Literal["trio", "asyncio"]

DAY_S = 86_400.0
MOST_S = 90 * DAY_S
"""The longest limit: beyond it floating point no longer tells instants apart as finely as asyncio's timers need."""

_GRACE_S = 3600.0


class VirtualTimeExceeded(Exception):
    """The program was still waiting for a deadline when its limit of virtual time was used up."""


class DeadEnd(Exception):
    """Every task of the program waits for another one, and no deadline will ever wake any."""


def run(
    async_function: Callable[[*Arguments], Awaitable[Result]],
    *arguments: *Arguments,
    backend: Backend = "trio",
    seed: int = 0,
    limit_s: float = 7 * DAY_S,
    pace: Pace | None = None,
) -> Result:
    """Run `async_function(*arguments)` in virtual time, which begins at 0, and return what it returns.

    Tasks that can run at the same instant run in an order drawn from `seed`; the same seed draws the same order again.
    Raises `DeadEnd` when nothing can ever run again, and `VirtualTimeExceeded` after `limit_s` (at most `MOST_S`). The
    program is cancelled first. If that does not end it within a virtual hour, it is abandoned where it stands.
    Where the program keeps to `pace`, somebody can watch it, and it does the same.
    Whatever is raised carries a note that says how to run the same again.
    """
    horizon = _Horizon(limit_s, pace)

    async def program() -> Result:
        TIME_IS_VIRTUAL.set(True)
        with horizon.entered():
            result = await async_function(*arguments)
        horizon.raise_if_passed()
        return result

    with horizon.noted(seed, backend):
        if backend == "asyncio":
            return run_on_asyncio(program, may_jump=horizon.may_jump, seed=seed)
        return run_on_trio(program, may_jump=horizon.may_jump, seed=seed)


class SteppedRun:
    """As `run`, but the program runs only while `run_until` does: between two calls its world stands still.

    For synchronous code that must have its say in between, such as a state machine of Hypothesis. What belongs to the
    program may be looked at meanwhile, and an `anyio.Event` of it may be set. Let it end: call until `has_ended`.
    """

    def __init__(
        self,
        async_function: Callable[[], Awaitable[None]],
        *,
        backend: Backend = "trio",
        seed: int = 0,
        limit_s: float = 7 * DAY_S,
    ) -> None:
        horizon = self._horizon = _Horizon(limit_s)
        self._backend: Backend = backend
        self._seed = seed

        async def program() -> None:
            TIME_IS_VIRTUAL.set(True)
            with horizon.entered():
                await async_function()
            horizon.raise_if_passed()

        steps = StepsOnAsyncio if backend == "asyncio" else StepsOnTrio
        self._steps: StepsOnAsyncio | StepsOnTrio = steps(program, may_jump=horizon.may_jump, seed=seed)

    @property
    def has_ended(self) -> bool:
        """Whether the program has returned or raised."""
        return self._steps.has_ended

    def run_until(self, done: Callable[[], bool]) -> None:
        """Let the program run until `done()`, which is asked again and again; at the latest until it ends.

        Raises what the program raises, as `run` does.
        """
        with self._horizon.noted(self._seed, self._backend):
            self._steps.run_until(done)


def skip(seconds: float) -> None:
    """Let that much time pass at once while nobody runs, as on a computer that sleeps; deadlines in it are due then.

    Called inside a program that `run` runs. Raises RuntimeError anywhere else, and ValueError below 0.
    """
    if seconds < 0:
        raise ValueError("time goes forward only")
    if not (skip_on_trio(seconds) or skip_on_asyncio(seconds)):
        raise RuntimeError("only virtual time can be skipped")


class VirtualWallClock:
    """A calendar that goes with the event loop's clock; implements `hawk.ports.WallClock`.

    Made inside the running program, it shows `epoch_at` (seconds since the epoch) at that moment. Changing `epoch_at`
    later is what somebody does who sets the computer's clock.
    """

    def __init__(self, epoch_at: float = 1_700_000_000.0) -> None:
        self.epoch_at = epoch_at
        self._started_at = anyio.current_time()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.epoch_at + anyio.current_time() - self._started_at


class _Horizon:
    """How far virtual time may go, and what happens at the end: cancel once, then give up the run."""

    def __init__(self, limit_s: float, pace: Pace | None = None) -> None:
        if not 0 < limit_s <= MOST_S:
            raise ValueError(f"limit_s must be above 0 and at most {MOST_S:g}, not {limit_s!r}")
        self.error: Exception | None = None
        self._scope: anyio.CancelScope | None = None
        self._pace = pace
        self._limit_s = limit_s
        self._ends_at = limit_s

    def entered(self) -> anyio.CancelScope:
        """The scope to run the program in; made here because anyio makes scopes only inside an event loop."""
        self._scope = anyio.CancelScope()
        return self._scope

    def may_jump(self, now: float, next_at: float) -> bool:
        """Whether the clock may jump to `next_at` (inf: there is none). If not, it is too early for that by the pace, or the
        program has been cancelled.

        Raises what ended the program when cancelling it has not helped.
        """
        if next_at <= self._ends_at:
            return self._pace is None or self._keep_to(self._pace, now, next_at)
        if self.error is not None:
            self.error.add_note("Even cancelled, the program did not end: something waits in a shielded scope.")
            raise self.error
        if next_at == inf:
            self.error = DeadEnd(
                f"at {now:.3f} s every task waits, and there is no deadline to wake one; no thread (anyio.to_thread) and no "
                "socket can, in virtual time"
            )
        else:
            self.error = VirtualTimeExceeded(f"still running after {self._limit_s:g} s of virtual time")
        self._ends_at = now + _GRACE_S
        if self._scope is not None:
            self._scope.cancel()
        return False

    def _keep_to(self, pace: Pace, now: float, next_at: float) -> bool:
        try:
            return pace.may_jump(now, next_at)
        except Exception as error:
            # Whoever looked on has raised it: on trio it does not come up through the program by itself.
            self.error = error
            raise

    def raise_if_passed(self) -> None:
        if self.error is not None:
            raise self.error

    @contextmanager
    def noted(self, seed: int, backend: Backend) -> Iterator[None]:
        """Raise what ended the program, or what it raised, with a note on how to run the same again."""
        try:
            yield
        except BaseException as error:
            told = error
            if self.error is not None and error is not self.error:
                self.error.__cause__ = error
                told = self.error
            told.add_note(f"replay with seed={seed}, backend={backend!r}")
            if told is error:
                raise
            raise told from error
