"""Dialing: from one request to a link. Says what failed in words that an operator can act on.

`NetworkDialer` opens sockets: TCP, TLS, Unix. `StreamDialer` takes any byte stream that a test or an application brings.
"""

import math
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from anyio.abc import ByteStream, SocketAttribute

from hawk.config import Config
from hawk.connecting import Endpoint, Transport
from hawk.errors import Unreachable, Untrusted
from hawk.links.stream import StreamLink, close_forcefully, open_link
from hawk.links.tls import tls_context, wrap
from hawk.packets import ConnectRequest

_BROKEN = (OSError, UnicodeError, anyio.BrokenResourceError, anyio.EndOfStream)

MOST_NOT_SENT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class StreamDialer:
    """A `ports.Dialer` over whatever byte stream `connect` brings, for every endpoint the same.

    `connect` may raise `OSError`, `UnicodeError` (a name that no host has) or an anyio error of a broken stream.
    """

    config: Config
    connect: Callable[[], Awaitable[ByteStream]]

    async def dial(self, request: ConnectRequest) -> StreamLink:
        """Connect, then exchange CONNECT and CONNACK. No deadline of its own: the caller sets one.

        Raises as a `ports.Dialer` does. Cancelling leaves no socket behind.
        """
        stream = await _told(self.connect, request.endpoint or self.config.addresses[0])
        return await open_link(stream, config=self.config, request=request)

    async def reach(self, endpoint: Endpoint) -> None:
        """Connect, and close again. Raises and cancels as `dial`."""
        await close_forcefully(await _told(self.connect, endpoint))


@dataclass(frozen=True, slots=True)
class NetworkDialer:
    """A `ports.Dialer` over sockets: the endpoint of each request says which.

    Every address of a name is tried (RFC 6555). Small packets are not held back. Where the system has TCP_USER_TIMEOUT,
    what it cannot deliver ends the connection as late as promise C6 allows. Where it has TCP_NOTSENT_LOWAT, it takes little
    that it cannot send yet: a long message on a slow link is seen to get on, and no ping stands behind it.
    """

    config: Config

    async def dial(self, request: ConnectRequest) -> StreamLink:
        """Look the name up, connect, speak TLS if the endpoint wants it, exchange CONNECT and CONNACK.

        Raises as a `ports.Dialer` does. Cancelling leaves no socket behind.
        """
        stream = await self._connect(request.endpoint or self.config.addresses[0])
        return await open_link(stream, config=self.config, request=request)

    async def reach(self, endpoint: Endpoint) -> None:
        """Connect and speak TLS, say nothing, and close again. Raises and cancels as `dial`."""
        await close_forcefully(await self._connect(endpoint))

    async def _connect(self, endpoint: Endpoint) -> ByteStream:
        if endpoint.transport is Transport.UNIX:
            return await _told(lambda: anyio.connect_unix(endpoint.host), endpoint)
        # Before the connection: a file that cannot be read shall not leave one half open.
        context = await tls_context(self.config) if endpoint.transport is Transport.TLS else None
        stream = await _told(lambda: self._connect_tcp(endpoint), endpoint)
        if context is None:
            return stream
        return await _told(
            lambda: wrap(stream, config=self.config, context=context, server_name=endpoint.host), endpoint
        )

    async def _connect_tcp(self, endpoint: Endpoint) -> ByteStream:
        # Both of anyio's backends set TCP_NODELAY.
        stream = await anyio.connect_tcp(endpoint.host, endpoint.port)
        try:
            self._tune(stream.extra(SocketAttribute.raw_socket))
        except OSError:
            # Some systems say only here that the peer has gone again.
            await close_forcefully(stream)
            raise
        return stream

    def _tune(self, raw: socket.socket) -> None:
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout_s = 1.5 * self.config.health_check_interval + self.config.pong_deadline_s
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(timeout_s * 1000))
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MOST_NOT_SENT_BYTES)


async def _told(connect: Callable[[], Awaitable[ByteStream]], endpoint: Endpoint) -> ByteStream:
    """What `connect` brings; what it raises, as a sentence that begins with the endpoint."""
    try:
        return await connect()
    except Untrusted as error:
        raise Untrusted(f"{endpoint}: {error}") from error
    except _BROKEN as error:
        raise Unreachable(f"{endpoint}: {_what_failed(error)}") from error


def _what_failed(error: Exception) -> str:
    match error:
        case socket.gaierror():
            return f"the name cannot be looked up: {error.strerror or error}"
        case UnicodeError():
            return "this is not the name of a host"
        case ConnectionRefusedError():
            return "connection refused: nothing listens on that port"
        case TimeoutError():
            return "the connection attempt timed out"
        case OSError() if isinstance(error.__cause__, ExceptionGroup):
            return "; ".join(sorted({_what_failed(each) for each in error.__cause__.exceptions}))
        case OSError() if isinstance(error.__cause__, OSError):
            return _what_failed(error.__cause__)
        case OSError():
            return error.strerror or str(error) or type(error).__name__
        case _:
            return str(error) or "the connection broke while it was made"
