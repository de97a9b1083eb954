"""How actors wait and hand on: never deaf, nothing lost, nothing held up by a slow reader."""

import anyio
import pytest

from hawk.actors.mailbox import LatestSender, Reporter, answer, open_lane, receive_by, take_all
from hawk.messages import ConnectionReport, Missed, Report, StateChanged, Transmit
from hawk.packets import PingRequest
from hawk.values import ConnectionState

PING = Transmit((PingRequest(),))


def changed(number: int) -> StateChanged:
    """An event that can be told from others: only the number matters here."""
    return StateChanged(ConnectionState.CONNECTED, ConnectionState.RECONNECTING, None)._replace(cause=number)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- waiting


@pytest.mark.anyio
async def test_what_waits_is_received_however_overdue_the_deadline_is() -> None:
    sender, inbox = anyio.create_memory_object_stream[int](10)
    with sender, inbox:
        for number in range(3):
            sender.send_nowait(number)
        long_ago = anyio.current_time() - 1000
        assert [await receive_by(inbox, long_ago) for _ in range(4)] == [0, 1, 2, None]


@pytest.mark.anyio
async def test_a_sender_that_waits_for_room_is_heard_too_although_the_deadline_is_overdue() -> None:
    sender, inbox = anyio.create_memory_object_stream[int](0)
    with sender, inbox:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.send, 7)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            assert await receive_by(inbox, anyio.current_time() - 1) == 7


@pytest.mark.anyio
async def test_a_deadline_ends_the_wait_for_an_empty_inbox() -> None:
    sender, inbox = anyio.create_memory_object_stream[int](1)
    with sender, inbox, anyio.fail_after(2):
        assert await receive_by(inbox, anyio.current_time() + 0.01) is None


@pytest.mark.anyio
async def test_cancelling_the_wait_loses_no_message() -> None:
    sender, inbox = anyio.create_memory_object_stream[int](1)
    with sender, inbox:
        with anyio.move_on_after(0.01):
            await receive_by(inbox, float("inf"))
        sender.send_nowait(1)
        assert await receive_by(inbox, float("inf")) == 1


@pytest.mark.anyio
async def test_a_batch_is_all_that_waits_in_order() -> None:
    sender, inbox = anyio.create_memory_object_stream[int](10)
    with sender, inbox:
        for number in range(1, 4):
            sender.send_nowait(number)
        assert take_all(inbox, 0) == [0, 1, 2, 3]
        assert take_all(inbox, None) == []


@pytest.mark.anyio
async def test_an_answer_that_nobody_waits_for_any_more_is_no_error() -> None:
    sender, receiver = anyio.create_memory_object_stream[int](1)
    receiver.close()
    answer(sender, 1)
    answer(sender, 1)
    assert sender.statistics().open_send_streams == 0


# ----------------------------------------------------------------------------------------------- lanes


@pytest.mark.anyio
async def test_a_lane_breaks_when_its_reader_is_gone_and_when_it_is_closed() -> None:
    lane, outgoing = open_lane(1, 5)
    outgoing.close()
    with pytest.raises(anyio.BrokenResourceError):
        lane.send_nowait(PING)
    lane.close()
    with pytest.raises(anyio.BrokenResourceError):
        lane.send_nowait(PING)


@pytest.mark.anyio
async def test_a_full_lane_says_so_to_its_link_and_breaks_for_its_sender() -> None:
    lane, outgoing = open_lane(1, 2)
    overflows = []
    lane.on_overflow = lambda: overflows.append(1)
    with outgoing:
        lane.send_nowait(PING)
        lane.send_nowait(PING)
        assert overflows == []
        with pytest.raises(anyio.BrokenResourceError):
            lane.send_nowait(PING)
        assert overflows == [1]
    lane.close()


@pytest.mark.anyio
async def test_a_lane_is_bounded_in_packets_too_and_empty_takes_any_batch() -> None:
    lane, outgoing = open_lane(1, 100)
    overflows = []
    lane.on_overflow = lambda: overflows.append(1)
    many = Transmit(PING.packets * 40_000)
    with outgoing:
        for _ in range(3):
            lane.send_nowait(many)
            lane.send_nowait(many)
            with pytest.raises(anyio.BrokenResourceError):
                lane.send_nowait(many)
            take_all(outgoing, None)
        assert overflows == [1] * 3
    lane.close()


# ---------------------------------------------------------------------------------------- LatestSender


@pytest.mark.anyio
async def test_a_latest_sender_holds_the_newest_value_alone_and_gives_it_once() -> None:
    latest = LatestSender[int]()
    assert latest.latest() is None
    for number in range(5):
        latest.send(number)
    assert latest.latest() == 4
    assert latest.latest() is None
    latest.send(5)
    latest.close()
    assert latest.latest() == 5
    assert latest.latest() is None
    latest.close()


# -------------------------------------------------------------------------------------------- Reporter


def report(revision: int, *events: StateChanged) -> Report:
    return Report(ConnectionReport(revision), events)


@pytest.mark.anyio
async def test_a_report_that_did_not_fit_goes_with_the_next_and_events_keep_their_order() -> None:
    to_stats, inbox = anyio.create_memory_object_stream[Report](1)
    with to_stats, inbox:
        reporter = Reporter(to_stats)
        for number in range(5):
            reporter.report(report(number, changed(number)))
        assert reporter.has_unsent
        assert inbox.receive_nowait() == report(0, changed(0))
        reporter.retry()
        assert not reporter.has_unsent
        assert inbox.receive_nowait() == report(4, changed(1), changed(2), changed(3), changed(4))
        reporter.retry()
        with pytest.raises(anyio.WouldBlock):
            inbox.receive_nowait()


@pytest.mark.anyio
async def test_events_beyond_the_bound_are_counted_before_those_that_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hawk.actors.mailbox.MOST_UNSENT_EVENTS", 3)
    to_stats, inbox = anyio.create_memory_object_stream[Report](1)
    with to_stats, inbox:
        reporter = Reporter(to_stats)
        reporter.report(report(0))
        for number in range(1, 8):
            reporter.report(report(number, changed(number)))
        inbox.receive_nowait()
        reporter.retry()
        assert inbox.receive_nowait() == Report(ConnectionReport(7), (Missed(4), changed(5), changed(6), changed(7)))
        reporter.report(report(8, changed(8)))
        assert inbox.receive_nowait() == report(8, changed(8))
