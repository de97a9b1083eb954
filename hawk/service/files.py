"""Opens a configuration file and takes its section `mqtt:` out, every entry with its place. Judges no setting."""

from difflib import get_close_matches
from pathlib import Path

from hawk.errors import Problem
from hawk.service.located import Entry, Item, Layer, Place, Tree, legible

SECTION = "mqtt"

_LARGEST_BYTES = 1024 * 1024


def read_file(path: Path, known: frozenset[str]) -> tuple[Layer, list[Problem]]:
    """The settings in the file's section `mqtt:`, and whatever is wrong with the file. Nothing is raised.

    A name that ends in `.toml` is read as TOML, any other as YAML. `known` are the names of settings, for suggestions.
    """
    empty = Layer((), path.parent)
    source = legible(path)
    text = _text_of(path, source)
    if isinstance(text, Problem):
        return empty, [text]
    tree = _read(text, source, path.suffix.lower())
    if tree.top is None:
        return empty, list(tree.problems)
    section, problems = _section_of(tree, tree.top, known)
    return Layer([_entry(item) for item in section], path.parent, has_quotes=True), problems


def _read(text: str, source: str, suffix: str) -> Tree:
    if suffix == ".toml":
        from hawk.service.toml_reading import read_toml

        return read_toml(text, source)
    from hawk.service.yaml_reading import read_yaml

    return read_yaml(text, source)


def _text_of(path: Path, source: str) -> str | Problem:
    """The file's text, or what keeps it from being read."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        return Problem(source, f"cannot be read: {error.strerror}")
    except ValueError:
        return Problem(source, "is not a file name")
    if len(data) > _LARGEST_BYTES:
        return Problem(source, "is larger than 1 MiB, and so no configuration file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A byte order mark, which is not part of `object`, does not count as a column.
        line_start = error.object.rfind(b"\n", 0, error.start) + 1
        column = len(error.object[line_start : error.start].decode()) + 1
        place = Place(source, error.object.count(b"\n", 0, error.start) + 1, column)
        return Problem(str(place), f"is not UTF-8 text (the byte 0x{error.object[error.start]:02X})")


def _section_of(tree: Tree, top: Item, known: frozenset[str]) -> tuple[tuple[Item, ...], list[Problem]]:
    problems = list(tree.problems)
    if not isinstance(top.value, tuple):
        problems.append(top.value_at.problem(SECTION, "the file must be a mapping with a section `mqtt:`"))
        return (), problems
    section: tuple[Item, ...] | None = None
    for item in top.value:
        if item.key != SECTION:
            problems.append(item.key_at.problem(item.key, _unknown_section(item.key, known)))
        elif isinstance(item.value, tuple):
            section = item.value
        elif item.value is None:
            section = ()
        else:
            problems.append(item.value_at.problem(SECTION, "must be a mapping of settings"))
            section = ()
    if section is None and not problems:
        problems.append(top.value_at.problem(SECTION, "the section `mqtt:` is missing"))
    return section or (), problems


def _unknown_section(key: object, known: frozenset[str]) -> str:
    if key in known:
        return "a setting stands under `mqtt:`"
    close = get_close_matches(str(key), [SECTION], n=1)
    return "unknown section" + ("; did you mean 'mqtt'?" if close else "; hawk reads only `mqtt:`")


def _entry(item: Item) -> Entry:
    # A key such as `10` or `true` is no text; no setting has its name either, so it is told as unknown.
    name = item.key if isinstance(item.key, str) else f"{item.key}"
    return Entry(
        name=name,
        value=item.value,
        at=f"{item.value_at}: {legible(name)}",
        name_at=f"{item.key_at}: {legible(name)}",
        origin=f"{item.key_at.source}:{item.key_at.line}",
    )
