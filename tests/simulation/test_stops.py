"""Stops, in every weather: bounded by `drain_s` and one second, idempotent, and nothing is left behind (promise C8)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import anyio
import pytest

from hawk import Config, ConnectionState, MQTTInterface, ReconnectionConfig, Stopped
from hawk.messages import StopReport
from hawk.packets import ConnectRequest, DisconnectRequest, Outgoing
from hawk.ports import Dialer, Link
from hawk.stores.memory import MemoryStore
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, run

SEEDS = range(3)
DRAIN_S = 2.0
CONFIG = Config(
    reconnection=ReconnectionConfig(initial_retry_delay=60.0, max_retry_delay=60.0, connection_timeout=30.0),
    drain_s=DRAIN_S,
    max_inflight=10,
)

Weather = Callable[[Rehearsal], None]


class Stop(NamedTuple):
    """How one stop went. `left` names the tasks of hawk that lived after it."""

    took_s: float
    report: StopReport
    state: ConnectionState
    left: list[str]
    balance: int


def clear_sky(rehearsal: Rehearsal) -> None:
    """Nothing happens."""


def nobody_listens(rehearsal: Rehearsal) -> None:
    rehearsal.network.refuse()
    rehearsal.network.reset_all()


def connects_hang(rehearsal: Rehearsal) -> None:
    rehearsal.network.blackhole()
    rehearsal.network.reset_all()


def bytes_vanish(rehearsal: Rehearsal) -> None:
    rehearsal.network.blackhole()


def broker_reads_nothing(rehearsal: Rehearsal) -> None:
    rehearsal.broker.pause()


def broker_acknowledges_nothing(rehearsal: Rehearsal) -> None:
    rehearsal.broker.acknowledge(False)


ALL_WEATHER = [
    clear_sky,
    nobody_listens,
    connects_hang,
    bytes_vanish,
    broker_reads_nothing,
    broker_acknowledges_nothing,
]


async def stop_in(weather: Weather, messages: int, size_bytes: int, durable: bool, seed: int) -> Stop:
    """Connect, let the weather change, publish, disconnect."""
    async with Rehearsal(seed=seed) as rehearsal, anyio.create_task_group() as nursery:
        store = MemoryStore() if durable else None
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG, outbox_store=store))
        await mqtt.connect()
        weather(rehearsal)
        await anyio.sleep(0.5)
        receipts = [await mqtt.publish("stop/it", bytes(size_bytes), qos=n % 3) for n in range(messages)]
        await anyio.sleep(0.5)
        began_at = anyio.current_time()
        report = await mqtt.disconnect()
        took_s = anyio.current_time() - began_at
        assert await mqtt.disconnect() == report
        await anyio.lowlevel.checkpoint()
        names = [str(task.name) for task in anyio.get_running_tasks()]
        left = [name for name in names if name.startswith(("hawk ", "hawk.actors", "hawk.wiring"))]
        for receipt in receipts:
            with anyio.fail_after(0):
                try:
                    await receipt.acknowledged()
                except Stopped:
                    continue
        return Stop(took_s, report, mqtt.connection_state, left, _balance(mqtt))


def _balance(mqtt: MQTTInterface) -> int:
    stats = mqtt.stats
    came = stats["recovered"] + stats["accepted"] + stats["replayed"]
    ended = stats["acknowledged"] + stats["sent"] + stats["dead_lettered"] + stats["expired"] + stats["dropped"]
    ended += stats["superseded"] + stats["unknown"] + stats["damaged"] + stats["abandoned"]
    return came - ended - stats["queued"] - stats["in_flight"]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("weather", ALL_WEATHER)
@pytest.mark.parametrize(("messages", "size_bytes"), [(30, 10), (30, 100_000)])
def test_a_stop_is_over_a_second_after_its_drain_whatever_the_weather(
    weather: Weather, messages: int, size_bytes: int, durable: bool, backend: Backend
) -> None:
    for seed in SEEDS:
        stop = run(stop_in, weather, messages, size_bytes, durable, seed, backend=backend, seed=seed)
        assert stop.took_s <= DRAIN_S + 1.0
        assert stop.state is ConnectionState.DISCONNECTED
        assert stop.left == []
        assert stop.balance == 0
        if weather is clear_sky:
            assert stop.took_s == 0


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("weather", ALL_WEATHER)
def test_with_nothing_to_deliver_a_stop_takes_no_drain(weather: Weather, backend: Backend) -> None:
    for seed in SEEDS:
        stop = run(stop_in, weather, 0, 0, False, seed, backend=backend, seed=seed)
        link_is_down = weather in (nobody_listens, connects_hang)
        assert stop.took_s <= (0.2 if link_is_down else 0.25)
        assert stop.report == StopReport()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_what_is_on_disk_makes_no_stop_wait_while_the_link_is_down(backend: Backend) -> None:
    stop = run(stop_in, nobody_listens, 3, 10, True, 0, backend=backend)
    assert stop.took_s <= 0.2
    assert stop.report.kept == 2  # QoS 1 and 2
    assert stop.report.abandoned == 1  # QoS 0 is never stored


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_during_the_very_first_dial_a_stop_waits_for_nothing(backend: Backend) -> None:
    async def stop() -> float:
        async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
            rehearsal.network.blackhole()
            mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
            waiting = anyio.Event()

            async def connect() -> None:
                with pytest.raises(Stopped):
                    await mqtt.connect()
                waiting.set()

            nursery.start_soon(connect)
            await anyio.sleep(1)
            assert mqtt.connection_state is ConnectionState.CONNECTING
            began_at = anyio.current_time()
            await mqtt.disconnect()
            await waiting.wait()
            return anyio.current_time() - began_at

    assert run(stop, backend=backend) <= 0.2


class NeverClosing:
    """A dialer whose links do not notice that the broker closed after DISCONNECT: it never does."""

    def __init__(self, inner: Dialer) -> None:
        self._inner = inner
        self.goodbyes = 0

    async def dial(self, request: ConnectRequest) -> Link:
        return _NeverClosing(await self._inner.dial(request), self)


class _NeverClosing:
    def __init__(self, link: Link, dialer: NeverClosing) -> None:
        self._link = link
        self._dialer = dialer
        self.connack = link.connack
        self.aclose = link.aclose
        self.receive = link.receive

    @property
    def written_bytes(self) -> int:
        return self._link.written_bytes

    async def send(self, packets: Sequence[Outgoing]) -> None:
        self._dialer.goodbyes += sum(type(packet) is DisconnectRequest for packet in packets)
        await self._link.send([packet for packet in packets if type(packet) is not DisconnectRequest])


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_broker_that_never_closes_is_left_after_a_quarter_of_a_second(backend: Backend) -> None:
    async def stop() -> float:
        async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
            dialer = NeverClosing(rehearsal.dialer(CONFIG))
            mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG, dialer=dialer))
            await mqtt.connect()
            began_at = anyio.current_time()
            await mqtt.disconnect()
            assert dialer.goodbyes == 1
            return anyio.current_time() - began_at

    assert run(stop, backend=backend) == pytest.approx(0.25)
