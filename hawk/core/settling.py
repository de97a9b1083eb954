"""What came back: acknowledgements and what follows from each, or none of them, or a link that died of a message."""

import math
from collections.abc import Sequence

from hawk.config import Config
from hawk.core.answers import Judge, explain_refused_publish, judge_refusal
from hawk.core.backlog import Backlog
from hawk.core.backoff import wait_s
from hawk.core.commits import Commits
from hawk.core.deferrals import Deferrals
from hawk.core.delivery import Entry, Next, unknown_releases
from hawk.core.fates import ACKNOWLEDGED, Fates
from hawk.core.poison import Poison
from hawk.core.window import Window
from hawk.packets import AckKind, Acknowledgement
from hawk.values import Cause, Fate, FateKind, Verdict

UNSPECIFIED_ERROR = 0x80


class Settling:
    """Of one link at a time, which `begin` announces. `judge`: says what follows where the broker refuses a message."""

    def __init__(
        self,
        config: Config,
        window: Window,
        backlog: Backlog,
        deferrals: Deferrals,
        fates: Fates,
        commits: Commits,
        *,
        judge: Judge,
    ) -> None:
        self._config = config
        self._window = window
        self._backlog = backlog
        self._deferrals = deferrals
        self._fates = fates
        self._commits = commits
        self._judge = judge
        self._poison = Poison()
        self._acknowledged = False
        self._progress_at = 0.0

    def begin(self, now: float) -> None:
        """A new link is up, on which nothing was acknowledged yet."""
        self._acknowledged = False
        self._progress_at = now

    def suspect(self) -> None:
        """What is under way goes out alone, if the broker may not bear it. Once `begin` and the window know the link."""
        if not self._window.returned:
            self._poison.acquit()
        self._window.isolated = self._poison.isolating

    def settle(
        self, acknowledgements: Sequence[Acknowledgement], now: float, *, acknowledged: Sequence[int] = ()
    ) -> list[Acknowledgement]:
        """Acknowledgements came in; `acknowledged` are the plain PUBACKs before them. Returns what is said to them."""
        window, answers = self._window, list[Acknowledgement]()
        completed, others = window.complete_run(acknowledged)
        if completed:
            self._note_progress(now)
            self._fates.end_all(completed)
        unknown: list[Acknowledgement] = []
        for acknowledgement in (*others, *acknowledgements):
            following, entry = window.acknowledge(acknowledgement)
            if entry is None:
                unknown.append(acknowledgement)
                continue
            if following is Next.IGNORE:
                continue
            self._note_progress(now)
            if following is Next.COMPLETE:
                self._fates.end(entry, ACKNOWLEDGED)
            elif following is Next.RELEASE:
                if self._commits.durable:
                    self._commits.progress(entry)
                else:
                    answers.append(Acknowledgement(AckKind.PUBREL, entry.identifier))
            else:
                self._refused(entry, acknowledgement.reason_code, now)
        return answers + unknown_releases(unknown)

    def _note_progress(self, now: float) -> None:
        self._progress_at = now
        if not self._acknowledged:
            self._acknowledged, self._window.isolated = True, False
            self._poison.acquit()

    def _refused(self, entry: Entry, reason_code: int, now: float) -> None:
        entry.refusals += 1
        verdict = judge_refusal("PUBACK" if entry.message.qos == 1 else "PUBREC", reason_code, self._judge)
        if verdict is Verdict.NEVER or entry.refusals > self._config.message_retry_limit:
            why = f"the broker refused the message: {explain_refused_publish(reason_code)}"
            self._fates.end(entry, Fate(FateKind.DEAD_LETTERED, why, reason_code))
            return
        identifier, entry.identifier = entry.identifier, 0
        self._commits.progress(entry, identifier)
        self._deferrals.add(entry, now + wait_s(verdict, entry.refusals, self._config.reconnection))
        self._backlog.expiries.add(entry)

    def lose(self, cause: Cause, *, alone: bool, proven: bool) -> None:
        """The link died: perhaps the broker cannot bear the oldest entry, if it has acknowledged nothing on that link.

        `alone`: nothing at QoS 0 was on its way beside it. `proven`: a ping or anything else had been answered.
        """
        if self._acknowledged:
            return
        oldest, alone = self._window.oldest, alone and self._window.awaiting == 1
        suspect = 0 if oldest is None else oldest.number
        if not self._poison.lost(cause, suspect, alone=alone, proven=proven) or oldest is None:
            return
        why = f"the broker closed the link again and again while this message alone was under way ({cause})"
        fate = Fate(FateKind.DEAD_LETTERED, why, cause.reason_code or UNSPECIFIED_ERROR)
        self._fates.end(oldest, fate, withholds=self._window.set_aside(oldest))

    # ---------------------------------------------------------------------------------------- the stall

    def note_idle(self, now: float) -> None:
        """The broker owes an acknowledgement from now on only, if there is none that it owes already."""
        if not self._window.awaiting:
            self._progress_at = now

    def stalled(self, now: float) -> bool:
        """Whether the broker has acknowledged nothing for `ack_timeout_s`; told again after as long once more."""
        if now < self.deadline():
            return False
        self._progress_at = now
        return True

    def deadline(self) -> float:
        """When the broker will have stalled; inf for never."""
        return self._progress_at + self._config.ack_timeout_s if self._window.awaiting else math.inf
