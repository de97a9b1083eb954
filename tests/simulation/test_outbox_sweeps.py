"""Exhaustive, not sampled: every store call fails once, every write is the last one, every step is cancelled (C1, C2, C4).

One fixed program with QoS 0, 1 and 2 and a link that dies in the middle; then another hawk opens the same outbox, and all
that was accepted must have arrived, at QoS 2 exactly once.
"""

from collections import Counter
from collections.abc import Callable
from random import Random

import anyio
import pytest
import trio

from hawk import Config, Dropped, HawkError, MQTTInterface, OutboxUnavailable, ReconnectionConfig, Stopped
from hawk.messages import Commit, Page, ReadPage, Recovered
from hawk.ports import OutboxStore
from hawk.stores.memory import MemoryStore
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, run

CONFIG = Config(
    reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=0.2, max_retry_delay=1.0),
    health_check_interval=4.0,
    cancel_drain_s=0.0,
    max_inflight=3,
)
QOS = (2, 0, 1, 2, 1, 2, 0, 1)

both_backends = pytest.mark.parametrize("backend", ["trio", "asyncio"])


class Program:
    """Publishes, with a link that dies half way, and knows what was accepted."""

    def __init__(self) -> None:
        self.accepted: list[int] = []
        self.balance = 0

    async def run(self, rehearsal: Rehearsal, store: OutboxStore) -> None:
        ports = rehearsal.ports(CONFIG, outbox_store=store)
        async with rehearsal.open_mqtt(CONFIG, ports=ports) as mqtt:
            for number, qos in enumerate(QOS):
                if number == len(QOS) // 2:
                    rehearsal.network.reset_all()
                try:
                    await mqtt.publish("sweep", str(number), qos=qos)
                except (OutboxUnavailable, Stopped, Dropped):
                    continue
                if qos:
                    self.accepted.append(number)
            await settle(mqtt)


async def settle(mqtt: MQTTInterface) -> None:
    """Wait until everything is delivered."""
    with anyio.fail_after(300):
        await mqtt.connect()
        while mqtt.stats["queue_size"]:
            await anyio.sleep(0.05)


async def deliver_the_rest(rehearsal: Rehearsal, store: MemoryStore) -> None:
    """The next hawk."""
    rehearsal.network.allow()
    async with rehearsal.open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG, outbox_store=store)) as mqtt:
        await settle(mqtt)
        stats = mqtt.stats
        assert stats["recovered"] == stats["acknowledged"] + stats["unknown"]


def check(rehearsal: Rehearsal, program: Program, store: MemoryStore) -> None:
    """Nothing accepted is lost, nothing at QoS 2 comes twice, and the store is empty."""
    arrived = Counter(int(payload) for _, payload in rehearsal.broker.received())
    assert [number for number in program.accepted if number not in arrived] == [], "lost"
    assert [number for number, times in arrived.items() if times > 1 and QOS[number] == 2] == [], "twice at QoS 2"
    assert store.records == ()
    assert store.dead == ()
    order = [n for n in dict.fromkeys(int(payload) for _, payload in rehearsal.broker.received()) if QOS[n]]
    assert [n for n in order if n in program.accepted and QOS[n] == 1] == [n for n in program.accepted if QOS[n] == 1]


# ---------------------------------------------------------------------------------------- the n-th call fails


async def with_failing_call(failing: int) -> int:
    """Returns how many calls there were."""
    store = MemoryStore()
    store.fail_call = lambda call: "input/output error" if call == failing else ""
    async with Rehearsal() as rehearsal:
        rehearsal.network.latency_s = 0.01
        program = Program()
        try:
            await program.run(rehearsal, store)
        except OutboxUnavailable:
            assert failing == 1, "only opening fails at opening"
            await program.run(rehearsal, store)
        calls = store.calls
        await deliver_the_rest(rehearsal, store)
        check(rehearsal, program, store)
        return calls


@both_backends
def test_every_store_call_may_fail_once(backend: Backend) -> None:
    calls = run(with_failing_call, 0, backend=backend)
    assert calls > 12
    for failing in range(1, calls + 1):
        run(with_failing_call, failing, backend=backend, limit_s=600)


# ---------------------------------------------------------------------------------- a crash at the n-th write


class Dying:
    """A store whose machine loses power while its n-th commit is synced."""

    durable = True

    def __init__(self, disk: MemoryStore, at_commit: int, random: Random) -> None:
        self.commits = 0
        self.died = anyio.Event()
        self._disk = disk
        self._at_commit = at_commit
        self._random = random

    async def open(self) -> Recovered:
        return await self._disk.open()

    async def page(self, request: ReadPage) -> Page:
        return await self._disk.page(request)

    async def commit(self, changes: Commit) -> None:
        self.commits += 1
        if self.commits == self._at_commit:
            self._disk.stall()
            with anyio.move_on_after(0.001):
                await self._disk.commit(changes)
            self._disk.crash(self._random)
            self._disk.flow()
            self.died.set()
            await anyio.sleep_forever()
        await self._disk.commit(changes)

    async def aclose(self) -> None:
        if not self.died.is_set():
            await self._disk.aclose()


async def with_crash(at_commit: int, seed: int) -> int:
    """Returns how many commits there were."""
    disk = MemoryStore()
    async with Rehearsal(seed=seed) as rehearsal:
        rehearsal.network.latency_s = 0.01
        program, store = Program(), Dying(disk, at_commit, Random(seed))
        with anyio.CancelScope() as power:
            async with anyio.create_task_group() as tasks:

                async def cut() -> None:
                    await store.died.wait()
                    rehearsal.network.reset_all()
                    rehearsal.network.refuse()
                    power.cancel()

                tasks.start_soon(cut)
                await program.run(rehearsal, store)
                tasks.cancel_scope.cancel()
        await deliver_the_rest(rehearsal, disk)
        check(rehearsal, program, disk)
        return store.commits


@both_backends
def test_every_write_may_be_the_last_one_whether_it_survives_or_not(backend: Backend) -> None:
    commits = run(with_crash, 0, 0, backend=backend)
    assert commits > 12
    for at_commit in range(1, commits + 1):
        for seed in (0, 1):
            run(with_crash, at_commit, seed, backend=backend, limit_s=600)


# ------------------------------------------------------------------------------ cancelled at the n-th checkpoint


class StepCounter(trio.abc.Instrument):
    """Cancels `scope` after so many steps of tasks that are not the rehearsal's own."""

    def __init__(self, scope: anyio.CancelScope, cancel_after: int) -> None:
        self.steps = 0
        self._scope = scope
        self._cancel_after = cancel_after

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not task.name.startswith("hawk.testing"):
            self.steps += 1
            if self.steps == self._cancel_after:
                self._scope.cancel()


async def with_cancellation(arm: Callable[[anyio.CancelScope], None]) -> None:
    store = MemoryStore()
    async with Rehearsal() as rehearsal:
        rehearsal.network.latency_s = 0.01
        program = Program()
        with anyio.CancelScope() as scope:
            arm(scope)
            await program.run(rehearsal, store)
        await deliver_the_rest(rehearsal, store)
        check(rehearsal, program, store)


async def cancelled_at_step(cancel_after: int) -> int:
    counters: list[StepCounter] = []

    def arm(scope: anyio.CancelScope) -> None:
        counters.append(StepCounter(scope, cancel_after))
        trio.lowlevel.add_instrument(counters[0])

    await with_cancellation(arm)
    return counters[0].steps


def test_every_step_may_be_cancelled(deep: bool) -> None:
    """By default every third step, with `--deep` each."""
    steps = run(cancelled_at_step, 0)
    assert steps > 200
    for cancel_after in range(1, steps, 1 if deep else 5):
        try:
            run(cancelled_at_step, cancel_after, limit_s=600)
        except BaseException as error:
            error.add_note(f"cancelled after step {cancel_after} of {steps}")
            raise


def test_a_program_that_is_refused_nothing_is_told_nothing_bad() -> None:
    """The sweeps prove something: undisturbed, all of it is accepted and no error is seen."""

    async def undisturbed() -> None:
        store = MemoryStore()
        async with Rehearsal() as rehearsal:
            program = Program()
            await program.run(rehearsal, store)
            assert program.accepted == [number for number, qos in enumerate(QOS) if qos]
            check(rehearsal, program, store)

    run(undisturbed)
    assert issubclass(OutboxUnavailable, HawkError)
