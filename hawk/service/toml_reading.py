"""A TOML file as located items. `tomllib` reads the values; it keeps no places, so a walk over the text finds them.

The walk needs no judgement of its own: it only sees text that `tomllib` has accepted (TOML 1.0.0).
"""

import re
import tomllib
from typing import Any

from hawk.service.located import Item, Place, Tree, place_of
from hawk.service.scalars import within_reason

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")
_BLANK = re.compile(r"(?:[ \t\r\n,]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
_OPENING = re.compile(r"\[\[?")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_PLAIN_VALUE = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
    r"|\d{4}-\d\d-\d\d \d\d[^\s,\]}#]*"
    r"|[^\s,\]}#]+",
    re.DOTALL,
)

_Path = tuple[str, ...]


def read_toml(text: str, source: str) -> Tree:
    """Read a TOML document, two tables deep. A mistake in it is a problem with its place; nothing is raised."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Tree(None, [_place_told(str(error), text, source).problem("TOML", _AT.sub("", str(error)))])
    except (ValueError, OverflowError):
        return Tree(None, [Place(source, 1, 1).problem("TOML", "a number in the file is out of range")])
    except RecursionError:
        return Tree(None, [Place(source, 1, 1).problem("TOML", "is nested too deeply")])
    walk = _Walk(text)
    walk.document()
    start = Place(source, 1, 1)

    def items(table: dict[str, Any], path: _Path) -> tuple[Item, ...]:
        found = []
        for key, value in table.items():
            key_at, value_at = (place_of(source, text, index) for index in walk.places[*path, key])
            found.append(Item(key, key_at, shaped(value, (*path, key)), value_at))
        return tuple(found)

    def shaped(value: object, path: _Path) -> object:
        match value:
            case dict():
                return items(value, path) if len(path) < 2 else ()
            case list():
                return []
            case _:
                return within_reason(value)

    return Tree(Item("", start, items(data, ()), start))


def _place_told(sentence: str, text: str, source: str) -> Place:
    found = _AT.search(sentence)
    if found is None or found[1] is None:
        return place_of(source, text, len(text))
    return Place(source, int(found[1]), int(found[2]))


class _Walk:
    """Finds where each key of a valid document stands, and its value."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._index = 0
        self.places: dict[_Path, tuple[int, int]] = {}

    def document(self) -> None:
        """Walk from the first character to the last."""
        table: _Path = ()
        self._pass(_BLANK)
        while self._index < len(self._text):
            if brackets := self._pass(_OPENING):
                table = self._key(())
                self._index = self._text.index("]", self._index) + len(brackets)
            else:
                self._statement(table)
            self._pass(_BLANK)

    def _statement(self, table: _Path) -> None:
        path = self._key(table)
        self._pass(_EQUALS)
        self.places[path] = (self.places[path][0], self._index)
        self._value(path)

    def _key(self, table: _Path) -> _Path:
        """Read a key, dotted or not, and remember where each part of it was first seen."""
        path = table
        self._pass(_BLANK)
        while True:
            start = self._index
            part = self._pass(_KEY)
            path = (*path, next(iter(tomllib.loads(f"{part} = 0"))))
            self.places.setdefault(path, (start, start))
            if not self._pass(_DOT):
                return path

    def _value(self, path: _Path) -> None:
        match self._text[self._index]:
            case "[":
                self._open()
                while self._text[self._index] != "]":
                    self._value((*path, "[]"))
                    self._pass(_BLANK)
                self._index += 1
            case "{":
                self._open()
                while self._text[self._index] != "}":
                    self._statement(path)
                    self._pass(_BLANK)
                self._index += 1
            case _:
                self._pass(_PLAIN_VALUE)

    def _open(self) -> None:
        self._index += 1
        self._pass(_BLANK)

    def _pass(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._index)
        if found is None:
            return ""
        self._index = found.end()
        return found[0]
