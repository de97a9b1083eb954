"""A storm of inbound messages at QoS 0, 1 and 2 while links are cut, the broker restarts and hawk itself does: at QoS 1 and 2
nothing is lost and each comes in order, at QoS 2 nothing is handled twice. Virtual time; `--deep` runs every seed.
"""

from collections.abc import Sequence
from random import Random

import anyio
import pytest

from hawk import Config, MQTTInterface, ReceivedMessage, ReconnectionConfig
from hawk.packets import ConnectRequest
from hawk.ports import Dialer, Link
from hawk.stores.memory_inbox import MemoryInboxStore
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, run

MESSAGES = 400
CALM_S = 300.0
CONFIG = Config(
    client_id="receiver",
    receive_maximum=20,
    reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=0.1, max_retry_delay=0.5),
)


class Resuming:
    """A dialer that asks for the session that there is, as a process does that has kept its identity."""

    def __init__(self, inner: Dialer) -> None:
        self._inner = inner

    async def dial(self, request: ConnectRequest) -> Link:
        return await self._inner.dial(ConnectRequest(request.client_identifier, clean_start=False))


async def storm(seed: int, backend: Backend) -> None:
    random = Random(seed)
    store, handled, cut = MemoryInboxStore(), [], 0

    async def handle(message: ReceivedMessage) -> None:
        # Not a checkpoint between the end of the work and the return: what is written down is handled.
        await anyio.sleep(random.choice((0.0, 0.001, 0.05)))
        handled.append((message.qos, int(message.payload)))

    async with Rehearsal(seed=seed) as rehearsal:

        async def weather() -> None:
            nonlocal cut
            for _ in range(12):
                await anyio.sleep(random.uniform(0.05, 0.8))
                cut += 1
                match random.randrange(3):
                    case 0:
                        rehearsal.network.reset_all()
                    case 1:
                        await rehearsal.broker.kill()
                        await anyio.sleep(random.uniform(0.0, 1.0))
                        await rehearsal.broker.restart(sessions="keep")
                    case _:
                        rehearsal.network.stall()
                        await anyio.sleep(random.uniform(0.0, 0.2))
                        rehearsal.network.reset_all()
                        rehearsal.network.heal()

        async def publish() -> None:
            for number in range(MESSAGES):
                if rehearsal.broker.is_up:
                    rehearsal.broker.publish(f"in/{number % 3}", b"%d" % number, qos=qos_of(number))
                    sent.append(number)
                await anyio.sleep(random.uniform(0.0, 0.03))

        sent: list[int] = []
        async with anyio.create_task_group() as tasks:
            for process in range(3):
                ports = rehearsal.ports(CONFIG, dialer=Resuming(rehearsal.dialer(CONFIG)), inbox_store=store)
                async with anyio.create_task_group() as nursery:
                    mqtt = MQTTInterface(CONFIG, nursery, subscriptions=["in/#"], ports=ports)
                    await mqtt.connect()
                    async with mqtt.subscribe("in/#", qos=2, handler=handle):
                        if not process:
                            tasks.start_soon(publish)
                            tasks.start_soon(weather)
                        await anyio.sleep(3.0 if process < 2 else CALM_S)
                        if process == 2:
                            assert mqtt.stats["unhandled"] == 0
                    await mqtt.disconnect()
        session = rehearsal.broker.sessions["receiver"]
        assert (session.queued, session.in_flight, store.kept.records) == (0, 0, ())
        assert cut == 12
        check(handled, sent)


def qos_of(number: int) -> int:
    return number % 3


def check(handled: list[tuple[int, int]], sent: Sequence[int]) -> None:
    for qos in (1, 2):
        numbers = [number for its_qos, number in handled if its_qos == qos]
        assert list(dict.fromkeys(numbers)) == [number for number in sent if qos_of(number) == qos], f"QoS {qos}"
    exactly_once = [number for qos, number in handled if qos == 2]
    assert len(exactly_once) == len(set(exactly_once)), "QoS 2 twice"
    at_most_once = [number for qos, number in handled if not qos]
    assert at_most_once == sorted(set(at_most_once))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_storm_of_inbound_messages_loses_none_and_repeats_none_of_qos_2(
    backend: Backend, seeds: Sequence[int], deep: bool
) -> None:
    for seed in seeds if deep else seeds[:2]:
        run(lambda seed=seed: storm(seed, backend), backend=backend, seed=seed)
