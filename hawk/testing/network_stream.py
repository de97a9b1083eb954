"""The two ends of a link through `hawk.testing.network`: byte streams whose bytes travel by a route of their own.

An end knows buffers, backpressure, closing and breaking. It knows no weather: what becomes of the bytes on the way is
decided by the `Route` of each direction, which calls the `Pipe` when something arrives.
"""

from collections import deque
from typing import Protocol

import anyio
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

CAPACITY_BYTES = 256 * 1024


class Route(Protocol):
    """How bytes get from one end to the other. It keeps their order."""

    def depart(self, data: bytes) -> None:
        """Bytes leave. In the end they arrive in the pipe, or do not."""

    def finish(self) -> None:
        """Nothing more will leave."""

    def break_off(self) -> None:
        """Nothing more will leave, and nothing that comes back will be read."""

    def piece_bytes(self, waiting_bytes: int) -> int:
        """How many of the bytes that wait the next `receive` may return at most."""


class Pipe:
    """One direction: what arrived and was not read yet, and how it ended.

    `held_bytes` counts what left and was not read, wherever it is: as much as `CAPACITY_BYTES`, and senders wait.
    """

    __slots__ = (
        "_chunks", "_head_at", "ended", "held_bytes", "reader_closed", "reader_waits", "refused", "unread_bytes",
        "writer_waits",
    )  # fmt: skip

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._head_at = 0
        self.unread_bytes = 0
        self.held_bytes = 0
        self.ended: type[anyio.EndOfStream] | type[anyio.BrokenResourceError] | None = None
        self.refused = False
        self.reader_closed = False
        self.reader_waits: anyio.Event | None = None
        self.writer_waits: anyio.Event | None = None

    def arrive(self, data: bytes) -> None:
        """Bytes reach the reader; if it has closed, the writer's next `send` breaks."""
        if self.reader_closed:
            self.refuse()
        elif data and self.ended is None:
            self._chunks.append(data)
            self.unread_bytes += len(data)
            self.wake_reader()

    def end(self, how: type[anyio.EndOfStream] | type[anyio.BrokenResourceError]) -> None:
        """The reader gets what arrived before, then `how`."""
        if self.ended is None:
            self.ended = how
            self.wake_reader()

    def refuse(self) -> None:
        """The writer's next `send` breaks."""
        self.refused = True
        self.wake_writer()

    def destroy(self) -> None:
        """Both ends break at once; what was not read is gone."""
        self._chunks.clear()
        self._head_at = self.unread_bytes = 0
        self.ended = anyio.BrokenResourceError
        self.wake_reader()
        self.refuse()

    def take(self, most_bytes: int) -> bytes:
        """The oldest bytes, at most `most_bytes`."""
        chunks = self._chunks
        if self._head_at == 0 and len(chunks[0]) <= most_bytes and len(chunks) == 1:
            data = chunks.popleft()
        else:
            data = self._gather(most_bytes)
        self.unread_bytes -= len(data)
        self.held_bytes -= len(data)
        self.wake_writer()
        return data

    def _gather(self, most_bytes: int) -> bytes:
        parts, chunks = list[bytes](), self._chunks
        while most_bytes and chunks:
            part = chunks[0][self._head_at : self._head_at + most_bytes]
            most_bytes -= len(part)
            self._head_at += len(part)
            parts.append(part)
            if self._head_at == len(chunks[0]):
                chunks.popleft()
                self._head_at = 0
        return b"".join(parts)

    def wake_reader(self) -> None:
        """Let a reader look again."""
        if self.reader_waits is not None:
            self.reader_waits.set()
            self.reader_waits = None

    def wake_writer(self) -> None:
        """Let a writer look again."""
        if self.writer_waits is not None:
            self.writer_waits.set()
            self.writer_waits = None


class NetworkStream(ByteStream):
    """One end of a link. One task may send while another receives.

    Both raise `ClosedResourceError` once this end is closed, `BrokenResourceError` once the link is broken, and
    `BusyResourceError` while another task is at the same call.
    """

    def __init__(self, incoming: Pipe, incoming_by: Route, outgoing: Pipe, outgoing_by: Route) -> None:
        self._incoming, self._incoming_by = incoming, incoming_by
        self._outgoing, self._outgoing_by = outgoing, outgoing_by
        self._receiving = self._sending = False
        self._finished = self._closed = False

    @property
    def is_over(self) -> bool:
        """Whether nothing that happens on the way can matter to this end any more."""
        return self._closed or self._incoming.ended is anyio.BrokenResourceError

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """What has arrived, at most `max_bytes`; waits for the first byte. Cancelling loses nothing.

        Raises `EndOfStream` when the peer has ended its side and everything before that was read.
        """
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise anyio.BusyResourceError("receiving from")
        self._receiving = True
        pipe = self._incoming
        try:
            if pipe.unread_bytes or pipe.ended or self._closed:
                await checkpoint()
            while not (pipe.unread_bytes or pipe.ended or self._closed):
                pipe.reader_waits = anyio.Event()
                await pipe.reader_waits.wait()
        finally:
            self._receiving = False
        if self._closed:
            raise anyio.ClosedResourceError
        if pipe.unread_bytes:
            return pipe.take(min(max_bytes, self._incoming_by.piece_bytes(pipe.unread_bytes)))
        assert pipe.ended is not None
        raise pipe.ended

    async def send(self, item: bytes) -> None:
        """Send `item` on its way; waits while too much is on the way or unread.

        Cancelling while it waits leaves the part that fitted on its way, as a socket does.
        """
        if self._sending:
            raise anyio.BusyResourceError("sending to")
        self._sending = True
        pipe = self._outgoing
        try:
            await checkpoint()
            sent_bytes = 0
            while True:
                self._check_sendable()
                free_bytes = CAPACITY_BYTES - pipe.held_bytes
                if free_bytes > 0:
                    part = bytes(item[sent_bytes : sent_bytes + free_bytes])
                    sent_bytes += len(part)
                    pipe.held_bytes += len(part)
                    self._outgoing_by.depart(part)
                    if sent_bytes == len(item):
                        break
                else:
                    pipe.writer_waits = anyio.Event()
                    await pipe.writer_waits.wait()
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; receiving goes on. Idempotent."""
        if not self._finished:
            self._finished = True
            self._outgoing_by.finish()
        await checkpoint()

    async def aclose(self) -> None:
        """Close this end at once. Whether the peer learns of it is up to the weather. Idempotent; safe to cancel."""
        if not self._closed:
            self._closed = self._incoming.reader_closed = True
            if self._incoming.unread_bytes:
                self._outgoing_by.break_off()
            elif not self._finished:
                self._outgoing_by.finish()
            self._finished = True
            self._incoming.wake_reader()
            self._outgoing.wake_writer()
        await checkpoint()

    def abort(self) -> None:
        """Close this end at once, as a process that dies does: a reset follows what is on its way. Idempotent."""
        if not self._closed:
            self._closed = self._finished = self._incoming.reader_closed = True
            self._outgoing_by.break_off()
            self._incoming.wake_reader()
            self._outgoing.wake_writer()

    def _check_sendable(self) -> None:
        if self._finished:
            raise anyio.ClosedResourceError
        if self._outgoing.refused:
            raise anyio.BrokenResourceError
