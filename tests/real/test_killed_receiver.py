"""SIGKILL inside a handler (DESIGN.md section 9): with an outbox file QoS 2 is given again, under the same delivery key.

What was in hand when the process died, or was handled and not yet noted on disk, is given again as `redelivered`, so that
its handler can tell; what had been handled before that never is.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

import hawk
from hawk.testing.broker import Broker

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

CHILD = Path(__file__).with_name("receiving_child.py")
MESSAGES = 60
MOST_UNNOTED = 20
"""Handled, and their commit not done yet: two or three where the disk has nothing else to do."""
PATIENCE_S = 30


@pytest.fixture
async def start(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    """`await start(port)`: the next life of the receiver, on the same outbox."""
    processes: list[Any] = []

    async def start(port: int) -> Any:
        command = [sys.executable, str(CHILD), str(port), str(tmp_path / "outbox.db"), anyio_backend]
        process = await anyio.open_process(command, stderr=None)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        await process.aclose()


async def test_a_killed_handler_gets_its_message_again_under_the_same_key_and_nothing_older(
    start: Callable[[int], Awaitable[Any]],
) -> None:
    random, begun, handled, order = Random(1), dict[str, str](), list[str](), list[str]()
    async with Broker() as broker:
        port = await broker.listen()
        receiver = await start(port)
        lines = BufferedByteReceiveStream(receiver.stdout)
        assert await lines.receive_until(b"\n", 1000) == b"ready"
        async with hawk.open_mqtt(f"mqtt://127.0.0.1:{port}") as mqtt:
            await mqtt.connect()
            receipt = await mqtt.publish_many([(f"jobs/{number}", str(number)) for number in range(MESSAGES)], qos=2)
            await receipt.acknowledged()
        kills = given_again = 0
        with anyio.fail_after(PATIENCE_S):
            while len(set(handled)) < MESSAGES:
                dies_after = random.randrange(2, 30) if kills < 6 else 10_000
                for _ in range(dies_after):
                    if len(set(handled)) == MESSAGES:
                        break
                    words = (await lines.receive_until(b"\n", 1000)).decode().split()
                    if words[0] == "ready":
                        continue
                    if words[0] == "handled":
                        handled.append(words[1])
                        continue
                    number, key, redelivered = words
                    if number in begun:
                        given_again += 1
                        assert redelivered == "True"
                        assert key == begun[number]
                        assert number in order[-MOST_UNNOTED:], "handled long ago, and given again"
                    else:
                        begun[number] = key
                        order.append(number)
                else:
                    os.kill(receiver.pid, signal.SIGKILL)
                    await receiver.wait()
                    kills += 1
                    # What it still managed to say counts as said.
                    while line := await rest_of(lines):
                        words = line.split()
                        if words[0] == "handled":
                            handled.append(words[1])
                        elif words[0] != "ready" and words[0] not in begun:
                            begun[words[0]] = words[1]
                            order.append(words[0])
                    receiver = await start(port)
                    lines = BufferedByteReceiveStream(receiver.stdout)
        assert kills == 6
        assert given_again
        assert order == [str(number) for number in range(MESSAGES)]
        assert sorted(map(int, set(begun))) == list(range(MESSAGES))
        assert len(set(begun.values())) == MESSAGES


async def rest_of(lines: BufferedByteReceiveStream) -> str:
    try:
        return (await lines.receive_until(b"\n", 1000)).decode()
    except (anyio.IncompleteRead, anyio.EndOfStream):
        return ""
