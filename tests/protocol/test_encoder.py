"""What hawk writes is what the codec, and so a broker, reads; and its size is known before it is written."""

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hawk.core.wire_size import publish_size_bytes
from hawk.packets import (
    AckKind,
    Acknowledgement,
    DisconnectRequest,
    Outgoing,
    PingRequest,
    Publish,
    SubscribeFilter,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hawk.protocol.version5 import Decoder, encode
from hawk.values import NO_PROPERTIES, Message

TOPICS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), min_size=1, max_size=60)
MESSAGES = st.builds(Message, TOPICS, st.binary(max_size=300), st.integers(0, 2), st.booleans(), st.just(NO_PROPERTIES))


@st.composite
def publishes(draw: st.DrawFn) -> Publish:
    message = draw(MESSAGES)
    identifier = draw(st.integers(1, 65_535)) if message.qos else 0
    return Publish(message, identifier, draw(st.booleans()) if message.qos else False)


@given(st.lists(publishes(), max_size=20))
def test_what_is_encoded_decodes_to_the_same(packets: list[Publish]) -> None:
    decoder = Decoder(maximum_packet_size=100_000)
    arrivals = decoder.feed(b"".join(encode(packets)))
    assert decoder.ending is None
    assert [tuple(delivery) for delivery in arrivals.inbound] == [tuple(packet) for packet in packets]


def test_each_rare_packet_reads_back_as_it_was_meant() -> None:
    filters = (SubscribeFilter("a/#", 2), SubscribeFilter("$share/g/b", 0))
    packets: list[Outgoing] = [
        SubscribeRequest(65_024, filters),
        UnsubscribeRequest(65_025, ("a/#", "b")),
        PingRequest(),
        DisconnectRequest(0, 0),
        DisconnectRequest(0x82),
    ]
    read = [mqtt5.read(memoryview(data))[0] for data in encode(packets)]
    assert read == [
        mqtt5.SubscribePacket(
            65_024,
            [
                mqtt5.TopicFilter("a/#", max_qos=mqtt5.QoS.EXACTLY_ONCE, retain_as_published=False),
                mqtt5.TopicFilter("$share/g/b", max_qos=mqtt5.QoS.AT_MOST_ONCE, retain_as_published=False),
            ],
        ),
        mqtt5.UnsubscribePacket(65_025, ["a/#", "b"]),
        mqtt5.PingReqPacket(),
        mqtt5.DisconnectPacket(session_expiry_interval=0),
        mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.PROTOCOL_ERROR),
    ]


@pytest.mark.parametrize(
    ("kind", "code"),
    [(kind, 0) for kind in AckKind]
    + [(AckKind.PUBACK, 0x87), (AckKind.PUBREC, 0x97), (AckKind.PUBREL, 0x92), (AckKind.PUBCOMP, 0x92)],
)
def test_an_acknowledgement_decodes_to_the_same(kind: AckKind, code: int) -> None:
    acknowledgement = Acknowledgement(kind, 4711, code)
    arrivals = Decoder(maximum_packet_size=100).feed(encode([acknowledgement])[0])
    succeeded = [Acknowledgement(AckKind.PUBACK, identifier) for identifier in arrivals.acknowledged]
    assert [*succeeded, *arrivals.acknowledgements, *arrivals.inbound] == [acknowledgement]


@given(MESSAGES, st.booleans())
def test_the_size_told_is_the_size_written(message: Message, duplicate: bool) -> None:
    publish = Publish(message, 7 if message.qos else 0, duplicate and message.qos > 0)
    assert publish_size_bytes(message) == len(encode([publish])[0])


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([128, 16_384, 2_097_152]), st.integers(-8, 8), st.integers(0, 2))
def test_the_size_told_is_exact_where_the_length_takes_one_byte_more(boundary: int, off: int, qos: int) -> None:
    message = Message("t\u00e9", bytes(boundary - 6 + off), qos)
    assert publish_size_bytes(message) == len(encode([Publish(message, 7 if qos else 0)])[0])


@pytest.mark.parametrize(
    "packet",
    [
        Publish(Message("a", b"", 1), 0),
        Publish(Message("a", b"", 0), 5),
        Publish(Message("a/#", b"", 0)),
        Publish(Message("", b"", 0)),
        Publish(Message("t" * 65_536, b"", 0)),
        Publish(Message("\ud800", b"", 0)),
        Publish(Message("a", bytes(2**28), 0)),
    ],
    ids=["no identifier", "identifier at QoS 0", "wildcard", "no topic", "long topic", "surrogate", "256 MiB"],
)
def test_what_mqtt_cannot_carry_is_a_value_error(packet: Publish) -> None:
    with pytest.raises(ValueError, match=r"QoS|opic|65535|surrogates|cannot be encoded"):
        encode([packet])
