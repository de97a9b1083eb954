"""The Backoff scheduler's shell: it says what its core decides, when it is due, and is never deaf."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.actors.backoff_scheduler import BackoffScheduler
from hawk.config import Config, ReconnectionConfig
from hawk.messages import AttemptFailed, Dial, GaveUp, Reset, StandDown, ToBackoff
from hawk.values import Cause, CauseKind, Verdict

CAUSE = Cause(CauseKind.UNREACHABLE, "nobody listens")
CONFIG = Config(reconnection=ReconnectionConfig(max_retries=2, initial_retry_delay=0.05, jitter_factor=0.0))


@dataclass
class Running:
    to_backoff: MemoryObjectSendStream[ToBackoff]
    answers: MemoryObjectReceiveStream[Dial | GaveUp]
    ended: anyio.Event


@pytest.fixture
async def scheduler(anyio_backend: str) -> AsyncIterator[Running]:
    to_backoff, inbox = anyio.create_memory_object_stream[ToBackoff](16)
    to_connector, answers = anyio.create_memory_object_stream[Dial | GaveUp](16)
    ended = anyio.Event()

    async def run() -> None:
        await BackoffScheduler(CONFIG, Random(1), inbox=inbox, to_connector=to_connector).run()
        ended.set()

    with to_backoff, inbox, to_connector, answers:
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(run)
            yield Running(to_backoff, answers, ended)
            nursery.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_reset_is_answered_at_once_and_a_failure_after_its_delay(scheduler: Running) -> None:
    with anyio.fail_after(2):
        await scheduler.to_backoff.send(Reset(1, afresh=True))
        assert await scheduler.answers.receive() == Dial(1)
        began = anyio.current_time()
        await scheduler.to_backoff.send(AttemptFailed(CAUSE, Verdict.AGAIN, 1))
        assert await scheduler.answers.receive() == Dial(1)
        assert anyio.current_time() - began >= 0.05
        await scheduler.to_backoff.send(AttemptFailed(CAUSE, Verdict.AGAIN, 3))
        assert await scheduler.answers.receive() == GaveUp(1, CAUSE)


@pytest.mark.anyio
async def test_a_stand_down_during_the_wait_is_heard(scheduler: Running) -> None:
    await scheduler.to_backoff.send(AttemptFailed(CAUSE, Verdict.AGAIN, 1))
    await scheduler.to_backoff.send(StandDown())
    with anyio.move_on_after(0.15) as waited:
        await scheduler.answers.receive()
    assert waited.cancelled_caught


@pytest.mark.anyio
async def test_a_reset_cuts_the_wait_short(scheduler: Running) -> None:
    with anyio.fail_after(2):
        await scheduler.to_backoff.send(AttemptFailed(CAUSE, Verdict.SLOWLY, 1))
        await scheduler.to_backoff.send(Reset(1, afresh=False))
        began = anyio.current_time()
        assert await scheduler.answers.receive() == Dial(1)
        assert anyio.current_time() - began < 0.4


@pytest.mark.anyio
async def test_it_ends_when_nobody_can_send_to_it(scheduler: Running) -> None:
    scheduler.to_backoff.close()
    with anyio.fail_after(2):
        await scheduler.ended.wait()


@pytest.mark.anyio
async def test_it_ends_when_the_connector_is_gone(scheduler: Running) -> None:
    scheduler.answers.close()
    await scheduler.to_backoff.send(Reset(1, afresh=True))
    with anyio.fail_after(2):
        await scheduler.ended.wait()
