"""The connection's states as one literal table: every state, everything that can happen, what then follows.

Nothing is left to a default: a pair that cannot happen stands here too, as `CANNOT_HAPPEN`, and `advance` raises for
it. The table knows neither times nor counters (`core/backoff.py`, `core/connection_record.py`); the Connector carries
out the effects, in their order.

Three choices. *Close is at once*: a dial is cancelled and forgotten, whatever still comes of it is stale; a link is
left to end in CLOSING, which the public already sees as DISCONNECTED. *An Open during that* is kept (REOPENING) until
the old link is gone: two links of one client identifier would take each other's session over. *A Hangup leaves the
state alone*: the link's tasks end and report LOST, so LinkDown has one source.
"""

from enum import Enum, auto
from typing import NamedTuple

from hawk.values import ConnectionState


class State(Enum):
    """Where the connection stands, more finely than the public five."""

    DISCONNECTED = auto()
    ASKED = auto()
    """Opened; the Backoff scheduler has been asked and its Dial is on the way."""
    DIALING = auto()
    """The first dial since the Open."""
    CONNECTED = auto()
    WAITING = auto()
    """For the Backoff scheduler's Dial or GaveUp."""
    REASKED = auto()
    """As ASKED, in a later wait: an Open has cut it short."""
    REDIALING = auto()
    FAILED = auto()
    CLOSING = auto()
    """The goodbye is said, the link has not ended yet."""
    REOPENING = auto()
    """As CLOSING, and an Open waits for the end of it."""


class Happening(Enum):
    """What the Connector can be told. STALE_: about a request, an attempt or a lane that is not the present one."""

    OPEN = auto()
    CLOSE = auto()
    DIAL = auto()
    GAVE_UP = auto()
    DIALED = auto()
    DIAL_FAILED = auto()
    LOST = auto()
    PING = auto()
    HANGUP = auto()
    STALE_DIAL = auto()
    STALE_GAVE_UP = auto()
    STALE_DIALED = auto()
    STALE_DIAL_FAILED = auto()
    STALE_LOST = auto()
    STALE_PING = auto()
    STALE_HANGUP = auto()


class Effect(Enum):
    """What the Connector then does."""

    ASK_TO_DIAL = auto()
    """A new request number, and `Reset(afresh=False)` to the Backoff scheduler."""
    ASK_TO_DIAL_AFRESH = auto()
    """A new request number, and `Reset(afresh=True)`; the budget of dials is whole again."""
    STAND_DOWN = auto()
    """A new request number, so that no answer counts any more, and `StandDown` to the Backoff scheduler."""
    START_DIAL = auto()
    """A new attempt number, a child task that dials under `connection_timeout`."""
    CANCEL_DIAL = auto()
    """Cancel that task; its attempt number is no longer the present one."""
    REPORT_FAILURE = auto()
    """`AttemptFailed` to the Backoff scheduler; the attempt has ended."""
    ADOPT_LINK = auto()
    """Open a lane, start the link's tasks, `LinkUp` and `LaneOpened` to all."""
    DISCARD_LINK = auto()
    """Close a link that nobody wants any more; it never had a lane."""
    SEND_PING = auto()
    HANG_UP = auto()
    """End the link's tasks without a goodbye; LOST follows. Idempotent."""
    SAY_GOODBYE = auto()
    """DISCONNECT on the wire, then end the link's tasks; LOST follows."""
    ANNOUNCE_DOWN = auto()
    """`LinkDown` to all; the lane is gone."""
    ANSWER_OPENS = auto()
    """Every Open that waits gets its `Opened`, with the state of this step."""
    ANSWER_CLOSES = auto()
    CANNOT_HAPPEN = auto()
    """A defect of hawk: `advance` raises."""


class Step(NamedTuple):
    """The state that follows, and what to do on the way, in this order."""

    state: State
    effects: tuple[Effect, ...] = ()


class ImpossibleHappening(Exception):
    """The Connector was told something that cannot happen in its state: a defect of hawk."""


def advance(state: State, happening: Happening) -> Step:
    """The row of the table. Raises `ImpossibleHappening`."""
    step = TABLE[state, happening]
    if Effect.CANNOT_HAPPEN in step.effects:
        raise ImpossibleHappening(f"{happening.name} in {state.name}")
    return step


def public_state(state: State) -> ConnectionState:
    """What an application is told."""
    return _PUBLIC[state]


_PUBLIC = {
    State.DISCONNECTED: ConnectionState.DISCONNECTED,
    State.ASKED: ConnectionState.CONNECTING,
    State.DIALING: ConnectionState.CONNECTING,
    State.CONNECTED: ConnectionState.CONNECTED,
    State.WAITING: ConnectionState.RECONNECTING,
    State.REASKED: ConnectionState.RECONNECTING,
    State.REDIALING: ConnectionState.RECONNECTING,
    State.FAILED: ConnectionState.FAILED,
    State.CLOSING: ConnectionState.DISCONNECTED,
    State.REOPENING: ConnectionState.CONNECTING,
}

TABLE: dict[tuple[State, Happening], Step] = {
    (State.DISCONNECTED, Happening.OPEN): Step(State.ASKED, (Effect.ASK_TO_DIAL_AFRESH,)),
    (State.DISCONNECTED, Happening.CLOSE): Step(State.DISCONNECTED, (Effect.ANSWER_CLOSES,)),
    (State.DISCONNECTED, Happening.DIAL): Step(State.DISCONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.DISCONNECTED, Happening.GAVE_UP): Step(State.DISCONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.DISCONNECTED, Happening.DIALED): Step(State.DISCONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.DISCONNECTED, Happening.DIAL_FAILED): Step(State.DISCONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.DISCONNECTED, Happening.LOST): Step(State.DISCONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.DISCONNECTED, Happening.PING): Step(State.DISCONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.DISCONNECTED, Happening.HANGUP): Step(State.DISCONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.DISCONNECTED, Happening.STALE_DIAL): Step(State.DISCONNECTED),
    (State.DISCONNECTED, Happening.STALE_GAVE_UP): Step(State.DISCONNECTED),
    (State.DISCONNECTED, Happening.STALE_DIALED): Step(State.DISCONNECTED, (Effect.DISCARD_LINK,)),
    (State.DISCONNECTED, Happening.STALE_DIAL_FAILED): Step(State.DISCONNECTED),
    (State.DISCONNECTED, Happening.STALE_LOST): Step(State.DISCONNECTED),
    (State.DISCONNECTED, Happening.STALE_PING): Step(State.DISCONNECTED),
    (State.DISCONNECTED, Happening.STALE_HANGUP): Step(State.DISCONNECTED),
    (State.ASKED, Happening.OPEN): Step(State.ASKED),
    (State.ASKED, Happening.CLOSE): Step(
        State.DISCONNECTED, (Effect.STAND_DOWN, Effect.ANSWER_OPENS, Effect.ANSWER_CLOSES)
    ),
    (State.ASKED, Happening.DIAL): Step(State.DIALING, (Effect.START_DIAL,)),
    (State.ASKED, Happening.GAVE_UP): Step(State.ASKED, (Effect.CANNOT_HAPPEN,)),
    (State.ASKED, Happening.DIALED): Step(State.ASKED, (Effect.CANNOT_HAPPEN,)),
    (State.ASKED, Happening.DIAL_FAILED): Step(State.ASKED, (Effect.CANNOT_HAPPEN,)),
    (State.ASKED, Happening.LOST): Step(State.ASKED, (Effect.CANNOT_HAPPEN,)),
    (State.ASKED, Happening.PING): Step(State.ASKED, (Effect.CANNOT_HAPPEN,)),
    (State.ASKED, Happening.HANGUP): Step(State.ASKED, (Effect.CANNOT_HAPPEN,)),
    (State.ASKED, Happening.STALE_DIAL): Step(State.ASKED),
    (State.ASKED, Happening.STALE_GAVE_UP): Step(State.ASKED),
    (State.ASKED, Happening.STALE_DIALED): Step(State.ASKED, (Effect.DISCARD_LINK,)),
    (State.ASKED, Happening.STALE_DIAL_FAILED): Step(State.ASKED),
    (State.ASKED, Happening.STALE_LOST): Step(State.ASKED),
    (State.ASKED, Happening.STALE_PING): Step(State.ASKED),
    (State.ASKED, Happening.STALE_HANGUP): Step(State.ASKED),
    (State.DIALING, Happening.OPEN): Step(State.DIALING),
    (State.DIALING, Happening.CLOSE): Step(
        State.DISCONNECTED, (Effect.CANCEL_DIAL, Effect.STAND_DOWN, Effect.ANSWER_OPENS, Effect.ANSWER_CLOSES)
    ),
    (State.DIALING, Happening.DIAL): Step(State.DIALING, (Effect.CANNOT_HAPPEN,)),
    (State.DIALING, Happening.GAVE_UP): Step(State.DIALING, (Effect.CANNOT_HAPPEN,)),
    (State.DIALING, Happening.DIALED): Step(State.CONNECTED, (Effect.ADOPT_LINK, Effect.ANSWER_OPENS)),
    (State.DIALING, Happening.DIAL_FAILED): Step(State.WAITING, (Effect.REPORT_FAILURE,)),
    (State.DIALING, Happening.LOST): Step(State.DIALING, (Effect.CANNOT_HAPPEN,)),
    (State.DIALING, Happening.PING): Step(State.DIALING, (Effect.CANNOT_HAPPEN,)),
    (State.DIALING, Happening.HANGUP): Step(State.DIALING, (Effect.CANNOT_HAPPEN,)),
    (State.DIALING, Happening.STALE_DIAL): Step(State.DIALING),
    (State.DIALING, Happening.STALE_GAVE_UP): Step(State.DIALING),
    (State.DIALING, Happening.STALE_DIALED): Step(State.DIALING, (Effect.DISCARD_LINK,)),
    (State.DIALING, Happening.STALE_DIAL_FAILED): Step(State.DIALING),
    (State.DIALING, Happening.STALE_LOST): Step(State.DIALING),
    (State.DIALING, Happening.STALE_PING): Step(State.DIALING),
    (State.DIALING, Happening.STALE_HANGUP): Step(State.DIALING),
    (State.CONNECTED, Happening.OPEN): Step(State.CONNECTED, (Effect.ANSWER_OPENS,)),
    (State.CONNECTED, Happening.CLOSE): Step(State.CLOSING, (Effect.STAND_DOWN, Effect.SAY_GOODBYE)),
    (State.CONNECTED, Happening.DIAL): Step(State.CONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.CONNECTED, Happening.GAVE_UP): Step(State.CONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.CONNECTED, Happening.DIALED): Step(State.CONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.CONNECTED, Happening.DIAL_FAILED): Step(State.CONNECTED, (Effect.CANNOT_HAPPEN,)),
    (State.CONNECTED, Happening.LOST): Step(State.WAITING, (Effect.ANNOUNCE_DOWN,)),
    (State.CONNECTED, Happening.PING): Step(State.CONNECTED, (Effect.SEND_PING,)),
    (State.CONNECTED, Happening.HANGUP): Step(State.CONNECTED, (Effect.HANG_UP,)),
    (State.CONNECTED, Happening.STALE_DIAL): Step(State.CONNECTED),
    (State.CONNECTED, Happening.STALE_GAVE_UP): Step(State.CONNECTED),
    (State.CONNECTED, Happening.STALE_DIALED): Step(State.CONNECTED, (Effect.DISCARD_LINK,)),
    (State.CONNECTED, Happening.STALE_DIAL_FAILED): Step(State.CONNECTED),
    (State.CONNECTED, Happening.STALE_LOST): Step(State.CONNECTED),
    (State.CONNECTED, Happening.STALE_PING): Step(State.CONNECTED),
    (State.CONNECTED, Happening.STALE_HANGUP): Step(State.CONNECTED),
    (State.WAITING, Happening.OPEN): Step(State.REASKED, (Effect.ASK_TO_DIAL,)),
    (State.WAITING, Happening.CLOSE): Step(
        State.DISCONNECTED, (Effect.STAND_DOWN, Effect.ANSWER_OPENS, Effect.ANSWER_CLOSES)
    ),
    (State.WAITING, Happening.DIAL): Step(State.REDIALING, (Effect.START_DIAL,)),
    (State.WAITING, Happening.GAVE_UP): Step(State.FAILED, (Effect.ANSWER_OPENS,)),
    (State.WAITING, Happening.DIALED): Step(State.WAITING, (Effect.CANNOT_HAPPEN,)),
    (State.WAITING, Happening.DIAL_FAILED): Step(State.WAITING, (Effect.CANNOT_HAPPEN,)),
    (State.WAITING, Happening.LOST): Step(State.WAITING, (Effect.CANNOT_HAPPEN,)),
    (State.WAITING, Happening.PING): Step(State.WAITING, (Effect.CANNOT_HAPPEN,)),
    (State.WAITING, Happening.HANGUP): Step(State.WAITING, (Effect.CANNOT_HAPPEN,)),
    (State.WAITING, Happening.STALE_DIAL): Step(State.WAITING),
    (State.WAITING, Happening.STALE_GAVE_UP): Step(State.WAITING),
    (State.WAITING, Happening.STALE_DIALED): Step(State.WAITING, (Effect.DISCARD_LINK,)),
    (State.WAITING, Happening.STALE_DIAL_FAILED): Step(State.WAITING),
    (State.WAITING, Happening.STALE_LOST): Step(State.WAITING),
    (State.WAITING, Happening.STALE_PING): Step(State.WAITING),
    (State.WAITING, Happening.STALE_HANGUP): Step(State.WAITING),
    (State.REASKED, Happening.OPEN): Step(State.REASKED),
    (State.REASKED, Happening.CLOSE): Step(
        State.DISCONNECTED, (Effect.STAND_DOWN, Effect.ANSWER_OPENS, Effect.ANSWER_CLOSES)
    ),
    (State.REASKED, Happening.DIAL): Step(State.REDIALING, (Effect.START_DIAL,)),
    (State.REASKED, Happening.GAVE_UP): Step(State.REASKED, (Effect.CANNOT_HAPPEN,)),
    (State.REASKED, Happening.DIALED): Step(State.REASKED, (Effect.CANNOT_HAPPEN,)),
    (State.REASKED, Happening.DIAL_FAILED): Step(State.REASKED, (Effect.CANNOT_HAPPEN,)),
    (State.REASKED, Happening.LOST): Step(State.REASKED, (Effect.CANNOT_HAPPEN,)),
    (State.REASKED, Happening.PING): Step(State.REASKED, (Effect.CANNOT_HAPPEN,)),
    (State.REASKED, Happening.HANGUP): Step(State.REASKED, (Effect.CANNOT_HAPPEN,)),
    (State.REASKED, Happening.STALE_DIAL): Step(State.REASKED),
    (State.REASKED, Happening.STALE_GAVE_UP): Step(State.REASKED),
    (State.REASKED, Happening.STALE_DIALED): Step(State.REASKED, (Effect.DISCARD_LINK,)),
    (State.REASKED, Happening.STALE_DIAL_FAILED): Step(State.REASKED),
    (State.REASKED, Happening.STALE_LOST): Step(State.REASKED),
    (State.REASKED, Happening.STALE_PING): Step(State.REASKED),
    (State.REASKED, Happening.STALE_HANGUP): Step(State.REASKED),
    (State.REDIALING, Happening.OPEN): Step(State.REDIALING),
    (State.REDIALING, Happening.CLOSE): Step(
        State.DISCONNECTED, (Effect.CANCEL_DIAL, Effect.STAND_DOWN, Effect.ANSWER_OPENS, Effect.ANSWER_CLOSES)
    ),
    (State.REDIALING, Happening.DIAL): Step(State.REDIALING, (Effect.CANNOT_HAPPEN,)),
    (State.REDIALING, Happening.GAVE_UP): Step(State.REDIALING, (Effect.CANNOT_HAPPEN,)),
    (State.REDIALING, Happening.DIALED): Step(State.CONNECTED, (Effect.ADOPT_LINK, Effect.ANSWER_OPENS)),
    (State.REDIALING, Happening.DIAL_FAILED): Step(State.WAITING, (Effect.REPORT_FAILURE,)),
    (State.REDIALING, Happening.LOST): Step(State.REDIALING, (Effect.CANNOT_HAPPEN,)),
    (State.REDIALING, Happening.PING): Step(State.REDIALING, (Effect.CANNOT_HAPPEN,)),
    (State.REDIALING, Happening.HANGUP): Step(State.REDIALING, (Effect.CANNOT_HAPPEN,)),
    (State.REDIALING, Happening.STALE_DIAL): Step(State.REDIALING),
    (State.REDIALING, Happening.STALE_GAVE_UP): Step(State.REDIALING),
    (State.REDIALING, Happening.STALE_DIALED): Step(State.REDIALING, (Effect.DISCARD_LINK,)),
    (State.REDIALING, Happening.STALE_DIAL_FAILED): Step(State.REDIALING),
    (State.REDIALING, Happening.STALE_LOST): Step(State.REDIALING),
    (State.REDIALING, Happening.STALE_PING): Step(State.REDIALING),
    (State.REDIALING, Happening.STALE_HANGUP): Step(State.REDIALING),
    (State.FAILED, Happening.OPEN): Step(State.ASKED, (Effect.ASK_TO_DIAL_AFRESH,)),
    (State.FAILED, Happening.CLOSE): Step(State.FAILED, (Effect.ANSWER_CLOSES,)),
    (State.FAILED, Happening.DIAL): Step(State.FAILED, (Effect.CANNOT_HAPPEN,)),
    (State.FAILED, Happening.GAVE_UP): Step(State.FAILED, (Effect.CANNOT_HAPPEN,)),
    (State.FAILED, Happening.DIALED): Step(State.FAILED, (Effect.CANNOT_HAPPEN,)),
    (State.FAILED, Happening.DIAL_FAILED): Step(State.FAILED, (Effect.CANNOT_HAPPEN,)),
    (State.FAILED, Happening.LOST): Step(State.FAILED, (Effect.CANNOT_HAPPEN,)),
    (State.FAILED, Happening.PING): Step(State.FAILED, (Effect.CANNOT_HAPPEN,)),
    (State.FAILED, Happening.HANGUP): Step(State.FAILED, (Effect.CANNOT_HAPPEN,)),
    (State.FAILED, Happening.STALE_DIAL): Step(State.FAILED),
    (State.FAILED, Happening.STALE_GAVE_UP): Step(State.FAILED),
    (State.FAILED, Happening.STALE_DIALED): Step(State.FAILED, (Effect.DISCARD_LINK,)),
    (State.FAILED, Happening.STALE_DIAL_FAILED): Step(State.FAILED),
    (State.FAILED, Happening.STALE_LOST): Step(State.FAILED),
    (State.FAILED, Happening.STALE_PING): Step(State.FAILED),
    (State.FAILED, Happening.STALE_HANGUP): Step(State.FAILED),
    (State.CLOSING, Happening.OPEN): Step(State.REOPENING),
    (State.CLOSING, Happening.CLOSE): Step(State.CLOSING),
    (State.CLOSING, Happening.DIAL): Step(State.CLOSING, (Effect.CANNOT_HAPPEN,)),
    (State.CLOSING, Happening.GAVE_UP): Step(State.CLOSING, (Effect.CANNOT_HAPPEN,)),
    (State.CLOSING, Happening.DIALED): Step(State.CLOSING, (Effect.CANNOT_HAPPEN,)),
    (State.CLOSING, Happening.DIAL_FAILED): Step(State.CLOSING, (Effect.CANNOT_HAPPEN,)),
    (State.CLOSING, Happening.LOST): Step(State.DISCONNECTED, (Effect.ANNOUNCE_DOWN, Effect.ANSWER_CLOSES)),
    # The DISCONNECT is the last packet of a link.
    (State.CLOSING, Happening.PING): Step(State.CLOSING),
    (State.CLOSING, Happening.HANGUP): Step(State.CLOSING, (Effect.HANG_UP,)),
    (State.CLOSING, Happening.STALE_DIAL): Step(State.CLOSING),
    (State.CLOSING, Happening.STALE_GAVE_UP): Step(State.CLOSING),
    (State.CLOSING, Happening.STALE_DIALED): Step(State.CLOSING, (Effect.DISCARD_LINK,)),
    (State.CLOSING, Happening.STALE_DIAL_FAILED): Step(State.CLOSING),
    (State.CLOSING, Happening.STALE_LOST): Step(State.CLOSING),
    (State.CLOSING, Happening.STALE_PING): Step(State.CLOSING),
    (State.CLOSING, Happening.STALE_HANGUP): Step(State.CLOSING),
    (State.REOPENING, Happening.OPEN): Step(State.REOPENING),
    (State.REOPENING, Happening.CLOSE): Step(State.CLOSING, (Effect.ANSWER_OPENS,)),
    (State.REOPENING, Happening.DIAL): Step(State.REOPENING, (Effect.CANNOT_HAPPEN,)),
    (State.REOPENING, Happening.GAVE_UP): Step(State.REOPENING, (Effect.CANNOT_HAPPEN,)),
    (State.REOPENING, Happening.DIALED): Step(State.REOPENING, (Effect.CANNOT_HAPPEN,)),
    (State.REOPENING, Happening.DIAL_FAILED): Step(State.REOPENING, (Effect.CANNOT_HAPPEN,)),
    (State.REOPENING, Happening.LOST): Step(
        State.ASKED, (Effect.ANNOUNCE_DOWN, Effect.ANSWER_CLOSES, Effect.ASK_TO_DIAL_AFRESH)
    ),
    (State.REOPENING, Happening.PING): Step(State.REOPENING),
    (State.REOPENING, Happening.HANGUP): Step(State.REOPENING, (Effect.HANG_UP,)),
    (State.REOPENING, Happening.STALE_DIAL): Step(State.REOPENING),
    (State.REOPENING, Happening.STALE_GAVE_UP): Step(State.REOPENING),
    (State.REOPENING, Happening.STALE_DIALED): Step(State.REOPENING, (Effect.DISCARD_LINK,)),
    (State.REOPENING, Happening.STALE_DIAL_FAILED): Step(State.REOPENING),
    (State.REOPENING, Happening.STALE_LOST): Step(State.REOPENING),
    (State.REOPENING, Happening.STALE_PING): Step(State.REOPENING),
    (State.REOPENING, Happening.STALE_HANGUP): Step(State.REOPENING),
}

PUBLIC_EDGES: frozenset[tuple[ConnectionState, ConnectionState]] = frozenset(
    (public_state(state), public_state(step.state))
    for (state, _), step in TABLE.items()
    if public_state(state) is not public_state(step.state)
)
"""Every change of the public state that there can be (promise C5)."""
