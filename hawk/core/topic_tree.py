"""Topic filters as a tree of levels: finds all that match a topic at the cost of the topic's levels, not of the filters.

Pure, MQTT 5 section 4.7. `core/topics.matches` says the same of one filter; a test holds the two against each other.
"""

from typing import Generic, TypeVar

from hawk.core.topics import filter_levels

Value = TypeVar("Value")


class _Node(Generic[Value]):
    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[Value]] = {}
        self.values: list[Value] = []


class TopicTree(Generic[Value]):
    """Filters, each with whatever belongs to it, in the order in which it was added to that filter.

    Of a shared filter, `$share/group/filter`, only the filter proper counts.
    """

    def __init__(self) -> None:
        self._root: _Node[Value] = _Node()

    def add(self, topic_filter: str, value: Value) -> None:
        """`value` belongs to this valid filter from now on."""
        node = self._root
        for level in filter_levels(topic_filter):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        node.values.append(value)

    def remove(self, topic_filter: str, value: Value) -> None:
        """Undo one `add`. Raises `ValueError` for what was not added."""
        path: list[tuple[_Node[Value], str]] = []
        node = self._root
        for level in filter_levels(topic_filter):
            child = node.children.get(level)
            if child is None:
                raise ValueError(f"nothing belongs to the filter {topic_filter!r}")
            path.append((node, level))
            node = child
        node.values.remove(value)
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.values or child.children:
                break
            del parent.children[level]

    def matching(self, topic: str) -> list[Value]:
        """Everything that belongs to a filter that selects this valid topic name."""
        found: list[Value] = []
        # A leading wildcard does not select the topics that a broker keeps for itself, as $SYS (MQTT-4.7.2-1).
        wild = not topic.startswith("$")
        nodes = [self._root]
        for level in topic.split("/"):
            following = []
            for node in nodes:
                children = node.children
                if wild:
                    if (rest := children.get("#")) is not None:
                        found += rest.values
                    if (any_level := children.get("+")) is not None:
                        following.append(any_level)
                if (own := children.get(level)) is not None:
                    following.append(own)
            if not following:
                return found
            wild, nodes = True, following
        for node in nodes:
            found += node.values
            # "a/#" selects "a" itself as well (section 4.7.1.2).
            if (rest := node.children.get("#")) is not None:
                found += rest.values
        return found
