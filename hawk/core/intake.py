"""How messages come in: offers, the line of those who wait for room, and the overflow policy for those who find none."""

from collections.abc import Sequence

from hawk.core.admission import Admission, Answer, Parked
from hawk.core.backlog import Backlog
from hawk.core.commits import Commits
from hawk.core.delivery import PLAIN, Entry, Terms
from hawk.core.expiry import expires_at
from hawk.core.fates import Fates
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

    def offer(self, offer: Offer, now: float, *, link_up: bool) -> None:
        """Admit what was offered, or let it wait in line, or refuse it."""
        books, line = self._fates.books, self._admission.line
        if offer.asks:
            parked = Parked(offer)
            self.seat_line(now, link_up=link_up)
            if self.stopping:
                self._refuse(parked, _STOPPING)
            elif line and offer.refuse_if_full:
                self._refuse(parked, _OTHERS_WAIT)
            elif line or not self._seat(parked, now, link_up=link_up):
                line.append(parked)
            return
        books.taken += len(offer.messages)
        books.taken_bytes += sum(message.size_bytes for message in offer.messages)
        if not self.over:
            self._admit(offer.messages, offer.reply, now, tell=self._commits.durable)
            return
        for message in offer.messages:
            # Offered within the room before its sender could know of the end: accepted, so it is told and counted.
            books.accepted += 1
            books.end(FateKind.ABANDONED)
            self._fates.refuse(offer.reply, message, ABANDONED)

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

    def _admit(self, messages: Sequence[Message], reply: ReplyReference, now: float, *, tell: bool) -> None:
        """Let a run of one offer in. `tell`: its sender waits to hear of the acceptance, or the store has to say so."""
        if self._latest.is_used or _any_with_properties(messages):
            for message in messages:
                self._admit_with_terms(message, reply, now, tell=tell)
            return
        self._admit_plain(messages, reply)
        if tell and not self._commits.durable:
            self._fates.accept(reply, messages[0], len(messages))

    def _admit_plain(self, messages: Sequence[Message], reply: ReplyReference) -> None:
        """Most of what ever comes in, at the least cost."""
        backlog, commits, number, size_bytes = self._backlog, self._commits, self.last_number, 0
        head, room, durable = backlog.head, backlog.room_in_head(), commits.durable
        for message in messages:
            number += 1
            entry = Entry(number, message, reply)
            size_bytes += entry.size_bytes
            if room > 0:
                room -= 1
                head.append(entry)
            else:
                backlog.put_behind(entry)
            if durable and not commits.insert(entry):
                self._fates.accept(reply, message)
        if durable and head and head[-1].number > self.last_number:
            backlog.note_head(head[-1].number)
        self.last_number = number
        self._admission.add(size_bytes, len(messages))
        self._fates.books.accepted += len(messages)

    def _admit_with_terms(self, message: Message, reply: ReplyReference, now: float, *, tell: bool) -> None:
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
        if tell and not waits_for_store:
            self._fates.accept(reply, message)
        if entry.terms is not PLAIN:
            backlog.note_terms(entry, accepted=not waits_for_store)

    def _seat(self, parked: Parked, now: float, *, link_up: bool) -> bool:
        """Let in what there is room for. False while some of the offer still has to wait."""
        offer = parked.offer
        while parked.admitted < len(offer.messages):
            if fitting := self._fitting(offer.messages, parked.admitted):
                run = offer.messages[parked.admitted : parked.admitted + fitting]
                self._admit(run, offer.reply, now, tell=True)
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

    def _fitting(self, messages: Sequence[Message], start: int) -> int:
        """How many there is room for. One that takes the place of another needs none of its own."""
        fitting = self._admission.fitting(messages, start)
        return 1 if not fitting and self._latest.replaces(messages[start].topic) else fitting

    def _refuse(self, parked: Parked, fate: Fate) -> None:
        for message in parked.offer.messages[parked.admitted :]:
            self._fates.refuse(parked.offer.reply, message, fate)


def _any_with_properties(messages: Sequence[Message]) -> bool:
    for message in messages:  # noqa: SIM110  (a generator costs a fifth of what accepting a message does)
        if message.properties is not NO_PROPERTIES:
            return True
    return False
