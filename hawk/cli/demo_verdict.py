"""What a run of `hawk demo` came to: its history, judged by the checkers of `hawk.testing`. No tasks, no clock, no words.

Every sensor has a topic and a QoS of its own, and is judged apart: MQTT promises an order for one topic at one QoS, and
nothing between two (MQTT 5.0, 4.6).

At QoS 1 a reading that was on its way when the broker died may come twice, so a repeat there is counted and is no fault.
At QoS 2 it must not while the sessions live, and in the demo they do: so a repeat there is one.
"""

from collections.abc import Iterable
from typing import NamedTuple

from hawk.testing.history import Verdict, judge
from hawk.values import ConnectionState

Key = tuple[str, int]
"""A reading: its sensor's topic, and its number on that topic."""


class Sensor(NamedTuple):
    """Where one sensor's readings go."""

    topic: str
    qos: int


class Stamped(NamedTuple):
    """A reading, and when something happened to it: seconds since the run began."""

    key: Key
    at_s: float


class History:
    """What happened in one run, written down as it happens. Instants are seconds since the run began."""

    def __init__(self, sensors: Iterable[Sensor]) -> None:
        self.sensors = tuple(sensors)
        self.sent = 0
        self.accepted: list[Stamped] = []
        self.arrived: list[Stamped] = []
        self.unsure: set[Key] = set()
        """Readings whose `publish()` has not returned: nobody knows yet whether hawk has them."""
        self.died_at_s: float | None = None
        self.returned_at_s: float | None = None
        self._seen: set[Key] = set()

    @property
    def delivered(self) -> int:
        """How many different readings have arrived."""
        return len(self._seen)

    def note_sent(self, key: Key) -> None:
        """A sensor calls `publish()`."""
        self.sent += 1
        self.unsure.add(key)

    def note_accepted(self, key: Key, at_s: float) -> None:
        """`publish()` has returned."""
        self.unsure.discard(key)
        self.accepted.append(Stamped(key, at_s))

    def note_arrived(self, key: Key, at_s: float) -> None:
        """The subscriber was given the reading."""
        self._seen.add(key)
        self.arrived.append(Stamped(key, at_s))

    def underway(self) -> list[Key]:
        """The readings that were accepted and have not arrived."""
        return [key for key, _ in self.accepted if key not in self._seen]


class Outcome(NamedTuple):
    """The numbers of one run, in the order in which `--json` prints them."""

    sent: int
    accepted: int
    delivered: int
    lost: int
    duplicated: int
    reordered: int
    outage_s: float | None
    recovered_s: float | None
    reconnections: int
    final_state: str


class Judgement(NamedTuple):
    """The outcome, what is wrong with it, and how many readings were still on their way when the run was cut short."""

    outcome: Outcome
    lost: list[Key]
    repeated: list[Key]
    """Those that came twice although their QoS is 2."""
    reordered: list[Key]
    underway: int

    @property
    def passed(self) -> bool:
        """Nothing lost, nothing out of order, nothing at QoS 2 twice, and the connection up at the end."""
        connected = self.outcome.final_state == ConnectionState.CONNECTED.value
        return connected and not (self.lost or self.repeated or self.reordered)


def judge_history(history: History, *, reconnections: int, final_state: ConnectionState, cut_short: bool) -> Judgement:
    """Judge what has happened. In a run that was cut short, what has not arrived yet is on its way and not lost."""
    underway = history.underway() if cut_short else []
    verdicts = {sensor: _judge_sensor(history, sensor, underway) for sensor in history.sensors}
    lost = [key for verdict in verdicts.values() for key in verdict.lost]
    reordered = [key for verdict in verdicts.values() for key in verdict.reordered]
    outcome = Outcome(
        sent=history.sent,
        accepted=len(history.accepted),
        delivered=history.delivered,
        lost=len(lost),
        duplicated=sum(len(verdict.duplicated) for verdict in verdicts.values()),
        reordered=len(reordered),
        outage_s=_outage_s(history),
        recovered_s=_recovered_s(history, cut_short=cut_short),
        reconnections=reconnections,
        final_state=final_state.value,
    )
    repeated = [key for sensor, verdict in verdicts.items() if sensor.qos == 2 for key in verdict.duplicated]
    return Judgement(outcome, lost, repeated, reordered, len(underway))


def _judge_sensor(history: History, sensor: Sensor, underway: list[Key]) -> Verdict[Key]:
    accepted = [key for key, _ in history.accepted if key[0] == sensor.topic]
    # A publish() that a Ctrl-C cut off may have handed its reading over: it counts neither way.
    arrived = [key for key, _ in history.arrived if key[0] == sensor.topic and key not in history.unsure]
    return judge(accepted, arrived, excused=underway)


def _outage_s(history: History) -> float | None:
    """How long the broker was away."""
    if history.died_at_s is None or history.returned_at_s is None:
        return None
    return round(history.returned_at_s - history.died_at_s, 3)


def _recovered_s(history: History, *, cut_short: bool) -> float | None:
    """From the broker's return until the last of what had been accepted by then arrived; None if that did not happen."""
    returned_at_s = history.returned_at_s
    if returned_at_s is None:
        return None
    waiting = {key for key, at_s in history.accepted if at_s <= returned_at_s}
    first_at_s = dict[Key, float]()
    for key, at_s in history.arrived:
        first_at_s.setdefault(key, at_s)
    arrivals = [first_at_s[key] for key in waiting if key in first_at_s]
    if not arrivals or (cut_short and len(arrivals) < len(waiting)) or max(arrivals) < returned_at_s:
        return None
    return round(max(arrivals) - returned_at_s, 3)
