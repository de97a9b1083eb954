"""Two byte streams joined back to back in memory: what one end sends, the other receives.

They behave as a connected pair of sockets does: a bounded buffer in each direction, half close, an orderly end and a
reset. They know no faults, no latency and no network: who wants those wraps an end.
"""

import anyio
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

DEFAULT_CAPACITY_BYTES = 256 * 1024


class MemoryStream(ByteStream):
    """One end of a pair; made by `memory_stream_pair`. One task may send while another receives.

    Both `send` and `receive` raise `ClosedResourceError` once this end is closed, `BrokenResourceError` once either end
    was reset, and `BusyResourceError` when another task is at the same call.
    """

    def __init__(self, incoming: "_Pipe", outgoing: "_Pipe") -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._receiving = False
        self._sending = False
        self._closed = False

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """Everything that has arrived, at most `max_bytes`; waits for the first byte. Cancelling loses nothing.

        Raises `EndOfStream` when the peer has closed, or sent its end of file, and everything was read.
        """
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise anyio.BusyResourceError("receiving from")
        self._receiving = True
        pipe = self._incoming
        try:
            if pipe.readable or self._closed:
                await checkpoint()
            while not pipe.readable and not self._closed:
                pipe.reader_waits = anyio.Event()
                await pipe.reader_waits.wait()
        finally:
            self._receiving = False
        if self._closed:
            raise anyio.ClosedResourceError
        if pipe.broken:
            raise anyio.BrokenResourceError
        if not pipe.unread_bytes:
            raise anyio.EndOfStream
        return pipe.take(max_bytes)

    async def send(self, item: bytes) -> None:
        """Hand `item` over; waits while the peer leaves a full buffer unread.

        Raises `BrokenResourceError` when the peer has closed. Cancelling while it waits leaves the part that fitted
        on its way, as a socket does; what fits at once goes whole or, cancelled, not at all.
        """
        if self._sending:
            raise anyio.BusyResourceError("sending to")
        self._sending = True
        try:
            await checkpoint()
            self._check_sendable()
            pipe = self._outgoing
            if pipe.free_bytes >= len(item):
                pipe.put(bytes(item))
                return
            rest = memoryview(item)
            while rest:
                while pipe.free_bytes <= 0:
                    pipe.writer_waits = anyio.Event()
                    await pipe.writer_waits.wait()
                    self._check_sendable()
                part = rest[: pipe.free_bytes]
                rest = rest[len(part) :]
                pipe.put(bytes(part))
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; receiving goes on. Idempotent."""
        self._outgoing.finish()
        await checkpoint()

    def close(self) -> None:
        """Close this end at once: the peer reads what is on its way, then `EndOfStream`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._outgoing.finish()
        self._incoming.abandon()

    async def aclose(self) -> None:
        """`close`, and a checkpoint. Cancelled or not, the stream is closed."""
        self.close()
        await checkpoint()

    def reset(self) -> None:
        """Break the connection for both ends at once, as an RST does: unread bytes are gone. Idempotent."""
        self._outgoing.destroy()
        self._incoming.destroy()

    @property
    def unread_bytes(self) -> int:
        """How much the peer has sent that was not received here yet."""
        return self._incoming.unread_bytes

    def _check_sendable(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._outgoing.broken or self._outgoing.abandoned:
            raise anyio.BrokenResourceError
        if self._outgoing.finished:
            raise anyio.ClosedResourceError


def memory_stream_pair(*, capacity_bytes: int = DEFAULT_CAPACITY_BYTES) -> tuple[MemoryStream, MemoryStream]:
    """Two connected ends; each direction holds at most `capacity_bytes` unread. Raises `ValueError` below 1."""
    if capacity_bytes < 1:
        raise ValueError("capacity_bytes must be at least 1")
    there, back = _Pipe(capacity_bytes), _Pipe(capacity_bytes)
    return MemoryStream(back, there), MemoryStream(there, back)


class _Pipe:
    """One direction. `finished`: the writer ended it; `abandoned`: the reader went; `broken`: reset."""

    __slots__ = (
        "_capacity_bytes",
        "_chunks",
        "abandoned",
        "broken",
        "finished",
        "reader_waits",
        "unread_bytes",
        "writer_waits",
    )

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._chunks: list[bytes] = []
        self.unread_bytes = 0
        self.finished = False
        self.abandoned = False
        self.broken = False
        self.reader_waits: anyio.Event | None = None
        self.writer_waits: anyio.Event | None = None

    @property
    def readable(self) -> bool:
        """Whether a reader need not wait: bytes, or an end."""
        return bool(self.unread_bytes) or self.finished or self.broken

    @property
    def free_bytes(self) -> int:
        """What may be put without exceeding the capacity."""
        return self._capacity_bytes - self.unread_bytes

    def put(self, chunk: bytes) -> None:
        if chunk:
            self._chunks.append(chunk)
            self.unread_bytes += len(chunk)
            self._wake_reader()

    def take(self, max_bytes: int) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        if len(data) > max_bytes:
            chunks.append(data[max_bytes:])
            data = data[:max_bytes]
        self.unread_bytes -= len(data)
        self._wake_writer()
        return data

    def finish(self) -> None:
        self.finished = True
        self._wake_reader()
        self._wake_writer()

    def abandon(self) -> None:
        self.abandoned = True
        self._discard()

    def destroy(self) -> None:
        self.broken = True
        self._discard()

    def _discard(self) -> None:
        self._chunks.clear()
        self.unread_bytes = 0
        self._wake_reader()
        self._wake_writer()

    def _wake_reader(self) -> None:
        if self.reader_waits is not None:
            self.reader_waits.set()
            self.reader_waits = None

    def _wake_writer(self) -> None:
        if self.writer_waits is not None:
            self.writer_waits.set()
            self.writer_waits = None
