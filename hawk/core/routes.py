"""Which subscriptions a PUBLISH is for: those whose filter selects its topic, and of them those that it names.

A broker that offers subscription identifiers says with each PUBLISH which SUBSCRIBEs caused it (MQTT 5 section 3.3.4).
Then one that sends a copy for each overlapping subscription gives each holder one, and not all of them.
"""

from hawk.core.holders import Holder
from hawk.core.topic_tree import TopicTree
from hawk.core.topics import matches
from hawk.values import Message

_MOST_REMEMBERED = 1_024


class Routes:
    """Every holder by its filter, and every subscription identifier of this session by the filter it was sent with."""

    def __init__(self) -> None:
        self._tree: TopicTree[Holder] = TopicTree()
        self._filter_of: dict[int, str] = {}
        self._remembered: dict[str | tuple[str, tuple[int, ...]], tuple[Holder, ...]] = {}

    def add(self, holder: Holder) -> None:
        """One more receives."""
        self._tree.add(holder.filter, holder)
        self._remembered.clear()

    def remove(self, holder: Holder) -> None:
        """One fewer receives."""
        self._tree.remove(holder.filter, holder)
        self._remembered.clear()

    def name(self, identifier: int, topic_filter: str) -> None:
        """From now on a PUBLISH may carry this identifier, and means that filter."""
        self._filter_of[identifier] = topic_filter
        self._remembered.clear()

    def is_named(self, identifier: int) -> bool:
        """Whether the identifier means a filter already."""
        return identifier in self._filter_of

    def filter_of(self, identifier: int) -> str | None:
        """The filter that the identifier means, None for one that this process has not sent."""
        return self._filter_of.get(identifier)

    def forget_names(self) -> None:
        """The session is new: no PUBLISH carries an older identifier."""
        self._filter_of.clear()
        self._remembered.clear()

    def route(self, message: Message, named: tuple[int, ...]) -> tuple[Holder, ...]:
        """Who is to be given `message`, which carries these subscription identifiers."""
        key = (message.topic, named) if named else message.topic
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = self._find(message.topic, named)
        if message.retain and named:
            # Kept by the broker from earlier, and sent for one SUBSCRIBE: those who had asked before have had it.
            return tuple(holder for holder in found if holder.takes_retained or holder.asked_by in named)
        return found

    def _find(self, topic: str, named: tuple[int, ...]) -> tuple[Holder, ...]:
        holders = self._tree.matching(topic)
        filters = [self._filter_of.get(identifier) for identifier in named]
        meant = {each for each in filters if each is not None and matches(each, topic)}
        # One that is not known came with a session from an earlier process: then only the topic can tell.
        if not named or len(meant) < len(set(filters)):
            return tuple(holders)
        return tuple(holder for holder in holders if holder.filter in meant)
