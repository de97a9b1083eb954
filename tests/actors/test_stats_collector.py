"""The Stats collector: the newest of every report, every event once and in order, and no reader slows it down."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import pytest
from anyio.streams.memory import MemoryObjectSendStream

from hawk.actors.mailbox import LatestSender
from hawk.actors.stats_collector import StatsCollector
from hawk.messages import (
    ConnectionReport,
    Event,
    InboundReport,
    MessageSettled,
    Missed,
    Report,
    Snapshot,
    ToStatsCollector,
    Watch,
)
from hawk.values import Fate, FateKind, Ledger


@dataclass
class Running:
    to_stats: MemoryObjectSendStream[ToStatsCollector]
    snapshots: LatestSender[Snapshot]


def settled(number: int) -> MessageSettled:
    return MessageSettled(f"topic/{number}", 1, Fate(FateKind.ACKNOWLEDGED))


@pytest.fixture
async def running(anyio_backend: str) -> AsyncIterator[Running]:
    to_stats, inbox = anyio.create_memory_object_stream[ToStatsCollector](100)
    snapshots = LatestSender[Snapshot]()
    collector = StatsCollector(inbox=inbox, snapshots=snapshots)
    with to_stats, inbox:
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(collector.run)
            yield Running(to_stats, snapshots)
            nursery.cancel_scope.cancel()
    snapshots.close()


async def quiet() -> None:
    """Let the collector hear what was sent."""
    await anyio.wait_all_tasks_blocked()


@pytest.mark.anyio
async def test_the_snapshot_holds_the_newest_report_of_every_actor(running: Running) -> None:
    running.to_stats.send_nowait(Report(ConnectionReport(2, total_connections=2)))
    running.to_stats.send_nowait(Report(ConnectionReport(1, total_connections=1)))
    running.to_stats.send_nowait(Report(Ledger(revision=1, accepted=3)))
    running.to_stats.send_nowait(Report(InboundReport(1, received=4)))
    running.to_stats.send_nowait(Report(None))
    await quiet()
    snapshot = running.snapshots.latest()
    assert snapshot == Snapshot(
        ConnectionReport(2, total_connections=2), Ledger(revision=1, accepted=3), InboundReport(1, received=4)
    )


@pytest.mark.anyio
async def test_every_reader_gets_every_event_from_its_watch_on_in_order(running: Running) -> None:
    first, first_events = anyio.create_memory_object_stream[Event](100)
    second, second_events = anyio.create_memory_object_stream[Event](100)
    with first, second, first_events, second_events:
        running.to_stats.send_nowait(Watch(first))
        running.to_stats.send_nowait(Report(None, (settled(1), settled(2))))
        running.to_stats.send_nowait(Watch(second))
        running.to_stats.send_nowait(Report(None, (settled(3),)))
        await quiet()
        assert [first_events.receive_nowait() for _ in range(3)] == [settled(1), settled(2), settled(3)]
        assert second_events.receive_nowait() == settled(3)


@pytest.mark.anyio
async def test_a_slow_reader_learns_how_many_it_missed_and_holds_up_nobody(running: Running) -> None:
    slow, slow_events = anyio.create_memory_object_stream[Event](2)
    quick, quick_events = anyio.create_memory_object_stream[Event](100)
    with slow, quick, slow_events, quick_events:
        running.to_stats.send_nowait(Watch(slow))
        running.to_stats.send_nowait(Watch(quick))
        running.to_stats.send_nowait(Report(None, tuple(settled(n) for n in range(10))))
        await quiet()
        assert [quick_events.receive_nowait() for _ in range(10)] == [settled(n) for n in range(10)]
        assert [slow_events.receive_nowait() for _ in range(2)] == [settled(0), settled(1)]
        running.to_stats.send_nowait(Report(None, (settled(10),)))
        await quiet()
        assert [slow_events.receive_nowait() for _ in range(2)] == [Missed(8), settled(10)]


@pytest.mark.anyio
async def test_a_reader_that_went_away_is_forgotten(running: Running) -> None:
    gone, events = anyio.create_memory_object_stream[Event](1)
    events.close()
    running.to_stats.send_nowait(Watch(gone))
    running.to_stats.send_nowait(Report(None, (settled(1),)))
    running.to_stats.send_nowait(Report(Ledger(revision=5)))
    await quiet()
    snapshot = running.snapshots.latest()
    assert snapshot is not None
    assert snapshot.ledger.revision == 5
    gone.close()


@pytest.mark.anyio
async def test_at_the_end_it_tells_what_was_still_unheard_and_ends_every_stream() -> None:
    to_stats, inbox = anyio.create_memory_object_stream[ToStatsCollector](100)
    snapshots = LatestSender[Snapshot]()
    watcher, events = anyio.create_memory_object_stream[Event](10)
    with to_stats, inbox, events:
        collector = StatsCollector(inbox=inbox, snapshots=snapshots)
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(collector.run)
            to_stats.send_nowait(Watch(watcher))
            await quiet()
            nursery.cancel_scope.cancel()
        to_stats.send_nowait(Report(Ledger(revision=9), (settled(1),)))
        collector.finish()
        assert await events.receive() == settled(1)
        with pytest.raises(anyio.EndOfStream):
            await events.receive()
        snapshot = snapshots.latest()
        assert snapshot is not None
        assert snapshot.ledger.revision == 9
    snapshots.close()
