"""MQTT 5's reason codes in words, as the codec's enums name them; and a broker's own text, made fit for a log."""

import mqtt5

_MOST_CHARACTERS = 256

_ENUMS = (
    mqtt5.DisconnectReasonCode,
    mqtt5.ConnAckReasonCode,
    mqtt5.PubAckReasonCode,
    mqtt5.PubRelReasonCode,
    mqtt5.SubAckReasonCode,
    mqtt5.UnsubAckReasonCode,
)


def _names() -> dict[int, str]:
    names = {0: "success"}
    for enum in _ENUMS:
        for name in dir(enum):
            if name.isupper():
                words = name.lower().replace("_", " ").replace("qos", "QoS")
                names.setdefault(int(getattr(enum, name)), words)
    return names


_NAMES = _names()


def reason_name(reason_code: int) -> str:
    """A reason code in words: "not authorized" for 0x87. Codes mean the same in every packet (MQTT 5.0, 2.4)."""
    return _NAMES.get(reason_code, "unknown reason code")


def reason_text(reason_code: int, reason_string: str | None, *, success: str = "success") -> str:
    """A reason code in words and, behind a colon, what the broker adds in its Reason String."""
    name = reason_name(reason_code) if reason_code else success
    return f"{name}: {legible(reason_string)}" if reason_string else name


def legible(text: str) -> str:
    """`text` cut to 256 characters, with "?" for whatever cannot be printed: a broker must not forge lines of a log."""
    return "".join(character if character.isprintable() else "?" for character in text[:_MOST_CHARACTERS])
