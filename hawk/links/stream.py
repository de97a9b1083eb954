"""The link over any anyio byte stream: TCP, TLS, a Unix socket, or two ends in memory. It has no task of its own.

One task writes and one reads. The reader may write once, at the end: the DISCONNECT that tells a broker which rule it
broke. Dialing, and what a stream is made of, are elsewhere.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream

from hawk.asking import ask
from hawk.config import Config
from hawk.connecting import NO_CREDENTIALS, Authenticator, Credentials
from hawk.errors import ConnectRefused, LinkLost, ProtocolError, Unprepared, Unreachable
from hawk.links.discretion import without_password
from hawk.links.endings import CLOSED, STREAM_ENDED, cause_of
from hawk.packets import Arrivals, Challenge, Connack, ConnectRequest, DisconnectRequest, Outgoing
from hawk.protocol.version5 import Decoder, Encoder, decode_connack, encode_auth, encode_connect
from hawk.values import Cause, CauseKind

CHUNK_BYTES = 65_536
"""The most that one write joins, and one read takes."""

_FAREWELL_S = 1.0
_LAST_WORDS_S = 0.2


class StreamLink:
    """A `ports.Link`. The first end it meets, in either direction, is the cause that both report from then on."""

    def __init__(
        self,
        stream: ByteStream,
        *,
        connack: Connack,
        unread: bytes,
        maximum_packet_size: int,
        credentials: Credentials = NO_CREDENTIALS,
    ) -> None:
        self._stream = stream
        self._credentials = credentials
        self._connack = connack
        self._unread = unread
        self._decoder = Decoder(maximum_packet_size=maximum_packet_size)
        self._encoder = Encoder(
            topic_alias_maximum=connack.topic_alias_maximum, maximum_packet_size=connack.maximum_packet_size
        )
        self._write_lock = anyio.Lock(fast_acquire=True)
        self._torn = False
        self._written_bytes = 0
        self._cause: Cause | None = None
        self._ended = anyio.Event()

    @property
    def connack(self) -> Connack:
        """What the broker said when it accepted."""
        return self._connack

    @property
    def written_bytes(self) -> int:
        """How much the socket has taken since the CONNACK."""
        return self._written_bytes

    async def send(self, packets: Sequence[Outgoing]) -> None:
        """Write `packets` in this order, up to 64 KiB in one write; returns when the socket has taken them.

        Raises `LinkLost`. Cancelling tears the stream: the link can only be closed after that.
        """
        try:
            for chunk in _joined(self._encoder.encode(packets)):
                await self._write(chunk)
        except anyio.get_cancelled_exc_class():
            # Also between two of them: which of the packets are out is more than anybody knows.
            self._torn = True
            raise

    async def receive(self) -> Arrivals:
        """Wait for bytes and return all that they say; nothing, if they only begin a packet.

        Raises `LinkLost`, once what came before the end has been returned. Cancelling loses nothing.
        """
        if self._cause is not None:
            raise LinkLost(self._cause)
        if not self._decoder.has_ended():
            arrivals = self._decoder.feed(await self._read())
            if not self._decoder.has_ended() or arrivals.says_something:
                return arrivals
        raise await self._conclude()

    async def aclose(self) -> None:
        """Close at once, without a DISCONNECT. Idempotent; never raises; safe to cancel."""
        self._end(CLOSED)
        await close_forcefully(self._stream)

    async def _read(self) -> bytes:
        if self._unread:
            await anyio.lowlevel.checkpoint()
            unread, self._unread = self._unread, b""
            return unread
        try:
            return await self._stream.receive(CHUNK_BYTES)
        except STREAM_ENDED as error:
            raise self._end(cause_of(error)) from error

    async def _conclude(self) -> LinkLost:
        """End as the decoder's last packet says, and tell the broker which rule it broke, if it did."""
        ending = self._decoder.ending
        if self._cause is not None or ending is None:
            return self._end(CLOSED)
        lost = self._end(ending)
        if ending.kind is CauseKind.PROTOCOL_ERROR:
            await self._say_farewell(ending)
        return lost

    async def _write(self, chunk: bytes) -> None:
        async with self._write_lock:
            if self._cause is None and self._torn:
                self._end(Cause(CauseKind.CLOSED, "a write was cut short"))
            if self._cause is not None:
                raise LinkLost(self._cause)
            self._torn = True
            try:
                # A packet of megabytes goes in pieces, so that a slow link can be told from a dead one.
                for start in range(0, len(chunk), CHUNK_BYTES):
                    piece = chunk[start : start + CHUNK_BYTES]
                    await self._stream.send(piece)
                    self._written_bytes += len(piece)
            except STREAM_ENDED as error:
                failure = error
            else:
                self._torn = False
                return
        # A broker that closes says why before; the task that reads is about to find it.
        with anyio.move_on_after(_LAST_WORDS_S):
            await self._ended.wait()
        raise self._end(cause_of(failure)) from failure

    async def _say_farewell(self, cause: Cause) -> None:
        """Try to say DISCONNECT, for a second at most (MQTT 5.0, 4.13.1)."""
        (farewell,) = self._encoder.encode((DisconnectRequest(cause.reason_code or 0),))
        with anyio.move_on_after(_FAREWELL_S, shield=True):
            async with self._write_lock:
                if not self._torn:
                    try:
                        await self._stream.send(farewell)
                    except STREAM_ENDED:
                        return  # the broker has gone already

    def _end(self, cause: Cause) -> LinkLost:
        if self._cause is None:
            self._cause = cause._replace(text=without_password(cause.text, self._credentials))
            self._ended.set()
        return LinkLost(self._cause)


async def open_link(stream: ByteStream, *, config: Config, request: ConnectRequest) -> StreamLink:
    """Exchange CONNECT and CONNACK on a fresh stream; the link owns the stream from then on.

    Raises `Unreachable`, `ConnectRefused` or `Unprepared`, and closes the stream then, as it does when it is cancelled.
    """
    try:
        connack, unread = await _shake_hands(stream, config, request)
        if connack.reason_code:
            raise ConnectRefused(replace(connack, reason=without_password(connack.reason, request.credentials)))
    except BaseException:
        await close_forcefully(stream)
        raise
    return StreamLink(
        stream,
        connack=connack,
        unread=unread,
        maximum_packet_size=config.max_packet_size,
        credentials=request.credentials,
    )


async def close_forcefully(stream: ByteStream) -> None:
    """Close `stream` without waiting for its peer. Never raises, and closes even when cancelled."""
    with anyio.CancelScope(shield=True):
        try:
            await anyio.aclose_forcefully(stream)
        except STREAM_ENDED:
            return  # closed is what it should be


async def _shake_hands(stream: ByteStream, config: Config, request: ConnectRequest) -> tuple[Connack, bytes]:
    """The CONNACK, and the bytes that came behind it."""
    to, authenticator, received = _named(config, request), request.authenticator, bytearray()
    try:
        data = None if authenticator is None else await ask("authentication", authenticator.start)
        await stream.send(encode_connect(config, request, authentication_data=data))
        while True:
            received += await stream.receive(CHUNK_BYTES)
            answer = decode_connack(
                received,
                clean_start=request.clean_start,
                maximum_packet_size=config.max_packet_size,
                method=None if authenticator is None else authenticator.method,
            )
            if answer is None:
                continue
            said, size = answer
            del received[:size]
            if isinstance(said, Connack):
                await _finish(authenticator, said)
                return said, bytes(received)
            await _respond(stream, authenticator, said)
    except anyio.EndOfStream as error:
        raise Unreachable(f"{to} closed the connection without answering CONNECT") from error
    except STREAM_ENDED as error:
        why = cause_of(error).text
        raise Unreachable(f"{to} broke the connection without answering CONNECT: {why}") from error
    except ProtocolError as error:
        raise Unreachable(f"{to} does not answer as an MQTT 5 broker: {error}") from error
    except ValueError as error:
        raise Unprepared(str(error)) from error


async def _respond(stream: ByteStream, authenticator: Authenticator | None, challenge: Challenge) -> None:
    assert authenticator is not None, "an AUTH is read only if a method was named"
    data = await ask("authentication", partial(authenticator.answer, challenge.data))
    await stream.send(encode_auth(authenticator.method, data))


async def _finish(authenticator: Authenticator | None, connack: Connack) -> None:
    if authenticator is not None and not connack.reason_code:
        await ask("authentication", partial(authenticator.finish, connack.authentication_data))


def _named(config: Config, request: ConnectRequest) -> str:
    return str(request.endpoint or config.addresses[0])


def _joined(encoded: list[bytes]) -> Iterator[bytes]:
    """The same bytes in the same order, small packets joined up to `CHUNK_BYTES`."""
    ends = list(accumulate(map(len, encoded)))
    start = joined_bytes = 0
    while start < len(encoded):
        end = max(start + 1, bisect_right(ends, joined_bytes + CHUNK_BYTES))
        yield b"".join(encoded[start:end])
        start, joined_bytes = end, ends[end - 1]
