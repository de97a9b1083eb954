"""The application's side of the outbox's door: the room that the Queue keeper has lent, and the way in.

Room and what was offered are totals since the start of a run, so nothing is ever returned or counted twice: an offer may
go out without asking while the total offered stays below the total lent. Whoever finds no room asks, and while anyone
asks, all do: nobody overtakes.
"""

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from hawk.actors.mailbox import LatestSender
from hawk.errors import Stopped
from hawk.messages import Offer, Offers, Room, ToQueueKeeper


class Credit:
    """What one run of the actors has lent. `opening` is what is known before the keeper has spoken."""

    __slots__ = ("_asking", "_lender", "_lent", "offered", "offered_bytes")

    def __init__(self, lender: LatestSender[Room], opening: Room) -> None:
        self._lender = lender
        self._lent = opening
        self._asking = 0
        self.offered = 0
        self.offered_bytes = 0

    def spend(self, size_bytes: int, messages: int = 1) -> bool:
        """That much is offered without asking, if there is room for it. False: there is not, and nothing is spent."""
        if self._asking:
            return False
        offered, offered_bytes = self.offered + messages, self.offered_bytes + size_bytes
        if offered > self._lent.messages or offered_bytes > self._lent.size_bytes:
            self._lent = self._lender.latest() or self._lent
            if offered > self._lent.messages or offered_bytes > self._lent.size_bytes:
                return False
        self.offered, self.offered_bytes = offered, offered_bytes
        return True

    def take_back(self, size_bytes: int, messages: int = 1) -> None:
        """What was offered did not reach the keeper."""
        self.offered -= messages
        self.offered_bytes -= size_bytes

    def __enter__(self) -> None:
        """A block in which somebody asks, and waits for the keeper's word. What it lent before that does not count any more;
        it lends anew before it speaks.
        """
        if not self._asking:
            self._lent = Room(self.offered, self.offered_bytes)
        self._asking += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.forget()
        self._asking -= 1

    def forget(self) -> None:
        """What asks may use the room that was lent before it: only what the keeper lends from now on counts."""
        self._lender.latest()
        self._lent = Room(self.offered, self.offered_bytes)


class OfferSender:
    """An application's line to the Queue keeper. What it offers before the keeper looks travels as one message."""

    def __init__(self, to_queue_keeper: MemoryObjectSendStream[ToQueueKeeper]) -> None:
        self._to_queue_keeper = to_queue_keeper
        self._offers: Offers | None = None
        self._answered: anyio.Event | None = None

    @property
    def answered(self) -> anyio.Event:
        """One for the receipts of all offers that travel together: they are mostly accepted together, too."""
        if self._answered is None:
            self._answered = anyio.Event()
        return self._answered

    def send_nowait(self, offer: Offer) -> None:
        """Hand over an offer. Raises `anyio.WouldBlock` when nothing is on its way and the inbox is full; `Stopped`."""
        offers = self._offers
        if offers is None or offers.taken:
            offers = Offers()
            try:
                self._to_queue_keeper.send_nowait(offers)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise Stopped("hawk has stopped") from None
            self._offers, self._answered = offers, None
        offers.add(offer)

    async def send(self, offer: Offer) -> None:
        """Hand over an offer, whatever happens: it is shielded. The keeper always reads, so this returns within one pass
        of the scheduler. Raises `Stopped`.
        """
        try:
            self.send_nowait(offer)
        except anyio.WouldBlock:
            with anyio.CancelScope(shield=True):
                try:
                    await self._to_queue_keeper.send(Offers(offer))
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    raise Stopped("hawk has stopped") from None
