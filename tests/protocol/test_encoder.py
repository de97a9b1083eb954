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
from hawk.protocol.version5 import Decoder, Encoder, encode
from hawk.values import NO_PROPERTIES, Message, Properties

TOPICS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), min_size=1, max_size=60)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=150)
PROPERTIES = st.builds(
    Properties,
    expiry_s=st.none() | st.integers(0, 4_294_967_295).map(float),
    text=st.booleans(),
    content_type=st.none() | TEXTS,
    response_topic=st.none() | TOPICS,
    correlation_data=st.none() | st.binary(max_size=200),
    user=st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
)
MESSAGES = st.builds(
    Message,
    TOPICS,
    st.binary(max_size=300),
    st.integers(0, 2),
    st.booleans(),
    st.just(NO_PROPERTIES) | PROPERTIES,
)


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
    assert [tuple(delivery)[:3] for delivery in arrivals.inbound] == [tuple(packet) for packet in packets]


ALIKE = st.builds(
    Message,
    st.sampled_from(["a", "topic/one", "topic/two", "t\u00e9l\u00e9/\u2713"]),
    st.sampled_from([b"", b"x", b"y", b"\0" * 127, b"z" * 127, b"w" * 128]),
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from([NO_PROPERTIES, Properties(content_type="c")]),
)


@given(st.lists(st.tuples(ALIKE, st.integers(1, 65_535), st.booleans()), max_size=60), st.integers(0, 3))
def test_what_follows_a_template_is_what_the_codec_would_have_written(
    drawn: list[tuple[Message, int, bool]], topic_alias_maximum: int
) -> None:
    packets = [Publish(each, number, again) if each.qos else Publish(each) for each, number, again in drawn]
    encoder, names = Encoder(topic_alias_maximum=topic_alias_maximum), dict[int, str]()
    written = b"".join(encoder.encode(packets))
    spelled_out = b""
    for packet in mqtt5_packets(written):
        if packet.topic_alias is not None:
            names.setdefault(packet.topic_alias, packet.topic)
            packet = replace_alias(packet, names[packet.topic_alias])
        spelled_out += packet.write()
    assert spelled_out == b"".join(encode([packet])[0] for packet in packets)


def mqtt5_packets(written: bytes) -> list[mqtt5.PublishPacket]:
    packets, at = [], 0
    while at < len(written):
        packet, size = mqtt5.read(memoryview(written)[at:])
        assert isinstance(packet, mqtt5.PublishPacket)
        packets.append(packet)
        at += size
    return packets


def replace_alias(packet: mqtt5.PublishPacket, topic: str) -> mqtt5.PublishPacket:
    return mqtt5.PublishPacket(
        topic,
        packet.payload,
        qos=packet.qos,
        retain=packet.retain,
        packet_id=packet.packet_id,
        duplicate=packet.duplicate,
        content_type=packet.content_type,
    )


def test_no_template_lets_a_wrong_identifier_pass() -> None:
    for qos, right, wrong in ((0, 0, 5), (1, 5, 0), (2, 5, 0)):
        encoder, message = Encoder(), Message("a", b"", qos)
        encoder.encode([Publish(message, right), Publish(Message("a", b"", 0))])
        with pytest.raises(ValueError, match="Packet ID"):
            encoder.encode([Publish(message, wrong)])


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


def test_a_goodbye_fits_into_the_smallest_packets_that_a_broker_may_ask_for() -> None:
    goodbye = DisconnectRequest(0, 0)
    (whole,) = Encoder(maximum_packet_size=9).encode([goodbye])
    (bare,) = Encoder(maximum_packet_size=8).encode([goodbye])
    assert len(whole) == 9
    assert mqtt5.read(memoryview(bare))[0] == mqtt5.DisconnectPacket()


@pytest.mark.parametrize(
    ("expiry_s", "on_the_wire"),
    [
        (0, 0),
        (0.001, 1),
        (1, 1),
        (59.000_001, 60),
        (60.0, 60),
        (4_294_967_294.5, 4_294_967_295),
        (1e300, 4_294_967_295),
    ],
)
def test_an_expiry_is_sent_in_whole_seconds_and_never_shortened(expiry_s: float, on_the_wire: int) -> None:
    (data,) = encode([Publish(Message("a", b"", 0, properties=Properties(expiry_s=expiry_s)))])
    packet, _ = mqtt5.read(memoryview(data))
    assert isinstance(packet, mqtt5.PublishPacket)
    assert packet.message_expiry_interval == on_the_wire


# ---------------------------------------------------------------------------------------- topic aliases


def read_publishes(data: list[bytes]) -> list[tuple[str, int | None]]:
    """The topic and the alias of each packet as they stand on the wire."""
    packets = [mqtt5.read(memoryview(each))[0] for each in data]
    return [(each.topic, each.topic_alias) for each in packets if isinstance(each, mqtt5.PublishPacket)]


def publish(topic: str, number: int = 1, payload: bytes = b"x") -> Publish:
    return Publish(Message(topic, payload, 1), number)


def test_topics_get_aliases_in_the_order_in_which_they_come_up_to_the_maximum() -> None:
    encoder = Encoder(topic_alias_maximum=2)
    topics = ["first", "second", "first", "third", "second", "third"]
    assert read_publishes(encoder.encode([publish(topic) for topic in topics])) == [
        ("first", 1),
        ("second", 2),
        ("", 1),
        ("third", None),
        ("", 2),
        ("third", None),
    ]


def test_an_alias_holds_for_the_next_batch_and_not_for_the_next_link() -> None:
    encoder = Encoder(topic_alias_maximum=10)
    encoder.encode([publish("first")])
    assert read_publishes(encoder.encode([publish("first")])) == [("", 1)]
    repeated = Publish(Message("first", b"x", 1), 7, duplicate=True)
    assert read_publishes(Encoder(topic_alias_maximum=10).encode([repeated])) == [("first", 1)]


def test_a_short_topic_takes_no_alias() -> None:
    encoder = Encoder(topic_alias_maximum=1)
    assert read_publishes(encoder.encode([publish("abcd")] * 2)) == [("abcd", None)] * 2


def test_where_the_alias_does_not_fit_the_topic_goes_without_it() -> None:
    size_bytes = publish_size_bytes(Message("first", b"x", 1))
    for extra, expected in ((0, ("first", None)), (2, ("first", None)), (3, ("first", 1))):
        encoder = Encoder(topic_alias_maximum=1, maximum_packet_size=size_bytes + extra)
        assert read_publishes(encoder.encode([publish("first")])) == [expected]


@given(st.lists(publishes(), max_size=20), st.integers(0, 3), st.integers(0, 40))
def test_no_alias_changes_what_arrives_or_exceeds_the_maximum_packet_size(
    packets: list[Publish], topic_alias_maximum: int, room: int
) -> None:
    limit = max((publish_size_bytes(packet.message) for packet in packets), default=0) + room
    encoder = Encoder(topic_alias_maximum=topic_alias_maximum, maximum_packet_size=limit)
    wire = encoder.encode(packets[:10]) + encoder.encode(packets[10:])
    aliases: dict[int, str] = {}
    for (topic, alias), packet, data in zip(read_publishes(wire), packets, wire, strict=True):
        if alias is not None and topic:
            assert 1 <= alias <= topic_alias_maximum
            assert alias not in aliases, "given out once"
            aliases[alias] = topic
        assert (topic or aliases[alias or 0]) == packet.message.topic
        assert len(data) <= limit
        if not topic:
            assert len(data) <= publish_size_bytes(packet.message)
