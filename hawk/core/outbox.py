"""The outbox: which messages are in, which go out next, and what became of each.

    offered -> admitted -> (committed) -> waiting -> under way -> fate
                                             ^------- returned (the link died)
                                             ^------- deferred (the broker refused it for now)

What waits is in `core/intake.py` and `core/backlog.py`, what is under way in `core/window.py`; `core/dispatch.py` says what
goes out, and `core/settling.py` what follows from what comes back. `Outbox` joins them for the Queue keeper. Its methods take
facts and time, change the books at once, and leave what is to be done for the keeper to collect: `take_commit`, `take_read`,
`take_packets`, `take_answers`, `room`, `ledger`.
"""

import math
from collections.abc import Iterable, Sequence

from hawk.config import Config
from hawk.core.admission import Admission
from hawk.core.answers import Judge, hawks_own
from hawk.core.backlog import EXPIRED, Backlog, Paging
from hawk.core.commits import Commits
from hawk.core.deferrals import Deferrals
from hawk.core.delivery import PLAIN, Entry, from_record, obstacle_to
from hawk.core.dispatch import Dispatch
from hawk.core.fates import Fates, Told, nobody
from hawk.core.intake import ABANDONED, Intake
from hawk.core.latest import Latest
from hawk.core.ledger import Books
from hawk.core.settling import Settling
from hawk.core.waited import Waited
from hawk.core.window import Window
from hawk.messages import Commit, Identity, Offer, Page, ReadPage, Recovered, ReplyReference, Room, StopReport, Withheld
from hawk.packets import Acknowledgement, Connack, Outgoing
from hawk.values import Cause, Fate, FateKind, Ledger, Message, Stage

MOST_DEFERRED = 10_000

_FORGOTTEN = Fate(FateKind.UNKNOWN, "the broker forgot the session after it had received the message")
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
        self._settling = Settling(
            config, self._window, self._backlog, self._deferrals, self._fates, self._commits, judge=judge
        )
        self._dispatch = Dispatch(
            self._window, self._backlog, self._deferrals, self._admission, self._intake, self._fates, self._commits
        )
        self._waited = Waited(self._books, self._backlog, self._commits)
        self._births = 0
        self._at_stop: Ledger | None = None

    # ------------------------------------------------------------------------------------- coming in

    def recover(self, recovered: Recovered, now: float = 0.0) -> None:
        """Take back what an earlier run left in the store. Before anything else."""
        self._books.recover(recovered.queued + len(recovered.under_way))
        self._books.recover(recovered.damaged, new=True)
        self._books.end(FateKind.DAMAGED, recovered.damaged)
        self._intake.last_number = self._waited.looked_at = recovered.last_number
        self._commits.recover(recovered.last_number)
        self._backlog.recover(recovered, now)
        entries = [from_record(record, nobody, now) for record in recovered.under_way]
        self._window.recover(entries, recovered.withheld)
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
        self._dispatch.secured += secured

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
        self._waited.count()
        self._waited.looked_at = max(self._waited.looked_at, self._backlog.page_read(page, now))

    def page_failed(self, now: float) -> None:
        """The store could not read what was asked for last."""
        self._backlog.read_failed(now)

    # --------------------------------------------------------------------------------------- the link

    @property
    def link_up(self) -> bool:
        """Whether a link is up."""
        return self._dispatch.connack is not None

    def open(
        self, connack: Connack, now: float, birth: Message | None = None, *, endpoint: str = "", shared: bool = True
    ) -> None:
        """A link is up. What is unfinished goes first; `birth`, and the backlog behind it, wait for `ready`.

        `endpoint` and `shared`: what the store is to know of its session, as `Identity` has it.
        """
        self._settling.begin(now)
        self._note_session(connack, endpoint, shared=shared)
        self._dispatch.open(connack, now)
        forgotten, renewed, released = self._window.open(connack)
        self._commits.release(released)
        for entry in forgotten:
            self._backlog.expiries.discard(entry)
            self._fates.end(entry, _FORGOTTEN)
        for entry, identifier in renewed:
            self._commits.progress(entry, identifier)
        self._sweep_unfinished(connack, now)
        self._settling.suspect()
        if birth is not None and not self._intake.over:
            # Of this link alone, so no store keeps it; its number is one that no other message has.
            self._births += 1
            self._dispatch.birth = Entry(-self._births, birth, nobody)
            self._books.accepted += 1

    def _note_session(self, connack: Connack, endpoint: str, *, shared: bool) -> None:
        """That broker may hold a session of ours from now on: the next process has to know."""
        if self._identity is None:
            return
        # One that is assigned counts only where it was asked for, with an empty one.
        name = self._identity.client_identifier or connack.assigned_client_identifier or ""
        identity = Identity(name, session=True, endpoint=endpoint, shared=shared)
        if identity != self._identity:
            self._identity = identity
            self._commits.identify(identity)

    @property
    def withheld(self) -> tuple[Withheld, ...]:
        """What the broker's session may hold of what was sent at QoS 2, finished or not."""
        return self._window.left_at_the_broker

    @property
    def holds_back(self) -> bool:
        """Whether nothing may be written on this link yet, because the store does not know of its session."""
        return self._dispatch.holds_back

    def ready(self) -> None:
        """Subscriptions are in place: the backlog may flow."""
        self._dispatch.ready = True

    def close(self, cause: Cause | None = None, *, proven: bool = True) -> None:
        """The link is down. Under way goes back in front; QoS 0 that the socket had not taken is gone.

        `proven`: a ping or anything else had been answered on it.
        """
        if cause is not None:
            self._settling.lose(cause, alone=not self._dispatch.unsent, proven=proven)
        self._window.close()
        self._dispatch.close()
        for entry in self._window.entries():
            if entry.terms is not PLAIN:
                self._backlog.expiries.add(entry)

    def _sweep_unfinished(self, connack: Connack | None, now: float) -> None:
        """End what an earlier link left and that has no future: expired, or more than this broker takes.

        What was sent does not expire while its session may live (MQTT 5 sections 4.3.3 and 4.4): it is repeated.
        """

        def judge(entry: Entry, was_sent: bool) -> Fate | None:
            if entry.is_expired(now) and not was_sent:
                return EXPIRED
            return None if connack is None else obstacle_to(entry.message, connack)

        for entry, fate, may_hold in self._window.give_up(judge):
            self._backlog.expiries.discard(entry)
            self._fates.end(entry, fate, withholds=may_hold)

    def settle(
        self,
        acknowledgements: Sequence[Acknowledgement],
        sent: int,
        now: float,
        *,
        acknowledged: Sequence[int] = (),
    ) -> None:
        """Acknowledgements came in, and the socket took so many QoS 0 messages, the oldest unsent first."""
        if self.link_up:
            self._dispatch.answers += self._settling.settle(acknowledgements, now, acknowledged=acknowledged)
            self._dispatch.sent(sent)

    # -------------------------------------------------------------------------------------- going out

    def take_packets(self, now: float) -> tuple[Outgoing, ...]:
        """What goes on the lane now: what is unfinished, then the backlog as far as credit and commits allow.

        Lets in whom there is room for, before it and as room becomes free.
        """
        self._expire(now)
        self._intake.seat_line(now, link_up=self.link_up)
        if self.link_up:
            self._settling.note_idle(now)
        packets = self._dispatch.take(now, troubled=self.troubled)
        self._waited.count()
        return tuple(packets)

    # ---------------------------------------------------------------------------------------- answers

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
        if not self.link_up:
            # So that a sender who is told of its acceptance reads that its message was queued.
            self._waited.count()
        return self._books.statement(queued=self._queued, in_flight=self._window.in_flight + self._dispatch.unsent)

    @property
    def in_memory(self) -> int:
        """How many of those that wait are in memory, and not in the store alone."""
        return len(self._backlog.head)

    @property
    def _queued(self) -> int:
        births = 0 if self._dispatch.birth is None else 1
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
            self._fates.end(entry, EXPIRED)
        # What is in flight does not expire: it was sent in time, and its answer is on the way.
        elsewhere.update(entry.number for entry in self._window.entries())
        if self._window.returned:
            self._sweep_unfinished(self._dispatch.connack, now)
        self._backlog.expire(entry for entry in due if entry.number not in elsewhere)

    def stalled(self, now: float) -> bool:
        """Whether the broker has acknowledged nothing for `ack_timeout_s`; told again after as long once more."""
        return self._settling.stalled(now)

    def deadline(self) -> float:
        """When something falls due by itself: -inf for at once, inf for never."""
        if self._fates.answers:
            return -math.inf
        deadline = min(self._commits.deadline(), self._backlog.deadline(), self._dispatch.deadline())
        return min(deadline, self._settling.deadline()) if self.link_up else deadline

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
        if not self.link_up and self._commits.durable:
            return True
        return not (self._queued or self._window.in_flight or self._dispatch.unsent)

    def end_stop(self) -> StopReport:
        """The stop is over: what is left stays on disk, or is abandoned. Call `take_answers` after it."""
        opening = self._at_stop or self.ledger()
        behind = self._backlog.kept_behind
        # Nothing goes out any more: what has been told its end must not be sent after it.
        birth, unsent = self._dispatch.drain()
        self._intake.over = True
        left = [*birth, *self._window.entries(), *self._deferrals.drain(), *self._backlog.drain(), *unsent]
        self._window.clear()
        left = list({entry.number: entry for entry in (*left, *self._commits.unwritten)}.values())
        kept = [entry for entry in left if self._commits.keeps(entry)]
        for reply, message in [*((entry.reply, entry.message) for entry in kept), *self._backlog.take_listeners()]:
            self._fates.refuse(reply, message, _KEPT)
        for entry in left:
            if not self._commits.keeps(entry):
                # Only a birth message may have been sent, and be at the broker, and yet not be kept.
                self._fates.end(entry, ABANDONED, withholds=entry.stage is not Stage.QUEUED)
        self._admission.waiting = len(kept) + behind
        closing = self.ledger()
        return StopReport(
            acknowledged=closing.acknowledged - opening.acknowledged,
            sent=closing.sent - opening.sent,
            failed=closing.dead_lettered - opening.dead_lettered,
            kept=len(kept) + behind,
            abandoned=closing.abandoned - opening.abandoned,
        )
