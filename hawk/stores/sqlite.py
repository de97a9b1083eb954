"""The outbox in a SQLite file: what was committed outlives the process and, with `durability="power"`, a power cut.

This is the port, for the event loop. What it does is done on one thread of its own, in `outbox_file`.
"""

from os import PathLike
from pathlib import Path

import anyio

from hawk.errors import StoreFailed
from hawk.messages import Commit, Page, ReadPage, Recovered
from hawk.offload import Worker
from hawk.ports import WallClock
from hawk.stores.machine import Machine
from hawk.stores.outbox_file import Durability, OutboxFile

_PATIENCE_S = 0.5


class SQLiteStore:
    """An `OutboxStore` at `path`, or at what that leads to. The directory must exist; the file is made when it does not.

    `durability`: "power" waits for the disk with every commit; "process" leaves that to the operating system, so that a
    crash of the process loses nothing, and a power cut the last seconds.
    """

    def __init__(self, path: str | PathLike[str], *, wall_clock: WallClock, durability: Durability = "power") -> None:
        self._file = OutboxFile(Path(path).absolute(), durability=durability, machine=Machine(wall_clock))
        self._worker: Worker | None = None

    @property
    def durable(self) -> bool:
        """What is committed is kept."""
        return True

    @property
    def lingering_thread(self) -> str | None:
        """The name of the thread, if it has not ended although the store was closed: the disk has it."""
        worker = self._worker
        return None if worker is None or worker.has_ended else worker.name

    async def open(self) -> Recovered:
        """Open the file, and say what an earlier process left. Raises `StoreFailed`, `OutboxInUse`.

        Cancelled, what was opened is closed.
        """
        if self._worker is not None and not self._worker.has_ended:
            raise StoreFailed(f"the thread {self._worker.name!r} still waits for the disk")
        self._worker = Worker(f"hawk outbox {self._file.path.name}")
        try:
            return await self._worker.run(self._file.open)
        except BaseException:
            with anyio.move_on_after(_PATIENCE_S, shield=True):
                await self.aclose()
            raise

    async def commit(self, changes: Commit) -> None:
        """Write all of `changes` or nothing. Raises `StoreFailed`. Cancelling: written or not, never half."""
        await self._present().run(lambda: self._file.commit(changes))

    async def page(self, request: ReadPage) -> Page:
        """Read waiting records. Raises `StoreFailed`. Cancelling changes nothing."""
        return await self._present().run(lambda: self._file.page(request))

    async def aclose(self) -> None:
        """Close the file, and end the thread. Idempotent. Cancelled, both happen once the disk lets go of the thread."""
        if self._worker is not None:
            await self._worker.aclose(last=self._file.close)

    def _present(self) -> Worker:
        if self._worker is None or self._worker.has_ended:
            raise StoreFailed("the outbox is not open")
        return self._worker
