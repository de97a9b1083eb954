"""The door to threads: one thing at a time, cancelled never by half, closed with its thread, not in virtual time."""

import threading
from collections.abc import Callable

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint
from trio.testing import MockClock

from hawk.offload import Worker
from hawk.testing.virtual_time import Backend, run

NAME = "hawk test worker"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == NAME]


@pytest.mark.anyio
async def test_what_the_function_returns_or_raises_comes_back_from_another_thread() -> None:
    worker = Worker(NAME)
    assert await worker.run(lambda: threading.current_thread().name) == NAME

    def fail() -> None:
        raise ValueError("as it happens")

    with pytest.raises(ValueError, match="as it happens"):
        await worker.run(fail)
    assert await worker.run(lambda: 3) == 3
    await worker.aclose()


@pytest.mark.anyio
async def test_the_event_loop_goes_on_while_the_thread_works() -> None:
    worker, passes, flowing = Worker(NAME), 0, threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run, flowing.wait)
        for _ in range(50):
            await checkpoint()
            passes += 1
        flowing.set()
    assert passes == 50
    await worker.aclose()


@pytest.mark.anyio
async def test_a_cancelled_wait_leaves_the_work_whole_and_before_what_comes_next() -> None:
    worker, flowing, done = Worker(NAME), threading.Event(), list[str]()

    def slow() -> None:
        flowing.wait(5)
        done.append("slow")

    with anyio.move_on_after(0.01) as scope:
        await worker.run(slow)
    assert scope.cancelled_caught
    assert done == []
    flowing.set()
    assert await worker.run(lambda: [*done, "next"]) == ["slow", "next"]
    await worker.aclose()


@pytest.mark.anyio
async def test_of_many_callers_each_gets_its_own_answer() -> None:
    worker, answers = Worker(NAME), dict[int, int]()

    async def ask(number: int) -> None:
        with anyio.move_on_after(0.0005 if number % 3 == 0 else 5):
            answers[number] = await worker.run(_square(number))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(ask, number)
        await worker.aclose()
    assert {number for number in range(100) if number % 3} <= answers.keys()
    assert all(answer == number**2 for number, answer in answers.items())


def _square(number: int) -> Callable[[], int]:
    return lambda: number**2


@pytest.mark.anyio
async def test_closed_the_thread_is_gone_and_closing_again_does_nothing() -> None:
    worker = Worker(NAME)
    await worker.run(lambda: None)
    assert threads() == [NAME]
    assert not worker.has_ended
    await worker.aclose()
    assert threads() == []
    assert worker.has_ended
    await worker.aclose()


@pytest.mark.anyio
async def test_a_thread_that_hangs_is_left_to_itself_and_is_told() -> None:
    worker, flowing = Worker(NAME), threading.Event()
    with anyio.move_on_after(0.01):
        await worker.run(lambda: flowing.wait(5))
    with anyio.move_on_after(0.01) as scope:
        await worker.aclose()
    assert scope.cancelled_caught
    assert not worker.has_ended
    with anyio.fail_after(1):
        await worker.aclose()
    flowing.set()
    with anyio.fail_after(5):
        while not worker.has_ended:
            await anyio.sleep(0.001)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_in_virtual_time_there_is_no_thread(backend: Backend) -> None:
    async def program() -> None:
        with pytest.raises(RuntimeError, match="MemoryStore"):
            Worker(NAME)

    run(program, backend=backend)
    assert threads() == []


def test_under_a_mock_clock_of_trio_s_own_there_is_no_thread() -> None:
    async def program() -> None:
        with pytest.raises(RuntimeError, match="MemoryStore"):
            Worker(NAME)

    trio.run(program, clock=MockClock())
    assert threads() == []
