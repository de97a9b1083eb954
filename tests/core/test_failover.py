"""Endpoints in order, round and round; and a way back to the first that gets rarer while it does not work out."""

from hypothesis import given
from hypothesis import strategies as st

from hawk.connecting import Endpoint, Transport
from hawk.core.failover import LONGEST_FACTOR, Failback, choose

endpoints = st.lists(st.builds(Endpoint, st.sampled_from(Transport), st.text(min_size=1)), min_size=1, unique=True)


@given(endpoints, st.integers(0, 1000))
def test_each_failure_leads_to_the_next_endpoint_and_a_link_back_to_the_first(
    several: list[Endpoint], failures: int
) -> None:
    assert choose(several, 0) == several[0]
    assert choose(several, failures + 1) == several[(several.index(choose(several, failures)) + 1) % len(several)]


@given(st.integers(0, 40))
def test_each_return_that_did_not_work_out_doubles_the_wait_up_to_a_bound(returns: int) -> None:
    failback = Failback(every_s=2.0)
    failback.connected(at_first=False)
    for _ in range(returns):
        failback.goes_back()
        failback.connected(at_first=False)
    assert failback.delay_s == 2.0 * min(LONGEST_FACTOR, 2**returns)


def test_a_link_that_was_simply_lost_doubles_nothing_and_the_first_endpoint_forgives_all() -> None:
    failback = Failback(every_s=2.0)
    for _ in range(3):
        failback.connected(at_first=False)
    assert failback.delay_s == 2.0
    failback.goes_back()
    failback.connected(at_first=False)
    assert failback.delay_s == 4.0
    failback.goes_back()
    failback.connected(at_first=True)
    assert failback.delay_s == 2.0
