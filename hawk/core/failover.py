"""Which of several endpoints is dialled, and how soon hawk looks whether it can go back to the first. Pure.

A series of dials begins at the first endpoint and takes the next one after each failure, round and round; a link ends the
series. So the first one is where a lost link leads to. While hawk is at another, it looks now and then whether the first
can be reached; each time that going back did not work out, it waits twice as long.
"""

from collections.abc import Sequence

from hawk.connecting import Endpoint

LONGEST_FACTOR = 64


def choose(endpoints: Sequence[Endpoint], failures: int) -> Endpoint:
    """The endpoint of the next dial, after so many failures in a row."""
    return endpoints[failures % len(endpoints)]


class Failback:
    """How long to wait between two looks at the first endpoint, in seconds."""

    def __init__(self, *, every_s: float) -> None:
        self._every_s = every_s
        self._factor = 1
        self._went_back = False

    @property
    def delay_s(self) -> float:
        """How long to stay before the next look."""
        return self._factor * self._every_s

    def connected(self, *, at_first: bool) -> None:
        """A link is up, at the first endpoint or at another."""
        if at_first:
            self._factor = 1
        elif self._went_back:
            self._factor = min(LONGEST_FACTOR, 2 * self._factor)
        self._went_back = False

    def goes_back(self) -> None:
        """The first endpoint can be reached, and the present link ends for it."""
        self._went_back = True
