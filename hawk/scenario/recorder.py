"""What a run notes while it goes on: events for the journal, the messages under way, the depth of each outbox.

It decides nothing and waits for nothing; the clients and the broker call it. See `journal.py` for what is noted.
"""

from collections.abc import Mapping
from enum import Enum
from random import Random
from typing import Any, NamedTuple

import anyio

from hawk.core.tally import Stats
from hawk.scenario.journal import Delivered, Event, QueueDepth, Sent

_INTO = ("recovered", "accepted", "replayed")
_ENDED = (
    "acknowledged",
    "sent",
    "dead_lettered",
    "expired",
    "dropped",
    "superseded",
    "unknown",
    "damaged",
    "abandoned",
)


class Recorder:
    """The events of one run, and its clock: `now_s` counts from the moment this was made, where the event loop runs.

    `mark` tells this run's messages, and clients, from those of another one at the same broker.
    """

    def __init__(self, mark: str = "") -> None:
        self.mark = mark
        self.began_at = anyio.current_time()
        self.imbalance = 0
        self._events: list[Event] = []
        self._messages: dict[int, _Message] = {}
        self._closed = False

    def begin(self) -> None:
        """The run begins only now, not when this was made."""
        self.began_at = anyio.current_time()

    @property
    def now_s(self) -> float:
        """Seconds since the run began."""
        return anyio.current_time() - self.began_at

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything noted, in the order of time; of the same instant, in the order of noting."""
        return tuple(sorted(self._events, key=lambda event: event.at_s))

    def note(self, event: Event) -> None:
        """Note an event; after `close` nothing any more."""
        if not self._closed:
            self._events.append(event)

    def close(self) -> None:
        """The run is over: what the clients still do while they stop is no part of it."""
        self._closed = True

    def new_message(self, client: str, topic: str, qos: int, size_bytes: int) -> tuple[int, bytes]:
        """Number a message that is about to be sent, and make its payload, which begins with the number."""
        number, now_s = len(self._messages) + 1, self.now_s
        payload = f"{number} {self.mark}".encode().ljust(size_bytes, b".")
        self._messages[number] = _Message(client, now_s)
        self.note(Sent(now_s, client, number, topic, qos, len(payload)))
        return number, payload

    def taken(self, client_identifier: str, topic: str, payload: bytes) -> None:
        """The broker has taken a message. One that is not of this run is passed over."""
        number = self.number_in(payload)
        message = None if number is None else self._messages.get(number)
        if number is None or message is None:
            return
        now_s = self.now_s
        message = self._messages[number] = message._replace(times=message.times + 1)
        self.note(Delivered(now_s, message.client, number, now_s - message.sent_at_s, message.times))

    def number_in(self, payload: bytes) -> int | None:
        """The number of the message with that payload; None if it is not of this run."""
        digits, space, rest = payload.partition(b" ")
        return int(digits) if space and digits.isdigit() and rest.startswith(self.mark.encode()) else None

    def check_balance(self, stats: Stats) -> None:
        """Promise C4 at this very look."""
        counts: Mapping[str, Any] = stats
        into = sum(counts[name] for name in _INTO)
        out = sum(counts[name] for name in _ENDED) + stats["queued"] + stats["in_flight"]
        self.imbalance += abs(into - out)


class QueueTrack:
    """One client's queue depth, thinned out: at most one note in each window of time, and every new peak of a window."""

    def __init__(self, recorder: Recorder, client: str, *, window_s: float) -> None:
        self._recorder = recorder
        self._client = client
        self._window_s = window_s
        self._noted: tuple[int, int] = (0, 0)
        self._noted_at_s = -window_s
        self._last = QueueDepth(0.0, client, 0, 0)

    def look(self, depth: int, size_bytes: int) -> None:
        """Note the depth of now, if it tells something new."""
        now_s = self._recorder.now_s
        if now_s - self._noted_at_s >= self._window_s:
            # What the last window ended with, so that a step is seen as one.
            self._note(self._last)
        self._last = QueueDepth(now_s, self._client, depth, size_bytes)
        if depth > self._noted[0] or size_bytes > self._noted[1] or now_s - self._noted_at_s >= self._window_s:
            self._note(self._last)
            self._noted_at_s = now_s

    def finish(self) -> None:
        """Note the last depth."""
        self._note(self._last)

    def _note(self, reading: QueueDepth) -> None:
        if (reading.depth, reading.size_bytes) != self._noted:
            self._noted = (reading.depth, reading.size_bytes)
            self._recorder.note(reading)


class Draw(NamedTuple):
    """A delay that was drawn, and between what."""

    delay_s: float
    least_s: float
    most_s: float


class TellingRandom(Random):
    """A `Random` that remembers the last delay drawn from it: of all of hawk, only the backoff calls `uniform`."""

    last: Draw | None = None

    def uniform(self, a: float, b: float) -> float:
        """As `Random.uniform`."""
        drawn = super().uniform(a, b)
        self.last = Draw(drawn, a, b)
        return drawn

    def take(self) -> Draw | None:
        """The last draw, once."""
        last, self.last = self.last, None
        return last


def plain(value: object) -> Any:
    """A field of a log record as JSON has it."""
    if isinstance(value, Enum):
        return value.value
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


class _Message(NamedTuple):
    client: str
    sent_at_s: float
    times: int = 0
