"""What the application wants to receive: decided here, done by the Subscription keeper's shell.

A face that joins the parts: `core/filters` decides what the broker is asked for, `core/deliveries` what becomes of each
PUBLISH that comes, `core/acknowledgements` when it is answered, `core/inbox` what is kept first. No await, no clock.
"""

import math
from collections.abc import Iterable
from typing import assert_never

from hawk.config import Config
from hawk.core.answers import Judge, hawks_own
from hawk.core.deliveries import Deliveries
from hawk.core.filters import Filters
from hawk.core.holders import Arrival, Decisions, Holder, Overrun, Run
from hawk.messages import InboundReport, InboxRecovered, Lane, Subscribe
from hawk.packets import (
    AckKind,
    Acknowledgement,
    Connack,
    Delivery,
    DisconnectRequest,
    Inbound,
    SubscribeFilter,
    SubscribeOutcome,
)

_RECEIVE_MAXIMUM_EXCEEDED = 0x93


class Subscriptions:
    """The Subscription keeper's decisions. Call what happened, then `tick`, then `take()` what is to be done.

    Times are hawk's own. `run` names this process in delivery keys. A filter that the broker refused is asked for once
    more on each later link, and when somebody subscribes to it anew. Messages that carry another lane than the present
    one change nothing.
    """

    def __init__(
        self,
        config: Config,
        *,
        recovered: InboxRecovered = InboxRecovered(),
        declared: Iterable[SubscribeFilter] = (),
        run: str = "",
        judge: Judge = hawks_own,
    ) -> None:
        self._decisions = Decisions()
        self._arrivals = Deliveries(config, recovered, run)
        self._inbox = self._arrivals.inbox
        self._wire = Filters(
            self._arrivals.routes,
            self._inbox,
            suback_timeout_s=config.suback_timeout_s,
            return_grace_s=config.return_grace_s,
            reconnection=config.reconnection,
            judge=judge,
            declared=declared,
            earlier=recovered.filters,
        )
        self._holders: dict[int, Holder] = {}
        self._lane: Lane | None = None
        self._linked_before = False
        self._stopped = False
        self._now = -math.inf

    @property
    def deadline(self) -> float:
        """When `tick` has something to do: hawk's time, inf for never."""
        if self._stopped:
            return self._inbox.retry_at
        acknowledgements = self._arrivals.acknowledgements
        told_at = min(acknowledgements.blocked_too_long_at, acknowledgements.full_too_long_at)
        wire = self._wire
        asked_at = min(wire.ready_due, wire.leaving_due, wire.again_due)
        return min(asked_at, self._grace_ends, told_at, self._inbox.retry_at)

    @property
    def counters(self) -> InboundReport:
        """What came and what became of it; always received = handled + rejected + abandoned + dropped + unhandled."""
        return self._arrivals.counters

    @property
    def is_settled(self) -> bool:
        """Whether the inbox has kept everything that it was told."""
        return self._inbox.is_idle

    # ------------------------------------------------------------------------------ from the application

    def subscribe(self, request: Subscribe) -> None:
        """A new subscription. What waits for a holder and matches is given to it at once, as redelivered if it was."""
        if self._stopped:
            self._decisions.ended.append(request.deliveries)
            self._decisions.unanswered.append(request.answer)
            return
        number, wanted, deliveries, answer = request
        holder = Holder(number, wanted, deliveries, answer, self._arrivals.next_number)
        self._holders[number] = holder
        self._wire.join(holder, self._decisions)
        self._arrivals.adopt(holder, self._decisions)

    def unsubscribe(self, subscription: int, now: float, unseen: Iterable[int] = ()) -> None:
        """The subscription ends. What it leaves unhandled is given to another, or waits for one; QoS 0 is dropped."""
        holder = self._holders.pop(subscription, None)
        if holder is None:
            return
        self._decisions.ended.append(holder.deliveries)
        if holder.answer is not None:
            self._decisions.unanswered.append(holder.answer)
        self._arrivals.routes.remove(holder)
        # What it was just given goes to whoever comes next.
        unlooked = [*unseen, *(delivered.delivery for delivered in holder.run)]
        holder.run.clear()
        if self._stopped:
            return
        self._wire.leave(holder, self._decisions)
        self._arrivals.take_back(holder, unlooked, now, self._decisions)

    def handled(self, subscription: int, deliveries: Iterable[int]) -> None:
        """The subscription is done with these; what it does not hold (any more) is ignored."""
        holder = self._holders.get(subscription)
        if holder is not None:
            self._arrivals.handled(holder, deliveries, self._decisions)

    def reject(self, subscription: int, delivery: int, reason: str) -> None:
        """The subscription will never handle this one: the broker is told so, and it does not come again."""
        holder = self._holders.get(subscription)
        if holder is not None:
            self._arrivals.reject(holder, delivery, reason, self._decisions)

    def give_back(self, subscription: int, deliveries: Iterable[int], now: float) -> None:
        """A handler of the subscription failed on these: it is given them again, `max_deliveries` times in all."""
        holder = self._holders.get(subscription)
        if holder is not None and not self._stopped:
            self._arrivals.give_back(holder, deliveries, now, self._decisions)

    # ------------------------------------------------------------------------------------ from the link

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
        arrivals, decisions = self._arrivals, self._decisions
        overrun_before = arrivals.overrun
        leaving = self._wire.leaving
        for packet in packets:
            match packet:
                case Delivery():
                    if self._stopped:
                        continue
                    kept = arrivals.arrive(packet, now, decisions, leaving=leaving)
                    if arrivals.overrun and not overrun_before:
                        overrun_before = arrivals.overrun
                        decisions.receive_maximum_exceeded.append(lane.number)
                    if not kept:
                        self._give_up_lane(lane)
                        return
                case Acknowledgement():
                    if packet.kind is AckKind.PUBREL:
                        arrivals.release(packet.identifier, decisions)
                case SubscribeOutcome():
                    self._wire.answered(packet, now, decisions)
                    leaving = self._wire.leaving
                case _:
                    assert_never(packet)

    # ----------------------------------------------------------------------------------- from the inbox

    def committed(self, now: float) -> None:
        """The inbox has kept what it was asked to: what waited for that goes on."""
        batch = self._inbox.committed()
        for arrival in batch.to_settle:
            arrival.settled = True
        self._decisions.packets += self._arrivals.completed(batch.to_complete)
        self._deliver(batch.to_deliver, now)

    def commit_failed(self, now: float) -> bool:
        """It has not, and will be asked again: QoS 2 waits. Whether this begins an episode."""
        self._deliver(self._inbox.failed(now), now)
        return self._inbox.begins_to_fail

    # -------------------------------------------------------------------------------------------- time

    def tick(self, now: float) -> None:
        """Time has passed: SUBACKs may be overdue, and parked messages may have waited long enough."""
        self._now = now
        if self._stopped:
            return
        if now >= self._wire.ready_due:
            self._wire.be_ready(self._decisions)
        if now >= self._wire.leaving_due:
            self._wire.leave_earlier()
        self._wire.ask_again(now)
        if now >= self._grace_ends:
            self._arrivals.abandon(now, self._decisions)
        blocking = self._arrivals.acknowledgements.blocking(now)
        if blocking is not None:
            self._decisions.blocking = blocking
        self._decisions.is_too_slow |= self._arrivals.acknowledgements.is_full_too_long(now)

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
            self._arrivals.acknowledgements.flush(decisions.packets, self._now)
        for holder in decisions.given:
            if holder.run:
                decisions.runs.append(Run(holder.deliveries, tuple(holder.run)))
                holder.run.clear()
        decisions.commit = self._inbox.take(self._now)
        self._decisions = Decisions()
        return decisions

    def _deliver(self, arrivals: Iterable[Arrival], now: float) -> None:
        if not self._stopped:
            for arrival in arrivals:
                self._arrivals.kept(arrival, now, self._decisions)

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
