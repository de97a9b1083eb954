"""What an outbox file costs: rates beside the peers', the latency of one publish, and outages of many messages.

    uv run --group bench python tests/benchmarks/durable.py rate [--messages 20000] [--rounds 5] [--only NAME ...]
    uv run --group bench python tests/benchmarks/durable.py latency [--messages 500]
    uv run --group bench python tests/benchmarks/durable.py outage [--messages 100000]

`rate`: accept and acknowledge at QoS 1, 100 bytes, MQTT 5, one Mosquitto for all, as in `compare.py`, whose parts this
script uses. "100 tasks" share one stream of payloads and each awaits its `publish()`; "many" hands over 1,000 a call.

- hawk: with a file and `durability="power"`, with a file and `durability="process"`, and without a file.
- paho-mqtt: in memory, in a plain loop, its window lifted: what the ratios are to.
- mqttium: with its SQLite store, driven as hawk is.
- floor: what 100 and 1,000 tasks cost that do nothing but wait for the same file (`floor.py`). No client can beat it.

`latency`: `await publish()` of one message at a time, with a file and without, beside one fsync of the same disk.

`outage`: hawk accepts so many messages with nobody to send them to, and stops; the file is opened again, and drained
to Mosquitto. Beside it paho-mqtt drains 20,000 that it has queued in memory. Every message is seen by a subscriber: once, and
in order. The files are in the directory that TMPDIR names: let it be on the disk in question.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from compare import (
    BATCH,
    PATIENCE_S,
    PAYLOAD_BYTES,
    PEER,
    TOPIC,
    WARM_UP,
    Clock,
    Figures,
    collect,
    mosquitto,
    paho,
    spread,
    subscribe,
)
from floor import floor

TASKS = 100
PAHO_QUEUED = 20_000
Payloads = list[bytes]


def numbered(messages: int) -> Payloads:
    return [b"%08d" % number + b"x" * (PAYLOAD_BYTES - 8) for number in range(messages)]


# ------------------------------------------------------------------------------------------- rates


def hawk(backend: str, durability: str, port: int, warm_up: Payloads, payloads: Payloads, *, many: bool) -> Figures:
    from hawk import open_mqtt

    async def run(folder: str) -> Figures:
        file = {"outbox": f"{folder}/outbox.db", "durability": durability} if durability else {}
        async with open_mqtt(f"mqtt://127.0.0.1:{port}", **file) as mqtt:
            await mqtt.connect()
            await (await mqtt.publish_many([(TOPIC, payload) for payload in warm_up])).acknowledged()
            clock = Clock()
            clock.start()
            if many:
                for start in range(0, len(payloads), BATCH):
                    receipt = await mqtt.publish_many([(TOPIC, payload) for payload in payloads[start : start + BATCH]])
                await receipt.acknowledged()
            else:
                await from_tasks(payloads, lambda payload: mqtt.publish(TOPIC, payload))
            while mqtt.stats["acknowledged"] < len(warm_up) + len(payloads):
                await anyio.sleep(0.001)
            return clock.figures(len(payloads))

    with tempfile.TemporaryDirectory() as folder:
        return anyio.run(run, folder, backend=backend)


async def from_tasks(payloads: Payloads, publish: Callable[[bytes], Any]) -> None:
    """100 tasks publish until nothing is left. The last receipt of each is waited for by the caller."""
    left = iter(payloads)

    async def work() -> None:
        for payload in left:
            await publish(payload)

    async with anyio.create_task_group() as tasks:
        for _ in range(TASKS):
            tasks.start_soon(work)


def mqttium(port: int, warm_up: Payloads, payloads: Payloads, *, many: bool) -> Figures:
    from mqttium import MQTTProtocolVersion
    from mqttium.api import AsyncClient, PublishMessage
    from mqttium.persistence import SqliteInflightStore

    async def run(folder: str) -> Figures:
        store = SqliteInflightStore(f"{folder}/session.sqlite")
        client = AsyncClient("mqttium", protocol=MQTTProtocolVersion.MQTTv5, store=store)
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
            receipts: list[Any] = []

            async def publish(payload: bytes) -> None:
                receipts.append(await client.publish(TOPIC, payload, qos=1))

            await from_tasks(payloads, publish)
            for receipt in receipts:
                await receipt.wait()
        figures = clock.figures(len(payloads))
        await client.disconnect()
        store.close()
        return figures

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(folder))


CONTESTANTS: dict[str, Callable[[int, Payloads, Payloads], Figures]] = {
    PEER: partial(paho, 0),
    "hawk power trio, 100 tasks": partial(hawk, "trio", "power", many=False),
    "hawk power asyncio, 100 tasks": partial(hawk, "asyncio", "power", many=False),
    "hawk process trio, 100 tasks": partial(hawk, "trio", "process", many=False),
    "hawk memory trio, 100 tasks": partial(hawk, "trio", "", many=False),
    "hawk memory asyncio, 100 tasks": partial(hawk, "asyncio", "", many=False),
    "hawk power trio, many": partial(hawk, "trio", "power", many=True),
    "hawk power asyncio, many": partial(hawk, "asyncio", "power", many=True),
    "hawk process trio, many": partial(hawk, "trio", "process", many=True),
    "hawk memory trio, many": partial(hawk, "trio", "", many=True),
    "hawk memory asyncio, many": partial(hawk, "asyncio", "", many=True),
    "mqttium SQLite, 100 tasks": partial(mqttium, many=False),
    "mqttium SQLite, many": partial(mqttium, many=True),
    "floor power trio, 100 tasks": partial(floor, TASKS),
    "floor power trio, 1000 tasks": partial(floor, 1000),
}
"""The ratios that count are of one kind: 100 tasks to 100 tasks, many to many; paho-mqtt has one way only."""


def rate(messages: int, rounds: int, only: list[str]) -> None:
    contestants = [name for name in CONTESTANTS if name in only or name == PEER]
    measured: list[dict[str, Figures]] = []
    load = os.getloadavg()[0]
    with mosquitto() as port:
        for number in range(rounds):
            first = number % len(contestants)
            order = contestants[first:] + contestants[:first]
            measured.append({name: measure(name, port, messages) for name in order})
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    print(f"{rounds} rounds of {messages:,} messages; load average before {load:.1f}, after {os.getloadavg()[0]:.1f}\n")
    print(f"{'':32} {'msg/s':>9} {'x paho (low-high)':>20} {'x its memory':>13} {'x mqttium':>10} {'CPU us':>8}")
    for name in contestants:
        own = [each[name] for each in measured]
        ratios = "{:.2f} ({:.2f}-{:.2f})".format(*ratio(measured, name, PEER))
        memory = name.replace("power", "memory").replace("process", "memory")
        beside = f"{ratio(measured, name, memory)[0]:.2f}" if memory != name and memory in contestants else ""
        peer = f"mqttium SQLite, {name.rpartition(', ')[2]}"
        against = f"{ratio(measured, name, peer)[0]:.2f}" if name.startswith("hawk p") and peer in contestants else ""
        middle = statistics.median(each.rate for each in own)
        cpu_us = statistics.median(each.cpu_us for each in own)
        print(f"{name:32} {middle:9,.0f} {ratios:>20} {beside:>13} {against:>10} {cpu_us:8.1f}")


def ratio(measured: list[dict[str, Figures]], name: str, peer: str) -> tuple[float, float, float]:
    return spread([each[name].rate / each[peer].rate for each in measured])


def measure(contestant: str, port: int, messages: int) -> Figures:
    """One child's run, and the proof that its messages arrived, each once."""
    with subscribe(port) as stream:
        command = [
            sys.executable,
            __file__,
            "rate",
            "--be",
            contestant,
            "--port",
            str(port),
            "--messages",
            str(messages),
        ]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            arrived = bytearray()
            frame_bytes = 2 + 2 + len(TOPIC) + 1 + PAYLOAD_BYTES
            while len(arrived) < (WARM_UP + messages) * frame_bytes:
                received = stream.recv(1 << 20)
                assert received, "the broker closed the connection of the subscriber"
                arrived += received
            printed, _ = child.communicate(timeout=PATIENCE_S)
        finally:
            child.kill()
            child.wait()
        if child.returncode:
            sys.exit(f"{contestant} failed")
        starts = range(frame_bytes - PAYLOAD_BYTES, len(arrived), frame_bytes)
        numbers = sorted(int(arrived[start : start + 8]) for start in starts)
        assert numbers == list(range(WARM_UP + messages)), "not every message arrived once"
        return Figures(*json.loads(printed))


# ----------------------------------------------------------------------------------------- latency


def latency(messages: int) -> None:
    with mosquitto() as port, tempfile.TemporaryDirectory() as folder:
        sync_s = [sync_of(Path(folder, "probe")) for _ in range(messages)]
        print(f"one write of 4 KiB with fsync:   {told(sync_s)}")
        for durability in ("", "process", "power"):
            for backend in ("trio", "asyncio"):
                took_s = anyio.run(publish_one_by_one, port, folder, durability, messages, backend=backend)
                print(f"publish(), {durability or 'memory':8} {backend:8}  {told(took_s)}")


def sync_of(path: Path) -> float:
    with path.open("ab", buffering=0) as file:
        file.write(b"x" * 4096)
        began_at = time.perf_counter()
        os.fsync(file.fileno())
        return time.perf_counter() - began_at


async def publish_one_by_one(port: int, folder: str, durability: str, messages: int) -> list[float]:
    from hawk import open_mqtt

    took_s = []
    file = {"outbox": f"{folder}/{durability}.db", "durability": durability} if durability else {}
    async with open_mqtt(f"mqtt://127.0.0.1:{port}", **file) as mqtt:
        await mqtt.connect()
        for payload in numbered(messages):
            began_at = time.perf_counter()
            receipt = await mqtt.publish(TOPIC, payload)
            took_s.append(time.perf_counter() - began_at)
            await receipt.acknowledged()
    return took_s


def told(times_s: list[float]) -> str:
    cut = statistics.quantiles(times_s, n=100)
    return f"p50 {cut[49] * 1e3:7.3f} ms   p99 {cut[98] * 1e3:7.3f} ms"


# ------------------------------------------------------------------------------------------ outages


def outage(messages: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outbox = Path(folder, "outbox.db")
        child("fill", messages, outbox, 1)
        print(f"the file has {outbox.stat().st_size / 2**20:,.0f} MiB")
        with mosquitto() as port:
            with subscribe(port) as stream:
                drained = subprocess.Popen([sys.executable, __file__, "drain", *arguments(messages, outbox, port)])
                collect(stream, messages)
                drained.wait(PATIENCE_S)
            with subscribe(port) as stream:
                peer = subprocess.Popen([sys.executable, __file__, "peer", *arguments(PAHO_QUEUED, outbox, port)])
                collect(stream, PAHO_QUEUED)
                peer.wait(PATIENCE_S)


def arguments(messages: int, outbox: Path, port: int) -> list[str]:
    return ["--messages", str(messages), "--outbox", str(outbox), "--port", str(port)]


def child(what: str, messages: int, outbox: Path, port: int) -> None:
    subprocess.run([sys.executable, __file__, what, *arguments(messages, outbox, port)], check=True)


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def fill(messages: int, outbox: str) -> None:
    """Nothing listens on port 1."""
    from hawk import open_mqtt

    settings = {"message_queue_size": messages + BATCH, "outbox": outbox, "max_retries": None}
    async with open_mqtt("mqtt://127.0.0.1:1", **settings) as mqtt:
        await mqtt.publish_many([(TOPIC, b"")], qos=0)
        before_mib, began_at = resident_mib(), time.perf_counter()
        for start in range(0, messages, BATCH):
            batch = range(start, min(start + BATCH, messages))
            await mqtt.publish_many([(TOPIC, b"%08d" % number + b"x" * (PAYLOAD_BYTES - 8)) for number in batch])
        took_s = time.perf_counter() - began_at
        print(
            f"accepted {messages:,} in an outage: {messages / took_s:,.0f} msg/s, RSS +{resident_mib() - before_mib:.1f} MiB"
        )


async def drain(messages: int, outbox: str, port: int) -> None:
    from hawk import open_mqtt
    from hawk.clock import SystemWallClock
    from hawk.stores.sqlite import SQLiteStore

    store = SQLiteStore(outbox, wall_clock=SystemWallClock())
    began_at = time.perf_counter()
    recovered = await store.open()
    print(f"opened in {time.perf_counter() - began_at:.3f} s: {recovered.queued + len(recovered.under_way):,} messages")
    await store.aclose()
    before_mib, most_mib = resident_mib(), 0.0
    began_at = time.perf_counter()
    rates = []
    async with open_mqtt(f"mqtt://127.0.0.1:{port}", outbox=outbox, message_queue_size=messages + BATCH) as mqtt:
        await mqtt.connect()
        last, last_at = 0, time.perf_counter()
        while last < messages:
            await anyio.sleep(0.02)
            most_mib = max(most_mib, resident_mib())
            done, now = mqtt.stats["acknowledged"], time.perf_counter()
            if done - last >= messages / 10 or done == messages:
                rates.append((done - last) / (now - last_at))
                last, last_at = done, now
        took_s = time.perf_counter() - began_at
    print(f"drained {messages:,}: {messages / took_s:,.0f} msg/s, RSS +{most_mib - before_mib:.1f} MiB at most")
    print("by tenths: " + " ".join(f"{each:,.0f}" for each in rates))


def peer(messages: int, port: int) -> None:
    """paho-mqtt: queued in memory before the first connection."""
    from paho.mqtt import client as paho_client
    from paho.mqtt.enums import CallbackAPIVersion

    client = paho_client.Client(CallbackAPIVersion.VERSION2, protocol=paho_client.MQTTv5)
    client.max_inflight_messages_set(0)
    published = 0

    def count(*_: object) -> None:
        nonlocal published
        published += 1

    client.on_publish = count
    for payload in numbered(messages):
        client.publish(TOPIC, payload, qos=1)
    began_at = time.perf_counter()
    client.connect("127.0.0.1", port)
    client.loop_start()
    while published < messages:
        time.sleep(0.001)
    print(f"paho-mqtt drained {messages:,}: {messages / (time.perf_counter() - began_at):,.0f} msg/s")
    client.disconnect()
    client.loop_stop()


def main() -> None:
    """Parse, and do one thing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["rate", "latency", "outage", "fill", "drain", "peer"])
    parser.add_argument("--messages", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME")
    for hidden in ("--be", "--port", "--outbox"):
        parser.add_argument(hidden, help=argparse.SUPPRESS, type=int if hidden == "--port" else str)
    options = parser.parse_args()
    messages = options.messages or {"rate": 20_000, "latency": 500}.get(options.what, 100_000)
    match options.what:
        case "rate" if options.be:
            payloads = numbered(WARM_UP + messages)
            print(json.dumps(CONTESTANTS[options.be](options.port, payloads[:WARM_UP], payloads[WARM_UP:])))
        case "rate":
            rate(messages, options.rounds, options.only)
        case "latency":
            latency(messages)
        case "outage":
            outage(messages)
        case "fill":
            anyio.run(fill, messages, options.outbox)
        case "drain":
            anyio.run(drain, messages, options.outbox, options.port)
        case "peer":
            peer(messages, options.port)


if __name__ == "__main__":
    main()
