"""The Connector alone: the order in which it tells, what it does with what is late, and how it says goodbye."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from hawk import Config, ConnectionState
from hawk.actors.connector import Connector
from hawk.actors.mailbox import Reporter, take_all
from hawk.errors import Unreachable
from hawk.messages import (
    AttemptFailed,
    Close,
    ConnectionReport,
    Dial,
    GaveUp,
    Hangup,
    Incoming,
    LaneOpened,
    LinkDown,
    LinkUp,
    Open,
    Opened,
    Ping,
    Report,
    Reset,
    Settled,
    StandDown,
    ToBackoff,
    ToConnector,
    ToHealthProbe,
    ToQueueKeeper,
    ToSubscriptionKeeper,
    Transmit,
)
from hawk.packets import AckKind, Acknowledgement, Arrivals, ConnectRequest, Delivery, DisconnectRequest, PingRequest
from hawk.ports import Link
from hawk.testing.virtual_time import Backend, VirtualWallClock, run
from hawk.values import Cause, CauseKind, Message

PUBACK = Acknowledgement(AckKind.PUBACK, 1)
BROKEN = Cause(CauseKind.RESET_BY_PEER, "broken")
CONFIG = Config(health_check_interval=8.0)

_numbers = itertools.count(1)
"""Promise C5 is watched by client identifier: each Connector has its own."""

both_backends = pytest.mark.parametrize("backend", ["trio", "asyncio"])


class Bench:
    """A Connector, what it tells each actor, and a dialer that gives out `links` in turn (an exception: raises it)."""

    def __init__(self, links: list[Any]) -> None:
        self.links = links
        self.requests: list[ConnectRequest] = []
        self.to_connector, inbox = anyio.create_memory_object_stream[ToConnector](100)
        to_backoff, self.of_backoff = anyio.create_memory_object_stream[ToBackoff](100)
        to_health_probe, self.of_health_probe = anyio.create_memory_object_stream[ToHealthProbe](100)
        to_queue_keeper, self.of_queue_keeper = anyio.create_memory_object_stream[ToQueueKeeper](100)
        to_subscriptions, self.of_subscriptions = anyio.create_memory_object_stream[ToSubscriptionKeeper](100)
        to_stats, self.of_stats = anyio.create_memory_object_stream[Report](100)
        self.ends: list[Any] = [self.to_connector, inbox, to_backoff, self.of_backoff, to_health_probe]
        self.ends += [self.of_health_probe, to_queue_keeper, self.of_queue_keeper, to_subscriptions]
        self.ends += [self.of_subscriptions, to_stats, self.of_stats]
        self.connector = Connector(
            CONFIG,
            "connector",
            name=f"connector-{next(_numbers)}",
            dialer=self,
            wall_clock=VirtualWallClock(),
            lane_capacity=50,
            inbox=inbox,
            to_self=self.to_connector,
            to_backoff=to_backoff,
            to_health_probe=to_health_probe,
            to_queue_keeper=to_queue_keeper,
            to_subscription_keeper=to_subscriptions,
            reporter=Reporter(to_stats),
        )

    async def dial(self, request: ConnectRequest) -> Link:
        self.requests.append(request)
        await anyio.lowlevel.checkpoint()
        link = self.links.pop(0)
        if isinstance(link, Exception):
            raise link
        assert link is not None
        return link  # type: ignore[no-any-return]

    async def tell(self, *messages: ToConnector) -> None:
        for message in messages:
            self.to_connector.send_nowait(message)
        await anyio.sleep(0.01)

    def state(self) -> ConnectionState:
        report = take_all(self.of_stats, None)[-1].state
        assert isinstance(report, ConnectionReport)
        return report.state


@asynccontextmanager
async def running(*links: Any) -> AsyncIterator[Bench]:
    bench = Bench(list(links))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.connector.run)
        yield bench
        tasks.cancel_scope.cancel()
    for end in bench.ends:
        end.close()


@both_backends
def test_both_keepers_hear_of_a_lane_before_anything_that_arrives_on_it(scripted_link: Any, backend: Backend) -> None:
    async def connect() -> None:
        link = scripted_link()
        link.arrive(Arrivals(acknowledgements=[PUBACK], inbound=[Delivery(Message("a", b""))]))
        async with running(link) as bench:
            await bench.tell(Open(), Dial(1))
            assert [type(each) for each in take_all(bench.of_queue_keeper, None)] == [LaneOpened, Settled]
            assert [type(each) for each in take_all(bench.of_subscriptions, None)] == [LaneOpened, Incoming]
            assert [type(each) for each in take_all(bench.of_backoff, None)] == [Reset, LinkUp]
            assert [type(each) for each in take_all(bench.of_health_probe, None)] == [LinkUp]

    for seed in range(6):
        run(connect, backend=backend, seed=seed)


@both_backends
def test_everything_that_arrived_is_told_before_the_link_is_down(scripted_link: Any, backend: Backend) -> None:
    async def lose() -> None:
        link = scripted_link()
        async with running(link) as bench:
            await bench.tell(Open(), Dial(1))
            for _ in range(3):
                link.arrive(Arrivals(acknowledgements=[PUBACK], inbound=[Delivery(Message("a", b""))]))
            link.arrive(BROKEN)
            await anyio.sleep(0.01)
            told = take_all(bench.of_queue_keeper, None)
            assert [type(each) for each in told] == [LaneOpened, Settled, Settled, Settled, LinkDown]
            assert [type(each) for each in take_all(bench.of_subscriptions, None)][-1] is LinkDown
            down = told[-1]
            assert isinstance(down, LinkDown)
            assert down.cause == BROKEN
            assert down.proven
            assert bench.state() is ConnectionState.RECONNECTING

    for seed in range(6):
        run(lose, backend=backend, seed=seed)


@both_backends
def test_what_is_about_an_old_lane_leaves_the_new_link_alone(scripted_link: Any, backend: Backend) -> None:
    async def be_late() -> None:
        old, new = scripted_link(), scripted_link()
        async with running(old, new) as bench:
            await bench.tell(Open(), Dial(1))
            opened = take_all(bench.of_queue_keeper, None)[0]
            assert isinstance(opened, LaneOpened)
            old.arrive(BROKEN)
            await anyio.sleep(0.01)
            await bench.tell(Dial(1))
            await bench.tell(Hangup(opened.lane, "late"), Ping(opened.lane))
            await anyio.sleep(60)
            assert bench.state() is ConnectionState.CONNECTED
            assert not new.closed
            assert new.sent == []
            assert [request.clean_start for request in bench.requests] == [True, False]

    run(be_late, backend=backend)


@both_backends
def test_a_ping_goes_out_and_a_hang_up_ends_the_link_that_it_is_about(scripted_link: Any, backend: Backend) -> None:
    async def hang_up() -> None:
        link = scripted_link()
        async with running(link) as bench:
            await bench.tell(Open(), Dial(1))
            opened = take_all(bench.of_queue_keeper, None)[0]
            assert isinstance(opened, LaneOpened)
            opened.lane.send_nowait(Transmit((), opening=True))
            await bench.tell(Ping(opened.lane))
            assert link.sent == [PingRequest()]
            await bench.tell(Hangup(opened.lane, "dead"))
            assert link.closed
            down = take_all(bench.of_backoff, None)[-1]
            assert isinstance(down, LinkDown)
            assert down.cause == Cause(CauseKind.HUNG_UP, "dead")

    run(hang_up, backend=backend)


@both_backends
@pytest.mark.parametrize(("reads", "closes", "within_s"), [(True, True, 0), (True, False, 0.25), (False, False, 1.0)])
def test_a_close_is_answered_in_time_whatever_the_broker_does(
    scripted_link: Any, reads: bool, closes: bool, within_s: float, backend: Backend
) -> None:
    async def close() -> None:
        link = scripted_link(reads=reads, closes=closes)
        async with running(link) as bench:
            await bench.tell(Open(), Dial(1))
            answer, answered = anyio.create_memory_object_stream[ConnectionReport](1)
            began_at = anyio.current_time()
            bench.to_connector.send_nowait(Close(True, answer))
            with answered:
                report = await answered.receive()
            assert report.state is ConnectionState.DISCONNECTED
            assert anyio.current_time() - began_at <= within_s
            assert link.closed
            assert link.sent == ([DisconnectRequest(session_expiry_s=0)] if reads else [])
            assert [type(each) for each in take_all(bench.of_backoff, None)][2:] == [StandDown, LinkDown]

    run(close, backend=backend)


@both_backends
def test_a_close_cancels_a_dial_and_what_still_comes_of_it_is_closed(scripted_link: Any, backend: Backend) -> None:
    async def close() -> None:
        link = scripted_link()
        async with running(link) as bench:
            answer, answered = anyio.create_memory_object_stream[ConnectionReport](1)
            opening, opened = anyio.create_memory_object_stream[Opened](1)
            with answered, opened:
                await bench.tell(Open(opening), Dial(1), Close(False, answer))
                assert (await opened.receive()).report.state is ConnectionState.DISCONNECTED
                assert (await answered.receive()).state is ConnectionState.DISCONNECTED
            await anyio.sleep(0.01)
            assert link.closed or bench.links == [link]
            await link.aclose()
            assert take_all(bench.of_queue_keeper, None) == []

    for seed in range(8):
        run(close, backend=backend, seed=seed)


@both_backends
def test_a_failed_dial_is_counted_and_giving_up_answers_those_who_wait(backend: Backend) -> None:
    async def fail() -> None:
        async with running(Unreachable("nobody there"), Unreachable("nobody there")) as bench:
            opening, opened = anyio.create_memory_object_stream[Opened](1)
            await bench.tell(Open(opening), Dial(1))
            await bench.tell(Dial(1))
            failures = [each for each in take_all(bench.of_backoff, None) if isinstance(each, AttemptFailed)]
            assert [each.failures for each in failures] == [1, 2]
            cause = failures[-1].cause
            await bench.tell(GaveUp(1, cause))
            with opened:
                answer = await opened.receive()
            assert answer.report.state is ConnectionState.FAILED
            assert answer.cause == cause

    run(fail, backend=backend)
