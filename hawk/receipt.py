"""The receipt: what a sender holds of a message, and how it learns what became of it."""

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from hawk.errors import (
    Dropped,
    Expired,
    HawkError,
    OutboxFull,
    OutboxUnavailable,
    Refused,
    Stopped,
    Superseded,
    UnknownFate,
)
from hawk.values import Fate, FateKind, Ledger

if TYPE_CHECKING:
    from hawk.wiring import Service

_DELIVERED = frozenset({FateKind.ACKNOWLEDGED, FateKind.SENT})
_NEVER_ACCEPTED = frozenset({FateKind.FULL, FateKind.UNAVAILABLE, FateKind.STOPPED})
_ERRORS: dict[FateKind, type[HawkError]] = {
    FateKind.EXPIRED: Expired,
    FateKind.DROPPED: Dropped,
    FateKind.SUPERSEDED: Superseded,
    FateKind.UNKNOWN: UnknownFate,
    FateKind.DAMAGED: Dropped,
    FateKind.ABANDONED: Stopped,
    FateKind.STOPPED: Stopped,
    FateKind.FULL: OutboxFull,
    FateKind.UNAVAILABLE: OutboxUnavailable,
}


class Receipt:
    """For one message, or for all of a `publish_many`. hawk holds it weakly: dropping it costs nothing and loses nothing.

    `await accepted()` is promise C1, `await acknowledged()` is the broker's word.
    """

    __slots__ = (
        "__weakref__",
        "_accepted_in",
        "_changed",
        "_failure",
        "_learn",
        "_messages",
        "_service",
        "_turned_away",
        "_unaccepted",
        "_undelivered",
        "_unsettled",
    )

    def __init__(self, messages: int, unaccepted: int, service: "Service", learn: Callable[[Ledger], None]) -> None:
        self._messages = messages
        self._turned_away = False
        self._accepted_in = 0
        self._unaccepted = unaccepted
        self._unsettled = messages
        self._undelivered = 0
        self._failure: Fate | None = None
        self._service = service
        self._learn = learn
        self._changed: anyio.Event | None = None

    @property
    def reference(self) -> "weakref.ref[Receipt]":
        """What the Queue keeper is given."""
        return weakref.ref(self)

    def share(self, changed: anyio.Event) -> None:
        """Be woken by an event that others are woken by as well: at a fraction of what one of its own costs.

        Whoever waits already, with an event that is this receipt's own, goes on to.
        """
        if self._changed is None:
            self._changed = changed

    @property
    def settled(self) -> bool:
        """Whether every message of this receipt has met its fate."""
        return not self._unsettled

    @property
    def delivered(self) -> int:
        """How many messages of this receipt the broker has acknowledged until now (QoS 0: the socket took them)."""
        return self._messages - self._unsettled - self._undelivered

    async def accepted(self) -> None:
        """Wait until hawk has taken responsibility: on disk with an outbox file, else in the bounded queue.

        Raises `OutboxFull`, `OutboxUnavailable`, `Dropped` or `Stopped`. Cancelling ends the wait, not the message.
        """
        while self._unaccepted and not self._turned_away:
            await self._change()
        if self._turned_away:
            self._raise_failure()

    async def acknowledged(self) -> None:
        """Wait until the broker has acknowledged every message (QoS 0: until the socket took it).

        Raises what became of the first that was not delivered: `Refused`, `Expired`, `Dropped`, `Superseded`,
        `UnknownFate`, `OutboxFull`, `OutboxUnavailable` or `Stopped`. Cancelling ends the wait, not the message.
        """
        while self._unsettled:
            await self._change()
        self._raise_failure()

    def accept(self, ledger: Ledger, messages: int = 1) -> None:
        """From the Queue keeper: so many messages are accepted."""
        self._learn(ledger)
        self._accepted_in = ledger.revision
        self._unaccepted -= messages
        if not self._unaccepted:
            self._wake()

    def settle(self, fate: Fate, ledger: Ledger, messages: int = 1) -> None:
        """From the Queue keeper: so many messages have met this fate."""
        self._learn(ledger)
        self._unsettled -= messages
        if fate.kind not in _DELIVERED:
            self._fail(fate, messages, ledger.revision)
        if not self._unsettled:
            self._wake()

    def _fail(self, fate: Fate, messages: int, revision: int) -> None:
        self._undelivered += messages
        if fate.kind in _NEVER_ACCEPTED and self._unaccepted:
            # What turns hawk away weighs more than what became of those it had let in.
            self._turned_away, self._failure = True, fate
            self._wake()
        elif fate.kind is FateKind.DROPPED and self._messages == 1 and self._accepted_in == revision:
            # Let in and out in one breath: a policy did that, and no link that died since.
            self._turned_away, self._failure = True, fate
        elif self._failure is None:
            self._failure = fate
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def _change(self) -> None:
        changed = self._changed
        if changed is None:
            changed = self._changed = anyio.Event()
        await self._service.wait_for(changed)
        if self._changed is changed:
            # It was set for another receipt that shares it.
            self._changed = None

    def _raise_failure(self) -> None:
        fate = self._failure
        if fate is None:
            return
        if fate.kind is FateKind.DEAD_LETTERED:
            raise Refused("the message was set aside", reason_code=fate.reason_code, reason=fate.detail)
        raise _ERRORS[fate.kind](fate.detail)

    def __repr__(self) -> str:
        state = "settled" if self.settled else f"{self._unsettled} not settled"
        return f"<Receipt: {state}{'' if self._failure is None else f', {self._failure.kind.value}'}>"
