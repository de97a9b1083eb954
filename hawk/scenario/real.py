"""One run of a scenario in real time, over TCP: hawk's own broker, or any broker at a URL, behind hawk's fault proxy.

The same script, clients and journal as in `simulation.py`. What a broker that is not hawk's own has taken is told by an
observer: one more hawk, connected past the proxy, that subscribes to everything that is published.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random, SystemRandom

import anyio
from anyio.abc import ByteStream

from hawk.config import Config
from hawk.interface import open_mqtt
from hawk.scenario.header import header_of
from hawk.scenario.journal import Ended, Journal
from hawk.scenario.model import Scenario
from hawk.scenario.recorder import Recorder
from hawk.scenario.simulation import Place, Progress, play_at
from hawk.subscription import Subscription
from hawk.testing.broker import Broker
from hawk.testing.proxy import FaultProxy

_HERE = "127.0.0.1"
_LONGEST_DRAIN_S = 60.0


def run_for_real(scenario: Scenario, *, on_progress: Progress | None = None) -> Journal:
    """Run one variant by the real clock, on its own backend. Raises `OSError` or `GaveUp` when its broker is not there."""

    async def play() -> tuple[Recorder, Ended]:
        random = Random(f"world {scenario.seed}")
        async with AsyncExitStack() as stack:
            # Another run may be at the same broker, and an earlier one may have left a session there.
            recorder = Recorder(f"r{SystemRandom().getrandbits(32):08x}-")
            broker: Broker | None = None
            if scenario.broker.url is None:
                broker = await stack.enter_async_context(Broker(record=False, on_taken=recorder.taken))
                upstream = (_HERE, await broker.listen())
            else:
                config = Config.from_url(scenario.broker.url)
                upstream = (config.broker, config.port)
                await stack.enter_async_context(_observed(scenario, config, recorder))
            weather = Random(random.getrandbits(64))
            proxy = await stack.enter_async_context(FaultProxy(*upstream, random=weather))
            port = await proxy.listen()

            async def connect() -> ByteStream:
                return await anyio.connect_tcp(_HERE, port)

            recorder.begin()
            place = Place(proxy.network, broker, connect)
            drain_s = _LONGEST_DRAIN_S
            ended = await play_at(place, scenario, recorder, random, drain_s=drain_s, on_progress=on_progress)
        return recorder, ended

    recorder, ended = anyio.run(play, backend=scenario.backend)
    return Journal(header_of(scenario), (*recorder.events, ended))


@asynccontextmanager
async def _observed(scenario: Scenario, config: Config, recorder: Recorder) -> AsyncIterator[None]:
    """Note what the broker takes, for the length of a block. Raises `GaveUp` or `Refused` when it lets nobody in."""
    published = {each.topic.replace("{i}", "+"): each.qos for each in scenario.traffic if each.rate is not None}
    async with open_mqtt(config) as mqtt, AsyncExitStack() as stack:
        await mqtt.connect()
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        for topic_filter, qos in published.items():
            messages = await stack.enter_async_context(mqtt.subscribe(topic_filter, qos=qos))
            tasks.start_soon(_note, messages, recorder)
        yield


async def _note(messages: Subscription, recorder: Recorder) -> None:
    async for message in messages:
        # What an earlier run had retained is none of this run's.
        if not message.retain:
            recorder.taken("", message.topic, message.payload)
