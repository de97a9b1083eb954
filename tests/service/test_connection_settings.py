"""Endpoints, TLS, will and birth as files, variables and flags name them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hawk import Config, ConfigInvalid, Endpoint, Message, Transport, Will
from hawk.service.settings import LoadedSettings, load_settings

Write = Callable[..., Path]
Problems = Callable[..., list[str]]


def load(path: Path | None, **environ: str) -> LoadedSettings:
    return load_settings(path, environ=environ, flags={})


def test_a_will_and_a_birth_are_put_together_of_their_parts(write: Write) -> None:
    loaded = load(
        write("mqtt:\n  will_topic: a/b\n  will_payload: ü\n  will_delay_s: 7\n  birth_topic: a/b\n  birth_qos: 1\n"),
        HAWK_WILL_QOS="2",
        HAWK_BIRTH_RETAIN="true",
    )
    assert loaded.config.will == Will("a/b", "ü".encode(), 2, False, 7)
    assert loaded.config.birth == Message("a/b", b"", 1, True)


def test_parts_without_a_topic_are_told_where_they_stand(problems: Problems) -> None:
    assert problems("mqtt:\n  will_payload: x\n  will_retain: false\n  birth_qos: 1\n") == [
        "hawk.yaml:2:17: will_payload: needs `will_topic` beside it",
        "hawk.yaml:4:14: birth_qos: needs `birth_topic` beside it",
    ]


def test_a_part_that_cannot_serve_is_told_at_the_topic(problems: Problems) -> None:
    (problem,) = problems("mqtt:\n  will_topic: a\n  will_qos: 7\n")
    assert problem == "hawk.yaml:2:15: will_topic: its qos must be 0, 1 or 2, not 7"


def test_the_paths_of_files_start_from_the_configuration_file(write: Write) -> None:
    path = write(
        "mqtt:\n  tls: true\n  tls_ca_file: ca.pem\n  tls_certificate_file: own.pem\n  tls_key_file: /own.key\n",
        "etc/hawk.yaml",
    )
    config = load(path, HAWK_TLS_CERTIFICATE_FILE="other.pem").config
    assert (config.tls_ca_file, config.tls_certificate_file, config.tls_key_file) == (
        "etc/ca.pem",
        "other.pem",
        "/own.key",
    )


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("mqtts://h", Endpoint(Transport.TLS, "h", 8883)),
        ("mqtt://h:7", Endpoint(Transport.TCP, "h", 7)),
        ("mqtt+unix:///a%20b", Endpoint(Transport.UNIX, "/a b")),
    ],
)
def test_a_url_says_what_carries_mqtt(url: str, endpoint: Endpoint, write: Write) -> None:
    assert load(write(f"mqtt:\n  url: {url}\n")).config.addresses == (endpoint,)
    assert Config.from_url(url).addresses == (endpoint,)


def test_a_higher_source_replaces_the_place_whatever_the_lower_one_called_it(write: Write) -> None:
    path = write("mqtt:\n  endpoints: mqtts://a, mqtts://b\n")
    assert len(load(path).config.addresses) == 2
    for environ in ({"HAWK_BROKER": "c"}, {"HAWK_URL": "mqtt://c"}):
        assert load(path, **environ).config.addresses == (Endpoint(Transport.TCP, "c", 1883),)
    path = write("mqtt:\n  broker: a\n  tls: true\n")
    assert load(path, HAWK_ENDPOINTS="mqtt://c").config.addresses == (Endpoint(Transport.TCP, "c", 1883),)


def test_a_higher_source_replaces_the_password_whatever_the_lower_one_called_it(write: Write) -> None:
    write("x", "secret")
    lower = {"password": "a", "password_command": "cat a", "password_file": "secret"}
    higher = {"password": "b", "password_command": "cat b", "password_file": "secret"}
    for below, value in lower.items():
        path = write(f"mqtt:\n  {below}: {value}\n")
        for above, wanted in higher.items():
            config = load(path, **{f"HAWK_{above.upper()}": wanted}).config
            chosen = {name: getattr(config, name) for name in higher}
            assert {name: found for name, found in chosen.items() if found is not None} == {above: wanted}


def test_verifying_nothing_is_warned_of(write: Write) -> None:
    (warning,) = load(write("mqtt:\n  tls_insecure: true\n")).warnings
    assert warning == "hawk.yaml:2:17: tls_insecure: no certificate is verified, so anybody may pose as the broker"


@pytest.mark.parametrize("beside", ["password: a", "password_file: secret"])
def test_two_passwords_of_one_source_are_refused(beside: str, write: Write) -> None:
    write("x", "secret")
    with pytest.raises(ConfigInvalid, match="stands beside"):
        load(write(f"mqtt:\n  password_command: cat\n  {beside}\n"))
