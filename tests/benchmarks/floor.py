"""The least that tasks can cost that each wait for the disk: nothing of hawk's but its outbox file and the thread of that.

No receipt, no room, no window, no identifiers to give, no codec: packets are prebuilt, PUBACKs are counted by their bytes, one
event wakes all who wait for a commit, and trio is called directly. It delivers nothing that a link breaks, and keeps no
promise but that of the disk. A client that keeps the others stays below it. `durable.py` has it among its contestants.
"""

import struct
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trio
from compare import CHUNK_BYTES, TOPIC, Clock, Figures, Payloads, raw_connection, variable_byte_integer

from hawk.clock import SystemWallClock
from hawk.messages import Commit, Record
from hawk.offload import Worker
from hawk.stores.machine import Machine
from hawk.stores.outbox_file import OutboxFile
from hawk.values import Message

_PUBACK_BYTES = 4


def floor(tasks: int, port: int, warm_up: Payloads, payloads: Payloads) -> Figures:
    """As many tasks as that, on trio, with `durability="power"`."""
    with tempfile.TemporaryDirectory() as folder:
        return trio.run(_run, Path(folder, "outbox.db"), tasks, port, warm_up, payloads)


async def _run(path: Path, tasks: int, port: int, warm_up: Payloads, payloads: Payloads) -> Figures:
    file = OutboxFile(path, durability="power", machine=Machine(SystemWallClock()))
    worker = Worker("floor")
    await worker.run(file.open)
    stream = raw_connection(port, b"floor")
    stream.setblocking(False)
    with trio.socket.from_stdlib_socket(stream) as link:
        await _Floor(file, worker, link, warm_up).run(tasks)
        clock = Clock()
        clock.start()
        await _Floor(file, worker, link, payloads, first=len(warm_up)).run(tasks)
        figures = clock.figures(len(payloads))
    await worker.aclose(last=file.close)
    return figures


class _Floor:
    def __init__(
        self, file: OutboxFile, worker: Worker, link: trio.socket.SocketType, payloads: Payloads, first: int = 0
    ) -> None:
        self._file, self._worker, self._link = file, worker, link
        self._payloads = payloads
        self._first = first + 1
        self._packets = [_packet(number, payload) for number, payload in enumerate(payloads, self._first)]
        self._offered: list[int] = []
        self._acknowledged = 0
        self._committed = trio.Event()
        self._something_to_do = trio.Event()

    async def run(self, tasks: int) -> None:
        left = iter(range(len(self._payloads)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            nursery.start_soon(self._read)
            for _ in range(tasks):
                nursery.start_soon(self._publish, left)

    async def _publish(self, left: Iterator[int]) -> None:
        for index in left:
            self._offered.append(index)
            self._something_to_do.set()
            await self._committed.wait()

    async def _read(self) -> None:
        received = 0
        while self._acknowledged < len(self._payloads):
            received += len(await self._link.recv(CHUNK_BYTES))
            self._acknowledged = received // _PUBACK_BYTES
        self._something_to_do.set()

    async def _keep(self) -> None:
        deleted = 0
        while deleted < len(self._payloads):
            await self._something_to_do.wait()
            # All who were told of the last commit speak first, so that they share the next.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            self._something_to_do = trio.Event()
            batch, self._offered, done = self._offered, [], self._acknowledged
            records = [Record(self._first + index, Message(TOPIC, self._payloads[index], 1)) for index in batch]
            commit = Commit(tuple(records), tuple(range(self._first + deleted, self._first + done)))
            await self._worker.run(partial(self._file.commit, commit))
            deleted = done
            committed, self._committed = self._committed, trio.Event()
            committed.set()
            packets = memoryview(b"".join([self._packets[index] for index in batch]))
            while packets:
                packets = packets[await self._link.send(packets) :]


def _packet(identifier: int, payload: bytes) -> bytes:
    body = struct.pack(">H", len(TOPIC)) + TOPIC.encode() + struct.pack(">HB", identifier, 0) + payload
    return b"\x32" + variable_byte_integer(len(body)) + body
