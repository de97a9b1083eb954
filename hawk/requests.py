"""Request and response (MQTT 5 section 4.10): who waits for which answer. Made by `MQTTInterface.request`.

Each hawk has one response topic, and one subscription to it that its first request makes and `disconnect()` ends. What
comes there finds its request by the correlation data; what comes too late, twice, or from somebody else finds none.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol
from urllib.parse import quote

import anyio
from anyio.lowlevel import checkpoint

from hawk.core.wire_size import LARGEST_EXPIRY_S
from hawk.errors import Expired, HawkError, MessageInvalid, NoResponse, Refused, Stopped
from hawk.eventlog import log_event
from hawk.interrupts import uninterrupted
from hawk.payload import Payload
from hawk.receipt import Receipt
from hawk.received import ReceivedMessage
from hawk.subscription import Subscription
from hawk.values import Properties

logger = logging.getLogger(__name__)

RESPONSE_QOS = 1
"""So that the broker keeps an answer that comes while the link is down."""


class _StartTask(Protocol):
    def __call__(self, task: Callable[..., Awaitable[None]], /, *args: object, name: object = None) -> object: ...


class _Publish(Protocol):
    async def __call__(
        self, topic: str, payload: Payload, *, qos: int | None = None, properties: Properties
    ) -> Receipt: ...


def response_topic_of(client_identifier: str) -> str:
    """Where the answers for this client go: `hawk/response/` and its client identifier, percent-encoded into one level."""
    return f"hawk/response/{quote(client_identifier, safe='')}"


class _Waiting:
    """One request that waits. The first that comes, an answer or a failure, counts."""

    __slots__ = ("acknowledged", "answer", "done", "failure")

    def __init__(self) -> None:
        self.acknowledged = False
        self.answer: ReceivedMessage | None = None
        self.failure: HawkError | None = None
        self.done = anyio.Event()

    def fail(self, failure: HawkError) -> None:
        if not self.done.is_set():
            self.failure = failure
            self.done.set()


class _Listening:
    """One life of the subscription, with the requests that rely on it."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, _Waiting] = {}
        self.begun = anyio.Event()
        self.ended = anyio.Event()
        self.failure: HawkError | None = None
        self.scope = anyio.CancelScope()


class Requests:
    """The requests of one hawk that are under way."""

    def __init__(
        self,
        response_topic: str,
        *,
        start: Callable[[], Awaitable[object]],
        start_task: _StartTask,
        subscribe: Callable[[str, int], Subscription],
        publish: _Publish,
        random: Random,
    ) -> None:
        self._response_topic = response_topic
        self._start = start
        self._start_task = start_task
        self._subscribe = subscribe
        self._publish = publish
        self._random = random
        self._listening: _Listening | None = None

    async def ask(
        self, topic: str, payload: Payload, *, timeout_s: float, qos: int | None, properties: Properties
    ) -> ReceivedMessage:
        """See `MQTTInterface.request`."""
        _check(timeout_s, properties)
        correlation_data = self._random.getrandbits(128).to_bytes(16, "big")
        waiting = _Waiting()
        with anyio.move_on_after(timeout_s):
            await self._start()
            listening = await self._listen()
            listening.waiting[correlation_data] = waiting
            try:
                receipt = await self._publish(
                    topic, payload, qos=qos, properties=self._addressed(properties, correlation_data, timeout_s)
                )
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_follow, receipt, waiting, properties.expiry_s is not None)
                    await waiting.done.wait()
                    tasks.cancel_scope.cancel()
            finally:
                del listening.waiting[correlation_data]
        # Also what came in the same moment as the deadline.
        if waiting.answer is not None:
            return waiting.answer
        if waiting.failure is not None:
            raise waiting.failure
        raise NoResponse(topic, timeout_s, acknowledged=waiting.acknowledged)

    async def aclose(self) -> None:
        """End the subscription: whoever waits is told `Stopped`. Cancelling is put off; this takes a few passes."""
        listening = self._listening
        if listening is not None:
            with anyio.CancelScope(shield=True):
                listening.scope.cancel()
                await listening.ended.wait()
                # The Subscription keeper takes the Unsubscribe before anything that is sent after this.
                await checkpoint()

    def _addressed(self, properties: Properties, correlation_data: bytes, timeout_s: float) -> Properties:
        # A request whose sender has given up shall not be carried out later.
        unlimited = properties.expiry_s is not None or timeout_s > LARGEST_EXPIRY_S
        return properties._replace(
            expiry_s=properties.expiry_s if unlimited else timeout_s,
            response_topic=self._response_topic,
            correlation_data=correlation_data,
        )

    async def _listen(self) -> _Listening:
        """The subscription, made or found. Raises `Refused` or `Stopped`."""
        listening = self._listening
        if listening is None:
            listening = self._listening = _Listening()
            self._start_task(uninterrupted(self._serve), listening, name="hawk requests")
        await listening.begun.wait()
        failure = listening.failure
        if isinstance(failure, Refused):
            what = f"no answer can be received: the subscription to {self._response_topic!r}"
            raise Refused(what, reason_code=failure.reason_code, reason=failure.reason) from failure
        if failure is not None:
            raise Stopped(str(failure)) from failure
        return listening

    async def _serve(self, listening: _Listening) -> None:
        """Hand out answers until hawk stops, or `aclose`."""
        try:
            with listening.scope:
                async with self._subscribe(self._response_topic, RESPONSE_QOS) as messages:
                    listening.begun.set()
                    async for message in messages:
                        self._hand_out(message, listening)
        except HawkError as failure:
            listening.failure = failure
        finally:
            self._listening = None
            if listening.failure is None:
                listening.failure = Stopped("hawk stopped")
            for waiting in listening.waiting.values():
                waiting.fail(Stopped("hawk stopped before the request was answered"))
            listening.begun.set()
            listening.ended.set()

    def _hand_out(self, message: ReceivedMessage, listening: _Listening) -> None:
        correlation_data = message.properties.correlation_data
        waiting = None if correlation_data is None else listening.waiting.get(correlation_data)
        if waiting is None or waiting.done.is_set():
            log_event(logger, logging.DEBUG, "response ignored", topic=message.topic, why="no request waits for it")
            return
        waiting.answer = message
        waiting.done.set()


async def _follow(receipt: Receipt, waiting: _Waiting, has_own_expiry: bool) -> None:
    """A request that cannot arrive will not be answered either."""
    try:
        await receipt.acknowledged()
        waiting.acknowledged = True
    except Expired as expired:
        if has_own_expiry:
            waiting.fail(expired)
        # Else it expires with the request's own time, which is about to be told.
    except HawkError as failure:
        waiting.fail(failure)


def _check(timeout_s: object, properties: object) -> None:
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or math.isnan(timeout_s) or timeout_s < 0:
        raise MessageInvalid(f"timeout_s must be a number of seconds, not {timeout_s!r}")
    if not isinstance(properties, Properties):
        raise MessageInvalid(f"properties must be hawk.Properties, not {type(properties).__name__}")
    if properties.response_topic is not None or properties.correlation_data is not None:
        raise MessageInvalid("request() sets response_topic and correlation_data itself: publish() sends others")
