"""The fixed header is judged before a body is there."""

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.errors import ProtocolError
from hawk.protocol.framing import frame_length

LIMIT = 268_435_460


@given(st.integers(0, 300_000))
def test_the_length_is_that_of_the_whole_packet(payload_bytes: int) -> None:
    packet = mqtt5.PublishPacket("t", bytes(payload_bytes)).write()
    assert frame_length(packet, 0, maximum_packet_size=LIMIT) == len(packet)
    assert frame_length(b"zz" + packet[:5], 2, maximum_packet_size=LIMIT) == len(packet)


@pytest.mark.parametrize("header", [b"", b"\x30", b"\x30\xff", b"\x30\xff\xff", b"\x30\xff\xff\xff"])
def test_an_incomplete_header_has_no_length_yet(header: bytes) -> None:
    assert frame_length(header, 0, maximum_packet_size=LIMIT) is None


@pytest.mark.parametrize(
    ("header", "reason_code"),
    [
        (b"\x00", 0x81),
        (b"\x0f\x00", 0x81),
        (b"\x36", 0x81),
        (b"\x38", 0x81),
        (b"\x3e", 0x81),
        (b"\x41", 0x81),
        (b"\x60", 0x81),
        (b"\x72", 0x81),
        (b"HTTP", 0x81),
        (b"\x30\xff\xff\xff\xff", 0x81),
        (b"\x30\x80\x00", 0x81),
        (b"\x30\xff\x80\x00", 0x81),
        (b"\x30\xff\xff\xff\x7f", 0x95),
        (b"\x30\x63", 0x95),
    ],
)
def test_a_header_that_no_packet_may_have_is_refused_at_once(header: bytes, reason_code: int) -> None:
    with pytest.raises(ProtocolError) as refused:
        frame_length(header, 0, maximum_packet_size=100)
    assert refused.value.reason_code == reason_code
    assert refused.value.packet_type == header[0] >> 4


def test_the_size_limit_counts_the_whole_packet_and_includes_itself() -> None:
    assert frame_length(b"\x30\x62", 0, maximum_packet_size=100) == 100
    assert frame_length(b"\x30\xff\xff\xff\x7f", 0, maximum_packet_size=LIMIT) == LIMIT
