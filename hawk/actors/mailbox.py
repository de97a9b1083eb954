"""How actors wait, and how they hand on: the few words that every shell shares.

An actor waits in one place, for its next message or a deadline (`receive_by`), and takes all that waits (`take_all`).
"""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.messages import Event, Missed, Report, Transmit

T = TypeVar("T")

RETRY_REPORT_S = 0.05
MOST_UNSENT_EVENTS = 10_000


async def receive_by(inbox: MemoryObjectReceiveStream[T], deadline: float) -> T | None:
    """The next message, or None when `deadline` (hawk's time; inf for never) came and the inbox was empty.

    What waits comes first, however late it is: an overdue deadline never makes an actor deaf. Cancelling loses nothing.
    """
    try:
        return inbox.receive_nowait()
    except anyio.WouldBlock:
        message = None
    with anyio.CancelScope(deadline=deadline):
        message = await inbox.receive()
    if message is None:
        try:
            message = inbox.receive_nowait()
        except anyio.WouldBlock:
            return None
    return message


def take_all(inbox: MemoryObjectReceiveStream[T], first: T | None) -> list[T]:
    """`first`, if there is one, and everything that waits behind it, in order."""
    batch = [] if first is None else [first]
    try:
        while True:
            batch.append(inbox.receive_nowait())
    except anyio.WouldBlock:
        return batch


@dataclass(frozen=True, eq=False, slots=True)
class MemoryLane:
    """The lane of one link: a bounded channel to its writer, compared by identity."""

    number: int
    _to_writer: MemoryObjectSendStream[Transmit]

    def send_nowait(self, transmit: Transmit, /) -> None:
        """Hand packets to the writer. Raises `anyio.BrokenResourceError` when the link is gone."""
        self._to_writer.send_nowait(transmit)

    def close(self) -> None:
        """Let go of the sending end, once the link has ended."""
        self._to_writer.close()


def open_lane(number: int, capacity: int) -> tuple[MemoryLane, MemoryObjectReceiveStream[Transmit]]:
    """A lane for the link of that number, and the end that its writer reads."""
    to_writer, outgoing = anyio.create_memory_object_stream[Transmit](capacity)
    return MemoryLane(number, to_writer), outgoing


class LatestSender(Generic[T]):
    """A channel that holds only the newest value: for state that is cumulative, to a reader who looks now and then."""

    def __init__(self) -> None:
        self._sender, self.receiver = anyio.create_memory_object_stream[T](1)

    def send(self, value: T) -> None:
        """Replace what was not read yet. Never blocks."""
        try:
            self._sender.send_nowait(value)
        except anyio.WouldBlock:
            self.receiver.receive_nowait()
            self._sender.send_nowait(value)

    def close(self) -> None:
        """Close both ends."""
        self._sender.close()
        self.receiver.close()


class Reporter:
    """An actor's line to the Stats collector. It never waits: what did not fit is kept and goes with the next report."""

    def __init__(self, to_stats: MemoryObjectSendStream[Report]) -> None:
        self._to_stats = to_stats
        self._unsent: Report | None = None
        self._events: deque[Event] = deque()
        self._missed = 0

    @property
    def has_unsent(self) -> bool:
        """Whether a report did not fit: its actor calls `retry` within `RETRY_REPORT_S`."""
        return self._unsent is not None

    def report(self, report: Report) -> None:
        """Send the actor's cumulative state, and events; each event arrives once and in order, states may be skipped."""
        self._unsent = report
        for event in report.events:
            if len(self._events) == MOST_UNSENT_EVENTS:
                self._events.popleft()
                self._missed += 1
            self._events.append(event)
        self.retry()

    def retry(self) -> None:
        """Send what did not fit before."""
        if self._unsent is None:
            return
        missed = (Missed(self._missed),) if self._missed else ()
        try:
            self._to_stats.send_nowait(Report(self._unsent.state, (*missed, *self._events)))
        except anyio.WouldBlock:
            return
        self._unsent, self._missed = None, 0
        self._events.clear()
