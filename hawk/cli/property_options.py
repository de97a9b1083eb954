"""`-D publish NAME VALUE`, as mosquitto_pub has it: MQTT 5's properties of what `hawk pub` publishes."""

from collections.abc import Iterator, Sequence

from hawk.cli.connection_options import UsageError
from hawk.values import Properties

_ONCE = ("content-type", "correlation-data", "message-expiry-interval", "payload-format-indicator", "response-topic")
_KNOWN = (*_ONCE, "user-property")


def properties_of(words: Sequence[str]) -> Properties:
    """The properties that the words of all `-D` together name. Raises `UsageError`.

    Each is `publish`, a name and its value; a `user-property` has a name and a value of its own.
    """
    found: dict[str, str] = {}
    user: list[tuple[str, str]] = []
    rest = iter(words)
    for command in rest:
        if command != "publish":
            raise UsageError(
                f"-D {command}: only `publish` has properties here, as in -D publish content-type text/plain"
            )
        name = _next(rest, "-D publish", "a property")
        if name not in _KNOWN:
            raise UsageError(f"-D publish {name}: no such property; there are {', '.join(_KNOWN)}")
        value = _next(rest, f"-D publish {name}", "a value")
        if name == "user-property":
            user.append((value, _next(rest, f"-D publish user-property {value}", "a value")))
        elif name in found:
            raise UsageError(f"-D publish {name}: a message has one, and here are two")
        else:
            found[name] = value
    correlation_data = found.get("correlation-data")
    return Properties(
        expiry_s=_expiry_of(found.get("message-expiry-interval")),
        text=_is_text(found.get("payload-format-indicator")),
        content_type=found.get("content-type"),
        response_topic=found.get("response-topic"),
        correlation_data=None if correlation_data is None else correlation_data.encode(),
        user=tuple(user),
    )


def _next(words: Iterator[str], after: str, what: str) -> str:
    word = next(words, None)
    if word is None:
        raise UsageError(f"{after}: {what} is missing")
    return word


def _expiry_of(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"-D publish message-expiry-interval: {value!r} is no number of seconds") from None


def _is_text(value: str | None) -> bool:
    if value not in (None, "0", "1"):
        raise UsageError(f"-D publish payload-format-indicator: 0 (bytes) or 1 (UTF-8 text), not {value!r}")
    return value == "1"
