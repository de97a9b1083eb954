"""Whether a link is alive: when to ping, and when silence or a stuck write means that it is dead (promise C6).

Pure; times are arguments. `actors/health_probe.py` is its shell.

What it knows comes in `Traffic` reports, at most four in a keep alive. It relies on this: whatever a link hears or
writes is reported within a quarter of the keep alive, also when nothing follows. A report can therefore be a quarter
old, and that quarter is allowed for once, before a hang-up. With K the keep alive and P the ping timeout, a link that
fell silent at 0 is pinged by 3/4 K and hung up by K + P, or by 1.5 K + P where a write may hold the ping up: inside C6's
bound. A write that gets further is a peer that reads, and is given time for as long as it does: also where it is too long
for what is in it to be acknowledged in time. A busy link is known to be at most half a keep alive old, and so is never pinged.
"""

import math
from typing import assert_never

from hawk.messages import Hangup, Lane, LinkDown, LinkUp, Ping, Stalled, ToHealthProbe, Traffic

PING_AFTER = 0.75
REPORT_DELAY = 0.25


class Liveness:
    """Watches one link at a time; what is about another lane is dropped, and so is what follows a `Hangup`.

    `keep_alive_s` is the one asked for. It stands in where the broker's own is 0: hawk pings also a broker that does
    not ask for it.
    """

    def __init__(self, *, keep_alive_s: float, ping_timeout_s: float, ack_timeout_s: float) -> None:
        self._asked_keep_alive_s = keep_alive_s
        self._ping_timeout_s = ping_timeout_s
        self._ack_timeout_s = ack_timeout_s
        self._lane: Lane | None = None
        self._keep_alive_s = keep_alive_s
        self._heard_at = self._wrote_at = self._last_write_at = math.inf
        self._write_since: float | None = None
        self._further_at = -math.inf
        self._pinged_at: float | None = None
        self._woke_late_at = -math.inf
        self._was_late = False

    @property
    def deadline(self) -> float:
        """When `tick` will have something to decide, unless a message changes it; inf without a link."""
        if self._lane is None:
            return math.inf
        return min(self._write_deadline, self._silence_deadline)

    def hear(self, message: ToHealthProbe, now: float) -> Hangup | None:
        """Take one message; returns the `Hangup` to send at once, if there is one."""
        if isinstance(message, LinkUp):
            self._watch(message.lane, message.keep_alive_s or self._asked_keep_alive_s, now)
            return None
        if message.lane is not self._lane:
            return None
        match message:
            case LinkDown():
                self._lane = None
            case Traffic(_, heard_at, wrote_at, write_since):
                before = self._write_since if wrote_at == self._last_write_at else None
                if before is not None and write_since is not None and before < write_since:
                    # The same write, and it got further.
                    self._further_at = write_since
                self._heard_at = max(self._heard_at, heard_at)
                self._wrote_at = max(self._wrote_at, wrote_at)
                self._last_write_at, self._write_since = wrote_at, write_since
                if self._pinged_at is not None and self._heard_at >= self._pinged_at:
                    self._pinged_at, self._was_late = None, False
            case Stalled():
                if self._got_on_since(now - self._ack_timeout_s):
                    return None
                return self._hang_up(message.lane, "nothing acknowledged in time")
            case _:
                assert_never(message)
        return None

    def tick(self, now: float) -> Ping | Hangup | None:
        """What is due by now. Asked much too late (the process was suspended), it pings once before it hangs up."""
        lane, late_s = self._lane, now - self.deadline
        if lane is None or late_s < 0:
            return None
        if late_s > min(self._ping_timeout_s, self._keep_alive_s) and not self._was_late:
            # The answer may lie unread in the socket, and a write may have had no chance to go on.
            self._was_late, self._woke_late_at = True, now
            return self._ping(lane, now)
        if now >= self._write_deadline:
            return self._hang_up(lane, "a write did not end within the keep alive")
        if self._pinged_at is not None:
            return self._hang_up(lane, "no answer to a ping")
        return self._ping(lane, now)

    def _got_on_since(self, at: float) -> bool:
        """Whether one write has gone on since then, or got further. Any write will not do: some links are never idle."""
        goes_on = self._write_since is not None and self._last_write_at <= at
        return goes_on or self._further_at > at

    @property
    def _write_deadline(self) -> float:
        if self._write_since is None:
            return math.inf
        return max(self._write_since, self._woke_late_at) + (1 + REPORT_DELAY) * self._keep_alive_s

    @property
    def _silence_deadline(self) -> float:
        if self._pinged_at is not None:
            pong_due = self._pinged_at + self._ping_timeout_s + REPORT_DELAY * self._keep_alive_s
            # The ping may stand behind a long write, or behind what the system has taken of it and not sent yet.
            margin_s = 2 * REPORT_DELAY * self._keep_alive_s
            if self._write_since is not None:
                pong_due = max(pong_due, min(self._write_since, pong_due) + margin_s)
            return max(pong_due, self._further_at + REPORT_DELAY * self._keep_alive_s + margin_s + self._ping_timeout_s)
        return min(self._heard_at, self._wrote_at) + PING_AFTER * self._keep_alive_s

    def _watch(self, lane: Lane, keep_alive_s: float, now: float) -> None:
        self._lane, self._keep_alive_s = lane, keep_alive_s
        self._heard_at = self._wrote_at = self._last_write_at = now
        self._write_since = self._pinged_at = None
        self._further_at = -math.inf
        self._woke_late_at, self._was_late = -math.inf, False

    def _ping(self, lane: Lane, now: float) -> Ping:
        self._pinged_at = now
        # A ping is a write, reported or not: otherwise the next would be due at once.
        self._wrote_at = max(self._wrote_at, now)
        return Ping(lane)

    def _hang_up(self, lane: Lane, why: str) -> Hangup:
        self._lane = None
        return Hangup(lane, why)
