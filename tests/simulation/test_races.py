"""Races: what happens at the same instant, in every order, and what happens when an actor of hawk crashes.

Virtual time; a seed orders the tasks that can run at one instant, so each seed is another race.
"""

from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from hawk import Config, ConnectionState, MQTTInterface, ReconnectionConfig, Stopped
from hawk.messages import Commit, Page, ReadPage, Recovered
from hawk.packets import ConnectRequest
from hawk.ports import Dialer, Link, Ports
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, VirtualWallClock, run

FEW_SEEDS = range(6)
CRASHED_AT_S = 3.0

CONFIG = Config(
    reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=1.0, max_retry_delay=1.0, jitter_factor=0.0),
    health_check_interval=4.0,
    ping_timeout_s=2.0,
)

both_backends = pytest.mark.parametrize("backend", ["trio", "asyncio"])


def tasks_of_hawk() -> list[str]:
    """The tasks of any hawk that live now; the broker's and the network's are not of them."""
    names = [str(task.name) for task in anyio.get_running_tasks()]
    return [name for name in names if name.startswith(("hawk ", "hawk.actors", "hawk.wiring"))]


async def reach(mqtt: MQTTInterface, state: ConnectionState) -> None:
    """Wait until the connection is there."""
    with anyio.fail_after(60):
        while mqtt.connection_state is not state:
            await anyio.sleep(0.01)


# ------------------------------------------------------------------------------------------ one instant


@both_backends
def test_a_hang_up_that_meets_the_links_own_end_costs_one_link_only(backend: Backend) -> None:
    async def meet() -> None:
        async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
            await mqtt.connect()
            rehearsal.broker.answers_pings = False
            # Silence since 0, a ping at 3/4 K, and given up one ping timeout and a quarter of K later.
            await anyio.sleep(3.0 + 2.0 + 1.0)
            rehearsal.broker.answers_pings = True
            rehearsal.network.reset_all()
            await anyio.sleep(60)
            assert mqtt.connection_state is ConnectionState.CONNECTED
            assert mqtt.stats["total_connections"] == 2

    for seed in FEW_SEEDS:
        run(meet, backend=backend, seed=seed)


@both_backends
def test_two_hundred_who_connect_at_once_while_a_delay_is_waited_out_share_one_dial(backend: Backend) -> None:
    slow = Config(reconnection=ReconnectionConfig(initial_retry_delay=30.0, jitter_factor=0.0))

    async def rush() -> None:
        async with Rehearsal() as rehearsal, rehearsal.open_mqtt(slow) as mqtt:
            await mqtt.connect()
            rehearsal.network.reset_all()
            await reach(mqtt, ConnectionState.RECONNECTING)
            with anyio.fail_after(1):
                async with anyio.create_task_group() as tasks:
                    for _ in range(200):
                        tasks.start_soon(mqtt.connect)
            assert mqtt.stats["total_connections"] == 2

    for seed in FEW_SEEDS:
        run(rush, backend=backend, seed=seed)


@both_backends
def test_two_hundred_who_disconnect_at_once_are_all_told(backend: Backend) -> None:
    async def rush() -> None:
        told = []
        async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
            await mqtt.connect()

            async def disconnect() -> None:
                told.append(await mqtt.disconnect())

            async with anyio.create_task_group() as tasks:
                for _ in range(200):
                    tasks.start_soon(disconnect)
            assert mqtt.connection_state is ConnectionState.DISCONNECTED
        assert len(told) == 200

    run(rush, backend=backend)


@both_backends
def test_who_publishes_while_hawk_stops_is_accepted_or_told(backend: Backend) -> None:
    """Also across the end of one run of the actors and the start of the next."""

    async def publish_over_stops(seed: int) -> None:
        accepted: list[str] = []
        async with Rehearsal(seed=seed) as rehearsal:
            random = Random(seed)
            stopped: list[str] = []

            async def publish(mqtt: MQTTInterface, publisher: int) -> None:
                for number in range(60):
                    text = f"{publisher}-{number}"
                    try:
                        receipt = await mqtt.publish("race/stop", text, qos=1)
                        accepted.append(text)
                        if random.random() < 0.3:
                            await receipt.acknowledged()
                    except Stopped:
                        stopped.append(text)
                    await anyio.sleep(random.choice([0.0, 0.0, 0.01]))

            async def stop(mqtt: MQTTInterface) -> None:
                for _ in range(10):
                    await anyio.sleep(random.uniform(0.0, 0.05))
                    await mqtt.disconnect()
                    await anyio.lowlevel.checkpoint()
                    await mqtt.connect()

            async with rehearsal.open_mqtt(CONFIG) as mqtt, anyio.create_task_group() as tasks:
                for publisher in range(4):
                    tasks.start_soon(publish, mqtt, publisher)
                tasks.start_soon(stop, mqtt)
            assert mqtt.stats["queue_size"] == 0
            arrived = {payload.decode() for _, payload in rehearsal.broker.received()}
            assert set(accepted) <= arrived | set(stopped)
            assert accepted

    for seed in FEW_SEEDS:
        run(publish_over_stops, seed, backend=backend, seed=seed)


# ------------------------------------------------------------------------------------------- the block


@both_backends
def test_a_block_that_raises_delivers_first_and_raises_exactly_that(backend: Backend) -> None:
    class Mistake(Exception):
        pass

    async def make_one() -> None:
        async with Rehearsal() as rehearsal:
            rehearsal.network.latency_s = 0.2
            told: list[type[BaseException]] = []
            try:
                async with rehearsal.open_mqtt(CONFIG) as mqtt:
                    for number in range(50):
                        await mqtt.publish("race/block", str(number))
                    raise Mistake
            except BaseException as error:
                told.append(type(error))
            assert told == [Mistake]
            rehearsal.network.latency_s = 0.0
            assert [payload for _, payload in rehearsal.broker.received()] == [b"%d" % n for n in range(50)]
            assert tasks_of_hawk() == []

    run(make_one, backend=backend)


@both_backends
def test_a_cancelled_block_still_delivers_what_it_can_in_its_second(backend: Backend) -> None:
    async def leave(heals: bool) -> tuple[float, int, float]:
        async with Rehearsal() as rehearsal:
            with anyio.CancelScope() as scope:
                async with rehearsal.open_mqtt(CONFIG) as mqtt:
                    await mqtt.connect()
                    rehearsal.network.latency_s = 0.3
                    if not heals:
                        rehearsal.network.blackhole()
                    receipts = [await mqtt.publish("race/block", str(number)) for number in range(50)]
                    left_at = anyio.current_time()
                    scope.cancel()
                    await anyio.sleep_forever()
            took_s = anyio.current_time() - left_at
            settled = sum(receipt.settled for receipt in receipts)
            for receipt in receipts:
                with anyio.fail_after(0):
                    try:
                        await receipt.acknowledged()
                    except Stopped:
                        assert not heals
            assert tasks_of_hawk() == []
            rehearsal.network.latency_s = 0.0
            rehearsal.network.heal()
            return took_s, settled, len(rehearsal.broker.received())

    for seed in FEW_SEEDS:
        took_s, settled, arrived = run(leave, True, backend=backend, seed=seed)
        assert took_s <= CONFIG.cancel_drain_s + 0.5
        assert (settled, arrived) == (50, 50)
        took_s, settled, arrived = run(leave, False, backend=backend, seed=seed)
        assert took_s <= CONFIG.cancel_drain_s + 1.0
        assert arrived == 0


# ------------------------------------------------------------------------------------------- a crash


class Bug(Exception):
    """What no actor expects."""


class BuggyClock:
    def __init__(self) -> None:
        self._clock = VirtualWallClock()

    def now(self) -> float:
        _raise_when_due()
        return self._clock.now()


class BuggyRandom(Random):
    def random(self) -> float:
        _raise_when_due()
        return super().random()


class BuggyDialer:
    def __init__(self, inner: Dialer) -> None:
        self._inner = inner

    async def dial(self, request: ConnectRequest) -> Link:
        _raise_when_due()
        return await self._inner.dial(request)


class BuggyStore:
    """Stalls every commit until the bug is due."""

    durable = True

    async def open(self) -> Recovered:
        return Recovered()

    async def commit(self, changes: Commit) -> None:
        await anyio.sleep_until(CRASHED_AT_S)
        _raise_when_due()

    async def page(self, request: ReadPage) -> Page:
        return Page((), end=True)

    async def aclose(self) -> None:
        return None


def _raise_when_due() -> None:
    if anyio.current_time() >= CRASHED_AT_S:
        raise Bug


def _ports(rehearsal: Rehearsal, buggy: str) -> Ports:
    return Ports(
        BuggyDialer(rehearsal.dialer(CONFIG)) if buggy == "dialer" else rehearsal.dialer(CONFIG),
        BuggyStore() if buggy == "store" else None,
        BuggyClock() if buggy == "clock" else VirtualWallClock(),
        (BuggyRandom if buggy == "random" else Random)(rehearsal.random.getrandbits(64)),
    )


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


async def crash(buggy: str, seed: int) -> dict[str, tuple[str, float]]:
    """Let one actor crash while everything waits that can wait; return how and when each wait ended."""
    config = Config(
        reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=0.3, max_retry_delay=0.3),
        message_queue_size=1,
        overflow="wait",
    )
    ended: dict[str, tuple[str, float]] = {}

    async def wait_for(name: str, wait: Callable[[], Coroutine[Any, Any, object]]) -> None:
        outcome = "returned"
        try:
            await wait()
        except Stopped:
            outcome = "Stopped"
        ended[name] = (outcome, anyio.current_time())

    async with Rehearsal(seed=seed) as rehearsal:
        rehearsal.network.refuse()
        hawks: list[MQTTInterface] = []

        async def live(outside: TaskGroup) -> None:
            async with anyio.create_task_group() as nursery:
                mqtt = MQTTInterface(config, nursery, ports=_ports(rehearsal, buggy))
                hawks.append(mqtt)
                outside.start_soon(wait_for, "connect", mqtt.connect)
                await anyio.sleep(0.1)

                async def read_events() -> None:
                    async for _ in mqtt.events():
                        pass

                async def subscribe() -> None:
                    async with mqtt.subscribe("race/#") as messages:
                        async for _ in messages:
                            pass

                async def acknowledged() -> None:
                    receipt = await mqtt.publish("race/crash", "first")
                    await receipt.acknowledged()

                waits: list[tuple[str, Callable[[], Coroutine[Any, Any, object]]]] = [
                    ("events", read_events),
                    ("subscribe", subscribe),
                    ("acknowledged", acknowledged),
                    ("publish", lambda: _after(0.1, lambda: mqtt.publish("race/crash", "second"))),
                ]
                for name, wait in waits:
                    outside.start_soon(wait_for, name, wait)
                await anyio.sleep(CRASHED_AT_S - 1)
                assert ended == {}
                await anyio.sleep_forever()

        async with anyio.create_task_group() as outside:
            with pytest.raises(ExceptionGroup) as raised:
                await live(outside)
        assert {type(leaf) for leaf in _leaves(raised.value)} == {Bug}
        assert tasks_of_hawk() == []
        await hawks[0].disconnect()
    return ended


async def _after(delay_s: float, then: Callable[[], Awaitable[object]]) -> None:
    await anyio.sleep(delay_s)
    await then()


@both_backends
@pytest.mark.parametrize("buggy", ["clock", "random", "dialer", "store"])
def test_a_crash_ends_the_nursery_with_its_error_and_releases_everybody_at_once(buggy: str, backend: Backend) -> None:
    for seed in FEW_SEEDS:
        ended = run(crash, buggy, seed, backend=backend, seed=seed, limit_s=60)
        outcomes = {name: outcome for name, (outcome, _) in ended.items()}
        assert outcomes == {
            "connect": "Stopped",
            "publish": "Stopped",
            "acknowledged": "Stopped",
            "events": "returned",
            "subscribe": "returned",
        }
        moments = [at for _, at in ended.values()]
        assert max(moments) <= CRASHED_AT_S + 0.5  # the next dial after the bug became due
        assert max(moments) == min(moments)
