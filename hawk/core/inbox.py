"""What receiving must remember over a crash: each QoS 2 message from before it is delivered until its PUBREL, and filters.

A batch at a time is being kept; the next gathers meanwhile. What has to wait for a batch, waits in it: a delivery, a
PUBREC, a PUBCOMP (DESIGN.md section 9). Pure; a store's task does the keeping.
"""

import math
from dataclasses import dataclass, field

from hawk.core.holders import Arrival, is_another
from hawk.messages import InboxCommit, InboxRecord, InboxRecovered

FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
"""How long to wait after a commit that failed; twice as long after each further one."""


@dataclass(slots=True)
class Batch:
    """What one commit keeps, and what waits for it."""

    forget: bool = False
    insert: dict[int, InboxRecord] = field(default_factory=dict)
    delete: dict[int, None] = field(default_factory=dict)
    leave: dict[str, None] = field(default_factory=dict)
    join: dict[str, None] = field(default_factory=dict)
    to_deliver: list[Arrival] = field(default_factory=list)
    """Those of QoS 2 that are kept first, and those of QoS 1 that came behind them."""
    to_settle: list[Arrival] = field(default_factory=list)
    to_complete: dict[int, None] = field(default_factory=dict)
    """Identifiers that a PUBREL of the present link released, each once."""

    @property
    def changes(self) -> InboxCommit:
        """As a store is told."""
        insert = tuple(self.insert.values())
        return InboxCommit(self.forget, tuple(self.delete), insert, tuple(self.leave), tuple(self.join))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be kept."""
        return not (self.forget or self.insert or self.delete or self.leave or self.join)


class Inbox:
    """See the module. Commit what `take` returns, one at a time, then say `committed` or `failed`."""

    def __init__(self, recovered: InboxRecovered) -> None:
        self._unhandled = {record.identifier: record for record in recovered.records if not record.handled}
        self._next = Batch()
        self._under_way: Batch | None = None
        self._failures = 0
        self._retry_at = -math.inf

    @property
    def is_idle(self) -> bool:
        """Whether everything is kept."""
        return self._under_way is None and self._next.is_empty

    @property
    def retry_at(self) -> float:
        """When a commit that failed is to be tried again; inf when none is."""
        return self._retry_at if self._under_way is None and not self._next.is_empty else math.inf

    @property
    def holds_back(self) -> bool:
        """Whether deliveries wait for a commit, and those that come now belong behind them."""
        waits = self._next.to_deliver or (self._under_way is not None and self._under_way.to_deliver)
        return bool(waits) and not self._failures

    def hold(self, arrival: Arrival) -> None:
        """A message that need not be kept comes behind one that must: it is delivered after it."""
        self._next.to_deliver.append(arrival)

    def recognise(self, identifier: int, fingerprint: int | None) -> InboxRecord | None:
        """What an earlier process had been given under this identifier and did not handle, if it is that; once."""
        record = self._unhandled.pop(identifier, None)
        return None if record is None or is_another(record.fingerprint, fingerprint) else record

    def arrived(self, arrival: Arrival) -> None:
        """A QoS 2 message came: keep that before anybody is given it."""
        self._insert(arrival, handled=False)
        self._next.to_deliver.append(arrival)

    def ended(self, arrival: Arrival) -> None:
        """It ended: keep that before its PUBREC. What was rejected is forgotten, for its flow ends there (section 4.3.3)."""
        if arrival.rejected or arrival.abandoned:
            self._delete(arrival.identifier)
        else:
            self._insert(arrival, handled=True)
        self._next.to_settle.append(arrival)

    def released(self, identifier: int) -> None:
        """Its PUBREL came: forget it before the PUBCOMP, or the next message of that identifier is taken for a repeat."""
        self._delete(identifier)
        self._next.to_complete[identifier] = None

    def awaits_forgetting(self, identifier: int) -> bool:
        """Let a PUBCOMP wait for what another PUBREL began, perhaps on an earlier link; False if there is no such thing."""
        for batch in (self._next, self._under_way):
            if batch is not None and identifier in batch.delete:
                batch.to_complete[identifier] = None
                return True
        return False

    def forget_session(self) -> None:
        """The broker has: every record is void."""
        batch = self._next
        batch.insert.clear()
        batch.delete.clear()
        batch.forget = True
        self._unhandled.clear()

    def close_lane(self) -> None:
        """The link is down: nobody is owed a PUBCOMP any more."""
        for batch in (self._next, self._under_way):
            if batch is not None:
                batch.to_complete.clear()

    def join(self, topic_filter: str) -> None:
        """The broker's session has this filter, or may have it soon."""
        self._next.join[topic_filter] = None

    def leave(self, topic_filter: str) -> None:
        """The broker's session has this filter no more."""
        self._next.join.pop(topic_filter, None)
        self._next.leave[topic_filter] = None

    def take(self, now: float) -> InboxCommit | None:
        """What is to be kept now, if it is time for a commit."""
        if self._under_way is not None or self._next.is_empty or now < self._retry_at:
            return None
        self._under_way, self._next = self._next, Batch()
        return self._under_way.changes

    def committed(self) -> Batch:
        """The commit is done: what waited for it."""
        done, self._under_way = self._under_way, None
        assert done is not None
        self._failures, self._retry_at = 0, -math.inf
        waiting = self._next.to_deliver
        free = next((index for index, arrival in enumerate(waiting) if arrival.qos == 2), len(waiting))
        done.to_deliver += waiting[:free]
        del waiting[:free]
        return done

    def failed(self, now: float) -> list[Arrival]:
        """The commit is not done: it is due again later, with what has come since. What need not wait for that."""
        failed, since = self._under_way, self._next
        assert failed is not None
        self._under_way, self._next = None, _joined(failed, since)
        self._retry_at = now + min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        both = self._next.to_deliver
        self._next.to_deliver = [arrival for arrival in both if arrival.qos == 2]
        return [arrival for arrival in both if arrival.qos != 2]

    @property
    def begins_to_fail(self) -> bool:
        """Whether the last commit failed, and the one before did not."""
        return self._failures == 1

    def _insert(self, arrival: Arrival, *, handled: bool) -> None:
        identifier = arrival.identifier
        self._next.insert[identifier] = InboxRecord(identifier, arrival.delivered.key, handled, arrival.fingerprint)

    def _delete(self, identifier: int) -> None:
        self._next.insert.pop(identifier, None)
        self._next.delete[identifier] = None


def _joined(first: Batch, then: Batch) -> Batch:
    """Both as one, in this order."""
    if then.forget:
        first.insert.clear()
        first.delete.clear()
    for identifier in then.delete:
        first.insert.pop(identifier, None)
    for topic_filter in then.leave:
        first.join.pop(topic_filter, None)
    return Batch(
        first.forget or then.forget,
        first.insert | then.insert,
        first.delete | then.delete,
        first.leave | then.leave,
        first.join | then.join,
        first.to_deliver + then.to_deliver,
        first.to_settle + then.to_settle,
        first.to_complete | then.to_complete,
    )
