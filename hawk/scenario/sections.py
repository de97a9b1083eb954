"""A mapping of a located file, taken apart key by key; every mistake is a problem with its place, and nothing is raised."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TypeVar

from hawk.errors import Problem
from hawk.service.located import Item, Place, legible

Value = TypeVar("Value")


class Section:
    """One mapping. `path` is how it is named: `timeline.1`, or "" for the whole file. `take` each key, then `finish`."""

    def __init__(self, path: str, item: Item, problems: list[Problem]) -> None:
        self.path = path
        self.at = item.value_at
        self.problems = problems
        self._items: dict[object, Item] = {}
        self._asked: list[str] = []
        if isinstance(item.value, tuple):
            self._items = {each.key: each for each in item.value}
        else:
            problems.append(self.at.problem(path or "file", "must be a mapping (key: value)"))

    def __contains__(self, key: str) -> bool:
        return key in self._items

    @property
    def keys(self) -> list[str]:
        """The keys that stand in the file."""
        return [str(key) for key in self._items]

    def item(self, key: str) -> Item | None:
        """The item of a key, which is known from now on."""
        self._asked.append(key)
        return self._items.get(key)

    def take(self, key: str, read: Callable[[object], Value], default: Value) -> Value:
        """What `read` makes of the value; the default if there is none, or if `read` raises ValueError, which is told."""
        item = self.item(key)
        if item is None:
            return default
        try:
            return read(item.value)
        except ValueError as error:
            self.problem(item, str(error))
            return default

    def need(self, key: str, read: Callable[[object], Value], default: Value) -> Value:
        """As `take`, and its absence is a problem."""
        if key not in self._items:
            self.problems.append(self.at.problem(self.name_of(key), "is missing"))
        return self.take(key, read, default)

    def entries(self, key: str) -> list[Item]:
        """The items of a list; none if there is none."""
        item = self.item(key)
        if item is None or item.value is None:
            return []
        if isinstance(item.value, list):
            return item.value
        self.problem(item, "must be a list (- ...)")
        return []

    def section(self, key: str) -> "Section | None":
        """The mapping under a key; None if there is none."""
        item = self.item(key)
        if item is None or item.value is None:
            return None
        return Section(self.name_of(key), item, self.problems)

    def problem(self, item: Item, what: str) -> None:
        """Tell what is wrong with an item's value."""
        self.problems.append(item.value_at.problem(self.name_of(item.key), what))

    def problem_at(self, key: str, what: str) -> None:
        """Tell what is wrong with the value of a key, or with the mapping where the key is missing."""
        item = self._items.get(key)
        if item is None:
            self.problems.append(self.at.problem(self.path or "file", what))
        else:
            self.problem(item, what)

    def finish(self, *, also: Iterable[str] = ()) -> None:
        """Tell every key that nobody asked for, with a suggestion."""
        known = [*self._asked, *also]
        for key, item in self._items.items():
            if key not in self._asked:
                close = get_close_matches(str(key), known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                self.problems.append(item.key_at.problem(self.name_of(key), f"unknown key{hint}"))

    def name_of(self, key: object) -> str:
        """How a key here is named in a problem."""
        return f"{self.path}.{legible(key)}" if self.path else legible(key)

    def place_of(self, key: str) -> Place:
        """Where the value of a key stands."""
        item = self._items.get(key)
        return self.at if item is None else item.value_at


def text(value: object) -> str:
    """A text that is not empty. Raises ValueError with a sentence, as all below."""
    if isinstance(value, str) and value.strip():
        return value
    hint = "; write it in quotes" if isinstance(value, bool | int | float) else ""
    raise ValueError(f"must be text{hint}")


def truth(value: object) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def whole(least: int, most: int) -> Callable[[object], int]:
    """A whole number within bounds."""

    def read(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise ValueError(f"must be a whole number from {least} to {most}")

    return read


def number(least: float, most: float) -> Callable[[object], float]:
    """A number within bounds."""

    def read(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return float(value)
        raise ValueError(f"must be a number from {least:g} to {most:g}")

    return read


def one_of(*words: str) -> Callable[[object], str]:
    """One of a few words."""

    def read(value: object) -> str:
        if value in words:
            return str(value)
        raise ValueError(unknown("value", value, words))

    return read


def unknown(what: str, value: object, words: Iterable[str]) -> str:
    """The sentence about a word that is none of those, with a suggestion, or with all if they are few."""
    all_words = list(words)
    close = get_close_matches(str(value), all_words, n=1, cutoff=0.5)
    if close:
        return f"unknown {what} {legible(value)!r}; did you mean {close[0]!r}?"
    return f"unknown {what} {legible(value)!r}; one of {', '.join(all_words)}"
