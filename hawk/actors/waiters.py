"""Those who asked the Connector to open or to close, and wait for its answer."""

from hawk.actors.mailbox import answer, is_abandoned
from hawk.messages import Channel, Close, ConnectionReport, Open, Opened
from hawk.values import Cause


class Waiters:
    """Every one of them is answered once."""

    def __init__(self) -> None:
        self._opens: list[Channel[Opened]] = []
        self._looked_through = 0
        self._closes: list[Close] = []

    def add_open(self, message: Open) -> None:
        """Somebody wants to be connected."""
        # Those whose sender was cancelled would pile up in a long outage; looked through whenever they may have doubled.
        if len(self._opens) > 2 * self._looked_through:
            self._opens = [waiting for waiting in self._opens if not is_abandoned(waiting)]
            self._looked_through = len(self._opens)
        if message.answer is not None:
            self._opens.append(message.answer)

    def add_close(self, message: Close) -> None:
        """Somebody wants to be disconnected."""
        self._closes.append(message)

    @property
    def forget_session(self) -> bool:
        """Whether anyone who closes wants the session to end with the link."""
        return any(close.forget_session for close in self._closes)

    def answer_opens(self, report: ConnectionReport, cause: Cause | None) -> None:
        """Tell all who wanted to be connected where the connection stands; `cause` says why it FAILED."""
        for waiting in self._opens:
            answer(waiting, Opened(report, cause))
        self._opens.clear()

    def answer_closes(self, report: ConnectionReport) -> None:
        """Tell all who wanted to be disconnected where the connection stands."""
        for close in self._closes:
            answer(close.answer, report)
        self._closes.clear()
