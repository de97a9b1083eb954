"""Whatever is wrong with a file is told at its line and column, all of it at once, and never as a traceback."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk import Config, ConfigInvalid
from hawk.service.settings import load_settings

Problems = Callable[..., list[str]]

MANY = """\
# every kind at once
mqtt:
  enabled: no
  brokr: x
  port: "1883"
  max_retries: 4294967296
  overflow: drop_oldes
  qos: 3
  username: 12
  jitter_factor: .inf
  broker: {name: x}
  client_id: [a]
  port: 5
mqt: {}
"""
QUOTES = "; text that begins with one of * & ! % @ ` stands in quotes"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    assert problems(MANY) == [
        "hawk.yaml:3:12: enabled: must be true or false, not the text 'no'",
        "hawk.yaml:4:3: brokr: unknown setting; did you mean 'broker'?",
        "hawk.yaml:5:9: port: must be a whole number, not the text '1883'; write it without quotes",
        "hawk.yaml:6:16: max_retries: must be a whole number from 0 to 4294967295, not 4294967296",
        "hawk.yaml:7:13: overflow: must be one of drop_oldest, drop_newest, wait, reject, "
        "not the text 'drop_oldes'; did you mean 'drop_oldest'?",
        "hawk.yaml:8:8: qos: must be one of 0, 1, 2, not 3",
        "hawk.yaml:9:13: username: must be text or null, not 12; write it in quotes",
        "hawk.yaml:10:18: jitter_factor: must be a number from 0 to 1, not inf",
        "hawk.yaml:11:11: broker: must be text, not a mapping",
        "hawk.yaml:12:14: client_id: must be text or null, not a list",
        "hawk.yaml:13:3: port: stands here a second time; the first is in line 5",
        "hawk.yaml:14:1: mqt: unknown section; did you mean 'mqtt'?",
    ]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("port: 1883.0", "2:9: port: must be a whole number, not 1883.0"),
        ("port: true", "2:9: port: must be a whole number, not true"),
        ("port:", "2:8: port: must be a whole number, not null"),
        ("port: 1_883", "2:9: port: must be a whole number, not the text '1_883'"),
        ("port: 1:30", "2:9: port: must be a whole number, not the text '1:30'"),
        ("port: 0xFFFFF", "2:9: port: must be a whole number from 1 to 65535, not 1048575"),
        ("port: " + "9" * 5000, "2:9: port: must be a whole number, not inf"),
        ("port: 0x" + "f" * 5000, "2:9: port: must be a whole number, not inf"),
        ("enabled: on", "2:12: enabled: must be true or false, not the text 'on'"),
        ("enabled: 1", "2:12: enabled: must be true or false, not 1"),
        ("qos: true", "2:8: qos: must be a whole number, not true"),
        ("drain_s: 1s", "2:12: drain_s: must be a number, not the text '1s'"),
        ("drain_s: .nan", "2:12: drain_s: must be a number of at least 0 (seconds), not nan"),
        ('broker: ""', "2:11: broker: must not be empty"),
        ('broker: "\\ud800"', "2:11: broker: must be UTF-8 text of at most 65,535 bytes, without NUL"),
        ("broker: &a !!str 5\n  client_id: *a\n  qos: *a", "2:11: qos: must be a whole number, not the text '5'; "
            "write it without quotes"),
        ("client_id: !!int x", "2:14: YAML: the tag here does not fit; text that begins with ! stands in quotes"),
        ("password: !secret", "2:13: YAML: the tag here does not fit; text that begins with ! stands in quotes"),
        ("password: *secret", f"2:13: YAML: found undefined alias '...'{QUOTES}"),
        ("password: @secret", f"2:13: YAML: while scanning for the next token, found character '@' that cannot "
        f"start any token{QUOTES}"),
        ("password: a: b", "2:14: YAML: mapping values are not allowed here"),
        ("port: [1", "3:1: YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ('broker: "\\U00110000"', "2:14: YAML: a number here is out of range"),
        ("broker: \a", "2:11: YAML: the character U+0007 is not allowed"),
        ("? [port]\n  : 5", "2:5: YAML: a key must be text"),
        ("10: 5", "2:3: 10: unknown setting"),
        ("<<: {port: 5}", "2:3: <<: unknown setting"),
        ('"\\e[31m": 5', r"2:3: \x1b[31m: unknown setting"),
        ("reconnection: {}", "2:3: reconnection: unknown setting; what belongs to it stands flat, beside the others"),
        (
            "initial_retry_delay: 400",
            "2:24: initial_retry_delay: the default of max_retry_delay must not be below initial_retry_delay (400), "
            "and is 300",
        ),
        (
            "initial_retry_delay: 4\n  max_retry_delay: 3",
            "3:20: max_retry_delay: must not be below initial_retry_delay (4), and is 3",
        ),
        ("initial_retry_delay: x\n  max_retry_delay: 0.5", "2:24: initial_retry_delay: must be a number, not the text 'x'"),
        ("initial_retry_delay: 400\n  max_retry_delay: x", "3:20: max_retry_delay: must be a number, not the text 'x'"),
        (
            "url: mqtt://h\n  port: 5",
            "3:3: port: stands beside `url`, which sets it too; give one of the two",
        ),
        ("url: mqtt://h:0", "2:8: url: its port must be a whole number from 1 to 65535, not 0"),
        ("url: http://h", "2:8: url: must begin with mqtt://, mqtts:// or mqtt+unix://"),
    ],
)  # fmt: skip
def test_a_problem_in_the_section_is_located_exactly(section: str, problem: str, problems: Problems) -> None:
    assert problems(f"mqtt:\n  {section}\n") == [f"hawk.yaml:{problem}"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "hawk.yaml:1:1: YAML: the file is empty; it needs a section `mqtt:`"),
        ("# nothing\n", "hawk.yaml:1:1: YAML: the file is empty; it needs a section `mqtt:`"),
        ("{}", "hawk.yaml:1:1: mqtt: the section `mqtt:` is missing"),
        ("\n- mqtt\n", "hawk.yaml:2:1: mqtt: the file must be a mapping with a section `mqtt:`"),
        ("mqtt", "hawk.yaml:1:1: mqtt: the file must be a mapping with a section `mqtt:`"),
        ("mqtt: [1]", "hawk.yaml:1:7: mqtt: must be a mapping of settings"),
        ("mqtt: 5", "hawk.yaml:1:7: mqtt: must be a mapping of settings"),
        ("mqtt:\nport: 5\n", "hawk.yaml:2:1: port: a setting stands under `mqtt:`"),
        ("mqtt:\nlog: 5\n", "hawk.yaml:2:1: log: unknown section; hawk reads only `mqtt:`"),
        ("mqtt:\nmqtt:\n", "hawk.yaml:2:1: mqtt: stands here a second time; the first is in line 1"),
        (
            "mqtt:\n---\nmqtt:\n",
            "hawk.yaml:2:1: YAML: expected a single document in the stream, but found another document",
        ),
        (b"mqtt:\n  broker: \xc3\xa4\xff\n", "hawk.yaml:2:12: is not UTF-8 text (the byte 0xFF)"),
        (b"mqtt:\0\n", "hawk.yaml:1:6: YAML: the character U+0000 is not allowed"),
        ("[" * 10_000, "hawk.yaml:1:1: YAML: is nested too deeply"),
        (
            "mqtt: &x\n  port: 5\n" + "".join(f"y{number}: *x\n" for number in range(5_001)),
            "hawk.yaml:1:7: YAML: the aliases (*) of this file repeat more than 10,000 keys and values; what stands here "
            "is repeated, too",
        ),
        ("#" * 1_100_000, "hawk.yaml: is larger than 1 MiB, and so no configuration file"),
    ],
)
def test_a_problem_with_the_file_is_told(content: str | bytes, problem: str, problems: Problems) -> None:
    assert problems(content) == [problem]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[mqtt]\nport = 1.5\nbrokr = 'x'\n",
         ["2:8: port: must be a whole number, not 1.5", "3:1: brokr: unknown setting; did you mean 'broker'?"]),
        ("mqtt.port = 'x'", ["1:13: port: must be a whole number, not the text 'x'"]),
        ("mqtt = { qos = 7, drain_s = 1979-05-27 07:32:00 }",
         ["1:16: qos: must be one of 0, 1, 2, not 7", "1:29: drain_s: must be a number, not a date or a time"]),
        ("[[mqtt]]\nport = 5\n", ["1:3: mqtt: must be a mapping of settings"]),
        ("[mqtt]\nport = 1\nport = 2\n", ["3:9: TOML: Cannot overwrite a value"]),
        ("[mqtt]\nport = \n", ["2:8: TOML: Invalid value"]),
        ("[mqtt]\nport = [", ["2:9: TOML: Invalid value"]),
        ("x = " + "[" * 100_000, ["1:1: TOML: is nested too deeply"]),
        ("[mqtt]\nport = " + "9" * 5000, ["1:1: TOML: a number in the file is out of range"]),
        ("[mqtt]\nport = 0x" + "f" * 5000, ["2:8: port: must be a whole number, not inf"]),
        ("", ["1:1: mqtt: the section `mqtt:` is missing"]),
    ],
)  # fmt: skip
def test_a_problem_in_a_toml_file_is_located_exactly(content: str, expected: list[str], problems: Problems) -> None:
    assert problems(content, "hawk.toml") == [f"hawk.toml:{problem}" for problem in expected]


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    absent, folder = tmp_path / "absent.yaml", tmp_path
    for path, why in ((absent, "No such file or directory"), (folder, "Is a directory")):
        with pytest.raises(ConfigInvalid) as caught:
            load_settings(path, environ={}, flags={})
        assert [str(problem) for problem in caught.value.problems] == [f"{path}: cannot be read: {why}"]
    with pytest.raises(ConfigInvalid, match="is not a file name"):
        load_settings(Path("a\0b"), environ={}, flags={})


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "N", "010:30", "1_0", "1e", "0b1", "=", "2001-01-01"])
def test_what_yaml_1_1_took_for_something_else_is_text(word: str, tmp_path: Path) -> None:
    path = tmp_path / "hawk.yaml"
    path.write_text(f"mqtt:\n  client_id: {word}\n")
    assert load_settings(path, environ={}, flags={}).config.client_id == word


@pytest.mark.parametrize(("written", "value"), [("010", 10), ("0o17", 15), ("0x1F", 31), ("+7", 7)])
def test_whole_numbers_are_those_of_yaml_1_2(written: str, value: int, tmp_path: Path) -> None:
    path = tmp_path / "hawk.yaml"
    path.write_text(f"mqtt:\n  port: {written}\n")
    assert load_settings(path, environ={}, flags={}).config.port == value


YAML_LIKE = st.text(alphabet="mqtport: \n\t[]{},&*!|>'\"%@`#?-0123456789.exounltrs~<\\\x00\x85\u2028\ufeff\U0001f600")
TOML_LIKE = st.text(alphabet="mqtport= \n\t[]{},'\"#-0123456789.exo\\\x00_:T")
NAMES = st.sampled_from(["port", "password", "drain_s", "url", "overflow", "enabled"])


@given(st.one_of(YAML_LIKE, st.builds("mqtt:\n  {}: {}".format, NAMES, YAML_LIKE), st.binary()))
def test_no_yaml_file_raises_anything_but_config_invalid(content: str | bytes) -> None:
    assert_tame(content, "yaml")


@given(st.one_of(TOML_LIKE, st.builds("[mqtt]\n{} = {}".format, NAMES, TOML_LIKE), st.binary()))
def test_no_toml_file_raises_anything_but_config_invalid(content: str | bytes) -> None:
    assert_tame(content, "toml")


def assert_tame(content: str | bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"hawk.{suffix}")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with suppress(ConfigInvalid):
            assert isinstance(load_settings(path, environ={}, flags={}).config, Config)
