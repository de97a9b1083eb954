"""SPEC.md's own `mqtt:` section, copied as it stands, is a configuration file of hawk."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from hawk import Config
from hawk.service.settings import load_settings

SECTION = Path(__file__).with_name("spec_mqtt_section.yaml")
NINE = {
    "max_retries": 10,
    "initial_retry_delay": 1.0,
    "max_retry_delay": 300.0,
    "backoff_multiplier": 2.0,
    "jitter_factor": 0.1,
    "connection_timeout": 30.0,
    "health_check_interval": 60.0,
    "message_queue_size": 1000,
    "message_retry_limit": 3,
}
"""SPEC.md's table of parameters."""


def as_toml(yaml: str) -> str:
    return yaml.replace("mqtt:", "[mqtt]").replace(": ", " = ").replace("\n  ", "\n")


def test_the_section_loads_unchanged_and_says_the_defaults() -> None:
    loaded = load_settings(SECTION, environ={}, flags={})
    assert loaded.config == Config()
    assert loaded.warnings == ()


def test_every_parameter_of_the_table_comes_from_the_file() -> None:
    origins = load_settings(SECTION, environ={}, flags={}).origins
    lines = SECTION.read_text().splitlines()
    for name in (*NINE, "enabled", "broker", "port"):
        [line] = [number for number, line in enumerate(lines, 1) if line.strip().startswith(f"{name}:")]
        assert origins[name] == f"{SECTION}:{line}"
    assert origins["qos"] == "default"


def test_the_same_section_loads_as_toml(write: Callable[..., Path]) -> None:
    text = as_toml(SECTION.read_text())
    assert tomllib.loads(text)["mqtt"]["max_retries"] == 10
    assert load_settings(write(text, "hawk.toml"), environ={}, flags={}).config == Config()


@pytest.mark.parametrize("name", NINE)
def test_each_parameter_has_the_default_of_the_table_and_may_be_changed(name: str, write: Callable[..., Path]) -> None:
    defaults = load_settings(None, environ={}, flags={}).config
    assert {**_flat(defaults)}[name] == NINE[name]
    changed = {"jitter_factor": 0.5, "backoff_multiplier": 3.0}.get(name, NINE[name] + 1)
    loaded = load_settings(write(f"mqtt:\n  {name}: {changed}\n"), environ={}, flags={})
    assert _flat(loaded.config) == _flat(defaults) | {name: changed}


def test_enabled_false_is_honoured(write: Callable[..., Path]) -> None:
    assert load_settings(write("mqtt:\n  enabled: false\n"), environ={}, flags={}).config == Config(enabled=False)


def test_a_whole_number_serves_where_a_fraction_may_stand(write: Callable[..., Path]) -> None:
    config = load_settings(write("mqtt:\n  initial_retry_delay: 2\n"), environ={}, flags={}).config
    assert config.reconnection.initial_retry_delay == 2.0
    assert type(config.reconnection.initial_retry_delay) is float


@pytest.mark.parametrize("text", ["mqtt:\n", "mqtt: {}\n", "mqtt: null\n", "\ufeffmqtt:\r\n", "--- \nmqtt: ~\n...\n"])
def test_an_empty_section_means_the_defaults(text: str, write: Callable[..., Path]) -> None:
    assert load_settings(write(text), environ={}, flags={}).config == Config()


def _flat(config: Config) -> dict[str, object]:
    names = [*NINE, "enabled", "broker", "port", "qos", "overflow"]
    return {name: getattr(config if hasattr(config, name) else config.reconnection, name) for name in names}
