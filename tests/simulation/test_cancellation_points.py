"""A cancellation at every single step of a small program: hawk ends, tells every fate and keeps its books, wherever it hits.

On trio every step of the program's and hawk's tasks is tried, counted by an instrument; on asyncio, which has no steps
to count from outside, a virtual latency spreads the program over time and a sample of moments is tried.
"""

import gc
import warnings
from collections.abc import Callable

import anyio
import pytest
import trio

from hawk import Config, MQTTInterface, Receipt, ReconnectionConfig, Stopped
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import run

CONFIG = Config(reconnection=ReconnectionConfig(initial_retry_delay=0.5, max_retry_delay=0.5), cancel_drain_s=1.0)
QOS = (0, 1, 2, 1, 2)


class StepCounter(trio.abc.Instrument):
    """A trio instrument that cancels `scope` after `cancel_after` steps of tasks that are not the rehearsal's own."""

    def __init__(self, scope: anyio.CancelScope, cancel_after: int) -> None:
        self.steps = 0
        self._scope = scope
        self._cancel_after = cancel_after

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.startswith("hawk.testing"):
            return
        self.steps += 1
        if self.steps == self._cancel_after:
            self._scope.cancel()


class Program:
    """What an application does, and what it has in hand when it is cancelled."""

    def __init__(self) -> None:
        self.mqtt: MQTTInterface | None = None
        self.receipts: list[tuple[int, Receipt]] = []
        self.received: list[bytes] = []
        self.completed = False

    async def run(self, rehearsal: Rehearsal) -> None:
        async with rehearsal.open_mqtt(CONFIG) as self.mqtt:
            for number, qos in enumerate(QOS):
                self.receipts.append((number, await self.mqtt.publish("cancel/out", str(number), qos=qos)))
            async with self.mqtt.subscribe("cancel/in") as messages:
                rehearsal.broker.publish("cancel/in", b"hello", qos=1)
                async for message in messages:
                    self.received.append(message.payload)
                    break
        self.completed = True


async def cancelled(arm: Callable[[anyio.CancelScope], None]) -> bool:
    """Run the program under the scope that `arm` will cancel; check what must hold. Returns whether it completed."""
    async with Rehearsal() as rehearsal:
        rehearsal.network.latency_s = 0.01
        program = Program()
        with anyio.CancelScope() as scope:
            arm(scope)
            await program.run(rehearsal)
        ended_at = anyio.current_time()
        rehearsal.network.latency_s = 0.0
        await anyio.sleep(0.1)
        await check(program, rehearsal)
        assert ended_at <= 1.0 + CONFIG.cancel_drain_s + 1.0
        return program.completed


async def check(program: Program, rehearsal: Rehearsal) -> None:
    """No task of hawk lives, the books balance, and nothing that was accepted has vanished without a word."""
    names = [str(task.name) for task in anyio.get_running_tasks()]
    assert [name for name in names if name.startswith(("hawk ", "hawk.actors", "hawk.wiring"))] == []
    arrived = [payload for _, payload in rehearsal.broker.received()]
    for number, receipt in program.receipts:
        told_stopped = False
        try:
            with anyio.fail_after(0):
                await receipt.acknowledged()
        except Stopped:
            told_stopped = True
        assert told_stopped or b"%d" % number in arrived
        if QOS[number]:
            # The network is well and the drain long enough: the one excuse does not apply.
            assert b"%d" % number in arrived
    assert len(set(arrived)) == len(arrived)
    if program.mqtt is not None:
        stats = program.mqtt.stats
        ended = stats["acknowledged"] + stats["sent"] + stats["dropped"] + stats["abandoned"]
        assert stats["accepted"] == ended
        assert stats["queue_size"] == 0
    if program.completed:
        assert program.received == [b"hello"]


async def cancelled_at_step(cancel_after: int) -> tuple[bool, int]:
    """As `cancelled`, after that many steps (0: never). Returns also how many steps there were."""
    counters: list[StepCounter] = []

    def arm(scope: anyio.CancelScope) -> None:
        counters.append(StepCounter(scope, cancel_after))
        trio.lowlevel.add_instrument(counters[0])

    return await cancelled(arm), counters[0].steps


@pytest.mark.parametrize("seed", range(2))
def test_on_trio_every_step_survives_a_cancellation(seed: int) -> None:
    completed, steps = run(cancelled_at_step, 0, seed=seed)
    assert completed
    assert steps > 100
    for cancel_after in range(1, steps):
        try:
            run(cancelled_at_step, cancel_after, seed=seed, limit_s=60)
        except BaseException as error:
            error.add_note(f"cancelled after step {cancel_after} of {steps}")
            raise


def test_on_trio_no_step_leaves_a_channel_open() -> None:
    _, steps = run(cancelled_at_step, 0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        for cancel_after in range(1, steps):
            run(cancelled_at_step, cancel_after)
        gc.collect()
    assert [str(warning.message) for warning in told if warning.category is ResourceWarning] == []


@pytest.mark.parametrize("backend_seed", range(3))
def test_on_asyncio_a_sample_of_moments_survives_a_cancellation(backend_seed: int) -> None:
    async def at(moment_s: float) -> bool:
        def arm(scope: anyio.CancelScope) -> None:
            scope.deadline = anyio.current_time() + moment_s

        return await cancelled(arm)

    outcomes = [run(at, 0.0025 * n, backend="asyncio", seed=backend_seed, limit_s=60) for n in range(60)]
    assert outcomes[-1]
    assert not outcomes[0]
