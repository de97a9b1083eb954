"""Promise C7: when hawk dials again, and when it stops trying."""

import math
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.config import ReconnectionConfig
from hawk.core.backoff import Backoff, ceiling_s, draw_delay_s
from hawk.messages import AttemptFailed, Dial, GaveUp, LinkDown, LinkUp, Reset, StandDown, Transmit
from hawk.values import Cause, CauseKind, Verdict

REFUSED = Cause(CauseKind.UNREACHABLE, "nobody listens")
TAKEN_OVER = Cause(CauseKind.DISCONNECT, "Session taken over", 0x8E)
STABLE_S = 30.0

retries = st.integers(1, 200) | st.integers(1, 10**9) | st.just(10**9)
seeds = st.integers(0, 2**32)


@dataclass(frozen=True, eq=False)
class FakeLane:
    number: int = 1

    def send_nowait(self, transmit: Transmit, /) -> None:
        raise AssertionError("a core sends nothing")


@st.composite
def configs(draw: st.DrawFn, jitter: st.SearchStrategy[float] | None = None) -> ReconnectionConfig:
    initial = draw(st.floats(0.001, 1e6))
    return ReconnectionConfig(
        max_retries=None,
        initial_retry_delay=initial,
        max_retry_delay=draw(st.floats(initial, 1e308)),
        backoff_multiplier=draw(st.floats(1.0, 1e6) | st.integers(1, 10)),
        jitter_factor=draw(st.floats(0.0, 1.0) if jitter is None else jitter),
    )


def backoff(seed: int = 1, **settings: Any) -> Backoff:
    config = ReconnectionConfig(**{"max_retries": None, **settings})
    return Backoff(config, stable_after_s=STABLE_S, random=Random(seed))


def failed(failures: int = 1, verdict: Verdict = Verdict.AGAIN) -> AttemptFailed:
    return AttemptFailed(REFUSED, verdict, failures)


@given(configs(), retries, seeds)
def test_every_wait_lies_in_its_band_and_never_above_the_cap(config: ReconnectionConfig, retry: int, seed: int) -> None:
    middle, jitter = ceiling_s(retry, config), config.jitter_factor
    drawn = draw_delay_s(retry, config, Random(seed))
    assert middle * (1 - jitter) <= drawn <= min(config.max_retry_delay, middle * (1 + jitter))
    assert middle <= config.max_retry_delay


@given(configs(), retries, retries)
def test_the_envelope_never_falls(config: ReconnectionConfig, one: int, other: int) -> None:
    assert ceiling_s(min(one, other), config) <= ceiling_s(max(one, other), config)


@given(configs(jitter=st.just(0.0)), retries, seeds)
def test_without_jitter_the_wait_is_exact(config: ReconnectionConfig, retry: int, seed: int) -> None:
    assert draw_delay_s(retry, config, Random(seed)) == ceiling_s(retry, config)


def test_the_delays_of_the_specification() -> None:
    config = ReconnectionConfig(jitter_factor=0.0)
    assert [ceiling_s(retry, config) for retry in range(1, 11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]


@pytest.mark.parametrize("multiplier", [1.5, 2, 2.0, 1e300])
def test_a_thousand_million_retries_do_not_overflow(multiplier: float) -> None:
    assert ceiling_s(10**9, ReconnectionConfig(backoff_multiplier=multiplier)) == 300.0


@pytest.mark.parametrize("retry", [1, 5, 9, 10, 10**9])
@pytest.mark.parametrize("jitter", [0.1, 0.5, 1.0])
def test_a_fleet_stays_spread_at_the_cap_too(retry: int, jitter: float) -> None:
    config = ReconnectionConfig(jitter_factor=jitter)
    random = Random(4)
    drawn = [draw_delay_s(retry, config, random) for _ in range(400)]
    middle = ceiling_s(retry, config)
    band = min(config.max_retry_delay, middle * (1 + jitter)) - middle * (1 - jitter)
    assert max(drawn) - min(drawn) >= 0.8 * band
    assert len(set(drawn)) > 390


@pytest.mark.parametrize("verdict", [Verdict.SLOWLY, Verdict.AT_THE_CAP])
def test_a_fleet_that_is_refused_slowly_is_spread_below_the_cap(verdict: Verdict) -> None:
    waits = []
    for seed in range(200):
        one = backoff(seed, initial_retry_delay=100.0)
        one.hear(failed(verdict=verdict), 0.0)
        waits.append(one.deadline)
    assert max(waits) <= 300.0
    assert min(waits) >= 270.0
    assert max(waits) - min(waits) >= 0.8 * 30.0


@given(seeds, st.integers(1, 40))
def test_refused_slowly_waits_ten_times_as_long_up_to_the_cap(seed: int, times: int) -> None:
    plainly, slowly = backoff(seed), backoff(seed)
    for failures in range(1, times + 1):
        plainly.hear(failed(failures), 0.0)
        slowly.hear(failed(failures, Verdict.SLOWLY), 0.0)
        assert slowly.deadline <= 300.0
        assert slowly.deadline >= min(10 * plainly.deadline, 270.0) * (1 - 1e-9)


@given(st.integers(0, 50))
def test_max_retries_allows_one_dial_more(max_retries: int) -> None:
    decides, now, dials = backoff(max_retries=max_retries), 0.0, 0
    answer: Dial | GaveUp | None = decides.hear(Reset(1, afresh=True), now)
    while not isinstance(answer, GaveUp):
        assert answer == Dial(1)
        dials += 1
        answer = decides.hear(failed(dials), now)
        if answer is None:
            assert decides.tick(math.nextafter(decides.deadline, 0)) is None
            now = decides.deadline
            answer = decides.tick(now)
            assert decides.deadline == math.inf
    assert dials == max_retries + 1
    assert answer.cause == REFUSED
    assert decides.deadline == math.inf


def test_max_retries_none_never_gives_up() -> None:
    decides = backoff()
    assert decides.hear(failed(10**9), 0.0) is None
    assert decides.deadline < math.inf


@pytest.mark.parametrize("link_was_up", [True, False])
def test_a_refusal_for_good_is_given_up_at_once(link_was_up: bool) -> None:
    decides, lane = backoff(), FakeLane()
    decides.hear(Reset(1, afresh=True), 0.0)
    if link_was_up:
        decides.hear(LinkUp(lane, 60.0), 0.0)
        answer = decides.hear(LinkDown(lane, REFUSED, Verdict.NEVER, proven=True), 100.0)
    else:
        answer = decides.hear(failed(verdict=Verdict.NEVER), 0.0)
    assert answer == GaveUp(1, REFUSED)
    assert decides.deadline == math.inf


def wait_after_link(
    decides: Backoff, at: float, up_s: float, *, proven: bool, verdict: Verdict = Verdict.AGAIN
) -> float:
    lane = FakeLane()
    decides.hear(LinkUp(lane, 60.0), at)
    assert decides.hear(LinkDown(lane, REFUSED, verdict, proven), at + up_s) is None
    return decides.deadline - (at + up_s)


@pytest.mark.parametrize(("up_s", "proven"), [(STABLE_S - 0.001, True), (10_000.0, False), (0.0, True)])
def test_a_flapping_broker_is_dialled_ever_more_slowly_and_never_given_up(up_s: float, proven: bool) -> None:
    decides = backoff(jitter_factor=0.0, max_retries=0)
    waits = [wait_after_link(decides, at * 100_000.0, up_s, proven=proven) for at in range(12)]
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300])


def test_a_link_that_was_good_long_enough_sets_the_pace_back() -> None:
    decides = backoff(jitter_factor=0.0)
    for failures in range(1, 8):
        decides.hear(failed(failures), 0.0)
    assert wait_after_link(decides, 100.0, STABLE_S, proven=True) == pytest.approx(1.0)


def test_connect_cuts_the_wait_short_and_keeps_the_pace_unless_afresh() -> None:
    for afresh, following_s in ((False, 4.0), (True, 1.0)):
        decides = backoff(jitter_factor=0.0)
        decides.hear(failed(1), 0.0)
        decides.hear(failed(2), 0.0)
        assert decides.hear(Reset(1, afresh), 0.5) == Dial(1)
        assert decides.deadline == math.inf
        decides.hear(failed(3), 1.0)
        assert decides.deadline == pytest.approx(1.0 + following_s)


def test_every_request_has_its_own_dial_and_every_answer_the_number_of_the_last_request() -> None:
    decides = backoff(max_retries=1)
    assert decides.hear(Reset(1, afresh=True), 0.0) == Dial(1)
    assert decides.hear(failed(1), 0.0) is None
    assert decides.tick(decides.deadline) == Dial(1)
    assert decides.hear(Reset(2, afresh=False), 2.0) == Dial(2)
    assert decides.hear(failed(2), 2.0) == GaveUp(2, REFUSED)


def test_after_a_stand_down_nothing_is_dialled() -> None:
    decides, lane = backoff(), FakeLane()
    decides.hear(failed(1), 0.0)
    decides.hear(StandDown(), 0.0)
    assert decides.deadline == math.inf
    decides.hear(LinkUp(lane, 60.0), 1.0)
    decides.hear(StandDown(), 2.0)
    assert decides.hear(LinkDown(lane, REFUSED, Verdict.AGAIN, proven=True), 3.0) is None
    assert decides.deadline == math.inf


def test_the_end_of_another_link_than_the_present_one_is_ignored() -> None:
    decides, old, present = backoff(), FakeLane(), FakeLane()
    decides.hear(LinkUp(old, 60.0), 0.0)
    decides.hear(LinkUp(present, 60.0), 1.0)
    assert decides.hear(LinkDown(old, REFUSED, Verdict.NEVER, proven=True), 2.0) is None
    assert decides.deadline == math.inf


def taken_over(decides: Backoff, at: float) -> GaveUp | None:
    lane = FakeLane()
    decides.hear(LinkUp(lane, 60.0), at)
    answer = decides.hear(LinkDown(lane, TAKEN_OVER, Verdict.AT_THE_CAP, proven=True), at)
    assert not isinstance(answer, Dial)
    return answer


@pytest.mark.parametrize("jitter", [0.0, 0.1, 1.0])
def test_the_third_take_over_in_ten_minutes_gives_up_and_says_why(jitter: float) -> None:
    decides, now, answers = backoff(jitter_factor=jitter), 0.0, []
    for _ in range(3):
        answers.append(taken_over(decides, now))
        now = decides.deadline + 1.0
    assert answers[:2] == [None, None]
    assert answers[2] is not None
    assert "another client uses the same client identifier" in str(answers[2].cause)
    assert answers[2].cause.reason_code == 0x8E
    assert decides.deadline == math.inf


def test_take_overs_that_lie_far_apart_wait_for_the_cap_and_go_on() -> None:
    decides = backoff()
    for at in range(0, 10_000, 1000):
        assert taken_over(decides, float(at)) is None
        assert 270.0 <= decides.deadline - at <= 300.0


def test_a_fresh_start_forgets_the_take_overs() -> None:
    decides = backoff()
    taken_over(decides, 0.0)
    taken_over(decides, 1.0)
    decides.hear(Reset(1, afresh=True), 2.0)
    assert taken_over(decides, 3.0) is None
