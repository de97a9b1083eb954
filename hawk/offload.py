"""The only door to threads: one thread of one's own, for what blocks and cannot be waited for otherwise, as a disk does.

It refuses under a virtual clock, where time would run away while a thread works. The event loop is woken by a byte on a
pair of sockets, so that the thread never waits for the loop: a program that ends leaves no thread behind that holds it.
"""

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")

TIME_IS_VIRTUAL: ContextVar[bool] = ContextVar("TIME_IS_VIRTUAL", default=False)
"""Set by whoever runs a program in virtual time, in that program's context."""

_WAKE_UPS = 4096


class Worker:
    """One thread that does one thing at a time. Made, used and closed in a running event loop, and not over two of them.

    Raises RuntimeError in virtual time. The thread is a daemon: one that a dead disk holds does not hold the process.
    """

    def __init__(self, name: str) -> None:
        _refuse_in_virtual_time()
        self.name = name
        self._turn = anyio.Lock(fast_acquire=True)
        self._jobs = SimpleQueue[Callable[[], None] | None]()
        self._woken, waker = socket.socketpair()
        self._woken.setblocking(False)
        waker.setblocking(False)
        self._thread = Thread(target=_serve, args=(self._jobs, waker), name=name, daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether the thread is gone."""
        return not self._thread.is_alive()

    async def run(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises, called on the thread, after everything that was asked for before.

        Cancelling ends only the wait: what has been asked for is done, whole, and before what is asked for next.
        """
        job = _Job(function)
        async with self._turn:
            self._jobs.put(job.do)
            await self._wait_for(job)
        return job.result()

    async def aclose(self, last: Callable[[], None] | None = None) -> None:
        """End the thread once it has done what it was asked for, and `last`, which must not raise. Idempotent.

        Cancelling leaves the thread to do all that by itself, and `has_ended` tells.
        """
        if last is not None:
            self._jobs.put(last)
        self._jobs.put(None)
        try:
            async with self._turn:
                # The thread's last act is to close its socket, so that the end of this one is all but its own end.
                while self._woken.fileno() >= 0:
                    await anyio.wait_readable(self._woken)
                    if self._is_at_its_end():
                        self._woken.close()
                        self._thread.join()
        finally:
            self._woken.close()

    async def _wait_for(self, job: "_Job[T]") -> None:
        while not job.has_ended:
            await anyio.wait_readable(self._woken)
            self._is_at_its_end()

    def _is_at_its_end(self) -> bool:
        """Take the wake-ups that there are. One of a job that nobody waits for any more does no harm."""
        try:
            return not self._woken.recv(_WAKE_UPS)
        except BlockingIOError:
            return False


class _Job(Generic[T]):
    """Something to do, and what came of it. Written by the thread, and read once it has ended."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function: Callable[[], T] | None = function
        self._result: list[T] = []
        self._error: BaseException | None = None
        self.has_ended = False

    def do(self) -> None:
        function, self._function = self._function, None
        assert function is not None, "a job is done once"
        try:
            self._result.append(function())
        except BaseException as error:  # noqa: BLE001 - it is raised where the job was asked for
            self._error = error
        self.has_ended = True

    def result(self) -> T:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._result.pop()


def _serve(jobs: SimpleQueue[Callable[[], None] | None], waker: socket.socket) -> None:
    """The thread."""
    with waker:
        while (do := jobs.get()) is not None:
            do()
            del do
            # Full: it is awake. Broken: nobody listens any more.
            with suppress(OSError):
                waker.send(b"\0")


def _refuse_in_virtual_time() -> None:
    trio = sys.modules.get("trio")
    foreign = False
    if trio is not None and trio.lowlevel.in_trio_run():
        # A mock clock of trio's own, or of another library.
        foreign = type(trio.lowlevel.current_clock()).__name__ != "SystemClock"
    if foreign or TIME_IS_VIRTUAL.get():
        raise RuntimeError("no thread in virtual time, which would run away from it: use a hawk.testing.MemoryStore")
