"""Durations, sizes, shares and rates as scenario files write them, and as reports show them. Pure."""

import math
import re
from typing import Literal, NamedTuple

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_UNITS_BYTES = {"B": 1, "KB": 1000, "MB": 1000_000, "KiB": 1024, "MiB": 1024 * 1024}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION_PART = re.compile(rf"({_NUMBER})\s*(ms|s|min|m|h|d)")
_DURATION = re.compile(rf"(?:{_NUMBER}\s*(?:ms|s|min|m|h|d)\s*)+\Z")
_SIZE = re.compile(rf"({_NUMBER})\s*(B|KB|MB|KiB|MiB)\Z")
_SHARE = re.compile(rf"({_NUMBER})\s*%\Z")
_COUNT = re.compile(r"[0-9][0-9_]*\Z")
_FREQUENCY = re.compile(rf"({_NUMBER})\s*/\s*((?:{_NUMBER}\s*)?(?:ms|s|min|m|h|d))\Z")
_POISSON = re.compile(r"poisson\s+(\S.*)\Z")
_BURST = re.compile(r"burst\s+([0-9]+)\s+every\s+(\S+)\Z")

DURATION = "not a duration (try 30s, 2m, 250ms)"
SIZE = "not a size (try 64B, 4KB, 1MiB)"
RATE = "not a rate (try 5/s, 1/10s, poisson 2/h, burst 100 every 1m)"
BYTE_RATE = "not a rate of bytes (try 4KB/s)"


class Rate(NamedTuple):
    """How often something is sent: `messages`, every `every_s` seconds, evenly spread, at random, or in one go."""

    messages: float
    every_s: float
    shape: Literal["even", "poisson", "burst"] = "even"


class Span(NamedTuple):
    """From the first to the second, both included: durations or whole numbers."""

    least: float
    most: float


def duration_s(value: object) -> float:
    """Seconds of `30s`, `1h30m` or 0. Raises ValueError with a sentence."""
    if _is_zero(value):
        return 0.0
    if isinstance(value, str) and _DURATION.match(value.strip()):
        return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(value))
    raise ValueError(DURATION)


def duration_span(value: object) -> Span:
    """`2m..10m`, or one duration for both. Raises ValueError with a sentence."""
    least, dots, most = str(value).partition("..")
    span = Span(duration_s(least), duration_s(most)) if dots else Span(duration_s(value), duration_s(value))
    if span.most < span.least:
        raise ValueError("ends before it begins")
    return span


def size_bytes(value: object) -> int:
    """Bytes of `64B`, `4KB` (4,000) or `4KiB` (4,096), or of a whole number. Raises ValueError with a sentence."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(SIZE)
    return round(float(found[1]) * _UNITS_BYTES[found[2]])


def share(value: str) -> float:
    """0.85 of `85%`. Raises ValueError with a sentence."""
    found = _SHARE.match(value.strip())
    if found is None:
        raise ValueError("not a share (try 85%)")
    return float(found[1]) / 100


def count(value: str) -> int:
    """A whole number. Raises ValueError with a sentence."""
    if not _COUNT.match(value.strip()):
        raise ValueError("not a whole number")
    return int(value)


def rate(value: object) -> Rate:
    """How often messages are sent. Raises ValueError with a sentence."""
    text = value.strip() if isinstance(value, str) else ""
    if (found := _BURST.match(text)) is not None:
        return _moving(Rate(int(found[1]), duration_s(found[2]), "burst"))
    if (found := _POISSON.match(text)) is not None:
        return _moving(_frequency(found[1])._replace(shape="poisson"))
    return _moving(_frequency(text))


def frequency(value: str) -> Rate:
    """`20/min`: how many in what time. Raises ValueError with a sentence."""
    return _moving(_frequency(value.strip()))


def byte_rate(value: object) -> float:
    """Bytes each second of `4KB/s`. Raises ValueError with a sentence."""
    size, slash, unit = str(value).partition("/")
    try:
        found = size_bytes(size.strip()) / duration_s(f"1{unit.strip()}") if slash else 0.0
    except ValueError:
        found = 0.0
    if found <= 0:
        raise ValueError(BYTE_RATE)
    return found


def show_duration(seconds: float) -> str:
    """A duration for people: `250 ms`, `1.9 s`, `16 min`, `8 h`."""
    if math.isinf(seconds):
        return "never"
    if seconds and abs(seconds) < 1:
        return f"{seconds * 1000:.3g} ms"
    for unit, length_s in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.3g} {unit}"
    return f"{seconds:.3g} s"


def write_duration(seconds: float) -> str:
    """A duration as `duration_s` reads it, exactly to a millisecond."""
    for unit in ("h", "m", "s"):
        if seconds and seconds % _UNITS_S[unit] == 0:
            return f"{int(seconds / _UNITS_S[unit])}{unit}"
    return f"{round(seconds * 1000)}ms" if seconds else "0s"


def show_size(size: float) -> str:
    """A size for people: `64 B`, `1.5 KB`."""
    for unit, length in (("MB", 1000_000), ("KB", 1000)):
        if size >= length:
            return f"{size / length:.3g} {unit}"
    return f"{size:g} B"


def _frequency(text: str) -> Rate:
    found = _FREQUENCY.match(text)
    if found is None:
        raise ValueError(RATE)
    unit = found[2].replace(" ", "")
    return Rate(float(found[1]), duration_s(unit if unit[0].isdigit() else f"1{unit}"))


def _moving(rate: Rate) -> Rate:
    if rate.messages <= 0 or rate.every_s <= 0:
        raise ValueError(RATE)
    return rate


def _is_zero(value: object) -> bool:
    return value == "0" or (type(value) in (int, float) and value == 0)
