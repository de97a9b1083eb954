"""Two ends of one byte stream, in memory, over TCP, TLS and a Unix socket: what a link is tried on."""

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import mqtt5
import pytest
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from anyio.streams.tls import TLSListener

from hawk.config import Config
from hawk.links.tls import tls_context, wrap

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

    async def half_close(self) -> None:
        """Say nothing more. TLS has no word for it, but what carries it has."""
        await getattr(self.stream, "transport_stream", self.stream).send_eof()

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


async def accepted(listener: Any, dial: Callable[[], Awaitable[ByteStream]]) -> tuple[ByteStream, ByteStream]:
    """The client's end and the broker's, of one connection through `listener`."""
    served: list[ByteStream] = []
    is_served = anyio.Event()

    async def serve(stream: ByteStream) -> None:
        served.append(stream)
        is_served.set()

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        client = await dial()
        await is_served.wait()
        tasks.cancel_scope.cancel()
    return client, served[0]


async def tcp_pair() -> tuple[ByteStream, ByteStream]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    return await accepted(listener, lambda: anyio.connect_tcp("127.0.0.1", port))


async def unix_pair(folder: Path) -> tuple[ByteStream, ByteStream]:
    path = folder / "socket"
    listener = await anyio.create_unix_listener(path)
    return await accepted(listener, lambda: anyio.connect_unix(path))


async def tls_pair(server: ssl.SSLContext, authority: Path) -> tuple[ByteStream, ByteStream]:
    """The client's end made as a dial makes it; the broker's leaves TLS's own goodbye out, as brokers do."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    config = Config(tls_ca_file=str(authority))

    async def dial() -> ByteStream:
        stream = await anyio.connect_tcp("127.0.0.1", port)
        return await wrap(stream, config=config, context=await tls_context(config), server_name="localhost")

    return await accepted(TLSListener(listener, server, standard_compatible=False), dial)


@pytest.fixture(params=["memory", "tcp", "tls", "unix"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def ends(
    transport: str,
    anyio_backend: str,
    certificates: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Ends]:
    """A fresh pair; whatever the test left open is closed after it."""
    match transport:
        case "memory":
            near, far = memory_pair()

            async def reset_in_memory() -> None:
                near.is_reset = True
                await far.aclose()

            pair = Ends(near, Peer(far, reset_in_memory))
        case "unix":
            client, server = await unix_pair(tmp_path_factory.mktemp("u"))

            async def reset_unix() -> None:
                # A Unix socket that is closed over bytes that nobody read is reset.
                await client.send(b"unread")
                await anyio.aclose_forcefully(server)

            pair = Ends(client, Peer(server, reset_unix))
        case "tls":
            client, server = await tls_pair(certificates.server_context(), certificates.authority)
            pair = Ends(client, Peer(server, lambda: reset(server)))
        case _:
            client, server = await tcp_pair()
            pair = Ends(client, Peer(server, lambda: reset(server)))
    yield pair
    for stream in (pair.client, pair.peer.stream):
        await anyio.aclose_forcefully(stream)


async def reset(server: ByteStream) -> None:
    """Close so that an RST goes out."""
    raw = server.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await anyio.aclose_forcefully(server)


@pytest.fixture
def memory_ends() -> Callable[[], Ends]:
    """Makes a pair in memory inside an event loop of the test's own."""

    def make() -> Ends:
        near, far = memory_pair()
        return Ends(near, Peer(far, far.aclose))

    return make
