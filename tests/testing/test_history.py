"""The checkers of histories say exactly what is wrong with a doctored history, and nothing about a correct one."""

import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.eventlog import log_event
from hawk.messages import StateChanged
from hawk.testing.history import LEGAL_EDGES, Verdict, duplicated, illegal_edges, judge, lost, reordered
from hawk.testing.state_watch import StateWatch, watched_states
from hawk.values import ConnectionState

histories = st.lists(st.tuples(st.integers(), st.integers(0, 2)), unique=True, min_size=1, max_size=50)
long_histories = st.lists(st.text(max_size=3), unique=True, min_size=4, max_size=50)


@given(histories)
def test_a_correct_history_has_no_flaw(history: list[tuple[int, int]]) -> None:
    verdict = judge(history, list(history))
    assert verdict.is_flawless
    assert verdict[:3] == ([], [], [])


@given(histories, st.data())
def test_one_lost_is_exactly_that(history: list[tuple[int, int]], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(history) - 1))
    verdict = judge(history, history[:index] + history[index + 1 :])
    assert verdict[:3] == ([history[index]], [], [])
    assert not verdict.is_flawless


@given(histories, st.data())
def test_one_excused_is_not_lost(history: list[tuple[int, int]], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(history) - 1))
    assert judge(history, history[:index] + history[index + 1 :], excused=[history[index]]).is_flawless


@given(histories, st.data())
def test_one_repeated_is_exactly_that_wherever_it_repeats(history: list[tuple[int, int]], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(history) - 1))
    again_at = data.draw(st.integers(index + 1, len(history)))
    arrived = list(history)
    arrived.insert(again_at, history[index])
    assert judge(history, arrived)[:3] == ([], [history[index]], [])


@given(long_histories, st.data())
def test_one_moved_is_exactly_that(history: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(history) - 1))
    target = data.draw(st.sampled_from([at for at in range(len(history)) if abs(at - index) > 1]))
    arrived = list(history)
    arrived.insert(target, arrived.pop(index))
    assert judge(history, arrived)[:3] == ([], [], [history[index]])


@given(long_histories, st.data())
def test_two_neighbours_swapped_are_one_flaw(history: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(history) - 2))
    arrived = list(history)
    arrived[index], arrived[index + 1] = arrived[index + 1], arrived[index]
    verdict = judge(history, arrived)
    assert verdict[:2] == ([], [])
    assert len(verdict.reordered) == 1
    assert verdict.reordered[0] in history[index : index + 2]


@given(histories, st.tuples(st.integers(), st.just(3)))
def test_what_was_never_accepted_is_a_duplicate(history: list[tuple[int, int]], phantom: tuple[int, int]) -> None:
    assert judge(history, [*history, phantom])[:3] == ([], [phantom], [])


def test_a_history_turned_around_keeps_one_in_place() -> None:
    assert len(reordered(range(100), range(99, -1, -1))) == 99


def test_a_hundred_thousand_keys_are_judged_at_once() -> None:
    accepted = list(range(100_000))
    began_at = time.monotonic()
    assert lost(accepted, accepted[::2]) == accepted[1::2]
    assert duplicated(accepted, accepted * 2) == accepted
    assert len(reordered(accepted, accepted[::-1])) == len(accepted) - 1
    assert time.monotonic() - began_at < 5


def test_a_verdict_reads_as_a_sentence() -> None:
    assert str(judge([1, 2, 3], [1, 2, 3])) == "3 accepted, 3 arrived; each once and in order"
    verdict: Verdict[int] = judge(list(range(30)), [3, 3])
    assert str(verdict) == (
        "30 accepted, 2 arrived; 29 lost: 0, 1, 2, 4, 5, 6, 7, 8, 9, 10 and 19 more; 1 duplicated: 3"
    )


@st.composite
def legal_walks(draw: st.DrawFn) -> list[StateChanged]:
    current, changes = ConnectionState.DISCONNECTED, []
    for _ in range(draw(st.integers(1, 20))):
        choices = [state for state in ConnectionState if (current, state) in LEGAL_EDGES]
        following = draw(st.sampled_from(choices))
        changes.append(StateChanged(current, following))
        current = following
    return changes


@given(legal_walks())
def test_a_walk_along_the_table_is_legal(changes: list[StateChanged]) -> None:
    assert illegal_edges(changes, start=ConnectionState.DISCONNECTED) == []


@given(legal_walks(), st.data())
def test_a_change_left_out_of_the_middle_is_noticed(changes: list[StateChanged], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(changes) - 1))
    rest = changes[:index] + changes[index + 1 :]
    found = illegal_edges(rest, start=ConnectionState.DISCONNECTED)
    assert [edge.position for edge in found] == ([index] if index < len(rest) else [])


@given(legal_walks(), st.data())
def test_a_change_to_itself_is_illegal(changes: list[StateChanged], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(changes) - 1))
    stuck = StateChanged(changes[index].after, changes[index].after)
    found = illegal_edges([*changes[: index + 1], stuck, *changes[index + 1 :]])
    assert [(edge.position, edge.change) for edge in found] == [(index + 1, stuck)]


@pytest.mark.parametrize("before", ConnectionState)
@pytest.mark.parametrize("after", ConnectionState)
def test_exactly_the_edges_of_the_table_are_legal(before: ConnectionState, after: ConnectionState) -> None:
    is_legal = illegal_edges([StateChanged(before, after)]) == []
    assert is_legal is ((before, after) in LEGAL_EDGES)
    assert len(LEGAL_EDGES) == 13


def test_the_first_change_must_begin_at_the_start_given() -> None:
    changes = [StateChanged(ConnectionState.CONNECTED, ConnectionState.RECONNECTING)]
    assert illegal_edges(changes) == []
    assert len(illegal_edges(changes, start=ConnectionState.DISCONNECTED)) == 1


def tell(before: object, after: object, hawk: str = "one", *, logger: str = "hawk.actors.connector") -> None:
    log_event(logging.getLogger(logger), logging.DEBUG, "connection state", before=before, after=after, hawk=hawk)


def test_the_watch_of_every_test_collects_the_states_of_each_hawk(connection_states: StateWatch) -> None:
    tell(ConnectionState.DISCONNECTED, ConnectionState.CONNECTING, "one")
    tell("disconnected", "connecting", "two")
    tell("connecting", "failed", "two")
    tell("connecting", "connected", "one")
    log_event(logging.getLogger("hawk"), logging.INFO, "another event", before="x")
    logging.getLogger("hawk").warning("no event at all")
    assert {name: len(changes) for name, changes in connection_states.changes.items()} == {"one": 2, "two": 2}
    assert connection_states.illegal() == {}


@pytest.mark.parametrize(
    "doctored",
    [
        [("disconnected", "connected")],
        [("connecting", "connected")],
        [("disconnected", "connecting"), ("connected", "reconnecting")],
        [("disconnected", "connecting"), ("connecting", "connecting")],
        [("disconnected", "connecting"), ("disconnected", "connecting")],
    ],
)
def test_the_watch_finds_a_doctored_sequence(doctored: list[tuple[str, str]], connection_states: StateWatch) -> None:
    with watched_states() as watch:
        for before, after in doctored:
            tell(before, after, "doctored", logger="hawk.doctored")
    assert list(watch.illegal()) == list(connection_states.illegal()) == ["doctored"]
    connection_states.changes.clear()  # or this test fails, as any test would that saw such a sequence


def test_the_watch_leaves_the_logger_as_it_was() -> None:
    logger = logging.getLogger("hawk")
    logger.setLevel(logging.ERROR)
    before = list(logger.handlers)
    with watched_states() as watch:
        assert logger.isEnabledFor(logging.DEBUG)
        assert watch in logger.handlers
    assert (logger.level, logger.handlers) == (logging.ERROR, before)
