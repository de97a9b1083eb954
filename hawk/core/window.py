"""What is under way: packet identifiers, credit, and what an earlier link or an earlier process left unfinished.

    prepared    has an identifier and credit, and waits until the store has both on disk, or for one that does
    published   its PUBLISH is on the present link
    released    the broker has said PUBREC; its PUBREL is on the present link, or waits until the store knows
    returned    left unfinished by a link that died: first in line for the next

An identifier is free when its message is, and not before the store has forgotten it (`held`). One under which the broker's
session may hold a message that was given up is `withheld` for as long as that session lives (MQTT-4.3.3): the broker would
take another message of that identifier for a repeat, and swallow it.
"""

from collections import deque
from collections.abc import Callable, Iterable

from hawk.core.answers import FAILURE
from hawk.core.delivery import PLAIN, TRACK, Awaits, Entry, Next
from hawk.messages import Withheld
from hawk.packets import AckKind, Acknowledgement, Connack, Publish
from hawk.values import Fate, Message

HIGHEST_IDENTIFIER = 65_023
"""Above are the identifiers of SUBSCRIBE and UNSUBSCRIBE."""
MOST_BYTES_IN_FLIGHT = 4 * 1024 * 1024

Packet = Publish | Acknowledgement


def _always(entry: Entry) -> bool:
    return True


class Window:
    """The entries under way. Never more than the window are sent and not completed, those waiting for PUBCOMP included.

    `durable`: identifiers at QoS 2, and that a PUBREC came, are on disk before the broker sees them; `is_secured` says
    whether all that is known of an entry is.
    """

    def __init__(
        self, max_inflight: int, *, durable: bool = False, is_secured: Callable[[Entry], bool] = _always
    ) -> None:
        self._max_inflight = max_inflight
        self._durable = durable
        self._is_secured = is_secured
        self._prepared: deque[Entry] = deque()
        self._prepared_identifiers: set[int] = set()
        self._passengers = 0
        self._published: dict[int, Entry] = {}
        self._released: dict[int, Entry] = {}
        self._unsaid: set[int] = set()
        self._returned: deque[Entry] = deque()
        self._returned_identifiers: set[int] = set()
        self._withheld: dict[int, int] = {}
        """The number of the message, by identifier."""
        self._held: set[int] = set()
        self._never_sent: set[int] = set()
        self._lives_on = False
        self._bytes = 0
        self._size = 0
        self._last_identifier = 0
        self.isolated = False
        """One at a time, until it is known which message the broker cannot bear."""
        self.troubled = False
        """The store fails: what it does not know to be over counts as under way."""

    # ------------------------------------------------------------------------------------------ what there is

    @property
    def in_flight(self) -> int:
        """Entries that have credit and are not completed."""
        return len(self._published) + len(self._released) + len(self._prepared) - self._passengers

    @property
    def awaiting(self) -> int:
        """Entries for which the broker owes an answer."""
        return len(self._published) + len(self._released) - len(self._unsaid)

    @property
    def returned(self) -> int:
        """Entries that an earlier link left unfinished and that are not sent again yet."""
        return len(self._returned)

    @property
    def prepared(self) -> int:
        """Entries that wait for the store before they are sent."""
        return len(self._prepared)

    @property
    def oldest(self) -> Entry | None:
        """The oldest whose PUBLISH the broker has not answered."""
        return next(iter(self._published.values()), None)

    def entries(self) -> list[Entry]:
        """All of them, in the order in which they were first sent."""
        under_way = [*self._released.values(), *self._published.values(), *self._prepared, *self._returned]
        return sorted(under_way, key=lambda entry: entry.number)

    @property
    def left_at_the_broker(self) -> tuple[Withheld, ...]:
        """What its session may hold: what is withheld, and what was sent at QoS 2 and is not completed."""
        unfinished = (*self._released.values(), *self._published.values(), *self._returned)
        held = self._withheld | {e.identifier: e.number for e in unfinished if e.identifier and e.message.qos == 2}
        return tuple(Withheld(*each) for each in sorted(held.items()))

    def has_credit_for(self, message: Message) -> bool:
        """Whether one more PUBLISH may go out: by Receive Maximum, by our own bounds, and by 4 MiB of payload."""
        under_way = self.in_flight
        if under_way >= self._credit():
            return False
        return under_way == 0 or self._bytes + len(message.payload) <= MOST_BYTES_IN_FLIGHT

    def _credit(self) -> int:
        """How many may be in flight now."""
        size = min(1, self._size) if self.isolated else self._size
        if not (self._held or self._withheld):
            return size
        # A store that hangs holds identifiers, and others are withheld: there must be some left.
        taken = len(self._held) + len(self._withheld) + len(self._returned_identifiers)
        size = min(size, HIGHEST_IDENTIFIER - taken)
        if self.isolated or not self._held:
            return size
        if self.troubled:
            return min(size, self._max_inflight - len(self._held))
        return size if len(self._held) < self._max_inflight else 0

    # -------------------------------------------------------------------------------------- links come and go

    def recover(self, entries: Iterable[Entry], withheld: Iterable[Withheld] = ()) -> None:
        """Take back what an earlier process left under way, and what it withheld. Before anything else."""
        ordered = sorted(entries, key=lambda entry: (entry.awaits is not Awaits.PUBCOMP, entry.number))
        self._returned.extend(ordered)
        self._returned_identifiers.update(entry.identifier for entry in ordered if entry.identifier)
        self._withheld.update(withheld)

    def open(self, connack: Connack) -> tuple[list[Entry], list[tuple[Entry, int]], list[int]]:
        """A link is up. Returns the entries that the broker forgot half way, those that lost their identifier with it,
        and the identifiers that were withheld in the old session and are withheld no more.

        With the session alive the unfinished is resumed (MQTT 5 section 4.4). With a new one the broker has forgotten:
        a PUBLISH that it never answered goes out anew, but a QoS 2 message that it had received (PUBREC) and that was
        not released yet may or may not have been delivered.
        """
        forgotten: list[Entry] = []
        renewed: list[tuple[Entry, int]] = []
        released: list[int] = []
        self._lives_on = connack.session_present
        if not connack.session_present:
            released = sorted(self._withheld)
            if self._durable:
                self._held.update(self._withheld)
            self._withheld.clear()
            self._never_sent.clear()
            kept: deque[Entry] = deque()
            for entry in self._returned:
                if entry.awaits is Awaits.PUBCOMP:
                    forgotten.append(entry)
                    self._let_go(entry)
                    continue
                if entry.identifier and entry.awaits is Awaits.PUBREC:
                    renewed.append((entry, entry.identifier))
                    self._let_go(entry)
                entry.identifier = 0
                kept.append(entry)
            self._returned = kept
            self._returned_identifiers.clear()
        self._size = min(max(1, connack.receive_maximum), self._max_inflight)
        return forgotten, renewed, released

    def close(self) -> None:
        """The link is down: what was under way goes back in front of what an earlier link had left, in its order."""
        prepared = [entry for entry in self._prepared if entry.message.qos]
        unfinished = [*self._released.values(), *self._published.values(), *prepared]
        self._returned.extendleft(reversed(unfinished))
        self._returned_identifiers.update(entry.identifier for entry in unfinished)
        self._prepared.clear()
        self._prepared_identifiers.clear()
        self._passengers = 0
        self._published.clear()
        self._released.clear()
        self._unsaid.clear()
        self._bytes = self._size = 0

    def give_up(self, judge: Callable[[Entry, bool], Fate | None]) -> list[tuple[Entry, Fate, bool]]:
        """Take out of the unfinished what `judge` ends. Returns each with its fate, and whether the broker may hold it.

        `judge` is told whether the entry was sent in a session that may still live. At QoS 2 its identifier is then withheld.
        """
        taken: list[tuple[Entry, Fate, bool]] = []
        kept: deque[Entry] = deque()
        for entry in self._returned:
            identifier = entry.identifier
            was_sent = bool(identifier) and identifier not in self._never_sent
            fate = None if entry.awaits is Awaits.PUBCOMP else judge(entry, was_sent)
            if fate is None:
                kept.append(entry)
                continue
            may_hold = was_sent and entry.awaits is Awaits.PUBREC
            self._returned_identifiers.discard(identifier)
            self._never_sent.discard(identifier)
            if may_hold:
                self._withheld[identifier] = entry.number
            elif identifier:
                self._let_go(entry)
            taken.append((entry, fate, may_hold))
        if taken:
            self._returned = kept
        return taken

    def set_aside(self, entry: Entry) -> bool:
        """Take out an entry whose PUBLISH is on a link that has just died. Returns whether the broker may hold it.

        It may, at QoS 2: what made it close the link came perhaps after it had received the message.
        """
        del self._published[entry.identifier]
        self._bytes -= len(entry.message.payload)
        may_hold = entry.awaits is Awaits.PUBREC
        if may_hold:
            self._withheld[entry.identifier] = entry.number
        else:
            self._let_go(entry)
        return may_hold

    # ----------------------------------------------------------------------------------------------- going out

    def resume(self, now: float, *, ready: bool) -> tuple[list[Packet], list[Entry], list[Entry]]:
        """What of the unfinished may go out now: every PUBREL, then PUBLISHes as far as there is credit, oldest first.

        Those of a living session go with DUP and their identifier, before anything else; those of a forgotten one go
        as new, once the link is `ready`. Also returns the entries whose new identifier the store has to learn first, and
        those with terms, which wait no more.
        """
        packets: list[Packet] = []
        prepared: list[Entry] = []
        with_terms: list[Entry] = []
        while self._returned:
            entry = self._returned[0]
            identifier = entry.identifier
            if entry.awaits is Awaits.PUBCOMP:
                if not self._is_secured(entry):
                    break
                self._released[identifier] = entry
                self._bytes += len(entry.message.payload)
                packets.append(Acknowledgement(AckKind.PUBREL, identifier))
            elif not self.has_credit_for(entry.message) or not (identifier or ready or self._lives_on):
                break
            elif identifier and self._is_secured(entry) and not self._prepared:
                self._published[identifier] = entry
                self._bytes += len(entry.message.payload)
                packets.append(self._repeat(entry, now))
            elif identifier or self.must_prepare(entry):
                if self.prepare(entry):
                    prepared.append(entry)
            else:
                packets.append(self.send(entry, now))
            if entry.terms is not PLAIN:
                with_terms.append(entry)
            self._returned.popleft()
            self._returned_identifiers.discard(identifier)
        return packets, prepared, with_terms

    def _repeat(self, entry: Entry, now: float) -> Publish:
        identifier = entry.identifier
        duplicate = identifier not in self._never_sent
        self._never_sent.discard(identifier)
        return Publish(entry.message_at(now), identifier, duplicate=duplicate)

    def send(self, entry: Entry, now: float = 0.0) -> Publish:
        """Put one new entry under way. Only with credit for it."""
        self._name(entry)
        self._published[entry.identifier] = entry
        self._bytes += len(entry.message.payload)
        return Publish(entry.message_at(now), entry.identifier)

    def must_prepare(self, entry: Entry) -> bool:
        """Whether this entry has to wait for the store, or behind one that does."""
        return bool(self._prepared) or (self._durable and entry.message.qos == 2)

    def prepare(self, entry: Entry) -> bool:
        """Give it credit and an identifier; `take_prepared` sends it. True when the store has to learn the identifier."""
        self._prepared.append(entry)
        if not entry.message.qos:
            self._passengers += 1
            return False
        self._bytes += len(entry.message.payload)
        named = not entry.identifier
        if named:
            self._name(entry)
            self._never_sent.add(entry.identifier)
        self._prepared_identifiers.add(entry.identifier)
        return named and entry.message.qos == 2

    def take_prepared(self, now: float) -> list[Packet]:
        """The PUBLISHes that wait for the store no more, in their order."""
        packets: list[Packet] = []
        while self._prepared and self._is_secured(self._prepared[0]):
            entry = self._prepared.popleft()
            if entry.message.qos:
                self._prepared_identifiers.discard(entry.identifier)
                self._published[entry.identifier] = entry
                packets.append(self._repeat(entry, now))
            else:
                self._passengers -= 1
                packets.append(Publish(entry.message_at(now)))
        return packets

    def _name(self, entry: Entry) -> None:
        identifier = self._last_identifier
        while True:
            identifier = identifier % HIGHEST_IDENTIFIER + 1
            if not (
                identifier in self._published
                or identifier in self._released
                or identifier in self._held
                or identifier in self._prepared_identifiers
                or identifier in self._returned_identifiers
                or identifier in self._withheld
            ):
                break
        self._last_identifier = entry.identifier = identifier

    def send_run(self, waiting: deque[Entry], last_number: float) -> tuple[list[Publish], int]:
        """Put under way, from the front of `waiting`, what there is credit for: plain QoS 1 (and 2, without a store), up
        to that number.

        The same as `send` for each while `has_credit_for` it, at a fraction of the cost: this is what drains a backlog.
        Returns the packets, and how many bytes they counted for.
        """
        published, packets, size_bytes = self._published, list[Publish](), 0
        if self._prepared:
            return packets, size_bytes
        taken = self._released.keys() | self._returned_identifiers | self._withheld.keys() | self._held
        credit = self._credit() - len(published) - len(self._released)
        in_flight_bytes, identifier, durable = self._bytes, self._last_identifier, self._durable
        new_packet = tuple.__new__  # at half the price of Publish()
        while waiting and credit > 0:
            entry = waiting[0]
            message = entry.message
            if not message.qos or entry.number > last_number or entry.terms is not PLAIN:
                break
            in_flight_bytes += len(message.payload)
            alone = not published and not self._released
            if (in_flight_bytes > MOST_BYTES_IN_FLIGHT and not alone) or (durable and message.qos == 2):
                in_flight_bytes -= len(message.payload)
                break
            identifier = identifier % HIGHEST_IDENTIFIER + 1
            while identifier in published or identifier in taken:
                identifier = identifier % HIGHEST_IDENTIFIER + 1
            entry.identifier = identifier
            published[identifier] = waiting.popleft()
            packets.append(new_packet(Publish, (message, identifier, False)))
            size_bytes += entry.size_bytes
            credit -= 1
        self._bytes, self._last_identifier = in_flight_bytes, identifier
        return packets, size_bytes

    # -------------------------------------------------------------------------------------------- what came back

    def complete_run(self, identifiers: Iterable[int]) -> tuple[list[Entry], list[Acknowledgement]]:
        """Plain PUBACKs came: the entries that they complete, and those that need a look at the table."""
        published, durable = self._published, self._durable
        completed, others = list[Entry](), list[Acknowledgement]()
        for identifier in identifiers:
            entry = published.get(identifier)
            if entry is None or entry.awaits is not Awaits.PUBACK:
                others.append(Acknowledgement(AckKind.PUBACK, identifier))
                continue
            del published[identifier]
            self._bytes -= len(entry.message.payload)
            if durable:
                self._held.add(identifier)
            completed.append(entry)
        return completed, others

    def acknowledge(self, acknowledgement: Acknowledgement) -> tuple[Next, Entry | None]:
        """What follows from this acknowledgement, and for which entry; None for one that hawk does not know.

        IGNORE changes nothing. So does whatever comes for an entry that this link has not sent again yet.
        """
        kind, identifier, reason_code = acknowledgement
        entry = self._published.get(identifier)
        if entry is None:
            entry = self._released.get(identifier)
            if entry is None:
                return Next.IGNORE, self._find_unsent(identifier)
        following = TRACK[entry.awaits, kind][reason_code >= FAILURE]
        if following is Next.IGNORE:
            return following, entry
        if following is Next.RELEASE:
            # Moved, so that PUBRELs are repeated in the order of the PUBRECs (MQTT-4.6.0-3).
            del self._published[identifier]
            self._released[identifier] = entry
            entry.awaits = Awaits.PUBCOMP
            if self._durable:
                self._unsaid.add(identifier)
            return following, entry
        if self._published.pop(identifier, None) is None:
            del self._released[identifier]
            self._unsaid.discard(identifier)
        self._bytes -= len(entry.message.payload)
        self._let_go(entry)
        return following, entry

    def say_release(self, entry: Entry) -> list[Packet]:
        """The store knows that the PUBREC came: the PUBREL, if this link still waits for it."""
        if entry.identifier not in self._unsaid or self._released.get(entry.identifier) is not entry:
            return []
        self._unsaid.discard(entry.identifier)
        return [Acknowledgement(AckKind.PUBREL, entry.identifier)]

    def free(self, identifiers: Iterable[int]) -> None:
        """The store has forgotten these identifiers."""
        self._held.difference_update(identifiers)

    def _let_go(self, entry: Entry) -> None:
        """Its identifier is over with, and free once the store has forgotten it."""
        if self._durable:
            self._held.add(entry.identifier)

    def _find_unsent(self, identifier: int) -> Entry | None:
        if identifier in self._returned_identifiers or identifier in self._prepared_identifiers:
            unsent = (*self._returned, *self._prepared)
            return next((entry for entry in unsent if entry.identifier == identifier), None)
        return None

    def clear(self) -> None:
        """Forget everything but what the broker may hold, when the outbox ends."""
        self.close()
        self._withheld.update(self.left_at_the_broker)
        self._returned.clear()
        self._returned_identifiers.clear()
