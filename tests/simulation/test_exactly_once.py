"""QoS 2 over a link that is cut at random: nothing lost, nothing twice, in order, from one hawk through the broker to another.

10,000 messages and 200 cuts under `--deep`, 600 and 12 by default. Guards C2 and C3.
"""

from random import Random

import anyio
import pytest

from hawk import Config, ConnectionState, MQTTInterface, ReconnectionConfig
from hawk.testing.network import Network
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, run

MESSAGES_BETWEEN_CUTS = 50
HEALED_WITHIN_S = 3600.0
RETRY = ReconnectionConfig(max_retries=None, initial_retry_delay=0.1, max_retry_delay=0.5)
SENDS = Config(client_id="sends", reconnection=RETRY, max_inflight=20, qos=2, message_queue_size=10_000)
RECEIVES = Config(client_id="receives", reconnection=RETRY, receive_maximum=20, qos=2)


async def cut(network: Network, random: Random) -> None:
    """Break every link, now or somewhere inside what it carries next."""
    match random.randrange(3):
        case 0:
            network.reset_all()
        case 1:
            network.cut_all()
        case 2:
            network.cut_after(random.randrange(1, 2_000))
            await anyio.sleep(random.uniform(0.0, 0.3))
            network.cut_after(None)
            network.reset_all()


async def receive(mqtt: MQTTInterface, received: list[bytes], ready: anyio.Event) -> None:
    async with mqtt.subscribe("storm", qos=2) as messages:
        ready.set()
        async for message in messages:
            taken = message.payload
            received.append(taken)


def least_disconnections(*hawks: MQTTInterface) -> int:
    return min(each.stats["total_disconnections"] for each in hawks)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_ten_thousand_messages_arrive_once_and_in_order_over_two_hundred_cuts(backend: Backend, deep: bool) -> None:
    cuts = 200 if deep else 12
    sent = [b"%d" % number for number in range(cuts * MESSAGES_BETWEEN_CUTS)]

    async def storm() -> None:
        received: list[bytes] = []
        async with (
            Rehearsal(seed=11) as rehearsal,
            rehearsal.open_mqtt(RECEIVES) as receiver,
            rehearsal.open_mqtt(SENDS) as sender,
            anyio.create_task_group() as tasks,
        ):
            network, random = rehearsal.network, rehearsal.random
            await receiver.connect()
            await sender.connect()
            ready = anyio.Event()
            tasks.start_soon(receive, receiver, received, ready)
            await ready.wait()
            network.latency_s, network.jitter_s = 0.01, 0.01
            waiting = [("storm", each) for each in sent]
            # A cut that falls together with another end of the link is made good.
            while waiting or least_disconnections(sender, receiver) < cuts:
                await sender.publish_many(waiting[:MESSAGES_BETWEEN_CUTS])
                del waiting[:MESSAGES_BETWEEN_CUTS]
                await anyio.sleep(random.uniform(0.0, 0.2))
                while not all(each.connection_state is ConnectionState.CONNECTED for each in (sender, receiver)):
                    await anyio.sleep(0.02)
                await anyio.sleep(random.uniform(0.0, 0.05))
                await cut(network, random)
            with anyio.fail_after(HEALED_WITHIN_S):
                while len(received) < len(sent) or sender.stats["queue_size"]:
                    await anyio.sleep(0.5)
            await anyio.sleep(10.0)
            assert [payload for _, payload in rehearsal.broker.received()] == sent, "at the broker"
            assert received == sent, "at the other hawk"
            assert sender.stats["acknowledged"] == len(sent)
            assert any(record.duplicate for record in rehearsal.broker.records), "some cuts fell into a message"
            tasks.cancel_scope.cancel()

    run(storm, backend=backend, limit_s=100_000.0)
