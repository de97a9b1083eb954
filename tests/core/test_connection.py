"""The table of the connection: total, live, and sound on every path that there is.

`World` is what a row may assume about the dial, the link and who waits for an answer. The walk visits every pair of
state and world that can be reached, with everything that can happen there.
"""

from dataclasses import dataclass, replace

import pytest

from hawk.core.connection import (
    PUBLIC_EDGES,
    TABLE,
    Effect,
    Happening,
    ImpossibleHappening,
    State,
    advance,
    public_state,
)
from hawk.values import ConnectionState

OF_A_DIAL = {Happening.DIALED, Happening.DIAL_FAILED}
OF_A_LINK = {Happening.LOST, Happening.PING, Happening.HANGUP}
LIVE = set(State) - {State.DISCONNECTED, State.FAILED}


@dataclass(frozen=True)
class World:
    dialing: bool = False
    linked: bool = False
    opens: bool = False
    closes: bool = False
    dial_wanted: bool = False
    """The Backoff scheduler will answer the present request: with a Dial, or with a GaveUp if it `may_give_up`."""
    may_give_up: bool = False
    stood_down: bool = False


def possible(world: World) -> set[Happening]:
    """What is stale may come at any time; what the dial and the link say, only while they exist; an answer, if one is owed."""
    never = (set() if world.dialing else OF_A_DIAL) | (set() if world.linked else OF_A_LINK)
    never |= set() if world.dial_wanted else {Happening.DIAL}
    never |= set() if world.may_give_up else {Happening.GAVE_UP}
    return set(Happening) - never


def carry_out(happening: Happening, effects: tuple[Effect, ...], world: World) -> World:
    """Do what the Connector does, and object to what it could not do."""
    if happening is Happening.OPEN:
        world = replace(world, opens=True)
    if happening is Happening.CLOSE:
        world = replace(world, closes=True)
    if happening in OF_A_DIAL:
        world = replace(world, dialing=False)
    if happening is Happening.GAVE_UP:
        world = replace(world, dial_wanted=False, may_give_up=False)
    if happening is Happening.STALE_DIALED:
        assert Effect.DISCARD_LINK in effects
    if happening is Happening.DIALED:
        assert (Effect.ADOPT_LINK in effects) != (Effect.DISCARD_LINK in effects)
    if happening is Happening.LOST:
        assert Effect.ANNOUNCE_DOWN in effects
    for effect in effects:
        match effect:
            case Effect.START_DIAL:
                assert not world.dialing, "two dials at once"
                assert not world.linked, "a dial beside a link"
                world = replace(world, dialing=True, dial_wanted=False, may_give_up=False)
            case Effect.CANCEL_DIAL:
                assert world.dialing
                world = replace(world, dialing=False)
            case Effect.REPORT_FAILURE:
                assert happening is Happening.DIAL_FAILED
                world = replace(world, dial_wanted=True, may_give_up=True)
            case Effect.ADOPT_LINK:
                assert happening is Happening.DIALED
                assert not world.linked
                world = replace(world, linked=True)
            case Effect.DISCARD_LINK:
                assert happening in (Happening.DIALED, Happening.STALE_DIALED)
            case Effect.ANNOUNCE_DOWN:
                assert happening is Happening.LOST
                assert world.linked
                # The Backoff scheduler hears it, and dials in its time unless it was told to stand down.
                again = not world.stood_down
                world = replace(world, linked=False, dial_wanted=again, may_give_up=again)
            case Effect.SEND_PING | Effect.HANG_UP | Effect.SAY_GOODBYE:
                assert world.linked
            case Effect.ASK_TO_DIAL | Effect.ASK_TO_DIAL_AFRESH:
                assert not world.dialing
                assert not world.linked
                world = replace(world, dial_wanted=True, may_give_up=False, stood_down=False)
            case Effect.STAND_DOWN:
                world = replace(world, dial_wanted=False, may_give_up=False, stood_down=True)
            case Effect.ANSWER_OPENS:
                world = replace(world, opens=False)
            case Effect.ANSWER_CLOSES:
                assert not world.linked
                world = replace(world, closes=False)
            case Effect.CANNOT_HAPPEN:
                raise AssertionError(f"{happening} can happen")
    return world


def walk() -> tuple[set[tuple[State, World]], set[tuple[State, Happening]]]:
    """Every (state, world) that can be reached, and every row that was used."""
    start = (State.DISCONNECTED, World())
    seen, frontier, used = {start}, [start], set()
    while frontier:
        state, world = frontier.pop()
        for happening in possible(world):
            step = TABLE[state, happening]
            used.add((state, happening))
            following = (step.state, carry_out(happening, step.effects, world))
            if following not in seen:
                seen.add(following)
                frontier.append(following)
    return seen, used


def test_the_table_is_total_and_holds_nothing_else() -> None:
    assert set(TABLE) == {(state, happening) for state in State for happening in Happening}


def test_every_state_is_reached_and_no_path_breaks_a_rule() -> None:
    seen, _ = walk()
    assert {state for state, _ in seen} == set(State)


def test_exactly_the_rows_that_cannot_happen_say_so() -> None:
    _, used = walk()
    impossible = {pair for pair, step in TABLE.items() if Effect.CANNOT_HAPPEN in step.effects}
    assert set(TABLE) - used == impossible
    for state, happening in impossible:
        assert TABLE[state, happening] == (state, (Effect.CANNOT_HAPPEN,))
        with pytest.raises(ImpossibleHappening, match=happening.name):
            advance(state, happening)
    for state, happening in used:
        assert advance(state, happening) is TABLE[state, happening]


def test_the_state_says_whether_there_is_a_dial_or_a_link() -> None:
    for state, world in walk()[0]:
        assert world.dialing == (state in (State.DIALING, State.REDIALING))
        assert world.linked == (state in (State.CONNECTED, State.CLOSING, State.REOPENING))


def test_every_open_is_answered_at_connected_failed_or_disconnected() -> None:
    for state, world in walk()[0]:
        ended = (ConnectionState.CONNECTED, ConnectionState.FAILED, ConnectionState.DISCONNECTED)
        assert not (world.opens and public_state(state) in ended), (state, world)


def test_every_close_is_answered_once_the_link_is_gone() -> None:
    for state, world in walk()[0]:
        assert not world.closes or world.linked, (state, world)


def test_whoever_waits_for_a_dial_has_asked_for_it() -> None:
    for state, world in walk()[0]:
        assert world.dial_wanted == (state in (State.ASKED, State.WAITING, State.REASKED)), (state, world)


def test_the_end_states_are_left_only_by_connect() -> None:
    for (state, happening), step in TABLE.items():
        if state in (State.DISCONNECTED, State.FAILED) and step.state is not state:
            assert happening is Happening.OPEN


def test_close_is_heard_in_every_live_state_and_seen_at_once() -> None:
    for state in LIVE:
        assert public_state(TABLE[state, Happening.CLOSE].state) is ConnectionState.DISCONNECTED


def test_what_is_stale_changes_nothing() -> None:
    for state in State:
        for happening in Happening:
            if happening.name.startswith("STALE_"):
                wanted = (Effect.DISCARD_LINK,) if happening is Happening.STALE_DIALED else ()
                assert TABLE[state, happening] == (state, wanted)


def test_nothing_is_dialled_after_a_close_or_a_giving_up() -> None:
    for (state, happening), step in TABLE.items():
        if Effect.START_DIAL in step.effects:
            assert happening is Happening.DIAL
            assert state in (State.ASKED, State.WAITING, State.REASKED)
        if happening is Happening.CLOSE and state in LIVE - {State.CLOSING, State.REOPENING}:
            assert Effect.STAND_DOWN in step.effects


def test_the_public_edges() -> None:
    """What an application can see (promise C5)."""
    down, dialing, up = ConnectionState.DISCONNECTED, ConnectionState.CONNECTING, ConnectionState.CONNECTED
    again, failed = ConnectionState.RECONNECTING, ConnectionState.FAILED
    assert {
        (down, dialing),
        (dialing, up),
        (dialing, again),
        (dialing, down),
        (up, again),
        (up, down),
        (again, up),
        (again, down),
        (again, failed),
        (failed, dialing),
    } == PUBLIC_EDGES
