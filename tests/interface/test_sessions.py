"""Several brokers, of which each has a session of its own: none of them ever takes a new message for a repeat of another.

What shows that they share nothing is remembered as long as the sessions may live: over a restart, over `disconnect()` and
`connect()`, and over a change of the configuration.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, TaskGroup

from hawk import Config, MQTTInterface, open_mqtt
from hawk.connecting import Endpoint
from hawk.errors import Unreachable
from hawk.links.stream import close_forcefully, open_link
from hawk.packets import ConnectRequest
from hawk.ports import Link, OutboxStore, Ports
from hawk.stores.memory import MemoryStore
from hawk.testing import VirtualWallClock
from hawk.testing.broker import Broker
from hawk.testing.broker.behaviour import OnTaken

PATIENCE_S = 600


class Harbour:
    """A `ports.Dialer` to in-process brokers, by host. `requests` are all it was asked for, `taken` what each has taken."""

    def __init__(self, *hosts: str) -> None:
        self.taken: dict[str, list[bytes]] = {host: [] for host in hosts}
        self.brokers = {host: Broker(on_taken=self._note(host)) for host in hosts}
        self.requests: list[ConnectRequest] = []
        self.crashes = False

    def _note(self, host: str) -> OnTaken:
        return lambda client_identifier, topic, payload: self.taken[host].append(payload)

    def config(self, *hosts: str, **settings: Any) -> Config:
        usual: dict[str, Any] = {"client_id": "boat", "jitter_factor": 0.0, "max_retries": None, "max_retry_delay": 4.0}
        endpoints = tuple(f"mqtt://{host}" for host in hosts or self.brokers)
        return Config.from_mapping(usual | {"endpoints": endpoints, "failback_s": 3600.0} | settings)

    def ports(self, outbox_store: OutboxStore | None) -> Ports:
        return Ports(self, outbox_store, VirtualWallClock(), Random(3))

    @asynccontextmanager
    async def hawk(self, config: Config, store: OutboxStore | None = None) -> AsyncIterator[MQTTInterface]:
        async with open_mqtt(config, ports=self.ports(store)) as mqtt:
            with anyio.fail_after(PATIENCE_S):
                await mqtt.connect()
            yield mqtt

    async def dial(self, request: ConnectRequest) -> Link:
        assert request.endpoint is not None
        if self.crashes:
            raise AssertionError("a mistake in hawk itself")
        self.requests.append(request)
        return await open_link(await self._connect(request.endpoint), config=self.config(), request=request)

    async def reach(self, endpoint: Endpoint) -> None:
        await close_forcefully(await self._connect(endpoint))

    async def _connect(self, endpoint: Endpoint) -> ByteStream:
        await anyio.lowlevel.checkpoint()
        try:
            return self.brokers[endpoint.host].connect()
        except ConnectionRefusedError as error:
            raise Unreachable(f"{endpoint}: refused") from error


@asynccontextmanager
async def harbour(*hosts: str) -> AsyncIterator[Harbour]:
    async with AsyncExitStack() as stack:
        made = Harbour(*hosts)
        for broker in made.brokers.values():
            await stack.enter_async_context(broker)
        yield made


async def deliver(mqtt: MQTTInterface, payload: str) -> None:
    with anyio.fail_after(PATIENCE_S):
        await (await mqtt.publish("t", payload, qos=2)).acknowledged()


async def leave_half_way(mqtt: MQTTInterface, broker: Broker) -> None:
    """The broker takes a message at QoS 2, dies before it has answered, and knows of it when it comes back."""
    broker.acknowledge(False)
    await mqtt.publish("t", "first", qos=2)
    await anyio.sleep(1.0)
    await broker.kill()
    broker.acknowledge(True)


@pytest.fixture
def store() -> MemoryStore:
    """The disk of one outbox, which the next process finds as well."""
    return MemoryStore()


async def test_after_a_failover_the_next_process_does_not_go_on_with_the_session_of_the_first_broker(
    store: MemoryStore,
) -> None:
    async with harbour("a", "b") as port:
        async with port.hawk(port.config(), store) as mqtt:
            await leave_half_way(mqtt, port.brokers["a"])
            await deliver(mqtt, "second")
            assert port.taken == {"a": [b"first"], "b": [b"first", b"second"]}
        await port.brokers["a"].restart()
        async with port.hawk(port.config(), store) as mqtt:
            await deliver(mqtt, "good")
        assert port.taken["a"] == [b"first", b"good"]
        assert port.requests[-1].clean_start


async def test_nor_does_a_second_connect_on_one_interface(store: MemoryStore) -> None:
    async with harbour("a", "b") as port, port.hawk(port.config(), store) as mqtt:
        await leave_half_way(mqtt, port.brokers["a"])
        await deliver(mqtt, "second")
        await mqtt.disconnect()
        await port.brokers["a"].restart()
        await mqtt.connect()
        await deliver(mqtt, "good")
        assert port.taken["a"] == [b"first", b"good"]


async def test_nor_a_process_whose_configuration_names_the_first_broker_again(store: MemoryStore) -> None:
    async with harbour("a", "b") as port:
        async with port.hawk(port.config("a"), store) as mqtt:
            await leave_half_way(mqtt, port.brokers["a"])
        async with port.hawk(port.config("b"), store) as mqtt:
            await deliver(mqtt, "second")
        await port.brokers["a"].restart()
        async with port.hawk(port.config("a"), store) as mqtt:
            await deliver(mqtt, "good")
        assert port.taken == {"a": [b"first", b"good"], "b": [b"first", b"second"]}


async def test_where_a_broker_knows_the_session_of_another_each_goes_on_with_it(store: MemoryStore) -> None:
    """A cluster: two names of one broker."""
    async with harbour("a") as port:
        port.brokers["b"] = port.brokers["a"]
        for first, second in (("a", "b"), ("b", "a"), ("a", "b")):
            async with port.hawk(port.config(first, second), store) as mqtt:
                await deliver(mqtt, first)
        assert [request.clean_start for request in port.requests] == [True, False, False]


async def test_what_is_known_of_the_brokers_outlives_a_client_identifier(store: MemoryStore) -> None:
    async with harbour("a", "b") as port:
        async with port.hawk(port.config(), store) as mqtt:
            await leave_half_way(mqtt, port.brokers["a"])
            await deliver(mqtt, "second")
        await port.brokers["a"].restart()
        async with port.hawk(port.config(client_id="ship"), store) as mqtt:
            await port.brokers["a"].kill()
            await deliver(mqtt, "third")
        last = port.requests[-1]
        assert (last.client_identifier, str(last.endpoint), last.clean_start) == ("ship", "b:1883", True)


class Forgiving:
    """A nursery for which a crash is not the end."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.crashes = 0
        self._tasks = tasks

    def start_soon(self, func: Callable[..., Awaitable[object]], /, *args: Any, name: object = None) -> None:
        self._tasks.start_soon(self._run, func, *args)

    async def _run(self, func: Callable[..., Awaitable[object]], *args: Any) -> None:
        try:
            await func(*args)
        except ExceptionGroup:
            self.crashes += 1


async def test_after_a_crash_no_session_is_gone_on_with() -> None:
    """What was sent is not known any more."""
    async with harbour("a", "b") as port, anyio.create_task_group() as tasks:
        nursery = Forgiving(tasks)
        mqtt = MQTTInterface(port.config(), nursery, ports=port.ports(None))
        await mqtt.connect()
        port.crashes = True
        await leave_half_way(mqtt, port.brokers["a"])
        await anyio.sleep(60.0)
        assert nursery.crashes == 1
        port.crashes = False
        await port.brokers["a"].restart()
        await port.brokers["b"].kill()
        await mqtt.connect()
        await deliver(mqtt, "good")
        assert port.taken["a"] == [b"first", b"good"]
        await port.brokers["a"].kill()
        await port.brokers["b"].restart()
        await deliver(mqtt, "last")
        last = port.requests[-1]
        assert (str(last.endpoint), last.clean_start) == ("b:1883", True)
        await mqtt.disconnect()


@pytest.mark.parametrize("client_id", ["boat", None, ""])
async def test_without_a_file_a_second_connect_knows_what_the_first_has_left_at_a_broker(client_id: str | None) -> None:
    async with harbour("a", "b") as port, port.hawk(port.config(client_id=client_id)) as mqtt:
        await leave_half_way(mqtt, port.brokers["a"])
        await mqtt.disconnect(drain_s=0.0)
        await mqtt.connect()
        await port.brokers["a"].restart()
        await port.brokers["b"].kill()
        await deliver(mqtt, "good")
        assert port.taken["a"] == [b"first", b"good"]


async def test_without_a_file_a_second_connect_goes_on_with_the_session() -> None:
    async with harbour("a") as port, anyio.create_task_group() as tasks:
        broker = port.brokers["a"]
        mqtt = MQTTInterface(port.config(), tasks, subscriptions=["in/#"], ports=port.ports(None))
        await mqtt.connect()
        await anyio.sleep(1.0)
        broker.acknowledge(False)
        await mqtt.publish("t", "first", qos=2)
        await anyio.sleep(1.0)
        await mqtt.disconnect(drain_s=0.0)
        broker.acknowledge(True)
        broker.publish("in/1", b"meanwhile", qos=1)
        async with mqtt.subscribe("in/#") as messages:
            await mqtt.connect()
            with anyio.fail_after(PATIENCE_S):
                assert (await anext(messages)).payload == b"meanwhile"
            await deliver(mqtt, "good")
        assert [payload for payload in port.taken["a"] if payload != b"meanwhile"] == [b"first", b"good"]
        assert [request.clean_start for request in port.requests] == [True, False]
        await mqtt.disconnect()
