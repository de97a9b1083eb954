"""What becomes of each PUBLISH that comes: who gets it, how it ends, what happens when its holder fails or leaves.

It ends as handled, rejected, abandoned or dropped; one that is returned is given again (DESIGN.md section 9).
"""

import math
from collections.abc import Collection, Iterable

from hawk.config import Config
from hawk.core.acknowledgements import Acknowledgements, completion
from hawk.core.holders import SPENT, Arrival, Decisions, Holder, fingerprint_of
from hawk.core.inbox import Inbox
from hawk.core.lending import Lending, hand_over
from hawk.core.routes import Routes
from hawk.core.topics import matches
from hawk.messages import Delivered, InboundReport, InboxRecovered
from hawk.packets import Acknowledgement, Delivery
from hawk.values import Message

MOST_UNACKNOWLEDGED = 65_535
"""How many QoS 1 and 2 messages a broker that exceeds our Receive Maximum may bring.

There are no more packet identifiers (section 2.2.1), so whoever brings more has lost count of them altogether.
"""
MOST_UNACKNOWLEDGED_BYTES = 64 * 1024 * 1024
"""How many bytes they may have: as many as hawk keeps by default of messages that go the other way.

Up to our Receive Maximum these do not count: what hawk has announced it takes, each up to its Maximum Packet Size.
"""
MOST_SLOT_HOLDERS = 10
"""How many of those that hold slots are told of."""

_DONE = Delivered(0, SPENT[0], redelivered=True, key="")


class Deliveries:
    """What has come and is not done with: who holds it, and what waits for a holder."""

    def __init__(self, config: Config, recovered: InboxRecovered, run: str) -> None:
        self.next_number = 1
        self.overrun = 0
        """How many messages the present lane brought although our Receive Maximum was used up."""
        self.routes = Routes()
        self.inbox = Inbox(recovered)
        handled = [record for record in recovered.records if record.handled]
        self.acknowledgements = Acknowledgements(handled, config.receive_maximum)
        self._run = run
        self._receive_maximum = config.receive_maximum
        self._max_deliveries = config.max_deliveries
        self._return_grace_s = config.return_grace_s
        self._lending = Lending(
            most=config.receive_queue_size, most_bytes=config.receive_queue_bytes, overflow=config.receive_overflow
        )
        # Those who have something unhandled, by number.
        self._busy: dict[int, Holder] = {}
        # What has not ended at QoS 1 and 2, whichever lane brought it: all that keeps payloads in memory.
        self._kept = self._kept_bytes = 0
        # In the order of parking, so the first one's grace ends first.
        self._parked: dict[int, tuple[float, Arrival]] = {}
        self._episode_ends = -math.inf
        self._received = self._handled = self._rejected = self._abandoned = self._dropped = self._returned = 0

    @property
    def grace_ends(self) -> float:
        """When the first of the parked has waited long enough; inf for never."""
        return next(iter(self._parked.values()))[0] if self._parked else math.inf

    @property
    def counters(self) -> InboundReport:
        """What came and what became of it, and who holds the broker's slots."""
        slots = [(each.filter, len(each.unhandled) - each.unhandled_at_qos_0) for each in self._busy.values()]
        if self._parked:
            slots.append(("", len(self._parked)))
        ended = self._handled + self._rejected + self._abandoned + self._dropped
        return InboundReport(
            received=self._received,
            handled=self._handled,
            rejected=self._rejected,
            abandoned=self._abandoned,
            dropped=self._dropped,
            unhandled=self._received - ended,
            returned=self._returned,
            slots=_most(slots),
        )

    def forget_session(self) -> None:
        """The broker has."""
        self.acknowledgements.forget_session()
        self.inbox.forget_session()
        self.routes.forget_names()

    def close_lane(self) -> None:
        """The link is down: what it brought can not be acknowledged any more."""
        self.acknowledgements.close_lane()
        self.inbox.close_lane()
        self.overrun = 0

    # ---------------------------------------------------------------------------------- what arrives

    def arrive(self, packet: Delivery, now: float, decisions: Decisions, *, leaving: Collection[str] = ()) -> bool:
        """Give it to every holder that it is for; False when hawk cannot keep what comes beyond its Receive Maximum.

        Beyond it, because brokers in wide use exceed it (section 3.3.4 forbids that): to hang up would bring the
        same again with the next link.
        """
        message, identifier, duplicate, named = packet
        key, redelivered = "", duplicate
        fingerprint = fingerprint_of(message) if message.qos == 2 else None
        if identifier:
            repeated = self.acknowledgements.repeated(identifier, message.qos, duplicate, fingerprint)
            owed = self.acknowledgements.owed
            if owed >= self._receive_maximum:
                self.overrun += 1
                if owed >= MOST_UNACKNOWLEDGED or not (repeated or self._can_keep(message)):
                    return False
            if repeated is not None:
                self.acknowledgements.expect(repeated)
                return True
            if message.qos == 2 and (record := self.inbox.recognise(identifier, fingerprint)) is not None:
                key, redelivered = record.key, True
        number = self.next_number
        self.next_number += 1
        self._received += 1
        arrival = Arrival(Delivered(number, message, redelivered, key or f"{self._run}-{number}"), identifier, named)
        if identifier:
            arrival.fingerprint = fingerprint
            if leaving:
                # As of now, however long the inbox takes: what came before its filter was left waits for somebody.
                arrival.unwanted = any(matches(each, message.topic) for each in leaving)
            self._kept += 1
            self._kept_bytes += message.size_bytes
            self.acknowledgements.expect(arrival)
            if message.qos == 2 and not key:
                # One holder more, until it is kept.
                arrival.waiting += 1
                self.inbox.arrived(arrival)
                return True
            if self.inbox.holds_back:
                arrival.waiting += 1
                self.inbox.hold(arrival)
                return True
        self._give(arrival, now, decisions)
        return True

    def kept(self, arrival: Arrival, now: float, decisions: Decisions) -> None:
        """The inbox has a message of QoS 2, and those before this one: now it may be given."""
        arrival.waiting -= 1
        holders = self.routes.route(arrival.message, arrival.named)
        arrival.given_later = tuple(holder.number for holder in holders if _has_not_had(holder, arrival))
        self._give(arrival, now, decisions)

    def release(self, identifier: int, decisions: Decisions) -> None:
        """A PUBREL: answered when the inbox has forgotten the identifier, or at once if nobody knows it."""
        if self.acknowledgements.release(identifier):
            self.inbox.released(identifier)
        elif not self.inbox.awaits_forgetting(identifier):
            decisions.packets.append(completion(identifier, found=False))

    def completed(self, identifiers: Iterable[int]) -> list[Acknowledgement]:
        """The inbox has forgotten these: their PUBCOMPs."""
        return [completion(identifier, found=True) for identifier in identifiers]

    # ----------------------------------------------------------------------------------- what is done

    def handled(self, holder: Holder, deliveries: Iterable[int], decisions: Decisions) -> None:
        """This subscription is done with these deliveries; what it does not hold is ignored."""
        for number in deliveries:
            arrival = self._take(holder, number, decisions)
            if arrival is not None:
                self._end_if_done(arrival)

    def reject(self, holder: Holder, number: int, reason: str, decisions: Decisions) -> None:
        """This subscription will never handle it."""
        arrival = self._take(holder, number, decisions)
        if arrival is not None:
            decisions.rejected.append((arrival.message.topic, reason))
            arrival.rejected = True
            self._end_if_done(arrival)

    def give_back(self, holder: Holder, deliveries: Iterable[int], now: float, decisions: Decisions) -> None:
        """A handler failed: the holder is given it again, at most `max_deliveries` times in all. At QoS 0 it is dropped."""
        for number in deliveries:
            arrival = holder.unhandled.get(number)
            if arrival is None:
                continue
            if arrival.identifier and self._may_be_given_again(arrival):
                hand_over(holder, arrival, decisions)
            else:
                self._take(holder, number, decisions)
                self._give_up(arrival, now, decisions)

    # --------------------------------------------------------------------------------- who comes and goes

    def adopt(self, holder: Holder, decisions: Decisions) -> None:
        """Give a new holder what waits for one."""
        self.routes.add(holder)
        for number in sorted(self._parked):
            arrival = self._parked[number][1]
            if matches(holder.filter, arrival.message.topic):
                del self._parked[number]
                self._give_again(holder, arrival, decisions)

    def take_back(self, leaver: Holder, unseen: Iterable[int], now: float, decisions: Decisions) -> None:
        """Everything that `leaver` has not handled: give it to a holder that has not had it, or let it wait for one."""
        self._busy.pop(leaver.number, None)
        unlooked = set(unseen)
        unlooked.update(arrival.number for arrival in leaver.buffer)
        for number, arrival in leaver.unhandled.items():
            arrival.waiting -= 1
            arrival.given -= 1
            if not arrival.identifier:
                self._give_up(arrival, now, decisions)
            elif leaver.refused and (arrival.given or number in self._parked):
                # It is for others, and matched this filter, which the broker does not know, by its topic alone.
                self._end_if_done(arrival)
            elif number in unlooked or self._may_be_given_again(arrival):
                self._pass_on(arrival, now, decisions)
            else:
                self._give_up(arrival, now, decisions)
        leaver.unhandled.clear()
        leaver.buffer.clear()

    def abandon(self, now: float, decisions: Decisions) -> None:
        """End the wait of what has waited long enough; it is acknowledged when nobody else has it unhandled."""
        while self.grace_ends <= now:
            _, arrival = self._parked.pop(next(iter(self._parked)))
            self._give_up(arrival, now, decisions)

    # ------------------------------------------------------------------------------------------ inside

    def _give(self, arrival: Arrival, now: float, decisions: Decisions) -> None:
        for holder in self.routes.route(arrival.message, arrival.named):
            arrival.waiting += 1
            arrival.given += 1
            self._busy[holder.number] = holder
            if arrival.identifier:
                self._lending.lend(holder, arrival, decisions)
            else:
                for dropped in self._lending.offer(holder, arrival, decisions):
                    dropped.dropped = True
                    if dropped is arrival:
                        arrival.waiting -= 1
                    else:
                        self._end_if_done(dropped)
        if not arrival.waiting:
            # What the broker sends for a filter that is being left, nobody will come for.
            if arrival.identifier and not arrival.unwanted:
                self._park(arrival, now)
            else:
                arrival.dropped = True
                self._end_if_done(arrival)

    def _take(self, holder: Holder, number: int, decisions: Decisions) -> Arrival | None:
        arrival = holder.unhandled.pop(number, None)
        if arrival is not None:
            arrival.waiting -= 1
            if not arrival.identifier:
                self._lending.done(holder, arrival, decisions)
            if not holder.unhandled:
                self._busy.pop(holder.number, None)
        return arrival

    def _may_be_given_again(self, arrival: Arrival) -> bool:
        """Count that it was given back."""
        self._returned += 1
        arrival.returns += 1
        arrival.delivered = arrival.delivered._replace(redelivered=True)
        return arrival.returns < self._max_deliveries

    def _give_up(self, arrival: Arrival, now: float, decisions: Decisions) -> None:
        if not arrival.identifier:
            arrival.dropped = True
        else:
            arrival.abandoned = True
            decisions.abandoned += 1
            decisions.abandoning |= now >= self._episode_ends
            self._episode_ends = now + self._return_grace_s
        self._end_if_done(arrival)

    def _pass_on(self, arrival: Arrival, now: float, decisions: Decisions) -> None:
        heirs = self.routes.route(arrival.message, arrival.named)
        heir = next((one for one in heirs if _has_not_had(one, arrival)), None)
        if heir is not None:
            self._give_again(heir, arrival, decisions)
        elif arrival.number not in self._parked:
            self._park(arrival, now)

    def _give_again(self, holder: Holder, arrival: Arrival, decisions: Decisions) -> None:
        arrival.waiting += 1
        arrival.given += 1
        arrival.given_later += (holder.number,)
        self._busy[holder.number] = holder
        holder.unhandled[arrival.number] = arrival
        hand_over(holder, arrival, decisions)

    def _can_keep(self, message: Message) -> bool:
        return self._kept < MOST_UNACKNOWLEDGED and self._kept_bytes + message.size_bytes <= MOST_UNACKNOWLEDGED_BYTES

    def _park(self, arrival: Arrival, now: float) -> None:
        self._parked[arrival.number] = (now + self._return_grace_s, arrival)

    def _end_if_done(self, arrival: Arrival) -> None:
        if arrival.waiting or arrival.number in self._parked:
            return
        arrival.ended = True
        identifier = arrival.identifier
        if arrival.abandoned:
            self._abandoned += 1
        elif arrival.rejected:
            self._rejected += 1
        elif arrival.dropped:
            self._dropped += 1
        else:
            self._handled += 1
        if not identifier:
            return
        message = arrival.message
        self._kept -= 1
        self._kept_bytes -= message.size_bytes
        if message.qos == 2 and self.acknowledgements.is_present(arrival):
            self.inbox.ended(arrival)
        else:
            arrival.settled = True
        arrival.message, arrival.delivered = SPENT[message.qos], _DONE


def _has_not_had(holder: Holder, arrival: Arrival) -> bool:
    return arrival.number < holder.since and holder.number not in arrival.given_later


def _most(slots: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    held: dict[str, int] = {}
    for topic_filter, count in slots:
        if count:
            held[topic_filter] = held.get(topic_filter, 0) + count
    return tuple(sorted(held.items(), key=lambda each: -each[1])[:MOST_SLOT_HOLDERS])
