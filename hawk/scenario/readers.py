"""How single values of a scenario file are read, as hawk believes them. Each raises ValueError with a sentence."""

import re
from collections.abc import Callable
from typing import Any

from hawk.config import Config
from hawk.connecting import Transport
from hawk.core.topics import validate_filter, validate_topic
from hawk.errors import ConfigInvalid, MessageInvalid
from hawk.scenario import units
from hawk.scenario.model import AbortIf
from hawk.scenario.sections import one_of, text, whole
from hawk.service.schema import FILE_ONLY, SETTINGS, Wrong, check

LONGEST_S = 30 * 86_400.0
LARGEST_SEED = 2**63 - 1
LONGEST_NAME_BYTES = 100
DURATIONS = frozenset(
    {"initial_retry_delay", "max_retry_delay", "connection_timeout", "health_check_interval"}
    | {name for name in SETTINGS if name.endswith("_s")}
)
"""Settings of hawk that a scenario may write with a unit."""
SIZES = frozenset({"message_queue_bytes", "max_packet_size"})

_NAME = re.compile(r"[\w][\w.-]*\Z")
_ABORT = re.compile(r"\s*(queue\.depth|queue\.bytes)\s*(<=|>=|<|>)\s*(\S+)(?:\s+for\s+(\S+))?\s*\Z")


def axis(key: str) -> Callable[[object], Any] | None:
    """How one value of an axis is read; None for an axis that there is not."""
    if key == "backend":
        return one_of("trio", "asyncio")
    if key == "seed":
        return whole(0, LARGEST_SEED)
    name = key.removeprefix("client.")
    return setting(name) if name != key and name in SETTINGS and name not in FILE_ONLY else None


def setting(name: str) -> Callable[[object], Any]:
    """One of hawk's own settings, by hawk's own rules, and a duration or a size with its unit."""

    def read(value: object) -> Any:
        given: object = [each.value for each in value] if isinstance(value, list) else value
        if isinstance(value, str) and name in DURATIONS:
            seconds = units.duration_s(value)
            given = int(seconds) if seconds.is_integer() else seconds
        elif isinstance(value, str) and name in SIZES:
            given = units.size_bytes(value)
        checked = check(name, given)
        if not isinstance(checked, Wrong):
            return checked
        raise ValueError(checked.what)

    return read


def format_version(value: object) -> int:
    """1."""
    if value == 1 and not isinstance(value, bool):
        return 1
    raise ValueError("must be 1, the version of this format")


def protocol_version(value: object) -> int:
    """5, the only one that rehearsals speak."""
    if value == 5 and not isinstance(value, bool):
        return 5
    raise ValueError("must be 5: rehearsals speak MQTT 5")


def scenario_name(value: object) -> str:
    """A name that can be part of that of a folder."""
    name = text(value)
    if not _NAME.match(name):
        raise ValueError("must be letters, digits, - and _: reports are named after it")
    if len(name.encode()) > LONGEST_NAME_BYTES:
        raise ValueError(f"must be at most {LONGEST_NAME_BYTES} bytes long: reports are named after it")
    return name


def script_length(value: object) -> float:
    """Seconds, of a script that ends."""
    found = units.duration_s(value)
    if not 0 < found <= LONGEST_S:
        raise ValueError("must be longer than nothing, and at most 30d")
    return found


def payload_size(value: object) -> int:
    """Bytes of one message."""
    size = units.size_bytes(value)
    if size > 1_000_000:
        raise ValueError("must be at most 1MB")
    return size


def topic(value: object) -> str:
    """A topic; {i} in it is the number of a client."""
    return _valid(value, validate_topic)


def topic_filter(value: object) -> str:
    """A filter; {i} in it is the number of a client."""
    return _valid(value, validate_filter)


def _valid(value: object, validate: Callable[[object], str]) -> str:
    topic = text(value)
    try:
        validate(topic.replace("{i}", "1"))
    except MessageInvalid as error:
        raise ValueError(str(error)) from None
    return topic


def broker_url(value: object) -> str:
    """The URL of a broker that the proxy can stand before. Raises ValueError with a sentence."""
    try:
        [endpoint] = Config.from_url(text(value)).addresses
    except ConfigInvalid as invalid:
        raise ValueError("; ".join(f"{problem.key} {problem.what}" for problem in invalid.problems)) from None
    if endpoint.transport is not Transport.TCP:
        raise ValueError("must be mqtt://host:port: hawk's fault proxy stands before plain TCP only")
    return str(value)


def abort_if(value: object) -> AbortIf | None:
    """A gauge, a limit, and for how long."""
    found = _ABORT.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("not a condition (try queue.depth > 19000 for 10m, queue.bytes > 1MB)")
    is_depth = found[1] == "queue.depth"
    limit = units.count(found[3]) if is_depth else units.size_bytes(found[3])
    return AbortIf(" ".join(str(value).split()), found[1], found[2], limit, units.duration_s(found[4] or 0))
