"""Bytes to packets behind one guard, and the small packets a broker writes. No I/O, no session.

The short answers are written by hand: that is quicker than the codec's objects, and takes any reason code, also those
that the codec does not know.
"""

from struct import Struct

import mqtt5

MALFORMED_PACKET = 0x81
PROTOCOL_ERROR = 0x82
PACKET_TOO_LARGE = 0x95

PUBACK, PUBREC, PUBREL, PUBCOMP = 4, 5, 6, 7
_FIRST_BYTE = {PUBACK: 0x40, PUBREC: 0x50, PUBREL: 0x62, PUBCOMP: 0x70}
_SHORT = Struct(">BBH").pack
_LONG = Struct(">BBHB").pack

PINGRESP_BYTES = b"\xd0\x00"


class Refusal(Exception):
    """The client broke the protocol or a limit: its connection ends with this reason code."""

    def __init__(self, reason_code: int) -> None:
        super().__init__(f"0x{reason_code:02x}")
        self.reason_code = reason_code


def write_acknowledgement(kind: int, identifier: int, reason_code: int = 0) -> bytes:
    """A PUBACK, PUBREC, PUBREL or PUBCOMP (section 3.4.2.1: success may be left out)."""
    if reason_code:
        return _LONG(_FIRST_BYTE[kind], 3, identifier, reason_code)
    return _SHORT(_FIRST_BYTE[kind], 2, identifier)


def write_disconnect(reason_code: int) -> bytes:
    """A DISCONNECT without properties."""
    return bytes((0xE0, 1, reason_code))


def write_refusal(reason_code: int) -> bytes:
    """A CONNACK that refuses, without properties."""
    return bytes((0x20, 3, 0, reason_code, 0))


def write_suback(first_byte: int, identifier: int, reason_codes: list[int]) -> bytes:
    """A SUBACK (0x90) or UNSUBACK (0xB0) without properties."""
    body = identifier.to_bytes(2, "big") + b"\0" + bytes(reason_codes)
    return bytes((first_byte,)) + _variable_length(len(body)) + body


class PacketReader:
    """Cuts a byte stream into packets. It keeps an incomplete packet, and copies it only once it is whole."""

    def __init__(self, *, maximum_packet_bytes: int | None) -> None:
        self._maximum_bytes = maximum_packet_bytes or (1 << 28) + 4
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._needed_bytes = 0

    def feed(self, data: bytes) -> tuple[list[mqtt5.Packet], int | None]:
        """The packets that `data` completes, and the reason code of what is wrong after them, or None."""
        if self._held:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes < self._needed_bytes:
                return [], None
            data = b"".join(self._held)
            self._held.clear()
        packets: list[mqtt5.Packet] = []
        view, start, end = memoryview(data), 0, len(data)
        while start < end:
            try:
                packet, length = mqtt5.read(view[start:])
            except IndexError:
                return packets, self._hold(data[start:])
            except ValueError:
                return packets, MALFORMED_PACKET
            except BaseException as error:
                # Ill-formed UTF-8 makes the codec panic, which is no Exception; nothing else can pass a plain call.
                if type(error).__module__ == "pyo3_runtime":
                    return packets, MALFORMED_PACKET
                raise
            if length > self._maximum_bytes:
                return packets, PACKET_TOO_LARGE
            packets.append(packet)
            start += length
        return packets, None

    def _hold(self, data: bytes) -> int | None:
        needed = _frame_bytes(data)
        if needed is None or not _is_first_byte(data[0]):
            return MALFORMED_PACKET
        if needed > self._maximum_bytes:
            return PACKET_TOO_LARGE
        if needed <= len(data):
            return MALFORMED_PACKET
        self._held.append(data)
        self._held_bytes, self._needed_bytes = len(data), needed
        return None


def _is_first_byte(byte: int) -> bool:
    """Whether the type exists and its flags are as section 2.1.3 wants them; the codec looks only at whole packets."""
    kind, flags = byte >> 4, byte & 0x0F
    if kind == 3:
        return flags & 0x06 != 0x06
    return kind > 0 and flags == (2 if kind in (6, 8, 10) else 0)


def _frame_bytes(data: bytes) -> int | None:
    """How long the packet at the start of `data` is, as far as that can be known; None for a length of five bytes."""
    length = 0
    for index in range(4):
        if index + 1 >= len(data):
            return len(data) + 1
        byte = data[index + 1]
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return index + 2 + length
    return None


def _variable_length(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        encoded.append(byte | 0x80 if value else byte)
        if not value:
            return bytes(encoded)
