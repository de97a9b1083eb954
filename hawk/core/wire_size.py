"""How many bytes a message takes on the wire. Pure arithmetic: so a limit is obeyed before a byte is written."""

from hawk.values import NO_PROPERTIES, Message, Properties

MAXIMUM_PACKET_SIZE_BYTES = 268_435_460
"""The largest packet that MQTT can express: a Remaining Length of 2^28 - 1, five bytes before it (MQTT 5.0, 1.5.5)."""
LARGEST_EXPIRY_S = 4_294_967_295
"""The longest Message Expiry Interval (MQTT 5.0, 3.3.2.3.3)."""


def publish_size_bytes(message: Message) -> int:
    """The exact size of the PUBLISH that carries `message`, as Maximum Packet Size counts it (MQTT 5.0, 3.1.2.11.4).

    Fixed header, topic, packet identifier at QoS 1 and 2, properties, payload. Above `MAXIMUM_PACKET_SIZE_BYTES` no
    such packet exists. A Topic Alias is not counted: a link adds one only where it fits.
    """
    topic, payload, qos, _, properties = message
    topic_bytes = len(topic) if topic.isascii() else len(topic.encode())
    remaining = 2 + topic_bytes + (2 if qos else 0) + 1 + len(payload)
    if properties is not NO_PROPERTIES:
        size_bytes = properties_size_bytes(properties)
        remaining += size_bytes + _length_bytes(size_bytes) - 1
    return 1 + _length_bytes(remaining) + remaining


def properties_size_bytes(properties: Properties) -> int:
    """What `properties` take in a PUBLISH, without the length that stands before them (MQTT 5.0, 2.2.2)."""
    expiry_s, text, content_type, response_topic, correlation_data, user = properties
    size_bytes = 0
    if expiry_s is not None:
        size_bytes += 5
    if text:
        size_bytes += 2
    if content_type is not None:
        size_bytes += 3 + _text_bytes(content_type)
    if response_topic is not None:
        size_bytes += 3 + _text_bytes(response_topic)
    if correlation_data is not None:
        size_bytes += 3 + len(correlation_data)
    for name, value in user:
        size_bytes += 5 + _text_bytes(name) + _text_bytes(value)
    return size_bytes


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _length_bytes(length: int) -> int:
    """How many bytes a Variable Byte Integer takes (MQTT 5.0, 1.5.5)."""
    if length < 128:
        return 1
    if length < 16_384:
        return 2
    return 3 if length < 2_097_152 else 4
