"""The settings as files and the environment know them: flat, one name each, with the types of the frozen dataclasses.

pydantic's TypeAdapters, made of the dataclasses' own annotations, judge types here; the dataclasses judge bounds. The
bounds that `json_schema` states are for editors and readers: nothing is refused by them. pydantic takes longer to import
than a short command to run, so it is asked only about a value that is not of its setting's very type.
"""

from collections import abc
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from hawk.config import Config, ReconnectionConfig
from hawk.service.descriptions import DESCRIPTIONS
from hawk.service.files import SECTION
from hawk.service.scalars import read_plain

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SECRETS: Final = frozenset({"password", "url"})
"""Settings whose value no message repeats."""

_LONGEST_SHOWN = 60
_WANTED = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
}


class Setting(NamedTuple):
    """A name that a file may give, with its type and the value it has if nobody gives one."""

    name: str
    kind: Any
    default: object

    @property
    def may_be_null(self) -> bool:
        """Whether null is one of its values."""
        return type(None) in get_args(self.kind)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it may be, if it is one of a few."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()


class Wrong(NamedTuple):
    """A value of the wrong type: what is wrong with it, in a sentence."""

    what: str


CODE_ONLY: Final = frozenset({"credentials", "authentication", "tls_context", "refusal_policy", "will", "birth"})
"""Settings that are objects of Python's; `will` and `birth` stand in a file as `MESSAGES`."""

MESSAGES: Final[Mapping[str, Mapping[str, tuple[Any, object]]]] = {
    "will": {
        "topic": (str | None, None),
        "payload": (str, ""),
        "qos": (int, 0),
        "retain": (bool, False),
        "delay_s": (int, 0),
    },
    "birth": {"topic": (str | None, None), "payload": (str, ""), "qos": (int, 0), "retain": (bool, False)},
}
"""The names of which a message is put together, `will_topic` and so on, each with its type and default."""


def _setting(name: str, kind: Any, default: object) -> Setting:
    # A list is one text in a file and in the environment alike, its parts between commas.
    return Setting(name, str, ", ".join(default)) if isinstance(default, tuple) else Setting(name, kind, default)


def split(text: str) -> tuple[str, ...]:
    """The parts of a setting that is a list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _settings() -> dict[str, Setting]:
    def own(kind: type) -> list[Setting]:
        types, defaults = get_type_hints(kind), kind()
        named = [field.name for field in fields(kind) if field.name not in CODE_ONLY]
        return [_setting(name, _plain(types[name]), getattr(defaults, name)) for name in named]

    found = [Setting("url", str | None, None)]
    for setting in own(Config):
        found += own(ReconnectionConfig) if setting.name == "reconnection" else [setting]
    for message, parts in MESSAGES.items():
        found += [Setting(f"{message}_{part}", kind, default) for part, (kind, default) in parts.items()]
    return {setting.name: setting for setting in found}


def _plain(kind: Any) -> Any:
    """The type without what no file can hold: callables, and tuples, for which a text stands in."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    kept = [each for each in get_args(kind) if get_origin(each) not in (abc.Callable, tuple)]
    return Union[tuple(kept)]  # noqa: UP007  made of a list


SETTINGS: Final[Mapping[str, Setting]] = _settings()
"""Every name that a file may give, in the order in which they are written out."""

LISTS: Final = frozenset({"latest"})
"""Settings that are lists in `Config`."""

FILE_ONLY: Final = frozenset({"url"} | {f"{message}_{part}" for message, parts in MESSAGES.items() for part in parts})
"""Names that stand for others, and are no settings of Config's."""

PATHS: Final = frozenset({"password_file", "tls_ca_file", "tls_certificate_file", "tls_key_file"})
"""Files, whose relative paths start from where the setting stands."""


def check(name: str, value: object, *, quotes: bool = True) -> object:
    """The value as the setting holds it, or `Wrong`. Strict: text is no number, and a number no text.

    `quotes` says that the source is one where quotes make the difference, so that the sentence may mention them.
    """
    if _is_of_the_very_type(name, value):
        return value
    from pydantic import ValidationError

    try:
        return _adapter(name).validate_python(value)
    except ValidationError as error:
        [first] = error.errors(include_url=False, include_input=False, include_context=False)
        return Wrong(_sentence(SETTINGS[name], first["type"], first["msg"], value, quotes=quotes))


def read_text(name: str, text: str) -> object:
    """The value of text from the environment: the text itself for a setting that is text, else what YAML reads in it."""
    if not text or _fits(name, text):
        return text
    return read_plain(text)


def json_schema() -> dict[str, object]:
    """The JSON Schema (2020-12) of a configuration file."""
    properties: dict[str, object] = {}
    for setting in SETTINGS.values():
        description = DESCRIPTIONS[setting.name]
        properties[setting.name] = {
            **_adapter(setting.name).json_schema(),
            **description.bounds,
            "description": description.text,
            "default": setting.default,
        }
    section = {
        "description": "The connection to one MQTT broker.",
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A configuration file of hawk",
        "type": "object",
        "properties": {SECTION: section},
        "required": [SECTION],
        "additionalProperties": False,
    }


def _is_of_the_very_type(name: str, value: object) -> bool:
    kind = SETTINGS[name].kind
    return type(value) is kind or type(value) in get_args(kind)


@cache
def _adapter(name: str) -> "TypeAdapter[Any]":
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(SETTINGS[name].kind, config=ConfigDict(strict=True))


def _fits(name: str, value: object) -> bool:
    if _is_of_the_very_type(name, value):
        return True
    from pydantic import ValidationError

    try:
        _adapter(name).validate_python(value)
    except ValidationError:
        return False
    return True


def _sentence(setting: Setting, kind: str, message: str, value: object, *, quotes: bool) -> str:
    choices = setting.choices
    if choices:
        wanted = f"must be one of {', '.join(choices)}"
    else:
        wanted = _WANTED.get(kind, message) + (" or null" if setting.may_be_null else "")
    hint = ""
    if isinstance(value, str) and choices:
        close = get_close_matches(value, choices, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
    elif isinstance(value, str) and quotes and _fits(setting.name, read_plain(value)):
        hint = "; write it without quotes"
    elif kind == "string_type" and quotes and isinstance(value, bool | int | float):
        hint = "; write it in quotes"
    return f"{wanted}, not {_shown(value, hidden=setting.name in SECRETS)}{hint}"


def _shown(value: object, *, hidden: bool) -> str:
    if hidden and isinstance(value, bool | int | float | str):
        return "a bare value"
    match value:
        case None:
            return "null"
        case tuple():
            return "a mapping"
        case list():
            return "a list"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return f"the text {value!r}" if len(value) <= _LONGEST_SHOWN else f"a text of {len(value)} characters"
        case _:
            return "a date or a time" if type(value).__module__ == "datetime" else f"a {type(value).__name__}"
