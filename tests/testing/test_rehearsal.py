"""A rehearsal as a user leaves it: in any weather, with links alive."""

import pytest

from hawk import Config
from hawk.testing import Rehearsal, run
from hawk.testing.virtual_time import Backend


async def left_in_bad_weather() -> int:
    async with Rehearsal(seed=1) as rehearsal:
        rehearsal.network.latency_s = 0.5
        stream = await rehearsal.network.connect()
        async with rehearsal.open_mqtt(Config()) as mqtt:
            await mqtt.connect()
            await (await mqtt.publish("weather", "bad")).acknowledged()
        await stream.send(b"\x10")
        rehearsal.network.latency_s = 60.0
    return len(rehearsal.broker.received())


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_rehearsal_ends_while_links_live_and_bytes_are_under_way(backend: Backend) -> None:
    assert run(left_in_bad_weather, backend=backend, seed=1) == 1
