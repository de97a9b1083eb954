"""Admission credit: the room that the Queue keeper has lent, and what an application has offered within it.

Both are totals since the start of a run, so nothing is ever returned or counted twice: an offer may go out without asking
while the total offered stays below the total lent. Whoever finds no room asks, and while anyone asks, all do: nobody
overtakes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from hawk.actors.mailbox import LatestSender
from hawk.messages import Room


class Credit:
    """What one run of the actors has lent. `opening` is what is known before the keeper has spoken."""

    __slots__ = ("_asking", "_lender", "_lent", "offered", "offered_bytes")

    def __init__(self, lender: LatestSender[Room], opening: Room) -> None:
        self._lender = lender
        self._lent = opening
        self._asking = 0
        self.offered = 0
        self.offered_bytes = 0

    def allows(self, size_bytes: int, messages: int = 1) -> bool:
        """Whether that much may be offered without asking."""
        if self._asking:
            return False
        lent = self._lent
        if self.offered + messages <= lent.messages and self.offered_bytes + size_bytes <= lent.size_bytes:
            return True
        news = self._lender.latest()
        if news is None:
            return False
        self._lent = news
        return self.offered + messages <= news.messages and self.offered_bytes + size_bytes <= news.size_bytes

    def spend(self, size_bytes: int, messages: int = 1) -> None:
        """That much is offered."""
        self.offered += messages
        self.offered_bytes += size_bytes

    @contextmanager
    def asking(self) -> Iterator[None]:
        """For as long as somebody waits for the keeper's word."""
        self._asking += 1
        self.forget()
        try:
            yield
        except BaseException:
            self.forget()
            raise
        finally:
            self._asking -= 1

    def forget(self) -> None:
        """What asks may use the room that was lent before it: only what the keeper lends from now on counts."""
        self._lender.latest()
        self._lent = Room(self.offered, self.offered_bytes)
