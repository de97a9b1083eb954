"""Who gets the messages of a topic: all subscriptions of all clients, by filter. Pure; knows no session."""

from typing import NamedTuple

from hawk.testing.broker.session import Subscription
from hawk.testing.broker.topics import FilterTree

_MOST_CACHED_TOPICS = 10_000


class Group:
    """The members of one shared subscription by client identifier, and whose turn it is."""

    __slots__ = ("members", "turn")

    def __init__(self) -> None:
        self.members: dict[str, Subscription] = {}
        self.turn = 0


class Route(NamedTuple):
    """Each client with its own subscriptions that match, and the groups that share one."""

    clients: tuple[tuple[str, tuple[Subscription, ...]], ...]
    groups: tuple[Group, ...]


class Router:
    """Remembers the route of each topic it was asked for until a subscription changes."""

    def __init__(self) -> None:
        self._filters: FilterTree[_Subscribers] = FilterTree(_Subscribers)
        self._routes: dict[str, Route | None] = {}

    def add(self, subscription: Subscription) -> None:
        """Add a subscription; it replaces that of the same client, filter and group."""
        self._routes.clear()
        bucket = self._filters.bucket(subscription.pattern)
        if subscription.group is None:
            bucket.clients[subscription.client_identifier] = subscription
        else:
            group = bucket.groups.setdefault(subscription.group, Group())
            group.members[subscription.client_identifier] = subscription

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription that was added."""
        self._routes.clear()
        bucket = self._filters.bucket(subscription.pattern)
        if subscription.group is None:
            del bucket.clients[subscription.client_identifier]
        else:
            group = bucket.groups[subscription.group]
            del group.members[subscription.client_identifier]
            if not group.members:
                del bucket.groups[subscription.group]
        if not bucket.clients and not bucket.groups:
            self._filters.remove(subscription.pattern)

    def is_known(self, topic: str) -> bool:
        """Whether the route of `topic` is remembered, so that the topic is known to be valid."""
        return topic in self._routes

    def route(self, topic: str) -> Route | None:
        """Who gets the messages of `topic`; None when nobody does."""
        if topic in self._routes:
            return self._routes[topic]
        clients: dict[str, list[Subscription]] = {}
        groups: list[Group] = []
        for bucket in self._filters.matching(topic):
            for client_identifier, subscription in bucket.clients.items():
                clients.setdefault(client_identifier, []).append(subscription)
            groups.extend(bucket.groups.values())
        route = None
        if clients or groups:
            route = Route(tuple((client, tuple(found)) for client, found in clients.items()), tuple(groups))
        if len(self._routes) >= _MOST_CACHED_TOPICS:
            self._routes.clear()
        self._routes[topic] = route
        return route


class _Subscribers:
    """Everyone who subscribed one filter, alone or sharing."""

    __slots__ = ("clients", "groups")

    def __init__(self) -> None:
        self.clients: dict[str, Subscription] = {}
        self.groups: dict[str, Group] = {}
