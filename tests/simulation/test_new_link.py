"""The order of a new link, whatever the scheduler does: what is resumed, SUBSCRIBEs, birth, backlog (DESIGN section 5)."""

from itertools import groupby

import anyio
import pytest

from hawk import Config, Message
from hawk.testing import Rehearsal, run
from hawk.testing.broker.record import Record
from hawk.testing.virtual_time import Backend

SEEDS = 4
MANY_SEEDS = 100


def sort_of(record: Record) -> str:
    """What a packet is in that order."""
    if record.packet == "PUBLISH":
        return "resumed" if record.duplicate else "birth" if record.payload == b"here" else "backlog"
    return record.packet


async def order_of_the_second_link(seed: int, *, session: str, keeper_inbox: int) -> list[str]:
    birth = Message("status", b"here", 1)
    config = Config(broker="b", client_id="boat", birth=birth, max_inflight=6)
    async with Rehearsal(seed=seed) as rehearsal:
        ports = rehearsal.ports(config, keeper_inbox=keeper_inbox)
        broker = rehearsal.broker
        async with rehearsal.open_mqtt(config, ports=ports) as mqtt, anyio.create_task_group() as tasks:
            await mqtt.connect()
            await anyio.sleep(1)
            broker.acknowledge(False)
            for number in range(4):
                await mqtt.publish("up", str(number), qos=1 + number % 2)
            await anyio.sleep(1)
            await broker.kill()

            async def listen(topic_filter: str) -> None:
                async with mqtt.subscribe(topic_filter):
                    await anyio.sleep_forever()

            tasks.start_soon(listen, "a")
            tasks.start_soon(listen, "b")
            await anyio.sleep(0.1)
            for number in range(4, 8):
                await mqtt.publish("up", str(number))
            before = len(broker.records)
            broker.acknowledge(True)
            await broker.restart(sessions="keep" if session == "kept" else "lose")
            await mqtt.connect()
            await anyio.sleep(5)
            assert mqtt.stats["queue_size"] == 0
            said = [record for record in broker.records[before:] if record.direction == "in"]
            payloads = [int(each.payload) for each in said if each.packet == "PUBLISH" and each.payload != b"here"]
            assert payloads == list(range(8))
            tasks.cancel_scope.cancel()
    # A PUBREL here ends a QoS 2 flow of this link: it comes when its PUBREC does.
    return [sort for sort, _ in groupby(sort_of(record) for record in said if record.packet != "PUBREL")]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("keeper_inbox", [1, 1024])
def test_a_living_session_is_resumed_before_anything_else(backend: Backend, keeper_inbox: int, deep: bool) -> None:
    async def order(seed: int) -> list[str]:
        return await order_of_the_second_link(seed, session="kept", keeper_inbox=keeper_inbox)

    for seed in range(MANY_SEEDS if deep else SEEDS):
        found = run(order, seed, backend=backend, seed=seed)
        assert found == ["CONNECT", "resumed", "SUBSCRIBE", "birth", "backlog"], f"seed {seed}"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_new_session_is_subscribed_before_birth_and_everything_is_published_after_it(
    backend: Backend, deep: bool
) -> None:
    async def order(seed: int) -> list[str]:
        return await order_of_the_second_link(seed, session="lost", keeper_inbox=1)

    for seed in range(MANY_SEEDS if deep else SEEDS):
        found = run(order, seed, backend=backend, seed=seed)
        assert found == ["CONNECT", "SUBSCRIBE", "birth", "backlog"], f"seed {seed}"
