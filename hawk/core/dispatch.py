"""What goes out on a link, in this order: what is unfinished, the birth message, what was deferred, the backlog."""

import math
from collections import deque
from dataclasses import dataclass, field

from hawk.core.admission import Admission
from hawk.core.backlog import Backlog
from hawk.core.commits import Commits
from hawk.core.deferrals import Deferrals
from hawk.core.delivery import Entry, is_unrestricted, obstacle_to
from hawk.core.fates import Fates
from hawk.core.intake import Intake
from hawk.core.window import Window
from hawk.packets import Connack, Outgoing, PingRequest, Publish
from hawk.values import Fate, FateKind

MOST_UNSENT_BYTES = 1024 * 1024
"""QoS 0 needs no acknowledgement; this bounds what of it the socket has not taken yet."""
MOST_UNSENT_MESSAGES = 1000
LONGEST_HELD_S = 1.0
"""How long a new link waits until the store knows of its session: a disk that hangs must not cost the link."""

_SENT = Fate(FateKind.SENT)
_STILLBORN = Fate(FateKind.SUPERSEDED, "a birth message, and the link that it was for is gone")
_UNSENT = Fate(FateKind.DROPPED, "QoS 0, and the link died before the socket took it")


@dataclass(slots=True)
class _Unsent:
    """QoS 0 that was handed to a link, and that the socket has not taken yet."""

    entries: deque[Entry] = field(default_factory=deque)
    size_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= MOST_UNSENT_MESSAGES or self.size_bytes >= MOST_UNSENT_BYTES

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.size_bytes += entry.size_bytes

    def take(self, messages: int) -> list[Entry]:
        """The oldest so many, or all that there are."""
        taken = [self.entries.popleft() for _ in range(min(messages, len(self.entries)))]
        self.size_bytes -= sum(entry.size_bytes for entry in taken)
        return taken


class Dispatch:
    """Decides on packets, and puts their entries under way. `connack`: None while no link is up."""

    def __init__(
        self,
        window: Window,
        backlog: Backlog,
        deferrals: Deferrals,
        admission: Admission,
        intake: Intake,
        fates: Fates,
        commits: Commits,
    ) -> None:
        self._window = window
        self._backlog = backlog
        self._deferrals = deferrals
        self._admission = admission
        self._intake = intake
        self._fates = fates
        self._commits = commits
        self.connack: Connack | None = None
        self.ready = False
        """Whether subscriptions are in place, so that more than what is unfinished may flow."""
        self.answers: list[Outgoing] = []
        """What goes out before anything else: what is said to acknowledgements."""
        self.secured: list[Entry] = []
        """Of which the store knows that their PUBREC came: their PUBREL goes out."""
        self.birth: Entry | None = None
        self._unrestricted = False
        self._unsent = _Unsent()
        self._held_until = -math.inf

    def open(self, connack: Connack, now: float) -> None:
        """A link is up."""
        self.connack, self.ready = connack, False
        self._unrestricted = is_unrestricted(connack)
        self._held_until = now + LONGEST_HELD_S if self._commits.identity_waits else -math.inf

    def close(self) -> None:
        """The link is down: what the socket had not taken is gone, and what was for that link alone."""
        self.connack, self.ready, self._held_until = None, False, -math.inf
        self.answers.clear()
        self.secured.clear()
        if self.birth is not None:
            self._fates.end(self.birth, _STILLBORN)
            self.birth = None
        for entry in self._unsent.take(self.unsent):
            self._fates.end(entry, _UNSENT)

    def drain(self) -> tuple[list[Entry], list[Entry]]:
        """Nothing goes out any more: the birth message, if it did not yet, and what the socket did not take."""
        birth = [] if self.birth is None else [self.birth]
        self.connack, self.ready, self.birth = None, False, None
        self.answers.clear()
        self.secured.clear()
        return birth, self._unsent.take(self.unsent)

    @property
    def unsent(self) -> int:
        """How many messages at QoS 0 the socket has not taken yet."""
        return len(self._unsent.entries)

    def sent(self, messages: int) -> None:
        """The socket took so many messages at QoS 0, the oldest first."""
        for entry in self._unsent.take(messages):
            self._fates.end(entry, _SENT)

    @property
    def holds_back(self) -> bool:
        """Whether nothing may be written on this link yet, because the store does not know of its session.

        A process that died now would come back with Clean Start, and what the broker keeps in the session would be gone.
        """
        return self._held_until > -math.inf

    def deadline(self) -> float:
        """When something of this falls due by itself; inf for never."""
        if self.connack is None:
            return math.inf
        # While the link is held back nothing that was deferred is looked at.
        return self._held_until if self.holds_back else self._deferrals.deadline()

    # ------------------------------------------------------------------------------------------ packets

    def take(self, now: float, *, troubled: bool) -> list[Outgoing]:
        """What goes on the lane now, as far as credit and commits allow; who stands in line comes in as room becomes free.

        `troubled`: the store fails, and is not waited for.
        """
        if self.holds_back:
            if now < self._held_until and self._commits.identity_waits and not troubled:
                return []
            self._held_until = -math.inf
        packets, self.answers = self.answers, []
        for entry in self.secured:
            packets += self._window.say_release(entry)
        self.secured.clear()
        if self.connack is not None:
            self._deferrals.wake(now)
            self._resume(packets, now, ready=False)
            if self.ready and self._take_birth(packets, self.connack, now):
                self._resume(packets, now, ready=True)
            if self.ready and not (self._window.returned or self.birth or self._window.isolated):
                self._take_backlog(packets, self.connack, now)
                while self._admission.line and self._intake.seat_line(now, link_up=True):
                    self._take_backlog(packets, self.connack, now)
        if self._window.isolated and any(isinstance(packet, Publish) for packet in packets):
            # If the link is sound the answer comes before whatever the message does to the broker.
            packets.insert(0, PingRequest())
        return packets

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
        if self.birth is not None:
            if self._window.isolated or not self._put_under_way(self.birth, packets, connack, now):
                return False
            self.birth = None
        return True

    def _take_backlog(self, packets: list[Outgoing], connack: Connack, now: float) -> None:
        backlog, deferrals = self._backlog, self._deferrals
        while deferrals.due and self._put_under_way(deferrals.due[0], packets, connack, now):
            backlog.expiries.discard(deferrals.due[0])
            deferrals.take()
        if deferrals.due or deferrals.full:
            return
        backlog.prune()
        waiting = backlog.head
        while waiting:
            if self._unrestricted:
                run, size_bytes = self._window.send_run(waiting, self._commits.committed_number)
                packets += run
                self._admission.remove(size_bytes, len(run))
            if not waiting or not self._put_under_way(waiting[0], packets, connack, now):
                break
            backlog.took(waiting.popleft())

    def _put_under_way(self, entry: Entry, packets: list[Outgoing], connack: Connack, now: float) -> bool:
        """Send this entry, or end it if this broker can never take it. False when it, and all behind it, must wait."""
        message, window = entry.message, self._window
        if not self._commits.holds(entry):
            return False
        if obstacle := obstacle_to(message, connack):
            self._fates.end(entry, obstacle)
            return True
        if message.qos:
            if not window.has_credit_for(message):
                return False
        elif self._unsent.is_full:
            return False
        else:
            self._unsent.add(entry)
        if window.must_prepare(entry):
            if window.prepare(entry):
                self._commits.progress(entry)
        elif message.qos:
            packets.append(window.send(entry, now))
        else:
            packets.append(Publish(entry.message_at(now)))
        return True
