"""How many bytes a message takes on the wire. Pure arithmetic: so a limit is obeyed before a byte is written."""

from hawk.values import Message

MAXIMUM_PACKET_SIZE_BYTES = 268_435_460
"""The largest packet that MQTT can express: a Remaining Length of 2^28 - 1, five bytes before it (MQTT 5.0, 1.5.5)."""


def publish_size_bytes(message: Message) -> int:
    """The exact size of the PUBLISH that carries `message`, as Maximum Packet Size counts it (MQTT 5.0, 3.1.2.11.4).

    Fixed header, topic, packet identifier at QoS 1 and 2, an empty property block, payload. Above
    `MAXIMUM_PACKET_SIZE_BYTES` no such packet exists.
    """
    topic = message.topic
    topic_bytes = len(topic) if topic.isascii() else len(topic.encode())
    remaining = 2 + topic_bytes + (2 if message.qos else 0) + 1 + len(message.payload)
    if remaining < 128:
        return 2 + remaining
    if remaining < 16_384:
        return 3 + remaining
    return (4 if remaining < 2_097_152 else 5) + remaining
