"""What the application wants to receive: decided here, done by the Subscription keeper's shell.

A face that joins two halves: `core/filters` decides what the broker is asked for, `core/deliveries` what becomes of
each PUBLISH that comes. No await, no clock.
"""

import math
from collections.abc import Iterable
from typing import assert_never

from hawk.core.deliveries import Deliveries
from hawk.core.filters import Filters
from hawk.core.holders import Decisions, Holder, Overrun
from hawk.messages import InboundReport, Lane, Subscribe
from hawk.packets import AckKind, Acknowledgement, Connack, Delivery, DisconnectRequest, Inbound, SubscribeOutcome

_RECEIVE_MAXIMUM_EXCEEDED = 0x93


class Subscriptions:
    """The Subscription keeper's decisions. Call what happened, then `take()` what is to be done. Times are hawk's own.

    A filter that the broker refused is asked for once more on each later link, and when somebody subscribes to it anew.
    Messages that carry another lane than the present one change nothing.
    """

    def __init__(self, *, receive_maximum: int, suback_timeout_s: float) -> None:
        self._decisions = Decisions()
        self._wire = Filters(suback_timeout_s)
        self._arrivals = Deliveries(receive_maximum)
        self._holders: dict[int, Holder] = {}
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
        holder = Holder(request.subscription, text, qos, request.deliveries, request.answer, self._arrivals.next_number)
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
        if lane is not None and lane is self._lane:
            self._close_lane(lane)

    def incoming(self, lane: Lane, packets: Iterable[Inbound], now: float) -> None:
        """What came on the wire, in its order.

        A broker that exceeds our Receive Maximum is borne with, until there is no memory for more: then DISCONNECT 0x93.
        """
        if lane is not self._lane:
            return
        overrun_before = self._arrivals.overrun
        for packet in packets:
            match packet:
                case Delivery():
                    if self._stopped:
                        continue
                    kept = self._arrivals.arrive(
                        packet, self._holders.values(), now, self._decisions, leaving=self._wire.leaving
                    )
                    if self._arrivals.overrun and not overrun_before:
                        overrun_before = self._arrivals.overrun
                        self._decisions.receive_maximum_exceeded.append(lane.number)
                    if not kept:
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
        # Without a link nothing can be acknowledged and nothing is held up: who subscribes until then still gets it.
        return math.inf if self._lane is None else self._arrivals.grace_ends

    def _close_lane(self, lane: Lane, *, given_up: bool = False) -> None:
        if self._arrivals.overrun:
            self._decisions.overruns.append(Overrun(lane.number, self._arrivals.overrun, given_up))
        self._lane = None
        self._decisions.packets.clear()
        self._decisions.ready = None
        self._wire.close()
        self._arrivals.close_lane()

    def _give_up_lane(self, lane: Lane) -> None:
        # The broker must close after a DISCONNECT (section 3.14); until it does, nothing of this link counts. `Ready`
        # is owed all the same, once for every lane.
        if self._wire.ready_due < math.inf:
            self._wire.be_ready(self._decisions)
        ready = self._decisions.ready
        self._close_lane(lane, given_up=True)
        self._decisions.ready = ready
        self._decisions.lane = lane
        self._decisions.packets.append(DisconnectRequest(_RECEIVE_MAXIMUM_EXCEEDED))
