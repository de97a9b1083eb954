"""File < environment < flags, setting by setting, and every setting knows where it came from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hawk import Config, ConfigInvalid
from hawk.service.schema import SETTINGS
from hawk.service.settings import LoadedSettings, load_settings, settings_of

Write = Callable[..., Path]


def refusal(path: Path | None = None, environ: dict[str, str] | None = None, flags: object = None) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load_settings(path, environ=environ or {}, flags=flags or {})
    return [str(problem) for problem in caught.value.problems]


def of_environment(**variables: str) -> LoadedSettings:
    return load_settings(None, environ=variables, flags={})


def test_without_any_source_all_is_default() -> None:
    loaded = load_settings(None, environ={"HOME": "x", "HAWKISH": "y"}, flags={"port": None})
    assert loaded.config == Config()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.origins.keys() == settings_of(Config()).keys()


def test_each_source_wins_over_the_one_before(write: Write) -> None:
    path = write("mqtt:\n  broker: a\n  port: 1\n  qos: 0\n")
    loaded = load_settings(path, environ={"HAWK_PORT": "2", "HAWK_QOS": "2"}, flags={"qos": 1, "drain_s": 3})
    assert loaded.config == Config(broker="a", port=2, qos=1, drain_s=3.0)
    names = ("broker", "port", "qos", "drain_s", "enabled")
    assert [loaded.origins[name] for name in names] == [
        "hawk.yaml:2",
        "environment HAWK_PORT",
        "flag",
        "flag",
        "default",
    ]


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("HAWK_BROKER", "10", "broker", "10"),
        ("HAWK_CLIENT_ID", "null", "client_id", "null"),
        ("HAWK_CLIENT_ID", "", "client_id", ""),
        ("HAWK_PORT", "8883", "port", 8883),
        ("HAWK_ENABLED", "false", "enabled", False),
        ("HAWK_DRAIN_S", "2", "drain_s", 2.0),
        ("HAWK_ACK_TIMEOUT_S", "1e3", "ack_timeout_s", 1000.0),
        ("HAWK_PING_TIMEOUT_S", "null", "ping_timeout_s", None),
        ("HAWK_MAX_RETRIES", "null", "max_retries", None),
        ("HAWK_OVERFLOW", "reject", "overflow", "reject"),
    ],
)
def test_a_variable_is_read_by_the_type_of_its_setting(variable: str, text: str, name: str, value: object) -> None:
    loaded = of_environment(**{variable: text})
    found = settings_of(loaded.config)[name]
    assert found == value
    assert type(found) is type(value)
    assert loaded.origins[name] == f"environment {variable}"


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("HAWK_BROKR", "x", "unknown setting; did you mean 'HAWK_BROKER'?"),
        ("HAWK_Port", "5", "unknown setting; did you mean 'HAWK_PORT'?"),
        ("HAWK_ZZZZZZ", "5", "unknown setting"),
        ("HAWK_RECONNECTION", "5", "unknown setting; what belongs to it stands flat, beside the others"),
        ("HAWK_PORT", "0", "must be a whole number from 1 to 65535, not 0"),
        ("HAWK_PORT", "x", "must be a whole number, not the text 'x'"),
        ("HAWK_PORT", " 5", "must be a whole number, not the text ' 5'"),
        ("HAWK_ENABLED", "yes", "must be true or false, not the text 'yes'"),
        ("HAWK_MAX_RETRIES", "", "must be a whole number or null, not the text ''"),
        ("HAWK_BROKER", "\udcff", "must be UTF-8 text of at most 65,535 bytes, without NUL"),
        ("HAWK_URL", "h:1883", "must begin with mqtt://, mqtts:// or mqtt+unix://"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(variable: str, text: str, problem: str) -> None:
    assert refusal(environ={variable: text})[0] == f"{variable}: {problem}"


def test_a_variable_with_an_unprintable_name_does_not_reach_the_terminal() -> None:
    assert refusal(environ={"HAWK_\x1b\udcff": "x"}) == [r"HAWK_\x1b\udcff: unknown setting"]


def test_a_wrong_flag_is_told_by_its_name() -> None:
    assert refusal(flags={"prot": 1, "port": "x", "qos": 5}) == [
        "flag prot: unknown setting; did you mean 'port'?",
        "flag port: must be a whole number, not the text 'x'",
        "flag qos: must be one of 0, 1, 2, not 5",
    ]


def test_problems_of_all_sources_are_told_at_once(write: Write) -> None:
    path = write("mqtt:\n  qos: x\n")
    assert refusal(path, {"HAWK_PORT": "x"}, {"drain_s": -1}) == [
        "hawk.yaml:2:8: qos: must be a whole number, not the text 'x'",
        "HAWK_PORT: must be a whole number, not the text 'x'",
        "flag drain_s: must be a number of at least 0 (seconds), not -1.0",
    ]


def test_a_value_of_the_wrong_type_is_told_even_where_another_source_wins(write: Write) -> None:
    assert refusal(write("mqtt:\n  qos: x\n"), {"HAWK_QOS": "1"}) == [
        "hawk.yaml:2:8: qos: must be a whole number, not the text 'x'"
    ]


def test_two_settings_that_contradict_one_another_from_two_sources_are_told(write: Write) -> None:
    path = write("mqtt:\n  max_retry_delay: 3\n")
    what = "must not be below initial_retry_delay (4), and is 3"
    assert refusal(path, {"HAWK_INITIAL_RETRY_DELAY": "4"}) == [f"hawk.yaml:2:20: max_retry_delay: {what}"]


def test_a_url_sets_the_endpoint_and_the_credentials_that_it_names(write: Write) -> None:
    loaded = load_settings(write("mqtt:\n  url: mqtt://joe:p%40ss@h:99\n"), environ={}, flags={})
    assert loaded.config == Config(broker="h", port=99, username="joe", password="p@ss")
    assert {loaded.origins[name] for name in ("broker", "port", "username", "password")} == {"hawk.yaml:2"}


def test_a_url_of_a_higher_source_replaces_broker_and_port_and_keeps_credentials_that_it_does_not_name(
    write: Write,
) -> None:
    path = write("mqtt:\n  broker: a\n  port: 99\n  username: joe\n  password: pass\n")
    loaded = load_settings(path, environ={"HAWK_URL": "mqtt://b"}, flags={})
    assert loaded.config == Config(broker="b", port=1883, username="joe", password="pass")
    assert loaded.origins["port"] == "environment HAWK_URL"


def test_a_single_setting_of_a_higher_source_wins_over_a_url(write: Write) -> None:
    path = write("mqtt:\n  url: mqtt://a:99\n")
    assert load_settings(path, environ={}, flags={"broker": "b"}).config == Config(broker="b", port=99)


@pytest.mark.parametrize("beside", ["broker", "port", "username", "password"])
def test_a_url_beside_what_it_sets_is_refused_in_one_source(beside: str) -> None:
    values: dict[str, object] = {"broker": "a", "port": 5, "username": "u", "password": "p"}
    flags = {"url": "mqtt://joe:pass@h", beside: values[beside]}
    assert refusal(flags=flags) == [f"flag {beside}: stands beside `url`, which sets it too; give one of the two"]


def test_every_setting_has_a_variable() -> None:
    unset = {f"HAWK_{name.upper()}": "x\0" for name in SETTINGS}
    told = "\n".join(refusal(environ=unset))
    assert "unknown setting" not in told
