"""Standard input and output as tasks use them: never in the way of the event loop, never more than once in a buffer.

Pipes, terminals and sockets are waited for. A regular file counts as ready at any time, and so does /dev/null: they
are read and written in place, for no event loop can wait for them. The blocking mode is left alone, because other
processes share it.
"""

import os
import select
import stat
import sys
from collections.abc import Sequence

import anyio
from anyio.lowlevel import checkpoint

STANDARD_INPUT = 0
STANDARD_OUTPUT = 1

_READ_BYTES = 65_536
_WRITTEN_BYTES = select.PIPE_BUF
"""A pipe with room has room for that many (POSIX), so that the write does not wait."""


class StandardInput:
    """Bytes as they come. `stop` ends the input early, for the one task that reads."""

    def __init__(self) -> None:
        self._is_open = sys.stdin is not None
        self._readiness = select.poll()
        if self._is_open:
            self._readiness.register(STANDARD_INPUT, select.POLLIN)
        self._stopped = False
        self._waiting: anyio.CancelScope | None = None

    async def read(self) -> bytes:
        """The bytes there are, at least one; none at the end. Raises `OSError`. Cancelling loses nothing."""
        await checkpoint()
        if not self._is_open:
            return b""
        while not self._stopped and not self._readiness.poll(0):
            with anyio.CancelScope() as self._waiting:
                await anyio.wait_readable(STANDARD_INPUT)
        return b"" if self._stopped else os.read(STANDARD_INPUT, _READ_BYTES)

    def stop(self) -> None:
        """End the input where it stands."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    @property
    def stopped(self) -> bool:
        """Whether it was `stop` that ended the input."""
        return self._stopped


class InputLines:
    """The lines of an input: of any length, of any bytes, the last one with or without its newline."""

    def __init__(self, source: StandardInput) -> None:
        self._source = source
        self._begun: list[bytes] = []
        self._ended = False

    async def read(self) -> list[bytes]:
        """The lines that have come, at least one, without their newlines; none at the end.

        A line that `stop` has cut is not given. Raises `OSError`. Cancelling loses nothing.
        """
        while not self._ended:
            data = await self._source.read()
            if not data:
                self._ended = True
                last = b"".join(self._begun)
                return [last] if last and not self._source.stopped else []
            head, newline, tail = data.rpartition(b"\n")
            if newline:
                lines = b"".join([*self._begun, head]).split(b"\n")
                self._begun = [tail] if tail else []
                return lines
            self._begun.append(data)
        return []


class StandardOutput:
    """Bytes to the one who reads them, at once, and whole: two tasks may write."""

    def __init__(self) -> None:
        self._is_open = sys.stdout is not None
        self._readiness = select.poll()
        if self._is_open:
            self._readiness.register(STANDARD_OUTPUT, select.POLLOUT)
        self._turn = anyio.Lock()

    async def wait_closed(self) -> None:
        """Return when nobody reads any more, if it is a pipe. Nothing else tells before a write."""
        if self._is_open and stat.S_ISFIFO(os.fstat(STANDARD_OUTPUT).st_mode):
            # The end that is written to never has anything to read: what comes is the news that the other is closed.
            await anyio.wait_readable(STANDARD_OUTPUT)
            if any(flags & select.POLLERR for _, flags in self._readiness.poll(0)):
                return
        await anyio.sleep_forever()

    async def write(self, parts: Sequence[bytes]) -> None:
        """Write all of it, waiting for a slow reader. Raises `BrokenPipeError` when nobody reads, `OSError`.

        Cancelling leaves written what was written.
        """
        if not self._is_open:
            raise BrokenPipeError("standard output is closed")
        view = memoryview(b"".join(parts))
        async with self._turn:
            while view:
                if not self._readiness.poll(0):
                    await anyio.wait_writable(STANDARD_OUTPUT)
                view = view[os.write(STANDARD_OUTPUT, view[:_WRITTEN_BYTES]) :]
