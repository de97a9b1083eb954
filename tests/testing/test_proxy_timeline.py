"""Weather as text: every line reads back as itself, what is wrong is told at its line, and the playing is exact."""

from collections.abc import Callable
from random import Random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.testing.network import Network
from hawk.testing.proxy_timeline import (
    FAULTS,
    INSTANT,
    MEASURED,
    ONE_WAY,
    Ended,
    Spell,
    TimelineInvalid,
    Weather,
    read_line,
    read_timeline,
)
from hawk.testing.virtual_time import Backend, run


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return "trio" if request.param == "trio" else "asyncio"


@pytest.mark.parametrize(
    ("line", "spell"),
    [
        ("latency 400ms", Spell("latency", None, 0.4)),
        ("at 20s blackhole up for 15s", Spell("blackhole", 20, 0, "up", 15)),
        ("at 1.5m link.reset  # the modem restarts", Spell("reset", 90)),
        ("bandwidth 4KB/s for 1h", Spell("bandwidth", None, 4000, "both", 3600)),
        ("half-close down", Spell("half_close", None, 0, "down")),
        ("slice 5B", Spell("slice", None, 5)),
        ("latency off", Ended("latency")),
        ("   # nothing", None),
        ("", None),
    ],
)
def test_a_line_is_read(line: str, spell: object) -> None:
    assert read_line(line) == spell


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("blakhole", "unknown fault 'blakhole'; did you mean 'blackhole'?"),
        ("xyzzy", "there are latency, jitter,"),
        ("latency", "'' is not a duration (try 250ms, 30s, 2m)"),
        ("latency 4", "'4' is not a duration"),
        ("bandwidth 0B/s", "'0B/s' is not a rate (try 4KB/s, 1MB/s)"),
        ("at soon reset", "'soon' is not a duration"),
        ("at", "'' is not a duration"),
        ("at 3s", "unknown fault ''"),
        ("reset for 3s", "'for 3s' means nothing after 'reset'"),
        ("refuse up", "'up' means nothing after 'refuse'"),
        ("stall for", "'' is not a duration"),
    ],
)
def test_what_is_no_spell_is_told(line: str, why: str) -> None:
    with pytest.raises(TimelineInvalid) as invalid:
        read_line(line)
    assert why in str(invalid.value)


def test_a_timeline_tells_every_bad_line_at_once() -> None:
    with pytest.raises(TimelineInvalid) as invalid:
        read_timeline("at 1s reset\nblakhole\n\nlatency off\nlatency x", name="storm")
    assert [line.partition(": ")[0] for line in str(invalid.value).splitlines()] == ["storm:2", "storm:4", "storm:5"]


seconds = st.integers(0, 100_000).map(float)
spells = st.builds(
    lambda fault, at_s, value, way, for_s: Spell(
        fault,
        at_s,
        float(value) if fault in MEASURED else 0.0,
        way if fault in ONE_WAY else "both",
        None if fault in INSTANT else for_s,
    ),
    st.sampled_from(FAULTS),
    st.none() | seconds,
    st.integers(1, 1_000_000),
    st.sampled_from(["both", "up", "down"]),
    st.none() | seconds,
)


@given(spells)
def test_every_spell_reads_back_as_itself(spell: Spell) -> None:
    assert read_line(str(spell)) == spell


def told(network: Network) -> tuple[object, ...]:
    dark = tuple(way for way in ("up", "down") if network.is_dark(way))
    return network.latency_s, network.slice_bytes, dark, network.is_stalled


def seen_at(timeline: str, moments: list[float], backend: Backend, look: Callable[[Network], object] = told) -> object:
    """What `look` sees at each moment of a timeline that is played."""

    async def program() -> list[object]:
        async with Network(lambda end: None, random=Random(0)) as network, anyio.create_task_group() as tasks:
            tasks.start_soon(Weather(network).play, read_timeline(timeline))
            found = []
            for moment in moments:
                await anyio.sleep_until(moment)
                found.append(look(network))
            return found

    return run(program, backend=backend)


def test_of_two_that_overlap_the_later_counts_and_the_earlier_returns(backend: Backend) -> None:
    timeline = "at 1s latency 100ms for 10s\nat 3s latency 2s for 2s\nat 4s slice 5B"
    assert seen_at(timeline, [0.5, 2, 3.5, 4.5, 6, 12], backend) == [
        (0, 0, (), False),
        (0.1, 0, (), False),
        (2, 0, (), False),
        (2, 5, (), False),
        (0.1, 5, (), False),
        (0, 5, (), False),
    ]


def test_blackholes_of_two_ways_add_up_and_end_apart(backend: Backend) -> None:
    timeline = "at 1s blackhole up for 5s\nat 2s blackhole down for 2s\nat 3s stall for 5s"
    assert seen_at(timeline, [1.5, 2.5, 3.5, 5, 7, 9], backend) == [
        (0, 0, ("up",), False),
        (0, 0, ("up", "down"), False),
        (0, 0, ("up", "down"), True),
        (0, 0, ("up",), True),
        (0, 0, (), True),
        (0, 0, (), False),
    ]


def test_heal_ends_every_spell_and_what_would_have_ended_one_later_does_nothing(backend: Backend) -> None:
    timeline = "latency 1s for 9s\nstall\nblackhole for 9s\nat 5s heal\nat 6s latency 2s"
    assert seen_at(timeline, [4, 5.5, 10], backend) == [
        (1, 0, ("up", "down"), True),
        (0, 0, (), False),
        (2, 0, (), False),
    ]


def test_refusals_come_and_go_once_each(backend: Backend) -> None:
    """Whatever else changes meanwhile, the listener is not touched."""
    calls: list[tuple[float, bool]] = []

    async def program() -> None:
        def note(listening: bool) -> None:
            calls.append((anyio.current_time(), listening))

        async with Network(lambda end: None, random=Random(0), on_listening=note) as network:
            await Weather(network).play(
                read_timeline("at 1s refuse for 5s\nat 2s latency 1s for 1s\nat 8s name_lookup")
            )
            with pytest.raises(OSError, match="name resolution"):
                await network.connect()

    run(program, backend=backend)
    assert calls == [(1, False), (6, True)]


def test_blows_fall_when_they_are_due(backend: Backend) -> None:
    ends: list[object] = []

    async def program() -> dict[str, int]:
        async with Network(ends.append, random=Random(0)) as network:
            links = [await network.connect() for _ in range(3)]
            await Weather(network).play(read_timeline("at 1s half_close down\nat 2s cut\nat 3s reset"))
            with pytest.raises(anyio.BrokenResourceError):
                await links[0].receive()
            return network.bites

    bites = run(program, backend=backend)
    assert (bites["half_close"], bites["cut"], bites["reset"]) == (3, 3, 3)
    assert len(ends) == 3


def test_ending_a_kind_ends_every_spell_of_it() -> None:
    async def program() -> float:
        async with Network(lambda end: None, random=Random(0)) as network:
            weather = Weather(network)
            weather.begin(Spell("latency", None, 1))
            weather.begin(Spell("latency", None, 2))
            weather.end_all("latency")
            return network.latency_s

    assert run(program) == 0
