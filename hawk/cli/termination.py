"""SIGTERM for a command that works without an event loop of its own: it ends as Ctrl-C ends it, and can be told from it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Termination:
    """Whether SIGTERM came."""

    came = False


@contextmanager
def sigterm_like_ctrl_c() -> Iterator[Termination]:
    """Inside the block SIGTERM does what a Ctrl-C would do at that moment; in an event loop that has a word in it, too.

    Only the first one counts: what is told and written at the end is not cut short.
    """
    termination = Termination()

    def heed(_number: int, frame: FrameType | None) -> None:
        if termination.came:
            return
        termination.came = True
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        assert callable(on_ctrl_c)
        on_ctrl_c(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, heed)
    try:
        with _ctrl_c_has_a_handler():
            yield termination
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _ctrl_c_has_a_handler() -> Iterator[None]:
    """What a shell script starts in its background ignores Ctrl-C, and goes on to do so. But an event loop knows where it is
    safe to be interrupted only where Python's own handler stands: here nothing but SIGTERM reaches that.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
