"""Topic names and topic filters (MQTT 5 section 4.7): what is valid, and which filters match a topic."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

Bucket = TypeVar("Bucket")


class SplitFilter(NamedTuple):
    """A filter as subscribed: the group of a shared subscription, or None, and the filter proper."""

    group: str | None
    pattern: str


def is_topic(text: str) -> bool:
    """Whether `text` may name a topic: not empty, no NUL, no wildcard (sections 4.7.1 and 4.7.3)."""
    return bool(text) and "\0" not in text and "+" not in text and "#" not in text


def is_filter(text: str) -> bool:
    """Whether `text` is a filter: each wildcard fills its level, and `#` is the last one (section 4.7.1)."""
    if not text or "\0" in text:
        return False
    levels = text.split("/")
    if "#" in levels[:-1]:
        return False
    return all(level in ("+", "#") or ("+" not in level and "#" not in level) for level in levels)


def split_filter(text: str) -> SplitFilter | None:
    """Take `$share/group/` off (section 4.8.2); None when what remains is no valid filter."""
    if not text.startswith("$share/"):
        return SplitFilter(None, text) if is_filter(text) else None
    _, group, pattern = (*text.split("/", 2), "")[:3]
    return SplitFilter(group, pattern) if is_topic(group) and is_filter(pattern) else None


def filter_matches(pattern: str, topic: str) -> bool:
    """Whether a filter, without `$share`, matches a topic."""
    tree: FilterTree[list[None]] = FilterTree(list)
    tree.bucket(pattern)
    return bool(tree.matching(topic))


class FilterTree(Generic[Bucket]):
    """Filters, each with a bucket of whatever belongs to it; finds all buckets whose filter matches a topic."""

    def __init__(self, new_bucket: Callable[[], Bucket]) -> None:
        self._new_bucket = new_bucket
        self._root: _Node[Bucket] = _Node()

    def bucket(self, pattern: str) -> Bucket:
        """The bucket of `pattern`, made when there is none."""
        node = self._root
        for level in pattern.split("/"):
            node = node.children.setdefault(level, _Node())
        if node.bucket is None:
            node.bucket = self._new_bucket()
        return node.bucket

    def remove(self, pattern: str) -> None:
        """Forget `pattern` and its bucket, and the levels that led only to it."""
        path = [(self._root, "")]
        for level in pattern.split("/"):
            child = path[-1][0].children.get(level)
            if child is None:
                return
            path.append((child, level))
        path[-1][0].bucket = None
        for (parent, _), (node, level) in zip(reversed(path[:-1]), reversed(path[1:]), strict=True):
            if node.children or node.bucket is not None:
                return
            del parent.children[level]

    def matching(self, topic: str) -> list[Bucket]:
        """The buckets of every filter that matches. A leading wildcard does not match a `$` topic (4.7.2)."""
        found: list[Bucket] = []
        levels = topic.split("/")
        _collect(self._root, levels, 0, found, wildcards=not topic.startswith("$"))
        return found


class _Node(Generic[Bucket]):
    __slots__ = ("bucket", "children")

    def __init__(self) -> None:
        self.children: dict[str, _Node[Bucket]] = {}
        self.bucket: Bucket | None = None


def _collect(node: _Node[Bucket], levels: list[str], depth: int, found: list[Bucket], *, wildcards: bool) -> None:
    children = node.children
    if wildcards and (rest := children.get("#")) is not None and rest.bucket is not None:
        found.append(rest.bucket)
    if depth == len(levels):
        if node.bucket is not None:
            found.append(node.bucket)
        return
    if (exact := children.get(levels[depth])) is not None:
        _collect(exact, levels, depth + 1, found, wildcards=True)
    if wildcards and (any_level := children.get("+")) is not None:
        _collect(any_level, levels, depth + 1, found, wildcards=True)
