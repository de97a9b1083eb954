"""How much one subscription is handed at once, and what is dropped when it leaves too much at QoS 0 unhandled.

QoS 1 and 2 are bounded by our Receive Maximum, so all of it is handed over. Of QoS 0 a little is, and the rest waits here
in order, where the oldest of it can still be dropped.
"""

from collections.abc import Iterable

from hawk.config import ReceiveOverflowPolicy
from hawk.core.holders import Arrival, Decisions, Holder

MOST_LENT_AT_QOS_0 = 64
"""How many QoS 0 messages a subscription holds itself; half of its bound, if that is less."""


class Lending:
    """Moves arrivals from a holder's buffer into its hands. Keeps nothing of its own but the bounds."""

    def __init__(self, *, most: int, most_bytes: int, overflow: ReceiveOverflowPolicy) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._drops_oldest = overflow == "drop_oldest"
        self._window = max(1, min(MOST_LENT_AT_QOS_0, most // 2))

    def lend(self, holder: Holder, arrival: Arrival, decisions: Decisions) -> None:
        """Hand over one of QoS 1 or 2, behind what waits."""
        holder.unhandled[arrival.number] = arrival
        if holder.buffer:
            holder.buffer.append(arrival)
        else:
            hand_over(holder, arrival, decisions)

    def offer(self, holder: Holder, arrival: Arrival, decisions: Decisions) -> Iterable[Arrival]:
        """Hand over one of QoS 0, or let it wait; returns what is dropped for that, itself perhaps."""
        size_bytes = arrival.size_bytes
        dropped = []
        while self._is_full(holder, size_bytes):
            if not (self._drops_oldest and holder.buffer):
                dropped.append(arrival)
                break
            dropped.append(self._drop_first(holder, decisions))
        if dropped and not holder.overflowing:
            holder.overflowing = True
            decisions.overflowing.append(holder.filter)
        if not dropped or dropped[-1] is not arrival:
            holder.unhandled[arrival.number] = arrival
            holder.unhandled_at_qos_0 += 1
            holder.unhandled_bytes_at_qos_0 += size_bytes
            if holder.buffer or holder.lent_at_qos_0 >= self._window:
                holder.buffer.append(arrival)
            else:
                holder.lent_at_qos_0 += 1
                hand_over(holder, arrival, decisions)
        return dropped

    def done(self, holder: Holder, arrival: Arrival, decisions: Decisions) -> None:
        """The holder has no use any more for one of QoS 0 that it was handed: the next may come."""
        holder.lent_at_qos_0 -= 1
        self._forget(holder, arrival)
        if holder.overflowing and self._is_at_ease(holder):
            holder.overflowing = False
        if holder.buffer:
            self._refill(holder, decisions)

    def _is_full(self, holder: Holder, size_bytes: int) -> bool:
        unhandled = holder.unhandled_at_qos_0
        # One that is larger than the bound by itself passes when nothing else is unhandled.
        too_large = unhandled > 0 and holder.unhandled_bytes_at_qos_0 + size_bytes > self._most_bytes
        return unhandled >= self._most or too_large

    def _is_at_ease(self, holder: Holder) -> bool:
        half, half_bytes = self._most // 2, self._most_bytes // 2
        return holder.unhandled_at_qos_0 <= half and holder.unhandled_bytes_at_qos_0 <= half_bytes

    def _drop_first(self, holder: Holder, decisions: Decisions) -> Arrival:
        first = holder.buffer.popleft()
        del holder.unhandled[first.number]
        first.waiting -= 1
        self._forget(holder, first)
        self._refill(holder, decisions)
        return first

    def _forget(self, holder: Holder, arrival: Arrival) -> None:
        holder.unhandled_at_qos_0 -= 1
        holder.unhandled_bytes_at_qos_0 -= arrival.size_bytes

    def _refill(self, holder: Holder, decisions: Decisions) -> None:
        """Hand over what waits, up to the first of QoS 0 that finds no room: so the buffer's first is always of QoS 0."""
        buffer = holder.buffer
        while buffer:
            if not buffer[0].identifier:
                if holder.lent_at_qos_0 >= self._window:
                    return
                holder.lent_at_qos_0 += 1
            hand_over(holder, buffer.popleft(), decisions)


def hand_over(holder: Holder, arrival: Arrival, decisions: Decisions) -> None:
    """It is the holder's next."""
    if not holder.run:
        decisions.given.append(holder)
    holder.run.append(arrival.delivered)
