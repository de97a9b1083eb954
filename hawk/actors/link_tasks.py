"""The two tasks of one link: a reader that sorts what arrives to its keepers, and a writer that alone owns `send`.

Not an actor: children of the Connector, which starts them with a lane and hears `Lost` when both have ended. Whatever they
had to hand on has been handed on before that.
"""

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.actors.mailbox import MemoryLane, take_all
from hawk.errors import LinkLost
from hawk.interrupts import uninterrupted
from hawk.messages import Incoming, Lost, Settled, ToConnector, ToQueueKeeper, ToSubscriptionKeeper, Traffic, Transmit
from hawk.packets import AckKind, DisconnectRequest, Outgoing, Publish
from hawk.ports import Link
from hawk.values import Cause, CauseKind

FAILURE = 0x80
GOODBYE_S = 1.0
"""How long a DISCONNECT may take to be written."""
LAST_WORDS_S = 0.25
"""How long the broker may then take to close. Closing first, with bytes unread, would reset the link under our own."""
BUSY = 64
"""While so many PUBLISHes are unanswered, answers are read in groups."""
GATHERING_S = 0.001


class LinkTasks:
    """Reader and writer of one link, and what they have seen of it."""

    def __init__(
        self,
        link: Link,
        lane: MemoryLane,
        outgoing: MemoryObjectReceiveStream[Transmit],
        *,
        to_connector: MemoryObjectSendStream[ToConnector],
        to_queue_keeper: MemoryObjectSendStream[ToQueueKeeper],
        to_subscription_keeper: MemoryObjectSendStream[ToSubscriptionKeeper],
    ) -> None:
        self.lane = lane
        self.proven = False
        self._link = link
        self._outgoing = outgoing
        self._to_connector = to_connector
        self._to_queue_keeper = to_queue_keeper
        self._to_subscription_keeper = to_subscription_keeper
        self._scope = anyio.CancelScope()
        self._ending: Cause | None = None
        self._heard_at = self._wrote_at = anyio.current_time()
        self._write_since: float | None = None
        self._written_bytes = 0
        self._unanswered = 0
        lane.on_overflow = self._overflow

    @property
    def traffic(self) -> Traffic:
        """When this link last heard and wrote. A write that goes on counts from when it last got further."""
        written = self._link.written_bytes
        if self._write_since is not None and written != self._written_bytes:
            self._write_since = anyio.current_time()
        self._written_bytes = written
        return Traffic(self.lane, self._heard_at, self._wrote_at, self._write_since)

    async def run(self) -> None:
        """Read and write until the link ends, then say so. Cancelling closes the link and says nothing."""
        try:
            with self._scope:
                try:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(uninterrupted(self._write))
                        tasks.start_soon(uninterrupted(self._read))
                except* LinkLost as lost:
                    self._end(_first_cause(lost))
        finally:
            self._outgoing.close()
            self.lane.close()
            with anyio.CancelScope(shield=True):
                await self._link.aclose()
        cause = self._ending or Cause(CauseKind.CLOSED, "closed by hawk")
        await self._to_connector.send(Lost(self.lane, cause))

    def hang_up(self, why: str) -> None:
        """End the link now, without a DISCONNECT."""
        self._end(Cause(CauseKind.HUNG_UP, why))
        self._scope.cancel()

    def say_goodbye(self, goodbye: DisconnectRequest, *, why: str = "closed by hawk") -> None:
        """Write what is on the lane, then DISCONNECT; end the link within `GOODBYE_S`."""
        self._end(Cause(CauseKind.CLOSED, why))
        self._scope.deadline = anyio.current_time() + GOODBYE_S
        try:
            self.lane.send_nowait(Transmit((goodbye,)))
        except anyio.BrokenResourceError:
            self._scope.cancel()

    def _overflow(self) -> None:
        self.hang_up("the broker provokes more answers than it reads")

    def _end(self, cause: Cause) -> None:
        # The first cause is the true one; what follows are its consequences.
        self._ending = self._ending or cause

    async def _read(self) -> None:
        while True:
            arrivals = await self._link.receive()
            self._heard_at = anyio.current_time()
            acknowledged, acknowledgements = tuple(arrivals.acknowledged), tuple(arrivals.acknowledgements)
            if acknowledged or acknowledgements:
                self.proven = True
                await self._to_queue_keeper.send(Settled(self.lane, acknowledgements, acknowledged=acknowledged))
            if arrivals.inbound:
                await self._to_subscription_keeper.send(Incoming(self.lane, tuple(arrivals.inbound)))
            if arrivals.pong:
                self.proven = True
            answered = sum(
                1 for each in acknowledgements if each.kind is not AckKind.PUBREC or each.reason_code >= FAILURE
            )
            self._unanswered = max(0, self._unanswered - len(acknowledged) - answered)
            if self._unanswered >= BUSY:
                # A broker answers one by one, and every waking costs more than the answer that it brings.
                await anyio.sleep(GATHERING_S)

    async def _opening(self) -> list[Transmit]:
        """All that waits once the Queue keeper has said what is resumed, with that in front of the rest."""
        batch: list[Transmit] = []
        while not any(transmit.opening or _goodbye_in(transmit) for transmit in batch):
            batch += await self._next_batch()
        return sorted(batch, key=lambda transmit: not transmit.opening)

    async def _next_batch(self) -> list[Transmit]:
        return take_all(self._outgoing, await self._outgoing.receive())

    async def _write(self) -> None:
        packets, goodbye = _up_to_goodbye(await self._opening())
        while True:
            if goodbye is not None and goodbye.reason_code >= FAILURE:
                self._end(Cause(CauseKind.PROTOCOL_ERROR, "the broker went beyond its limits", goodbye.reason_code))
            if packets:
                await self._put_on_the_wire(packets)
            if goodbye is not None:
                break
            packets, goodbye = _up_to_goodbye(await self._next_batch())
        self._scope.deadline = min(self._scope.deadline, anyio.current_time() + LAST_WORDS_S)

    async def _put_on_the_wire(self, packets: list[Outgoing]) -> None:
        sent = 0
        for packet in packets:
            if type(packet) is Publish:
                if packet.identifier:
                    # Before it is written, for its answer may come before the write has ended.
                    self._unanswered += 1
                else:
                    sent += 1
        self._write_since = anyio.current_time()
        await self._link.send(packets)
        self._write_since, self._wrote_at = None, anyio.current_time()
        if sent:
            await self._to_queue_keeper.send(Settled(self.lane, (), sent))


def _up_to_goodbye(batch: list[Transmit]) -> tuple[list[Outgoing], DisconnectRequest | None]:
    """The packets of all, and the DISCONNECT among them: it is the last packet of a link (MQTT 5 section 3.14)."""
    packets: list[Outgoing] = []
    for transmit in batch:
        packets += transmit.packets
        goodbye = _goodbye_in(transmit)
        if goodbye is not None:
            return packets, goodbye
    return packets, None


def _goodbye_in(transmit: Transmit) -> DisconnectRequest | None:
    """The DISCONNECT that these packets end with, if they do."""
    last = transmit.packets[-1] if transmit.packets else None
    return last if type(last) is DisconnectRequest else None


def _first_cause(lost: BaseExceptionGroup[LinkLost]) -> Cause:
    inner = lost.exceptions[0]
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner.cause, Cause)
    return inner.cause
