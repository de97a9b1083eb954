"""What becomes of each PUBLISH that comes: who gets it, when it is acknowledged, what happens when its holder leaves.

Acknowledgements go out in the order of arrival, however handlers finish (MQTT 5 sections 4.3, 4.6 and 4.9).
"""

import math
from collections import deque
from collections.abc import Iterable

from hawk.core.holders import Arrival, Decisions, Holder
from hawk.core.topics import matches
from hawk.messages import Delivered, InboundReport
from hawk.packets import AckKind, Acknowledgement, Delivery, Outgoing
from hawk.values import Message

RETURN_GRACE_S = 30.0
"""How long a QoS 1 or 2 message that nobody holds waits, unacknowledged, for somebody to subscribe."""
MOST_UNHANDLED_AT_QOS_0 = 1_000
"""How many QoS 0 messages one subscription may leave unhandled; newer ones are dropped."""
MOST_UNACKNOWLEDGED = 65_535
"""How many QoS 1 and 2 messages a broker that exceeds our Receive Maximum may bring.

There are no more packet identifiers (section 2.2.1), so whoever brings more has lost count of them altogether.
"""
MOST_UNACKNOWLEDGED_BYTES = 64 * 1024 * 1024
"""How many bytes they may have: as many as hawk keeps by default of messages that go the other way.

Up to our Receive Maximum these do not count: what hawk has announced it takes, each up to its Maximum Packet Size.
"""

_IDENTIFIER_NOT_FOUND = 0x92
# What is left of a message, by its QoS, when only its acknowledgement is still owed.
_SPENT = tuple(Message("", b"", qos) for qos in range(3))


class Deliveries:
    """What has come and is not done with: who holds it, what is acknowledged next, what waits for a holder."""

    def __init__(self, receive_maximum: int) -> None:
        self.next_number = 1
        self.overrun = 0
        """How many messages the present lane brought although our Receive Maximum was used up."""
        self._receive_maximum = receive_maximum
        self._routes: dict[str, tuple[Holder, ...]] = {}
        # Of the present lane, in the order of arrival (MQTT-4.6.0-2, MQTT-4.6.0-3).
        self._unacknowledged: deque[Arrival] = deque()
        self._unreleased: set[int] = set()
        # What has not ended at QoS 1 and 2, whichever lane brought it: all that keeps payloads in memory.
        self._kept = self._kept_bytes = 0
        # Of the present session: what the broker may repeat under the same identifier.
        self._known: dict[int, Arrival] = {}
        # In the order of parking, so the first one's grace ends first.
        self._parked: dict[int, tuple[float, Arrival]] = {}
        self._episode_ends = -math.inf
        self._received = self._handled = self._returned = self._dropped = 0

    @property
    def grace_ends(self) -> float:
        """When the first of the parked has waited long enough; inf for never."""
        return next(iter(self._parked.values()))[0] if self._parked else math.inf

    @property
    def counters(self) -> InboundReport:
        """received = handled + returned + dropped + unhandled."""
        ended = self._handled + self._returned + self._dropped
        return InboundReport(
            received=self._received,
            handled=self._handled,
            returned=self._returned,
            dropped=self._dropped,
            unhandled=self._received - ended,
        )

    def forget_routes(self) -> None:
        """The subscriptions have changed."""
        self._routes.clear()

    def forget_session(self) -> None:
        """The broker has: no identifier is a repeat any more."""
        self._known.clear()

    def close_lane(self) -> None:
        """The link is down: what it brought can not be acknowledged any more."""
        self._unacknowledged.clear()
        self._unreleased.clear()
        self.overrun = 0

    def arrive(
        self,
        packet: Delivery,
        holders: Iterable[Holder],
        now: float,
        decisions: Decisions,
        *,
        leaving: Iterable[str] = (),
    ) -> bool:
        """Give it to every holder that matches; False when hawk cannot keep what comes beyond its Receive Maximum.

        Beyond it, because brokers in wide use exceed it (section 3.3.4 forbids that): to hang up would bring the
        same again with the next link.
        """
        message, identifier, duplicate = packet
        if identifier:
            unacknowledged = len(self._unacknowledged) + len(self._unreleased)
            known = self._known.get(identifier)
            # Never acknowledged in this session, so the broker cannot mean another message by this identifier.
            repeated = known is not None and known.message.qos == message.qos and (message.qos == 2 or duplicate)
            if unacknowledged >= self._receive_maximum:
                self.overrun += 1
                if unacknowledged >= MOST_UNACKNOWLEDGED or not (repeated or self._can_keep(message)):
                    return False
            if known is not None and repeated:
                self._unacknowledged.append(known)
                return True
        arrival = Arrival(self.next_number, message, identifier, duplicate)
        self.next_number += 1
        self._received += 1
        if identifier:
            self._kept += 1
            self._kept_bytes += message.size_bytes
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
            # What the broker sends for a filter that is being left, nobody will come for.
            if identifier and not any(matches(topic_filter, message.topic) for topic_filter in leaving):
                self._park(arrival, now)
            else:
                arrival.dropped = True
                self._end_if_done(arrival)
        return True

    def handled(self, holder: Holder, deliveries: Iterable[int]) -> None:
        """This subscription is done with these deliveries."""
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

    def adopt(self, holder: Holder, decisions: Decisions) -> None:
        """Give a new holder what waits for one."""
        self._routes.clear()
        for _, arrival in list(self._parked.values()):
            if matches(holder.filter, arrival.message.topic):
                del self._parked[arrival.number]
                self._give_again(holder, arrival, decisions)

    def take_back(self, leaver: Holder, holders: Iterable[Holder], now: float, decisions: Decisions) -> None:
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

    def _route(self, topic: str, holders: Iterable[Holder]) -> tuple[Holder, ...]:
        route = self._routes.get(topic)
        if route is None:
            if len(self._routes) >= 1_024:
                self._routes.clear()
            route = self._routes[topic] = tuple(one for one in holders if matches(one.filter, topic))
        return route

    def _can_keep(self, message: Message) -> bool:
        return self._kept < MOST_UNACKNOWLEDGED and self._kept_bytes + message.size_bytes <= MOST_UNACKNOWLEDGED_BYTES

    def _has_room(self, holder: Holder, decisions: Decisions) -> bool:
        if holder.unhandled_at_qos_0 < MOST_UNHANDLED_AT_QOS_0:
            holder.unhandled_at_qos_0 += 1
            return True
        if not holder.overflowing:
            holder.overflowing = True
            decisions.overflowing.append(holder.filter)
        return False

    def _give_again(self, holder: Holder, arrival: Arrival, decisions: Decisions) -> None:
        arrival.waiting += 1
        arrival.given_again.add(holder.number)
        holder.unhandled[arrival.number] = arrival
        again = Delivered(arrival.number, arrival.message, arrival.redelivered)
        decisions.deliveries.append((holder.deliveries, again))

    def _park(self, arrival: Arrival, now: float) -> None:
        self._parked[arrival.number] = (now + RETURN_GRACE_S, arrival)

    def _end_if_done(self, arrival: Arrival) -> None:
        if arrival.waiting or arrival.number in self._parked:
            return
        arrival.ended = True
        if arrival.identifier:
            self._kept -= 1
            self._kept_bytes -= arrival.message.size_bytes
            arrival.message = _SPENT[arrival.message.qos]
        if arrival.dropped:
            self._dropped += 1
        elif arrival.returned:
            self._returned += 1
        else:
            self._handled += 1


def _has_not_had(holder: Holder, arrival: Arrival) -> bool:
    return arrival.number < holder.since and holder.number not in arrival.given_again
