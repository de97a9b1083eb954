"""The properties of a message: whether MQTT can carry them (MQTT 5 section 3.3.2.3), and how. Pure."""

import math
from collections.abc import Iterable, Mapping

from hawk.core.topics import MAXIMUM_BYTES, validate_topic
from hawk.core.wire_size import LARGEST_EXPIRY_S, MAXIMUM_PACKET_SIZE_BYTES, publish_size_bytes
from hawk.errors import MessageInvalid
from hawk.values import NO_PROPERTIES, Message, Properties


def with_properties(message: Message, properties: object) -> Message:
    """`message` with `properties`, if a PUBLISH can carry them; their `user` may also be a mapping, or any pairs.

    Raises `MessageInvalid`, saying which one is wrong and why. Where none is set they are `NO_PROPERTIES` itself.
    """
    whole = message._replace(properties=_validated(properties, message.payload))
    size_bytes = publish_size_bytes(whole)
    if size_bytes > MAXIMUM_PACKET_SIZE_BYTES:
        what = f"the message with its properties takes {size_bytes} bytes"
        raise MessageInvalid(f"{what}; a packet of MQTT has at most {MAXIMUM_PACKET_SIZE_BYTES}")
    return whole


def _validated(properties: object, payload: bytes) -> Properties:
    if not isinstance(properties, Properties):
        raise MessageInvalid(f"properties must be hawk.Properties, not {type(properties).__name__}")
    expiry_s, text, content_type, response_topic, correlation_data, user = properties
    _check_expiry(expiry_s)
    _check_is_text(text, payload)
    if content_type is not None:
        _check_string("content_type", content_type)
    if response_topic is not None:
        validate_topic(response_topic)
    if correlation_data is not None:
        correlation_data = _valid_correlation_data(correlation_data)
    valid = Properties(expiry_s, text, content_type, response_topic, correlation_data, _valid_user(user))
    return NO_PROPERTIES if valid == NO_PROPERTIES else valid


def _check_expiry(expiry_s: object) -> None:
    if expiry_s is None:
        return
    if isinstance(expiry_s, bool) or not isinstance(expiry_s, int | float):
        raise MessageInvalid(f"expiry_s must be a number of seconds, not {type(expiry_s).__name__}")
    if not 0 <= expiry_s <= LARGEST_EXPIRY_S or math.isnan(expiry_s):
        raise MessageInvalid(f"expiry_s must be from 0 to {LARGEST_EXPIRY_S} seconds, not {expiry_s!r}")


def _check_is_text(text: object, payload: bytes) -> None:
    if not isinstance(text, bool):
        raise MessageInvalid(f"text must be True or False, not {text!r}")
    if text:
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            what = f"text=True says that the payload is UTF-8, and its byte {error.start} is not"
            # Without the error itself: it carries the payload.
            raise MessageInvalid(what) from None


def _check_string(what: str, value: object) -> None:
    """A UTF-8 Encoded String (section 1.5.4)."""
    if not isinstance(value, str):
        raise MessageInvalid(f"{what} must be text, not {type(value).__name__}")
    if "\0" in value:
        raise MessageInvalid(f"{what} has a NUL at character {value.index(chr(0)) + 1}")
    try:
        size_bytes = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        why = f"has a lone surrogate at character {error.start + 1}, which UTF-8 cannot carry"
        raise MessageInvalid(f"{what} {why}") from None
    if size_bytes > MAXIMUM_BYTES:
        raise MessageInvalid(f"{what} is {size_bytes} bytes of UTF-8; MQTT carries at most {MAXIMUM_BYTES}")


def _valid_correlation_data(value: object) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise MessageInvalid(f"correlation_data must be bytes, not {type(value).__name__}")
    data = bytes(value)
    if len(data) > MAXIMUM_BYTES:
        raise MessageInvalid(f"correlation_data has {len(data)} bytes; MQTT carries at most {MAXIMUM_BYTES}")
    return data


def _valid_user(user: object) -> tuple[tuple[str, str], ...]:
    pairs = user.items() if isinstance(user, Mapping) else user
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise MessageInvalid(f"user must be pairs of names and values, not {type(user).__name__}")
    valid: list[tuple[str, str]] = []
    for number, pair in enumerate(pairs, start=1):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise MessageInvalid(f"user property {number} must be a pair of a name and a value")
        name, value = pair
        _check_string(f"the name of user property {number}", name)
        _check_string(f"the value of user property {number}", value)
        valid.append((name, value))
    return tuple(valid)
