"""While hawk is at another endpoint than the first: look whether that one can be reached, and go back to it.

Not an actor: a child of the Connector for the length of one link, which hears a polite `Hangup` and dials anew.
"""

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from hawk.config import Config
from hawk.connecting import Endpoint
from hawk.core.failover import Failback
from hawk.errors import Unprepared, Unreachable, Untrusted
from hawk.interrupts import uninterrupted
from hawk.messages import Hangup, Lane, ToConnector
from hawk.ports import Dialer


class FirstWatch:
    """Watches for one link at a time."""

    def __init__(self, config: Config, dialer: Dialer, to_connector: MemoryObjectSendStream[ToConnector]) -> None:
        self._look_s = config.reconnection.connection_timeout
        self._failback = Failback(every_s=config.failback_s)
        self._dialer = dialer
        self._to_connector = to_connector
        self._scope: anyio.CancelScope | None = None

    def begin(self, children: TaskGroup, lane: Lane, first: Endpoint | None) -> None:
        """The link of `lane` is up, and `first` would have been preferred; None when it is that one."""
        self._failback.connected(at_first=first is None)
        if first is not None:
            self._scope = anyio.CancelScope()
            children.start_soon(uninterrupted(self._watch), lane, first, self._scope)

    def end(self) -> None:
        """That link ends, or is gone. Idempotent."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None

    async def _watch(self, lane: Lane, first: Endpoint, scope: anyio.CancelScope) -> None:
        with scope:
            while not await self._can_be_reached(first):
                continue
            self._failback.goes_back()
            self._to_connector.send_nowait(Hangup(lane, f"going back to {first}", politely=True))

    async def _can_be_reached(self, first: Endpoint) -> bool:
        """Wait for the next look, and take it."""
        await anyio.sleep(self._failback.delay_s)
        with anyio.move_on_after(self._look_s):
            try:
                await self._dialer.reach(first)
            except (Unreachable, Untrusted, Unprepared):
                return False
            return True
        return False
