"""The shapes between reading a setting and believing it: where it was written, and what was written there.

No file is opened here, and no setting is judged.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hawk.errors import Problem


class Place(NamedTuple):
    """A place in a file. Lines and columns count from 1, columns in characters."""

    source: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"

    def problem(self, key: object, what: str) -> Problem:
        """A problem of `key` at this place."""
        return Problem(f"{self}: {legible(key)}", what)


class Item(NamedTuple):
    """A key of a file and its value: None, bool, int, float or str; a tuple of items for a mapping; [] for a list."""

    key: object
    key_at: Place
    value: object
    value_at: Place


class Tree(NamedTuple):
    """A file as it was read: its top level, and what its syntax already has wrong. `top` is None if nothing was read."""

    top: Item | None
    problems: Sequence[Problem] = ()


class Entry(NamedTuple):
    """One setting as somebody wrote it. `at` is what a problem with its value is headed, `name_at` with its name."""

    name: str
    value: object
    at: str
    name_at: str
    origin: str


class Layer(NamedTuple):
    """Settings of one source, which a later layer overrides one by one. Their relative paths start from `folder`."""

    entries: Sequence[Entry]
    folder: Path
    has_quotes: bool = False
    prefix: str = ""

    def spelling(self, name: str) -> str:
        """How this source spells a setting's name."""
        return f"{self.prefix}{name.upper()}" if self.prefix else name


def places_in(top: Item) -> dict[str, Place]:
    """Where the value of each key and of each entry of a list stands, by its path: `timeline.3.fault`, `expect.0`."""
    found: dict[str, Place] = {}

    def walk(item: Item, path: str) -> None:
        if path:
            found[path] = item.value_at
        parts: list[tuple[object, Item]] = []
        if isinstance(item.value, tuple):
            parts = [(each.key, each) for each in item.value]
        elif isinstance(item.value, list):
            parts = list(enumerate(item.value))
        for name, each in parts:
            walk(each, f"{path}.{name}" if path else str(name))

    walk(top, "")
    return found


def legible(key: object) -> str:
    """A key as it may be shown: what could steer a terminal is escaped."""
    text = str(key)
    return text if text.isprintable() else repr(text)[1:-1]


def place_of(source: str, text: str, index: int) -> Place:
    """The place of the character at `index`."""
    before = text[:index]
    return Place(source, before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)
