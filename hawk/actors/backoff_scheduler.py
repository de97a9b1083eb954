"""The Backoff scheduler: waits for the Connector's next message or the next deadline, and says `Dial` or `GaveUp`.

Everything it decides is in `core/backoff.py`. It logs nothing: the Connector does, which knows what it means.
"""

from random import Random

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.actors.mailbox import receive_by
from hawk.config import Config
from hawk.core.backoff import Backoff
from hawk.messages import Dial, GaveUp, ToBackoff


class BackoffScheduler:
    """An actor; `run` is its task. It answers each message, and each deadline, with at most one of its own."""

    def __init__(
        self,
        config: Config,
        random: Random,
        *,
        inbox: MemoryObjectReceiveStream[ToBackoff],
        to_connector: MemoryObjectSendStream[Dial | GaveUp],
    ) -> None:
        self._backoff = Backoff(config.reconnection, stable_after_s=config.stable_after_s, random=random)
        self._inbox = inbox
        self._to_connector = to_connector

    async def run(self) -> None:
        """Serve until the inbox has no sender any more, or the Connector no inbox. Cancelling loses nothing."""
        try:
            while True:
                message = await receive_by(self._inbox, self._backoff.deadline)
                now = anyio.current_time()
                answer = self._backoff.tick(now) if message is None else self._backoff.hear(message, now)
                if answer is not None:
                    self._to_connector.send_nowait(answer)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return
