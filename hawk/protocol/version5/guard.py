"""The one door to the codec's reader: whatever the bytes, what comes out is a packet, None, or a `ProtocolError`.

The codec answers some ill-formed text with a panic, which is a BaseException: unguarded it would tear down the task
group and the application with it.
"""

import mqtt5

from hawk.errors import ProtocolError
from hawk.protocol.framing import MALFORMED_PACKET, PACKET_TOO_LARGE, frame_length

_PANICS = "pyo3_runtime"


def is_panic(error: BaseException) -> bool:
    """Whether `error` is a panic of the codec, which no public class names."""
    return type(error).__module__ == _PANICS


def read_packet(view: memoryview, *, maximum_packet_size: int) -> tuple[mqtt5.Packet, int] | None:
    """The packet at the beginning of `view`, and its length; None when it is not all there.

    Raises `ProtocolError`. `view` must be contiguous.
    """
    try:
        packet, size = mqtt5.read(view)
    except IndexError:
        length = frame_length(view, 0, maximum_packet_size=maximum_packet_size)
        if length is None or length > len(view):
            return None
        raise _malformed("the packet ends before its content does", view) from None
    except ValueError as error:
        frame_length(view, 0, maximum_packet_size=maximum_packet_size)
        raise _malformed(str(error), view) from None
    except BaseException as error:
        if not is_panic(error):
            raise
        # So that a header is told of first, however the bytes were cut.
        frame_length(view, 0, maximum_packet_size=maximum_packet_size)
        raise _malformed("ill-formed UTF-8", view) from None
    if size > maximum_packet_size:
        what = f"a packet of {size} bytes, above the maximum packet size of {maximum_packet_size}"
        raise ProtocolError(what, reason_code=PACKET_TOO_LARGE, offset=1, packet_type=view[0] >> 4)
    return packet, size


def _malformed(what: str, view: memoryview) -> ProtocolError:
    return ProtocolError(what, reason_code=MALFORMED_PACKET, packet_type=view[0] >> 4)
