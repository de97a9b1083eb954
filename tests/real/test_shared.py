"""Three hawks share one subscription on Mosquitto; overlapping subscriptions there come as a copy for each."""

from typing import Any

import anyio
import pytest

import hawk

pytestmark = pytest.mark.anyio

MESSAGES = 300
PATIENCE_S = 20
CREW = ("one", "two", "three")


async def test_every_message_is_handled_by_one_of_three_and_none_by_two_while_the_links_hold(mosquitto: Any) -> None:
    handled: dict[str, list[int]] = {name: [] for name in CREW}
    total = 0
    subscribed = {name: anyio.Event() for name in CREW}

    async def work(name: str, done: anyio.Event) -> None:
        nonlocal total

        async def handle(message: hawk.ReceivedMessage) -> None:
            nonlocal total
            handled[name].append(message.json())
            total += 1
            if total >= MESSAGES:
                done.set()

        async with hawk.open_mqtt(mosquitto.url) as mqtt:
            await mqtt.connect()
            async with mqtt.subscribe("$share/crew/jobs/+", qos=1, handler=handle, workers=3):
                subscribed[name].set()
                await done.wait()
                # A second copy would come as quickly as the first.
                await anyio.sleep(0.1)

    done = anyio.Event()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as workers, hawk.open_mqtt(mosquitto.url) as mqtt:
            for name in CREW:
                workers.start_soon(work, name, done)
            for name in CREW:
                await subscribed[name].wait()
            await mqtt.connect()
            await mqtt.publish_many([(f"jobs/{number % 7}", str(number)) for number in range(MESSAGES)])
    everything = [number for name in CREW for number in handled[name]]
    assert sorted(everything) == list(range(MESSAGES))
    assert all(handled.values()), "one of the three got nothing"


async def test_each_of_overlapping_subscriptions_gets_each_message_once(mosquitto: Any) -> None:
    """Mosquitto sends a copy for each; the subscription identifiers tell whose it is."""
    with anyio.fail_after(PATIENCE_S):
        async with (
            hawk.open_mqtt(mosquitto.url) as mqtt,
            mqtt.subscribe("a/#", qos=1) as wide,
            mqtt.subscribe("a/+", qos=2) as narrow,
        ):
            await mqtt.connect()
            for number in range(10):
                await mqtt.publish("a/b", str(number), qos=2)
            for messages in (wide, narrow):
                assert [(await anext(messages)).json() for _ in range(10)] == list(range(10))
            await anyio.sleep(0.1)
            with anyio.move_on_after(0.1) as nothing_more:
                await anext(wide)
            assert nothing_more.cancelled_caught
            with anyio.move_on_after(0.1) as nothing_more:
                await anext(narrow)
            assert nothing_more.cancelled_caught


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_rejected_message_does_not_come_again_and_the_link_stays(mosquitto: Any, qos: int) -> None:
    """Mosquitto takes a PUBACK or PUBREC with 0x83 for the end of the message."""
    config = hawk.Config.from_url(mosquitto.url, client_id="rejects")
    with anyio.fail_after(PATIENCE_S):
        for expected in (["bad", "good"], []):
            async with hawk.open_mqtt(config) as mqtt, mqtt.subscribe("in", qos=2, ack="manual") as messages:
                await mqtt.connect()
                for payload in expected:
                    await mqtt.publish("in", payload, qos=qos)
                    message = await anext(messages)
                    assert message.text() == payload
                    await (message.acknowledge() if payload == "good" else message.reject("why not"))
                with anyio.move_on_after(0.1) as nothing_more:
                    await anext(messages)
                assert nothing_more.cancelled_caught
                assert mqtt.stats["total_disconnections"] == 0


async def test_a_retained_message_is_for_the_block_that_asked(mosquitto: Any) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(mosquitto.url) as mqtt:
            await mqtt.connect()
            await (await mqtt.publish("state", "on", retain=True)).acknowledged()
            async with mqtt.subscribe("state") as first:
                assert (await anext(first)).retain
                async with mqtt.subscribe("state") as second:
                    assert (await anext(second)).retain
                    await mqtt.publish("state", "off")
                    for messages in (first, second):
                        message = await anext(messages)
                        assert (message.text(), message.retain) == ("off", False)
