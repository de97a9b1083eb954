"""The events of one hawk as an application iterates over them, and who reads them."""

from contextlib import suppress

import anyio

from hawk.messages import Event, Missed, Watch, WatchFates
from hawk.wiring import Service

EVENTS_KEPT = 10_000


class EventStream:
    """State changes and fates, oldest first, from the moment `MQTTInterface.events` was called. Close it, or let it go."""

    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._sender, self._events = anyio.create_memory_object_stream[Event](EVENTS_KEPT)
        self._missed_sender, self._missed = anyio.create_memory_object_stream[Missed](1)
        self.watch = Watch(self._sender, self._missed_sender)
        """What the Stats collector is given."""

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Event:
        """The next event. Ends when hawk disconnects. Cancelling loses none."""
        await self._watchers.attach_all()
        try:
            return await self._events.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            try:
                return self._missed.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
                self.close()
                raise StopAsyncIteration from None

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._watchers.leave(self)
        for end in (self._sender, self._events, self._missed_sender, self._missed):
            end.close()

    def __del__(self) -> None:
        self.close()


class Watchers:
    """Who reads events: those that the actors know of, and those that wait for the actors to start."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._waiting: list[Watch] = []
        self._readers: set[int] = set()
        self._service_told = False

    def open(self) -> EventStream:
        """A new stream. It listens from now on, or from when the actors start."""
        stream = EventStream(self)
        self._readers.add(id(stream))
        self._waiting.append(stream.watch)
        service = self._service
        if service is not None and not service.ended:
            with suppress(anyio.WouldBlock):  # full of older news: the first `__anext__` waits for its turn
                service.to_stats.send_nowait(stream.watch)
                self._waiting.remove(stream.watch)
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
            watch = self._waiting[0]
            await service.send(service.to_stats, watch)
            # Only now: cancelled before, it is still to be told.
            if watch in self._waiting:
                self._waiting.remove(watch)
        if self._readers and not self._service_told:
            self._service_told = True
            await service.send(service.to_queue_keeper, WatchFates(watched=True))

    def leave(self, stream: EventStream) -> None:
        """One reader fewer; without any, fates are no longer made into events."""
        self._readers.discard(id(stream))
        if stream.watch in self._waiting:
            self._waiting.remove(stream.watch)
        service = self._service
        if not self._readers and service is not None and not service.ended:
            with suppress(anyio.WouldBlock):  # then it makes events for nobody, until the next reader comes and leaves
                service.to_queue_keeper.send_nowait(WatchFates(watched=False))
                self._service_told = False
