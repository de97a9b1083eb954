"""Dialing: from the settings to a link. Says what failed in words that an operator can act on; sets no deadline."""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from anyio.abc import ByteStream

from hawk.config import Config
from hawk.errors import Unreachable
from hawk.links.stream import StreamLink, endpoint, open_link
from hawk.packets import ConnectRequest


@dataclass(frozen=True, slots=True)
class StreamDialer:
    """A `ports.Dialer` over whatever byte stream `connect` brings.

    `connect` may raise `OSError`, `UnicodeError` (a name that no host has) or an anyio error of a broken stream.
    """

    config: Config
    connect: Callable[[], Awaitable[ByteStream]]

    async def dial(self, request: ConnectRequest) -> StreamLink:
        """Connect, then exchange CONNECT and CONNACK. No deadline of its own: the caller sets one.

        Raises `Unreachable` or `ConnectRefused`. Cancelling leaves no socket behind.
        """
        try:
            stream = await self.connect()
        except (OSError, UnicodeError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            raise Unreachable(f"{endpoint(self.config)}: {_what_failed(error)}") from error
        return await open_link(stream, config=self.config, request=request)


def tcp_dialer(config: Config) -> StreamDialer:
    """A dialer over plain TCP: every address of the name is tried (RFC 6555). Small packets are not held back."""

    async def connect() -> ByteStream:
        # Both of anyio's backends set TCP_NODELAY.
        return await anyio.connect_tcp(config.broker, config.port)

    return StreamDialer(config, connect)


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
