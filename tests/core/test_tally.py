"""What `stats` means: SPEC.md's ten keys as DESIGN.md section 10 defines them, C4 beside them, own writes included."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hawk.core.tally import Offered, newest, tally
from hawk.messages import ConnectionReport, InboundReport, Snapshot
from hawk.values import ConnectionState, Ledger

LEDGER = Ledger(
    revision=9,
    taken=20,
    recovered=2,
    accepted=30,
    acknowledged=10,
    sent=3,
    dead_lettered=4,
    expired=1,
    dropped=2,
    superseded=1,
    unknown=1,
    damaged=1,
    abandoned=2,
    queued=5,
    in_flight=2,
    waited=6,
)
CONNECTION = ConnectionReport(4, ConnectionState.CONNECTED, 3, 2, 2, 0, 1_700_000_000.5)
COLUMNS = (
    "acknowledged",
    "sent",
    "dead_lettered",
    "expired",
    "dropped",
    "superseded",
    "unknown",
    "damaged",
    "abandoned",
)


def numbers(snapshot: Snapshot, offered: Offered) -> dict[str, Any]:
    return dict(tally(snapshot, offered))


def test_the_ten_keys_of_the_specification() -> None:
    stats = numbers(Snapshot(CONNECTION, LEDGER), Offered(20, 3))
    assert {key: stats[key] for key in list(stats)[:10]} == {
        "connection_state": "connected",
        "total_connections": 3,
        "total_disconnections": 2,
        "total_reconnections": 2,
        "messages_published": 10 + 3,
        "messages_queued": 6,
        "messages_failed": 4 + 3,
        "consecutive_failures": 0,
        "queue_size": 5 + 2,
        "last_connection_attempt": 1_700_000_000.5,
    }


def test_every_column_of_the_ledger_and_of_receiving() -> None:
    inbound = InboundReport(1, 11, 12, 16, 17, 14, 15, returned=13, slots=(("a", 2), ("", 1)))
    stats = numbers(Snapshot(CONNECTION, LEDGER, inbound), Offered(20))
    for column in (*COLUMNS, "recovered", "accepted", "replayed", "queued", "in_flight"):
        assert stats[column] == getattr(LEDGER, column)
    assert (stats["received"], stats["handled"], stats["returned"]) == (11, 12, 13)
    assert (stats["inbound_dropped"], stats["unhandled"]) == (14, 15)
    assert (stats["rejected"], stats["inbound_abandoned"]) == (16, 17)
    assert stats["receive_slots"] == {"a": 2, "": 1}


def test_what_was_just_offered_counts_as_accepted_and_queued() -> None:
    before = numbers(Snapshot(CONNECTION, LEDGER), Offered(20))
    after = numbers(Snapshot(CONNECTION, LEDGER), Offered(23))
    grown = {key: after[key] - before[key] for key in ("accepted", "queued", "queue_size", "messages_queued")}
    assert grown == {"accepted": 3, "queued": 3, "queue_size": 3, "messages_queued": 0}


def test_with_the_link_down_what_was_just_offered_could_not_go_out_at_once() -> None:
    down = CONNECTION._replace(state=ConnectionState.RECONNECTING)
    assert tally(Snapshot(down, LEDGER), Offered(23))["messages_queued"] == 6 + 3


@given(st.integers(0, 40))
def test_c4_balances_in_what_an_application_reads(offered: int) -> None:
    assert LEDGER.balance == 0
    stats = numbers(Snapshot(CONNECTION, LEDGER), Offered(offered))
    into = stats["recovered"] + stats["accepted"] + stats["replayed"]
    ended = sum(stats[column] for column in COLUMNS)
    assert into == ended + stats["queued"] + stats["in_flight"]


def test_only_a_newer_report_replaces_an_older_one() -> None:
    snapshot = Snapshot(CONNECTION, LEDGER, InboundReport(5, received=5))
    older = newest(
        snapshot,
        connection=CONNECTION._replace(revision=4, total_connections=0),
        ledger=LEDGER._replace(revision=9, accepted=0),
        inbound=InboundReport(4),
    )
    assert older == snapshot
    newer = newest(
        snapshot,
        connection=CONNECTION._replace(revision=5),
        ledger=LEDGER._replace(revision=10),
        inbound=InboundReport(6),
    )
    assert [report.revision for report in newer] == [5, 10, 6]
    assert newest(snapshot) == snapshot
