"""Receiving at QoS 1, handled and acknowledged, beside paho-mqtt: rate and client CPU for each message, as ratios.

    uv run --group bench python tests/benchmarks/receive.py [--messages 20000] [--rounds 7] [--only NAME ...]

100-byte payloads, MQTT 5, one Mosquitto of its own for all. Every contestant is a fresh child process that subscribes and
says so; then the parent, a raw socket, publishes a warm-up and the prepared payloads as fast as the broker takes them. The
child's clocks run from the last message of the warm-up to the end of the handling of the last one. Each message is looked
at: its number must be the next one. CPU is that of the child alone. Rounds and ratios are those of `compare.py`.

How each is driven: hawk by `async for message in messages`, paho-mqtt by `on_message` after `loop_start()`; both acknowledge
by themselves. Afterwards each publishes at QoS 1 and waits for its PUBACK, so that its acknowledgements were written too.

The figures are this machine's: say the load average with them, and compare ratios, not rates.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial

import anyio
from compare import (
    PATIENCE_S,
    PAYLOAD_BYTES,
    PEER,
    TOPIC,
    WARM_UP,
    Clock,
    Figures,
    exchange,
    mosquitto,
    raw_connection,
    spread,
    statistics,
    variable_byte_integer,
)

READY = "ready\n"


def hawk(backend: str, port: int, messages: int, *, handler: bool) -> Figures:
    from hawk import open_mqtt

    async def run() -> Figures:
        async with open_mqtt(f"mqtt://127.0.0.1:{port}") as mqtt:
            await mqtt.connect()
            clock, number = Clock(), 0
            done = anyio.Event()

            def count(payload: bytes) -> None:
                nonlocal number
                assert int(payload[:8]) == number
                number += 1
                if number == WARM_UP:
                    clock.start()

            async def handle(message: object) -> None:
                count(message.payload)
                if number == WARM_UP + messages:
                    done.set()

            if handler:
                async with mqtt.subscribe(TOPIC, qos=1, handler=handle):
                    tell_ready()
                    await done.wait()
                    figures = clock.figures(messages)
            else:
                async with mqtt.subscribe(TOPIC, qos=1) as arriving:
                    tell_ready()
                    async for message in arriving:
                        count(message.payload)
                        if number == WARM_UP + messages:
                            break
                    figures = clock.figures(messages)
            await (await mqtt.publish("done", b"")).acknowledged()
            assert mqtt.stats["handled"] == WARM_UP + messages, mqtt.stats
        return figures

    return anyio.run(run, backend=backend)


def paho(port: int, messages: int) -> Figures:
    from paho.mqtt import client as paho_client
    from paho.mqtt.enums import CallbackAPIVersion

    client = paho_client.Client(CallbackAPIVersion.VERSION2, protocol=paho_client.MQTTv5)
    clock, number, done, subscribed = Clock(), 0, threading.Event(), threading.Event()

    def on_message(_client: object, _data: object, message: object) -> None:
        nonlocal number
        assert int(message.payload[:8]) == number
        number += 1
        if number == WARM_UP:
            clock.start()
        if number == WARM_UP + messages:
            done.set()

    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe(TOPIC, qos=1)
    assert subscribed.wait(PATIENCE_S)
    tell_ready()
    assert done.wait(PATIENCE_S), f"only {number} messages came"
    figures = clock.figures(messages)
    client.publish("done", b"", qos=1).wait_for_publish(PATIENCE_S)
    client.disconnect()
    client.loop_stop()
    return figures


def tell_ready() -> None:
    sys.stdout.write(READY)
    sys.stdout.flush()


CONTESTANTS: dict[str, Callable[[int, int], Figures]] = {
    PEER: paho,
    "hawk trio": partial(hawk, "trio", handler=False),
    "hawk asyncio": partial(hawk, "asyncio", handler=False),
    "hawk trio, handler": partial(hawk, "trio", handler=True),
    "hawk asyncio, handler": partial(hawk, "asyncio", handler=True),
}


def feed(port: int, messages: int) -> None:
    """Publish the warm-up and as many messages at QoS 1, as fast as the broker takes them."""
    topic = struct.pack(">H", len(TOPIC)) + TOPIC.encode()
    packets = []
    for number in range(WARM_UP + messages):
        payload = b"%08d" % number + b"x" * (PAYLOAD_BYTES - 8)
        head = b"\x32" + variable_byte_integer(len(topic) + 3 + len(payload)) + topic
        packets.append(head + struct.pack(">HB", number + 1, 0) + payload)
    with raw_connection(port, b"feed0") as stream:
        stream.setblocking(False)
        exchange(stream, b"".join(packets), len(packets))


def measure(contestant: str, port: int, messages: int) -> Figures:
    """One child's run."""
    command = [sys.executable, __file__, "--be", contestant, "--port", str(port), "--messages", str(messages)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == READY, f"{contestant} did not subscribe"
        feed(port, messages)
        printed, _ = child.communicate(timeout=PATIENCE_S)
    finally:
        child.kill()
        child.wait()
    if child.returncode:
        sys.exit(f"{contestant} failed")
    return Figures(*json.loads(printed))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--be", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        print(json.dumps(CONTESTANTS[options.be](options.port, options.messages)))
        return
    contestants = [name for name in CONTESTANTS if name in options.only or name == PEER]
    rounds: list[dict[str, Figures]] = []
    load = os.getloadavg()[0]
    with mosquitto() as port:
        for number in range(options.rounds):
            first = number % len(contestants)
            order = contestants[first:] + contestants[:first]
            rounds.append({name: measure(name, port, options.messages) for name in order})
    print(
        f"{options.rounds} rounds of {options.messages:,}; load average before {load:.1f}, after {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':22} {'msg/s':>9} {'x paho (low-high)':>20} {'CPU us':>8} {'x paho (low-high)':>20}")
    for name in contestants:
        own, peer = [each[name] for each in rounds], [each[PEER] for each in rounds]
        rate = "{:.2f} ({:.2f}-{:.2f})".format(*spread([a.rate / b.rate for a, b in zip(own, peer, strict=True)]))
        cpu = "{:.3f} ({:.3f}-{:.3f})".format(*spread([a.cpu_us / b.cpu_us for a, b in zip(own, peer, strict=True)]))
        median_rate = statistics.median(each.rate for each in own)
        median_cpu = statistics.median(each.cpu_us for each in own)
        print(f"{name:22} {median_rate:9,.0f} {rate:>20} {median_cpu:8.1f} {cpu:>20}")


if __name__ == "__main__":
    main()
