"""Random cuts never cost a message, and one message that the broker cannot bear costs just itself.

`pytest --deep` makes ten thousand cuts; by default there are forty on each backend.
"""

from collections.abc import Sequence

import anyio
import pytest

from hawk import Config, MQTTInterface, ReconnectionConfig, Refused
from hawk.errors import LinkLost
from hawk.packets import Arrivals, Connack, ConnectRequest, Outgoing, PingRequest, Publish
from hawk.ports import Dialer, Link
from hawk.stores.memory import MemoryStore
from hawk.testing.history import judge
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, run
from hawk.values import Cause, CauseKind

BY_THE_BROKER = Cause(CauseKind.CLOSED_BY_PEER, "the broker closed the connection")

CONFIG = Config(
    reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=0.1, max_retry_delay=1.0),
    health_check_interval=4.0,
    stable_after_s=1.0,
    message_queue_size=100_000,
    max_inflight=20,
)


async def cut_again_and_again(rehearsal: Rehearsal, cuts: int) -> None:
    """Links die by reset, by an orderly end, in a black hole, and with the broker itself."""
    random, network, broker = rehearsal.random, rehearsal.network, rehearsal.broker
    for _ in range(cuts):
        network.latency_s, network.jitter_s = random.choice([(0.0, 0.0), (0.02, 0.01), (0.1, 0.05)])
        await anyio.sleep(random.uniform(0.0, 2.0))
        match random.randrange(8):
            case 0:
                network.blackhole()
                await anyio.sleep(random.uniform(0.1, 10.0))
                network.heal()
            case 1:
                await broker.kill()
                await broker.restart(sessions="keep")
            case 2:
                await broker.stop()
                await broker.restart(sessions="keep")
            case 3 | 4 | 5:
                network.cut_all()
            case _:
                network.reset_all()
    network.latency_s = network.jitter_s = 0.0


async def publish_until(mqtt: MQTTInterface, ended: anyio.Event) -> int:
    """Publish numbers until the weather is over; return how many."""
    number = 0
    while not ended.is_set():
        await mqtt.publish("poison/number", str(number), qos=1 + number % 2)
        number += 1
        await anyio.sleep(0.2)
    return number


async def storm(cuts: int, seed: int) -> None:
    store = MemoryStore()
    async with Rehearsal(seed=seed) as rehearsal:
        async with rehearsal.open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG, outbox_store=store)) as mqtt:
            ended, published = anyio.Event(), 0

            async def weather() -> None:
                await cut_again_and_again(rehearsal, cuts)
                ended.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(weather)
                published = await publish_until(mqtt, ended)
            with anyio.fail_after(600):
                while mqtt.stats["queue_size"]:
                    await anyio.sleep(0.1)
            stats = mqtt.stats
            assert stats["dead_lettered"] == 0
            assert stats["acknowledged"] == published
            assert stats["total_disconnections"] > cuts / 3, "the weather was too good to prove anything"
        arrived = [int(payload) for _, payload in rehearsal.broker.received()]
        verdict = judge(range(published), arrived)
        assert not verdict.lost, str(verdict)
        assert not verdict.reordered, str(verdict)
        assert not [number for number in verdict.duplicated if number % 2], f"at QoS 2: {verdict}"
        assert store.dead == ()
        assert store.records == ()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_no_cut_of_the_link_costs_a_message(backend: Backend, deep: bool) -> None:
    for seed in range(10 if deep else 1):
        run(storm, 1000 if deep else 40, seed, backend=backend, seed=seed, limit_s=7e6)


class ClosesOnPoison:
    """A dialer to a broker that closes the link on one certain message, after it has answered what came before it."""

    def __init__(self, inner: Dialer) -> None:
        self._inner = inner

    async def dial(self, request: ConnectRequest) -> Link:
        return _ClosesOnPoison(await self._inner.dial(request))


class _ClosesOnPoison:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._closed = False
        self._answered = anyio.Event()

    @property
    def connack(self) -> Connack:
        return self._link.connack

    @property
    def written_bytes(self) -> int:
        return self._link.written_bytes

    async def send(self, packets: Sequence[Outgoing]) -> None:
        for index, packet in enumerate(packets):
            if isinstance(packet, Publish) and packet.message.payload == b"poison":
                await self._link.send(packets[:index])
                if any(isinstance(before, PingRequest) for before in packets[:index]):
                    await self._answered.wait()
                self._closed = True
                await self._link.aclose()
                raise LinkLost(BY_THE_BROKER)
        await self._link.send(packets)

    async def receive(self) -> Arrivals:
        try:
            arrivals = await self._link.receive()
        except LinkLost:
            if self._closed:
                raise LinkLost(BY_THE_BROKER) from None
            raise
        if arrivals.pong:
            self._answered.set()
        return arrivals

    async def aclose(self) -> None:
        await self._link.aclose()


async def with_one_planted(qos: int) -> None:
    store = MemoryStore()
    async with Rehearsal() as rehearsal:
        rehearsal.network.latency_s = 0.02
        dialer = ClosesOnPoison(rehearsal.dialer(CONFIG))
        ports = rehearsal.ports(CONFIG, dialer=dialer, outbox_store=store)
        async with rehearsal.open_mqtt(CONFIG, ports=ports) as mqtt:
            for number in range(50):
                await mqtt.publish("poison/number", str(number), qos=1 + number % 2)
            poison = await mqtt.publish("poison/number", b"poison", qos=qos)
            for number in range(50, 100):
                await mqtt.publish("poison/number", str(number), qos=1 + number % 2)
            with pytest.raises(Refused, match="closed the link again and again"):
                await poison.acknowledged()
            with anyio.fail_after(600):
                while mqtt.stats["queue_size"]:
                    await anyio.sleep(0.1)
            assert mqtt.stats["dead_lettered"] == 1
        verdict = judge(range(100), [int(payload) for _, payload in rehearsal.broker.received()])
        assert not verdict.lost, str(verdict)
        assert not verdict.reordered, str(verdict)
        assert [buried.record.message.payload for buried in store.dead] == [b"poison"]
        assert store.records == ()


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_one_poison_costs_exactly_itself(backend: Backend, qos: int) -> None:
    run(with_one_planted, qos, backend=backend, limit_s=1e5)
