"""One hawk for one command: reach the broker in time, do the work, and end for the first reason that comes.

Reasons are: the work is done, the time is over, hawk gave up, Ctrl-C, SIGTERM. Each is an `Outcome`, so that a command
ends in one way only. What the work does is the command's own affair.
"""

import math
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple, TypeAlias

import anyio

from hawk.cli.exit_codes import ExitCode
from hawk.cli.outcome import Outcome, outcome_of
from hawk.config import Config
from hawk.core.tally import Stats
from hawk.errors import GaveUp, HawkError
from hawk.interface import MQTTInterface
from hawk.messages import StateChanged
from hawk.streams import EventStream
from hawk.values import Cause, ConnectionState

REACH_S = 30.0
"""How long a broker may take to be reached, where nothing else is said."""

Work: TypeAlias = Callable[[MQTTInterface], Awaitable[Outcome]]

_INTERRUPTED = Outcome(ExitCode.INTERRUPTED)
TERMINATED = Outcome(ExitCode.OK, "stopped by SIGTERM")


class Patience(NamedTuple):
    """`reach_s`: how long until the broker must be reached. `whole_s`: how long the command may take in all."""

    reach_s: float
    whole_s: float


class Ended(NamedTuple):
    """What is left of a hawk that has stopped."""

    outcome: Outcome
    stats: Stats


def patience_of(wait_s: float | None, *, retry: bool, in_all: bool) -> Patience:
    """What `-W` and `--retry` mean. `in_all`: without `-W` the 30 seconds are for the whole command."""
    if wait_s is not None:
        return Patience(wait_s, wait_s)
    if retry:
        return Patience(math.inf, math.inf)
    return Patience(REACH_S, REACH_S if in_all else math.inf)


async def run_session(
    config: Config, patience: Patience, work: Work, *, finish: Callable[[], None] | None = None
) -> Ended:
    """Reach the broker, do the `work` and stop. What the work raises of `HawkError` and `OSError` is its outcome.

    SIGTERM calls `finish`, which makes the work end by itself, and leaves it `drain_s` for that; without `finish` it
    ends the work, and so does a second one. Ctrl-C ends it at once, and leaves `cancel_drain_s` to what is on its way.
    Cancelling stops hawk as Ctrl-C does.
    """
    # Around everything else: from here on no Ctrl-C can come up as an exception in the middle of something.
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as nursery:
            mqtt = MQTTInterface(config, nursery)
            session = _Session(config, patience, mqtt)
            async with anyio.create_task_group() as watchers:
                watchers.start_soon(session.watch_signals, signals, finish)
                await session.run(work)
                await mqtt.disconnect(drain_s=session.drain_s)
                watchers.cancel_scope.cancel()
    return Ended(session.outcome, mqtt.stats)


class _Session:
    """Who may end a command, and what they find when they do. The first one's outcome counts."""

    def __init__(self, config: Config, patience: Patience, mqtt: MQTTInterface) -> None:
        self._config = config
        self._patience = patience
        self._mqtt = mqtt
        self._scope = anyio.CancelScope()
        self._was_reached = False
        self._is_finishing = False
        self._cause: Cause | None = None
        self._outcome: Outcome | None = None
        self.drain_s = 0.0

    @property
    def outcome(self) -> Outcome:
        """How it ended. If nobody said so, the time that SIGTERM left to finish was over."""
        return self._outcome or TERMINATED

    async def run(self, work: Work) -> None:
        """Until somebody ends it."""
        events = self._mqtt.events()
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_events, events)
                tasks.start_soon(self._watch_time)
                if self._config.outbox is not None:
                    tasks.start_soon(self._reach)
                await self._work(work)
        events.close()

    async def watch_signals(self, signals: AsyncIterator[signal.Signals], finish: Callable[[], None] | None) -> None:
        """Ctrl-C ends the work, SIGTERM lets it finish; a second signal ends that, too."""
        async for number in signals:
            if number is signal.SIGINT:
                self._end(_INTERRUPTED, drain_s=self._config.cancel_drain_s)
            elif finish is not None and self._was_reached and not self._is_finishing:
                self._is_finishing = True
                finish()
                self._scope.deadline = anyio.current_time() + self._config.drain_s
            else:
                self._end(TERMINATED, drain_s=0.0 if self._is_finishing else self._config.drain_s)

    async def _reach(self) -> None:
        try:
            await self._mqtt.connect()
            self._was_reached = True
        except HawkError as error:
            self._end(outcome_of(error), drain_s=self._config.drain_s)

    async def _work(self, work: Work) -> None:
        try:
            if self._config.outbox is None:
                await self._mqtt.connect()
                self._was_reached = True
            # With a file the work need not wait for the broker: what it accepts is kept.
            outcome = await work(self._mqtt)
        except (HawkError, OSError) as error:
            outcome = outcome_of(error)
        self._end(outcome, drain_s=self._config.drain_s)

    async def _watch_events(self, events: EventStream) -> None:
        """Keep the last cause of trouble, and end when hawk tries no more."""
        async for event in events:
            if not isinstance(event, StateChanged):
                continue
            self._cause = event.cause or self._cause
            if event.after is ConnectionState.CONNECTED:
                self._was_reached = True
            elif event.after is ConnectionState.FAILED:
                code = None if event.cause is None else event.cause.reason_code
                attempts = self._mqtt.stats["consecutive_failures"]
                self._end(outcome_of(GaveUp(str(event.cause), attempts=attempts, reason_code=code)))

    async def _watch_time(self) -> None:
        begun_at = anyio.current_time()
        await anyio.sleep(self._patience.reach_s)
        if not self._was_reached:
            self._end(self._unreachable())
        await anyio.sleep_until(begun_at + self._patience.whole_s)
        self._end(Outcome(ExitCode.TIMED_OUT, f"timed out after {self._patience.whole_s:g} s"))

    def _unreachable(self) -> Outcome:
        why = f"no broker at {', '.join(map(str, self._config.addresses))} within {self._patience.reach_s:g} s"
        cause = self._cause
        if cause is None:
            return Outcome(ExitCode.UNREACHABLE, why)
        code = ExitCode.UNREACHABLE if cause.reason_code is None else ExitCode.REFUSED
        return Outcome(code, f"{why}: {cause}", cause.reason_code)

    def _end(self, outcome: Outcome, *, drain_s: float = 0.0) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self.drain_s = drain_s
        self._scope.cancel()
