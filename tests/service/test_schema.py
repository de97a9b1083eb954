"""The JSON Schema and the template state what the dataclasses enforce, of every setting."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from hawk import Config, ConfigInvalid, ReconnectionConfig
from hawk.service.descriptions import DESCRIPTIONS
from hawk.service.schema import CODE_ONLY, FILE_ONLY, MESSAGES, SETTINGS, json_schema
from hawk.service.settings import load_settings
from hawk.service.writing import template

SECTION: Any = json_schema()["properties"]
PROPERTIES: dict[str, dict[str, Any]] = SECTION["mqtt"]["properties"]
BOUNDED = [(name, side) for name in PROPERTIES for side in ("minimum", "maximum") if side in PROPERTIES[name]]


def types_of(entry: dict[str, Any]) -> set[str]:
    return {branch["type"] for branch in entry.get("anyOf", [entry])}


def refused(name: str, value: object) -> bool:
    beside = {"max_retry_delay": 1e9} if name == "initial_retry_delay" else {}
    if (message := name.partition("_")[0]) in MESSAGES and value != f"{message}_topic":
        beside[f"{message}_topic"] = "t"
    try:
        load_settings(None, environ={}, flags={**beside, name: value})
    except ConfigInvalid as invalid:
        return any("must not be below" not in problem.what for problem in invalid.problems)
    return False


def test_every_setting_of_the_dataclasses_has_a_name_in_files() -> None:
    names = {field.name for kind in (Config, ReconnectionConfig) for field in fields(kind)} - {"reconnection"}
    assert names - CODE_ONLY | FILE_ONLY == SETTINGS.keys() == PROPERTIES.keys() == DESCRIPTIONS.keys()


def test_nothing_else_is_allowed() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert SECTION["mqtt"]["additionalProperties"] is False
    assert schema["required"] == ["mqtt"]


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_default_is_the_dataclass_s_and_fits_the_type(name: str) -> None:
    entry = PROPERTIES[name]
    config = Config()
    if name not in FILE_ONLY:
        owner = config if hasattr(config, name) else config.reconnection
        default = getattr(owner, name)
        assert entry["default"] == (", ".join(default) if isinstance(default, tuple) else default)
    kinds: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    assert kinds[type(entry["default"])] in types_of(entry)


@pytest.mark.parametrize(("name", "side"), BOUNDED)
def test_a_stated_bound_is_the_one_enforced(name: str, side: str) -> None:
    bound = PROPERTIES[name][side]
    step = 1 if "integer" in types_of(PROPERTIES[name]) else max(abs(bound) * 1e-9, 1e-9)
    beyond = bound - step if side == "minimum" else bound + step
    assert not refused(name, bound)
    assert refused(name, beyond)


@pytest.mark.parametrize(
    "name", [name for name, entry in PROPERTIES.items() if {"integer", "number"} & types_of(entry)]
)
def test_a_number_without_a_stated_bound_has_none(name: str) -> None:
    entry = PROPERTIES[name]
    assert "minimum" in entry
    assert "maximum" in entry or not refused(name, 1e300)


@pytest.mark.parametrize("name", ["broker", "client_id", "username", "password"])
def test_a_text_has_the_stated_length(name: str) -> None:
    entry = PROPERTIES[name]
    assert not refused(name, "x" * entry["maxLength"])
    assert refused(name, "x" * (entry["maxLength"] + 1))
    assert refused(name, "") is (entry.get("minLength", 0) > 0)


@pytest.mark.parametrize("name", [name for name, entry in PROPERTIES.items() if "enum" in entry])
def test_every_stated_choice_is_accepted_and_no_other(name: str) -> None:
    assert not any(refused(name, choice) for choice in PROPERTIES[name]["enum"])
    assert refused(name, "else")


def test_the_template_has_every_setting_under_its_description() -> None:
    lines = template().splitlines()
    for name, description in DESCRIPTIONS.items():
        [number] = [number for number, line in enumerate(lines) if line.startswith(f"  {name}: ")]
        assert lines[number - 1].startswith(f"  # {description.text}")


def test_each_line_of_the_template_can_be_changed_and_the_rest_kept(write: Callable[..., Path]) -> None:
    path = write(template().replace("  qos: 1\n", "  qos: 2\n").replace("  max_retries: 10\n", "  max_retries: null\n"))
    loaded = load_settings(path, environ={}, flags={})
    assert loaded.config == Config(qos=2, reconnection=ReconnectionConfig(max_retries=None))
