"""When to dial again, and when to stop trying (promise C7).

Two counters decide. The *budget* is the Connector's: dials in a row that did not reach CONNECTED, told in each
`AttemptFailed` and compared with `max_retries` here. The *pace* is kept here: the number of delays since the last link
that proved good, and so the exponent of the next one. A flapping broker resets the budget but not the pace: it is
dialled ever more slowly and never given up.

Pure: times are arguments, and the only randomness is the `Random` that was handed in. `actors/backoff_scheduler.py` is
its shell.
"""

import math
from random import Random
from typing import assert_never

from hawk.config import ReconnectionConfig
from hawk.messages import AttemptFailed, Dial, GaveUp, Lane, LinkDown, LinkUp, Reset, StandDown, ToBackoff
from hawk.values import Cause, Verdict

SLOWLY_FACTOR = 10
TAKEOVERS_ALLOWED = 2
TAKEOVER_WINDOW_S = 600.0


def ceiling_s(retry: int, config: ReconnectionConfig) -> float:
    """The delay before jitter, in seconds: min(cap, initial x multiplier^(retry - 1)). `retry` counts from 1.

    No number of retries overflows it.
    """
    try:
        # A float base: the power of an int would be computed in full, however long, before it met the cap.
        uncapped = config.initial_retry_delay * float(config.backoff_multiplier) ** (retry - 1)
    except OverflowError:
        return config.max_retry_delay
    return min(config.max_retry_delay, uncapped)


def wait_s(verdict: Verdict, retry: int, config: ReconnectionConfig) -> float:
    """The delay before jitter that this verdict asks for, in seconds; never above the cap."""
    if verdict is Verdict.AT_THE_CAP:
        return config.max_retry_delay
    delay_s = ceiling_s(retry, config)
    return min(config.max_retry_delay, SLOWLY_FACTOR * delay_s) if verdict is Verdict.SLOWLY else delay_s


def draw_delay_s(retry: int, config: ReconnectionConfig, random: Random) -> float:
    """The wait before that retry, in seconds: drawn around `ceiling_s`, never above the cap."""
    return _spread(ceiling_s(retry, config), config, random)


def _spread(delay_s: float, config: ReconnectionConfig, random: Random) -> float:
    # The bounds are capped, not what was drawn: clamping would put a whole fleet at exactly the cap.
    jitter = config.jitter_factor
    return random.uniform(delay_s * (1 - jitter), min(config.max_retry_delay, delay_s * (1 + jitter)))


class Backoff:
    """Decides from the Connector's messages. Each answer carries the number of the last request that it has heard.

    So a `Dial` or a `GaveUp` that crosses with a new request is known for stale, and the request has its own answer.
    """

    def __init__(self, config: ReconnectionConfig, *, stable_after_s: float, random: Random) -> None:
        self._config = config
        self._stable_after_s = stable_after_s
        self._random = random
        self._pace = 0
        self._deadline = math.inf
        self._request = 0
        self._lane: Lane | None = None
        self._up_since = math.inf
        self._takeovers: list[float] = []

    @property
    def deadline(self) -> float:
        """When `tick` will have a `Dial` to send; inf while nothing is waited for."""
        return self._deadline

    def tick(self, now: float) -> Dial | None:
        """The `Dial` to send once the deadline has come, and only once."""
        return self._dial() if now >= self._deadline else None

    def hear(self, message: ToBackoff, now: float) -> Dial | GaveUp | None:
        """Take one message of the Connector; returns the answer to send at once, if there is one."""
        match message:
            case Reset(request, afresh):
                return self._reset(request, afresh)
            case StandDown():
                self._deadline = math.inf
                # What is left of the last link was asked to end: its LinkDown must not lead to a dial.
                self._lane = None
            case AttemptFailed(cause, verdict, failures):
                spent = self._config.max_retries is not None and failures > self._config.max_retries
                return self._give_up(cause) if spent else self._wait_or_give_up(cause, verdict, now)
            case LinkUp(lane, _):
                self._lane, self._up_since, self._deadline = lane, now, math.inf
            case LinkDown(lane, cause, verdict, proven):
                return self._link_down(cause, verdict, proven, now) if lane is self._lane else None
            case _:
                assert_never(message)
        return None

    def _reset(self, request: int, afresh: bool) -> Dial:
        self._request = request
        if afresh:
            self._pace = 0
            self._takeovers.clear()
        return self._dial()

    def _dial(self) -> Dial:
        self._deadline = math.inf
        return Dial(self._request)

    def _give_up(self, cause: Cause) -> GaveUp:
        self._deadline = math.inf
        return GaveUp(self._request, cause)

    def _link_down(self, cause: Cause, verdict: Verdict, proven: bool, now: float) -> GaveUp | None:
        self._lane = None
        if proven and now - self._up_since >= self._stable_after_s:
            self._pace = 0
        if verdict is Verdict.AT_THE_CAP:
            # hawk's own waits at the cap must fit between three take-overs, or the third would always come too late.
            window_s = max(TAKEOVER_WINDOW_S, 2.5 * self._config.max_retry_delay)
            self._takeovers = [at for at in self._takeovers if now - at <= window_s] + [now]
            if len(self._takeovers) > TAKEOVERS_ALLOWED:
                return self._give_up(
                    cause._replace(text=f"{cause.text}: another client uses the same client identifier")
                )
        return self._wait_or_give_up(cause, verdict, now)

    def _wait_or_give_up(self, cause: Cause, verdict: Verdict, now: float) -> GaveUp | None:
        if verdict is Verdict.NEVER:
            return self._give_up(cause)
        self._pace += 1
        self._deadline = now + _spread(wait_s(verdict, self._pace, self._config), self._config, self._random)
        return None
