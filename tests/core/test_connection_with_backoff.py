"""The table and the backoff together, their messages crossing in every way: hawk never forgets to dial.

Two queues stand for the two inboxes. Hypothesis chooses who reads next, what the network does, and when time passes.
"""

import math
from collections import deque
from dataclasses import dataclass
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hawk.config import ReconnectionConfig
from hawk.core.backoff import Backoff
from hawk.core.connection import Effect, Happening, State, advance
from hawk.messages import AttemptFailed, Dial, GaveUp, LinkDown, LinkUp, Reset, StandDown, ToBackoff, Transmit
from hawk.values import Cause, CauseKind, Verdict

CAUSE = Cause(CauseKind.UNREACHABLE, "nobody listens")
CAP_S = 300.0


@dataclass(frozen=True, eq=False)
class FakeLane:
    number: int = 1

    def send_nowait(self, transmit: Transmit, /) -> None:
        raise AssertionError("a core sends nothing")


class ConnectorAndBackoff(RuleBasedStateMachine):
    """The Connector's shell in miniature: it knows which attempt and which lane are the present ones."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.state = State.DISCONNECTED
        self.to_backoff: deque[ToBackoff] = deque()
        self.to_connector: deque[Dial | GaveUp] = deque()
        self.request = 0
        self.attempt: int | None = None
        self.attempts = self.failures = self.dials_since_open = self.cut_short = 0
        self.lane: FakeLane | None = None
        self.verdict = Verdict.AGAIN
        self.not_before = -math.inf

    @initialize(max_retries=st.none() | st.integers(0, 3), seed=st.integers(0, 1000))
    def begin(self, max_retries: int | None, seed: int) -> None:
        config = ReconnectionConfig(max_retries=max_retries, max_retry_delay=CAP_S)
        self.max_retries = max_retries
        self.backoff = Backoff(config, stable_after_s=30.0, random=Random(seed))

    def take(self, happening: Happening) -> None:
        step = advance(self.state, happening)
        self.state = step.state
        for effect in step.effects:
            match effect:
                case Effect.ASK_TO_DIAL:
                    self.request += 1
                    self.cut_short += 1
                    self.to_backoff.append(Reset(self.request, afresh=False))
                case Effect.ASK_TO_DIAL_AFRESH:
                    self.failures = self.dials_since_open = self.cut_short = 0
                    self.request += 1
                    self.to_backoff.append(Reset(self.request, afresh=True))
                case Effect.STAND_DOWN:
                    self.request += 1
                    self.to_backoff.append(StandDown())
                case Effect.START_DIAL:
                    assert self.attempt is None
                    self.attempts += 1
                    self.dials_since_open += 1
                    self.attempt = self.attempts
                case Effect.CANCEL_DIAL:
                    self.attempt = None
                case Effect.REPORT_FAILURE:
                    self.attempt = None
                    self.failures += 1
                    self.to_backoff.append(AttemptFailed(CAUSE, self.verdict, self.failures))
                case Effect.ADOPT_LINK:
                    assert self.lane is None
                    self.attempt, self.failures, self.dials_since_open, self.cut_short = None, 0, 0, 0
                    self.lane = FakeLane(self.attempts)
                    self.to_backoff.append(LinkUp(self.lane, 60.0))
                case Effect.ANNOUNCE_DOWN:
                    assert self.lane is not None
                    self.to_backoff.append(LinkDown(self.lane, CAUSE, self.verdict, proven=True))
                    self.lane = None
                case _:
                    pass  # about links and applications, of which there is nothing here

    @rule()
    def open(self) -> None:
        self.take(Happening.OPEN)

    @rule()
    def close(self) -> None:
        self.take(Happening.CLOSE)

    @precondition(lambda self: self.attempt is not None)
    @rule()
    def dial_succeeds(self) -> None:
        self.take(Happening.DIALED)

    @precondition(lambda self: self.attempt is not None)
    @rule(verdict=st.sampled_from([Verdict.AGAIN, Verdict.SLOWLY, Verdict.NEVER]))
    def dial_fails(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.take(Happening.DIAL_FAILED)

    @precondition(lambda self: self.lane is not None)
    @rule(verdict=st.sampled_from(Verdict))
    def link_ends(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.take(Happening.LOST)

    @precondition(lambda self: self.to_connector)
    @rule()
    def connector_reads(self) -> None:
        answer = self.to_connector.popleft()
        present = answer.request == self.request
        match answer:
            case Dial():
                self.take(Happening.DIAL if present else Happening.STALE_DIAL)
            case GaveUp():
                self.take(Happening.GAVE_UP if present else Happening.STALE_GAVE_UP)

    @precondition(lambda self: self.to_backoff)
    @rule()
    def backoff_reads(self) -> None:
        answer = self.backoff.hear(self.to_backoff.popleft(), self.now)
        if answer is not None:
            self.to_connector.append(answer)

    @rule(share=st.floats(0.0, 1.0))
    def time_passes(self, share: float) -> None:
        wait_s = self.backoff.deadline - self.now
        self.now += share * 100.0 if math.isinf(wait_s) else max(0.0, share * 1.2 * wait_s)
        # As `receive_by` does: what waits comes first, the deadline counts at an empty inbox.
        if not self.to_backoff:
            answer = self.backoff.tick(self.now)
            if answer is not None:
                self.to_connector.append(answer)

    @invariant()
    def whoever_waits_for_a_dial_will_get_it(self) -> None:
        if self.state in (State.ASKED, State.WAITING, State.REASKED) and not self.to_backoff and not self.to_connector:
            assert self.backoff.deadline <= self.now + CAP_S

    @invariant()
    def nothing_is_timed_while_nothing_is_wanted(self) -> None:
        if self.state in (State.DISCONNECTED, State.FAILED, State.CLOSING) and not self.to_backoff:
            assert self.backoff.deadline == math.inf

    @invariant()
    def max_retries_means_one_dial_more(self) -> None:
        """Each Open that cuts a wait short may have crossed with the GaveUp, and then has a dial of its own."""
        if self.max_retries is not None:
            assert self.dials_since_open <= self.max_retries + 1 + self.cut_short

    @invariant()
    def a_dial_and_a_link_exclude_each_other(self) -> None:
        assert self.attempt is None or self.lane is None


ConnectorAndBackoff.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestConnectorAndBackoff = ConnectorAndBackoff.TestCase
