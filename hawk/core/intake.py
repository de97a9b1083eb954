"""How messages come in: offers, the line of those who wait for room, and the overflow policy for those who find none."""

from collections.abc import Iterable, Sequence

from hawk.core.admission import Admission, Answer, Parked
from hawk.core.backlog import Backlog
from hawk.core.commits import Commits
from hawk.core.delivery import PLAIN, Entry, Terms
from hawk.core.expiry import expires_at
from hawk.core.fates import Fates, nobody
from hawk.core.latest import Latest
from hawk.messages import Offer, ReplyReference
from hawk.values import NO_PROPERTIES, Fate, FateKind, Message

ABANDONED = Fate(FateKind.ABANDONED, "hawk stopped before it could be delivered")
_STOPPING = Fate(FateKind.STOPPED, "hawk is stopping")
_OTHERS_WAIT = Fate(FateKind.FULL, "others wait for room in the outbox")
_OLDEST = Fate(FateKind.DROPPED, "the outbox was full and the link down; the oldest went")
_NEWEST = Fate(FateKind.DROPPED, "the outbox was full and the link down; the newest went")


class Intake:
    """The door of the outbox. `last_number` counts the messages that ever came in."""

    def __init__(self, admission: Admission, backlog: Backlog, fates: Fates, commits: Commits, latest: Latest) -> None:
        self._admission = admission
        self._backlog = backlog
        self._fates = fates
        self._commits = commits
        self._latest = latest
        self.last_number = 0
        self.stopping = False
        self.over = False

    def offer(self, offers: Iterable[Offer], now: float, *, link_up: bool) -> None:
        """Admit what was offered, or let it wait in line, or refuse it."""
        books, run, messages, size_bytes = self._fates.books, list[Offer](), 0, 0
        for offer in offers:
            messages += len(offer.messages)
            size_bytes += offer.size_bytes
            if not offer.asks:
                books.taken += len(offer.messages)
                books.taken_bytes += offer.size_bytes
            elif self.stopping or not self._admission.has_room_for(messages, size_bytes):
                self._take(run, now)
                run, messages, size_bytes = [], 0, 0
                self._hear(offer, now, link_up=link_up)
                continue
            run.append(offer)
        self._take(run, now)

    def _take(self, offers: Sequence[Offer], now: float) -> None:
        """These come in: they were offered within the room, or there is room for them."""
        if not self.over:
            self._admit(offers, now)
            return
        for offer in offers:
            for message in offer.messages:
                # Offered before its sender could know of the end: accepted, so it is told and counted.
                self._fates.books.accepted += 1
                self._fates.books.end(FateKind.ABANDONED)
                self._fates.refuse(offer.reply, message, ABANDONED)

    def _hear(self, offer: Offer, now: float, *, link_up: bool) -> None:
        """An offer beyond the room comes in as far as there is room now, behind those who wait already."""
        line = self._admission.line
        self.seat_line(now, link_up=link_up)
        parked = Parked(offer)
        if self.stopping:
            self._refuse(parked, _STOPPING)
        elif line and offer.refuse_if_full:
            self._refuse(parked, _OTHERS_WAIT)
        elif line or not self._seat(parked, now, link_up=link_up):
            line.append(parked)

    def seat_line(self, now: float, *, link_up: bool) -> bool:
        """Let in those in line whom there is room for. True when anyone came in."""
        line, newest = self._admission.line, self.last_number
        while line and self._seat(line[0], now, link_up=link_up):
            line.popleft()
        return self.last_number != newest

    def stop(self) -> None:
        """Admit nothing more; those in line are refused."""
        self.stopping = True
        line = self._admission.line
        while line:
            self._refuse(line.popleft(), _STOPPING)

    def _admit(self, offers: Sequence[Offer], now: float) -> None:
        """Let all of these in."""
        if self._latest.is_used or _any_with_properties(offers):
            for offer in offers:
                for message in offer.messages:
                    self._admit_with_terms(message, offer.reply, now, asks=offer.asks)
            return
        newest = self.last_number
        size_bytes = self._admit_to_store(offers) if self._commits.durable else self._admit_to_memory(offers)
        self._admission.add(size_bytes, self.last_number - newest)
        self._fates.books.accepted += self.last_number - newest

    def _admit_to_memory(self, offers: Iterable[Offer]) -> int:
        """Most of what ever comes in, at the least cost. Returns its bytes."""
        number, size_bytes, put = self.last_number, 0, self._backlog.head.append
        for messages, reply, _, asks, _ in offers:
            if reply() is None:
                reply = nobody  # shared: what nobody listens for is settled in longer runs
            for message in messages:
                number += 1
                entry = Entry(number, message, reply)
                size_bytes += entry.size_bytes
                put(entry)
            if asks:
                self._fates.accept(reply, messages[0], len(messages))
        self.last_number = number
        return size_bytes

    def _admit_to_store(self, offers: Iterable[Offer]) -> int:
        """The same with a store, whose word is the acceptance of all but QoS 0."""
        backlog, commits, number, size_bytes = self._backlog, self._commits, self.last_number, 0
        head, room = backlog.head, backlog.room_in_head()
        for messages, reply, *_ in offers:
            for message in messages:
                number += 1
                entry = Entry(number, message, reply)
                size_bytes += entry.size_bytes
                if room > 0:
                    room -= 1
                    head.append(entry)
                else:
                    backlog.put_behind(entry)
                if not commits.insert(entry):
                    self._fates.accept(reply, message)
        if head and head[-1].number > self.last_number:
            backlog.note_head(head[-1].number)
        self.last_number = number
        return size_bytes

    def _admit_with_terms(self, message: Message, reply: ReplyReference, now: float, *, asks: bool) -> None:
        self.last_number += 1
        self._fates.books.accepted += 1
        terms = Terms(expires_at(message, now), self._latest.rule(message.topic))
        entry = Entry(self.last_number, message, reply, PLAIN if terms == PLAIN else terms)
        backlog, has_room = self._backlog, self._backlog.room_in_head() > 0
        self._admission.add(entry.size_bytes)
        if has_room:
            backlog.head.append(entry)
            backlog.note_head(entry.number)
        else:
            backlog.put_behind(entry)
        waits_for_store = self._commits.insert(entry)
        if not waits_for_store and (asks or self._commits.durable):
            self._fates.accept(reply, message)
        if entry.terms is not PLAIN:
            backlog.note_terms(entry, accepted=not waits_for_store)

    def _seat(self, parked: Parked, now: float, *, link_up: bool) -> bool:
        """Let in what there is room for. False while some of the offer still has to wait."""
        offer = parked.offer
        while parked.admitted < len(offer.messages):
            if fitting := self._fitting(offer, parked.admitted):
                run = offer.messages[parked.admitted : parked.admitted + fitting]
                self._admit((offer._replace(messages=run),), now)
                parked.admitted += fitting
                continue
            message = offer.messages[parked.admitted]
            match self._admission.answer(link_up=link_up, refuse_if_full=offer.refuse_if_full):
                case Answer.DROP_OLDEST:
                    oldest = self._backlog.drop_oldest()
                    if oldest is None:
                        return False  # the oldest is on disk, and has to be read first
                    self._fates.end(oldest, _OLDEST)
                    continue
                case Answer.DROP_NEWEST:
                    self._fates.books.accepted += 1
                    self._fates.books.end(FateKind.DROPPED)
                    self._fates.accept(offer.reply, message)
                    self._fates.refuse(offer.reply, message, _NEWEST)
                case Answer.REFUSE:
                    self._refuse(parked, Fate(FateKind.FULL, f"{self._admission.waiting} messages wait in the outbox"))
                    return True
                case Answer.WAIT:
                    return False
            parked.admitted += 1
        return True

    def _fitting(self, offer: Offer, start: int) -> int:
        """How many there is room for. One that takes the place of another needs none of its own."""
        fitting = self._admission.fitting(offer, start)
        return 1 if not fitting and self._latest.replaces(offer.messages[start].topic) else fitting

    def _refuse(self, parked: Parked, fate: Fate) -> None:
        for message in parked.offer.messages[parked.admitted :]:
            self._fates.refuse(parked.offer.reply, message, fate)


def _any_with_properties(offers: Iterable[Offer]) -> bool:
    for offer in offers:  # noqa: SIM110  (a generator costs a fifth of what accepting a message does)
        if offer.messages[0].properties is not NO_PROPERTIES:
            return True
    return False
