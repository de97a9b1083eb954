"""Virtual time that somebody can watch: it passes no faster than so many times the wall clock. Part of `virtual_time`.

It is asked where the event loop is about to move its clock, outside of every task. Whoever is held back there is the
whole program, and cannot tell: so a run that is paced does exactly what it does otherwise.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

Look = Callable[[float], None]
"""Is called with the virtual time, outside of every task, and must not touch the program."""

LONGEST_NAP_S = 0.05
"""So soon a Ctrl-C is heard."""

MOST_BEHIND_S = 0.25
"""What a run that was held up longer has missed is not caught up: it would rush by."""

LOOK_EVERY_S = 0.2
_LOOKS_COST_AT_MOST = 0.2


class Pace:
    """How fast virtual time may pass: `speed` virtual seconds in one second of the wall clock, at most."""

    def __init__(
        self,
        speed: float = inf,
        *,
        wall_clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed!r}")
        self._speed = speed
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._is_kept = False
        self._on_look: Look | None = None
        self._next_look_at = -inf
        self._agreed_at: tuple[float, float] | None = None
        """The virtual instant from which the time is measured, and when it was by the wall clock."""

    @contextmanager
    def kept(self, on_look: Look | None = None) -> Iterator[None]:
        """Keep to it for the length of a block, and call `on_look` a few times a second by the wall clock.

        Before and after, virtual time passes as fast as it can: whoever leaves early is not held up.
        """
        self._is_kept, self._on_look, self._agreed_at = True, on_look, None
        try:
            yield
        finally:
            self._is_kept, self._on_look = False, None

    def may_jump(self, now: float, next_at: float) -> bool:
        """Whether the virtual `next_at` has come. If not, some of the time until then was slept through: ask again."""
        if not self._is_kept:
            return True
        wall_at = self._wall_clock()
        if self._agreed_at is None:
            self._agreed_at = (now, wall_at)
        virtual_at, agreed_wall_at = self._agreed_at
        early_s = agreed_wall_at + (next_at - virtual_at) / self._speed - wall_at
        # Between two deadlines nothing happens, but time goes on, and whoever looks shall see that.
        self._let_look(now if early_s <= 0 else max(now, next_at - early_s * self._speed), wall_at)
        if early_s > 0:
            self._sleep(min(early_s, LONGEST_NAP_S))
        elif early_s < -MOST_BEHIND_S:
            self._agreed_at = (next_at, wall_at)
        return early_s <= LONGEST_NAP_S

    def _let_look(self, now: float, wall_at: float) -> None:
        if self._on_look is not None and wall_at >= self._next_look_at:
            self._on_look(now)
            ended_at = self._wall_clock()
            self._next_look_at = ended_at + until_next_look_s(ended_at - wall_at)


def until_next_look_s(cost_s: float) -> float:
    """How long to wait after a look that took so long: looking on takes a fifth of the time at most."""
    return max(LOOK_EVERY_S, cost_s / _LOOKS_COST_AT_MOST - cost_s)
