"""What an application iterates over: the messages of one subscription, and the events of one hawk."""

import itertools
import json
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.core.answers import judge_suback
from hawk.errors import Refused, Stopped
from hawk.messages import Delivered, Event, Handled, Subscribe, Unsubscribe, Watch, WatchFates
from hawk.packets import SubscribeFilter
from hawk.values import NO_PROPERTIES, Properties
from hawk.wiring import Service

EVENTS_KEPT = 10_000
REFUSAL = 0x80

_numbers = itertools.count(1)


class ReceivedMessage(NamedTuple):
    """A message from the broker. `redelivered`: it was given to a holder before who did not handle it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    redelivered: bool = False
    properties: Properties = NO_PROPERTIES

    def __repr__(self) -> str:
        """Everything but the payload: it has no place in a log (promise C10)."""
        size = f"{len(self.payload)} bytes"
        return (
            f"<ReceivedMessage on {self.topic!r}: {size}, QoS {self.qos}{', redelivered' if self.redelivered else ''}>"
        )

    def text(self) -> str:
        """The payload as UTF-8. Raises `UnicodeDecodeError`, which ends nothing but this call."""
        return self.payload.decode()

    def json(self) -> Any:
        """The payload read as JSON. Raises `ValueError`, which ends nothing but this call."""
        return json.loads(self.payload)


class Subscription:
    """The messages that match one filter, as a block and an async iterator. Made by `MQTTInterface.subscribe`.

    A message is handled, and then acknowledged, when the next one is asked for or the block ends. If the block raises,
    the one in hand is given back, and with it all that were not looked at.
    """

    def __init__(
        self, wanted: SubscribeFilter, *, start: Callable[[], Awaitable[Service]], patience_s: Callable[[], float]
    ) -> None:
        self._wanted = wanted
        self._start = start
        self._patience_s = patience_s
        self._number = next(_numbers)
        self._service: Service | None = None
        self._deliveries: MemoryObjectReceiveStream[Delivered] | None = None
        self._in_hand: Delivered | None = None

    async def __aenter__(self) -> "Subscription":
        """Subscribe. With a link, or one coming up, waits for the broker's SUBACK, at most `suback_timeout_s`; without
        one the subscription is made when the link is. Raises `Refused` or `Stopped`. Cancelling gives it up.
        """
        service = self._service = await self._start()
        to_subscriber, self._deliveries = anyio.create_memory_object_stream[Delivered](math.inf)
        answer = anyio.create_memory_object_stream[int](1)
        code = 0
        try:
            request = Subscribe(self._number, self._wanted, to_subscriber, answer[0])
            # Shielded, so that it is known whether the keeper has it: the keeper always reads.
            with anyio.CancelScope(shield=True):
                await service.send(service.to_subscription_keeper, request)
        except Stopped:
            for end in (to_subscriber, self._deliveries, *answer):
                end.close()
            raise
        try:
            with anyio.move_on_after(self._patience_s()):
                code = await service.ask(answer)
        except BaseException:
            await self._leave()
            raise
        if code >= REFUSAL:
            await self._leave()
            name, _, remedy = judge_suback(code)
            raise Refused(f"the subscription to {self._wanted.filter!r}", reason_code=code, reason=f"{name}; {remedy}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Unsubscribe. Shielded: the Subscription keeper always reads, so this takes one pass of the scheduler."""
        with anyio.CancelScope(shield=True):
            if error is None:
                await self._handle()
            await self._leave()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> ReceivedMessage:
        """Handle the message in hand and wait for the next. Ends when hawk stops. Cancelling loses no message."""
        if self._deliveries is None or self._service is None:
            raise RuntimeError("iterate inside `async with mqtt.subscribe(...)`")
        await self._handle()
        try:
            delivered = self._in_hand = await self._service.wait(self._deliveries.receive)
        except (anyio.EndOfStream, Stopped):
            raise StopAsyncIteration from None
        topic, payload, qos, retain, properties = delivered.message
        return ReceivedMessage(topic, payload, qos, retain, delivered.redelivered, properties)

    async def _handle(self) -> None:
        if self._in_hand is not None:
            await self._tell(Handled(self._number, (self._in_hand.delivery,)))
            self._in_hand = None

    async def _leave(self) -> None:
        if self._deliveries is not None:
            self._deliveries.close()
            with anyio.CancelScope(shield=True):
                await self._tell(Unsubscribe(self._number))

    async def _tell(self, message: Handled | Unsubscribe) -> None:
        assert self._service is not None
        if not self._service.ended:
            try:
                await self._service.send(self._service.to_subscription_keeper, message)
            except Stopped:
                # Nobody keeps deliveries any more: the broker's session has what was not acknowledged.
                return


class EventStream:
    """State changes and fates, oldest first, from the moment `MQTTInterface.events` was called. Close it, or let it go."""

    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._sender, self._events = anyio.create_memory_object_stream[Event](EVENTS_KEPT)

    @property
    def sender(self) -> MemoryObjectSendStream[Event]:
        """What the Stats collector is given."""
        return self._sender

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Event:
        """The next event. Ends when hawk disconnects. Cancelling loses none."""
        await self._watchers.attach_all()
        try:
            return await self._events.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self.close()
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._watchers.leave(self)
        self._sender.close()
        self._events.close()

    def __del__(self) -> None:
        self.close()


class Watchers:
    """Who reads events: those that the actors know of, and those that wait for the actors to start."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._waiting: list[MemoryObjectSendStream[Event]] = []
        self._readers: set[int] = set()
        self._service_told = False

    def open(self) -> EventStream:
        """A new stream. It listens from now on, or from when the actors start."""
        stream = EventStream(self)
        self._readers.add(id(stream))
        self._waiting.append(stream.sender)
        service = self._service
        if service is not None and not service.ended:
            with suppress(anyio.WouldBlock):  # full of older news: the first `__anext__` waits for its turn
                service.to_stats.send_nowait(Watch(stream.sender))
                self._waiting.remove(stream.sender)
                service.to_queue_keeper.send_nowait(WatchFates(watched=True))
                self._service_told = True
        return stream

    async def attach(self, service: Service) -> None:
        """The actors start: from now on these are the ones to listen to."""
        self._service = service
        self._service_told = False
        await self.attach_all()

    async def attach_all(self) -> None:
        """Tell the actors of every stream that they do not know yet."""
        service = self._service
        if service is None or service.ended:
            return
        while self._waiting:
            sender = self._waiting[0]
            await service.send(service.to_stats, Watch(sender))
            # Only now: cancelled before, it is still to be told.
            if sender in self._waiting:
                self._waiting.remove(sender)
        if self._readers and not self._service_told:
            self._service_told = True
            await service.send(service.to_queue_keeper, WatchFates(watched=True))

    def leave(self, stream: EventStream) -> None:
        """One reader fewer; without any, fates are no longer made into events."""
        self._readers.discard(id(stream))
        if stream.sender in self._waiting:
            self._waiting.remove(stream.sender)
        service = self._service
        if not self._readers and service is not None and not service.ended:
            with suppress(anyio.WouldBlock):  # then it makes events for nobody, until the next reader comes and leaves
                service.to_queue_keeper.send_nowait(WatchFates(watched=False))
                self._service_told = False
