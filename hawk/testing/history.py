"""Checkers of histories: what was accepted against what arrived, and whether connection states follow the table.

Pure functions over finished lists; a key is whatever tells one message from another. They take O(n log n) time.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from hawk.messages import StateChanged
from hawk.values import ConnectionState

Key = TypeVar("Key", bound=Hashable)

_MOST_SHOWN = 10

_DISCONNECTED, _CONNECTING, _CONNECTED, _RECONNECTING, _FAILED = (
    ConnectionState.DISCONNECTED,
    ConnectionState.CONNECTING,
    ConnectionState.CONNECTED,
    ConnectionState.RECONNECTING,
    ConnectionState.FAILED,
)

LEGAL_EDGES = frozenset(
    {
        (_DISCONNECTED, _CONNECTING),
        (_CONNECTING, _CONNECTED),
        (_CONNECTING, _RECONNECTING),
        (_CONNECTING, _FAILED),
        (_CONNECTING, _DISCONNECTED),
        (_CONNECTED, _RECONNECTING),
        (_CONNECTED, _DISCONNECTED),
        (_CONNECTED, _FAILED),
        (_RECONNECTING, _CONNECTED),
        (_RECONNECTING, _FAILED),
        (_RECONNECTING, _DISCONNECTED),
        (_FAILED, _CONNECTING),
        (_FAILED, _DISCONNECTED),
    }
)
"""Every change of the public connection state that promise C5 allows."""


def lost(accepted: Sequence[Key], arrived: Sequence[Key], *, excused: Iterable[Key] = ()) -> list[Key]:
    """The keys that were accepted and never arrived, in the order of acceptance; without those `excused` by policy."""
    there = set(arrived).union(excused)
    return [key for key in accepted if key not in there]


def duplicated(accepted: Sequence[Key], arrived: Sequence[Key]) -> list[Key]:
    """The keys that arrived more often than they were accepted, each once, in the order of first arrival.

    A key that was never accepted is one of them. QoS 1 may repeat: then this tells how much it did.
    """
    allowed = Counter(accepted)
    return [key for key, times in Counter(arrived).items() if times > allowed[key]]


def reordered(accepted: Sequence[Key], arrived: Sequence[Key]) -> list[Key]:
    """The fewest keys without which the first arrivals are in the order of acceptance; empty if they are in order.

    Repeats are not looked at, nor keys that were never accepted.
    """
    place = {key: index for index, key in reversed(list(enumerate(accepted)))}
    firsts = [key for key in dict.fromkeys(arrived) if key in place]
    kept = _longest_rising([place[key] for key in firsts])
    return [key for index, key in enumerate(firsts) if index not in kept]


class Verdict(NamedTuple, Generic[Key]):
    """What is wrong with a history: three lists of keys, and how long the two histories were."""

    lost: list[Key]
    duplicated: list[Key]
    reordered: list[Key]
    accepted_count: int
    arrived_count: int

    @property
    def is_flawless(self) -> bool:
        """Whether everything arrived once and in order."""
        return not (self.lost or self.duplicated or self.reordered)

    def __str__(self) -> str:
        found = [("lost", self.lost), ("duplicated", self.duplicated), ("reordered", self.reordered)]
        flaws = "; ".join(f"{len(keys)} {word}: {_shown(keys)}" for word, keys in found if keys)
        return f"{self.accepted_count} accepted, {self.arrived_count} arrived; {flaws or 'each once and in order'}"


def judge(accepted: Sequence[Key], arrived: Sequence[Key], *, excused: Iterable[Key] = ()) -> Verdict[Key]:
    """All three checks. Keys `excused` by a policy (dropped, expired, refused) may be missing, and nothing else."""
    return Verdict(
        lost(accepted, arrived, excused=excused),
        duplicated(accepted, arrived),
        reordered(accepted, arrived),
        len(accepted),
        len(arrived),
    )


class IllegalEdge(NamedTuple):
    """A change of state that must not be: the how-many-th it was (from 0), the change, and what is wrong with it."""

    position: int
    change: StateChanged
    what: str


def illegal_edges(changes: Iterable[StateChanged], *, start: ConnectionState | None = None) -> list[IllegalEdge]:
    """The changes that break promise C5: off the table, or beginning where the change before did not end.

    `start` is the state that the first change must begin with; None lets it begin anywhere.
    """
    found, current = list[IllegalEdge](), start
    for index, change in enumerate(changes):
        if current is not None and change.before is not current:
            found.append(IllegalEdge(index, change, f"begins with {change.before.name} after {current.name}"))
        if (change.before, change.after) not in LEGAL_EDGES:
            found.append(IllegalEdge(index, change, f"{change.before.name} -> {change.after.name} is not in the table"))
        current = change.after
    return found


def _longest_rising(numbers: Sequence[int]) -> set[int]:
    """The indices of a longest rising subsequence of distinct `numbers` (patience sorting)."""
    tops, indices, previous = list[int](), list[int](), list[int]()
    for index, number in enumerate(numbers):
        pile = bisect_left(tops, number)
        previous.append(indices[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(number)
            indices.append(index)
        else:
            tops[pile], indices[pile] = number, index
    kept, at = set[int](), indices[-1] if indices else -1
    while at >= 0:
        kept.add(at)
        at = previous[at]
    return kept


def _shown(keys: Sequence[object]) -> str:
    rest = len(keys) - _MOST_SHOWN
    return ", ".join(map(repr, keys[:_MOST_SHOWN])) + (f" and {rest} more" if rest > 0 else "")
