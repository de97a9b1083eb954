"""The Health probe's shell: it pings a quiet link, has a dead one hung up, and leaves an answering one alone."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.actors.health_probe import HealthProbe
from hawk.config import Config
from hawk.messages import Hangup, LinkUp, Ping, Stalled, ToHealthProbe, Traffic, Transmit

KEEP_ALIVE_S = 0.1
CONFIG = Config(health_check_interval=KEEP_ALIVE_S, ping_timeout_s=0.05)


@dataclass(frozen=True, eq=False)
class FakeLane:
    number: int = 1

    def send_nowait(self, transmit: Transmit, /) -> None:
        raise AssertionError("the probe asks the Connector to ping")


@dataclass
class Running:
    to_probe: MemoryObjectSendStream[ToHealthProbe]
    decisions: MemoryObjectReceiveStream[Ping | Hangup]
    ended: anyio.Event


@pytest.fixture
async def probe(anyio_backend: str) -> AsyncIterator[Running]:
    to_probe, inbox = anyio.create_memory_object_stream[ToHealthProbe](16)
    to_connector, decisions = anyio.create_memory_object_stream[Ping | Hangup](16)
    ended = anyio.Event()

    async def run() -> None:
        await HealthProbe(CONFIG, inbox=inbox, to_connector=to_connector).run()
        ended.set()

    with to_probe, inbox, to_connector, decisions:
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(run)
            yield Running(to_probe, decisions, ended)
            nursery.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_silent_link_is_pinged_and_then_hung_up(probe: Running) -> None:
    lane = FakeLane()
    with anyio.fail_after(2):
        await probe.to_probe.send(LinkUp(lane, KEEP_ALIVE_S))
        assert await probe.decisions.receive() == Ping(lane)
        decision = await probe.decisions.receive()
        while decision == Ping(lane):  # a machine under load woke late: the second chance
            decision = await probe.decisions.receive()
        assert isinstance(decision, Hangup)
        assert decision.lane is lane


@pytest.mark.anyio
async def test_a_link_that_answers_is_pinged_again_and_not_hung_up(probe: Running) -> None:
    lane = FakeLane()
    with anyio.fail_after(2):
        await probe.to_probe.send(LinkUp(lane, KEEP_ALIVE_S))
        for _ in range(3):
            assert await probe.decisions.receive() == Ping(lane)
            now = anyio.current_time()
            await probe.to_probe.send(Traffic(lane, now, now, None))


@pytest.mark.anyio
async def test_a_stall_is_hung_up_at_once(probe: Running) -> None:
    lane = FakeLane()
    with anyio.fail_after(2):
        await probe.to_probe.send(LinkUp(lane, 60.0))
        await probe.to_probe.send(Stalled(lane))
        assert isinstance(await probe.decisions.receive(), Hangup)


@pytest.mark.anyio
async def test_it_ends_when_nobody_can_send_to_it(probe: Running) -> None:
    probe.to_probe.close()
    with anyio.fail_after(2):
        await probe.ended.wait()


@pytest.mark.anyio
async def test_it_ends_when_the_connector_is_gone(probe: Running) -> None:
    probe.decisions.close()
    lane = FakeLane()
    await probe.to_probe.send(LinkUp(lane, 60.0))
    await probe.to_probe.send(Stalled(lane))
    with anyio.fail_after(2):
        await probe.ended.wait()
