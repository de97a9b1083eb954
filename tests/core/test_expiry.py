"""How much of a message's time has passed: nothing expires that should not, whatever the clocks say."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.core.delivery import Entry, Terms
from hawk.core.expiries import Expiries
from hawk.core.expiry import EARLIEST_CALENDAR, Clocks, elapsed_s, expires_at, remaining_s, with_remaining
from hawk.core.fates import nobody
from hawk.values import Message, Properties

NOW = EARLIEST_CALENDAR + 40_000_000
INSTANTS = st.floats(0, 1e10)
CLOCKS = st.builds(Clocks, INSTANTS, st.sampled_from(["", "a", "b"]), st.floats(0, 1e8))


@pytest.mark.parametrize(
    ("then", "now", "elapsed"),
    [
        (Clocks(NOW, "a", 100), Clocks(NOW + 5, "a", 160), 60),
        (Clocks(NOW, "a", 100), Clocks(NOW + 9e9, "a", 101), 1),
        (Clocks(NOW, "a", 100), Clocks(NOW - 1000, "a", 101), 1),
        (Clocks(NOW, "a", 100), Clocks(NOW + 60, "b", 3), 60),
        (Clocks(NOW, "a", 100), Clocks(NOW - 60, "b", 3), 0),
        (Clocks(NOW, "a", 100), Clocks(12, "b", 3), 0),
        (Clocks(12, "a", 100), Clocks(NOW, "b", 3), 0),
        (Clocks(NOW, "", 100), Clocks(NOW + 60, "", 999), 60),
        (Clocks(NOW, "a", 100), Clocks(NOW, "a", 50), 0),
    ],
    ids=[
        "since boot",
        "the calendar jumped ahead",
        "the calendar jumped back",
        "a new boot",
        "a boot in the past",
        "a boot in 1970",
        "stored in 1970",
        "boot unknown",
        "impossible",
    ],
)
def test_elapsed(then: Clocks, now: Clocks, elapsed: float) -> None:
    assert elapsed_s(then, now) == elapsed
    assert remaining_s(100.0, then, now) == 100.0 - elapsed


@given(CLOCKS, CLOCKS)
def test_never_negative_and_never_more_than_any_clock_that_counts_says(then: Clocks, now: Clocks) -> None:
    elapsed = elapsed_s(then, now)
    assert 0 <= elapsed <= max(now.calendar - then.calendar, now.since_boot_s - then.since_boot_s, 0)


def test_the_rest_is_whole_seconds_and_never_none() -> None:
    message = Message("t", b"", properties=Properties(expiry_s=60.0, content_type="text/plain"))
    sent = [with_remaining(message, left_s).properties.expiry_s for left_s in (60.0, 59.0000001, 58.2, 0.3, 0.0, -5.0)]
    assert sent == [60, 59, 59, 1, 1, 1]
    assert with_remaining(message, 3).properties.content_type == "text/plain"
    assert expires_at(message, 100.0) == 160.0
    assert expires_at(Message("t", b""), 100.0) == math.inf


def entry(number: int, at: float) -> Entry:
    return Entry(number, Message("t", b""), nobody, Terms(expires_at=at))


def test_due_in_time_and_only_what_still_waits() -> None:
    expiries = Expiries()
    first, second, third = entry(1, 30.0), entry(2, 10.0), entry(3, 20.0)
    for each in (first, second, third, entry(4, math.inf)):
        expiries.add(each)
    expiries.add(first)
    assert expiries.deadline() == 10.0
    expiries.discard(second)
    assert expiries.deadline() == 20.0
    assert expiries.take_due(19.9) == []
    assert expiries.take_due(30.0) == [third, first]
    assert expiries.deadline() == math.inf


def test_what_goes_out_costs_no_memory() -> None:
    expiries = Expiries()
    for number in range(10_000):
        each = entry(number, 1e6)
        expiries.add(each)
        expiries.discard(each)
    assert len(expiries) < 100


def test_what_only_the_store_has_is_known_by_its_first_instant() -> None:
    expiries = Expiries()
    for each in (entry(1, 30.0), entry(2, 10.0), entry(3, 20.0)):
        expiries.add(each)
        expiries.spill(each)
    assert (expiries.behind_at, expiries.deadline()) == (10.0, math.inf)
