"""Which message the broker cannot bear, if there is one.

A message that makes its broker close the link would block everything behind it for ever. But links die for many reasons,
and a flapping link must never cost a message. So only what is evidence against one entry counts: the broker itself closes
the link, before anything in flight on it was acknowledged. Three such losses with the same oldest entry bring isolation,
one message at a time, each behind a PINGREQ; and only an entry that was alone in flight at three more is set aside, if
the link had answered each of those pings: a broker that closes every link at once has not even read the message.
Whatever else happens in between, an acknowledgement or a loss that is no evidence, begins the count anew.
"""

from hawk.values import Cause, CauseKind

LOSSES_BEFORE_ISOLATION = 3
LOSSES_ALONE = 3

_BY_THE_BROKER = frozenset({CauseKind.CLOSED_BY_PEER, CauseKind.RESET_BY_PEER, CauseKind.DISCONNECT})
_ABOUT_THE_LINK = frozenset((0x89, 0x8B, 0x8D, 0x8E, 0x93, 0x96, 0x97, 0x98, 0x9C, 0x9D))


class Poison:
    """The suspicion against one entry, by its number."""

    def __init__(self) -> None:
        self._suspect = 0
        self._losses = 0
        self.isolating = False
        """Whether one message at a time shall go out."""

    def acquit(self) -> None:
        """Something was acknowledged, or the suspect is no more: nobody is suspected."""
        self._suspect = self._losses = 0
        self.isolating = False

    def lost(self, cause: Cause, oldest: int, *, alone: bool, proven: bool) -> bool:
        """A link died on which nothing had been acknowledged, with that entry the oldest in flight (0 for none).

        `alone`: nothing else was in flight. `proven`: the link had answered a ping. True when the entry is to be set aside.
        """
        if not oldest or not is_evidence(cause):
            self.acquit()
            return False
        if oldest != self._suspect:
            self.acquit()
            self._suspect = oldest
        if self.isolating and not (alone and proven):
            return False
        self._losses += 1
        if self.isolating and self._losses >= LOSSES_ALONE:
            self.acquit()
            return True
        if not self.isolating and self._losses >= LOSSES_BEFORE_ISOLATION:
            self._losses, self.isolating = 0, True
        return False


def is_evidence(cause: Cause) -> bool:
    """Whether the broker closed this link, and not for a reason that lies in the link or in itself."""
    return cause.kind in _BY_THE_BROKER and cause.reason_code not in _ABOUT_THE_LINK
