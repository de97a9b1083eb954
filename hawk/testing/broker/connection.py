"""One client's connection to the broker: reads, lets the rules answer, writes. The rules are in `conversation.py`."""

import math
import socket
from collections.abc import Callable
from struct import pack
from typing import Protocol, runtime_checkable

import anyio
from anyio.abc import ByteStream, SocketAttribute, TaskGroup

from hawk.testing.broker.codec import PacketReader, Refusal, write_disconnect
from hawk.testing.broker.conversation import Conversation
from hawk.testing.broker.session import Session, Will

KEEP_ALIVE_TIMEOUT = 0x8D
_FAREWELL_S = 0.2
_MOST_WRITTEN_BYTES = 64 * 1024
_MOST_UNWRITTEN_BYTES = 1024 * 1024
_LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


@runtime_checkable
class Resettable(Protocol):
    """A stream that can break without a word."""

    def reset(self) -> None:
        """Break at once for both ends."""


class Connection:
    """Serves one stream until either side ends it. Whoever reads flushes; a second task flushes what others queue."""

    def __init__(
        self, stream: ByteStream, conversation: Conversation, schedule_will: Callable[[Session, Will], None]
    ) -> None:
        conversation.outlet = self
        self._stream = stream
        self._conversation = conversation
        self._schedule_will = schedule_will
        self._reader = PacketReader(maximum_packet_bytes=conversation.limits.maximum_packet_size)
        self._scope = anyio.CancelScope()
        self._something_queued = anyio.Event()
        self._written: anyio.Event | None = None
        self._flushing = False
        self._torn = False
        self._ended = False
        self._farewell: int | None = None
        self._heard_at = 0.0

    async def run(self) -> None:
        """Serve. Returns when the connection is over; cancelled or not, the stream is closed then."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._flush_when_woken)
                    await self._read(tasks)
                    tasks.cancel_scope.cancel()
            self._leave()
            if self._farewell is not None and not self._torn:
                await self._say_farewell(self._farewell)
        finally:
            self._leave()
            await anyio.aclose_forcefully(self._stream)

    def wake(self) -> None:
        """Part of `Outlet`: the session has something to write."""
        self._something_queued.set()

    def end(self, reason_code: int | None) -> None:
        """Write what is ready, then DISCONNECT with this reason code (None: without), and close. Idempotent."""
        if self._ended:
            return
        # Before its CONNACK a client may not be sent a DISCONNECT.
        self._ended, self._farewell = True, reason_code if self._conversation.is_open else None
        if self._flushing:
            # A cancelled write tears its packet: let it finish, but not for ever.
            self._scope.deadline = anyio.current_time() + _FAREWELL_S
        else:
            self._scope.cancel()

    def kill(self) -> None:
        """Die at once without a byte, with an RST where the stream can."""
        self._ended, self._farewell = True, None
        if isinstance(self._stream, Resettable):
            self._stream.reset()
        else:
            raw = self._stream.extra(SocketAttribute.raw_socket, None)
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        self._scope.cancel()

    def restart_keep_alive(self) -> None:
        """Count the client's silence from now: the broker itself was not listening."""
        self._heard_at = anyio.current_time()

    async def _read(self, tasks: TaskGroup) -> None:
        conversation, behaviour = self._conversation, self._conversation.behaviour
        watched = False
        while True:
            if behaviour.paused is not None:
                await behaviour.while_paused()
            try:
                data = await self._stream.receive()
            except _LOST:
                return
            if behaviour.paused is not None:
                await behaviour.while_paused()
            if self._ended:
                await self._wait_for_the_end()
            now = self._heard_at = anyio.current_time()
            packets, fault = self._reader.feed(data)
            try:
                conversation.hear(packets, now)
                if fault is not None:
                    raise Refusal(fault)
            except Refusal as refusal:
                self.end(refusal.reason_code)
                await self._wait_for_the_end()
            if conversation.is_over:
                # What was answered before the end, such as a CONNACK that refuses, is still to be written.
                await self._flush()
                self.end(None)
                await self._wait_for_the_end()
            if not watched and conversation.keep_alive_s:
                watched = True
                tasks.start_soon(self._watch_silence, 1.5 * conversation.keep_alive_s)
            await self._flush()
            while self._flushing and conversation.unwritten_bytes > _MOST_UNWRITTEN_BYTES:
                self._written = anyio.Event()
                await self._written.wait()

    async def _wait_for_the_end(self) -> None:
        """After `end`: another task may still be writing, and cancels the scope when it is through."""
        await anyio.sleep_forever()

    async def _flush_when_woken(self) -> None:
        while True:
            await self._something_queued.wait()
            self._something_queued = anyio.Event()
            await self._conversation.behaviour.while_paused()
            await self._flush()

    async def _flush(self) -> None:
        """Write everything that is due. If another task is at it, that one writes this too."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while data := self._conversation.take_bytes(anyio.current_time(), _MOST_WRITTEN_BYTES):
                self._torn = True
                await self._stream.send(data)
                self._torn = False
                if self._written is not None:
                    self._written.set()
                if self._ended:
                    self._scope.cancel()
                    return
                await self._conversation.behaviour.while_paused()
        except _LOST:
            self._scope.cancel()
        finally:
            self._flushing = False

    async def _watch_silence(self, longest_s: float) -> None:
        while True:
            await anyio.sleep_until(self._heard_at + longest_s)
            await self._conversation.behaviour.while_paused()
            if anyio.current_time() >= self._heard_at + longest_s:
                self.end(KEEP_ALIVE_TIMEOUT)
                return

    def _leave(self) -> None:
        session = self._conversation.leave(anyio.current_time())
        if session is not None and session.will is not None:
            self._schedule_will(session, session.will)

    async def _say_farewell(self, reason_code: int) -> None:
        if self._conversation.behaviour.paused is not None:
            return
        self._conversation.note_disconnect(reason_code, anyio.current_time())
        data = self._conversation.take_bytes(anyio.current_time(), math.inf) + write_disconnect(reason_code)
        with anyio.move_on_after(_FAREWELL_S):
            try:
                await self._stream.send(data)
                await self._stream.aclose()
            except _LOST:
                return
