"""Admission: bounds by count and by bytes, what a newcomer without room is told, and the room that is lent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.config import Config, OverflowPolicy
from hawk.core.admission import Admission, Answer, Parked
from hawk.messages import Offer, Reply, ReplyReference, Room
from hawk.values import Message

SMALL, LARGE = Message("t", b"x" * 9), Message("t", b"x" * 99)
POLICIES: tuple[OverflowPolicy, ...] = ("drop_oldest", "drop_newest", "wait", "reject")


def nobody() -> Reply | None:
    return None


def offer_of(messages: tuple[Message, ...], reply: ReplyReference, *, asks: bool = False) -> Offer:
    return Offer(messages, reply, sum(message.size_bytes for message in messages), asks)


def full(overflow: OverflowPolicy = "drop_oldest") -> Admission:
    admission = Admission(Config(message_queue_size=2, message_queue_bytes=30, overflow=overflow))
    admission.add(SMALL.size_bytes)
    admission.add(SMALL.size_bytes)
    return admission


@pytest.mark.parametrize(
    ("overflow", "link_up", "refuse_if_full", "answer"),
    [
        ("drop_oldest", True, False, Answer.WAIT),
        ("drop_oldest", True, True, Answer.REFUSE),
        ("drop_oldest", False, False, Answer.DROP_OLDEST),
        ("drop_oldest", False, True, Answer.DROP_OLDEST),
        ("drop_newest", True, False, Answer.WAIT),
        ("drop_newest", True, True, Answer.REFUSE),
        ("drop_newest", False, False, Answer.DROP_NEWEST),
        ("drop_newest", False, True, Answer.DROP_NEWEST),
        ("wait", True, False, Answer.WAIT),
        ("wait", True, True, Answer.REFUSE),
        ("wait", False, False, Answer.WAIT),
        ("wait", False, True, Answer.REFUSE),
        ("reject", True, False, Answer.WAIT),
        ("reject", True, True, Answer.REFUSE),
        ("reject", False, False, Answer.REFUSE),
        ("reject", False, True, Answer.REFUSE),
    ],
)
def test_what_a_newcomer_without_room_is_told(
    overflow: OverflowPolicy, link_up: bool, refuse_if_full: bool, answer: Answer
) -> None:
    admission = full(overflow)
    assert admission.fitting(offer_of((SMALL,), nobody), 0) == 0
    assert admission.answer(link_up=link_up, refuse_if_full=refuse_if_full) is answer


@pytest.mark.parametrize("overflow", POLICIES)
def test_a_message_larger_than_the_bound_comes_in_when_nothing_else_waits(overflow: OverflowPolicy) -> None:
    admission = full(overflow)
    admission.remove(SMALL.size_bytes)
    assert admission.fitting(offer_of((LARGE, SMALL), nobody), 0) == 0
    admission.remove(SMALL.size_bytes)
    assert admission.fitting(offer_of((LARGE, SMALL), nobody), 0) == 1


def test_what_fits_is_counted_from_the_start_that_is_given_up_to_either_bound() -> None:
    admission = Admission(Config(message_queue_size=3, message_queue_bytes=35))
    assert admission.fitting(offer_of((LARGE, SMALL, SMALL, SMALL, SMALL), nobody), 1) == 3
    admission.add(SMALL.size_bytes)
    assert admission.fitting(offer_of((SMALL, SMALL, SMALL), nobody), 0) == 2
    assert admission.fitting(offer_of((SMALL, SMALL, SMALL), nobody), 2) == 1
    assert admission.fitting(offer_of((SMALL, LARGE, SMALL), nobody), 0) == 1


@given(st.lists(st.integers(0, 40), max_size=10), st.integers(0, 100), st.integers(0, 1000))
def test_room_is_what_is_free_and_what_fits_in_it_is_admitted(
    payloads: list[int], taken: int, taken_bytes: int
) -> None:
    admission = Admission(Config(message_queue_size=5, message_queue_bytes=100))
    for size in payloads:
        admission.add(1 + size)
    room = admission.room(taken, taken_bytes)
    messages, size_bytes = room.messages - taken, room.size_bytes - taken_bytes
    assert messages == max(0, 5 - len(payloads))
    assert size_bytes == max(0, 100 - sum(payloads) - len(payloads))
    if messages and size_bytes:
        fits = Message("t", b"x" * (size_bytes - 1))
        assert admission.fitting(offer_of((fits,), nobody), 0) == 1
        too_large = Message("t", b"x" * size_bytes)
        assert admission.fitting(offer_of((too_large,), nobody), 0) == (not payloads)


def test_no_room_while_anyone_stands_in_line_and_the_cancelled_leave_it() -> None:
    admission = Admission(Config())

    def somebody() -> Reply | None:
        return None

    admission.line.extend((Parked(offer_of((SMALL,), nobody)), Parked(offer_of((LARGE,), somebody))))
    assert admission.room(7, 70) == Room(7, 70)
    admission.leave(nobody)
    assert [parked.offer.reply for parked in admission.line] == [somebody]
    admission.leave(somebody)
    assert admission.room(7, 70).messages == 7 + Config().message_queue_size
