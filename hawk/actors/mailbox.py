"""How actors wait, and how they hand on: the few words that every shell shares.

An actor waits in one place, for its next message or a deadline (`receive_by`), and takes all that waits (`take_all`).
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Generic, NoReturn, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.messages import Channel, Event, Missed, Report, Transmit

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

RETRY_REPORT_S = 0.05
MOST_UNSENT_EVENTS = 10_000
PACKET_IDENTIFIERS = 65_535
"""So many answers at most are owed to a peer that keeps to the protocol, if not to our Receive Maximum (section 2.2.1)."""


async def receive_by(inbox: MemoryObjectReceiveStream[T], deadline: float) -> T | None:
    """The next message, or None when `deadline` (hawk's time; inf for never) came and the inbox was empty.

    What waits comes first, however late it is: an overdue deadline never makes an actor deaf. Cancelling loses nothing.
    """
    try:
        return inbox.receive_nowait()
    except anyio.WouldBlock:
        message = None
    if deadline == inf:
        # A scope costs as much as the rest of the wait.
        return await inbox.receive()
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


def answer(channel: Channel[T_contra], value: T_contra) -> None:
    """Answer a request. One who was cancelled meanwhile has closed the channel, and needs no answer."""
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        channel.send_nowait(value)
    channel.close()


def is_abandoned(channel: Channel[T_contra]) -> bool:
    """Whether nobody waits for an answer on this channel any more."""
    return isinstance(channel, MemoryObjectSendStream) and not channel.statistics().open_receive_streams


class MemoryLane:
    """The lane of one link: a bounded channel to its writer, compared by identity. Bounded in sends and in packets."""

    __slots__ = ("_most_untaken", "_to_writer", "_untaken", "number", "on_overflow")

    def __init__(self, number: int, to_writer: MemoryObjectSendStream[Transmit], capacity: int) -> None:
        self.number = number
        self.on_overflow: Callable[[], None] | None = None
        self._to_writer = to_writer
        self._most_untaken = capacity + PACKET_IDENTIFIERS
        self._untaken = 0

    def send_nowait(self, transmit: Transmit, /) -> None:
        """Hand packets to the writer. Raises `anyio.BrokenResourceError` when the link is gone.

        Every honest sender is bounded by its credit, so only a peer that provokes answers and never reads them can fill a
        lane: `on_overflow` ends its link. An empty lane takes any one batch, which one read of the link bounds.
        """
        # The writer takes all that waits: an empty lane means that nothing of what was counted is still there.
        if not self._to_writer.statistics().current_buffer_used:
            self._untaken = 0
        elif self._untaken >= self._most_untaken:
            self._overflow()
        try:
            self._to_writer.send_nowait(transmit)
        except anyio.WouldBlock:
            self._overflow()
        except anyio.ClosedResourceError:
            raise anyio.BrokenResourceError from None
        self._untaken += len(transmit.packets)

    def _overflow(self) -> NoReturn:
        if self.on_overflow is not None:
            self.on_overflow()
        raise anyio.BrokenResourceError from None

    def close(self) -> None:
        """Let go of the sending end, once the link has ended."""
        self._to_writer.close()


def open_lane(number: int, capacity: int) -> tuple[MemoryLane, MemoryObjectReceiveStream[Transmit]]:
    """A lane of so many sends for the link of that number, and the end that its writer reads."""
    to_writer, outgoing = anyio.create_memory_object_stream[Transmit](capacity)
    return MemoryLane(number, to_writer, capacity), outgoing


class LatestSender(Generic[T]):
    """A channel that holds only the newest value: for state that is cumulative, to a reader who looks now and then."""

    def __init__(self) -> None:
        self._sender, self.receiver = anyio.create_memory_object_stream[T](1)
        self._last: T | None = None

    def send(self, value: T) -> None:
        """Replace what was not read yet. Never blocks."""
        try:
            self._sender.send_nowait(value)
        except anyio.WouldBlock:
            self.receiver.receive_nowait()
            self._sender.send_nowait(value)

    def latest(self) -> T | None:
        """The value, if there is one that was not read yet."""
        value, self._last = self._last, None
        if value is not None:
            return value
        try:
            return self.receiver.receive_nowait()
        except (anyio.WouldBlock, anyio.ClosedResourceError):
            return None

    def close(self) -> None:
        """Close both ends; what was not read yet can still be."""
        self._last = self.latest()
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
