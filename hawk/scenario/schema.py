"""The JSON Schema of a scenario file, made of the same tables that reading goes by. Editors complete and check with it."""

from collections.abc import Mapping
from typing import Any

from hawk.scenario.expectations import METRICS
from hawk.scenario.fault_kinds import FAULT_KINDS, Argument
from hawk.scenario.model import WAYS
from hawk.scenario.readers import DURATIONS, LONGEST_NAME_BYTES, SIZES
from hawk.scenario.reading import MOST_CLIENTS
from hawk.service.files import SECTION
from hawk.service.schema import FILE_ONLY, SETTINGS
from hawk.service.schema import json_schema as settings_schema

_DURATION = {
    "type": ["string", "integer"],
    "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*(ms|s|min|m|h|d)\s*)+$|^0$",
    "maximum": 0,
    "minimum": 0,
    "description": "30s, 2m, 250ms, 1h30m",
}
_SPAN = {"type": "string", "description": "2m..10m, or one duration"}
_SIZE = {"type": ["string", "integer"], "minimum": 0, "description": "64B, 4KB (4000), 4KiB (4096)"}
_RATE = {"type": "string", "description": "5/s, 1/10s, poisson 2/h, burst 100 every 1m"}
_BYTE_RATE = {"type": "string", "description": "4KB/s"}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT = {"type": "integer", "minimum": 1}
_TEXT = {"type": "string", "minLength": 1}
_QOS = {"type": "integer", "minimum": 0, "maximum": 2}
_UNITS: Mapping[str, Mapping[str, Any]] = {
    "duration": _DURATION,
    "size": _SIZE,
    "byte rate": _BYTE_RATE,
    "share": _SHARE,
    "number": {"type": "integer", "minimum": 0},
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a scenario file, version 1 of the format."""
    properties = {
        "hawk": {"const": 1, "description": "The version of this format."},
        "name": {"type": "string", "pattern": r"^[\w][\w.-]*$", "maxLength": LONGEST_NAME_BYTES},
        "about": {**_TEXT, "description": "The story, in a sentence or two."},
        "seed": {"type": "integer", "minimum": 0},
        "duration": {**_DURATION, "description": "How long the script goes on; at most 30d."},
        "clock": {"enum": ["virtual", "real"]},
        "matrix": _matrix(),
        "broker": _object(
            {
                "kind": {"const": "embedded"},
                "session": {"enum": ["keep", "lose"], "description": "What a broker that goes down remembers."},
                "url": {"type": "string", "description": "mqtt://host:port; the clock is real then."},
            }
        ),
        "client": _client(),
        "traffic": {"type": "array", "items": {"oneOf": [_publishing(), _subscribing()]}},
        "timeline": {"type": "array", "items": {"oneOf": [_heal(), _random(), *_faults(in_timeline=True)]}},
        "abort_if": {**_TEXT, "description": "queue.depth > 19000 for 10m; queue.bytes > 1MB"},
        "expect": {"type": "array", "items": _expectation()},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A scripted outage for hawk",
        **_object(properties, required=["hawk", "name", "duration", "traffic", "expect"]),
    }


def _object(properties: Mapping[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    found = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return found | ({"required": required} if required else {})


def _client() -> dict[str, Any]:
    whole: Any = settings_schema()
    settings: dict[str, Any] = whole["properties"][SECTION]["properties"]
    for name in DURATIONS | SIZES:
        unit = _DURATION if name in DURATIONS else _SIZE
        shape = {key: value for key, value in unit.items() if key in ("pattern", "description")} | {"type": "string"}
        settings[name] = {"anyOf": [settings[name], shape]}
    settings["outbox"] = {
        "enum": ["memory", "durable"],
        "description": "durable: a disk that outlives client.crash; in memory, as everything here.",
    }
    settings["version"] = {"const": 5}
    return _object(settings) | {"description": "hawk's own settings, as under mqtt: in its configuration file."}


def _matrix() -> dict[str, Any]:
    axes: dict[str, Any] = {
        "backend": {"type": "array", "items": {"enum": ["trio", "asyncio"]}, "minItems": 1},
        "seed": {
            "oneOf": [
                {"type": "string", "pattern": r"^\s*[0-9]+\s*\.\.\s*[0-9]+\s*$"},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            ]
        },
    }
    axes |= {f"client.{name}": {"type": "array", "minItems": 1} for name in SETTINGS if name not in FILE_ONLY}
    return _object(axes) | {"description": "One run for each combination."}


def _publishing() -> dict[str, Any]:
    properties = {
        "pub": {**_TEXT, "description": "A topic; {i} is the number of the client."},
        "clients": {**_COUNT, "maximum": MOST_CLIENTS},
        "rate": _RATE,
        "qos": _QOS,
        "size": _SIZE,
        "retain": {"type": "boolean"},
        "start": _DURATION,
        "stop": _DURATION,
    }
    return _object(properties, required=["pub", "rate"])


def _subscribing() -> dict[str, Any]:
    properties = {
        "sub": {**_TEXT, "description": "A filter."},
        "clients": {**_COUNT, "maximum": MOST_CLIENTS},
        "qos": _QOS,
    }
    return _object(properties, required=["sub"])


def _heal() -> dict[str, Any]:
    return _object({"at": _DURATION, "heal": {"const": "all"}}, required=["at", "heal"])


def _random() -> dict[str, Any]:
    words = [text for kind in FAULT_KINDS for text in _words(kind)]
    pick = {"type": "array", "minItems": 1, "items": {"oneOf": [{"enum": words}, *_faults(in_timeline=False)]}}
    inner = {"from": _DURATION, "to": _DURATION, "every": _SPAN, "for": _SPAN, "pick": pick}
    return _object({"random": _object(inner, required=["to", "every", "for", "pick"])}, required=["random"])


def _words(kind: str) -> list[str]:
    return [f"{kind}({reason})" for reason in FAULT_KINDS[kind].reasons] or [kind]


def _faults(*, in_timeline: bool) -> list[dict[str, Any]]:
    found = []
    for name, kind in FAULT_KINDS.items():
        properties: dict[str, Any] = {"fault": {"enum": _words(name), "description": kind.what}}
        required = ["fault"]
        if in_timeline:
            properties |= {"at": _DURATION, "as": _TEXT, "every": _DURATION, "times": _COUNT, "chance": _SHARE}
            properties |= {"for": _DURATION} if kind.lasting else {}
            required = ["at", "fault", *(["for"] if kind.needs_for else [])]
        properties |= {"way": {"enum": list(WAYS)}} if kind.has_way else {}
        properties |= {argument: _argument(shape) for argument, shape in kind.arguments.items()}
        required += [argument for argument, shape in kind.arguments.items() if shape.default is None]
        found.append(_object(properties, required=required))
    return found


def _argument(argument: Argument) -> dict[str, Any]:
    shape: Mapping[str, Any] = {"enum": list(argument.words)} if argument.words else _UNITS[argument.unit]
    return {**shape, "description": argument.what}


def _expectation() -> dict[str, Any]:
    metrics = "; ".join(f"{name}: {kind.what}" for name, kind in METRICS.items())
    check = {
        **_TEXT,
        "pattern": "^\\s*("
        + "|".join(name.replace(".", r"\.") for name in METRICS)
        + r")\s*(\(.*\))?\s*(==|!=|<=|>=|<|>|=)",
        "description": metrics,
    }
    full = _object({"check": check, "why": _TEXT, "abort": {"type": "boolean"}}, required=["check"])
    return {"oneOf": [check, full]}
