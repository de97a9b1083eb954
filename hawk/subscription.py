"""The messages of one topic filter as an application holds them: a block that is iterated over, or that handlers serve.

What is received comes in runs, and is handed out one by one without a hop between.
"""

import itertools
import logging
import math
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Literal

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled
from anyio.streams.memory import MemoryObjectReceiveStream

from hawk.core.answers import FAILURE, answer_of
from hawk.errors import Refused, Stopped
from hawk.eventlog import log_event
from hawk.messages import Delivered, Handled, Rejected, Returned, Subscribe, Unsubscribe
from hawk.packets import SubscribeFilter
from hawk.received import ReceivedMessage
from hawk.wiring import Service

MESSAGES_WITHOUT_YIELDING = 64
MESSAGES_WITHOUT_THE_CLOCK = 8
LONGEST_WITHOUT_YIELDING_S = 0.001

QUIET_AFTER_FAILURE_S = 60.0
"""After an ERROR about a handler that failed: for so long its further failures are only counted."""

Handler = Callable[[ReceivedMessage], Awaitable[object]]
"""What an application handles one message with. If it raises, the message is given again."""
AckMode = Literal["auto", "manual"]

logger = logging.getLogger("hawk.subscription")

_numbers = itertools.count(1)


class Subscription:
    """The messages that match one filter. Made by `MQTTInterface.subscribe`, entered with `async with`, once.

    Iterated over, by one task, a message is handled, and then acknowledged, when the next one is asked for or the block
    ends. With a handler `workers` tasks call it as long as the block lasts, and a message is handled when it returns. If
    the block raises, what is in hand is given back, and with it all that was not looked at.
    """

    def __init__(
        self,
        wanted: SubscribeFilter,
        *,
        start: Callable[[], Awaitable[Service]],
        patience_s: Callable[[], float],
        ack: AckMode = "auto",
        handler: Handler | None = None,
        workers: int = 1,
    ) -> None:
        self._wanted = wanted
        self._start = start
        self._patience_s = patience_s
        self._automatic = ack == "auto"
        self._handler = handler
        self._workers = workers
        self._number = next(_numbers)
        self._service: Service | None = None
        self._deliveries: MemoryObjectReceiveStream[tuple[Delivered, ...]] | None = None
        self._run: deque[Delivered] = deque()
        self._turn = anyio.Lock()
        self._in_hand: Delivered | None = None
        self._expects_again = False
        self._unyielded = 0
        self._yielded_at = -math.inf
        self._tasks: TaskGroup | None = None
        self._idle: set[anyio.CancelScope] = set()
        self._leaving = False
        self._failure_told_at = -math.inf

    # ------------------------------------------------------------------------------------- as a block

    async def __aenter__(self) -> "Subscription":
        """Subscribe. With a link, or one coming up, waits for the broker's SUBACK, at most `suback_timeout_s`; without
        one the subscription is made when the link is. Raises `Refused` or `Stopped`. Cancelling gives it up.
        """
        if self._service is not None:
            raise RuntimeError("a subscription is entered once; call subscribe() again")
        service = self._service = await self._start()
        to_subscriber, self._deliveries = anyio.create_memory_object_stream[tuple[Delivered, ...]](math.inf)
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
        if code >= FAILURE:
            await self._leave()
            name, _, remedy = answer_of("SUBACK", code)
            raise Refused(f"the subscription to {self._wanted.filter!r}", reason_code=code, reason=f"{name}; {remedy}")
        if self._handler is not None:
            self._tasks = anyio.create_task_group()
            await self._tasks.__aenter__()
            for _ in range(self._workers):
                self._tasks.start_soon(self._work, self._handler, name=f"hawk handler of {self._wanted.filter}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Unsubscribe. Shielded: the Subscription keeper always reads, so this takes one pass of the scheduler.

        With a handler: what is being handled is waited for first; if the block raised, it is cancelled and given back.
        """
        try:
            if self._tasks is not None:
                self._leaving = True
                for scope in self._idle:
                    scope.cancel()
                if error is not None:
                    self._tasks.cancel_scope.cancel()
                # Without the block's own error, which goes on as it is, and in no group.
                await self._tasks.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                if error is None:
                    await self._handle()
                await self._leave()

    # ----------------------------------------------------------------------------------- as an iterator

    def __aiter__(self) -> "Subscription":
        if self._handler is not None:
            raise RuntimeError("its handler receives these messages; to iterate, subscribe without one")
        return self

    async def __anext__(self) -> ReceivedMessage:
        """Handle the message in hand and wait for the next. Ends when hawk stops. Cancelling loses no message."""
        if self._in_hand is not None:
            await self._handle()
        try:
            delivered = await self._next()
        except (anyio.EndOfStream, anyio.ClosedResourceError, Stopped):
            raise StopAsyncIteration from None
        if self._automatic or not delivered.message.qos:
            self._in_hand = delivered
        return ReceivedMessage(delivered, self)

    # ------------------------------------------------------------------------------ what messages ask for

    async def acknowledge(self, delivery: int) -> None:
        """For `ReceivedMessage.acknowledge`."""
        await self._tell(Handled(self._number, (delivery,)))

    async def reject(self, delivery: int, reason: str) -> None:
        """For `ReceivedMessage.reject`."""
        await self._tell(Rejected(self._number, delivery, reason))

    # ------------------------------------------------------------------------------------------ inside

    async def _next(self) -> Delivered:
        """The next delivery. Raises `EndOfStream` or `Stopped` when hawk stops."""
        if self._deliveries is None or self._service is None:
            raise RuntimeError("iterate inside `async with mqtt.subscribe(...)`")
        await self._let_others_run()
        if self._expects_again:
            self._fetch_what_waits(self._deliveries)
        if not self._run:
            async with self._turn:
                while not self._run:
                    self._accept(await self._service.wait(self._deliveries.receive))
        return self._run.popleft()

    async def _let_others_run(self) -> None:
        """A full pass of the scheduler after 64 messages or a millisecond, else only a look whether to be cancelled."""
        self._unyielded += 1
        if not self._unyielded % MESSAGES_WITHOUT_THE_CLOCK and (
            self._unyielded >= MESSAGES_WITHOUT_YIELDING
            or anyio.current_time() - self._yielded_at >= LONGEST_WITHOUT_YIELDING_S
        ):
            self._unyielded = 0
            await checkpoint()
            self._yielded_at = anyio.current_time()
        else:
            await checkpoint_if_cancelled()

    def _accept(self, delivered: tuple[Delivered, ...]) -> None:
        """What is given again comes first: it is older than all that waits."""
        if not delivered[0].redelivered:
            self._run.extend(delivered)
            return
        again = [each for each in delivered if each.redelivered]
        self._expects_again = False
        self._run.extendleft(reversed(again))
        self._run.extend(each for each in delivered if not each.redelivered)

    def _fetch_what_waits(self, deliveries: MemoryObjectReceiveStream[tuple[Delivered, ...]]) -> None:
        try:
            while True:
                self._accept(deliveries.receive_nowait())
        except (anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
            return

    async def _work(self, handler: Handler) -> None:
        """One worker. It serves in a task of its own: on asyncio that may end as cancelled though nobody cancelled it, when
        a handler waits for a task of the application that was.
        """
        hand: list[Delivered] = []
        while True:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._serve, handler, hand)
            if not hand:
                return
            await self._fail(hand.pop(), "it waited for a task that was cancelled")

    async def _serve(self, handler: Handler, hand: list[Delivered]) -> None:
        """A message at a time, until the block is left or hawk stops. `hand` has the one that is with the handler."""
        while not self._leaving:
            if self._run and not self._expects_again:
                await self._let_others_run()
                if self._run and not self._leaving:
                    await self._call(handler, hand, self._run.popleft())
                continue
            delivered = None
            with anyio.CancelScope() as scope:
                self._idle.add(scope)
                try:
                    delivered = await self._next()
                except (anyio.EndOfStream, Stopped):
                    return
                finally:
                    self._idle.discard(scope)
            if delivered is not None:
                await self._call(handler, hand, delivered)

    async def _call(self, handler: Handler, hand: list[Delivered], delivered: Delivered) -> None:
        hand.append(delivered)
        try:
            await handler(ReceivedMessage(delivered, self))
            hand.clear()
        except Exception as error:  # noqa: BLE001 - whatever a handler raises: its delivery is returned, and no task ends
            # Without the error's own text, which may quote the payload.
            hand.clear()
            raised_in = traceback.extract_tb(error.__traceback__)[-1]
            await self._fail(delivered, f"{type(error).__name__} at {raised_in.filename}:{raised_in.lineno}")
            return
        if self._automatic or not delivered.message.qos:
            await self._tell(Handled(self._number, (delivered.delivery,)))

    async def _fail(self, delivered: Delivered, why: str) -> None:
        """The handler failed on this one: it is given again. Told once a minute at most."""
        now = anyio.current_time()
        if now >= self._failure_told_at + QUIET_AFTER_FAILURE_S:
            self._failure_told_at = now
            log_event(
                logger,
                logging.ERROR,
                "handler failed",
                filter=self._wanted.filter,
                topic=delivered.message.topic,
                delivery_key=delivered.key,
                why=why,
                effect="the message is given again, max_deliveries times in all",
            )
        self._expects_again = True
        await self._tell(Returned(self._number, (delivered.delivery,)))

    async def _handle(self) -> None:
        if self._in_hand is not None:
            await self._tell(Handled(self._number, (self._in_hand.delivery,)))
            self._in_hand = None

    async def _leave(self) -> None:
        if self._deliveries is not None:
            self._fetch_what_waits(self._deliveries)
            unseen = tuple(each.delivery for each in self._run)
            self._run.clear()
            self._deliveries.close()
            with anyio.CancelScope(shield=True):
                await self._tell(Unsubscribe(self._number, unseen))

    async def _tell(self, message: Handled | Rejected | Returned | Unsubscribe) -> None:
        service = self._service
        if service is None or service.ended:
            return
        try:
            service.to_subscription_keeper.send_nowait(message)
        except anyio.WouldBlock:
            try:
                await service.send(service.to_subscription_keeper, message)
            except Stopped:
                return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            # Nobody keeps deliveries any more: the broker's session has what was not acknowledged.
            return
