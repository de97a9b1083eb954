"""A disk that stalls, fails or loses power: the link stays up, senders hear the truth, nothing accepted is lost."""

from collections.abc import Sequence

import anyio
import pytest

from hawk import Config, ConnectionState, MQTTInterface, OutboxUnavailable, ReconnectionConfig, Stopped
from hawk.messages import Commit, Page, ReadPage, Recovered
from hawk.stores.memory import MemoryStore
from hawk.testing.history import judge
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, run

STALL_S = 30.0
CONFIG = Config(
    reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=0.5, max_retry_delay=2.0),
    health_check_interval=4.0,
    drain_s=2.0,
)

both_backends = pytest.mark.parametrize("backend", ["trio", "asyncio"])


@both_backends
def test_a_stalled_disk_holds_up_publishing_and_nothing_else(backend: Backend) -> None:
    async def stall() -> None:
        store = MemoryStore()
        async with Rehearsal() as rehearsal:
            async with rehearsal.open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG, outbox_store=store)) as mqtt:
                await mqtt.connect()
                await (await mqtt.publish("disk/stall", "before")).acknowledged()
                store.stall()
                began_at = anyio.current_time()
                published_at = []

                async def publish(number: int) -> None:
                    receipt = await mqtt.publish("disk/stall", str(number))
                    published_at.append(anyio.current_time())
                    await receipt.acknowledged()

                async with anyio.create_task_group() as tasks:
                    for number in range(20):
                        tasks.start_soon(publish, number)
                    await anyio.sleep(STALL_S)
                    assert published_at == []
                    store.flow()
                assert published_at == [began_at + STALL_S] * 20
                assert mqtt.stats["total_disconnections"] == 0
            pings = [each for each in rehearsal.broker.records if each.packet == "PINGREQ"]
            assert len(pings) >= STALL_S / CONFIG.health_check_interval
            assert len(rehearsal.broker.received()) == 21

    run(stall, backend=backend)


@both_backends
def test_the_first_link_says_nothing_until_the_disk_knows_of_its_session(backend: Backend) -> None:
    """A process that died in between would come back with Clean Start: what the broker keeps for it would be gone."""

    async def stall() -> None:
        store = MemoryStore()
        async with Rehearsal() as rehearsal:

            def asked() -> list[str]:
                return [each.packet for each in rehearsal.broker.records if each.direction == "in"]

            async with rehearsal.open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG, outbox_store=store)) as mqtt:
                store.stall()
                await mqtt.connect()
                async with anyio.create_task_group() as tasks:

                    async def subscribe() -> None:
                        async with mqtt.subscribe("in"):
                            await anyio.sleep(10.0)

                    tasks.start_soon(subscribe)
                    await anyio.sleep(0.9)
                    assert asked() == ["CONNECT"]
                    store.flow()
                    await anyio.sleep(0.05)
                    assert asked() == ["CONNECT", "SUBSCRIBE"]
            async with rehearsal.open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG, outbox_store=MemoryStore())) as mqtt:
                await mqtt.connect()
                async with mqtt.subscribe("in"):
                    assert asked().count("SUBSCRIBE") == 2

    run(stall, backend=backend)


@both_backends
def test_a_stop_does_not_wait_for_a_stalled_disk(backend: Backend) -> None:
    async def stall() -> float:
        store = MemoryStore()
        async with Rehearsal() as rehearsal:
            async with rehearsal.open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG, outbox_store=store)) as mqtt:
                await mqtt.connect()
                store.stall()
                refused = []

                async def publish() -> None:
                    with pytest.raises(Stopped):
                        await mqtt.publish("disk/stall", "never safe")
                    refused.append(anyio.current_time())

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(publish)
                    await anyio.sleep(1)
                    began_at = anyio.current_time()
                    await mqtt.disconnect()
                    took_s = anyio.current_time() - began_at
            assert len(refused) == 1
            return took_s

    assert run(stall, backend=backend) <= CONFIG.drain_s + 1.0


class NeverEndingStore:
    """A disk that hangs in everything but opening."""

    durable = True

    async def open(self) -> Recovered:
        return Recovered()

    async def commit(self, changes: Commit) -> None:
        await anyio.sleep_forever()

    async def page(self, request: ReadPage) -> Page:
        await anyio.sleep_forever()
        return Page((), end=True)

    async def aclose(self) -> None:
        await anyio.sleep_forever()


@both_backends
def test_a_stop_does_not_wait_for_a_disk_that_cannot_even_be_closed(backend: Backend) -> None:
    async def hang() -> float:
        async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
            ports = rehearsal.ports(CONFIG, outbox_store=NeverEndingStore())
            async with rehearsal.open_mqtt(CONFIG, ports=ports) as mqtt:
                await mqtt.connect()
                nursery.start_soon(publish_in_vain, mqtt)
                await anyio.sleep(1)
                began_at = anyio.current_time()
                await mqtt.disconnect()
                return anyio.current_time() - began_at

    async def publish_in_vain(mqtt: MQTTInterface) -> None:
        with pytest.raises(Stopped):
            await mqtt.publish("disk/hang", "never safe")

    assert run(hang, backend=backend) <= CONFIG.drain_s + 1.0


@both_backends
def test_a_failing_disk_is_told_with_its_cause_and_heals(backend: Backend) -> None:
    async def fail() -> None:
        store = MemoryStore()
        async with Rehearsal() as rehearsal:
            async with rehearsal.open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG, outbox_store=store)) as mqtt:
                await mqtt.connect()
                await (await mqtt.publish("disk/fail", "1")).acknowledged()
                store.fail("no space left on device")
                for _ in range(5):
                    with pytest.raises(OutboxUnavailable, match="no space left on device"):
                        await mqtt.publish("disk/fail", "refused")
                assert mqtt.connection_state is ConnectionState.CONNECTED
                assert mqtt.stats["accepted"] == 1
                store.fail("")
                await (await mqtt.publish("disk/fail", "2")).acknowledged()
                await anyio.sleep(61)
                assert mqtt.stats["total_disconnections"] == 0
            assert [payload for _, payload in rehearsal.broker.received()] == [b"1", b"2"]
            assert store.records == ()
            await store.open()  # the stop has closed it

    run(fail, backend=backend)


@both_backends
def test_after_a_power_cut_the_next_hawk_delivers_what_was_accepted_in_order(
    backend: Backend, seeds: Sequence[int]
) -> None:
    config = Config(reconnection=CONFIG.reconnection, cancel_drain_s=0.0, client_id="sensor-1")

    async def lose_power(seed: int) -> None:
        store = MemoryStore(sync_s=0.01)
        accepted: list[int] = []
        async with Rehearsal(seed=seed) as rehearsal:
            random = rehearsal.random
            cut_at = random.uniform(0.0, 0.3)
            rehearsal.network.latency_s = random.choice([0.0, 0.02])

            async def publish(first: int) -> None:
                for number in range(first, first + 20):
                    try:
                        await mqtt.publish("disk/crash", str(number), qos=random.choice([1, 2]))
                    except (OutboxUnavailable, Stopped):
                        return
                    accepted.append(number)

            with anyio.CancelScope() as power:
                ports = rehearsal.ports(config, outbox_store=store)
                async with rehearsal.open_mqtt(config, ports=ports) as mqtt, anyio.create_task_group() as tasks:
                    for publisher in range(3):
                        tasks.start_soon(publish, 100 * publisher)
                    await anyio.sleep(cut_at)
                    store.crash(random)
                    rehearsal.network.reset_all()
                    rehearsal.network.refuse()
                    power.cancel()
            rehearsal.network.allow()
            rehearsal.network.latency_s = 0.0
            async with rehearsal.open_mqtt(config, ports=rehearsal.ports(config, outbox_store=store)) as second:
                await second.connect()
                while second.stats["queue_size"]:
                    await anyio.sleep(0.1)
            arrived = [int(payload) for topic, payload in rehearsal.broker.received()]
            for publisher in range(3):
                own = range(100 * publisher, 100 * publisher + 20)
                verdict = judge([n for n in accepted if n in own], [n for n in arrived if n in own])
                assert not verdict.lost, f"seed {seed}: {verdict}"
                assert not verdict.reordered, f"seed {seed}: {verdict}"
            assert store.records == ()

    for seed in list(seeds)[:15]:
        run(lose_power, seed, backend=backend, seed=seed)
