"""The decoder is total: whatever the bytes and however they are cut, it delivers what is good and says why it ends."""

import tracemalloc
from collections.abc import Iterable
from random import Random
from typing import Any

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hawk.packets import AckKind, Acknowledgement, Arrivals
from hawk.protocol.version5 import Decoder
from hawk.values import Cause, CauseKind

# Of ill-formed UTF-8 the codec tells the interpreter's unraisable hook before it panics.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")

LIMIT = 100_000
PUBACK = b"\x40\x02\x00\x05"
GOODBYE = mqtt5.DisconnectPacket(reason_str="bye", server_reference="other", user_properties=[("n", "v")]).write()


def fed(pieces: Iterable[bytes]) -> tuple[Arrivals, Cause | None]:
    """All that the pieces say, as one."""
    decoder = Decoder(maximum_packet_size=LIMIT)
    whole = Arrivals()
    for piece in pieces:
        part = decoder.feed(piece)
        whole.acknowledgements += [Acknowledgement(AckKind.PUBACK, each) for each in part.acknowledged]
        whole.acknowledgements += part.acknowledgements
        whole.inbound += part.inbound
        whole.pong = whole.pong or part.pong
    return whole, decoder.ending


def test_every_packet_of_a_broker_is_understood(conversation: Any) -> None:
    arrivals, ending = fed([b"".join(conversation.packets)])
    assert ending is None
    assert arrivals == Arrivals([], conversation.acknowledgements, conversation.inbound, True)


def test_a_conversation_cut_anywhere_says_the_same(conversation: Any) -> None:
    wire = b"".join(conversation.packets)
    expected = fed([wire])
    for cut in range(len(wire) + 1):
        assert fed([wire[:cut], wire[cut:]]) == expected
    for size in (1, 2, 3, 7):
        assert fed(wire[at : at + size] for at in range(0, len(wire), size)) == expected


def test_every_proper_prefix_of_a_packet_says_nothing(conversation: Any) -> None:
    for packet in conversation.packets:
        for cut in range(len(packet)):
            assert fed([packet[:cut]]) == (Arrivals(), None)


def test_a_conversation_that_ends_badly_says_the_same_however_it_is_cut(conversation: Any) -> None:
    wire = b"".join(conversation.packets) + b"\x40\x02\x00\x00" + PUBACK
    arrivals, ending = fed([wire])
    assert ending is not None
    assert ending.reason_code == 0x82
    assert arrivals == Arrivals([], conversation.acknowledgements, conversation.inbound, True)
    for cut in range(len(wire) + 1):
        assert fed([wire[:cut], wire[cut:]]) == (arrivals, ending)


MUTANTS_OF_AN_EXAMPLE = 100


@pytest.mark.timeout(3600)
def test_a_changed_byte_never_raises_and_ends_in_a_named_cause_or_none(conversation: Any, deep: bool) -> None:
    """20,000 mutants, and a million under `--deep`: each is one packet with one byte changed, between two good ones.

    Drawn as noise, five bytes for each mutant, because a draw of its own would cost more than the decoder.
    """
    packets = [*conversation.packets, GOODBYE]

    @settings(max_examples=10_000 if deep else 200, deadline=None)
    @given(st.binary(min_size=5 * MUTANTS_OF_AN_EXAMPLE, max_size=5 * MUTANTS_OF_AN_EXAMPLE))
    def mutate(noise: bytes) -> None:
        for which, high, low, value, cut in batched(noise, 5):
            wire = bytearray(packets[which % len(packets)])
            wire[(high << 8 | low) % len(wire)] = value
            whole = PUBACK + bytes(wire) + PUBACK
            arrivals, ending = fed([whole])
            check_sane(arrivals, ending)
            assert fed([whole[: cut % len(whole)], whole[cut % len(whole) :]]) == (arrivals, ending)

    mutate()


def batched(data: bytes, size: int) -> Iterable[tuple[int, ...]]:
    return zip(*[iter(data)] * size, strict=True)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_garbage_never_raises(pieces: list[bytes]) -> None:
    check_sane(*fed(pieces))


def check_sane(arrivals: Arrivals, ending: Cause | None) -> None:
    """No identifier 0, no topic that is none, no ending of another kind."""
    for acknowledgement in arrivals.acknowledgements:
        assert acknowledgement.identifier > 0
    for inbound in arrivals.inbound:
        message = getattr(inbound, "message", None)
        if message is None:
            assert inbound.identifier > 0
        else:
            assert message.topic
            assert not set("\0+#") & set(message.topic)
            assert (inbound.identifier > 0) == (message.qos > 0)
    if ending is not None:
        assert ending.kind in (CauseKind.PROTOCOL_ERROR, CauseKind.DISCONNECT)
        assert ending.reason_code is not None
        assert ending.text


def test_what_came_before_a_disconnect_is_delivered_and_nothing_after_it() -> None:
    reason = mqtt5.DisconnectReasonCode.USE_ANOTHER_SERVER
    goodbye = mqtt5.DisconnectPacket(reason_code=reason, reason_str="full", server_reference="other:1883").write()
    arrivals, ending = fed([PUBACK + goodbye + PUBACK, PUBACK])
    assert [each.identifier for each in arrivals.acknowledgements] == [5]
    assert ending == Cause(CauseKind.DISCONNECT, "use another server: full", 0x9C, "other:1883")


@pytest.mark.parametrize(
    ("packet", "code", "text"),
    [
        (b"\xe0\x00", 0, "normal disconnection"),
        (b"\xe0\x01\x8b", 0x8B, "server shutting down"),
        (b"\xe0\x02\x8e\x00", 0x8E, "session taken over"),
    ],
)
def test_a_disconnect_is_told_in_words(packet: bytes, code: int, text: str) -> None:
    assert fed([packet])[1] == Cause(CauseKind.DISCONNECT, text, code)


def test_a_broker_cannot_forge_lines_of_a_log() -> None:
    goodbye = mqtt5.DisconnectPacket(reason_str="bye\n\x1b[31mroot logged in" + "x" * 1000).write()
    ending = fed([goodbye])[1]
    assert ending is not None
    assert ending.text.isprintable()
    assert len(ending.text) < 300


def test_a_claimed_packet_of_256_mib_is_refused_at_its_header_and_takes_no_memory() -> None:
    decoder = Decoder(maximum_packet_size=LIMIT)
    tracemalloc.start()
    try:
        decoder.feed(b"\x30\xff\xff\xff\x7f")
        flood = bytes(65_536)
        for _ in range(100):
            decoder.feed(flood)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoder.ending is not None
    assert decoder.ending.reason_code == 0x95
    assert peak_bytes < 200_000


def test_an_incomplete_packet_takes_no_more_memory_than_its_limit_and_one_read() -> None:
    decoder = Decoder(maximum_packet_size=1_000_000)
    packet = mqtt5.PublishPacket("t", bytes(999_990)).write()
    tracemalloc.start()
    try:
        for at in range(0, len(packet) - 1, 1000):
            decoder.feed(packet[at : min(at + 1000, len(packet) - 1)])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_300_000  # a bytearray grows an eighth ahead
    assert len(decoder.feed(packet[-1:]).inbound) == 1


def test_a_packet_above_the_limit_is_refused_also_when_it_is_whole() -> None:
    packet = mqtt5.PublishPacket("t", bytes(200)).write()
    exact, tight = Decoder(maximum_packet_size=len(packet)), Decoder(maximum_packet_size=len(packet) - 1)
    assert len(exact.feed(packet).inbound) == 1
    assert tight.feed(packet).inbound == []
    assert tight.ending is not None
    assert tight.ending.reason_code == 0x95


@given(st.lists(st.tuples(st.integers(1, 65_535), st.sampled_from([b"\x40\x02", b"\x40\x03"])), max_size=30), st.data())
def test_runs_of_pubacks_are_what_one_at_a_time_are(pubacks: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """In both short forms, mixed, cut anywhere, with other packets between them."""
    packets = [head + identifier.to_bytes(2) + (b"\x10" if head[1] == 3 else b"") for identifier, head in pubacks]
    wanted = [identifier for identifier, _ in pubacks]
    for between in data.draw(st.lists(st.sampled_from([b"\xd0\x00", b"\x50\x02\x00\x07"]), max_size=3)):
        at = data.draw(st.integers(0, len(packets)))
        packets.insert(at, between)
    wire = b"".join(packets)
    cut = data.draw(st.integers(0, len(wire)))
    arrivals, ending = fed([wire[:cut], wire[cut:]])
    assert ending is None
    assert [each.identifier for each in arrivals.acknowledgements if each.kind is AckKind.PUBACK] == wanted


def test_short_acknowledgements_read_in_line_are_what_the_codec_reads() -> None:
    random = Random(7)
    kinds = (mqtt5.PubAckPacket, mqtt5.PubRecPacket, mqtt5.PubRelPacket, mqtt5.PubCompPacket)
    packets = [random.choice(kinds)(random.randint(1, 65_535)) for _ in range(500)]
    arrivals, ending = fed([b"".join(packet.write() for packet in packets)])
    released = [packet.packet_id for packet in packets if isinstance(packet, mqtt5.PubRelPacket)]
    others = [packet.packet_id for packet in packets if not isinstance(packet, mqtt5.PubRelPacket)]
    assert ending is None
    assert [each.identifier for each in arrivals.acknowledgements] == others
    assert [each.identifier for each in arrivals.inbound] == released
