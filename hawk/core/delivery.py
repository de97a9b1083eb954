"""What is under way: packet identifiers, the window, and for each entry what to send and what to expect.

    QoS 1   PUBLISH ----------> PUBACK                         done
    QoS 2   PUBLISH ----------> PUBREC, PUBREL ------> PUBCOMP done

The table below is MQTT 5 section 4.3.3 and 4.4 as rows: what an entry waits for, what came, what follows. An entry
completes as an entry, never by its identifier alone, because identifiers are used again at once.
"""

from collections import deque
from collections.abc import Iterable
from enum import Enum

from hawk.core.answers import PublishVerdict, judge_puback
from hawk.core.wire_size import publish_size_bytes
from hawk.messages import ReplyReference
from hawk.packets import AckKind, Acknowledgement, Connack, Publish
from hawk.values import Fate, FateKind, Message

HIGHEST_IDENTIFIER = 65_023
"""Above are the identifiers of SUBSCRIBE and UNSUBSCRIBE."""
MOST_BYTES_IN_FLIGHT = 4 * 1024 * 1024
PACKET_IDENTIFIER_NOT_FOUND = 0x92
PACKET_TOO_LARGE = 0x95
RETAIN_NOT_SUPPORTED = 0x9A
QOS_NOT_SUPPORTED = 0x9B

_FORGOTTEN = Fate(FateKind.UNKNOWN, "the broker forgot the session after it had received the message")


class Awaits(Enum):
    """What an entry that is under way waits for."""

    PUBACK = "puback"
    PUBREC = "pubrec"
    PUBCOMP = "pubcomp"


class Next(Enum):
    """What follows from an acknowledgement."""

    COMPLETE = "complete"
    RELEASE = "release"
    TRY_AGAIN = "try again"
    REFUSE = "refuse"
    IGNORE = "ignore"


_IGNORED = dict.fromkeys(PublishVerdict, Next.IGNORE)
_RETRY_OR_REFUSE = {PublishVerdict.RETRY: Next.TRY_AGAIN, PublishVerdict.REFUSED: Next.REFUSE}

TRACK: dict[tuple[Awaits, AckKind], dict[PublishVerdict, Next]] = {
    (Awaits.PUBACK, AckKind.PUBACK): {PublishVerdict.DONE: Next.COMPLETE, **_RETRY_OR_REFUSE},
    (Awaits.PUBACK, AckKind.PUBREC): _IGNORED,
    (Awaits.PUBACK, AckKind.PUBCOMP): _IGNORED,
    (Awaits.PUBREC, AckKind.PUBACK): _IGNORED,
    (Awaits.PUBREC, AckKind.PUBREC): {PublishVerdict.DONE: Next.RELEASE, **_RETRY_OR_REFUSE},
    (Awaits.PUBREC, AckKind.PUBCOMP): _IGNORED,
    (Awaits.PUBCOMP, AckKind.PUBACK): _IGNORED,
    # The PUBREL is under way already, and a link repeats nothing.
    (Awaits.PUBCOMP, AckKind.PUBREC): _IGNORED,
    # Whatever PUBCOMP says, 0x92 included, the broker holds the identifier no more.
    (Awaits.PUBCOMP, AckKind.PUBCOMP): dict.fromkeys(PublishVerdict, Next.COMPLETE),
}


class Entry:
    """One message in the outbox, from its admission to its fate. `number` grows with the order of acceptance."""

    __slots__ = ("awaits", "identifier", "message", "number", "refusals", "reply", "size_bytes")

    def __init__(self, number: int, message: Message, reply: ReplyReference) -> None:
        self.number = number
        self.message = message
        self.reply = reply
        self.size_bytes = message.size_bytes
        self.identifier = 0
        self.refusals = 0
        self.awaits = Awaits.PUBACK if message.qos == 1 else Awaits.PUBREC


class Window:
    """The entries under way on the present link, and those that an earlier link left unfinished.

    Never more than the window are sent and not completed, those waiting for PUBCOMP and those resumed included.
    """

    def __init__(self, max_inflight: int) -> None:
        self._max_inflight = max_inflight
        self._published: dict[int, Entry] = {}
        self._released: dict[int, Entry] = {}
        self._returned: deque[Entry] = deque()
        self._returned_identifiers: set[int] = set()
        self._withheld_identifiers: set[int] = set()
        self._bytes = 0
        self._size = 0
        self._last_identifier = 0

    @property
    def in_flight(self) -> int:
        """Entries sent on the present link and not completed."""
        return len(self._published) + len(self._released)

    @property
    def returned(self) -> int:
        """Entries that an earlier link left unfinished and that are not sent again yet."""
        return len(self._returned)

    def entries(self) -> list[Entry]:
        """All of them, in the order in which they were first sent."""
        under_way = [*self._released.values(), *self._published.values(), *self._returned]
        return sorted(under_way, key=lambda entry: entry.number)

    def has_credit_for(self, message: Message) -> bool:
        """Whether one more PUBLISH may go out: by Receive Maximum, by our own bound, and by 4 MiB of payload."""
        under_way = len(self._published) + len(self._released)
        if under_way >= self._size:
            return False
        return under_way == 0 or self._bytes + len(message.payload) <= MOST_BYTES_IN_FLIGHT

    def open(self, connack: Connack) -> list[tuple[Entry, Fate]]:
        """A link is up. Returns the entries that this ends: those that the broker forgot, or can not take any more.

        With the session alive the unfinished is resumed (MQTT 5 section 4.4). With a new one the broker has forgotten:
        a PUBLISH that it never answered goes out anew, but a QoS 2 message that it had received (PUBREC) and that was
        not released yet may or may not have been delivered.
        """
        if not connack.session_present:
            self._withheld_identifiers.clear()
        ended: list[tuple[Entry, Fate]] = []
        kept: deque[Entry] = deque()
        for entry in self._returned:
            if not connack.session_present:
                entry.identifier = 0
            if entry.awaits is Awaits.PUBCOMP:
                if not connack.session_present:
                    ended.append((entry, _FORGOTTEN))
                    continue
            elif obstacle := obstacle_to(entry.message, connack):
                if entry.identifier and entry.awaits is Awaits.PUBREC:
                    # The broker may hold it, and would take another QoS 2 message of that identifier for a repeat of it.
                    self._withheld_identifiers.add(entry.identifier)
                ended.append((entry, obstacle))
                continue
            kept.append(entry)
        self._returned = kept
        self._returned_identifiers = {entry.identifier for entry in kept}
        usable = HIGHEST_IDENTIFIER - len(self._withheld_identifiers)
        self._size = min(max(1, connack.receive_maximum), self._max_inflight, usable)
        return ended

    def close(self) -> None:
        """The link is down: what was under way goes back in front of what an earlier link had left, in its order."""
        unfinished = [*self._released.values(), *self._published.values()]
        self._returned.extendleft(reversed(unfinished))
        self._returned_identifiers.update(entry.identifier for entry in unfinished)
        self._published.clear()
        self._released.clear()
        self._bytes = self._size = 0

    def resume(self, *, ready: bool) -> list[Publish | Acknowledgement]:
        """What of the unfinished may go out now: every PUBREL, then PUBLISHes as far as there is credit, oldest first.

        Those of a living session go with DUP and their identifier, before anything else; those of a forgotten one go
        as new, once the link is `ready`.
        """
        packets: list[Publish | Acknowledgement] = []
        while self._returned:
            entry = self._returned[0]
            if entry.awaits is Awaits.PUBCOMP:
                self._released[entry.identifier] = entry
                self._bytes += len(entry.message.payload)
                packets.append(Acknowledgement(AckKind.PUBREL, entry.identifier))
            elif not self.has_credit_for(entry.message) or not (entry.identifier or ready):
                break
            elif entry.identifier:
                self._published[entry.identifier] = entry
                self._bytes += len(entry.message.payload)
                packets.append(Publish(entry.message, entry.identifier, duplicate=True))
            else:
                packets.append(self.send(entry))
            self._returned.popleft()
            self._returned_identifiers.discard(entry.identifier)
        return packets

    def send(self, entry: Entry) -> Publish:
        """Put one new entry under way. Only with credit for it."""
        identifier = self._last_identifier
        while True:
            identifier = identifier % HIGHEST_IDENTIFIER + 1
            if (
                identifier not in self._published
                and identifier not in self._released
                and identifier not in self._returned_identifiers
                and identifier not in self._withheld_identifiers
            ):
                break
        self._last_identifier = entry.identifier = identifier
        self._published[identifier] = entry
        self._bytes += len(entry.message.payload)
        return Publish(entry.message, identifier)

    def send_run(self, waiting: deque[Entry], last_number: float) -> tuple[list[Publish], int]:
        """Put under way, from the front of `waiting`, what there is credit for, up to that number or a QoS 0 message.

        The same as `send` for each while `has_credit_for` it, at a fraction of the cost: this is what drains a backlog.
        Returns the packets, and how many bytes they counted for.
        """
        published, packets, size_bytes = self._published, list[Publish](), 0
        taken = self._released.keys() | self._returned_identifiers | self._withheld_identifiers
        credit = self._size - len(published) - len(self._released)
        in_flight_bytes, identifier = self._bytes, self._last_identifier
        while waiting and credit > 0:
            entry = waiting[0]
            message = entry.message
            in_flight_bytes += len(message.payload)
            alone = not published and not self._released
            if not message.qos or entry.number > last_number or (in_flight_bytes > MOST_BYTES_IN_FLIGHT and not alone):
                in_flight_bytes -= len(message.payload)
                break
            identifier = identifier % HIGHEST_IDENTIFIER + 1
            while identifier in published or identifier in taken:
                identifier = identifier % HIGHEST_IDENTIFIER + 1
            entry.identifier = identifier
            published[identifier] = waiting.popleft()
            packets.append(Publish(message, identifier))
            size_bytes += entry.size_bytes
            credit -= 1
        self._bytes, self._last_identifier = in_flight_bytes, identifier
        return packets, size_bytes

    def complete_run(self, identifiers: Iterable[int]) -> tuple[list[Entry], list[Acknowledgement]]:
        """Plain PUBACKs came: the entries that they complete, and those that need a look at the table."""
        published = self._published
        completed, others = list[Entry](), list[Acknowledgement]()
        for identifier in identifiers:
            entry = published.get(identifier)
            if entry is None or entry.awaits is not Awaits.PUBACK:
                others.append(Acknowledgement(AckKind.PUBACK, identifier))
                continue
            del published[identifier]
            self._bytes -= len(entry.message.payload)
            entry.identifier = 0
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
                return Next.IGNORE, self._find_returned(identifier)
        following = TRACK[entry.awaits, kind][judge_puback(reason_code)]
        if following is Next.IGNORE:
            return following, entry
        if following is Next.RELEASE:
            # Moved, so that PUBRELs are repeated in the order of the PUBRECs (MQTT-4.6.0-3).
            del self._published[identifier]
            self._released[identifier] = entry
            entry.awaits = Awaits.PUBCOMP
            return following, entry
        if self._published.pop(identifier, None) is None:
            del self._released[identifier]
        self._bytes -= len(entry.message.payload)
        entry.identifier = 0
        return following, entry

    def _find_returned(self, identifier: int) -> Entry | None:
        if identifier not in self._returned_identifiers:
            return None
        return next((entry for entry in self._returned if entry.identifier == identifier), None)

    def clear(self) -> None:
        """Forget everything, when the outbox ends."""
        self.close()
        self._returned.clear()
        self._returned_identifiers.clear()


def obstacle_to(message: Message, connack: Connack) -> Fate | None:
    """Why this broker can never take this message; None when it can (MQTT 5 section 3.2.2.3)."""
    if message.qos > connack.maximum_qos:
        why = f"the broker takes QoS {connack.maximum_qos} at most, and this is QoS {message.qos}"
        return Fate(FateKind.DEAD_LETTERED, why, QOS_NOT_SUPPORTED)
    if message.retain and not connack.retain_available:
        why = "the broker keeps no retained messages, and this is one"
        return Fate(FateKind.DEAD_LETTERED, why, RETAIN_NOT_SUPPORTED)
    limit = connack.maximum_packet_size
    if limit is not None and (size_bytes := publish_size_bytes(message)) > limit:
        why = f"the broker takes packets of {limit} bytes at most, and this one has {size_bytes}"
        return Fate(FateKind.DEAD_LETTERED, why, PACKET_TOO_LARGE)
    return None


def is_unrestricted(connack: Connack) -> bool:
    """Whether `obstacle_to` finds none for any message."""
    return connack.maximum_qos == 2 and connack.retain_available and connack.maximum_packet_size is None


def unknown_releases(acknowledgements: Iterable[Acknowledgement]) -> list[Acknowledgement]:
    """The PUBRELs that tell the broker: this PUBREC is about a message hawk does not know (MQTT 5 section 4.3.3)."""
    return [
        Acknowledgement(AckKind.PUBREL, acknowledgement.identifier, PACKET_IDENTIFIER_NOT_FOUND)
        for acknowledgement in acknowledgements
        if acknowledgement.kind is AckKind.PUBREC and acknowledgement.reason_code < 0x80
    ]
