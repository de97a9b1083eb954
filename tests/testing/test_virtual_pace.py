"""Virtual time that somebody watches: never too fast, never caught up, the same program, and an ear for Ctrl-C."""

import signal
from itertools import pairwise
from math import inf, nan

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.testing.virtual_pace import LONGEST_NAP_S, LOOK_EVERY_S, MOST_BEHIND_S, Pace, until_next_look_s
from hawk.testing.virtual_time import Backend, DeadEnd, VirtualTimeExceeded, run


class Wall:
    """A wall clock that goes on only when somebody sleeps, or works."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps = list[float]()

    def pace(self, speed: float = inf) -> Pace:
        return Pace(speed, wall_clock=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def work(self, seconds: float) -> None:
        self.now += seconds

    @property
    def passed_s(self) -> float:
        return self.now - 1000.0


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return "trio" if request.param == "trio" else "asyncio"


@pytest.mark.parametrize(("speed", "wall_s"), [(1.0, 60.0), (10.0, 6.0), (0.5, 120.0), (inf, 0.0)])
def test_a_minute_takes_as_long_as_its_pace_says(backend: Backend, speed: float, wall_s: float) -> None:
    wall = Wall()
    pace = wall.pace(speed)

    async def program() -> float:
        with pace.kept():
            for _ in range(60):
                await anyio.sleep(1)
        return anyio.current_time()

    assert run(program, backend=backend, pace=pace) == 60
    assert wall.passed_s == pytest.approx(wall_s)
    assert max(wall.naps, default=0.0) <= LONGEST_NAP_S


steps = st.lists(st.tuples(st.floats(0.001, 30), st.floats(0, 2)), min_size=1, max_size=20)


@given(steps, st.sampled_from([0.5, 1.0, 10.0]), st.sampled_from(["trio", "asyncio"]))
def test_virtual_time_is_never_faster_and_lateness_is_hardly_caught_up(
    told: list[tuple[float, float]], speed: float, backend: Backend
) -> None:
    """Between any two instants no more virtual time has passed than the pace allows, and what a bit of lateness is worth."""
    wall, marks = Wall(), list[tuple[float, float]]()
    pace = wall.pace(speed)

    async def program() -> None:
        with pace.kept():
            marks.append((anyio.current_time(), wall.now))
            for sleep_s, work_s in told:
                await anyio.sleep(sleep_s)
                marks.append((anyio.current_time(), wall.now))
                wall.work(work_s)

    run(program, backend=backend, pace=pace)
    assert len(marks) == len(told) + 1
    for place, (virtual_at, wall_at) in enumerate(marks):
        for later_virtual_at, later_wall_at in marks[place:]:
            allowed_s = speed * (later_wall_at - wall_at + MOST_BEHIND_S)
            assert later_virtual_at - virtual_at <= allowed_s + 1e-6


@given(st.lists(st.floats(0.001, 30), min_size=1, max_size=20), st.sampled_from(["trio", "asyncio"]))
def test_a_program_that_costs_nothing_is_never_late(sleeps_s: list[float], backend: Backend) -> None:
    wall = Wall()
    pace = wall.pace(2.0)

    async def program() -> None:
        with pace.kept():
            for sleep_s in sleeps_s:
                await anyio.sleep(sleep_s)

    run(program, backend=backend, pace=pace)
    assert wall.passed_s == pytest.approx(sum(sleeps_s) / 2)


def test_what_was_missed_while_the_process_stood_still_is_not_caught_up(backend: Backend) -> None:
    wall = Wall()
    pace = wall.pace(1.0)

    async def program() -> None:
        with pace.kept():
            await anyio.sleep(10)
            wall.work(100)
            await anyio.sleep(10)
            await anyio.sleep(10)

    run(program, backend=backend, pace=pace)
    assert wall.passed_s == pytest.approx(10 + 100 + 10)


async def crowd(seen: list[tuple[float, int]]) -> None:
    async def worker(number: int) -> None:
        for turn in range(4):
            seen.append((anyio.current_time(), number))
            await anyio.lowlevel.checkpoint()
            await anyio.sleep(turn * 0.1 + number % 3)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(worker, number)


@given(st.integers(0, 2**32), st.sampled_from([1.0, 7.5, inf]), st.sampled_from(["trio", "asyncio"]))
def test_a_program_does_the_same_whoever_watches_it(seed: int, speed: float, backend: Backend) -> None:
    alone, watched, looks = list[tuple[float, int]](), list[tuple[float, int]](), list[float]()
    run(crowd, alone, backend=backend, seed=seed)
    pace = Wall().pace(speed)

    async def program() -> None:
        with pace.kept(looks.append):
            await crowd(watched)

    run(program, backend=backend, seed=seed, pace=pace)
    assert looks
    assert watched == alone


async def leave_early(pace: Pace) -> None:
    with pace.kept():
        await anyio.sleep(1)
        raise LookupError("as planned")


def test_outside_the_block_nothing_is_held_up_however_it_was_left(backend: Backend) -> None:
    wall = Wall()
    pace = wall.pace(1.0)

    async def program() -> None:
        await anyio.sleep(3600)
        with pytest.raises(LookupError):
            await leave_early(pace)
        await anyio.sleep(3600)
        with pace.kept():
            await anyio.sleep(2)

    run(program, backend=backend, pace=pace)
    assert wall.passed_s == pytest.approx(1.0 + 2.0)


@pytest.mark.parametrize("speed", [1.0, inf])
def test_looks_come_a_few_times_a_second_and_tell_the_virtual_time(backend: Backend, speed: float) -> None:
    wall, looks = Wall(), list[tuple[float, float]]()
    pace = wall.pace(speed)

    async def program() -> None:
        with pace.kept(lambda now: looks.append((now, wall.passed_s))):
            for _ in range(1000):
                await anyio.sleep(0.01)
                wall.work(0.0 if speed == 1.0 else 0.01)

    run(program, backend=backend, pace=pace)
    assert all(virtual_s == pytest.approx(wall_s, abs=0.06) for virtual_s, wall_s in looks)
    gaps = [later[1] - earlier[1] for earlier, later in pairwise(looks)]
    assert min(gaps) >= LOOK_EVERY_S - 1e-9
    assert max(gaps) <= LOOK_EVERY_S + LONGEST_NAP_S + 0.01


@given(st.floats(0, 1e6))
def test_looking_takes_a_fifth_of_the_time_at_most(cost_s: float) -> None:
    pause_s = until_next_look_s(cost_s)
    assert pause_s >= LOOK_EVERY_S
    assert cost_s <= 0.2 * (cost_s + pause_s) * (1 + 1e-9)


@pytest.mark.parametrize("speed", [0.5, 1.0, 60.0])
def test_time_is_seen_to_go_on_while_nothing_happens(backend: Backend, speed: float) -> None:
    wall, looks = Wall(), list[tuple[float, float]]()
    pace = wall.pace(speed)

    async def program() -> None:
        with pace.kept(lambda now: looks.append((now, wall.passed_s))):
            await anyio.sleep(600)

    run(program, backend=backend, pace=pace)
    assert len(looks) >= 600 / speed / (LOOK_EVERY_S + LONGEST_NAP_S)
    assert all(virtual_s == pytest.approx(wall_s * speed) for virtual_s, wall_s in looks)


def test_looks_that_take_long_come_seldom(backend: Backend) -> None:
    wall, looks = Wall(), list[float]()
    pace = wall.pace(1.0)

    def look(now: float) -> None:
        looks.append(now)
        wall.work(1.0)

    async def program() -> None:
        with pace.kept(look):
            while anyio.current_time() < 100:
                await anyio.sleep(0.01)

    run(program, backend=backend, pace=pace)
    assert len(looks) <= wall.passed_s / 5 + 1


def test_what_is_raised_by_who_looks_on_is_told(backend: Backend) -> None:
    def look(now: float) -> None:
        raise OSError("the terminal is gone")

    pace = Wall().pace()

    async def program() -> None:
        with pace.kept(look):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep, 5)
                await anyio.sleep(1)

    with pytest.raises(OSError, match="the terminal is gone"):
        run(program, backend=backend, pace=pace)


def test_a_dead_end_and_a_limit_are_told_at_any_pace(backend: Backend) -> None:
    async def program(pace: Pace) -> None:
        with pace.kept():
            await anyio.sleep(5)
            await anyio.sleep_forever()

    pace = Wall().pace(10.0)
    with pytest.raises(DeadEnd):
        run(program, pace, backend=backend, pace=pace)
    pace = Wall().pace(10.0)
    with pytest.raises(VirtualTimeExceeded):
        run(program, pace, backend=backend, limit_s=3, pace=pace)


def test_a_control_c_during_a_nap_ends_the_program_which_tidies_up_at_once(backend: Backend) -> None:
    naps, tidied = list[float](), list[float]()

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            signal.raise_signal(signal.SIGINT)

    pace = Pace(1.0, wall_clock=lambda: sum(naps), sleep=nap)

    async def program() -> None:
        try:
            with pace.kept():
                await anyio.sleep(3600)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(60)
            tidied.append(anyio.current_time())

    with pytest.raises(KeyboardInterrupt):
        run(program, backend=backend, pace=pace)
    assert len(naps) <= 4
    assert tidied
    assert tidied[0] < 61


@pytest.mark.parametrize("speed", [0.0, -1.0, nan])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be above 0"):
        Pace(speed)
