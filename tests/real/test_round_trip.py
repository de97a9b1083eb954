"""hawk to Mosquitto and back: every QoS, a retained message, a subscription that several share, a backlog that bursts."""

from typing import Any

import anyio
import pytest

import hawk

pytestmark = pytest.mark.anyio

MESSAGES = 90
"""Below hawk's Receive Maximum, which Mosquitto 2.0.11 exceeds: the last test is about that."""
BACKLOG = 1000
PATIENCE_S = 20


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_what_is_published_comes_back_in_order_and_once(mosquitto: Any, qos: int) -> None:
    async with hawk.open_mqtt(mosquitto.url) as mqtt, mqtt.subscribe("round/#", qos=qos) as messages:
        await mqtt.connect()
        for number in range(MESSAGES):
            await mqtt.publish(f"round/trip/{number % 3}", {"number": number}, qos=qos)
        arrived = []
        with anyio.fail_after(PATIENCE_S):
            async for message in messages:
                assert message.qos == qos
                arrived.append(message.json()["number"])
                if len(arrived) == MESSAGES:
                    break
        with anyio.move_on_after(0.1):
            arrived.append((await anext(messages)).json()["number"])
    assert arrived == list(range(MESSAGES))


async def test_a_retained_message_waits_for_its_reader_and_an_empty_one_clears_it(mosquitto: Any) -> None:
    async with hawk.open_mqtt(mosquitto.url) as mqtt:
        await mqtt.connect()
        await (await mqtt.publish("state", "on", retain=True)).acknowledged()
        with anyio.fail_after(PATIENCE_S):
            async with mqtt.subscribe("state") as messages:
                message = await anext(messages)
                assert (message.text(), message.retain) == ("on", True)
        await (await mqtt.publish("state", b"", retain=True)).acknowledged()
        async with mqtt.subscribe("state") as messages:
            with anyio.move_on_after(0.1) as scope:
                await anext(messages)
            assert scope.cancelled_caught


async def test_those_who_share_a_subscription_get_each_message_once_between_them(mosquitto: Any) -> None:
    shares: dict[str, list[int]] = {"one": [], "other": []}
    subscribed = {name: anyio.Event() for name in shares}

    async def work(name: str) -> None:
        async with hawk.open_mqtt(mosquitto.url) as mqtt:
            await mqtt.connect()
            async with mqtt.subscribe("$share/crew/jobs/#", qos=1) as messages:
                subscribed[name].set()
                async for message in messages:
                    shares[name].append(int(message.text()))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as workers, hawk.open_mqtt(mosquitto.url) as mqtt:
            for name in shares:
                workers.start_soon(work, name)
                await subscribed[name].wait()
            await mqtt.connect()
            for number in range(MESSAGES):
                await mqtt.publish("jobs/new", str(number))
            while sum(map(len, shares.values())) < MESSAGES:
                await anyio.sleep(0.01)
            await anyio.sleep(0.1)
            workers.cancel_scope.cancel()
    assert sorted(shares["one"] + shares["other"]) == list(range(MESSAGES))
    assert all(shares.values()), "one of the two got nothing"


async def test_a_backlog_beyond_the_receive_maximum_arrives_in_order(mosquitto: Any) -> None:
    """Mosquitto 2.0.11 obeys the Receive Maximum at first, and then sends a whole window more for each acknowledgement
    (its issue 2301). Whoever speaks with it must bear that: hanging up would bring the same flood with the next link.
    """
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(mosquitto.url) as mqtt, mqtt.subscribe("backlog", qos=1) as messages:
            await mqtt.connect()
            await mqtt.publish_many([("backlog", str(number)) for number in range(BACKLOG)])
            arrived = []
            async for message in messages:
                arrived.append(int(message.text()))
                if len(set(arrived)) == BACKLOG:
                    break
            assert mqtt.stats["total_disconnections"] == 0
    assert arrived == list(range(BACKLOG))
