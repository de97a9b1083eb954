"""The books of the outbox: every message that came in, and every one that ended, by how (promise C4).

The columns are counted here alone and leave as one whole value, so no two of them can ever be read from different moments.
"""

from hawk.values import FateKind, Ledger

_NEVER_ACCEPTED = frozenset({FateKind.FULL, FateKind.UNAVAILABLE, FateKind.STOPPED})


class Books:
    """Counts since the first start of this hawk; `opening` continues an earlier run of the same one.

    What that run left unfinished counts as abandoned, until the store gives it back: then it is not counted twice.
    """

    __slots__ = ("_ended", "_left", "accepted", "recovered", "revision", "taken", "taken_bytes", "waited")

    def __init__(self, opening: Ledger = Ledger()) -> None:
        self.revision = opening.revision
        self.taken = 0
        self.taken_bytes = 0
        self.recovered = opening.recovered
        self.accepted = opening.accepted
        self.waited = opening.waited
        self._ended: dict[FateKind, int] = {
            kind: getattr(opening, kind.value) for kind in FateKind if kind not in _NEVER_ACCEPTED
        }
        self._left = opening.queued + opening.in_flight
        self._ended[FateKind.ABANDONED] += self._left

    def recover(self, messages: int, *, new: bool = False) -> None:
        """The store gives so many messages back; `new`: none of them was counted by the run before."""
        again = 0 if new else min(messages, self._left)
        self._left -= again
        self._ended[FateKind.ABANDONED] -= again
        self.recovered += messages - again

    def end(self, kind: FateKind, messages: int = 1) -> None:
        """So many accepted messages have met this fate."""
        self._ended[kind] += messages

    def statement(self, *, queued: int, in_flight: int) -> Ledger:
        """All columns of this moment."""
        self.revision += 1
        return Ledger(
            revision=self.revision,
            taken=self.taken,
            taken_bytes=self.taken_bytes,
            recovered=self.recovered,
            accepted=self.accepted,
            waited=self.waited,
            queued=queued,
            in_flight=in_flight,
            **{kind.value: count for kind, count in self._ended.items()},
        )
