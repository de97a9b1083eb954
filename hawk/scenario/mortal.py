"""What one life of a client holds of the world: after its death it can neither send, nor hear, nor write to the disk.

A killed process is gone at once. A hawk that is cancelled says goodbye for a second or two; from the moment of the crash
these stand between it and everything else, so that nobody sees what it still tries.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio.abc import ByteStream

from hawk.connecting import Endpoint
from hawk.errors import StoreFailed
from hawk.messages import Commit, Page, ReadPage, Recovered
from hawk.packets import ConnectRequest
from hawk.ports import Dialer, Link, OutboxStore

T = TypeVar("T")

_BROKEN = (anyio.ClosedResourceError, anyio.BrokenResourceError)


class Mortality:
    """Whether the client lives. `kill` once; what was built on this one is dead then."""

    def __init__(self) -> None:
        self.alive = True
        self._streams: list[MortalStream] = []

    def watch(self, stream: ByteStream) -> "MortalStream":
        """A stream that dies with the client."""
        self._streams = [each for each in self._streams if not each.closed]
        mortal = MortalStream(stream, self)
        self._streams.append(mortal)
        return mortal

    async def kill(self) -> None:
        """The process is gone; the operating system closes its sockets."""
        self.alive = False
        for stream in self._streams:
            await stream.die()


class MortalStream(ByteStream):
    """A stream of one life."""

    def __init__(self, inner: ByteStream, mortality: Mortality) -> None:
        self.closed = False
        self._inner = inner
        self._mortality = mortality

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """As the stream inside. Raises `BrokenResourceError` after death."""
        try:
            return await self._inner.receive(max_bytes)
        except anyio.ClosedResourceError:
            if self._mortality.alive:
                raise
            raise anyio.BrokenResourceError from None

    async def send(self, item: bytes) -> None:
        """As the stream inside. Raises `BrokenResourceError` after death."""
        if not self._mortality.alive:
            raise anyio.BrokenResourceError
        try:
            await self._inner.send(item)
        except anyio.ClosedResourceError:
            if self._mortality.alive:
                raise
            raise anyio.BrokenResourceError from None

    async def send_eof(self) -> None:
        """As the stream inside."""
        await self._inner.send_eof()

    async def aclose(self) -> None:
        """Close. Idempotent."""
        self.closed = True
        await self._inner.aclose()

    async def die(self) -> None:
        """Close as the operating system does."""
        try:
            await self._inner.aclose()
        except _BROKEN:
            return


class MortalDialer:
    """A dialer of one life; `on_dial` is called at each dial. Dead, it dials for ever."""

    def __init__(self, inner: Dialer, mortality: Mortality, on_dial: Callable[[], None]) -> None:
        self._inner = inner
        self._mortality = mortality
        self._on_dial = on_dial

    async def dial(self, request: ConnectRequest) -> Link:
        """As the dialer inside."""
        if not self._mortality.alive:
            await anyio.sleep_forever()
        self._on_dial()
        return await self._inner.dial(request)

    async def reach(self, endpoint: Endpoint) -> None:
        """As the dialer inside; no dial for `on_dial`."""
        if not self._mortality.alive:
            await anyio.sleep_forever()
        await self._inner.reach(endpoint)


class MortalStore:
    """The disk as one life sees it. `on_failure` is called for each call that fails while it lives."""

    def __init__(self, inner: OutboxStore, mortality: Mortality, on_failure: Callable[[], None]) -> None:
        self._inner = inner
        self._mortality = mortality
        self._on_failure = on_failure

    @property
    def durable(self) -> bool:
        """As the store inside."""
        return self._inner.durable

    async def open(self) -> Recovered:
        """As the store inside."""
        return await self._told(self._inner.open)

    async def commit(self, changes: Commit) -> None:
        """As the store inside. Raises `StoreFailed` after death."""
        await self._told(lambda: self._inner.commit(changes))

    async def page(self, request: ReadPage) -> Page:
        """As the store inside. Raises `StoreFailed` after death."""
        return await self._told(lambda: self._inner.page(request))

    async def aclose(self) -> None:
        """As the store inside; after death it is another life's to close."""
        if self._mortality.alive:
            await self._inner.aclose()

    async def _told(self, do: Callable[[], Awaitable[T]]) -> T:
        if not self._mortality.alive:
            raise StoreFailed("the process is gone")
        try:
            return await do()
        except StoreFailed:
            if self._mortality.alive:
                self._on_failure()
            raise
