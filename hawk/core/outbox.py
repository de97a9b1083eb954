"""The outbox: which messages are in, which go out next, and what became of each.

    offered -> admitted -> (committed) -> waiting -> under way -> fate
                                             ^------- returned (the link died)
                                             ^------- deferred (the broker refused it for now)

Its two ideas live in files of their own: what waits (`core/intake.py`, `core/backlog.py`) and what is under way
(`core/window.py`). `Outbox` joins them for the Queue keeper. Its methods take facts and time, change the books at once,
and leave what is to be done for the keeper to collect: `take_commit`, `take_read`, `take_packets`, `take_answers`, `room`,
`ledger`.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence

from hawk.config import Config
from hawk.core.admission import Admission
from hawk.core.answers import Judge, explain_refused_publish, hawks_own, judge_refusal
from hawk.core.backlog import EXPIRED, Backlog, Paging
from hawk.core.backoff import wait_s
from hawk.core.commits import Commits
from hawk.core.deferrals import Deferrals
from hawk.core.delivery import PLAIN, Entry, Next, from_record, is_unrestricted, obstacle_to, unknown_releases
from hawk.core.fates import ACKNOWLEDGED, Fates, Told, nobody
from hawk.core.intake import ABANDONED, Intake
from hawk.core.latest import Latest
from hawk.core.ledger import Books
from hawk.core.poison import Poison
from hawk.core.window import Window
from hawk.messages import Commit, Identity, Offer, Page, ReadPage, Recovered, ReplyReference, Room, StopReport
from hawk.packets import AckKind, Acknowledgement, Connack, Outgoing, PingRequest, Publish
from hawk.values import Cause, Fate, FateKind, Ledger, Message, Verdict

MOST_UNSENT_BYTES = 1024 * 1024
"""QoS 0 needs no acknowledgement; this bounds what of it the socket has not taken yet."""
MOST_UNSENT_MESSAGES = 1000
MOST_DEFERRED = 10_000
LONGEST_HELD_S = 1.0
"""How long a new link waits until the store knows of its session: a disk that hangs must not cost the link."""
UNSPECIFIED_ERROR = 0x80

_SENT = Fate(FateKind.SENT)
_STILLBORN = Fate(FateKind.SUPERSEDED, "a birth message, and the link that it was for is gone")
_FORGOTTEN = Fate(FateKind.UNKNOWN, "the broker forgot the session after it had received the message")
_UNSENT = Fate(FateKind.DROPPED, "QoS 0, and the link died before the socket took it")
_KEPT = Fate(FateKind.STOPPED, "kept in the outbox file")


class Outbox:
    """All messages for which hawk has responsibility. `durable`: acceptance waits for the commit. `judge`: says what follows
    where the broker refuses one.
    """

    def __init__(
        self,
        config: Config,
        *,
        durable: bool = False,
        opening: Ledger = Ledger(),
        identity: Identity | None = None,
        paging: Paging = Paging(),
        judge: Judge = hawks_own,
    ) -> None:
        self._config = config
        self._identity = identity
        self._judge = judge
        self._books = Books(opening)
        self._commits = Commits(durable=durable, most_gathered=config.max_inflight // 2)
        self._fates = Fates(self._books, self._commits)
        self._latest = Latest(config.latest)
        self._admission = Admission(config)
        self._backlog = Backlog(self._admission, self._fates, self._commits, self._latest, paging)
        self._intake = Intake(self._admission, self._backlog, self._fates, self._commits, self._latest)
        self._window = Window(config.max_inflight, durable=durable, is_secured=self._commits.is_secured)
        most_deferred = min(MOST_DEFERRED, config.message_queue_size)
        self._deferrals = Deferrals(most_messages=most_deferred, most_bytes=config.most_queue_bytes)
        self._poison = Poison()
        self._unsent: deque[Entry] = deque()
        self._unsent_bytes = 0
        self._connack: Connack | None = None
        self._ready = False
        self._unrestricted = False
        self._acknowledged = False
        self._looked_at = 0
        self._progress_at = 0.0
        self._stall_told = False
        self._packets: list[Outgoing] = []
        self._at_stop: Ledger | None = None
        self._birth: Entry | None = None
        self._births = 0
        self._held_until = -math.inf

    # ------------------------------------------------------------------------------------- coming in

    def recover(self, recovered: Recovered, now: float = 0.0) -> None:
        """Take back what an earlier run left in the store. Before anything else."""
        self._books.recover(recovered.queued + len(recovered.under_way))
        self._books.recover(recovered.damaged, new=True)
        self._books.end(FateKind.DAMAGED, recovered.damaged)
        self._intake.last_number = self._looked_at = recovered.last_number
        self._commits.recover(recovered.last_number)
        self._backlog.recover(recovered, now)
        entries = [from_record(record, nobody, now) for record in recovered.under_way]
        self._window.recover(entries)
        for entry in entries:
            self._backlog.expiries.add(entry)
        if self._identity is not None and self._identity != recovered.identity:
            self._commits.identify(self._identity)

    def offer(self, offers: Iterable[Offer], now: float = 0.0) -> None:
        """Admit what was offered, or let it wait in line, or refuse it."""
        self._intake.offer(offers, now, link_up=self.link_up)

    def withdraw(self, reply: ReplyReference) -> None:
        """A sender that waited in line was cancelled."""
        self._admission.leave(reply)

    # -------------------------------------------------------------------------------------- the store

    def take_commit(self, now: float) -> Commit | None:
        """What the store is to write next, while no other commit is under way; None when there is nothing."""
        return self._commits.take(now)

    @property
    def may_gather_more(self) -> bool:
        """Whether senders wait to be told, who may have more for the commit that is to be taken next."""
        return bool(self._fates.answers) and self._commits.holds_newcomers

    def take_read(self, now: float) -> ReadPage | None:
        """What the store is to read next, while no other reading is under way; None when nothing is needed."""
        return self._backlog.take_read(now)

    def committed(self) -> None:
        """The commit that was taken last is done: what it held is accepted, and may go out."""
        kept, secured, freed = self._commits.done()
        self._window.troubled = False
        self._window.free(freed)
        self._fates.accept_all(kept)
        # Whatever the store alone has cannot go out at once.
        self._books.waited += self._backlog.committed(kept)
        for entry in secured:
            self._packets += self._window.say_release(entry)

    def commit_failed(self, why: str, now: float) -> None:
        """The commit that was taken last is not done: its newcomers are turned away, what else it held tries again later."""
        turned_away = self._commits.failed(now).values()
        self._window.troubled = True
        self._backlog.turn_away(turned_away)
        self._books.accepted -= len(turned_away)
        fate = Fate(FateKind.UNAVAILABLE, why)
        for entry in turned_away:
            self._fates.refuse(entry.reply, entry.message, fate)

    @property
    def troubled(self) -> bool:
        """Whether the store fails."""
        return self._commits.failing or self._backlog.failing

    def page_read(self, page: Page, now: float) -> None:
        """The store has read what was asked for last."""
        self._count_those_who_wait()
        self._looked_at = max(self._looked_at, self._backlog.page_read(page, now))

    def page_failed(self, now: float) -> None:
        """The store could not read what was asked for last."""
        self._backlog.read_failed(now)

    # --------------------------------------------------------------------------------------- the link

    @property
    def link_up(self) -> bool:
        """Whether a link is up."""
        return self._connack is not None

    def open(self, connack: Connack, now: float, birth: Message | None = None) -> None:
        """A link is up. What is unfinished goes first; `birth`, and the backlog behind it, wait for `ready`."""
        self._connack, self._ready, self._stall_told = connack, False, False
        self._acknowledged = False
        self._progress_at = now
        self._unrestricted = is_unrestricted(connack)
        self._note_session(connack)
        self._held_until = now + LONGEST_HELD_S if self._commits.identity_waits else -math.inf
        forgotten, renewed, given_up = self._window.open(connack)
        for entry in forgotten:
            self._backlog.expiries.discard(entry)
            self._end(entry, _FORGOTTEN)
        for entry, identifier in renewed:
            self._commits.progress(entry, identifier)
        for entry, fate in given_up:
            self._fates.forget(entry, fate)
        self._sweep_unfinished(now)
        if not self._window.returned:
            self._poison.acquit()
        self._window.isolated = self._poison.isolating
        if birth is not None and not self._intake.over:
            # Of this link alone, so no store keeps it; its number is one that no other message has.
            self._births += 1
            self._birth = Entry(-self._births, birth, nobody)
            self._books.accepted += 1

    def _note_session(self, connack: Connack) -> None:
        """The broker may hold a session of ours from now on: the next process has to know."""
        if self._identity is None:
            return
        # One that is assigned counts only where it was asked for, with an empty one.
        name = self._identity.client_identifier or connack.assigned_client_identifier or ""
        identity = Identity(name, session=True)
        if identity != self._identity:
            self._identity = identity
            self._commits.identify(identity)

    @property
    def holds_back(self) -> bool:
        """Whether nothing may be written on this link yet, because the store does not know of its session.

        A process that died now would come back with Clean Start, and what the broker keeps in the session would be gone.
        """
        return self._held_until > -math.inf

    def ready(self) -> None:
        """Subscriptions are in place: the backlog may flow."""
        self._ready = True

    def close(self, cause: Cause | None = None, *, proven: bool = True) -> None:
        """The link is down. Under way goes back in front; QoS 0 that the socket had not taken is gone.

        `proven`: a ping or anything else had been answered on it.
        """
        self._connack, self._ready, self._held_until = None, False, -math.inf
        if cause is not None and not self._acknowledged:
            self._judge_loss(cause, proven)
        self._window.close()
        self._packets.clear()
        if self._birth is not None:
            self._end(self._birth, _STILLBORN)
            self._birth = None
        for entry in self._unsent:
            self._end(entry, _UNSENT)
        self._unsent.clear()
        self._unsent_bytes = 0
        for entry in self._window.entries():
            if entry.terms is not PLAIN:
                self._backlog.expiries.add(entry)

    def _judge_loss(self, cause: Cause, proven: bool) -> None:
        """Nothing was acknowledged on the link that died: perhaps the broker cannot bear the oldest entry."""
        oldest, alone = self._window.oldest, self._window.awaiting == 1 and not self._unsent
        suspect = 0 if oldest is None else oldest.number
        if not self._poison.lost(cause, suspect, alone=alone, proven=proven) or oldest is None:
            return
        why = f"the broker closed the link again and again while this message alone was under way ({cause})"
        fate = Fate(FateKind.DEAD_LETTERED, why, cause.reason_code or UNSPECIFIED_ERROR)
        self._window.set_aside(oldest)
        self._end(oldest, fate)

    def _sweep_unfinished(self, now: float) -> None:
        """End what an earlier link left and that has no future: expired, or more than this broker takes.

        What was sent does not expire while its session may live (MQTT 5 sections 4.3.3 and 4.4): it is repeated.
        """
        connack = self._connack

        def judge(entry: Entry, was_sent: bool) -> Fate | None:
            if entry.is_expired(now) and not was_sent:
                return EXPIRED
            return None if connack is None else obstacle_to(entry.message, connack)

        for entry, fate, may_hold in self._window.give_up(judge):
            # What the broker may hold keeps its identifier, and so its record, while the session lives.
            self._backlog.expiries.discard(entry)
            self._fates.end(entry, fate, forget=not may_hold)

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
            self._note_progress(now)
            self._fates.end_all(completed)
        unknown: list[Acknowledgement] = []
        for acknowledgement in (*others, *acknowledgements):
            following, entry = window.acknowledge(acknowledgement)
            if entry is None:
                unknown.append(acknowledgement)
                continue
            if following is Next.IGNORE:
                continue
            self._note_progress(now)
            if following is Next.COMPLETE:
                self._end(entry, ACKNOWLEDGED)
            elif following is Next.RELEASE:
                if self._commits.durable:
                    self._commits.progress(entry)
                else:
                    self._packets.append(Acknowledgement(AckKind.PUBREL, entry.identifier))
            else:
                self._refused(entry, acknowledgement, now)
        if unknown:
            self._packets += unknown_releases(unknown)
        for _ in range(min(sent, len(self._unsent))):
            entry = self._unsent.popleft()
            self._unsent_bytes -= entry.message.size_bytes
            self._end(entry, _SENT)

    def _note_progress(self, now: float) -> None:
        self._progress_at = now
        if not self._acknowledged:
            self._acknowledged, self._window.isolated = True, False
            self._poison.acquit()

    def _refused(self, entry: Entry, acknowledgement: Acknowledgement, now: float) -> None:
        entry.refusals += 1
        code = acknowledgement.reason_code
        verdict = judge_refusal("PUBACK" if entry.message.qos == 1 else "PUBREC", code, self._judge)
        if verdict is Verdict.NEVER or entry.refusals > self._config.message_retry_limit:
            why = f"the broker refused the message: {explain_refused_publish(code)}"
            self._end(entry, Fate(FateKind.DEAD_LETTERED, why, code))
            return
        identifier, entry.identifier = entry.identifier, 0
        self._commits.progress(entry, identifier)
        self._deferrals.add(entry, now + wait_s(verdict, entry.refusals, self._config.reconnection))
        self._backlog.expiries.add(entry)

    # -------------------------------------------------------------------------------------- going out

    def take_packets(self, now: float) -> tuple[Outgoing, ...]:
        """What goes on the lane now: what is unfinished, then the backlog as far as credit and commits allow.

        Lets in whom there is room for, before it and as room becomes free.
        """
        self._expire(now)
        self._intake.seat_line(now, link_up=self.link_up)
        if self.holds_back:
            if now < self._held_until and self._commits.identity_waits and not self.troubled:
                self._count_those_who_wait()
                return ()
            self._held_until = -math.inf
        packets, self._packets = self._packets, []
        if self._connack is not None:
            if not self._window.awaiting:
                self._progress_at = now
            self._deferrals.wake(now)
            self._resume(packets, now, ready=False)
            if self._ready and self._take_birth(packets, self._connack, now):
                self._resume(packets, now, ready=True)
            if self._ready and not (self._window.returned or self._birth or self._window.isolated):
                self._take_backlog(packets, self._connack, now)
                while self._admission.line and self._intake.seat_line(now, link_up=True):
                    self._take_backlog(packets, self._connack, now)
        self._count_those_who_wait()
        if self._window.isolated and any(isinstance(packet, Publish) for packet in packets):
            # If the link is sound the answer comes before whatever the message does to the broker.
            packets.insert(0, PingRequest())
        return tuple(packets)

    def _resume(self, packets: list[Outgoing], now: float, *, ready: bool) -> None:
        packets += self._window.take_prepared(now)
        if self._window.returned:
            resumed, prepared, with_terms = self._window.resume(now, ready=ready)
            packets += resumed
            for entry in with_terms:
                self._backlog.expiries.discard(entry)
            for entry in prepared:
                self._commits.progress(entry)

    def _take_birth(self, packets: list[Outgoing], connack: Connack, now: float) -> bool:
        """Send the birth, if there is one that waits. False when it must wait longer, and all behind it."""
        if self._birth is not None:
            if self._window.isolated or not self._put_under_way(self._birth, packets, connack, now):
                return False
            self._birth = None
        return True

    def _take_backlog(self, packets: list[Outgoing], connack: Connack, now: float) -> None:
        backlog, deferrals, admission = self._backlog, self._deferrals, self._admission
        while deferrals.due and self._put_under_way(deferrals.due[0], packets, connack, now):
            self._backlog.expiries.discard(deferrals.due[0])
            deferrals.take()
        if deferrals.due or deferrals.full:
            return
        backlog.prune()
        waiting = backlog.head
        while waiting:
            if self._unrestricted:
                run, size_bytes = self._window.send_run(waiting, self._commits.committed_number)
                packets += run
                admission.remove(size_bytes, len(run))
            if not waiting or not self._put_under_way(waiting[0], packets, connack, now):
                break
            backlog.took(waiting.popleft())

    def _put_under_way(self, entry: Entry, packets: list[Outgoing], connack: Connack, now: float) -> bool:
        """Send this entry, or end it if this broker can never take it. False when it, and all behind it, must wait."""
        message, window = entry.message, self._window
        if not self._commits.holds(entry):
            return False
        if obstacle := obstacle_to(message, connack):
            self._end(entry, obstacle)
            return True
        if message.qos:
            if not window.has_credit_for(message):
                return False
        elif len(self._unsent) >= MOST_UNSENT_MESSAGES or self._unsent_bytes >= MOST_UNSENT_BYTES:
            return False
        else:
            self._unsent.append(entry)
            self._unsent_bytes += message.size_bytes
        if window.must_prepare(entry):
            if window.prepare(entry):
                self._commits.progress(entry)
        elif message.qos:
            packets.append(window.send(entry, now))
        else:
            packets.append(Publish(entry.message_at(now)))
        return True

    def _count_those_who_wait(self) -> None:
        waited, looked_at, newest = 0, self._looked_at, self._looked_at
        committed = self._commits.committed_number
        for entry in reversed(self._backlog.head):
            number = entry.number
            if number <= looked_at:
                break
            if number > committed and entry.message.qos:
                # It waits for the disk, and so do those behind it; they are looked at when it is committed.
                waited, newest = 0, looked_at
                continue
            waited += 1
            if number > newest:
                newest = number
        self._books.waited += waited
        self._looked_at = newest

    # ---------------------------------------------------------------------------------------- answers

    def _end(self, entry: Entry, fate: Fate) -> None:
        self._fates.end(entry, fate)

    def watch_fates(self, watched: bool) -> None:
        """Whether every fate of every message is wanted in `take_answers`, or only what a sender still listens for."""
        self._fates.watched = watched

    def take_answers(self) -> list[Told]:
        """What senders are to be told, in order."""
        return self._fates.take_answers()

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
    def in_memory(self) -> int:
        """How many of those that wait are in memory, and not in the store alone."""
        return len(self._backlog.head)

    @property
    def _queued(self) -> int:
        births = 0 if self._birth is None else 1
        return self._admission.waiting + len(self._deferrals) + self._window.returned + births

    # -------------------------------------------------------------------------------- time, and the end

    def _expire(self, now: float) -> None:
        """End those whose time is over: what waits, what was deferred, what a link had left unfinished."""
        due = self._backlog.expiries.take_due(now)
        if not due:
            return
        elsewhere = set()
        for entry in self._deferrals.take_expired(now):
            elsewhere.add(entry.number)
            self._end(entry, EXPIRED)
        # What is in flight does not expire: it was sent in time, and its answer is on the way.
        elsewhere.update(entry.number for entry in self._window.entries())
        if self._window.returned:
            self._sweep_unfinished(now)
        self._backlog.expire(entry for entry in due if entry.number not in elsewhere)

    def stalled(self, now: float) -> bool:
        """Whether the broker has acknowledged nothing for `ack_timeout_s`; told once a link."""
        if self._stall_told or not self._window.awaiting or now < self._progress_at + self._config.ack_timeout_s:
            return False
        self._stall_told = True
        return True

    def deadline(self) -> float:
        """When something falls due by itself: -inf for at once, inf for never."""
        if self._fates.answers:
            return -math.inf
        deadline = min(self._commits.deadline(), self._backlog.deadline())
        if self._connack is not None:
            deadline = min(deadline, self._deferrals.deadline())
            if self.holds_back:
                deadline = min(deadline, self._held_until)
            if self._window.awaiting and not self._stall_told:
                deadline = min(deadline, self._progress_at + self._config.ack_timeout_s)
        return deadline

    def begin_stop(self) -> None:
        """Admit nothing more; those in line are refused."""
        if self._at_stop is None:
            self._at_stop = self.ledger()
        self._commits.in_a_hurry = True
        self._intake.stop()

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
        behind = self._backlog.kept_behind
        birth = () if self._birth is None else (self._birth,)
        left = [*birth, *self._window.entries(), *self._deferrals.drain(), *self._backlog.drain(), *self._unsent]
        self._birth = None
        left = list({entry.number: entry for entry in (*left, *self._commits.unwritten)}.values())
        # Nothing goes out any more: what has been told its end must not be sent after it.
        self._intake.over, self._connack, self._ready = True, None, False
        self._packets.clear()
        self._window.clear()
        self._unsent.clear()
        self._unsent_bytes = 0
        kept = [entry for entry in left if self._commits.keeps(entry)]
        for reply, message in [*((entry.reply, entry.message) for entry in kept), *self._backlog.take_listeners()]:
            self._fates.refuse(reply, message, _KEPT)
        for entry in left:
            if not self._commits.keeps(entry):
                self._end(entry, ABANDONED)
        self._admission.waiting = len(kept) + behind
        closing = self.ledger()
        return StopReport(
            acknowledged=closing.acknowledged - opening.acknowledged,
            sent=closing.sent - opening.sent,
            failed=closing.dead_lettered - opening.dead_lettered,
            kept=len(kept) + behind,
            abandoned=closing.abandoned - opening.abandoned,
        )
