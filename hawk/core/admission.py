"""Who may come in: the bounds of what waits to be sent, and what happens to those who find no room.

While the link is up a newcomer without room waits for it. While the link is down the overflow policy speaks.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from hawk.config import Config, OverflowPolicy
from hawk.messages import Offer, ReplyReference, Room


class Answer(Enum):
    """What a message without room is told."""

    DROP_OLDEST = "drop the oldest, then ask again"
    DROP_NEWEST = "drop this one"
    WAIT = "wait"
    REFUSE = "refuse"


_WHILE_DOWN: dict[OverflowPolicy, Answer] = {
    "drop_oldest": Answer.DROP_OLDEST,
    "drop_newest": Answer.DROP_NEWEST,
    "wait": Answer.WAIT,
    "reject": Answer.REFUSE,
}


@dataclass(slots=True)
class Parked:
    """An offer that waits for room; the first `admitted` of its messages are in already."""

    offer: Offer
    admitted: int = 0


class Admission:
    """Counts what waits, lends room, and keeps the line of those who wait for some."""

    def __init__(self, config: Config) -> None:
        self._most_messages = config.message_queue_size
        self._most_bytes = config.most_queue_bytes
        self._when_full = _WHILE_DOWN[config.overflow]
        self.waiting = 0
        self.waiting_bytes = 0
        self.line: deque[Parked] = deque()

    def add(self, size_bytes: int, messages: int = 1) -> None:
        """So many more messages wait to be sent."""
        self.waiting += messages
        self.waiting_bytes += size_bytes

    def remove(self, size_bytes: int, messages: int = 1) -> None:
        """So many messages fewer wait to be sent."""
        self.waiting -= messages
        self.waiting_bytes -= size_bytes

    def has_room_for(self, messages: int, size_bytes: int) -> bool:
        """Whether that much may come in before anybody else."""
        return (
            not self.line
            and self.waiting + messages <= self._most_messages
            and self.waiting_bytes + size_bytes <= self._most_bytes
        )

    def fitting(self, offer: Offer, start: int) -> int:
        """How many of its messages, from that one on, there is room for now.

        One larger than the whole bound comes in alone, when nothing else waits: it could never be sent otherwise.
        """
        messages = offer.messages
        room, room_bytes = max(0, self._most_messages - self.waiting), self._most_bytes - self.waiting_bytes
        if offer.size_bytes <= room_bytes:
            return min(room, len(messages) - start)
        count = 0
        for message in messages[start : start + room]:
            room_bytes -= message.size_bytes
            if room_bytes < 0:
                break
            count += 1
        return 1 if not count and not self.waiting else count

    def answer(self, *, link_up: bool, refuse_if_full: bool) -> Answer:
        """What happens to a message that there is no room for."""
        if refuse_if_full and (link_up or self._when_full is Answer.WAIT):
            return Answer.REFUSE
        return Answer.WAIT if link_up else self._when_full

    def room(self, taken: int, taken_bytes: int) -> Room:
        """Up to which totals may be offered without asking, when `taken` have arrived: none while anyone stands in line."""
        if self.line:
            return Room(taken, taken_bytes)
        messages = max(0, self._most_messages - self.waiting)
        return Room(taken + messages, taken_bytes + max(0, self._most_bytes - self.waiting_bytes))

    def leave(self, reply: ReplyReference) -> None:
        """This sender was cancelled: what of its offer is not in yet is not wanted."""
        self.line = deque(parked for parked in self.line if parked.offer.reply is not reply)
