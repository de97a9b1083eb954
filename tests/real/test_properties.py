"""Properties, topic aliases and request and response against Mosquitto, which keeps none of hawk's opinions."""

from typing import Any

import anyio
import pytest

import hawk

pytestmark = pytest.mark.anyio

PATIENCE_S = 20
TOPICS = 30
"""More than the ten aliases that Mosquitto takes by default."""
MESSAGES = 90
QUICK = {"initial_retry_delay": 0.05, "max_retry_delay": 0.2, "max_retries": None}


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_properties_go_and_come_whole(mosquitto: Any, qos: int) -> None:
    whole = hawk.Properties(
        expiry_s=3600,
        text=True,
        content_type="text/plain",
        response_topic="answers/\u00e9",
        correlation_data=b"\x00\xff",
        user=(("n", "v"), ("n", ""), ("\u00e9", "\u00e9")),
    )
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(mosquitto.url) as mqtt, mqtt.subscribe("whole", qos=2) as messages:
            await mqtt.connect()
            await mqtt.publish("whole", "x", qos=qos, properties=whole)
            message = await anext(messages)
    assert message.properties.expiry_s is not None
    assert 3590 <= message.properties.expiry_s <= 3600
    assert message.properties._replace(expiry_s=3600) == whole


async def test_aliases_are_understood_also_after_a_restart(start_mosquitto: Any) -> None:
    broker = start_mosquitto()
    with anyio.fail_after(PATIENCE_S):
        async with (
            hawk.open_mqtt(broker.url, client_id="aliases", **QUICK) as mqtt,
            mqtt.subscribe("alias/#", qos=1) as messages,
        ):
            await mqtt.connect()
            arrived = set()
            for half in range(2):
                for number in range(MESSAGES):
                    await mqtt.publish(f"alias/{number % TOPICS}", f"{half}/{number}")
                async for message in messages:
                    half_of, number_of = message.text().split("/")
                    assert message.topic == f"alias/{int(number_of) % TOPICS}"
                    arrived.add((int(half_of), int(number_of)))
                    if len(arrived) == (half + 1) * MESSAGES:
                        break
                if not half:
                    await anyio.to_thread.run_sync(broker.terminate)
                    await anyio.to_thread.run_sync(broker.start)
                    await mqtt.connect()
            assert mqtt.stats["dead_lettered"] == 0
            assert mqtt.stats["total_disconnections"] == 1


async def test_requests_are_answered(mosquitto: Any) -> None:
    async def serve(other: hawk.MQTTInterface, ready: anyio.Event) -> None:
        async with other.subscribe("double") as requests:
            ready.set()
            async for request in requests:
                answer_to = request.properties.response_topic
                assert answer_to is not None
                mark = hawk.Properties(correlation_data=request.properties.correlation_data)
                await other.publish(answer_to, 2 * request.json(), properties=mark)

    answers: dict[int, int] = {}

    async def ask(mqtt: hawk.MQTTInterface, number: int) -> None:
        answers[number] = (await mqtt.request("double", number, timeout_s=PATIENCE_S)).json()

    with anyio.fail_after(PATIENCE_S):
        async with (
            hawk.open_mqtt(mosquitto.url) as other,
            hawk.open_mqtt(mosquitto.url) as mqtt,
            anyio.create_task_group() as tasks,
        ):
            await other.connect()
            await mqtt.connect()
            ready = anyio.Event()
            tasks.start_soon(serve, other, ready)
            await ready.wait()
            async with anyio.create_task_group() as asking:
                for number in range(20):
                    asking.start_soon(ask, mqtt, number)
            with pytest.raises(hawk.NoResponse):
                await mqtt.request("nobody", "?", timeout_s=0.1)
            tasks.cancel_scope.cancel()
    assert answers == {number: 2 * number for number in range(20)}
