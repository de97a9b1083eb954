"""Mosquitto gets SIGTERM and starts again. What it holds it saves then, so nothing may be missing.

What is not asserted, because Mosquitto does not promise it: exactly once over a restart, not at QoS 2 either (it sends again
what was released before), and no loss when it is killed instead (it saves once a second).

Mosquitto 2.0 saves no session that began with Clean Start, and so begins the first of a hawk that has no file. What these
tests say is about the sessions after that, so each restarts the broker once before it looks.
"""

from typing import Any

import anyio
import mqtt5
import pytest
from anyio import to_thread

import hawk
from hawk.testing.history import lost, reordered

pytestmark = pytest.mark.anyio

MESSAGES = 2000
RESTARTS_AFTER = (500, 1200)
AT_ONCE = 20
DOWN_S = 0.2
PATIENCE_S = 40


async def restart(mosquitto: Any, *, down_s: float = 0.0) -> None:
    await to_thread.run_sync(mosquitto.terminate)
    await anyio.sleep(down_s)
    await to_thread.run_sync(mosquitto.start)


async def begin_a_session_that_is_saved(mosquitto: Any, mqtt: hawk.MQTTInterface) -> None:
    await mqtt.connect()
    await restart(mosquitto)
    while mqtt.stats["total_reconnections"] < 1:
        await anyio.sleep(0.01)


@pytest.mark.parametrize("qos", [1, 2])
async def test_every_message_arrives_in_order_while_the_broker_starts_again_twice(
    mosquitto: Any, witness: Any, qos: int
) -> None:
    numbers = [str(number).encode() for number in range(MESSAGES)]
    settings = {"client_id": "publisher", "initial_retry_delay": 0.05, "max_retry_delay": 0.2, "max_retries": None}
    interrupted_at: list[int] = []

    with anyio.fail_after(PATIENCE_S), witness(mosquitto.port, "count/#") as seen:
        async with (
            hawk.open_mqtt(mosquitto.url, overflow="wait", **settings) as mqtt,
            anyio.create_task_group() as tasks,
        ):
            await begin_a_session_that_is_saved(mosquitto, mqtt)

            async def restart_twice() -> None:
                for messages in RESTARTS_AFTER:
                    while seen.distinct < messages:
                        await anyio.sleep(0.005)
                    interrupted_at.append(mqtt.stats["acknowledged"])
                    await restart(mosquitto, down_s=DOWN_S)

            tasks.start_soon(restart_twice)
            receipts = []
            for start in range(0, MESSAGES, AT_ONCE):
                receipts += [await mqtt.publish("count/up", each, qos=qos) for each in numbers[start : start + AT_ONCE]]
                await anyio.sleep(0.01)
            for receipt in receipts:
                await receipt.acknowledged()
            stats = mqtt.stats
        await to_thread.run_sync(seen.wait_for, MESSAGES)

    assert max(interrupted_at) < MESSAGES, "the restarts came too late to interrupt anything"
    assert lost(numbers, seen.arrived) == []
    assert reordered(numbers, seen.arrived) == []
    assert seen.resumed == [True] * (1 + len(RESTARTS_AFTER))
    assert (stats["acknowledged"], stats["accepted"], stats["unknown"]) == (MESSAGES, MESSAGES, 0)
    assert stats["total_reconnections"] == 1 + len(RESTARTS_AFTER)


async def test_a_session_that_outlived_the_broker_keeps_what_came_meanwhile(mosquitto: Any, raw_client: Any) -> None:
    """A message that is published after the restart and before hawk is back reaches only a session that is still there."""
    settings = {"client_id": "subscriber", "initial_retry_delay": 1.0, "jitter_factor": 0.0}
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(mosquitto.url, **settings) as mqtt:
            await begin_a_session_that_is_saved(mosquitto, mqtt)
            async with mqtt.subscribe("news/#", qos=1) as messages:
                await restart(mosquitto)
                other = raw_client(mosquitto.port, "reporter")
                other.send(
                    mqtt5.PublishPacket("news/today", b"while you were away", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1)
                )
                puback = other.receive()
                other.close()
                assert mqtt.connection_state is hawk.ConnectionState.RECONNECTING, "hawk came back too soon to prove it"
                assert int(puback.reason_code) == 0, "nobody's session wants it"
                assert (await anext(messages)).text() == "while you were away"
            assert mqtt.stats["total_reconnections"] == 2
