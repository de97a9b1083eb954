"""SIGKILL at any moment, again and again: what `publish()` had accepted is delivered by the lives that follow.

Exactly once at QoS 2 is asserted where it can be seen, at the broker's own end of the wire: of the in-process broker.
"""

import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from anyio import to_thread
from anyio.streams.buffered import BufferedByteReceiveStream

from hawk.testing.broker import Broker

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

CHILD = Path(__file__).with_name("durable_child.py")
PATIENCE_S = 60


class Lives:
    """One child after the other, on one outbox."""

    def __init__(self, process: Any, seed: int) -> None:
        self._process = process
        self._lines = BufferedByteReceiveStream(process.stdout)
        self._random = Random(seed)
        self._next = 0
        self.accepted: list[int] = []
        self.kills = 0

    async def live_and_die(self) -> None:
        """A life that is killed after some of its messages were accepted, or before any."""
        await self._begin(self._next, 100_000)
        self._next += 100_000
        pid = int((await self._read()).removeprefix(b"pid "))
        for _ in range(self._random.choice([0, 1, 3, 10, 40, 120])):
            await self._take(await self._read())
        await anyio.sleep(self._random.choice([0, 0, 0.001, 0.005, 0.02]))
        os.kill(pid, signal.SIGKILL)
        while not (line := await self._read()).startswith(b"ended"):
            await self._take(line)
        assert line == b"ended -9", line
        self.kills += 1

    async def live_to_the_end(self) -> None:
        """A life that delivers what is left."""
        await self._begin(self._next, 0)
        await self._read()
        assert await self._read() == b"ended 0"

    async def _begin(self, first: int, count: int) -> None:
        await self._process.stdin.send(b"%d %d %d\n" % (first, count, self._random.getrandbits(32)))

    async def _take(self, line: bytes) -> None:
        assert line.startswith(b"accepted "), line
        self.accepted.append(int(line.removeprefix(b"accepted ")))

    async def _read(self) -> bytes:
        with anyio.fail_after(PATIENCE_S):
            return await self._lines.receive_until(b"\n", 1000)


@pytest.fixture
async def lives(
    tmp_path: Path, anyio_backend: str, pytestconfig: pytest.Config
) -> AsyncIterator[Callable[[int], Awaitable[Lives]]]:
    """`await lives(port)`: lives on one outbox that publish to that port."""
    processes = []

    async def start(port: int) -> Lives:
        command = [sys.executable, str(CHILD), str(port), str(tmp_path / "outbox.db"), anyio_backend]
        process = await anyio.open_process(command, stderr=None)
        processes.append(process)
        return Lives(process, pytestconfig.getoption("--seed") or 1)

    yield start
    for process in processes:
        await process.stdin.aclose()
        with anyio.move_on_after(5):
            await process.wait()
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def test_what_was_accepted_arrives_and_at_qos_2_once(
    lives: Callable[[int], Awaitable[Lives]], deep: bool
) -> None:
    async with Broker() as broker:
        each = await lives(await broker.listen())
        for _ in range(500 if deep else 8):
            await each.live_and_die()
        await each.live_to_the_end()
        arrived = Counter(int(payload) for topic, payload in broker.received() if topic == "killed")
    assert each.accepted, "every life ended before it could accept anything"
    assert [number for number in each.accepted if not arrived[number]] == []
    assert [number for number, times in arrived.items() if number % 2 and times > 1] == []


async def test_what_was_accepted_arrives_through_mosquitto(
    lives: Callable[[int], Awaitable[Lives]], mosquitto: Any, witness: Any, deep: bool
) -> None:
    with witness(mosquitto.port, "killed") as seen:
        each = await lives(mosquitto.port)
        for _ in range(500 if deep else 4):
            await each.live_and_die()
        await each.live_to_the_end()
        await to_thread.run_sync(seen.wait_for, len(set(each.accepted)))
        arrived = set(map(int, seen.arrived))
    assert each.accepted
    assert [number for number in each.accepted if number not in arrived] == []
