"""One client's session (MQTT 5 section 4.1): what waits for it, what it has not acknowledged, what it subscribed. Pure.

A session outlives connections. While one is attached, `write_into` turns what is due into bytes.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mqtt5 import PublishPacket, QoS

from hawk.testing.broker.codec import PUBREL, write_acknowledgement
from hawk.testing.broker.record import Recorder

NEVER_EXPIRES = 0xFFFF_FFFF
_QOS = (QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE, QoS.EXACTLY_ONCE)


class Outlet(Protocol):
    """The connection that a session is attached to."""

    def wake(self) -> None:
        """Something may be written: call `write_into` soon."""

    def end(self, reason_code: int) -> None:
        """Say DISCONNECT with this reason code, and close."""


@dataclass(frozen=True, slots=True)
class Message:
    """An application message inside the broker. `packet` carries the properties that are passed on."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    publisher: str | None
    expires_at: float
    packet: PublishPacket


@dataclass(frozen=True, slots=True)
class Will:
    """What a session says when its connection dies, and how long after (section 3.1.3.2.2)."""

    message: Message
    delay_s: int
    message_expiry_s: int | None


class Subscription(NamedTuple):
    """A filter that a session subscribed, with its options (section 3.8.3.1). `group` is that of `$share`, or None."""

    client_identifier: str
    group: str | None
    pattern: str
    qos: int
    no_local: bool
    retain_as_published: bool
    identifier: int | None


class Queued(NamedTuple):
    """A message on its way to one client."""

    message: Message
    qos: int
    retain: bool
    subscription_identifiers: tuple[int, ...]


@dataclass(slots=True)
class InFlight:
    """A message being written, at QoS 1 and 2 until it is acknowledged.

    `sent`: on the present connection; `repeated`: also on an earlier one; `released`: its PUBREC came.
    """

    queued: Queued
    sent: bool = False
    repeated: bool = False
    released: bool = False


class Session:
    """See the module. `expires_at` is infinite while a connection is attached."""

    def __init__(self, client_identifier: str) -> None:
        self.client_identifier = client_identifier
        self.subscriptions: dict[str, Subscription] = {}
        self.awaiting_release: set[int] = set()
        self.in_flight: dict[int, InFlight] = {}
        self.queue: deque[Queued] = deque()
        self.outlet: Outlet | None = None
        self.expiry_s = 0
        self.expires_at = math.inf
        self.will: Will | None = None
        self.will_at = math.inf
        self._receive_maximum = 65_535
        self._maximum_packet_bytes: int | None = None
        self._unsent: deque[int] = deque()
        self._outstanding = 0
        self._last_identifier = 0

    def attach(self, outlet: Outlet, *, expiry_s: int, receive_maximum: int, maximum_packet_bytes: int | None) -> None:
        """A connection took the session: everything in flight is due again, oldest first (section 4.4)."""
        self.outlet = outlet
        self.expiry_s, self.expires_at = expiry_s, math.inf
        self.will, self.will_at = None, math.inf
        self._receive_maximum, self._maximum_packet_bytes = receive_maximum, maximum_packet_bytes
        self._unsent = deque(self.in_flight)
        self._outstanding = 0
        for entry in self.in_flight.values():
            entry.repeated, entry.sent = entry.repeated or entry.sent, False

    def detach(self, now: float) -> None:
        """The connection is gone: the session's expiry starts to count, and so does its will's delay."""
        self.outlet = None
        if self.expiry_s != NEVER_EXPIRES:
            self.expires_at = now + self.expiry_s
        # A QoS 0 message is for whoever is there: it does not wait for the next connection.
        self.queue = deque(queued for queued in self.queue if queued.qos)
        if self.will is not None:
            self.will_at = min(now + self.will.delay_s, self.expires_at)

    def enqueue(self, queued: Queued) -> None:
        """Add a message behind all others; QoS 0 only while connected."""
        if self.outlet is not None:
            self.queue.append(queued)
            self.outlet.wake()
        elif queued.qos:
            self.queue.append(queued)

    def write_into(self, out: list[bytes], now: float, most_bytes: float, recorder: Recorder | None) -> bool:
        """Append to `out` what the client's Receive Maximum lets go, about `most_bytes`; whether more may follow."""
        written = 0
        while written < most_bytes:
            identifier, entry = self._next(now)
            if entry is None:
                return False
            data = self._encode(identifier, entry, now, recorder)
            if data:
                out.append(data)
                written += len(data)
        return True

    def on_puback(self, identifier: int) -> None:
        """QoS 1 is done; an identifier that is not in flight is ignored."""
        entry = self.in_flight.get(identifier)
        if entry is not None and entry.queued.qos == 1:
            self._complete(identifier, entry)

    def on_pubrec(self, identifier: int, reason_code: int) -> bool:
        """QoS 2 arrived, or was refused, which ends it (section 4.3.3). Whether the identifier is in flight."""
        entry = self.in_flight.get(identifier)
        if entry is None or entry.queued.qos != 2:
            return False
        if reason_code >= 0x80:
            self._complete(identifier, entry)
        else:
            entry.released = True
        return True

    def on_pubcomp(self, identifier: int) -> None:
        """QoS 2 is done; an identifier that was not released is ignored."""
        entry = self.in_flight.get(identifier)
        if entry is not None and entry.released:
            self._complete(identifier, entry)

    def _complete(self, identifier: int, entry: InFlight) -> None:
        del self.in_flight[identifier]
        self._outstanding -= entry.sent

    def _next(self, now: float) -> tuple[int, InFlight | None]:
        while self._unsent:
            entry = self.in_flight.get(self._unsent[0])
            if entry is None:
                self._unsent.popleft()
                continue
            if not entry.released and self._outstanding >= self._receive_maximum:
                return 0, None
            return self._unsent.popleft(), entry
        while self.queue:
            queued = self.queue[0]
            if queued.message.expires_at <= now:
                self.queue.popleft()
                continue
            if not queued.qos:
                return 0, InFlight(self.queue.popleft())
            if self._outstanding >= self._receive_maximum or len(self.in_flight) == 65_535:
                return 0, None
            self.queue.popleft()
            identifier = self._free_identifier()
            entry = self.in_flight[identifier] = InFlight(queued)
            return identifier, entry
        return 0, None

    def _free_identifier(self) -> int:
        identifier = self._last_identifier % 65_535 + 1
        while identifier in self.in_flight:
            identifier = identifier % 65_535 + 1
        self._last_identifier = identifier
        return identifier

    def _encode(self, identifier: int, entry: InFlight, now: float, recorder: Recorder | None) -> bytes:
        """The packet; empty when it is larger than the client takes, which counts as delivered (section 3.1.2.11.4)."""
        queued = entry.queued
        if entry.released:
            self._mark_sent(entry)
            if recorder is not None:
                recorder.acknowledgement("out", "PUBREL", identifier, 0)
            return write_acknowledgement(PUBREL, identifier)
        data = _encode_publish(queued, identifier, entry.repeated, now)
        if self._maximum_packet_bytes is not None and len(data) > self._maximum_packet_bytes:
            self.in_flight.pop(identifier, None)
            return b""
        if identifier:
            self._mark_sent(entry)
        if recorder is not None:
            message = queued.message
            recorder.publish(
                "out", identifier, message.topic, message.payload, queued.qos, entry.repeated, queued.retain, 0
            )
        return data

    def _mark_sent(self, entry: InFlight) -> None:
        entry.sent = True
        self._outstanding += 1


def _encode_publish(queued: Queued, identifier: int, duplicate: bool, now: float) -> bytes:
    message = queued.message
    carried = message.packet
    expires_at = message.expires_at
    return PublishPacket(
        message.topic,
        message.payload,
        qos=_QOS[queued.qos],
        retain=queued.retain,
        packet_id=identifier or None,
        duplicate=duplicate,
        payload_format_indicator=carried.payload_format_indicator,
        message_expiry_interval=None if expires_at == math.inf else max(0, math.ceil(expires_at - now)),
        content_type=carried.content_type,
        response_topic=carried.response_topic,
        correlation_data=carried.correlation_data,
        subscription_ids=list(queued.subscription_identifiers),
        user_properties=carried.user_properties,
    ).write()
