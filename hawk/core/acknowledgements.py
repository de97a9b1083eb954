"""What the broker is told of what it sent, and in which order: PUBACK, PUBREC, PUBCOMP.

PUBACKs go out in the order in which their messages came, PUBRECs likewise, however handlers finish (MQTT-4.6.0-2 and -3).
An acknowledgement belongs to the link that brought its message; what may be repeated belongs to the session.
"""

import math
from collections import deque
from collections.abc import Iterable

from hawk.core.holders import SPENT, Arrival, Blocking, is_another
from hawk.messages import Delivered, InboxRecord
from hawk.packets import AckKind, Acknowledgement, Outgoing

BLOCKED_TOO_LONG_S = 60.0
"""How long a delivery may keep those behind it from being acknowledged before a WARNING names it."""
FULL_TOO_LONG_S = 60.0
"""How long our Receive Maximum may be used up before a WARNING says that what is received is handled too slowly."""
REJECTED = 0x83
"""Implementation specific error: what a PUBACK or PUBREC says of a message that nobody here will ever handle."""

_IDENTIFIER_NOT_FOUND = 0x92


class Acknowledgements:
    """The identifiers of the session, and what the present link is owed."""

    def __init__(self, handled: Iterable[InboxRecord], receive_maximum: int) -> None:
        self._lines: tuple[deque[Arrival], deque[Arrival]] = (deque(), deque())
        self._unreleased: set[int] = set()
        # Of the present session: what the broker may repeat under the same identifier.
        self._known: dict[int, Arrival] = {}
        for record in handled:
            arrival = Arrival(Delivered(0, SPENT[2], redelivered=True, key=record.key), record.identifier, ())
            arrival.ended = arrival.settled = True
            arrival.fingerprint = record.fingerprint
            self._known[record.identifier] = arrival
        self._heads: list[Arrival | None] = [None, None]
        self._head_since = [math.inf, math.inf]
        self._told = False
        self._receive_maximum = receive_maximum
        self._full_since = math.inf
        self._told_full = False

    @property
    def owed(self) -> int:
        """How many messages the present link brought that the broker counts against our Receive Maximum."""
        return len(self._lines[0]) + len(self._lines[1]) + len(self._unreleased)

    @property
    def blocked_too_long_at(self) -> float:
        """When a delivery will have blocked others for too long; inf for never, or when that was said."""
        return math.inf if self._told else min(self._head_since) + BLOCKED_TOO_LONG_S

    @property
    def full_too_long_at(self) -> float:
        """When our Receive Maximum will have been used up for too long; inf for never, or when that was said."""
        return math.inf if self._told_full else self._full_since + FULL_TOO_LONG_S

    def is_full_too_long(self, now: float) -> bool:
        """Whether that is to be said now; once, until half of it is free."""
        if now < self.full_too_long_at:
            return False
        self._told_full = True
        return True

    def repeated(self, identifier: int, qos: int, duplicate: bool, fingerprint: int | None) -> Arrival | None:
        """What came before under this identifier and is not over, if this PUBLISH repeats it."""
        known = self._known.get(identifier)
        if known is None or known.message.qos != qos or is_another(known.fingerprint, fingerprint):
            return None
        # A rejection ended the flow, so the identifier may name another message; else at QoS 2 it cannot until PUBREL.
        return known if duplicate or (qos == 2 and not (known.rejected or known.abandoned)) else None

    def is_present(self, arrival: Arrival) -> bool:
        """Whether its identifier still means this one to the broker."""
        return self._known.get(arrival.identifier) is arrival

    def expect(self, arrival: Arrival) -> None:
        """This link is owed an answer for `arrival`."""
        self._known[arrival.identifier] = arrival
        self._lines[arrival.message.qos - 1].append(arrival)

    def release(self, identifier: int) -> bool:
        """A PUBREL: from now on the identifier names another message. False if it named none."""
        self._unreleased.discard(identifier)
        known = self._known.get(identifier)
        if known is None or known.message.qos != 2:
            return False
        del self._known[identifier]
        return True

    def forget_session(self) -> None:
        """The broker has: no identifier is a repeat any more."""
        self._known.clear()

    def close_lane(self) -> None:
        """The link is down: what it brought can not be acknowledged any more."""
        for line in self._lines:
            line.clear()
        self._unreleased.clear()
        self._heads, self._head_since = [None, None], [math.inf, math.inf]
        self._told = False
        self._full_since = math.inf

    def flush(self, packets: list[Outgoing], now: float) -> None:
        """Append a PUBACK or PUBREC for what is settled, up to the first of its QoS that is not."""
        for index, line in enumerate(self._lines):
            while line and line[0].settled:
                packets.append(self._answer(line.popleft(), index))
            head = line[0] if len(line) > 1 else None
            if head is not self._heads[index]:
                self._heads[index] = head
                self._head_since[index] = math.inf if head is None else now
        if self._told and self._heads == [None, None]:
            self._told = False
        owed = self.owed
        if owed >= self._receive_maximum:
            self._full_since = min(self._full_since, now)
        elif 2 * owed <= self._receive_maximum:
            self._full_since, self._told_full = math.inf, False

    def blocking(self, now: float) -> Blocking | None:
        """The delivery that has blocked others for too long; once in each episode, until nobody is blocked."""
        if now < self.blocked_too_long_at:
            return None
        index = self._head_since.index(min(self._head_since))
        head, line = self._heads[index], self._lines[index]
        assert head is not None
        self._told = True
        return Blocking(head.delivered.message.topic, head.delivered.key, len(line) - 1)

    def _answer(self, arrival: Arrival, index: int) -> Acknowledgement:
        identifier = arrival.identifier
        code = REJECTED if arrival.rejected or arrival.abandoned else 0
        if index:
            if not code:
                self._unreleased.add(identifier)
            return Acknowledgement(AckKind.PUBREC, identifier, code)
        if self._known.get(identifier) is arrival:
            del self._known[identifier]
        return Acknowledgement(AckKind.PUBACK, identifier, code)


def completion(identifier: int, *, found: bool) -> Acknowledgement:
    """The PUBCOMP for a PUBREL."""
    return Acknowledgement(AckKind.PUBCOMP, identifier, 0 if found else _IDENTIFIER_NOT_FOUND)
