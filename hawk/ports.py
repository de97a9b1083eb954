"""The ports: what hawk needs of the world outside, as Protocols. Adapters live in `links/` and `stores/`.

Ports are verbs that return or raise. No adapter keeps a task of its own, and none raises anything but what is named here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from hawk.connecting import Endpoint
from hawk.messages import Commit, InboxCommit, InboxRecovered, Page, ReadPage, Recovered
from hawk.packets import Arrivals, Connack, ConnectRequest, Outgoing


class Link(Protocol):
    """One network connection on which the broker accepted a CONNECT."""

    @property
    def connack(self) -> Connack:
        """What the broker said when it accepted."""

    @property
    def written_bytes(self) -> int:
        """How much the socket has taken so far: a long write during which this grows is slow, and not stalled."""

    async def send(self, packets: Sequence[Outgoing]) -> None:
        """Write `packets` in this order; returns when the socket has taken them. One task at a time.

        Raises `LinkLost`. Cancelling tears the stream: the link can only be closed after that.
        """

    async def receive(self) -> Arrivals:
        """Wait for bytes and return all that they say. One task at a time.

        Raises `LinkLost`, once what came before the end has been returned. Cancelling loses nothing.
        """

    async def aclose(self) -> None:
        """Close at once, without a DISCONNECT. Idempotent; never raises; safe to cancel."""


class Dialer(Protocol):
    """Makes links."""

    async def dial(self, request: ConnectRequest) -> Link:
        """Look the name up, connect, exchange CONNECT and CONNACK. No deadline of its own: the caller sets one.

        Raises `Unreachable`, `Untrusted`, `Unprepared` or `ConnectRefused`. Cancelling leaves no socket behind.
        """

    async def reach(self, endpoint: Endpoint) -> None:
        """Connect to `endpoint` without a CONNECT, and close again: could a dial begin? Raises and cancels as `dial`."""


class OutboxStore(Protocol):
    """Keeps accepted messages, dead letters, and who this hawk is. One call at a time; what `commit` returned from is kept.

    A store measures how long a record has waited: what it returns as `remaining_s` is what is left at that moment.
    """

    @property
    def durable(self) -> bool:
        """Whether what is committed outlives the process: then acceptance waits for the commit."""

    async def open(self) -> Recovered:
        """Open, and say what an earlier process left. Raises `StoreFailed`, `OutboxInUse`."""

    async def commit(self, changes: Commit) -> None:
        """Apply all of `changes` or nothing. Cancelling: applied or not, never half.

        Raises `StoreFailed`: nothing of it is kept. A store that cannot know that (a sync that failed) makes it so once it
        works again, before anything else.
        """

    async def page(self, request: ReadPage) -> Page:
        """Read waiting records (stage QUEUED). Raises `StoreFailed`. Cancelling changes nothing."""

    async def aclose(self) -> None:
        """Close. Idempotent."""


class InboxStore(Protocol):
    """Keeps what receiving must remember of the broker's session: QoS 2 messages under way, filters subscribed.

    With an outbox file it is a table of its own in it, so that one session is remembered in one place. One caller at a
    time; what `commit` returned from is kept.
    """

    async def open(self) -> InboxRecovered:
        """Open, and return what was kept. Raises `StoreFailed`, `OutboxInUse`."""

    async def commit(self, changes: InboxCommit) -> None:
        """Apply all of `changes` or nothing. Raises `StoreFailed`. Cancelling: applied or not, never half."""

    async def aclose(self) -> None:
        """Close. Idempotent."""


class WallClock(Protocol):
    """Tells the calendar's time, for people and for expiry over a restart; never for measuring a duration."""

    def now(self) -> float:
        """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything of the outside world that one hawk uses. Tests replace what they want to rehearse.

    Without an `outbox_store` nothing outlives the process: the Queue keeper's bounded queue is the whole outbox.
    """

    dialer: Dialer
    outbox_store: OutboxStore | None
    wall_clock: WallClock
    random: Random
    keeper_inbox: int = 1024
    """Capacity of the two keepers' inboxes. A rehearsal with 1 shows that nothing depends on their size."""
    inbox_store: InboxStore | None = None
    """What receiving remembers; None keeps it in memory, for as long as one `MQTTInterface` lives."""
