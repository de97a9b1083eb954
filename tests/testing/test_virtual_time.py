"""Virtual time: the clock, the dead ends, and that one seed means one interleaving."""

import gc
import os
import random
import subprocess
import sys
import time

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from hawk.ports import WallClock
from hawk.testing.virtual_time import DAY_S, Backend, DeadEnd, VirtualTimeExceeded, VirtualWallClock, run

INTERLEAVING = """
import anyio, anyio.lowlevel
from hawk.testing.virtual_time import run
async def program():
    seen = []
    async def worker(number):
        for _ in range(3):
            seen.append(number)
            await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(number % 3):
            await anyio.sleep_forever()
        seen.append(number)
        try:
            await anyio.sleep_forever()
        finally:
            seen.append(number)
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(worker, number)
        await anyio.sleep(10)
        tasks.cancel_scope.cancel()
    return seen
"""
PRINT_IT = """
print(run(program, backend='trio', seed=7), run(program, backend='asyncio', seed=7))
import trio
print(trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING)
"""


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return "trio" if request.param == "trio" else "asyncio"


def interleaving(backend: Backend, seed: int) -> list[int]:
    names: dict[str, object] = {}
    exec(INTERLEAVING, names)
    program = names["program"]
    assert callable(program)
    result = run(program, backend=backend, seed=seed)
    assert isinstance(result, list)
    return result


def test_a_day_of_sleeping_takes_no_real_time_and_the_clock_agrees(backend: Backend) -> None:
    async def program() -> float:
        while anyio.current_time() < DAY_S:
            await anyio.sleep(10)
        return anyio.current_time()

    began_at = time.monotonic()
    assert run(program, backend=backend) == DAY_S
    assert time.monotonic() - began_at < 10


def test_sleeps_deadlines_and_the_clock_tell_one_time(backend: Backend) -> None:
    async def program() -> list[float]:
        instants = [anyio.current_time()]
        await anyio.sleep(2.5)
        instants.append(anyio.current_time())
        with anyio.move_on_after(60) as scope:
            await anyio.sleep(3600)
        assert scope.cancelled_caught
        instants.append(anyio.current_time())
        with anyio.CancelScope(deadline=anyio.current_time() + 0.25):
            await anyio.Event().wait()
        instants.append(anyio.current_time())
        with pytest.raises(TimeoutError), anyio.fail_after(1):
            await anyio.sleep_forever()
        instants.append(anyio.current_time())
        return instants

    assert run(program, backend=backend) == pytest.approx([0, 2.5, 62.5, 62.75, 63.75])


def test_sleepers_wake_in_the_order_of_their_deadlines(backend: Backend) -> None:
    async def program() -> list[int]:
        woken: list[int] = []

        async def sleeper(number: int) -> None:
            await anyio.sleep(number / 1000)
            woken.append(number)

        async with anyio.create_task_group() as tasks:
            for number in random.Random(1).sample(range(1000), 1000):
                tasks.start_soon(sleeper, number)
        return woken

    assert run(program, backend=backend) == list(range(1000))


def test_time_stands_still_while_a_task_can_run(backend: Backend) -> None:
    async def program() -> float:
        with anyio.move_on_after(0.001):
            for _ in range(1000):
                await anyio.lowlevel.checkpoint()
        return anyio.current_time()

    assert run(program, backend=backend) == 0


def test_arguments_and_result_pass_through(backend: Backend) -> None:
    async def program(left: int, right: str) -> tuple[int, str]:
        return left, right

    assert run(program, 1, "two", backend=backend) == (1, "two")


def test_one_seed_gives_one_interleaving_and_another_seed_another(backend: Backend) -> None:
    first = interleaving(backend, 1)
    assert len(first) == 250
    assert interleaving(backend, 1) == first
    assert len({tuple(interleaving(backend, seed)) for seed in range(10)}) == 10


def test_the_interleaving_does_not_hang_on_the_hash_seed_or_on_addresses() -> None:
    outputs = []
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        padding = f"ballast = [object() for _ in range({hash_seed} * 1000)]\n"
        command = [sys.executable, "-c", padding + INTERLEAVING + PRINT_IT]
        outputs.append(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)
    assert len(outputs[0]) > 1000
    assert outputs[0].endswith("False\n"), "trio's scheduler was not left as it was found"
    assert outputs[0] == outputs[1]


def test_trio_keeps_its_own_randomness_afterwards() -> None:
    random_of_trio = trio._core._run._r
    state = random_of_trio.getstate()
    run(anyio.sleep, 1, backend="trio", seed=5)
    assert random_of_trio.getstate() == state


async def two_tasks_wait_for_ever() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.Event().wait)
        tasks.start_soon(anyio.sleep_forever)


async def a_shield_waits_for_ever() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        with anyio.CancelScope(shield=True):
            await anyio.Event().wait()


async def a_shield_swallows_every_exception() -> None:
    with anyio.CancelScope(shield=True):
        while True:
            try:
                await anyio.sleep(10)
            except Exception:
                continue


def test_a_dead_end_is_told_not_waited_for(backend: Backend) -> None:
    with pytest.raises(DeadEnd):
        run(two_tasks_wait_for_ever, backend=backend)


def test_a_dead_end_behind_a_shield_is_told_too(backend: Backend) -> None:
    with pytest.raises(DeadEnd) as caught:
        run(a_shield_waits_for_ever, backend=backend)
    assert any("shielded" in note for note in caught.value.__notes__)


def test_a_dead_end_cancels_first_so_that_the_program_can_clean_up(backend: Backend) -> None:
    cleaned: list[float] = []

    async def program() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
            cleaned.append(anyio.current_time())

    with pytest.raises(DeadEnd):
        run(program, backend=backend)
    assert cleaned == [5]


def test_a_program_that_never_ends_exceeds_its_limit(backend: Backend) -> None:
    async def program() -> None:
        while True:
            await anyio.sleep(100)

    with pytest.raises(VirtualTimeExceeded, match="3600 s"):
        run(program, backend=backend, limit_s=3600)


def test_a_shielded_loop_that_survives_every_exception_is_abandoned(backend: Backend) -> None:
    with pytest.raises(VirtualTimeExceeded):
        run(a_shield_swallows_every_exception, backend=backend, limit_s=3600)


def test_a_result_after_the_dead_end_does_not_hide_it(backend: Backend) -> None:
    async def program() -> str:
        try:
            await anyio.sleep_forever()
        except BaseException as cancelled:
            return f"all well, in spite of {cancelled!r}"
        return "woken"

    with pytest.raises(DeadEnd):
        run(program, backend=backend)


def test_a_limit_out_of_bounds_is_refused() -> None:
    for limit_s in (0.0, -1.0, 1e9, float("nan")):
        with pytest.raises(ValueError, match="limit_s"):
            run(anyio.sleep, 1, limit_s=limit_s)


def test_a_failure_says_how_to_replay_it(backend: Backend) -> None:
    async def program() -> None:
        await anyio.sleep(1)
        raise LookupError("as planned")

    with pytest.raises(LookupError) as caught:
        run(program, backend=backend, seed=42)
    assert caught.value.__notes__ == [f"replay with seed=42, backend={backend!r}"]


def test_the_wall_clock_goes_with_virtual_time_and_can_be_set(backend: Backend) -> None:
    async def program() -> list[float]:
        await anyio.sleep(100)
        clock = VirtualWallClock(1000.0)
        port: WallClock = clock
        instants = [port.now()]
        await anyio.sleep(50)
        instants.append(port.now())
        clock.epoch_at -= 600
        instants.append(port.now())
        return instants

    assert run(program, backend=backend) == [1000.0, 1050.0, 450.0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_who_waits_for_a_thread_is_told_that_none_can_wake_it(backend: Backend) -> None:
    async def program() -> None:
        await anyio.to_thread.run_sync(time.sleep, 0)

    with pytest.raises(DeadEnd, match="no thread"):
        run(program, backend=backend)
    gc.collect()  # what trio gave up on, while its complaints are not heeded


def test_virtual_time_leaves_no_event_loop_behind(backend: Backend) -> None:
    run(anyio.sleep, 1, backend=backend)

    async def real() -> float:
        began_at = time.monotonic()
        await anyio.sleep(0.01)
        return time.monotonic() - began_at

    assert anyio.run(real, backend=backend) >= 0.009
