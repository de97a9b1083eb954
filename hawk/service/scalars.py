r"""Single values as YAML 1.2's core schema writes them (YAML 1.2.2, section 10.3.2), read and written.

So `yes`, `no`, `on` and `off` are text, `0o17` is the only octal, `010` is ten and `1:30` is text. The same rules read
the environment, so that a value means the same wherever it stands.
"""

import math
import re

NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
BOOLEAN = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
INTEGER = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*\Z")
_LONGEST_DIGITS = 100
_WIDEST_BITS = 400


def read_plain(text: str) -> bool | int | float | str | None:
    """What an unquoted scalar means. Text that means nothing else is itself."""
    if NULL.match(text):
        return None
    if BOOLEAN.match(text):
        return text.lower() == "true"
    if INTEGER.match(text):
        return _whole(text)
    if FLOAT.match(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def write(value: object) -> str:
    """A value as YAML on one line, in plain style where that is read back as the same, else in double quotes."""
    match value:
        case None:
            return "null"
        case tuple():
            return write(", ".join(map(str, value)))
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case _:
            text = str(value)
            return text if _PLAIN.match(text) and read_plain(text) == text else f'"{"".join(map(_escaped, text))}"'


def within_reason(value: object) -> object:
    """The value; a whole number beyond any setting's bounds as infinity, because Python refuses to write out long ones."""
    if isinstance(value, int) and value.bit_length() > _WIDEST_BITS:
        return math.inf if value > 0 else -math.inf
    return value


def _whole(text: str) -> int | float:
    if len(text) > _LONGEST_DIGITS:
        return -math.inf if text[0] == "-" else math.inf
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
