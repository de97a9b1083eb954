"""Why a byte stream ended, as far as its error says: who closed it, or what came between.

The difference matters to `core/poison`: only what the broker itself did is evidence against a message.
"""

import ssl

import anyio

from hawk.values import Cause, CauseKind

STREAM_ENDED = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
"""What a stream raises when it ends."""

CLOSED = Cause(CauseKind.CLOSED, "hawk closed the link")


def cause_of(error: Exception) -> Cause:
    """The cause that one of `STREAM_ENDED` tells."""
    if isinstance(error, anyio.EndOfStream):
        return Cause(CauseKind.CLOSED_BY_PEER, "the broker closed the connection")
    if isinstance(error, anyio.ClosedResourceError):
        return CLOSED
    origin = error if isinstance(error, OSError) else error.__cause__
    match origin:
        case ssl.SSLError():
            return Cause(CauseKind.PROTOCOL_ERROR, f"TLS cannot read what came: {origin.strerror or origin}")
        case ConnectionError():
            return Cause(CauseKind.RESET_BY_PEER, origin.strerror or _BROKE)
        case OSError():
            # A timeout, or no way to the broker any more: nobody there has said anything.
            return Cause(CauseKind.UNREACHABLE, origin.strerror or _BROKE)
        case _:
            return Cause(CauseKind.RESET_BY_PEER, _BROKE)


_BROKE = "the connection broke"
