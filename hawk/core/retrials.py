"""Topic filters about which the broker is asked again on the same link, because a `refusal_policy` wants that.

Each waits longer after every refusal, as a message does that was refused for now. A new link asks for everything anyway,
so nothing here outlives one.
"""

import math

from hawk.config import ReconnectionConfig
from hawk.core.backoff import wait_s
from hawk.values import Verdict


class Retrials:
    """When to ask again about which filter. Of a filter that was never refused on this link nothing is kept."""

    def __init__(self, config: ReconnectionConfig) -> None:
        self._config = config
        self._refusals: dict[str, int] = {}
        self._again_at: dict[str, float] = {}

    @property
    def due(self) -> float:
        """When the next one is due; inf for never."""
        return min(self._again_at.values(), default=math.inf)

    def refused(self, text: str, verdict: Verdict, now: float) -> bool:
        """This filter was refused, or not let go of. Whether it is asked about again on this link."""
        if verdict not in (Verdict.AGAIN, Verdict.AT_THE_CAP):
            return False
        self._refusals[text] = self._refusals.get(text, 0) + 1
        self._again_at[text] = now + wait_s(verdict, self._refusals[text], self._config)
        return True

    def is_repeated(self, text: str) -> bool:
        """Whether this filter was refused on this link before."""
        return text in self._refusals

    def take_due(self, now: float) -> list[str]:
        """Those whose time has come."""
        due = [text for text, at in self._again_at.items() if at <= now]
        for text in due:
            del self._again_at[text]
        return due

    def forget(self, text: str) -> None:
        """The broker said yes, or nobody wants to know any more."""
        self._refusals.pop(text, None)
        self._again_at.pop(text, None)

    def clear(self) -> None:
        """The link is down."""
        self._refusals.clear()
        self._again_at.clear()
