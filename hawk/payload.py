"""From what an application hands over to the bytes of a PUBLISH; what cannot be encoded is told to the sender at once."""

import json
from typing import Any, TypeAlias

from hawk.errors import MessageInvalid

Payload: TypeAlias = bytes | bytearray | memoryview | str | dict[str, Any] | list[Any] | int | float | bool | None
"""Bytes are sent as they are, text as UTF-8, everything else as compact JSON."""

_LARGEST_BYTES = 268_435_455 - 65_535 - 64


def encode_payload(topic: str, payload: Payload) -> bytes:
    """The payload's bytes, copied: what the sender changes later is not sent. Raises `MessageInvalid`."""
    if type(payload) is bytes:
        encoded = payload
    elif isinstance(payload, bytes | bytearray | memoryview):
        try:
            encoded = bytes(payload)
        except ValueError as error:
            raise MessageInvalid(f"the payload for {topic!r} cannot be read: {error}") from error
    elif isinstance(payload, str):
        try:
            encoded = payload.encode()
        except UnicodeEncodeError as error:
            raise MessageInvalid(
                f"the payload for {topic!r} is text that UTF-8 cannot carry: {error.reason}"
            ) from error
    else:
        try:
            text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            encoded = text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            what = type(payload).__name__
            raise MessageInvalid(f"the payload for {topic!r} ({what}) cannot be written as JSON: {error}") from error
    if len(encoded) > _LARGEST_BYTES:
        raise MessageInvalid(
            f"the payload for {topic!r} has {len(encoded)} bytes; a packet of MQTT holds {_LARGEST_BYTES}"
        )
    return encoded
