"""Any valid configuration, written as a file, is read back as the same configuration."""

import json
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from hawk import Config, ReconnectionConfig
from hawk.service.scalars import read_plain, write
from hawk.service.settings import load_settings, settings_of
from hawk.service.writing import settings_yaml, template

UINT16, UINT32 = 65_535, 4_294_967_295
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
AWKWARD = [
    "yes",
    "null",
    "~",
    "",
    "0o17",
    "1e3",
    ".5",
    ".inf",
    "- a",
    "a: b",
    "#",
    "'",
    '"',
    "\\",
    " x ",
    "\u2028",
    "\x85",
]
TEXTS = TEXT | st.sampled_from(AWKWARD)


def seconds(least: float, most: float = 1e9) -> st.SearchStrategy[float]:
    return st.floats(least, most)


@st.composite
def reconnections(draw: st.DrawFn) -> ReconnectionConfig:
    shortest, longest = sorted([draw(seconds(0.001)), draw(seconds(0.001))])
    return ReconnectionConfig(
        max_retries=draw(st.none() | st.integers(0, UINT32)),
        initial_retry_delay=shortest,
        max_retry_delay=longest,
        backoff_multiplier=draw(seconds(1)),
        jitter_factor=draw(seconds(0, 1)),
        connection_timeout=draw(seconds(0.001)),
    )


CONFIGS = st.builds(
    Config,
    broker=TEXTS.filter(bool),
    port=st.integers(1, UINT16),
    client_id=st.none() | TEXTS,
    username=st.none() | TEXTS,
    password=st.none() | TEXTS,
    enabled=st.booleans(),
    qos=st.integers(0, 2),
    reconnection=reconnections(),
    health_check_interval=seconds(0.1, UINT16),
    ping_timeout_s=st.none() | seconds(0.01),
    message_queue_size=st.integers(1, UINT32),
    message_queue_bytes=st.none() | st.integers(1, 1 << 62),
    overflow=st.sampled_from(["drop_oldest", "drop_newest", "wait", "reject"]),
    message_expiry_s=st.none() | seconds(0.001, UINT32),
    latest=st.lists(st.sampled_from(["#", "+/a", "status/ü/#", "a b"]), max_size=3).map(tuple),
    message_retry_limit=st.integers(0, UINT32),
    max_inflight=st.integers(1, 65_023),
    receive_maximum=st.integers(1, UINT16),
    max_packet_size=st.integers(64, 268_435_460),
    session_expiry_s=st.none() | st.integers(0, UINT32),
    stable_after_s=seconds(0),
    ack_timeout_s=seconds(0.01),
    suback_timeout_s=seconds(0.01),
    drain_s=seconds(0),
    cancel_drain_s=seconds(0),
    on_auth_failure=st.sampled_from(["retry", "fail"]),
    outbox=st.none() | TEXTS.filter(bool),
    durability=st.sampled_from(["power", "process"]),
)


def load(text: str, suffix: str) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"hawk.{suffix}")
        path.write_bytes(text.encode())
        return load_settings(path, environ={}, flags={}).config


def as_toml(config: Config) -> str:
    """TOML has no null: there, a setting that is null is left out, and so `max_retries` cannot be."""
    given = {name: value for name, value in settings_of(config).items() if value is not None}
    given["latest"] = ", ".join(config.latest)
    escaped = {name: json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") for name, value in given.items()}
    return "\n".join(["[mqtt]", *(f"{name} = {value}" for name, value in escaped.items())])


@given(CONFIGS)
def test_a_configuration_survives_a_yaml_file(config: Config) -> None:
    assert load(settings_yaml(settings_of(config)), "yaml") == config


@given(CONFIGS.filter(lambda config: config.reconnection.max_retries is not None))
def test_a_configuration_survives_a_toml_file(config: Config) -> None:
    assert load(as_toml(config), "toml") == config


@given(CONFIGS)
def test_a_configuration_survives_being_laid_flat(config: Config) -> None:
    assert Config.from_mapping(settings_of(config)) == config


def test_the_template_is_a_file_of_the_defaults() -> None:
    assert load(template(), "yaml") == Config()


@given(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
@example(1e22)
@example(-0.0)
def test_a_plain_value_is_read_back_with_its_type(value: object) -> None:
    read = read_plain(write(value))
    assert read == value
    assert type(read) is type(value)
