"""A message that takes longer than any patience to be written: while the link gets on with it, it is a healthy link."""

import anyio
import pytest

from hawk import Config
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, run

BYTES_PER_S = 10_000
CONFIG = Config()
BOTH = pytest.mark.parametrize("backend", ["trio", "asyncio"])


@BOTH
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("takes_s", [30, 50, 70, 85])
def test_a_large_message_needs_one_link_and_its_time(backend: Backend, takes_s: int, qos: int) -> None:
    """A broker that counts no bytes but packets would end the link after one and a half keep alives, 90 seconds."""
    assert takes_s < 1.5 * CONFIG.health_check_interval

    async def publish() -> None:
        async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
            await mqtt.connect()
            rehearsal.network.bandwidth_bytes_per_s = BYTES_PER_S
            began_at = anyio.current_time()
            receipt = await mqtt.publish("t", bytes(takes_s * BYTES_PER_S), qos=qos)
            await receipt.acknowledged()
            assert anyio.current_time() - began_at == pytest.approx(takes_s, rel=0.01)
            assert mqtt.stats["total_connections"] == 1
            assert len(rehearsal.broker.received()) == 1

    run(publish, backend=backend)


@BOTH
def test_a_stream_of_messages_keeps_no_dead_link_alive(backend: Backend) -> None:
    """What can be written is written until the buffers are full: a peer that has vanished is found in time all the same."""

    async def publish() -> None:
        async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt, anyio.create_task_group() as tasks:
            await mqtt.connect()
            rehearsal.network.bandwidth_bytes_per_s = BYTES_PER_S

            async def publish_on() -> None:
                while True:
                    await mqtt.publish("t", bytes(20_000), qos=0)
                    await anyio.sleep(1.0)

            tasks.start_soon(publish_on)
            await anyio.sleep(200.0)
            assert mqtt.stats["total_connections"] == 1
            rehearsal.network.blackhole()
            silent_at = anyio.current_time()
            while not mqtt.stats["total_disconnections"]:
                await anyio.sleep(0.1)
            assert anyio.current_time() - silent_at <= 1.5 * CONFIG.health_check_interval + 10.0 + 0.2
            tasks.cancel_scope.cancel()

    run(publish, backend=backend)
