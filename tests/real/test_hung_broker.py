"""SIGSTOP is the cheapest hung broker: connections stand, bytes go out, nothing answers. Promise C6 against real time."""

import time
from typing import Any

import anyio
import pytest
from anyio import to_thread

import hawk

pytestmark = pytest.mark.anyio

KEEP_ALIVE_S = 1.0
PING_TIMEOUT_S = 0.5
SLACK_S = 0.4
"""For a machine that is busy with something else."""
PATIENCE_S = 30


@pytest.mark.parametrize("publishing", [False, True], ids=["idle", "publishing"])
async def test_a_hung_broker_is_found_in_time_and_loses_nothing(mosquitto: Any, witness: Any, publishing: bool) -> None:
    settings = {
        "client_id": "patient",
        "health_check_interval": KEEP_ALIVE_S,
        "ping_timeout_s": PING_TIMEOUT_S,
        "connection_timeout": 0.5,
        "initial_retry_delay": 0.1,
        "max_retry_delay": 0.3,
        "max_retries": None,
    }
    published = 0
    with anyio.fail_after(PATIENCE_S), witness(mosquitto.port, "hung/#") as seen:
        async with hawk.open_mqtt(mosquitto.url, **settings) as mqtt, anyio.create_task_group() as tasks:
            await mqtt.connect()
            events = mqtt.events()

            async def publish_on() -> None:
                nonlocal published
                while True:
                    await mqtt.publish("hung/up", str(published))
                    published += 1
                    await anyio.sleep(0.05)

            if publishing:
                tasks.start_soon(publish_on)
            await anyio.sleep(0.1)
            mosquitto.freeze()
            frozen_at = time.monotonic()
            async for event in events:
                if isinstance(event, hawk.StateChanged):
                    break
            took_s = time.monotonic() - frozen_at
            assert (event.before, event.after) == (hawk.ConnectionState.CONNECTED, hawk.ConnectionState.RECONNECTING)
            assert took_s <= 1.5 * KEEP_ALIVE_S + PING_TIMEOUT_S + SLACK_S

            last = await mqtt.publish("hung/up", "last")
            await anyio.sleep(0.8)
            assert not last.settled
            mosquitto.thaw()
            await last.acknowledged()
            assert mqtt.connection_state is hawk.ConnectionState.CONNECTED
            tasks.cancel_scope.cancel()
        expected = {str(number).encode() for number in range(published)} | {b"last"}
        await to_thread.run_sync(seen.wait_for, len(expected))
    assert set(seen.arrived) >= expected
