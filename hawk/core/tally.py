"""What an application reads in `stats`: SPEC.md's ten keys, and beside them every column of the ledger.

A reader sees its own writes: what it offered and the Queue keeper has not taken yet counts as accepted and queued.
"""

from typing import NamedTuple, TypedDict

from hawk.messages import ConnectionReport, InboundReport, Snapshot
from hawk.values import ConnectionState, Ledger


class Offered(NamedTuple):
    """What the application has offered within its room since the start, and what could not even be encoded."""

    messages: int = 0
    unencodable: int = 0


class Stats(TypedDict):
    """The numbers of one moment. Counts run since the first start of this hawk, but for the gauges: `queue_size`, `queued`,
    `in_flight`, `unhandled`, and `receive_slots`, which says by filter who has not handled what the broker waits for.

    received = handled + rejected + inbound_abandoned + inbound_dropped + unhandled; `returned` counts each giving back.
    """

    connection_state: str
    total_connections: int
    total_disconnections: int
    total_reconnections: int
    messages_published: int
    messages_queued: int
    messages_failed: int
    consecutive_failures: int
    queue_size: int
    last_connection_attempt: float | None
    recovered: int
    accepted: int
    replayed: int
    acknowledged: int
    sent: int
    dead_lettered: int
    expired: int
    dropped: int
    superseded: int
    unknown: int
    damaged: int
    abandoned: int
    queued: int
    in_flight: int
    received: int
    handled: int
    rejected: int
    inbound_abandoned: int
    inbound_dropped: int
    unhandled: int
    returned: int
    receive_slots: dict[str, int]


def newest(
    snapshot: Snapshot,
    *,
    connection: ConnectionReport | None = None,
    ledger: Ledger | None = None,
    inbound: InboundReport | None = None,
) -> Snapshot:
    """The snapshot with those reports that are newer than its own."""
    if connection is not None and connection.revision > snapshot.connection.revision:
        snapshot = snapshot._replace(connection=connection)
    if ledger is not None and ledger.revision > snapshot.ledger.revision:
        snapshot = snapshot._replace(ledger=ledger)
    if inbound is not None and inbound.revision > snapshot.inbound.revision:
        snapshot = snapshot._replace(inbound=inbound)
    return snapshot


def tally(snapshot: Snapshot, offered: Offered = Offered()) -> Stats:
    """The numbers of SPEC.md ("Statistics") with the meaning that DESIGN.md section 10 gives them."""
    connection, ledger, inbound = snapshot
    on_the_way = max(0, offered.messages - ledger.taken)
    up = connection.state is ConnectionState.CONNECTED
    return Stats(
        connection_state=connection.state.value,
        total_connections=connection.total_connections,
        total_disconnections=connection.total_disconnections,
        total_reconnections=connection.total_reconnections,
        messages_published=ledger.acknowledged + ledger.sent,
        messages_queued=ledger.waited + (0 if up else on_the_way),
        messages_failed=ledger.dead_lettered + offered.unencodable,
        consecutive_failures=connection.consecutive_failures,
        queue_size=ledger.queued + ledger.in_flight + on_the_way,
        last_connection_attempt=connection.last_connection_attempt,
        recovered=ledger.recovered,
        accepted=ledger.accepted + on_the_way,
        replayed=ledger.replayed,
        acknowledged=ledger.acknowledged,
        sent=ledger.sent,
        dead_lettered=ledger.dead_lettered,
        expired=ledger.expired,
        dropped=ledger.dropped,
        superseded=ledger.superseded,
        unknown=ledger.unknown,
        damaged=ledger.damaged,
        abandoned=ledger.abandoned,
        queued=ledger.queued + on_the_way,
        in_flight=ledger.in_flight,
        received=inbound.received,
        handled=inbound.handled,
        rejected=inbound.rejected,
        inbound_abandoned=inbound.abandoned,
        inbound_dropped=inbound.dropped,
        unhandled=inbound.unhandled,
        returned=inbound.returned,
        receive_slots=dict(inbound.slots),
    )
