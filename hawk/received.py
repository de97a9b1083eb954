"""A message from the broker as an application holds it, and its two words to hawk: acknowledge and reject."""

import json
from typing import Any, Protocol

from hawk.core.topics import matches, validate_filter
from hawk.messages import Delivered
from hawk.values import Properties


class Settles(Protocol):
    """The subscription that a message came by."""

    async def acknowledge(self, delivery: int) -> None:
        """It is handled."""

    async def reject(self, delivery: int, reason: str) -> None:
        """It never will be."""


class ReceivedMessage:
    """A message from the broker. It does not change, and may be kept."""

    __slots__ = ("_delivered", "_subscription")

    def __init__(self, delivered: Delivered, subscription: Settles) -> None:
        self._delivered = delivered
        self._subscription = subscription

    def __repr__(self) -> str:
        """Everything but the payload: it has no place in a log (promise C10)."""
        topic, payload, qos, *_ = self._delivered.message
        again = ", redelivered" if self._delivered.redelivered else ""
        return f"<ReceivedMessage on {topic!r}: {len(payload)} bytes, QoS {qos}{again}>"

    @property
    def topic(self) -> str:
        """The topic that it was published to."""
        return self._delivered.message.topic

    @property
    def topic_levels(self) -> tuple[str, ...]:
        """The topic, cut at each slash; levels may be empty."""
        return tuple(self._delivered.message.topic.split("/"))

    @property
    def payload(self) -> bytes:
        """The bytes that were published."""
        return self._delivered.message.payload

    @property
    def qos(self) -> int:
        """The QoS that it came with: 0, 1 or 2."""
        return self._delivered.message.qos

    @property
    def retain(self) -> bool:
        """Whether the broker had kept it from before; with `retain_as_published`, whether its publisher asked for that."""
        return self._delivered.message.retain

    @property
    def properties(self) -> Properties:
        """What else its publisher sent along (MQTT 5 section 3.3.2.3)."""
        return self._delivered.message.properties

    @property
    def redelivered(self) -> bool:
        """Whether it may have been given to somebody before who did not handle it."""
        return self._delivered.redelivered

    @property
    def delivery_key(self) -> str:
        """The same text however often hawk gives this delivery, and never that of another: to find repeats by.

        It is kept over a crash of the process at QoS 2, when an outbox file is set. At QoS 1 a broker that repeats over
        a crash makes a new delivery of it.
        """
        return self._delivered.key

    def text(self) -> str:
        """The payload as UTF-8. Raises `UnicodeDecodeError`, which ends nothing but this call."""
        return self._delivered.message.payload.decode()

    def json(self) -> Any:
        """The payload read as JSON. Raises `ValueError`, which ends nothing but this call."""
        return json.loads(self._delivered.message.payload)

    def matches(self, topic_filter: str) -> bool:
        """Whether that filter selects its topic. Raises `MessageInvalid` for what is no topic filter."""
        return matches(validate_filter(topic_filter), self._delivered.message.topic)

    async def acknowledge(self) -> None:
        """It is handled: the broker is told when its turn comes. Without `ack="manual"` that happens by itself.

        Once its block has ended this changes nothing. Cancelled, it was told or not.
        """
        await self._subscription.acknowledge(self._delivered.delivery)

    async def reject(self, reason: str) -> None:
        """It will never be handled here: it does not come again, and counts as `rejected`.

        The broker is told 0x83 in its turn; `reason` is for hawk's log. Cancelled, it was told or not.
        """
        await self._subscription.reject(self._delivered.delivery, reason)
