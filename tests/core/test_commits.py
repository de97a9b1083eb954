"""Commits: one at a time, the next gathers meanwhile, and after a failure newcomers hear the truth at once."""

import math

import pytest

from hawk.core.commits import GATHERING_S, LONGEST_WAIT_S, Commits
from hawk.core.delivery import Entry
from hawk.messages import Commit, Record, Reply
from hawk.values import Message


def nobody() -> Reply | None:
    return None


def entry(number: int, qos: int = 1) -> Entry:
    return Entry(number, Message("t", b"%d" % number, qos), nobody)


def commit(*inserts: Entry, delete: tuple[int, ...] = ()) -> Commit:
    return Commit(tuple(Record(each.number, each.message) for each in inserts), delete)


def test_what_gathers_while_a_commit_is_under_way_is_one_commit() -> None:
    commits = Commits(durable=True)
    first, second, third = entry(1), entry(2), entry(3)
    assert commits.insert(first)
    assert commits.take(0.0) == commit(first)
    assert commits.insert(second)
    assert commits.insert(third)
    assert commits.take(0.0) is None
    assert not commits.holds(first)
    assert commits.done().kept == [first]
    assert commits.holds(first)
    assert commits.keeps(first)
    assert not commits.holds(third)
    commits.delete(first)
    assert commits.take(0.0) == commit(second, third, delete=(1,))
    assert not commits.idle
    commits.done()
    assert commits.idle
    assert commits.deadline() == math.inf


def committed(*entries: Entry, most_gathered: int = 3) -> Commits:
    """With these kept already."""
    commits = Commits(durable=True, most_gathered=most_gathered)
    for each in entries:
        commits.insert(each)
    commits.take(0.0)
    commits.done()
    return commits


def test_deletions_alone_wait_a_moment_for_company() -> None:
    first, second = entry(1), entry(2)
    commits = committed(first, second)
    commits.delete(first)
    assert commits.take(7.0) is None
    assert not commits.idle
    assert commits.deadline() == 7.0 + GATHERING_S
    commits.delete(second)
    assert commits.take(7.0 + GATHERING_S / 2) is None
    assert commits.take(7.0 + GATHERING_S) == commit(delete=(1, 2))
    commits.done()
    assert commits.deadline() == math.inf


def test_deletions_go_at_once_with_a_newcomer_with_progress_when_they_are_many_and_in_a_hurry() -> None:
    entries = [entry(number, qos=2) for number in range(1, 6)]
    commits = committed(*entries)
    commits.delete(entries[0])
    commits.insert(entry(6))
    assert commits.take(0.0) == commit(entry(6), delete=(1,))
    commits.done()
    commits.delete(entries[1])
    commits.progress(entries[2])
    changes = commits.take(0.0)
    assert changes is not None
    assert (changes.delete, [each.number for each in changes.progress]) == ((2,), [3])
    commits.done()
    for each in entries[2:]:
        assert commits.take(0.0) is None
        commits.delete(each)
    assert commits.deadline() == -math.inf
    assert commits.take(0.0) == commit(delete=(3, 4, 5))
    commits.done()
    commits.delete(entry(6))
    assert commits.take(0.0) is None
    commits.in_a_hurry = True
    assert commits.take(0.0) == commit(delete=(6,))


def test_qos_0_and_memory_alone_have_nothing_to_write() -> None:
    for commits, message in ((Commits(durable=True), entry(1, qos=0)), (Commits(durable=False), entry(1, qos=2))):
        assert not commits.insert(message)
        assert commits.holds(message)
        assert not commits.keeps(message)
        commits.delete(message)
        assert commits.idle
        assert commits.take(0.0) is None
        assert commits.deadline() == math.inf


def test_a_failure_turns_away_every_newcomer_and_keeps_every_deletion_in_order() -> None:
    commits = Commits(durable=True)
    commits.recover(2)
    commits.delete(entry(1))
    commits.insert(entry(3))
    commits.take(0.0)
    commits.insert(entry(4))
    commits.delete(entry(2))
    assert list(commits.failed(0.0)) == [3, 4]
    assert commits.take(0.5) is None
    fifth = entry(5)
    commits.insert(fifth)
    assert commits.take(0.5) == commit(fifth, delete=(1, 2)), "a newcomer always tries"


def test_deletions_alone_are_tried_again_ever_more_slowly_until_one_commit_is_done() -> None:
    commits = Commits(durable=True)
    commits.recover(1)
    commits.delete(entry(1))
    assert commits.deadline() == -math.inf
    now, waits = 0.0, []
    for _ in range(9):
        assert commits.take(now) is not None
        assert commits.deadline() == math.inf
        commits.failed(now)
        waits.append(commits.deadline() - now)
        assert commits.take(commits.deadline() - 0.001) is None
        now = commits.deadline()
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_WAIT_S, LONGEST_WAIT_S, LONGEST_WAIT_S]
    commits.insert(entry(2))
    commits.take(now)
    commits.done()
    commits.delete(entry(2))
    assert commits.take(now) == commit(delete=(2,)), "the disk is well again"


def test_what_ends_before_its_commit_is_not_written_and_is_not_said_to_be_safe() -> None:
    commits = Commits(durable=True)
    first, second = entry(1), entry(2)
    commits.insert(first)
    commits.delete(first)
    assert commits.idle
    commits.insert(second)
    commits.take(0.0)
    commits.delete(second)
    assert commits.done().kept == []
    assert commits.take(0.0) == commit(delete=(2,))


def test_a_newcomer_waits_for_no_deadline() -> None:
    commits = Commits(durable=True)
    commits.insert(entry(1))
    assert commits.deadline() == -math.inf
    commits.take(0.0)
    assert commits.deadline() == math.inf


def test_recovering_without_durability_holds_newcomers_back_for_nothing() -> None:
    commits = Commits(durable=False)
    commits.recover(5)
    assert commits.holds(entry(6))


@pytest.mark.parametrize("answer", ["done", "failed"])
def test_an_answer_that_nobody_asked_for_is_a_defect(answer: str) -> None:
    commits = Commits(durable=True)
    with pytest.raises(AssertionError):
        commits.done() if answer == "done" else commits.failed(0.0)
