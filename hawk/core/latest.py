"""Topics of which only the newest message matters: a newer one takes the place of the one that waits.

Which topics these are the configuration says with topic filters. The older one goes when the newer one is accepted, so
with a store when it is committed: a disk that fails never costs both.
"""

from collections.abc import Sequence

from hawk.core.delivery import Entry
from hawk.core.topics import matches
from hawk.messages import LatestRecord

_MOST_TOPICS_KNOWN = 10_000


class Latest:
    """The rules, and for each of their topics the message that waits: an entry, or what is known of a record."""

    def __init__(self, filters: Sequence[str]) -> None:
        self._filters = tuple(filters)
        self._rules: dict[str, str] = {}
        self._waiting: dict[str, Entry | LatestRecord] = {}

    @property
    def is_used(self) -> bool:
        """Whether there is any rule."""
        return bool(self._filters)

    def rule(self, topic: str) -> str:
        """The first filter that matches; "" for none."""
        found = self._rules.get(topic)
        if found is None:
            if len(self._rules) >= _MOST_TOPICS_KNOWN:
                self._rules.clear()
            found = next((each for each in self._filters if matches(each, topic)), "")
            self._rules[topic] = found
        return found

    def replaces(self, topic: str) -> bool:
        """Whether a newcomer on this topic takes the place of one that waits."""
        return topic in self._waiting and bool(self.rule(topic))

    def put(self, newest: Entry | LatestRecord) -> Entry | LatestRecord | None:
        """This one waits for its topic from now on. Returns the one that does not any more."""
        topic = newest.topic if isinstance(newest, LatestRecord) else newest.message.topic
        older = self._waiting.get(topic)
        if older is not None and older.number >= newest.number:
            return newest if older.number > newest.number else None
        self._waiting[topic] = newest
        return older

    def move(self, entry: Entry, *, to_store: bool) -> None:
        """The same message, in memory or only in the store from now on."""
        message = entry.message
        if self._is_known(entry):
            record = LatestRecord(message.topic, entry.number, entry.size_bytes, message.qos)
            self._waiting[message.topic] = record if to_store else entry

    def forget(self, entry: Entry) -> None:
        """This one does not wait any more."""
        if self._is_known(entry):
            del self._waiting[entry.message.topic]

    def forget_record(self, topic: str, number: int) -> None:
        """This record does not wait any more."""
        known = self._waiting.get(topic)
        if known is not None and known.number == number:
            del self._waiting[topic]

    def _is_known(self, entry: Entry) -> bool:
        known = self._waiting.get(entry.message.topic)
        return known is not None and known.number == entry.number
