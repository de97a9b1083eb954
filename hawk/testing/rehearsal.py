"""One broker, the weather around it, and as many hawks as a rehearsal needs, all fed by one seed.

async with Rehearsal(seed=7) as rehearsal, rehearsal.open_mqtt(config) as mqtt:
rehearsal.network.reset_all()
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from types import TracebackType

from hawk.config import Config
from hawk.interface import MQTTInterface, open_mqtt
from hawk.links.dialing import StreamDialer
from hawk.ports import Dialer, InboxStore, OutboxStore, Ports
from hawk.testing.broker import Broker
from hawk.testing.network import Network
from hawk.testing.virtual_time import VirtualWallClock


class Rehearsal:
    """A broker and a network in memory. `random` is the one source of chance; draw your own from it too."""

    def __init__(self, *, seed: int = 0, broker: Broker | None = None) -> None:
        self.random = Random(seed)
        self.broker = broker or Broker()
        self.network = Network(self.broker.accept, random=Random(self.random.getrandbits(64)))
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Rehearsal":
        await self._stack.__aenter__()
        await self._stack.enter_async_context(self.broker)
        await self._stack.enter_async_context(self.network)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, traceback)

    def dialer(self, config: Config) -> Dialer:
        """A dialer whose every link goes through the network to the broker."""
        return StreamDialer(config, self.network.connect)

    def ports(
        self,
        config: Config,
        *,
        dialer: Dialer | None = None,
        outbox_store: OutboxStore | None = None,
        keeper_inbox: int = 1024,
        inbox_store: InboxStore | None = None,
    ) -> Ports:
        """The outside world of one hawk in this rehearsal. Call it where the event loop runs."""
        return Ports(
            dialer or self.dialer(config),
            outbox_store,
            VirtualWallClock(),
            Random(self.random.getrandbits(64)),
            keeper_inbox,
            inbox_store,
        )

    @asynccontextmanager
    async def open_mqtt(self, config: Config, *, ports: Ports | None = None) -> AsyncIterator[MQTTInterface]:
        """`hawk.open_mqtt` in this rehearsal."""
        async with open_mqtt(config, ports=ports or self.ports(config)) as mqtt:
            yield mqtt
