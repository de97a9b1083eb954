"""MQTT resilience, start to end: the usage examples of the specification, and an outage, as one program.

    python examples/mqtt_resilience_example.py [trio|asyncio]

It needs nothing but the package: the broker runs inside, on a free port of 127.0.0.1. It is stopped in the middle and comes
back, and every step asserts what hawk promises about it.
"""

import logging
import sys

import anyio

from hawk import Config, ConnectionState, MQTTInterface, ReconnectionConfig, StateChanged
from hawk.testing.broker import Broker

READINGS = 40


async def basic_usage(mqtt_interface: MQTTInterface) -> None:
    """Connect with automatic retry, publish with automatic queuing, look at the state and the statistics."""
    await mqtt_interface.connect()
    await mqtt_interface.publish("sensors/temperature", {"value": 23.5})

    if mqtt_interface.connection_state == ConnectionState.CONNECTED:
        print("Connected and ready")
    stats = mqtt_interface.stats
    print(f"Messages queued: {stats['messages_queued']}")
    print(f"Messages published: {stats['messages_published']}")
    assert mqtt_interface.connection_state is ConnectionState.CONNECTED


async def monitoring(mqtt_interface: MQTTInterface) -> None:
    """Connection health, as the specification reads it."""
    state = mqtt_interface.connection_state
    print(f"Connection state: {state.value}")
    stats = mqtt_interface.stats
    print(f"Total connections: {stats['total_connections']}")
    print(f"Total reconnections: {stats['total_reconnections']}")
    print(f"Queue size: {stats['queue_size']}")
    print(f"Consecutive failures: {stats['consecutive_failures']}")


async def outage(mqtt_interface: MQTTInterface, broker: Broker) -> None:
    """The broker stops while readings come in, and returns: nothing is lost, and the order is kept."""
    receipts = []
    for number in range(READINGS):
        if number == READINGS // 4:
            await broker.kill()
        if number == READINGS * 3 // 4:
            await monitoring(mqtt_interface)
            assert mqtt_interface.connection_state is ConnectionState.RECONNECTING
            assert mqtt_interface.stats["queue_size"] > 0
            await broker.restart()
        receipts.append(await mqtt_interface.publish("sensors/reading", {"number": number}))
        await anyio.sleep(0.02)
    with anyio.fail_after(10):
        for receipt in receipts:
            await receipt.acknowledged()

    arrived = [payload for topic, payload in broker.received() if topic == "sensors/reading"]
    first_arrivals = list(dict.fromkeys(arrived))
    assert first_arrivals == [b'{"number":%d}' % number for number in range(READINGS)]
    assert mqtt_interface.stats["total_reconnections"] >= 1
    print(f"Outage survived: {READINGS} sent, {len(first_arrivals)} delivered, in order")


async def watch(mqtt_interface: MQTTInterface, seen: list[ConnectionState]) -> None:
    """Every change of state, as it happens."""
    async for event in mqtt_interface.events():
        if isinstance(event, StateChanged):
            print(f"  {event.before.value} -> {event.after.value}{f' ({event.cause})' if event.cause else ''}")
            seen.append(event.after)


async def main() -> None:
    """All of it against one broker."""
    reconnection_config = ReconnectionConfig(
        max_retries=10,
        initial_retry_delay=0.1,
        max_retry_delay=1.0,
        backoff_multiplier=2.0,
        jitter_factor=0.1,
        connection_timeout=5.0,
    )
    seen: list[ConnectionState] = []
    async with Broker() as broker:
        port = await broker.listen()
        config = Config(broker="127.0.0.1", port=port, reconnection=reconnection_config, message_queue_size=1000)
        async with anyio.create_task_group() as nursery:
            mqtt_interface = MQTTInterface(config, nursery)
            nursery.start_soon(watch, mqtt_interface, seen)
            await basic_usage(mqtt_interface)
            await monitoring(mqtt_interface)
            await outage(mqtt_interface, broker)
            report = await mqtt_interface.disconnect()
            print(f"Disconnected: {report.abandoned} abandoned")

        stats = mqtt_interface.stats
        assert mqtt_interface.connection_state is ConnectionState.DISCONNECTED
        assert stats["messages_published"] == READINGS + 1
        assert stats["messages_failed"] == 0
        assert stats["queue_size"] == 0
        assert report.abandoned == 0
        assert seen[0] is ConnectionState.CONNECTING
        assert seen[-1] is ConnectionState.DISCONNECTED
        assert ConnectionState.RECONNECTING in seen


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="  %(levelname)s %(message)s")
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "trio")
