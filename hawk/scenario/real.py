"""One run of a scenario in real time, over TCP: hawk's own broker, or any broker at a URL, behind hawk's fault proxy.

The same script, clients and journal as in `simulation.py`. What a broker that is not hawk's own has taken is told by an
observer (`observer.py`), and some of what it cannot be made to do is done by the proxy in its place.
"""

from contextlib import AsyncExitStack
from random import Random, SystemRandom

import anyio
from anyio.abc import ByteStream

from hawk.config import Config
from hawk.scenario.audience import NOBODY, Audience
from hawk.scenario.header import header_of
from hawk.scenario.journal import Journal
from hawk.scenario.model import Scenario
from hawk.scenario.observer import observed
from hawk.scenario.recorder import Recorder
from hawk.scenario.simulation import Place, play_at
from hawk.scenario.world import Gate
from hawk.testing.broker import Broker
from hawk.testing.network_stream import NetworkStream
from hawk.testing.proxy import FaultProxy

_HERE = "127.0.0.1"
_LONGEST_DRAIN_S = 60.0


def run_for_real(scenario: Scenario, *, audience: Audience = NOBODY) -> Journal:
    """Run one variant by the real clock, on its own backend. Raises `BrokerMissing` when its broker is not there."""

    async def play() -> Journal:
        return await play_for_real(scenario, audience=audience)

    return anyio.run(play, backend=scenario.backend)


async def play_for_real(scenario: Scenario, *, audience: Audience = NOBODY) -> Journal:
    """As `run_for_real`, inside an event loop that may have other runs in it."""
    random = Random(f"world {scenario.seed}")
    async with AsyncExitStack() as stack:
        # Another run may be at the same broker, and an earlier one may have left a session there.
        recorder = Recorder(f"r{SystemRandom().getrandbits(32):08x}-")
        proxy, broker, gate = await _enter(stack, scenario, recorder, Random(random.getrandbits(64)))
        port = await proxy.listen()

        async def connect() -> ByteStream:
            return await anyio.connect_tcp(_HERE, port)

        recorder.begin()
        place = Place(proxy.network, broker, gate, connect)
        ended = await play_at(place, scenario, recorder, random, drain_s=_LONGEST_DRAIN_S, audience=audience)
    return Journal(header_of(scenario), (*recorder.events, ended))


async def _enter(
    stack: AsyncExitStack, scenario: Scenario, recorder: Recorder, weather: Random
) -> tuple[FaultProxy, Broker | None, Gate]:
    """The proxy, hawk's own broker behind it if it is that, and who answers a CONNECT."""
    own = await stack.enter_async_context(Broker(record=False, on_taken=recorder.taken))
    if scenario.broker.url is None:
        proxy = FaultProxy(_HERE, await own.listen(), random=weather)
        return await stack.enter_async_context(proxy), own, own
    config = Config.from_url(scenario.broker.url)
    await stack.enter_async_context(observed(scenario, config, recorder))
    gatekeeper = Gatekeeper(own)
    proxy = FaultProxy(config.broker, config.port, random=weather, divert=gatekeeper.takes)
    return await stack.enter_async_context(proxy), None, gatekeeper


class Gatekeeper:
    """Answers each CONNECT in the place of a broker that is not hawk's own, while that one shall refuse it."""

    def __init__(self, broker: Broker) -> None:
        self.bites = broker.bites
        self._broker = broker
        self._refuses = False

    def refuse_with(self, reason_code: int | None) -> None:
        """Refuse with that reason; None lets everybody pass again."""
        self._refuses = reason_code is not None
        if reason_code is not None:
            # Who came before the end is refused after it too, if its CONNECT comes so late: nobody gets in here.
            self._broker.refuse_with(reason_code)

    def takes(self, end: NetworkStream) -> bool:
        """Serve a new link, if it shall be refused."""
        if self._refuses:
            self._broker.accept(end)
        return self._refuses
