"""Bad weather for real connections: a TCP proxy before any broker, with the faults of `hawk.testing.network`.

Each connection that comes in is carried through a link of a `Network`, so that every fault means what it means in
memory. This module only pumps bytes between sockets and the ends of links; it knows no fault of its own.
"""

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from types import TracebackType

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskGroup

from hawk.testing.network import Network
from hawk.testing.network_stream import NetworkStream

UPSTREAM_PATIENCE_S = 30.0
"""How long the upstream may take to answer a dial."""

LINGER_S = 60.0
"""How long a connection goes on in one direction after its own socket has ended the other."""

_EARLY_BYTES = 65_536
_BACKLOG = 1024
_AFTER_A_FAILED_ACCEPT_S = 0.1
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """A TCP proxy to one upstream; `network` is the weather between the two, to be changed at any moment.

    async with FaultProxy("localhost", 1883, random=Random(7)) as proxy:
        port = await proxy.listen()
        proxy.network.blackhole("up")

    What `Network` breaks becomes an RST to both sides; while it refuses, the port is closed; while its name lookup
    fails, who connects is reset. A blackhole or a stall cannot keep the kernel from completing a handshake: who
    connects then is connected, and hears nothing. Leaving the block resets every connection. Real sockets do not go
    with virtual time.

    `divert` is given the server's end of each new link before the upstream is dialled, and says whether it serves it.
    """

    def __init__(
        self,
        upstream_host: str,
        upstream_port: int,
        *,
        random: Random,
        divert: Callable[[NetworkStream], bool] = lambda end: False,
    ) -> None:
        self.network = Network(self._accept, random=random, on_listening=self._open_or_close)
        self._divert = divert
        self._upstream = upstream_host, upstream_port
        self._addresses: list[tuple[socket.AddressFamily, tuple[str, int]]] = []
        self._listeners: list[socket.socket] = []
        self._untaken: set[socket.socket] = set()
        self._tasks: TaskGroup
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "FaultProxy":
        await self._stack.enter_async_context(self._running())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, traceback)

    async def listen(self, *, host: str = "127.0.0.1", port: int = 0) -> int:
        """Take connections on the first address of `host`, and return the port; it stays the same over a refusal.

        Raises `OSError` when the address cannot be had.
        """
        family, _, _, _, address = (await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
        listener = _listening(family, (str(address[0]), port))
        bound: int = listener.getsockname()[1]
        self._addresses.append((family, (str(address[0]), bound)))
        self._start_serving(listener)
        return bound

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as self._tasks, self.network:
                try:
                    yield
                except Exception as error:  # noqa: BLE001 - it leaves as it is, and not in the group of the tasks
                    failure = error
                finally:
                    self._close_listeners()
                    self._tasks.cancel_scope.cancel()
        finally:
            # Accepted, and cancelled before its task began.
            for accepted in self._untaken:
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                accepted.close()
        if failure is not None:
            raise failure

    def _open_or_close(self, listening: bool) -> None:
        """Raises `OSError` when another process has taken the port meanwhile."""
        if not listening:
            # A dial that the kernel refuses leaves no trace here: what bites is that the port closes.
            self.network.bites["refuse"] += len(self._listeners)
            self._close_listeners()
        elif not self._listeners:
            for family, address in self._addresses:
                self._start_serving(_listening(family, address))

    def _start_serving(self, listener: socket.socket) -> None:
        self._listeners.append(listener)
        self._tasks.start_soon(self._serve, listener)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            anyio.notify_closing(listener)
            listener.close()
        self._listeners.clear()

    async def _serve(self, listener: socket.socket) -> None:
        while listener in self._listeners:
            try:
                await anyio.wait_readable(listener)
                accepted, _ = listener.accept()
            except anyio.ClosedResourceError:
                return
            except BlockingIOError:
                continue  # whoever knocked has gone again
            except OSError:
                # No file descriptor is left, or the peer broke it off: what passes is waited for.
                await anyio.sleep(_AFTER_A_FAILED_ACCEPT_S)
                continue
            accepted.setblocking(False)
            self._untaken.add(accepted)
            self._tasks.start_soon(self._carry, accepted)

    async def _carry(self, accepted: socket.socket) -> None:
        """One client, from its first byte to its end."""
        self._untaken.discard(accepted)
        client = await SocketStream.from_socket(accepted)
        link = None
        try:
            link = await self._link_for(client)
            if link is not None:
                await _join(client, link)
        finally:
            if link is None:
                await _reset(client)

    async def _link_for(self, client: SocketStream) -> NetworkStream | None:
        """A link with what the client has said meanwhile on its way; None if it left first, or nobody listens."""
        link, early = None, bytearray()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_listen_early, client, early, tasks.cancel_scope)
            try:
                link = await self.network.connect()
                tasks.cancel_scope.cancel()
            except OSError:
                tasks.cancel_scope.cancel()
        if link is not None:
            try:
                await link.send(bytes(early))
            except anyio.BrokenResourceError:
                return None
        return link

    def _accept(self, end: NetworkStream) -> None:
        if not self._divert(end):
            self._tasks.start_soon(self._dial, end)

    async def _dial(self, end: NetworkStream) -> None:
        upstream = None
        with anyio.move_on_after(UPSTREAM_PATIENCE_S):
            try:
                upstream = await anyio.connect_tcp(*self._upstream)
            except OSError:
                upstream = None
        if upstream is None:
            end.abort()
        else:
            await _join(upstream, end)


def _listening(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


async def _listen_early(client: SocketStream, early: bytearray, dialling: anyio.CancelScope) -> None:
    """Keep what the client says while its link is being made; if it leaves, end that."""
    while len(early) < _EARLY_BYTES:
        try:
            early += await client.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            dialling.cancel()
            return


async def _join(stream: SocketStream, end: NetworkStream) -> None:
    """Carry bytes both ways until both are over, or either end breaks; then neither is open any more."""
    whole = [False, False]
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_pump_in, stream, end, whole, tasks.cancel_scope)
            tasks.start_soon(_pump_out, end, stream, whole, tasks.cancel_scope)
    finally:
        if all(whole):
            await stream.aclose()
            await end.aclose()
        else:
            end.abort()
            await _reset(stream)


async def _pump_in(stream: SocketStream, end: NetworkStream, whole: list[bool], both: anyio.CancelScope) -> None:
    try:
        while True:
            await end.send(await stream.receive())
    except anyio.EndOfStream:
        whole[0] = True
        both.deadline = anyio.current_time() + LINGER_S
        await end.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        both.cancel()


async def _pump_out(end: NetworkStream, stream: SocketStream, whole: list[bool], both: anyio.CancelScope) -> None:
    try:
        while True:
            await stream.send(await end.receive())
    except anyio.EndOfStream:
        whole[1] = True
        try:
            await stream.send_eof()
        except (OSError, anyio.BrokenResourceError):
            both.cancel()  # the peer is gone already
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        both.cancel()


async def _reset(stream: SocketStream) -> None:
    """Close with an RST instead of a FIN."""
    raw = stream.extra(SocketAttribute.raw_socket)
    # On asyncio a transport whose peer has broken it off has closed its socket already.
    if raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    await anyio.aclose_forcefully(stream)
