"""hawk beside its peers: rate and client CPU for each acknowledged message, as ratios to paho-mqtt.

    uv run --group bench python tests/benchmarks/compare.py [--messages 20000] [--rounds 7] [--only NAME ...] [--json]

QoS 1, 100-byte payloads, MQTT 5, one Mosquitto of its own for all. Every contestant is a fresh child process that publishes
a warm-up, then the same prepared payloads, and stops its clocks when its library reports the last acknowledgement. CPU is
that of the child alone, all its threads and the kernel's work for it included. The parent is the subscriber: a raw socket
that only stores bytes while anybody is being measured, and afterwards demands each number exactly once and in order.
A round runs all contestants one after the other, and each round begins with another one. A ratio is taken within a round;
what is printed is the median of the rounds' ratios, with the lowest and the highest. So what slows the machine for a
minute slows both sides.

How each is driven, and why that is fair: in the way its own manual shows, with its own defaults, unless they make it slower.

- ceiling: a raw socket sends prebuilt packets in 64 KiB writes and counts the bytes of the PUBACKs. No client can beat it.
- hawk: `await mqtt.publish()` in a plain loop of one task, then `await receipt.acknowledged()` of the last; beside it
  `publish_many` with 1,000 messages a call. Defaults: room for 1,000 messages, 1,000 in flight. In memory, as all others are.
- paho-mqtt: `loop_start()`, `publish()` in a plain loop, `wait_for_publish()` on the last. Its window of 20 is lifted
  by `max_inflight_messages_set(0)`: with any bound it looks through all that is in flight at every PUBACK. This is what
  the ratios are to; beside it stands paho-mqtt as it comes, with its window of 20.
- gmqtt: `client.publish()` in a plain loop, which never waits and has no bound but the 65,535 identifiers; its storage says
  when nothing is left to acknowledge.
- mqttium: `await client.publish()` in a plain loop, then `await receipt.wait()` of the last; beside it its `publish_many`.

The figures are this machine's: say the load average with them, and compare ratios, not rates.
"""

import argparse
import asyncio
import json
import os
import resource
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import anyio

TOPIC = "bench/topic"
PAYLOAD_BYTES = 100
WARM_UP = 500
MOST_MESSAGES = 65_000
"""With the warm-up below 65,535: the ceiling has one identifier for each packet, and gmqtt no window."""
BATCH = 1000
CHUNK_BYTES = 65_536
PATIENCE_S = 30.0
PEER = "paho-mqtt"
MOSQUITTO_MAY_BE_IN = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
CONNECT = b"\x10\x12\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x05"
"""Clean start, keep alive 60 s, no properties; a client identifier of five bytes follows."""


class Figures(NamedTuple):
    """What one child measured, for each acknowledged message."""

    rate: float
    cpu_us: float


class Clock:
    """Wall time and CPU of this process between two moments."""

    def start(self) -> None:
        self._began_at, self._began_cpu_s = time.perf_counter(), self._cpu_s()

    def figures(self, messages: int) -> Figures:
        took_s = time.perf_counter() - self._began_at
        return Figures(messages / took_s, (self._cpu_s() - self._began_cpu_s) / messages * 1e6)

    def _cpu_s(self) -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime


Payloads = list[bytes]

# ------------------------------------------------------------------------------------- the contestants


def ceiling(port: int, warm_up: Payloads, payloads: Payloads) -> Figures:
    topic = struct.pack(">H", len(TOPIC)) + TOPIC.encode()
    packets = [
        b"\x32" + variable_byte_integer(len(topic) + 3 + len(payload)) + topic + struct.pack(">HB", number, 0) + payload
        for number, payload in enumerate([*warm_up, *payloads], 1)
    ]
    stream = raw_connection(port, b"ceil0")
    stream.setblocking(False)
    clock = Clock()
    exchange(stream, b"".join(packets[: len(warm_up)]), len(warm_up))
    measured = b"".join(packets[len(warm_up) :])
    clock.start()
    exchange(stream, measured, len(payloads))
    return clock.figures(len(payloads))


def exchange(stream: socket.socket, unsent: bytes, packets: int) -> None:
    """Send everything, and return when as many PUBACKs of four bytes have come."""
    view, unread = memoryview(unsent), 4 * packets
    while unread > 0:
        readable, writable, _ = select.select([stream], [stream] if view else [], [], PATIENCE_S)
        if readable:
            received = stream.recv(CHUNK_BYTES)
            assert received, "the broker closed the connection"
            unread -= len(received)
        if writable:
            view = view[stream.send(view[:CHUNK_BYTES]) :]
    assert unread == 0, "a PUBACK was longer than four bytes: the broker had something to say"


def hawk(backend: str, port: int, warm_up: Payloads, payloads: Payloads, *, many: bool) -> Figures:
    from hawk import open_mqtt

    async def run() -> Figures:
        async with open_mqtt(f"mqtt://127.0.0.1:{port}") as mqtt:
            await mqtt.connect()
            await (await mqtt.publish_many([(TOPIC, payload) for payload in warm_up])).acknowledged()
            clock = Clock()
            clock.start()
            if many:
                for start in range(0, len(payloads), BATCH):
                    receipt = await mqtt.publish_many([(TOPIC, payload) for payload in payloads[start : start + BATCH]])
            else:
                for payload in payloads:
                    receipt = await mqtt.publish(TOPIC, payload)
            await receipt.acknowledged()
            figures = clock.figures(len(payloads))
            assert mqtt.stats["acknowledged"] == len(warm_up) + len(payloads), mqtt.stats
        return figures

    return anyio.run(run, backend=backend)


def paho(window: int, port: int, warm_up: Payloads, payloads: Payloads) -> Figures:
    from paho.mqtt import client as paho_client
    from paho.mqtt.enums import CallbackAPIVersion

    client = paho_client.Client(CallbackAPIVersion.VERSION2, protocol=paho_client.MQTTv5)
    client.max_inflight_messages_set(window)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for payload in warm_up:
        told = client.publish(TOPIC, payload, qos=1)
    told.wait_for_publish(PATIENCE_S)
    clock = Clock()
    clock.start()
    for payload in payloads:
        told = client.publish(TOPIC, payload, qos=1)
    told.wait_for_publish(PATIENCE_S)
    figures = clock.figures(len(payloads))
    assert told.is_published()
    client.disconnect()
    client.loop_stop()
    return figures


def gmqtt(port: int, warm_up: Payloads, payloads: Payloads) -> Figures:
    from gmqtt import Client
    from gmqtt.storage import PersistentStorage

    async def run() -> Figures:
        unacknowledged = PersistentStorage()
        client = Client("gmqtt", persistent_storage=unacknowledged)
        await client.connect("127.0.0.1", port)
        for payload in warm_up:
            client.publish(TOPIC, payload, qos=1)
        await unacknowledged.wait_empty()
        clock = Clock()
        clock.start()
        for payload in payloads:
            client.publish(TOPIC, payload, qos=1)
        await unacknowledged.wait_empty()
        figures = clock.figures(len(payloads))
        await client.disconnect()
        return figures

    return asyncio.run(run())


def mqttium(port: int, warm_up: Payloads, payloads: Payloads, *, many: bool) -> Figures:
    from mqttium import MQTTProtocolVersion
    from mqttium.api import AsyncClient, PublishMessage

    async def run() -> Figures:
        client = AsyncClient("mqttium", protocol=MQTTProtocolVersion.MQTTv5)
        await client.connect("127.0.0.1", port)
        for payload in warm_up:
            receipt = await client.publish(TOPIC, payload, qos=1)
        await receipt.wait()
        clock = Clock()
        clock.start()
        if many:
            batch = await client.publish_many(PublishMessage(TOPIC, payload, qos=1) for payload in payloads)
            await batch.wait()
        else:
            for payload in payloads:
                receipt = await client.publish(TOPIC, payload, qos=1)
            await receipt.wait()
        figures = clock.figures(len(payloads))
        await client.disconnect()
        return figures

    return asyncio.run(run())


CONTESTANTS: dict[str, Callable[[int, Payloads, Payloads], Figures]] = {
    "ceiling": ceiling,
    PEER: partial(paho, 0),
    "paho-mqtt, 20": partial(paho, 20),
    "hawk trio": partial(hawk, "trio", many=False),
    "hawk asyncio": partial(hawk, "asyncio", many=False),
    "hawk trio, many": partial(hawk, "trio", many=True),
    "hawk asyncio, many": partial(hawk, "asyncio", many=True),
    "gmqtt": gmqtt,
    "mqttium": partial(mqttium, many=False),
    "mqttium, many": partial(mqttium, many=True),
}
"""All may be left out with `--only`, save paho-mqtt and the ceiling, which the others are compared with."""


def be(contestant: str, port: int, messages: int) -> None:
    """In the child: publish, and print what it cost."""
    numbered = [b"%08d" % number + b"x" * (PAYLOAD_BYTES - 8) for number in range(WARM_UP + messages)]
    figures = CONTESTANTS[contestant](port, numbered[:WARM_UP], numbered[WARM_UP:])
    print(json.dumps(figures))


# ------------------------------------------------------------------------- the broker and the subscriber


@contextmanager
def mosquitto() -> Iterator[int]:
    """The port of a broker that lives as long as the block."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path=MOSQUITTO_MAY_BE_IN)
    if program is None:
        sys.exit("mosquitto is not installed (Debian: apt-get install mosquitto)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "mosquitto.conf")
        settings.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n"
        )
        broker = subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL)
        try:
            yield port
        finally:
            broker.send_signal(signal.SIGTERM)
            broker.wait(PATIENCE_S)


def raw_connection(port: int, client_identifier: bytes) -> socket.socket:
    """A socket on which CONNECT and CONNACK have passed. Waits for a broker that is only just starting."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            stream = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.sendall(CONNECT + client_identifier)
    connack = stream.recv(CHUNK_BYTES)
    assert (connack[0], connack[3]) == (0x20, 0), f"CONNACK {connack.hex()}"
    return stream


def subscribe(port: int) -> socket.socket:
    """A subscriber at QoS 0: it never answers, so that the broker's work is the publisher's alone."""
    stream = raw_connection(port, b"count")
    request = struct.pack(">HBH", 1, 0, len(TOPIC)) + TOPIC.encode() + b"\x00"
    stream.sendall(b"\x82" + variable_byte_integer(len(request)) + request)
    suback = stream.recv(CHUNK_BYTES)
    assert (suback[0], suback[-1]) == (0x90, 0), f"SUBACK {suback.hex()}"
    return stream


def variable_byte_integer(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number % 128 | 128)
        number //= 128
    return bytes([*encoded, number])


def collect(stream: socket.socket, messages: int) -> None:
    """Store bytes until as many messages are there, then look: each number once, in order. Raises AssertionError."""
    remaining_length = 2 + len(TOPIC) + 1 + PAYLOAD_BYTES
    head = b"\x30" + variable_byte_integer(remaining_length) + struct.pack(">H", len(TOPIC)) + TOPIC.encode() + b"\x00"
    frame_bytes = len(head) + PAYLOAD_BYTES
    stored = bytearray()
    while len(stored) < messages * frame_bytes:
        received = stream.recv(1 << 20)
        assert received, "the broker closed the connection of the subscriber"
        stored += received
    for number in range(messages):
        frame = stored[number * frame_bytes : (number + 1) * frame_bytes]
        assert frame.startswith(head + b"%08d" % number), f"message {number} of {messages} is {bytes(frame)!r}"
    assert len(stored) == messages * frame_bytes, "more arrived than was published"


def measure(contestant: str, port: int, messages: int) -> Figures:
    """One child's run, and the proof that its messages arrived."""
    with subscribe(port) as stream:
        command = [sys.executable, __file__, "--be", contestant, "--port", str(port), "--messages", str(messages)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            collect(stream, WARM_UP + messages)
            printed, _ = child.communicate(timeout=PATIENCE_S)
        finally:
            child.kill()
            child.wait()
        if child.returncode:
            sys.exit(f"{contestant} failed")
        return Figures(*json.loads(printed))


# ------------------------------------------------------------------------------------------ the verdict


class Row(NamedTuple):
    """One contestant over all rounds. The ratios are to paho-mqtt: median, lowest, highest."""

    contestant: str
    rate: float
    rate_ratio: tuple[float, float, float]
    cpu_us: float
    cpu_ratio: tuple[float, float, float]
    of_ceiling: float


def row(contestant: str, rounds: list[dict[str, Figures]]) -> Row:
    own = [each[contestant] for each in rounds]
    peer = [each[PEER] for each in rounds]
    tops = [each["ceiling"] for each in rounds]
    return Row(
        contestant,
        statistics.median(figures.rate for figures in own),
        spread([mine.rate / others.rate for mine, others in zip(own, peer, strict=True)]),
        statistics.median(figures.cpu_us for figures in own),
        spread([mine.cpu_us / others.cpu_us for mine, others in zip(own, peer, strict=True)]),
        statistics.median(mine.rate / top.rate for mine, top in zip(own, tops, strict=True)),
    )


def spread(ratios: list[float]) -> tuple[float, float, float]:
    return statistics.median(ratios), min(ratios), max(ratios)


def tell(rows: list[Row], load: tuple[float, ...], rounds: int, messages: int) -> None:
    peers = ", ".join(f"{name} {version(name)}" for name in ("paho-mqtt", "gmqtt", "mqttium"))
    print(
        f"{rounds} rounds of {messages:,} messages; load average before {load[0]:.1f}, after {os.getloadavg()[0]:.1f}"
    )
    print(f"Python {sys.version.split()[0]}, {peers}\n")
    print(f"{'':18} {'msg/s':>9} {'x paho (low-high)':>20} {'CPU us':>8} {'x paho (low-high)':>20} {'of ceiling':>10}")
    for each in rows:
        rate = "{:.2f} ({:.2f}-{:.2f})".format(*each.rate_ratio)
        cpu = "{:.3f} ({:.3f}-{:.3f})".format(*each.cpu_ratio)
        print(f"{each.contestant:18} {each.rate:9,.0f} {rate:>20} {each.cpu_us:8.1f} {cpu:>20} {each.of_ceiling:10.0%}")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000, help=f"in each run, {MOST_MESSAGES:,} at most")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="every round's figures, for a program")
    parser.add_argument("--be", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not 1 <= options.messages <= MOST_MESSAGES or options.rounds < 1:
        parser.error(f"--messages is 1 to {MOST_MESSAGES}, --rounds at least 1")
    if options.be:
        be(options.be, options.port, options.messages)
        return
    try:
        load, _ = os.getloadavg(), [version(name) for name in ("paho-mqtt", "gmqtt", "mqttium")]
    except PackageNotFoundError as missing:
        sys.exit(f"{missing}: run with `uv run --group bench`")
    contestants = [name for name in CONTESTANTS if name in options.only or name in ("ceiling", PEER)]
    rounds: list[dict[str, Figures]] = []
    with mosquitto() as port:
        for number in range(options.rounds):
            first = number % len(contestants)
            order = contestants[first:] + contestants[:first]
            rounds.append({name: measure(name, port, options.messages) for name in order})
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    if options.json:
        print(json.dumps([{name: each._asdict() for name, each in figures.items()} for figures in rounds]))
    else:
        tell([row(name, rounds) for name in contestants], load, options.rounds, options.messages)


if __name__ == "__main__":
    main()
