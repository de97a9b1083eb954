"""What a broker knows: sessions, subscriptions, retained messages, wills. Pure: time is an argument, no I/O.

Connections ask it; it answers by queueing on sessions, which wake the connections they are attached to.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from mqtt5 import PublishPacket, TopicFilter

from hawk.testing.broker.routing import Group, Router
from hawk.testing.broker.session import Message, Outlet, Queued, Session, Subscription, Will
from hawk.testing.broker.topics import FilterTree, is_topic, split_filter

TOPIC_FILTER_INVALID = 0x8F
NO_SUBSCRIPTION_EXISTED = 0x11


class Attachment(NamedTuple):
    """What a CONNECT asks of a session."""

    client_identifier: str
    clean_start: bool
    expiry_s: int
    receive_maximum: int
    maximum_packet_bytes: int | None
    will: Will | None


class BrokerModel:
    """See the module."""

    def __init__(self, *, maximum_qos: int) -> None:
        self._maximum_qos = maximum_qos
        self.sessions: dict[str, Session] = {}
        self._retained: dict[str, Message] = {}
        self._router = Router()

    def attach(self, request: Attachment, outlet: Outlet, now: float) -> tuple[Session, bool]:
        """Give a connection its session, and say whether it was present (section 3.1.2.4).

        An older connection of the same client identifier ends with 0x8E; a will that still waits is dropped when the
        session goes on, and published when it ends here (sections 3.1.3.2.2 and 3.1.4).
        """
        self.prune(now)
        present = False
        session = self.sessions.get(request.client_identifier)
        if session is not None:
            older = session.outlet
            if older is not None:
                session.detach(now)
                older.end(0x8E)
                self.publish_due_will(session, now)
            if request.clean_start or session.expires_at <= now:
                self.end(session, now)
                session = None
            else:
                present = True
        if session is None:
            session = self.sessions[request.client_identifier] = Session(request.client_identifier)
        session.attach(
            outlet,
            expiry_s=request.expiry_s,
            receive_maximum=request.receive_maximum,
            maximum_packet_bytes=request.maximum_packet_bytes,
        )
        session.will = request.will
        return session, present

    def detach(self, session: Session, now: float) -> None:
        """The connection of `session` is gone."""
        session.detach(now)
        self.publish_due_will(session, now)
        if session.expires_at <= now:
            self.end(session, now)

    def end(self, session: Session, now: float) -> None:
        """The session ends: its subscriptions go, and a will that still waited is said now."""
        for subscription in session.subscriptions.values():
            self._router.remove(subscription)
        session.subscriptions.clear()
        self.sessions.pop(session.client_identifier, None)
        if session.will is not None:
            session.will_at = now
            self.publish_due_will(session, now)

    def prune(self, now: float) -> None:
        """End the sessions that expired."""
        expired = [session for session in self.sessions.values() if session.expires_at <= now]
        for session in expired:
            self.end(session, now)

    def publish_due_will(self, session: Session, now: float) -> None:
        """Publish the will of `session` if its time has come."""
        will = session.will
        if will is None or session.will_at > now:
            return
        session.will, session.will_at = None, math.inf
        expires_at = math.inf if will.message_expiry_s is None else now + will.message_expiry_s
        message = will.message
        self.publish(message.packet, message.topic, message.qos, message.retain, message.publisher, expires_at, now)

    def publish(
        self,
        packet: PublishPacket,
        topic: str,
        qos: int,
        retain: bool,
        publisher: str | None,
        expires_at: float,
        now: float,
    ) -> bool:
        """Pass a message on, and keep it if retained. False if the topic is not valid."""
        if not self._router.is_known(topic) and not is_topic(topic):
            return False
        route = self._router.route(topic)
        if route is None and not retain:
            return True
        message = Message(topic, packet.payload, qos, retain, publisher, expires_at, packet)
        if retain:
            self._retain(message)
        if route is not None:
            for client_identifier, subscriptions in route.clients:
                self._deliver(message, client_identifier, subscriptions, now)
            for group in route.groups:
                self._deliver_shared(message, group, now)
        return True

    def subscribe(
        self, session: Session, wanted: Iterable[TopicFilter], subscription_identifier: int | None
    ) -> tuple[list[int], list[tuple[Subscription, int, bool]]]:
        """Subscribe; the SUBACK's reason codes, and for `send_retained` what was subscribed, and whether it is new."""
        reason_codes: list[int] = []
        subscribed: list[tuple[Subscription, int, bool]] = []
        for asked in wanted:
            split = split_filter(asked.pattern)
            if split is None:
                reason_codes.append(TOPIC_FILTER_INVALID)
                continue
            qos = min(int(asked.max_qos), self._maximum_qos)
            subscription = Subscription(
                session.client_identifier,
                split.group,
                split.pattern,
                qos,
                asked.no_local,
                asked.retain_as_published,
                subscription_identifier,
            )
            is_new = asked.pattern not in session.subscriptions
            session.subscriptions[asked.pattern] = subscription
            self._router.add(subscription)
            subscribed.append((subscription, int(asked.retain_handling), is_new))
            reason_codes.append(qos)
        return reason_codes, subscribed

    def send_retained(self, session: Session, subscribed: list[tuple[Subscription, int, bool]], now: float) -> None:
        """Queue the retained messages that a SUBSCRIBE asked for (section 3.8.3.1); after its SUBACK."""
        for subscription, handling, is_new in subscribed:
            if subscription.group is not None or handling == 2 or (handling == 1 and not is_new):
                continue
            matching: FilterTree[list[None]] = FilterTree(list)
            matching.bucket(subscription.pattern)
            for message in list(self._retained.values()):
                if message.expires_at <= now:
                    del self._retained[message.topic]
                elif matching.matching(message.topic) and not _is_own(message, subscription):
                    identifiers = () if subscription.identifier is None else (subscription.identifier,)
                    session.enqueue(Queued(message, min(message.qos, subscription.qos), True, identifiers))

    def unsubscribe(self, session: Session, filters: Iterable[str]) -> list[int]:
        """Unsubscribe; the UNSUBACK's reason codes."""
        reason_codes: list[int] = []
        for text in filters:
            subscription = session.subscriptions.pop(text, None)
            if subscription is None:
                reason_codes.append(NO_SUBSCRIPTION_EXISTED)
                continue
            self._router.remove(subscription)
            reason_codes.append(0)
        return reason_codes

    def _retain(self, message: Message) -> None:
        if message.payload:
            self._retained[message.topic] = message
        else:
            self._retained.pop(message.topic, None)

    def _deliver(
        self, message: Message, client_identifier: str, subscriptions: tuple[Subscription, ...], now: float
    ) -> None:
        wanted = [found for found in subscriptions if not _is_own(message, found)]
        session = self.sessions.get(client_identifier)
        if session is None or not wanted or session.expires_at <= now:
            return
        # One copy, at the highest QoS of all filters that match: section 3.3.4 leaves the choice to the broker.
        qos = min(message.qos, max(found.qos for found in wanted))
        retain = message.retain and any(found.retain_as_published for found in wanted)
        identifiers = tuple(found.identifier for found in wanted if found.identifier is not None)
        session.enqueue(Queued(message, qos, retain, identifiers))

    def _deliver_shared(self, message: Message, group: Group, now: float) -> None:
        members = group.members
        connected = [name for name in members if self.sessions[name].outlet is not None]
        candidates = connected or [name for name in members if self.sessions[name].expires_at > now]
        if candidates:
            chosen = candidates[group.turn % len(candidates)]
            group.turn += 1
            self._deliver(message, chosen, (members[chosen],), now)


def _is_own(message: Message, subscription: Subscription) -> bool:
    return subscription.no_local and message.publisher == subscription.client_identifier
