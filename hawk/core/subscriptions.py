"""What the application wants to receive: decided here, done by the Subscription keeper's shell.

Two halves, and a face that joins them. `_Wire` decides what the broker is asked for: one SUBSCRIBE for each filter,
however many subscriptions share it, and `Ready` when the answers are in. `_Arrivals` decides what becomes of each
PUBLISH that comes: who gets it, when it is acknowledged, what happens when its holder leaves. No await, no clock.

Rules of the specification that shape it: sections 3.8 to 3.11 (SUBSCRIBE, UNSUBSCRIBE), 4.3 (QoS), 4.6 (order of
acknowledgements), 4.9 (Receive Maximum).
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import assert_never

from hawk.core.topics import has_wildcard, is_shared, matches
from hawk.messages import Channel, Delivered, InboundReport, Lane, Subscribe
from hawk.packets import (
    AckKind,
    Acknowledgement,
    Connack,
    Delivery,
    DisconnectRequest,
    Inbound,
    Outgoing,
    SubscribeFilter,
    SubscribeOutcome,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hawk.values import Message

RETURN_GRACE_S = 30.0
"""How long a QoS 1 or 2 message that nobody holds waits, unacknowledged, for somebody to subscribe."""
MOST_UNHANDLED_AT_QOS_0 = 1_000
"""How many QoS 0 messages one subscription may leave unhandled; newer ones are dropped."""
MOST_FILTERS = 100
"""How many filters one SUBSCRIBE or UNSUBSCRIBE names at most."""
FIRST_IDENTIFIER, LAST_IDENTIFIER = 65_024, 65_535
"""The packet identifiers of SUBSCRIBE and UNSUBSCRIBE; those below belong to the Queue keeper."""

_IDENTIFIER_NOT_FOUND = 0x92
_RECEIVE_MAXIMUM_EXCEEDED = 0x93
_PACKET_TOO_LARGE = 0x95
_SHARED_NOT_SUPPORTED = 0x9E
_WILDCARDS_NOT_SUPPORTED = 0xA2
_UNSPECIFIED = 0x80
# Fixed header with the longest remaining length, packet identifier, property length.
_HEADER_BYTES = 8


@dataclass(slots=True)
class Decisions:
    """What the shell must do now, in the order of the fields."""

    lane: Lane | None = None
    """Where `packets` go; None when there is no link."""
    packets: list[Outgoing] = field(default_factory=list)
    deliveries: list[tuple[Channel[Delivered], Delivered]] = field(default_factory=list)
    ended: list[Channel[Delivered]] = field(default_factory=list)
    """Channels to close: nothing more will be delivered to them."""
    answers: list[tuple[Channel[int], int]] = field(default_factory=list)
    unanswered: list[Channel[int]] = field(default_factory=list)
    """Channels to close without an answer: their subscription ended before the broker spoke."""
    ready: Lane | None = None
    refused: list[tuple[str, int]] = field(default_factory=list)
    """Filters that the broker, by its SUBACK or its CONNACK, does not grant, and the reason code."""
    overflowing: list[str] = field(default_factory=list)
    """Filters of subscriptions that began to lose QoS 0 messages: one for each episode."""
    abandoned: int = 0
    """Messages that waited `RETURN_GRACE_S` for a holder, and are acknowledged without one."""
    abandoning: bool = False
    """An episode of abandoning begins: none was abandoned for `RETURN_GRACE_S`."""
    receive_maximum_exceeded: bool = False


@dataclass(eq=False, slots=True)
class _Holder:
    """One subscription of the application. `since`: deliveries of lower numbers came before it."""

    number: int
    filter: str
    qos: int
    deliveries: Channel[Delivered]
    answer: Channel[int] | None
    since: int
    unhandled: dict[int, "_Arrival"] = field(default_factory=dict)
    unhandled_at_qos_0: int = 0
    overflowing: bool = False


@dataclass(eq=False, slots=True)
class _Arrival:
    """One PUBLISH that came. It ends when nobody has it unhandled and it is not parked."""

    number: int
    message: Message
    identifier: int
    redelivered: bool
    waiting: int = 0
    ended: bool = False
    dropped: bool = False
    returned: bool = False
    given_again: set[int] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class _Wanted:
    """One filter, and how far the broker knows of it in its present session."""

    filter: str
    holders: dict[int, _Holder] = field(default_factory=dict)
    identifier: int = 0
    asked_qos: int = -1
    code: int | None = None
    granted: bool = False

    @property
    def qos(self) -> int:
        return max(holder.qos for holder in self.holders.values())

    @property
    def refused(self) -> bool:
        return self.code is not None and self.code >= _UNSPECIFIED

    def forget(self) -> None:
        self.identifier, self.asked_qos, self.code, self.granted = 0, -1, None, False

    def forget_unanswered(self) -> None:
        """The session lives on, the link does not: what it did not answer or refused is to be asked again."""
        if self.identifier or self.code is None or self.refused:
            self.identifier, self.asked_qos, self.code = 0, -1, None


class Subscriptions:
    """The Subscription keeper's decisions. Call what happened, then `take()` what is to be done. Times are hawk's own.

    A filter that the broker refused is asked for once more on each later link, and when somebody subscribes to it anew.
    Messages that carry another lane than the present one change nothing.
    """

    def __init__(self, *, receive_maximum: int, suback_timeout_s: float) -> None:
        self._decisions = Decisions()
        self._wire = _Wire(suback_timeout_s)
        self._arrivals = _Arrivals(receive_maximum)
        self._holders: dict[int, _Holder] = {}
        self._lane: Lane | None = None
        self._linked_before = False
        self._stopped = False

    @property
    def deadline(self) -> float:
        """When `tick` has something to do: hawk's time, inf for never."""
        if self._stopped:
            return math.inf
        return min(self._wire.ready_due, self._grace_ends)

    @property
    def counters(self) -> InboundReport:
        """What came and what became of it; always received = handled + returned + dropped + unhandled."""
        return self._arrivals.counters

    def subscribe(self, request: Subscribe) -> None:
        """A new subscription. What waits for a holder and matches is given to it at once, as redelivered if it was."""
        if self._stopped:
            self._decisions.ended.append(request.deliveries)
            self._decisions.unanswered.append(request.answer)
            return
        text, qos = request.filter
        holder = _Holder(
            request.subscription, text, qos, request.deliveries, request.answer, self._arrivals.next_number
        )
        self._holders[holder.number] = holder
        self._wire.join(holder, self._decisions)
        self._arrivals.adopt(holder, self._decisions)

    def unsubscribe(self, subscription: int, now: float) -> None:
        """The subscription ends. What it leaves unhandled is given to another, or waits for one; QoS 0 is dropped."""
        holder = self._holders.pop(subscription, None)
        if holder is None:
            return
        self._decisions.ended.append(holder.deliveries)
        if holder.answer is not None:
            self._decisions.unanswered.append(holder.answer)
        self._arrivals.forget_routes()
        if self._stopped:
            return
        self._wire.leave(holder, self._decisions)
        self._arrivals.take_back(holder, self._holders.values(), now, self._decisions)

    def handled(self, subscription: int, deliveries: Iterable[int]) -> None:
        """The subscription is done with these; what it does not hold (any more) is ignored."""
        holder = self._holders.get(subscription)
        if holder is not None:
            self._arrivals.handled(holder, deliveries)

    def open_lane(self, lane: Lane, connack: Connack, now: float) -> None:
        """A new link. The first of the process, and each without a session, subscribes everything."""
        self.link_down(self._lane)
        self._lane = lane
        if not connack.session_present:
            self._arrivals.forget_session()
        resumed = connack.session_present and self._linked_before
        self._linked_before = True
        self._wire.open(lane, connack, resumed, now, self._decisions)

    def link_down(self, lane: Lane | None) -> None:
        """The link has ended: what was not sent on it is not wanted any more, acknowledgements included."""
        if lane is None or lane is not self._lane:
            return
        self._lane = None
        self._decisions.packets.clear()
        self._decisions.ready = None
        self._wire.close()
        self._arrivals.close_lane()

    def incoming(self, lane: Lane, packets: Iterable[Inbound], now: float) -> None:
        """What came on the wire, in its order. A broker that exceeds our Receive Maximum gets DISCONNECT 0x93."""
        if lane is not self._lane:
            return
        for packet in packets:
            match packet:
                case Delivery():
                    if self._stopped:
                        continue
                    if not self._arrivals.arrive(packet, self._holders.values(), now, self._decisions):
                        self._give_up_lane(lane)
                        return
                case Acknowledgement():
                    if packet.kind is AckKind.PUBREL:
                        self._decisions.packets.append(self._arrivals.release(packet.identifier))
                case SubscribeOutcome():
                    self._wire.answered(packet, self._decisions)
                case _:
                    assert_never(packet)

    def tick(self, now: float) -> None:
        """Time has passed: SUBACKs may be overdue, and parked messages may have waited long enough."""
        if self._stopped:
            return
        if now >= self._wire.ready_due:
            self._wire.be_ready(self._decisions)
        if now >= self._grace_ends:
            self._arrivals.abandon(now, self._decisions)

    def stop(self) -> None:
        """Deliver nothing more and end every iteration. Handled messages are still acknowledged; no others are."""
        if self._stopped:
            return
        self._stopped = True
        for holder in self._holders.values():
            self._decisions.ended.append(holder.deliveries)
            if holder.answer is not None:
                self._decisions.unanswered.append(holder.answer)
                holder.answer = None
        self._wire.stop(self._decisions)

    def take(self) -> Decisions:
        """What is to be done now; each decision is handed out once. Acknowledgements are in the order of arrival."""
        decisions = self._decisions
        if self._lane is not None:
            decisions.lane = self._lane
            self._wire.request(decisions)
            self._arrivals.acknowledge(decisions.packets)
        self._decisions = Decisions()
        return decisions

    @property
    def _grace_ends(self) -> float:
        # Without a link nothing can be acknowledged and nothing is held up: whoever subscribes until then still gets it.
        return math.inf if self._lane is None else self._arrivals.grace_ends

    def _give_up_lane(self, lane: Lane) -> None:
        # The broker must close after a DISCONNECT (section 3.14); until it does, nothing of this link counts. `Ready`
        # is owed all the same, once for every lane.
        if self._wire.ready_due < math.inf:
            self._wire.be_ready(self._decisions)
        ready = self._decisions.ready
        self.link_down(lane)
        self._decisions.ready = ready
        self._decisions.lane = lane
        self._decisions.packets.append(DisconnectRequest(_RECEIVE_MAXIMUM_EXCEEDED))
        self._decisions.receive_maximum_exceeded = True


class _Wire:
    """What the broker is asked for on the present link, and what it has granted in its present session."""

    def __init__(self, suback_timeout_s: float) -> None:
        self.ready_due = math.inf
        """When `Ready` is due though SUBACKs are missing; inf when it was said, or nothing is to be said."""
        self._suback_timeout_s = suback_timeout_s
        self._wanted: dict[str, _Wanted] = {}
        self._lane: Lane | None = None
        self._connack = Connack()
        self._to_ask: dict[str, None] = {}
        self._to_leave: dict[str, None] = {}
        self._leaving: dict[str, int] = {}
        self._under_way: dict[int, SubscribeRequest | UnsubscribeRequest] = {}
        self._last_identifier = LAST_IDENTIFIER
        self._awaited: set[str] = set()

    def join(self, holder: _Holder, decisions: Decisions) -> None:
        wanted = self._wanted.get(holder.filter)
        if wanted is None:
            wanted = self._wanted[holder.filter] = _Wanted(holder.filter)
            # Wanted again before the broker is known to have let go of it.
            wanted.granted = holder.filter in self._to_leave or holder.filter in self._leaving
            self._to_leave.pop(holder.filter, None)
            self._leaving.pop(holder.filter, None)
        wanted.holders[holder.number] = holder
        if holder.qos > wanted.asked_qos or wanted.refused:
            self._to_ask[holder.filter] = None
        elif wanted.code is not None:
            _answer((holder,), wanted.code, decisions)

    def leave(self, holder: _Holder, decisions: Decisions) -> None:
        wanted = self._wanted[holder.filter]
        del wanted.holders[holder.number]
        if wanted.holders:
            return
        del self._wanted[holder.filter]
        self._to_ask.pop(holder.filter, None)
        # Asked and not answered: the broker may have it. Kept over a lost link, for the session keeps it as well.
        if wanted.granted or wanted.identifier:
            self._to_leave[holder.filter] = None
        self._no_longer_awaited(holder.filter, decisions)

    def open(self, lane: Lane, connack: Connack, resumed: bool, now: float, decisions: Decisions) -> None:
        self._lane, self._connack = lane, connack
        for wanted in self._wanted.values():
            if resumed:
                wanted.forget_unanswered()
            else:
                wanted.forget()
        if not resumed:
            self._to_leave.clear()
        self._to_ask = {text: None for text, wanted in self._wanted.items() if wanted.qos > wanted.asked_qos}
        self._awaited = set(self._to_ask)
        self.ready_due = now + self._suback_timeout_s
        if not self._awaited:
            self.be_ready(decisions)

    def close(self) -> None:
        self._lane = None
        self.ready_due = math.inf
        self._awaited.clear()
        self._under_way.clear()
        self._to_leave |= dict.fromkeys(self._leaving)
        self._leaving.clear()

    def stop(self, decisions: Decisions) -> None:
        self._wanted.clear()
        self._to_ask.clear()
        self._to_leave.clear()
        if self.ready_due < math.inf:
            self.be_ready(decisions)

    def be_ready(self, decisions: Decisions) -> None:
        self.ready_due = math.inf
        self._awaited.clear()
        decisions.ready = self._lane

    def answered(self, outcome: SubscribeOutcome, decisions: Decisions) -> None:
        request = self._under_way.pop(outcome.identifier, None)
        match request:
            case None:
                return
            case SubscribeRequest():
                missing = (_UNSPECIFIED,) * (len(request.filters) - len(outcome.reason_codes))
                codes = chain(outcome.reason_codes, missing)
                for asked, code in zip(request.filters, codes, strict=False):
                    wanted = self._wanted.get(asked.filter)
                    # By the request, not by the filter alone: it may have been left and wanted again since.
                    if wanted is not None and wanted.identifier == outcome.identifier:
                        self._conclude(wanted, code, decisions)
            case UnsubscribeRequest():
                for text in request.filters:
                    if self._leaving.get(text) == outcome.identifier:
                        del self._leaving[text]
            case _:
                assert_never(request)

    def request(self, decisions: Decisions) -> None:
        """Put the SUBSCRIBE and UNSUBSCRIBE packets that are due into `decisions`, as few as can be."""
        while self._to_leave and (identifier := self._free_identifier()):
            texts = self._that_fit(self._to_leave)
            if texts:
                self._leaving |= dict.fromkeys(texts, identifier)
                self._send(UnsubscribeRequest(identifier, tuple(texts)), decisions)
        while self._to_ask and (identifier := self._free_identifier()):
            filters = []
            for text in self._that_fit(self._to_ask, decisions):
                wanted = self._wanted[text]
                wanted.identifier, wanted.asked_qos, wanted.code = identifier, wanted.qos, None
                filters.append(SubscribeFilter(text, wanted.asked_qos))
            if filters:
                self._send(SubscribeRequest(identifier, tuple(filters)), decisions)

    def _send(self, request: SubscribeRequest | UnsubscribeRequest, decisions: Decisions) -> None:
        self._last_identifier = request.identifier
        self._under_way[request.identifier] = request
        decisions.packets.append(request)

    def _free_identifier(self) -> int:
        """An identifier that no unanswered request has, or 0."""
        count = LAST_IDENTIFIER - FIRST_IDENTIFIER + 1
        if len(self._under_way) == count:
            return 0
        offset = self._last_identifier - FIRST_IDENTIFIER
        candidates = (FIRST_IDENTIFIER + (offset + step) % count for step in range(1, count + 1))
        return next(one for one in candidates if one not in self._under_way)

    def _that_fit(self, texts: dict[str, None], decisions: Decisions | None = None) -> list[str]:
        """Take from `texts` what goes into one packet; what the broker cannot take at all is refused here instead."""
        chosen: list[str] = []
        limit_bytes = self._connack.maximum_packet_size or math.inf
        size_bytes = _HEADER_BYTES
        while texts and len(chosen) < MOST_FILTERS:
            text = next(iter(texts))
            own_bytes = len(text.encode()) + 3
            refusal = self._refusal(text, _HEADER_BYTES + own_bytes)
            if not refusal and size_bytes + own_bytes > limit_bytes:
                break
            del texts[text]
            if not refusal:
                chosen.append(text)
                size_bytes += own_bytes
            elif decisions is not None:
                wanted = self._wanted[text]
                wanted.asked_qos = wanted.qos
                self._conclude(wanted, refusal, decisions)
        return chosen

    def _refusal(self, text: str, size_bytes: int) -> int:
        # Asking in spite of what the CONNACK says is a protocol error and would cost the link (section 3.2.2.3).
        if is_shared(text) and not self._connack.shared_available:
            return _SHARED_NOT_SUPPORTED
        if has_wildcard(text) and not self._connack.wildcard_available:
            return _WILDCARDS_NOT_SUPPORTED
        most_bytes = self._connack.maximum_packet_size
        return _PACKET_TOO_LARGE if most_bytes is not None and size_bytes > most_bytes else 0

    def _conclude(self, wanted: _Wanted, code: int, decisions: Decisions) -> None:
        wanted.identifier, wanted.code = 0, code
        if wanted.refused:
            decisions.refused.append((wanted.filter, code))
        else:
            wanted.granted = True
        _answer(wanted.holders.values(), code, decisions)
        self._no_longer_awaited(wanted.filter, decisions)

    def _no_longer_awaited(self, text: str, decisions: Decisions) -> None:
        self._awaited.discard(text)
        if not self._awaited and self.ready_due < math.inf:
            self.be_ready(decisions)


class _Arrivals:
    """What has come and is not done with: who holds it, what is acknowledged next, what waits for a holder."""

    def __init__(self, receive_maximum: int) -> None:
        self.next_number = 1
        self._receive_maximum = receive_maximum
        self._routes: dict[str, tuple[_Holder, ...]] = {}
        # Of the present lane, in the order of arrival (MQTT-4.6.0-2, MQTT-4.6.0-3).
        self._unacknowledged: deque[_Arrival] = deque()
        self._unreleased: set[int] = set()
        # Of the present session: what the broker may repeat under the same identifier.
        self._known: dict[int, _Arrival] = {}
        # In the order of parking, so the first one's grace ends first.
        self._parked: dict[int, tuple[float, _Arrival]] = {}
        self._episode_ends = -math.inf
        self._received = self._handled = self._returned = self._dropped = 0

    @property
    def grace_ends(self) -> float:
        return next(iter(self._parked.values()))[0] if self._parked else math.inf

    @property
    def counters(self) -> InboundReport:
        ended = self._handled + self._returned + self._dropped
        return InboundReport(
            received=self._received,
            handled=self._handled,
            returned=self._returned,
            dropped=self._dropped,
            unhandled=self._received - ended,
        )

    def forget_routes(self) -> None:
        self._routes.clear()

    def forget_session(self) -> None:
        self._known.clear()

    def close_lane(self) -> None:
        self._unacknowledged.clear()
        self._unreleased.clear()

    def arrive(self, packet: Delivery, holders: Iterable[_Holder], now: float, decisions: Decisions) -> bool:
        """Give it to every holder that matches; False when the broker sent more than our Receive Maximum allows."""
        message, identifier, duplicate = packet
        if identifier:
            if len(self._unacknowledged) + len(self._unreleased) >= self._receive_maximum:
                return False
            known = self._known.get(identifier)
            # Never acknowledged in this session, so the broker cannot mean another message by this identifier.
            if known is not None and known.message.qos == message.qos and (message.qos == 2 or duplicate):
                self._unacknowledged.append(known)
                return True
        arrival = _Arrival(self.next_number, message, identifier, duplicate)
        self.next_number += 1
        self._received += 1
        if identifier:
            self._known[identifier] = arrival
            self._unacknowledged.append(arrival)
        delivered = Delivered(arrival.number, message, duplicate)
        for holder in self._route(message.topic, holders):
            if identifier or self._has_room(holder, decisions):
                arrival.waiting += 1
                holder.unhandled[arrival.number] = arrival
                decisions.deliveries.append((holder.deliveries, delivered))
            else:
                arrival.dropped = True
        if not arrival.waiting:
            if identifier:
                self._park(arrival, now)
            else:
                arrival.dropped = True
                self._end_if_done(arrival)
        return True

    def handled(self, holder: _Holder, deliveries: Iterable[int]) -> None:
        for number in deliveries:
            arrival = holder.unhandled.pop(number, None)
            if arrival is not None:
                arrival.waiting -= 1
                if not arrival.identifier:
                    holder.unhandled_at_qos_0 -= 1
                self._end_if_done(arrival)
        if holder.overflowing and holder.unhandled_at_qos_0 <= MOST_UNHANDLED_AT_QOS_0 // 2:
            holder.overflowing = False

    def release(self, identifier: int) -> Acknowledgement:
        """A PUBREL: the PUBCOMP that answers it. From now on the identifier names another message."""
        self._unreleased.discard(identifier)
        known = self._known.get(identifier)
        if known is None or known.message.qos != 2:
            return Acknowledgement(AckKind.PUBCOMP, identifier, _IDENTIFIER_NOT_FOUND)
        del self._known[identifier]
        return Acknowledgement(AckKind.PUBCOMP, identifier)

    def acknowledge(self, packets: list[Outgoing]) -> None:
        """Append a PUBACK or PUBREC for what is done with, up to the first that is not."""
        waiting = self._unacknowledged
        while waiting and waiting[0].ended:
            arrival = waiting.popleft()
            identifier = arrival.identifier
            if arrival.message.qos == 2:
                self._unreleased.add(identifier)
                packets.append(Acknowledgement(AckKind.PUBREC, identifier))
            else:
                if self._known.get(identifier) is arrival:
                    del self._known[identifier]
                packets.append(Acknowledgement(AckKind.PUBACK, identifier))

    def adopt(self, holder: _Holder, decisions: Decisions) -> None:
        """Give a new holder what waits for one."""
        self._routes.clear()
        for _, arrival in list(self._parked.values()):
            if matches(holder.filter, arrival.message.topic):
                del self._parked[arrival.number]
                self._give_again(holder, arrival, decisions)

    def take_back(self, leaver: _Holder, holders: Iterable[_Holder], now: float, decisions: Decisions) -> None:
        """Everything that `leaver` has not handled: give it to a holder that has not had it, or let it wait for one."""
        for arrival in leaver.unhandled.values():
            arrival.waiting -= 1
            if not arrival.identifier:
                arrival.dropped = True
                self._end_if_done(arrival)
                continue
            arrival.redelivered = True
            heirs = self._route(arrival.message.topic, holders)
            heir = next((one for one in heirs if _has_not_had(one, arrival)), None)
            if heir is not None:
                self._give_again(heir, arrival, decisions)
            elif arrival.number not in self._parked:
                self._park(arrival, now)
        leaver.unhandled.clear()

    def abandon(self, now: float, decisions: Decisions) -> None:
        """End the wait of what has waited long enough; it is acknowledged when nobody else has it unhandled."""
        before = self._returned
        while self.grace_ends <= now:
            _, arrival = self._parked.pop(next(iter(self._parked)))
            arrival.returned = True
            self._end_if_done(arrival)
        if self._returned > before:
            decisions.abandoned += self._returned - before
            decisions.abandoning |= now >= self._episode_ends
            self._episode_ends = now + RETURN_GRACE_S

    def _route(self, topic: str, holders: Iterable[_Holder]) -> tuple[_Holder, ...]:
        route = self._routes.get(topic)
        if route is None:
            if len(self._routes) >= 1_024:
                self._routes.clear()
            route = self._routes[topic] = tuple(one for one in holders if matches(one.filter, topic))
        return route

    def _has_room(self, holder: _Holder, decisions: Decisions) -> bool:
        if holder.unhandled_at_qos_0 < MOST_UNHANDLED_AT_QOS_0:
            holder.unhandled_at_qos_0 += 1
            return True
        if not holder.overflowing:
            holder.overflowing = True
            decisions.overflowing.append(holder.filter)
        return False

    def _give_again(self, holder: _Holder, arrival: _Arrival, decisions: Decisions) -> None:
        arrival.waiting += 1
        arrival.given_again.add(holder.number)
        holder.unhandled[arrival.number] = arrival
        again = Delivered(arrival.number, arrival.message, arrival.redelivered)
        decisions.deliveries.append((holder.deliveries, again))

    def _park(self, arrival: _Arrival, now: float) -> None:
        self._parked[arrival.number] = (now + RETURN_GRACE_S, arrival)

    def _end_if_done(self, arrival: _Arrival) -> None:
        if arrival.waiting or arrival.number in self._parked:
            return
        arrival.ended = True
        if arrival.dropped:
            self._dropped += 1
        elif arrival.returned:
            self._returned += 1
        else:
            self._handled += 1


def _has_not_had(holder: _Holder, arrival: _Arrival) -> bool:
    return arrival.number < holder.since and holder.number not in arrival.given_again


def _answer(holders: Iterable[_Holder], code: int, decisions: Decisions) -> None:
    for holder in holders:
        if holder.answer is not None:
            decisions.answers.append((holder.answer, code))
            holder.answer = None
