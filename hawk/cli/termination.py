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
        if callable(on_ctrl_c):
            on_ctrl_c(signal.SIGINT, frame)
        else:
            # A shell script's background: Ctrl-C shall not reach it.
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, heed)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, before)
