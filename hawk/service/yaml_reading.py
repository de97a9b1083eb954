"""A YAML file as located items: keys and values with their places, of YAML 1.2's core schema.

PyYAML scans and composes; nothing of it constructs an object. Anchors and aliases work, as far as a person may mean them;
tags beyond the core schema, merge keys and a second document do not. No message repeats a value, for it may be a password.
"""

import re
from collections.abc import Iterator

import yaml

from hawk.errors import Problem
from hawk.service.located import Item, Place, Tree, place_of
from hawk.service.scalars import BOOLEAN, FLOAT, INTEGER, NULL, read_plain

_TAG = "tag:yaml.org,2002:"
_TEXT = f"{_TAG}str"
_DEEPEST = 2
_MOST_REPEATED = 10_000
"""So many keys and values may aliases add to those that a file has: ten lines of aliases to aliases could mean a billion."""

_QUOTED = re.compile(r"'[^'\s,<]{2,}'")
_NEEDS_QUOTES = ("undefined alias", "cannot start any token", "undefined tag handle")


class _CoreSchemaLoader(yaml.BaseLoader):
    """A loader without YAML 1.1's ideas of what a plain scalar means."""


for _kind, _pattern in (("null", NULL), ("bool", BOOLEAN), ("int", INTEGER), ("float", FLOAT)):
    _CoreSchemaLoader.add_implicit_resolver(f"{_TAG}{_kind}", _pattern, None)


def read_yaml(
    text: str, source: str, *, deepest: int = _DEEPEST, lists: bool = False, needs: str = "a section `mqtt:`"
) -> Tree:
    """Read one YAML document, `deepest` mappings and lists deep. Every mistake in it is a problem with its place; nothing
    is raised. With `lists` the value of a list is a list of items without a key, else an empty list. `needs`: what an
    empty file lacks.
    """
    try:
        loader = _CoreSchemaLoader(text)
    except yaml.reader.ReaderError as error:
        what = f"the character U+{error.character:04X} is not allowed"
        return Tree(None, [place_of(source, text, error.position).problem("YAML", what)])
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or loader.get_mark()
        return Tree(None, [_place(source, mark).problem("YAML", _why(error))])
    except RecursionError:
        return Tree(None, [Place(source, 1, 1).problem("YAML", "is nested too deeply")])
    except (ValueError, OverflowError):
        # An escape or a version number beyond what Python can hold.
        return Tree(None, [_place(source, loader.get_mark()).problem("YAML", "a number here is out of range")])
    finally:
        loader.dispose()
    if root is None:
        return Tree(None, [Place(source, 1, 1).problem("YAML", f"the file is empty; it needs {needs}")])
    reading = _Reading(source, lists=lists)
    at = _place(source, root.start_mark)
    try:
        top = Item("", at, reading.value(root, deepest=deepest), at)
    except _RepeatsTooMuch as repeats:
        return Tree(None, [repeats.problem])
    return Tree(top, reading.problems)


class _RepeatsTooMuch(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class _Reading:
    """One walk over the nodes of a document, which gathers what is wrong on its way."""

    def __init__(self, source: str, *, lists: bool) -> None:
        self._source = source
        self._lists = lists
        self.problems: list[Problem] = []
        self._seen: set[int] = set()
        self._repeated = 0

    def value(self, node: yaml.Node, *, deepest: int) -> object:
        """What a node says. Below `deepest` mappings it is not looked at: no setting is as deep.

        Raises `_RepeatsTooMuch`.
        """
        self._count(node)
        match node:
            case yaml.ScalarNode():
                return self._scalar(node)
            case yaml.MappingNode():
                return tuple(self._items(node, deepest=deepest)) if deepest else ()
            case yaml.SequenceNode() if self._lists and deepest:
                return [
                    Item("", self._place(each), self.value(each, deepest=deepest - 1), self._place(each))
                    for each in node.value
                ]
            case _:
                return []

    def _items(self, node: yaml.MappingNode, *, deepest: int) -> Iterator[Item]:
        first_at: dict[tuple[type, object], Place] = {}
        for key_node, value_node in node.value:
            key_at = _place(self._source, key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(key_at.problem("YAML", "a key must be text"))
                continue
            key = self._scalar(key_node)
            item = Item(key, key_at, self.value(value_node, deepest=deepest - 1), self._place(value_node))
            first = first_at.setdefault((type(key), key), key_at)
            if first is key_at:
                yield item
            else:
                self.problems.append(
                    key_at.problem(key, f"stands here a second time; the first is in line {first.line}")
                )

    def _count(self, node: yaml.Node) -> None:
        """An alias is its anchor's node once more."""
        if id(node) not in self._seen:
            self._seen.add(id(node))
            return
        self._repeated += 1
        if self._repeated > _MOST_REPEATED:
            what = (
                f"the aliases (*) of this file repeat more than {_MOST_REPEATED:,} keys and values; what stands here is"
            )
            raise _RepeatsTooMuch(self._place(node).problem("YAML", f"{what} repeated, too"))

    def _scalar(self, node: yaml.ScalarNode) -> object:
        if node.tag == _TEXT:
            return str(node.value)
        value = read_plain(node.value)
        if not node.tag.startswith(_TAG) or isinstance(value, str):
            what = "the tag here does not fit; text that begins with ! stands in quotes"
            self.problems.append(self._place(node).problem("YAML", what))
        return value

    def _place(self, node: yaml.Node) -> Place:
        return _place(self._source, node.start_mark)


def _place(source: str, mark: yaml.Mark) -> Place:
    return Place(source, mark.line + 1, mark.column + 1)


def _why(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's sentence without what it quotes from the file."""
    parts = [part for part in (error.context, error.problem) if part]
    sentence = _QUOTED.sub("'...'", ", ".join(parts))
    if any(phrase in sentence for phrase in _NEEDS_QUOTES):
        sentence += "; text that begins with one of * & ! % @ ` stands in quotes"
    return sentence
