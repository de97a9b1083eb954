"""The outbox: which messages are in, which go out next, and what became of each.

    offered -> admitted -> (committed) -> waiting -> under way -> fate
                                             ^------- returned (the link died)
                                             ^------- deferred (the broker refused it for now)

`Outbox` decides for the Queue keeper. Its methods take facts and time, change the books at once, and leave what is to be
done for the keeper to collect: `take_commit`, `take_packets`, `take_answers`, `room`, `ledger`.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, cast

from hawk.config import Config
from hawk.core.admission import Admission, Answer, Parked
from hawk.core.answers import explain_refused_publish
from hawk.core.backoff import ceiling_s
from hawk.core.commits import Commits
from hawk.core.deferrals import Deferrals
from hawk.core.delivery import Entry, Next, Window, is_unrestricted, obstacle_to, unknown_releases
from hawk.core.ledger import Books
from hawk.messages import Commit, Offer, Page, ReadPage, Record, Recovered, ReplyReference, Room, StopReport
from hawk.packets import AckKind, Acknowledgement, Connack, Outgoing, Publish
from hawk.values import Fate, FateKind, Ledger, Message

MOST_UNSENT_BYTES = 1024 * 1024
"""QoS 0 needs no acknowledgement; this bounds what of it the socket has not taken yet."""
MOST_UNSENT_MESSAGES = 1000

_ACKNOWLEDGED = Fate(FateKind.ACKNOWLEDGED)
_SENT = Fate(FateKind.SENT)
_STILLBORN = Fate(FateKind.SUPERSEDED, "a birth message, and the link that it was for is gone")
_ABANDONED = Fate(FateKind.ABANDONED, "hawk stopped before it could be delivered")


class Told(NamedTuple):
    """An answer for a sender: so many of its messages, this one first, are accepted (`fate` None) or have met a fate."""

    reply: ReplyReference
    message: Message
    fate: Fate | None
    messages: int = 1


class Outbox:
    """All messages for which hawk has responsibility. `durable`: acceptance waits for the commit."""

    def __init__(self, config: Config, *, durable: bool = False, opening: Ledger = Ledger()) -> None:
        self._config = config
        self._books = Books(opening)
        self._admission = Admission(config)
        self._commits = Commits(durable=durable)
        self._window = Window(config.max_inflight)
        self._waiting: deque[Entry] = deque()
        self._deferrals = Deferrals(most_messages=config.message_queue_size, most_bytes=config.most_queue_bytes)
        self._unsent: deque[Entry] = deque()
        self._unsent_bytes = 0
        self._connack: Connack | None = None
        self._ready = False
        self._last_number = 0
        self._unread = self._read_up_to = 0
        self._reading = False
        self._looked_at = 0
        self._progress_at = 0.0
        self._stall_told = False
        self._answers: list[Told] = []
        self._packets: list[Outgoing] = []
        self._at_stop: Ledger | None = None
        self._over = False
        self._fates_watched = False
        self._unrestricted = False
        self._birth: Entry | None = None

    # ------------------------------------------------------------------------------------- coming in

    def recover(self, recovered: Recovered) -> None:
        """Take back what an earlier run left in the store. Before anything else; nobody comes in before it is read."""
        self._commits.recover(recovered.last_number)
        self._last_number = recovered.last_number
        self._unread = recovered.queued
        for _ in range(recovered.queued + len(recovered.under_way)):
            self._books.recover()
        self._take_back(recovered.under_way)

    def take_read(self) -> ReadPage | None:
        """What the store is to read next."""
        if self._reading or not self._unread:
            return None
        self._reading = True
        return ReadPage(self._read_up_to, 1000, 1_000_000)

    def page_read(self, page: Page) -> None:
        """What the store has read."""
        self._reading = False
        self._unread -= len(page.records)
        self._take_back(page.records)

    def page_failed(self) -> None:
        """It could not be read."""
        self._reading = False

    def _take_back(self, records: Sequence[Record]) -> None:
        for record in records:
            self._read_up_to = record.number
            entry = Entry(record.number, record.message, _nobody)
            self._waiting.append(entry)
            self._admission.add(entry.size_bytes)

    def offer(self, offer: Offer) -> None:
        """Admit what was offered, or let it wait in line, or refuse it."""
        books, admission = self._books, self._admission
        if offer.asks:
            parked = Parked(offer)
            self._seat_line()
            if self._at_stop is not None:
                self._refuse(parked, Fate(FateKind.STOPPED, "hawk is stopping"))
            elif admission.line and offer.refuse_if_full:
                self._refuse(parked, Fate(FateKind.FULL, "others wait for room in the outbox"))
            elif admission.line or self._unread or not self._seat(parked):
                admission.line.append(parked)
            return
        books.taken += len(offer.messages)
        books.taken_bytes += sum(message.size_bytes for message in offer.messages)
        if not self._over:
            self._admit(offer.messages, offer.reply, tell=self._commits.durable)
            return
        for message in offer.messages:
            # Offered within the room before its sender could know of the end: accepted, so it is told and counted.
            books.accepted += 1
            books.end(FateKind.ABANDONED)
            self._answers.append(Told(offer.reply, message, _ABANDONED))

    def withdraw(self, reply: ReplyReference) -> None:
        """A sender that waited in line was cancelled."""
        self._admission.leave(reply)

    def _admit(self, messages: Sequence[Message], reply: ReplyReference, *, tell: bool) -> None:
        """Let a run of one offer in. `tell`: its sender waits to hear of the acceptance, or the store has to say so."""
        waiting, number, size_bytes, commits = self._waiting, self._last_number, 0, self._commits
        for message in messages:
            number += 1
            entry = Entry(number, message, reply)
            size_bytes += entry.size_bytes
            waiting.append(entry)
            if commits.durable and not commits.insert(entry):
                self._answers.append(Told(reply, message, None))
        self._last_number = number
        self._admission.add(size_bytes, len(messages))
        self._books.accepted += len(messages)
        if tell and not commits.durable:
            self._answers.append(Told(reply, messages[0], None, len(messages)))

    def _seat(self, parked: Parked) -> bool:
        """Let in what there is room for. False while some of the offer still has to wait."""
        offer = parked.offer
        link_up = self._connack is not None
        while parked.admitted < len(offer.messages):
            if fitting := self._admission.fitting(offer.messages, parked.admitted):
                run = offer.messages[parked.admitted : parked.admitted + fitting]
                self._admit(run, offer.reply, tell=True)
                parked.admitted += fitting
                continue
            message = offer.messages[parked.admitted]
            match self._admission.answer(link_up=link_up, refuse_if_full=offer.refuse_if_full):
                case Answer.DROP_OLDEST:
                    oldest = self._waiting.popleft()
                    self._admission.remove(oldest.size_bytes)
                    self._end(oldest, Fate(FateKind.DROPPED, "the outbox was full and the link down; the oldest went"))
                    continue
                case Answer.DROP_NEWEST:
                    self._books.accepted += 1
                    self._books.end(FateKind.DROPPED)
                    fate = Fate(FateKind.DROPPED, "the outbox was full and the link down; the newest went")
                    self._answers += [Told(offer.reply, message, None), Told(offer.reply, message, fate)]
                case Answer.REFUSE:
                    self._refuse(parked, Fate(FateKind.FULL, f"{self._admission.waiting} messages wait in the outbox"))
                    return True
                case Answer.WAIT:
                    return False
            parked.admitted += 1
        return True

    def _seat_line(self) -> bool:
        """Let in those in line whom there is room for. True when anyone came in."""
        line, newest = self._admission.line, self._last_number
        while line and not self._unread and self._seat(line[0]):
            line.popleft()
        return self._last_number != newest

    def _refuse(self, parked: Parked, fate: Fate) -> None:
        for message in parked.offer.messages[parked.admitted :]:
            self._answers.append(Told(parked.offer.reply, message, fate))

    # -------------------------------------------------------------------------------------- the store

    def take_commit(self, now: float) -> Commit | None:
        """What the store is to write next, while no other commit is under way; None when there is nothing."""
        return self._commits.take(now)

    def committed(self) -> None:
        """The commit that was taken last is done: what it held is accepted, and may go out."""
        self._answers += [Told(entry.reply, entry.message, None) for entry in self._commits.done()]

    def commit_failed(self, why: str, now: float) -> None:
        """The commit that was taken last is not done: its newcomers are turned away, its deletions try again later."""
        turned_away = self._commits.failed(now)
        kept: deque[Entry] = deque()
        for entry in self._waiting:
            if entry.number in turned_away:
                self._admission.remove(entry.size_bytes)
                self._books.accepted -= 1
                self._answers.append(Told(entry.reply, entry.message, Fate(FateKind.UNAVAILABLE, why)))
            else:
                kept.append(entry)
        self._waiting = kept

    # --------------------------------------------------------------------------------------- the link

    @property
    def link_up(self) -> bool:
        """Whether a link is up."""
        return self._connack is not None

    def open(self, connack: Connack, now: float, birth: Message | None = None) -> None:
        """A link is up. What is unfinished goes first; `birth`, and the backlog behind it, wait for `ready`."""
        self._connack, self._ready, self._stall_told = connack, False, False
        self._progress_at = now
        self._unrestricted = is_unrestricted(connack)
        for entry, fate in self._window.open(connack):
            self._end(entry, fate)
        if birth is not None and not self._over:
            self._admit((birth,), _nobody, tell=False)
            self._waiting.rotate(1)
            self._birth = self._waiting[0]

    def ready(self) -> None:
        """Subscriptions are in place: the backlog may flow."""
        self._ready = True

    def close(self) -> None:
        """The link is down. Under way goes back in front; QoS 0 that the socket had not taken is gone."""
        self._connack, self._ready = None, False
        self._window.close()
        self._packets.clear()
        if self._birth_waits:
            self._admission.remove(self._waiting.popleft().size_bytes)
            self._end(cast(Entry, self._birth), _STILLBORN)
        self._birth = None
        for entry in self._unsent:
            self._end(entry, Fate(FateKind.DROPPED, "QoS 0, and the link died before the socket took it"))
        self._unsent.clear()
        self._unsent_bytes = 0

    def settle(
        self,
        acknowledgements: Sequence[Acknowledgement],
        sent: int,
        now: float,
        *,
        acknowledged: Sequence[int] = (),
    ) -> None:
        """Acknowledgements came in, and the socket took so many QoS 0 messages, the oldest unsent first."""
        if self._connack is None:
            return
        window = self._window
        completed, others = window.complete_run(acknowledged)
        if completed:
            self._progress_at = now
            self._end_all(completed)
        unknown: list[Acknowledgement] = []
        for acknowledgement in (*others, *acknowledgements):
            following, entry = window.acknowledge(acknowledgement)
            if entry is None:
                unknown.append(acknowledgement)
                continue
            if following is Next.IGNORE:
                continue
            self._progress_at = now
            if following is Next.COMPLETE:
                self._end(entry, _ACKNOWLEDGED)
            elif following is Next.RELEASE:
                self._packets.append(Acknowledgement(AckKind.PUBREL, entry.identifier))
            else:
                self._refused(entry, acknowledgement, following, now)
        if unknown:
            self._packets += unknown_releases(unknown)
        for _ in range(min(sent, len(self._unsent))):
            entry = self._unsent.popleft()
            self._unsent_bytes -= entry.message.size_bytes
            self._end(entry, _SENT)

    def _refused(self, entry: Entry, acknowledgement: Acknowledgement, following: Next, now: float) -> None:
        entry.refusals += 1
        code = acknowledgement.reason_code
        if following is Next.REFUSE or entry.refusals > self._config.message_retry_limit:
            why = f"the broker refused the message: {explain_refused_publish(code)}"
            self._end(entry, Fate(FateKind.DEAD_LETTERED, why, code))
            return
        self._deferrals.add(entry, now + ceiling_s(entry.refusals, self._config.reconnection))

    def take_packets(self, now: float) -> tuple[Outgoing, ...]:
        """What goes on the lane now: what is unfinished, then the backlog as far as credit and commits allow.

        Lets in whom there is room for, before it and as room becomes free.
        """
        packets, self._packets = self._packets, []
        self._seat_line()
        if self._connack is not None:
            if not self._window.in_flight:
                self._progress_at = now
            self._deferrals.wake(now)
            packets += self._window.resume(ready=False)
            if self._ready and self._take_birth(packets, self._connack):
                packets += self._window.resume(ready=True)
            if self._ready and not self._window.returned and not self._birth_waits:
                self._take_backlog(packets, self._connack)
                while self._admission.line and self._seat_line():
                    self._take_backlog(packets, self._connack)
        self._count_those_who_wait()
        return tuple(packets)

    @property
    def _birth_waits(self) -> bool:
        """Whether the present link's birth has not gone out yet: until it has, it stands in front of all others."""
        return self._birth is not None and bool(self._waiting) and self._waiting[0] is self._birth

    def _take_birth(self, packets: list[Outgoing], connack: Connack) -> bool:
        """Send the birth, if there is one that waits. False when it must wait longer, and all behind it."""
        if not self._birth_waits:
            return True
        if not self._put_under_way(self._waiting[0], packets, connack):
            return False
        self._admission.remove(self._waiting.popleft().size_bytes)
        return True

    def _take_backlog(self, packets: list[Outgoing], connack: Connack) -> None:
        waiting, deferrals, admission = self._waiting, self._deferrals, self._admission
        while deferrals.due and self._put_under_way(deferrals.due[0], packets, connack):
            deferrals.take()
        if deferrals.due or deferrals.full:
            return
        while waiting:
            if self._unrestricted:
                run, size_bytes = self._window.send_run(waiting, self._commits.committed_number)
                packets += run
                admission.remove(size_bytes, len(run))
            if not waiting or not self._put_under_way(waiting[0], packets, connack):
                break
            admission.remove(waiting.popleft().size_bytes)

    def _put_under_way(self, entry: Entry, packets: list[Outgoing], connack: Connack) -> bool:
        """Send this entry, or end it if this broker can never take it. False when it, and all behind it, must wait."""
        message = entry.message
        if not self._commits.holds(entry):
            return False
        if obstacle := obstacle_to(message, connack):
            self._end(entry, obstacle)
        elif message.qos:
            if not self._window.has_credit_for(message):
                return False
            packets.append(self._window.send(entry))
        else:
            if len(self._unsent) >= MOST_UNSENT_MESSAGES or self._unsent_bytes >= MOST_UNSENT_BYTES:
                return False
            self._unsent.append(entry)
            self._unsent_bytes += message.size_bytes
            packets.append(Publish(message))
        return True

    def _count_those_who_wait(self) -> None:
        waited, newest = 0, self._looked_at
        for entry in reversed(self._waiting):
            if entry.number <= self._looked_at:
                break
            if not self._commits.holds(entry):
                # It waits for the disk, and so do those behind it; they are looked at when it is committed.
                waited, newest = 0, self._looked_at
                continue
            waited += 1
            newest = max(newest, entry.number)
        self._books.waited += waited
        self._looked_at = newest

    # ---------------------------------------------------------------------------------------- answers

    def _end(self, entry: Entry, fate: Fate) -> None:
        self._books.end(fate.kind)
        self._answers.append(Told(entry.reply, entry.message, fate))
        self._commits.delete(entry)

    def _end_all(self, entries: Sequence[Entry]) -> None:
        """What `_end` does for each of a run of acknowledged entries, with one answer for each sender who still listens."""
        self._books.end(FateKind.ACKNOWLEDGED, len(entries))
        first, messages = entries[0], 0
        for entry in entries:
            self._commits.delete(entry)
            if entry.reply is not first.reply or self._fates_watched:
                self._tell_of_run(first, messages)
                first, messages = entry, 0
            messages += 1
        self._tell_of_run(first, messages)

    def _tell_of_run(self, first: Entry, messages: int) -> None:
        if messages and (self._fates_watched or first.reply() is not None):
            self._answers.append(Told(first.reply, first.message, _ACKNOWLEDGED, messages))

    def watch_fates(self, watched: bool) -> None:
        """Whether every fate of every message is wanted in `take_answers`, or only what a sender still listens for."""
        self._fates_watched = watched

    def take_answers(self) -> list[Told]:
        """What senders are to be told, in order."""
        answers, self._answers = self._answers, []
        return answers

    def room(self) -> Room:
        """What may be offered without asking: with a store nothing, for there acceptance is the store's word."""
        taken, taken_bytes = self._books.taken, self._books.taken_bytes
        return Room(taken, taken_bytes) if self._commits.durable else self._admission.room(taken, taken_bytes)

    def ledger(self) -> Ledger:
        """The books of this moment."""
        if self._connack is None:
            # So that a sender who is told of its acceptance reads that its message was queued.
            self._count_those_who_wait()
        return self._books.statement(queued=self._queued, in_flight=self._window.in_flight + len(self._unsent))

    @property
    def _queued(self) -> int:
        return len(self._waiting) + len(self._deferrals) + self._window.returned + self._unread

    # -------------------------------------------------------------------------------- time, and the end

    def stalled(self, now: float) -> bool:
        """Whether the broker has acknowledged nothing for `ack_timeout_s`; told once a link."""
        if self._stall_told or not self._window.in_flight or now < self._progress_at + self._config.ack_timeout_s:
            return False
        self._stall_told = True
        return True

    def deadline(self) -> float:
        """When something falls due by itself: -inf for at once, inf for never."""
        if self._answers:
            return -math.inf
        deadline = self._commits.deadline()
        if self._connack is not None:
            deadline = min(deadline, self._deferrals.deadline())
            if self._window.in_flight and not self._stall_told:
                deadline = min(deadline, self._progress_at + self._config.ack_timeout_s)
        return deadline

    def begin_stop(self) -> None:
        """Admit nothing more; those in line are refused."""
        if self._at_stop is None:
            self._at_stop = self.ledger()
        line = self._admission.line
        while line:
            self._refuse(line.popleft(), Fate(FateKind.STOPPED, "hawk is stopping"))

    @property
    def drained(self) -> bool:
        """Whether a stop has nothing left to wait for: all is delivered, or on disk with the link down."""
        if not self._commits.idle:
            return False
        if self._connack is None and self._commits.durable:
            return True
        return not (self._queued or self._window.in_flight or self._unsent)

    def end_stop(self) -> StopReport:
        """The stop is over: what is left stays on disk, or is abandoned. Call `take_answers` after it."""
        opening = self._at_stop or self.ledger()
        left = [*self._window.entries(), *self._deferrals.drain(), *self._waiting, *self._unsent]
        # Nothing goes out any more: what has been told its end must not be sent after it.
        self._over, self._connack, self._ready = True, None, False
        self._packets.clear()
        self._window.clear()
        self._unsent.clear()
        self._unsent_bytes = 0
        self._waiting = deque(entry for entry in left if self._commits.keeps(entry))
        for entry in self._waiting:
            self._answers.append(Told(entry.reply, entry.message, Fate(FateKind.STOPPED, "kept in the outbox file")))
        for entry in left:
            if not self._commits.keeps(entry):
                self._end(entry, _ABANDONED)
        closing = self.ledger()
        return StopReport(
            acknowledged=closing.acknowledged - opening.acknowledged,
            sent=closing.sent - opening.sent,
            failed=closing.dead_lettered - opening.dead_lettered,
            kept=len(self._waiting),
            abandoned=closing.abandoned - opening.abandoned,
        )


def _nobody() -> None:
    return None
