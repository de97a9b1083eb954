"""Two ends of one byte stream, in memory and over TCP: what a link is tried on."""

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.lowlevel
import mqtt5
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

CHUNKS_IN_MEMORY = 4
PATIENCE_S = 2.0


class MemoryByteStream(ByteStream):
    """One end of a pair in memory. A write waits while four earlier ones are unread."""

    def __init__(self, outgoing: MemoryObjectSendStream[bytes], incoming: MemoryObjectReceiveStream[bytes]) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._rest = b""
        self.is_reset = False

    async def send(self, item: bytes) -> None:
        await self._outgoing.send(item)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        if not self._rest:
            try:
                self._rest = await self._incoming.receive()
            except anyio.EndOfStream:
                if self.is_reset:
                    raise anyio.BrokenResourceError from None
                raise
        taken, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return taken

    async def send_eof(self) -> None:
        self._outgoing.close()

    async def aclose(self) -> None:
        self._outgoing.close()
        self._incoming.close()
        await anyio.lowlevel.checkpoint()


class Peer:
    """The broker's end: it reads packets, writes bytes, and goes in the way the test wants."""

    def __init__(self, stream: ByteStream, reset: Callable[[], Awaitable[None]]) -> None:
        self.stream = stream
        self.reset = reset
        self._received = b""

    async def say(self, *packets: mqtt5.Packet | bytes) -> None:
        """All of the packets in one write."""
        await self.stream.send(b"".join(each if isinstance(each, bytes) else each.write() for each in packets))

    async def hear(self) -> mqtt5.Packet:
        """The next packet. Raises what the stream raises, and TimeoutError after a while."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                try:
                    packet, size = mqtt5.read(memoryview(self._received))
                except IndexError:
                    self._received += await self.stream.receive()
                else:
                    self._received = self._received[size:]
                    return packet

    async def close(self) -> None:
        await self.stream.aclose()

    async def is_closed_by_client(self) -> bool:
        """Whether nothing more comes, or will within a while."""
        with anyio.move_on_after(PATIENCE_S):
            try:
                while True:
                    await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return True
        return False


class Ends:
    """The client's end, and the broker's."""

    def __init__(self, client: ByteStream, peer: Peer) -> None:
        self.client = client
        self.peer = peer


def memory_pair() -> tuple[MemoryByteStream, MemoryByteStream]:
    one_sends, other_receives = anyio.create_memory_object_stream[bytes](CHUNKS_IN_MEMORY)
    other_sends, one_receives = anyio.create_memory_object_stream[bytes](CHUNKS_IN_MEMORY)
    return MemoryByteStream(one_sends, one_receives), MemoryByteStream(other_sends, other_receives)


async def tcp_pair() -> tuple[SocketStream, SocketStream]:
    accepted: list[SocketStream] = []
    is_accepted = anyio.Event()

    async def accept(stream: SocketStream) -> None:
        accepted.append(stream)
        is_accepted.set()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, accept)
        client = await anyio.connect_tcp("127.0.0.1", listener.extra(SocketAttribute.local_port))
        await is_accepted.wait()
        tasks.cancel_scope.cancel()
    return client, accepted[0]


@pytest.fixture(params=["memory", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def ends(transport: str, anyio_backend: str) -> AsyncIterator[Ends]:
    """A fresh pair; whatever the test left open is closed after it."""
    if transport == "memory":
        near, far = memory_pair()

        async def reset_in_memory() -> None:
            near.is_reset = True
            await far.aclose()

        pair = Ends(near, Peer(far, reset_in_memory))
    else:
        client, server = await tcp_pair()

        async def reset() -> None:
            raw = server.extra(SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await server.aclose()

        pair = Ends(client, Peer(server, reset))
    yield pair
    for stream in (pair.client, pair.peer.stream):
        await anyio.aclose_forcefully(stream)


@pytest.fixture
def memory_ends() -> Callable[[], Ends]:
    """Makes a pair in memory inside an event loop of the test's own."""

    def make() -> Ends:
        near, far = memory_pair()
        return Ends(near, Peer(far, far.aclose))

    return make
