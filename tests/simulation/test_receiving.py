"""Receiving through the whole stack: a long backlog to a slow reader, over a lost link, and from a broker that floods.

Virtual time.
"""

from collections import Counter
from collections.abc import Sequence

import anyio
import pytest

from hawk import Config, MQTTInterface, ReceivedMessage, ReconnectionConfig
from hawk.subscription import Subscription
from hawk.testing.network_stream import CAPACITY_BYTES
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, run
from hawk.wiring import lane_capacity

BACKLOG = 1_500
FLOOD = 2_000
HANDLING_S = 0.001
PATIENCE_S = 600.0

CONFIG = Config(
    max_inflight=1,
    reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=0.1, max_retry_delay=0.1, jitter_factor=0.0),
)
BOUNDLESS = Config(receive_maximum=65_535)
"""What a CONNECT says in the name of a hawk that believes it said `CONFIG`: so the broker exceeds what hawk has allowed."""

both_backends = pytest.mark.parametrize("backend", ["trio", "asyncio"])


def publish(rehearsal: Rehearsal, messages: int) -> None:
    """Numbers in order, at QoS 1 and 2 by turns."""
    for number in range(messages):
        rehearsal.broker.publish("backlog", b"%d" % number, qos=qos_of(number))


def qos_of(number: int) -> int:
    return 1 + number % 2


async def receive(mqtt: MQTTInterface, rehearsal: Rehearsal, messages: int, *, reset_at: Sequence[int]) -> list[int]:
    """Handle a backlog, slowly, until nothing more comes. The link breaks while the messages of those places are handled."""
    handled: list[int] = []
    async with mqtt.subscribe("backlog", qos=2) as arriving:
        await mqtt.connect()
        publish(rehearsal, messages)
        while len(set(handled)) < messages:
            with anyio.fail_after(PATIENCE_S):
                handled.append(await handle_next(arriving))
            if len(handled) in reset_at:
                rehearsal.network.reset_all()
        with anyio.move_on_after(PATIENCE_S):
            while True:
                handled.append(await handle_next(arriving))
    (session,) = rehearsal.broker.sessions.values()
    assert (session.queued, session.in_flight) == (0, 0), "all is acknowledged"
    return handled


async def handle_next(arriving: Subscription) -> int:
    message = await anext(arriving)
    await anyio.sleep(HANDLING_S)
    number = int(message.payload)
    assert message.qos == qos_of(number)
    return number


def check(handled: list[int], messages: int, *, most_repeats: int) -> None:
    """Each message in order; what came again was of QoS 1."""
    assert list(dict.fromkeys(handled)) == list(range(messages))
    again = Counter(handled) - Counter(range(messages))
    assert {qos_of(number) for number in again} <= {1}
    assert again.total() <= most_repeats


@both_backends
def test_a_long_backlog_is_handled_in_order_and_qos_2_once_although_the_link_breaks(backend: Backend) -> None:
    async def rehearse() -> None:
        async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
            handled = await receive(mqtt, rehearsal, BACKLOG, reset_at=[BACKLOG // 2])
            assert mqtt.stats["total_connections"] == 2
            check(handled, BACKLOG, most_repeats=CONFIG.receive_maximum)

    run(rehearse, backend=backend)


@both_backends
def test_a_broker_that_floods_is_received_from_in_order_and_qos_2_once(backend: Backend) -> None:
    async def rehearse() -> None:
        async with Rehearsal() as rehearsal:
            flooded = rehearsal.ports(CONFIG, dialer=rehearsal.dialer(BOUNDLESS))
            async with rehearsal.open_mqtt(CONFIG, ports=flooded) as mqtt:
                handled = await receive(mqtt, rehearsal, FLOOD, reset_at=[100, 1_000])
                assert mqtt.stats["total_connections"] == 3, "only the network ends a link"
            check(handled, FLOOD, most_repeats=FLOOD // 2)

    run(rehearse, backend=backend)


@both_backends
def test_a_flood_that_is_handled_while_nothing_can_be_written_costs_no_link(backend: Backend) -> None:
    """Each acknowledgement travels alone then, and all of them wait on the lane."""
    assert lane_capacity(CONFIG) - 65_535 + 2 * CONFIG.receive_maximum < FLOOD

    async def rehearse() -> None:
        async with Rehearsal() as rehearsal:
            flooded = rehearsal.ports(CONFIG, dialer=rehearsal.dialer(BOUNDLESS))
            async with rehearsal.open_mqtt(CONFIG, ports=flooded) as mqtt:
                async with mqtt.subscribe("backlog", qos=2) as arriving:
                    await mqtt.connect()
                    publish(rehearsal, FLOOD)
                    await anyio.sleep(1.0)
                    rehearsal.network.stall()
                    # More than the network takes: the link's writer waits from here on.
                    await mqtt.publish("more", bytes(2 * CAPACITY_BYTES), qos=0)
                    for _ in range(FLOOD):
                        await handle_next(arriving)
                rehearsal.network.heal()
                await anyio.sleep(1.0)
                assert mqtt.stats["total_disconnections"] == 0
                (session,) = rehearsal.broker.sessions.values()
                assert (session.queued, session.in_flight) == (0, 0), "all is acknowledged"

    run(rehearse, backend=backend)


@pytest.mark.timeout(900)
@both_backends
def test_a_consumer_that_is_five_times_too_slow_holds_up_nothing_but_its_own_messages(
    backend: Backend, deep: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS.md, "slow consumer". 5,000 messages a second against a handler of 1,000; --deep runs 100,000 of them."""
    messages = 100_000 if deep else 2_000
    config = Config(health_check_interval=2.0, receive_queue_size=500, reconnection=CONFIG.reconnection)

    async def rehearse() -> None:
        handled: list[int] = []
        at_most_once = 0

        async def handle(message: ReceivedMessage) -> None:
            nonlocal at_most_once
            await anyio.sleep(HANDLING_S)
            if message.qos:
                handled.append(int(message.payload))
            else:
                at_most_once += 1

        async def publish_all(rehearsal: Rehearsal) -> None:
            for start in range(0, messages, 50):
                for number in range(start, start + 50):
                    # Every tenth beside them at QoS 0, on a topic of its own.
                    rehearsal.broker.publish("flood", b"%d" % number, qos=1)
                    if not number % 10:
                        rehearsal.broker.publish("flood/0", b"", qos=0)
                await anyio.sleep(0.01)

        async with Rehearsal() as rehearsal, rehearsal.open_mqtt(config) as mqtt:
            async with mqtt.subscribe("flood/#", handler=handle), anyio.create_task_group() as tasks:
                tasks.start_soon(publish_all, rehearsal)
                while len(handled) < messages:
                    before = anyio.current_time()
                    await (await mqtt.publish("meanwhile", "x")).acknowledged()
                    assert anyio.current_time() - before < 0.1, "publishing goes on"
                    held = sum(mqtt.stats["receive_slots"].values())
                    assert held <= config.receive_maximum
                    assert mqtt.stats["unhandled"] <= config.receive_maximum + config.receive_queue_size
                    await anyio.sleep(0.1)
                await anyio.sleep(1.0)
            stats = mqtt.stats
            slow = [record for record in caplog.records if getattr(record, "event", "") == "consumer too slow"]
            assert [record.levelname for record in slow] == ["WARNING"] * deep, "after a minute of it, once"
            assert handled == list(range(messages)), "nothing at QoS 1 is lost, and the order is kept"
            assert stats["total_disconnections"] == 0
            assert stats["handled"] + stats["inbound_dropped"] == stats["received"] == messages + messages // 10
            assert at_most_once == stats["handled"] - messages

    run(rehearse, backend=backend)
