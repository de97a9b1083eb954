"""The two tasks of one link: all that arrived is handed on before `Lost`, and a goodbye ends within 1.25 s."""

from typing import Any

import anyio
import pytest

from hawk.actors.link_tasks import BUSY, GATHERING_S, GOODBYE_S, LAST_WORDS_S, LinkTasks
from hawk.actors.mailbox import MemoryLane, open_lane, take_all
from hawk.messages import Incoming, Lost, Settled, ToConnector, ToQueueKeeper, ToSubscriptionKeeper, Transmit
from hawk.packets import (
    AckKind,
    Acknowledgement,
    Arrivals,
    Delivery,
    DisconnectRequest,
    PingRequest,
    Publish,
    SubscribeFilter,
    SubscribeRequest,
)
from hawk.testing.virtual_time import Backend, run
from hawk.values import Cause, CauseKind, Message

PUBACK = Acknowledgement(AckKind.PUBACK, 1)
BROKEN = Cause(CauseKind.RESET_BY_PEER, "broken")

both_backends = pytest.mark.parametrize("backend", ["trio", "asyncio"])


class Bench:
    """Link tasks between channels that a test reads. `order` is what was handed on, to anybody, in its order."""

    def __init__(self, link: Any, *, capacity: int = 100, keeper_inbox: int = 100, opened: bool = True) -> None:
        self.lane: MemoryLane
        self.lane, outgoing = open_lane(1, capacity)
        to_connector, self.of_connector = anyio.create_memory_object_stream[ToConnector](10)
        to_queue, self.of_queue_keeper = anyio.create_memory_object_stream[ToQueueKeeper](keeper_inbox)
        to_subscriptions, self.of_subscription_keeper = anyio.create_memory_object_stream[ToSubscriptionKeeper](
            keeper_inbox
        )
        self._ends: list[Any] = [to_connector, to_queue, to_subscriptions]
        self.tasks = LinkTasks(
            link,
            self.lane,
            outgoing,
            to_connector=to_connector,
            to_queue_keeper=to_queue,
            to_subscription_keeper=to_subscriptions,
        )

        if opened:
            self.lane.send_nowait(Transmit((), opening=True))

    async def end(self) -> tuple[Lost, float]:
        """Wait for `Lost`; returns it and when it came."""
        with anyio.fail_after(60):
            lost = await self.of_connector.receive()
        assert isinstance(lost, Lost)
        return lost, anyio.current_time()

    def close(self) -> None:
        for end in (*self._ends, self.of_connector, self.of_queue_keeper, self.of_subscription_keeper):
            end.close()


@both_backends
@pytest.mark.parametrize("keeper_inbox", [0, 100])
def test_everything_that_arrived_is_handed_on_before_lost(
    scripted_link: Any, keeper_inbox: int, backend: Backend
) -> None:
    async def lose() -> None:
        link = scripted_link()
        bench = Bench(link, keeper_inbox=keeper_inbox)
        order: list[object] = []

        async def read(inbox: Any) -> None:
            while True:
                order.append(await inbox.receive())

        async with anyio.create_task_group() as tasks:
            for inbox in (bench.of_connector, bench.of_queue_keeper, bench.of_subscription_keeper):
                tasks.start_soon(read, inbox)
            for _ in range(5):
                link.arrive(Arrivals(acknowledgements=[PUBACK], inbound=[Delivery(Message("a", b""))]))
            link.arrive(BROKEN)
            await bench.tasks.run()
            await anyio.sleep(0.1)
            tasks.cancel_scope.cancel()
        kinds = [type(message) for message in order]
        assert kinds.count(Settled) == kinds.count(Incoming) == 5
        assert order[-1] == Lost(bench.lane, BROKEN)
        assert link.closed
        bench.close()

    for seed in range(4):
        run(lose, backend=backend, seed=seed)


@both_backends
@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("closes", [True, False])
def test_a_goodbye_is_the_last_packet_and_ends_the_link_in_time(
    scripted_link: Any, reads: bool, closes: bool, backend: Backend
) -> None:
    async def leave() -> float:
        link = scripted_link(reads=reads, closes=closes)
        bench = Bench(link)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.tasks.run)
            await anyio.sleep(1)
            bench.lane.send_nowait(Transmit((Publish(Message("a", b"", 1), 1),)))
            bench.tasks.say_goodbye(DisconnectRequest())
            bench.lane.send_nowait(Transmit((Publish(Message("b", b"", 0)),)))
            lost, at = await bench.end()
        assert lost.cause.kind is CauseKind.CLOSED
        assert link.closed
        if reads:
            assert [type(packet) for packet in link.sent] == [Publish, DisconnectRequest]
        assert take_all(bench.of_queue_keeper, None) == []
        with pytest.raises(anyio.BrokenResourceError):
            bench.lane.send_nowait(Transmit((PingRequest(),)))
        bench.close()
        return at - 1

    took_s = run(leave, backend=backend)
    if reads and closes:
        assert took_s == 0
    assert took_s <= (LAST_WORDS_S if reads else GOODBYE_S)
    assert took_s <= 1.25


@both_backends
def test_hanging_up_ends_a_write_that_blocks_and_says_why(scripted_link: Any, backend: Backend) -> None:
    async def hang_up() -> None:
        bench = Bench(scripted_link(reads=False))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.tasks.run)
            bench.lane.send_nowait(Transmit((PingRequest(),)))
            await anyio.sleep(3)
            assert bench.tasks.traffic.write_since == 0
            bench.tasks.hang_up("dead")
            bench.tasks.hang_up("again")
            lost, at = await bench.end()
        assert lost == Lost(bench.lane, Cause(CauseKind.HUNG_UP, "dead"))
        assert at == 3
        bench.close()

    run(hang_up, backend=backend)


@both_backends
def test_a_lane_that_overflows_hangs_its_link_up(scripted_link: Any, backend: Backend) -> None:
    async def overflow() -> None:
        link = scripted_link(reads=False)
        bench = Bench(link, capacity=4)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.tasks.run)
            for _ in range(3):
                bench.lane.send_nowait(Transmit((PingRequest(),)))
            with pytest.raises(anyio.BrokenResourceError):
                bench.lane.send_nowait(Transmit((PingRequest(),)))
            lost, at = await bench.end()
        assert lost.cause.kind is CauseKind.HUNG_UP
        assert at == 0
        assert link.closed
        bench.close()

    run(overflow, backend=backend)


@both_backends
def test_what_is_resumed_goes_before_all_that_was_on_the_lane_earlier(scripted_link: Any, backend: Backend) -> None:
    """MQTT 5 section 4.4: resumed PUBLISHes go before SUBSCRIBEs, whichever keeper the scheduler let speak first."""
    subscribe = SubscribeRequest(65_024, (SubscribeFilter("a"),))
    resumed = Publish(Message("a", b"", 1), 1, duplicate=True)

    async def open_late() -> None:
        link = scripted_link()
        bench = Bench(link, opened=False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.tasks.run)
            bench.lane.send_nowait(Transmit((subscribe,)))
            await anyio.sleep(1)
            assert link.sent == []
            assert bench.tasks.traffic.wrote_at == 0
            bench.lane.send_nowait(Transmit((PingRequest(),)))
            bench.lane.send_nowait(Transmit((resumed,), opening=True))
            await anyio.sleep(1)
            assert link.sent == [resumed, subscribe, PingRequest()]
            tasks.cancel_scope.cancel()
        bench.close()

    run(open_late, backend=backend)


@both_backends
def test_a_goodbye_does_not_wait_for_what_is_resumed(scripted_link: Any, backend: Backend) -> None:
    async def leave() -> None:
        link = scripted_link()
        bench = Bench(link, opened=False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.tasks.run)
            bench.tasks.say_goodbye(DisconnectRequest())
            assert (await bench.end())[1] == 0
        assert link.sent == [DisconnectRequest()]
        bench.close()

    run(leave, backend=backend)


@both_backends
def test_qos_0_counts_as_sent_once_the_socket_took_it(scripted_link: Any, backend: Backend) -> None:
    async def send() -> None:
        bench = Bench(scripted_link())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.tasks.run)
            bench.lane.send_nowait(Transmit((Publish(Message("a", b"", 0)), Publish(Message("b", b"", 1), 7))))
            bench.lane.send_nowait(Transmit((Publish(Message("c", b"", 0)),)))
            await anyio.sleep(1)
            assert take_all(bench.of_queue_keeper, None) == [Settled(bench.lane, (), 2)]
            assert not bench.tasks.proven
            tasks.cancel_scope.cancel()
        bench.close()

    run(send, backend=backend)


@both_backends
def test_a_ping_answer_and_an_acknowledgement_prove_the_link_and_move_what_was_heard(
    scripted_link: Any, backend: Backend
) -> None:
    async def hear() -> None:
        for arrivals in (Arrivals(pong=True), Arrivals(acknowledgements=[PUBACK])):
            link = scripted_link()
            bench = Bench(link)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(bench.tasks.run)
                await anyio.sleep(2)
                link.arrive(Arrivals(inbound=[Delivery(Message("a", b""))]))
                await anyio.sleep(0.5)
                assert not bench.tasks.proven
                link.arrive(arrivals)
                await anyio.sleep(0.5)
                assert bench.tasks.proven
                assert bench.tasks.traffic.heard_at == anyio.current_time() - 0.5
                tasks.cancel_scope.cancel()
            assert link.closed
            bench.close()

    run(hear, backend=backend)


async def instants_of_two_answers(bench: Bench, link: Any) -> list[float]:
    """When two PUBACKs that come together are handed on, in seconds after they came."""
    began_at, instants = anyio.current_time(), []
    for identifier in (101, 102):
        link.arrive(Arrivals(acknowledged=[identifier]))
    for _ in range(2):
        await bench.of_queue_keeper.receive()
        instants.append(anyio.current_time() - began_at)
    return instants


@both_backends
@pytest.mark.parametrize(("published", "waits_s"), [(BUSY, 0.0), (BUSY + 1, GATHERING_S)])
def test_answers_are_gathered_only_while_many_are_due(
    scripted_link: Any, published: int, waits_s: float, backend: Backend
) -> None:
    async def answer() -> list[float]:
        link = scripted_link()
        bench = Bench(link)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.tasks.run)
            bench.lane.send_nowait(Transmit(tuple(Publish(Message("a", b"", 1), n) for n in range(1, published + 1))))
            await anyio.sleep(1)
            instants = await instants_of_two_answers(bench, link)
            tasks.cancel_scope.cancel()
        bench.close()
        return instants

    assert run(answer, backend=backend) == pytest.approx([0.0, waits_s])


@both_backends
def test_an_answer_that_comes_while_its_message_is_still_written_is_no_debt(
    scripted_link: Any, backend: Backend
) -> None:
    """Else every batch would leave some behind, until a lone answer had to wait for company that never comes."""

    async def answer() -> list[float]:
        link = scripted_link()
        bench = Bench(link)
        write = link.send

        async def write_slowly(packets: Any) -> None:
            await write(packets)
            link.arrive(Arrivals(acknowledged=[packet.identifier for packet in packets]))
            await anyio.sleep(1)

        link.send = write_slowly
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.tasks.run)
            bench.lane.send_nowait(Transmit(tuple(Publish(Message("a", b"", 1), number) for number in range(1, 101))))
            await bench.of_queue_keeper.receive()
            await anyio.sleep(2)
            instants = await instants_of_two_answers(bench, link)
            tasks.cancel_scope.cancel()
        bench.close()
        return instants

    assert run(answer, backend=backend) == [0.0, 0.0]
