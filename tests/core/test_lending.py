"""What one subscription leaves unhandled at QoS 0: within its bounds, by either policy, in order."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.core.holders import Arrival, Decisions, Holder
from hawk.core.lending import Lending
from hawk.messages import Delivered
from hawk.packets import SubscribeFilter
from hawk.values import Message

Policy = Literal["drop_oldest", "drop_newest"]

policies = pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])


class Unused:
    """A channel that the core never uses."""

    def send_nowait(self, item: object, /) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


class Reader:
    """A holder, and what it was handed."""

    def __init__(self, most: int, most_bytes: int, policy: Policy) -> None:
        self.lending = Lending(most=most, most_bytes=most_bytes, overflow=policy)
        self.holder = Holder(1, SubscribeFilter("a"), Unused(), None, 1)
        self.decisions = Decisions()
        self.numbers = 0

    def arrive(self, qos: int, size_bytes: int) -> list[int]:
        """One comes; returns what is dropped for it."""
        self.numbers += 1
        message = Message("a", bytes(size_bytes - 1), qos)
        arrival = Arrival(Delivered(self.numbers, message, False, ""), qos, ())
        arrival.waiting = 1
        if qos:
            self.lending.lend(self.holder, arrival, self.decisions)
            return []
        return [each.number for each in self.lending.offer(self.holder, arrival, self.decisions)]

    def handle(self, number: int) -> None:
        arrival = self.holder.unhandled.pop(number)
        if not arrival.identifier:
            self.lending.done(self.holder, arrival, self.decisions)

    @property
    def handed(self) -> list[int]:
        return [each.delivery for each in self.holder.run]


@policies
def test_beyond_its_bound_the_policy_says_which_is_dropped(policy: Policy) -> None:
    reader = Reader(4, 1_000, policy)
    dropped = [number for _ in range(7) for number in reader.arrive(0, 1)]
    # Two are in its hands: half of its bound.
    assert reader.handed == [1, 2]
    assert dropped == ([3, 4, 5] if policy == "drop_oldest" else [5, 6, 7])
    assert reader.decisions.overflowing == ["a"], "once an episode"
    for number in (1, 2):
        reader.handle(number)
    assert reader.handed[2:] == ([6, 7] if policy == "drop_oldest" else [3, 4])
    for _ in range(3):
        reader.arrive(0, 1)
    assert reader.decisions.overflowing == ["a", "a"], "it had been at ease in between"


@policies
def test_bytes_bound_it_too_and_one_that_is_larger_than_the_bound_passes_alone(policy: Policy) -> None:
    reader = Reader(100, 10, policy)
    assert reader.arrive(0, 50) == []
    assert reader.arrive(0, 1) == [2], "what is in its hands cannot be dropped"
    reader.handle(1)
    assert [reader.arrive(0, 5), reader.arrive(0, 5), reader.arrive(0, 1)] == [[], [], [5]]


@given(
    st.integers(1, 12),
    st.integers(1, 60),
    st.sampled_from(["drop_oldest", "drop_newest"]),
    st.lists(st.one_of(st.tuples(st.integers(0, 1), st.integers(1, 20)), st.none()), max_size=60),
)
def test_whatever_comes_and_goes_the_bounds_hold_and_the_order_is_kept(
    most: int, most_bytes: int, policy: Policy, steps: list[tuple[int, int] | None]
) -> None:
    reader, lost, done = Reader(most, most_bytes, policy), set[int](), 0
    holder = reader.holder
    for step in [*steps, *[None] * len(steps)]:
        if step is not None:
            lost.update(reader.arrive(*step))
        elif done < len(reader.handed):
            reader.handle(reader.handed[done])
            done += 1
        at_qos_0 = [each for each in holder.unhandled.values() if not each.identifier]
        assert len(at_qos_0) == holder.unhandled_at_qos_0 <= most
        size_bytes = sum(each.size_bytes for each in at_qos_0)
        assert size_bytes == holder.unhandled_bytes_at_qos_0
        assert size_bytes <= most_bytes or len(at_qos_0) == 1
        assert reader.handed == sorted(set(reader.handed)), "once, in the order of arrival"
        assert not lost & set(reader.handed)
        assert not holder.buffer or not holder.buffer[0].identifier
    assert (holder.unhandled, len(holder.buffer)) == ({}, 0)
    assert set(reader.handed) | lost == set(range(1, reader.numbers + 1)), "each is handed over or dropped"
