"""What a peer announces or sends beyond the limit is not kept: measured on a process of its own, as the system sees it."""

import subprocess
import sys

import pytest

MOST_GROWTH_BYTES = 20 * 1024 * 1024

PROGRAM = """
import resource, sys
import anyio
from hawk.config import Config
from hawk.errors import LinkLost
from hawk.links.stream import open_link
from hawk.packets import ConnectRequest
from hawk.testing.memory_stream import memory_stream_pair

ANNOUNCED = {announced!r}
CHUNK = bytes(65_536)

async def main():
    client, broker = memory_stream_pair()
    await broker.send(bytes((0x20, 3, 0, 0, 0)))
    link = await open_link(client, config=Config(), request=ConnectRequest("client", True))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent = 0

    async def flood():
        nonlocal sent
        try:
            await broker.send(ANNOUNCED)
            while sent < 256 * 1024 * 1024:
                await broker.send(CHUNK)
                sent += len(CHUNK)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flood)
        try:
            while True:
                await link.receive()
        except LinkLost as lost:
            reason = lost.cause.reason_code
        await link.aclose()
    print(reason, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)

anyio.run(main, backend={backend!r})
"""


@pytest.mark.parametrize(
    ("announced", "backend"),
    [
        (b"\x30\xff\xff\xff\x7f", "trio"),
        (b"\x90\xff\xff\xff\x7f", "asyncio"),
        (b"\x30\x80\x80\x80\x08\x00\x01a\x00", "trio"),
    ],
    ids=["256 MiB announced", "a SUBACK of 256 MiB", "16 MiB and a little announced"],
)
def test_256_mib_from_a_peer_grow_the_process_by_less_than_20(backend: str, announced: bytes) -> None:
    program = PROGRAM.format(announced=announced, backend=backend)
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    reason_code, growth_bytes = map(int, found.stdout.split())
    assert reason_code == 0x95
    assert growth_bytes < MOST_GROWTH_BYTES
