"""The Health probe: hears of the link's traffic, pings it when it is quiet, has it hung up when it is dead.

Everything it decides is in `core/liveness.py`. It logs nothing: the Connector does, when the link has ended.
"""

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.actors.mailbox import receive_by
from hawk.config import Config
from hawk.core.liveness import Liveness
from hawk.messages import Hangup, Ping, ToHealthProbe


class HealthProbe:
    """An actor; `run` is its task. At most one ping and one hang-up of a link lie unread in the Connector's inbox."""

    def __init__(
        self,
        config: Config,
        *,
        inbox: MemoryObjectReceiveStream[ToHealthProbe],
        to_connector: MemoryObjectSendStream[Ping | Hangup],
    ) -> None:
        self._liveness = Liveness(
            keep_alive_s=config.health_check_interval,
            ping_timeout_s=config.pong_deadline_s,
            ack_timeout_s=config.ack_timeout_s,
        )
        self._inbox = inbox
        self._to_connector = to_connector

    async def run(self) -> None:
        """Serve until the inbox has no sender any more, or the Connector no inbox. Cancelling loses nothing."""
        try:
            while True:
                message = await receive_by(self._inbox, self._liveness.deadline)
                now = anyio.current_time()
                decision = self._liveness.tick(now) if message is None else self._liveness.hear(message, now)
                if decision is not None:
                    self._to_connector.send_nowait(decision)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return
