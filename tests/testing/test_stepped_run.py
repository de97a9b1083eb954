"""A program in virtual time that runs only while it is let: between two steps nothing of it moves, and no thread runs."""

import threading

import anyio
import pytest

from hawk.testing.virtual_time import Backend, DeadEnd, SteppedRun, VirtualTimeExceeded, run


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return "trio" if request.param == "trio" else "asyncio"


class Ticker:
    """Ticks once in a second, and answers whoever asks."""

    def __init__(self) -> None:
        self.ticks: list[float] = []
        self.threads: set[int] = set()
        self.wake: anyio.Event

    async def live(self) -> None:
        self.wake = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.tick)
            await self.wake.wait()
            tasks.cancel_scope.cancel()

    async def tick(self) -> None:
        while True:
            await anyio.sleep(1)
            self.ticks.append(anyio.current_time())
            self.threads.add(threading.get_ident())


def test_it_runs_until_it_is_done_and_stands_still_in_between(backend: Backend) -> None:
    ticker, threads = Ticker(), threading.active_count()
    stepped = SteppedRun(ticker.live, backend=backend)
    for ticks in (1, 5, 6):
        stepped.run_until(lambda: len(ticker.ticks) == ticks)  # noqa: B023
        assert ticker.ticks == [float(number) for number in range(1, ticks + 1)]
        assert threading.active_count() == threads
    assert not stepped.has_ended
    ticker.wake.set()
    stepped.run_until(lambda: False)
    assert stepped.has_ended
    assert ticker.ticks[-1] == 6.0
    assert ticker.threads == {threading.get_ident()}


def test_what_is_done_already_takes_no_time(backend: Backend) -> None:
    ticker = Ticker()
    stepped = SteppedRun(ticker.live, backend=backend)
    stepped.run_until(lambda: bool(ticker.ticks))
    for _ in range(5):
        stepped.run_until(lambda: True)
    assert ticker.ticks == [1.0]
    ticker.wake.set()
    stepped.run_until(lambda: False)


def test_what_the_program_raises_is_raised_with_a_note(backend: Backend) -> None:
    async def program() -> None:
        await anyio.sleep(1)
        raise LookupError("a bug")

    stepped = SteppedRun(program, backend=backend, seed=3)
    with pytest.raises(LookupError) as raised:
        stepped.run_until(lambda: False)
    assert raised.value.__notes__ == [f"replay with seed=3, backend='{backend}'"]
    assert stepped.has_ended


def test_a_dead_end_and_a_limit_are_told(backend: Backend) -> None:
    with pytest.raises(DeadEnd):
        SteppedRun(anyio.sleep_forever, backend=backend).run_until(lambda: False)

    async def program() -> None:
        await anyio.sleep(100)

    with pytest.raises(VirtualTimeExceeded):
        SteppedRun(program, backend=backend, limit_s=50).run_until(lambda: False)


def test_other_virtual_time_may_run_between_two_steps_on_asyncio_and_afterwards_on_both(backend: Backend) -> None:
    ticker = Ticker()
    stepped = SteppedRun(ticker.live, backend=backend)
    stepped.run_until(lambda: bool(ticker.ticks))
    if backend == "asyncio":
        run(anyio.sleep, 5, backend="asyncio")
    ticker.wake.set()
    stepped.run_until(lambda: False)
    run(anyio.sleep, 5, backend=backend)
    assert ticker.ticks == [1.0]


def test_one_seed_gives_one_interleaving(backend: Backend) -> None:
    def order(seed: int) -> list[int]:
        seen: list[int] = []

        async def worker(number: int) -> None:
            await anyio.sleep(1)
            seen.append(number)

        async def program() -> None:
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(worker, number)

        stepped = SteppedRun(program, backend=backend, seed=seed)
        while not stepped.has_ended:
            stepped.run_until(lambda: True)
            stepped.run_until(lambda: len(seen) == 20)
            if len(seen) == 20:
                stepped.run_until(lambda: False)
        return seen

    assert order(1) == order(1) != order(2)
