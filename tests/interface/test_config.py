"""`Config`, `ReconnectionConfig`: every problem at once, SPEC.md's names and defaults, URLs whose secrets stay secret."""

import math
import ssl
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from hawk import Config, ConfigInvalid, ReconnectionConfig
from hawk.connecting import Credentials, Will
from hawk.values import Message

SPEC_DEFAULTS = {
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
"""SPEC.md, "Configuration Parameters"."""

SPEC_SECTION = {"enabled": True, "broker": "localhost", "port": 1883, **SPEC_DEFAULTS}
"""SPEC.md, "MQTT Configuration"."""


def keys_of(error: ConfigInvalid) -> list[str]:
    """The offending keys, in the order in which they are told."""
    return [problem.key for problem in error.problems]


def found(settings: dict[str, Any]) -> dict[str, str]:
    """Each offending key and what is wrong with it."""
    with pytest.raises(ConfigInvalid) as caught:
        Config.from_mapping(settings)
    return {problem.key: problem.what for problem in caught.value.problems}


# ---------------------------------------------------------------------------------------- SPEC.md


@pytest.mark.parametrize(("key", "default"), SPEC_DEFAULTS.items())
def test_every_default_is_the_specifications(key: str, default: object) -> None:
    for config in (Config(), Config.from_mapping({}), Config.from_url("mqtt://localhost")):
        home: object = config.reconnection if hasattr(config.reconnection, key) else config
        assert getattr(home, key) == default


def test_the_mapping_of_the_specification_is_the_default() -> None:
    assert Config.from_mapping(SPEC_SECTION) == Config()


def test_reconnection_config_can_be_written_as_the_specification_does() -> None:
    reconnection_config = ReconnectionConfig(
        max_retries=10,
        initial_retry_delay=1.0,
        max_retry_delay=300.0,
        backoff_multiplier=2.0,
        jitter_factor=0.1,
        connection_timeout=30.0,
    )
    assert reconnection_config == ReconnectionConfig()
    assert {each.name for each in fields(ReconnectionConfig)} == set(SPEC_DEFAULTS) - {
        "health_check_interval",
        "message_queue_size",
        "message_retry_limit",
    }


def test_settings_cannot_be_changed_behind_the_validation() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().port = 0  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        ReconnectionConfig().max_retries = -1  # type: ignore[misc]


# ------------------------------------------------------------------------------------- all at once


def test_three_errors_are_told_at_once_with_their_keys() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        Config(port=0, qos=3, overflow="whatever")  # type: ignore[arg-type]
    assert keys_of(caught.value) == ["port", "qos", "overflow"]
    text = str(caught.value)
    assert text.startswith("3 problems in the configuration")
    assert all(key in text for key in ("port", "qos", "overflow"))
    assert isinstance(caught.value, ValueError)


def test_errors_of_every_kind_are_told_together() -> None:
    problems = found({"prot": 1883, "max_retries": -1, "qos": 3, "jitter_factor": 2, "health_chek_interval": 1})
    assert set(problems) == {"prot", "max_retries", "qos", "jitter_factor", "health_chek_interval"}


@pytest.mark.parametrize(
    ("key", "meant"),
    [("prot", "port"), ("user_name", "username"), ("max_retry", "max_retries"), ("Broker", "broker"),
     ("messsage_queue_size", "message_queue_size")],
)  # fmt: skip
def test_an_unknown_key_comes_with_a_suggestion(key: str, meant: str) -> None:
    assert f"did you mean {meant!r}?" in found({key: 1})[key]


def test_a_key_like_no_other_comes_without_one() -> None:
    assert found({"zzzzzz": 1}) == {"zzzzzz": "unknown setting"}


def test_reconnection_and_its_flat_names_do_not_stand_together() -> None:
    assert set(found({"reconnection": ReconnectionConfig(), "max_retries": 3})) == {"max_retries"}
    assert set(found({"reconnection": {"max_retries": 3}})) == {"reconnection"}
    assert Config.from_mapping({"reconnection": ReconnectionConfig(max_retries=3)}).reconnection.max_retries == 3


# ------------------------------------------------------------------------------------------ bounds


def asked() -> Any:
    """Stands for a callable of the application's."""


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("broker", ["h", "::1"], ["", None, 7, "a\0b", "\ud800", "x" * 65_536]),
        ("port", [1, 65_535], [0, 65_536, -1, 1883.0, "1883", True, None]),
        ("client_id", [None, "", "a"], [7, b"a", "\0"]),
        ("username", [None, "", "ü"], [7, b"a", "\0"]),
        ("password", [None, "", "ü"], [7, b"a", "\0", "x" * 65_536]),
        ("enabled", [True, False], [1, 0, "yes", None]),
        ("qos", [0, 1, 2], [3, -1, 1.0, True, False, "1", None]),
        ("max_retries", [None, 0, 10**9], [-1, 1.5, True, "10"]),
        ("initial_retry_delay", [0.001, 1], [0, -1, math.nan, math.inf, "1", None, True]),
        ("max_retry_delay", [1, 1e9], [0, 0.5, math.nan, math.inf, 10**400, -(10**400)]),
        ("backoff_multiplier", [1, 10.5], [0.99, math.inf, math.nan, 10**400]),
        ("jitter_factor", [0, 1, 0.5], [-0.01, 1.01, math.nan]),
        ("connection_timeout", [0.001, 3600], [0, -1, math.inf]),
        ("health_check_interval", [0.1, 65_535], [0, 65_536, math.inf]),
        ("ping_timeout_s", [None, 0.01], [0, -1]),
        ("message_queue_size", [1, 10**6], [0, -1, 1.5, True]),
        ("message_queue_bytes", [None, 1], [0]),
        ("overflow", ["drop_oldest", "drop_newest", "wait", "reject"], ["", None, "drop", []]),
        ("message_expiry_s", [None, 0.001, 4_294_967_295], [0, -1, 4_294_967_296, "60", math.nan]),
        ("latest", [(), ("#",), ("a/+/b", "+", "/")], ["a", [], ("",), ("a#",), ("#/a",), ("a+/b",), ("a\0",), (1,)]),
        ("message_retry_limit", [0, 3], [-1]),
        ("max_inflight", [1, 65_023], [0, 65_024]),
        ("receive_maximum", [1, 65_535], [0, 65_536]),
        ("max_packet_size", [64, 268_435_460], [63, 268_435_461]),
        ("session_expiry_s", [None, 0, 4_294_967_295], [-1, 4_294_967_296]),
        ("stable_after_s", [0], [-1, math.nan]),
        ("ack_timeout_s", [0.01], [0]),
        ("suback_timeout_s", [0.01], [0]),
        ("drain_s", [0, 60], [-1, math.inf]),
        ("cancel_drain_s", [0, 60], [-1, math.inf]),
        ("on_auth_failure", ["retry", "fail"], ["ignore", None]),
        ("outbox", [None, "outbox.db", Path("outbox.db")], ["", 7, "a\0b"]),
        ("durability", ["power", "process"], ["", "full", None]),
        ("receive_queue_size", [1], [0, 1.5]),
        ("receive_queue_bytes", [1], [0]),
        ("receive_overflow", ["drop_oldest", "drop_newest"], ["wait", None]),
        ("max_deliveries", [1], [0, -1]),
        ("return_grace_s", [0, 30], [-1, math.inf]),
        ("tls", [True, False], [1, "yes", None]),
        (
            "endpoints",
            [None, "mqtt://a", "mqtt://a, mqtts://b:1 mqtt+unix:///s", ("mqtt://a", "tcp://b"), asked],
            ["", (), "a:1883", "http://a", "mqtt://u:p@a", "mqtt://a:0", "mqtt+unix://", ("mqtt://a", 7), 7],
        ),
        ("failback_s", [0.001], [0, -1, math.inf]),
        ("password_file", [None, "f"], ["", 7]),
        ("password_command", [None, "pass show x", ("pass", "show")], ["", " ", (), ("pass", 7), 7]),
        ("credentials", [None, Credentials("u", "p"), asked], [("u", "p"), "u:p"]),
        ("authentication", [None, asked], ["SCRAM", 7]),
        (
            "will",
            [None, Will("t"), Will("t", "text", 2, True, 60), asked],
            ["t", Message("t", b""), Will(""), Will("a/#"), Will("t", 7), Will("t", qos=3), Will("t", delay_s=-1)],
        ),
        (
            "birth",
            [None, Message("t", b"x"), asked],
            ["t", Will("t"), Message("+", b""), Message("t", b"", 3), Message("t", b"", 1, "yes")],
        ),
        ("tls_ca_file", [None, "f"], ["", 7]),
        ("tls_certificate_file", [None, "f"], ["", 7]),
        ("tls_key_file", [None], ["f", "", 7]),
        ("tls_server_name", [None, "h"], ["", 7]),
        ("tls_alpn", [None, "mqtt", ("a", "b")], ["", (), 7]),
        ("tls_insecure", [True, False], [1, None]),
        ("tls_context", [None, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), asked], ["tls", 7]),
        ("refusal_policy", [None, asked], ["again", {}]),
    ],
)
def test_bounds(key: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        Config.from_mapping({key: value})
    for value in bad:
        assert key in found({key: value}), f"{key}={value!r} was accepted"


def test_every_setting_has_its_bounds_tested() -> None:
    (marks,) = [mark for mark in test_bounds.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    tested = {case[0] for case in marks.args[1]}
    assert tested == {each.name for cls in (Config, ReconnectionConfig) for each in fields(cls)} - {"reconnection"}


def test_an_outbox_file_makes_the_bounds_wider_that_nobody_set() -> None:
    memory, file = Config(), Config.from_mapping({"outbox": Path("outbox.db")})
    assert (memory.most_queue_bytes, memory.session_kept_s) == (64 * 2**20, 3600)
    assert (file.most_queue_bytes, file.session_kept_s, file.outbox) == (2**30, 604_800, "outbox.db")
    chosen = Config(outbox="outbox.db", message_queue_bytes=1, session_expiry_s=0)
    assert (chosen.most_queue_bytes, chosen.session_kept_s) == (1, 0)


def test_the_cap_must_not_be_below_the_first_delay() -> None:
    what = found({"initial_retry_delay": 5, "max_retry_delay": 4})["max_retry_delay"]
    assert "must not be below initial_retry_delay" in what
    assert Config.from_mapping({"initial_retry_delay": 5, "max_retry_delay": 5}).reconnection.max_retry_delay == 5


def test_the_pong_deadline_is_the_smaller_of_ten_and_half_the_keep_alive_unless_set() -> None:
    assert Config().pong_deadline_s == 10.0
    assert Config(health_check_interval=6.0).pong_deadline_s == 3.0
    assert Config(ping_timeout_s=4.0).pong_deadline_s == 4.0


# -------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "broker", "port", "username", "password"),
    [
        ("mqtt://example.org", "example.org", 1883, None, None),
        ("tcp://example.org:1", "example.org", 1, None, None),
        ("MQTT://Example.org/", "example.org", 1883, None, None),
        ("mqtt://[::1]:1884", "::1", 1884, None, None),
        ("mqtt://user@h", "h", 1883, "user", None),
        ("mqtt://user:pass@h:2", "h", 2, "user", "pass"),
        ("mqtt://us%40er:p%2Fa%3Ass%23%3F%25@h", "h", 1883, "us@er", "p/a:ss#?%"),
        ("mqtt://%C3%BC:%F0%9F%99%82@h", "h", 1883, "ü", "🙂"),
        ("mqtt://user:@h", "h", 1883, "user", ""),
    ],
)
def test_urls(url: str, broker: str, port: int, username: str | None, password: str | None) -> None:
    config = Config.from_url(url)
    assert (config.broker, config.port, config.username, config.password) == (broker, port, username, password)


def test_settings_win_over_the_url() -> None:
    config = Config.from_url("mqtt://a:b@h:1", port=2, password="c", max_retries=4)
    assert (config.broker, config.port, config.username, config.password) == ("h", 2, "a", "c")
    assert config.reconnection.max_retries == 4


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "localhost:1883",
        "http://user:hunter2@h",
        "user:hunter2@h",
        "hunter2:x@h",
        "mqtt://user:hunter2@",
        "mqtt://user:hunter2@h:port",
        "mqtt://user:hunter2@h:99999",
        "mqtt://user:hunter2@h:0",
        "mqtt://user:hunter2/x@h",
        "mqtt://user:hunter2#x@h",
        "mqtt://user:hunter2?x@h",
        "mqtt://user:hunter2@h\u2100",
        "mqtt://user:hunter2@[::1",
        "mqtt://user:hunter2%00@h",
        "mqtt://user:hunter2@h/topic",
        "mqtt://user:hunter2@h?x=1",
        "mqtt://user:hunter2@h#x",
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_secret(url: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        Config.from_url(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_no_repr_shows_the_password() -> None:
    config = Config.from_url("mqtt://user:hunt%65r2@h")
    assert config.password == "hunter2"
    assert "hunter2" not in f"{config!r} {config}"
    assert "hunt%65r2" not in repr(config)


def test_a_url_and_its_settings_are_judged_together() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        Config.from_url("http://h:0", qos=7, prot=3)
    assert set(keys_of(caught.value)) == {"url", "qos", "prot"}


# ---------------------------------------------------------------------------------- several, and otherwise


def test_several_urls_are_endpoints_in_their_order() -> None:
    config = Config.from_url(["mqtts://a", "mqtt+unix:///b"], username="u")
    assert [str(endpoint) for endpoint in config.addresses] == ["a:8883", "/b"]
    with pytest.raises(ConfigInvalid, match="holds a user name"):
        Config.from_url(["mqtt://u:hunter2@a"])


def test_a_setting_that_says_it_in_another_way_wins_over_the_url_as_well() -> None:
    config = Config.from_url("mqtts://u:p@h", endpoints="mqtt://a", password_command="cat p")
    assert [str(endpoint) for endpoint in config.addresses] == ["a:1883"]
    assert (config.username, config.password) == ("u", None)
    config = Config.from_url("mqtt+unix:///s", broker="h", credentials=Credentials("v"))
    assert [str(endpoint) for endpoint in config.addresses] == ["h:1883"]
    assert Config.from_url("mqtt://u:p@h", credentials=Credentials("v")).username is None
