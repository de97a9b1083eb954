"""A link that a test scripts by hand, for the actors that own one."""

from collections.abc import Sequence

import anyio
import pytest

from hawk.errors import LinkLost
from hawk.packets import Arrivals, Connack, DisconnectRequest, Outgoing
from hawk.values import Cause, CauseKind


class ScriptedLink:
    """Reads what `arrive` is given, remembers what was sent; `reads`, `closes`: whether its broker does either."""

    def __init__(self, connack: Connack | None = None, *, reads: bool = True, closes: bool = True) -> None:
        self.connack = connack or Connack()
        self.reads = reads
        self.closes = closes
        self.sent: list[Outgoing] = []
        self.closed = False
        self.written_bytes = 0
        self._to_reader, self._arriving = anyio.create_memory_object_stream[Arrivals | Cause](100)

    def arrive(self, arrivals: Arrivals | Cause) -> None:
        """What the reader gets next; a cause ends the link."""
        self._to_reader.send_nowait(arrivals)

    async def send(self, packets: Sequence[Outgoing]) -> None:
        if not self.reads:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        self.sent += packets
        if self.closes and type(packets[-1]) is DisconnectRequest:
            self.arrive(Cause(CauseKind.CLOSED_BY_PEER, "as asked"))

    async def receive(self) -> Arrivals:
        arrivals = await self._arriving.receive()
        if isinstance(arrivals, Cause):
            raise LinkLost(arrivals)
        return arrivals

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed = True
        self._to_reader.close()
        self._arriving.close()


@pytest.fixture
def scripted_link() -> type[ScriptedLink]:
    """The class, to make as many links of as a test needs."""
    return ScriptedLink
