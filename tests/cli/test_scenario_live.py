"""`hawk scenario run --speed --live` as a user sees it: on a terminal, without one, and with a Ctrl-C in between."""

import re
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.cli.scenario_choice import jobs_of, speed_of
from hawk.errors import ConfigInvalid
from hawk.scenario.model import Scenario

pytestmark = pytest.mark.anyio

FILE = """\
hawk: 1
name: rough
duration: 10s
seed: 1
client: {max_retries: null, max_retry_delay: 1s}
traffic:
  - {pub: "a/{i}", clients: 2, rate: 2/s}
timeline:
  - {at: 2s, fault: broker.down, for: 3s, as: gone}
expect:
  - lost == 0
"""
ERASED = re.compile(r"\x1b\[2K")
POSITION = re.compile(r"at ([0-9.]+) (m?)s of 10 s")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "rough.yaml"
    path.write_text(FILE)
    return str(path)


def journals(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("out/*/journal.jsonl")}


# ------------------------------------------------------------------------------------------------ on a terminal


async def test_the_lanes_grow_where_they_are_and_the_report_takes_their_place(
    start_on_terminal: Callable[..., Awaitable[Any]], file: str, tmp_path: Path
) -> None:
    terminal = await start_on_terminal("scenario", "run", file, "--speed", "10x", "--live", cwd=tmp_path)
    assert await terminal.end() == 0
    lives, _, report = terminal.screen.rpartition("Ctrl-C ends it")
    pictures = COLOUR.sub("", lives).split("Ctrl-C ends it")
    positions = [float(number) / (1000 if milli else 1) for number, milli in POSITION.findall(lives)]
    assert len(positions) >= 3
    assert positions == sorted(positions)
    assert len(positions) + lives.count("10 s, delivering what is left") == len(pictures)
    # Each is drawn over the one before it, and so is the report.
    assert all(picture.count("\x1b[1A\x1b[2K") == 7 for picture in pictures[1:])
    assert "\x1b[?25h" in report
    assert "PASS 1/1" in COLOUR.sub("", report)
    assert len(ERASED.findall(report)) >= 7


async def test_runs_are_shown_one_after_the_other_each_with_its_report(
    start_on_terminal: Callable[..., Awaitable[Any]], file: str, tmp_path: Path
) -> None:
    arguments = ["--backend", "both", "--speed", "20x", "--live"]
    terminal = await start_on_terminal("scenario", "run", file, *arguments, cwd=tmp_path)
    assert await terminal.end() == 0
    plain = COLOUR.sub("", terminal.screen)
    first, second, summary = plain.split("PASS 1/1")
    assert "0/2 runs · Ctrl-C ends it" in first
    assert "backend asyncio" not in first
    assert "1/2 runs · Ctrl-C ends it" in second
    assert "2 of 2 runs passed" in summary
    assert set(journals(tmp_path)) == {"rough-trio-1", "rough-asyncio-1"}


async def test_a_terminal_that_cannot_go_back_gets_lines(
    start_on_terminal: Callable[..., Awaitable[Any]], file: str, tmp_path: Path
) -> None:
    terminal = await start_on_terminal("scenario", "run", file, "--live", env={"TERM": "dumb"}, cwd=tmp_path)
    assert await terminal.end() == 0
    assert "rough  trio  seed 1: 50 %" in terminal.screen
    assert "\x1b[2K" not in terminal.screen


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("live", [["--live"], []], ids=["live", "line"])
async def test_a_control_c_ends_a_run_that_is_slowed_down_at_once(
    start_on_terminal: Callable[..., Awaitable[Any]], file: str, tmp_path: Path, backend: str, live: list[str]
) -> None:
    await anyio.Path(file).write_text(FILE.replace("duration: 10s", "duration: 1h"))
    arguments = ["--backend", backend, "--speed", "100x", *live]
    terminal = await start_on_terminal("scenario", "run", file, *arguments, cwd=tmp_path)
    await terminal.read_until("0/1 runs")
    with anyio.fail_after(5):
        terminal.type(b"\x03")
        assert await terminal.end() == 130
    assert "0 of 1 runs passed, 1 were not finished" in terminal.screen
    assert terminal.screen.rpartition("\x1b[?25l")[2].count("\x1b[?25h") == bool(live)


# --------------------------------------------------------------------------------------------- without a terminal


async def test_without_a_terminal_a_line_tells_each_tenth_and_the_journal_is_the_same(
    start: Callable[..., Awaitable[Any]], file: str, tmp_path: Path
) -> None:
    alone = await (await start("scenario", "run", file, cwd=tmp_path)).end()
    assert (alone.code, alone.err) == (0, "")
    at_once = journals(tmp_path)
    child = await start("scenario", "run", file, "--live", "--speed", "20x", cwd=tmp_path)
    watched = await child.end()
    assert watched.code == 0
    assert watched.err == "".join(f"rough  trio  seed 1: {percent} %\n" for percent in range(10, 101, 10))
    assert b"PASS 1/1" in watched.out
    assert journals(tmp_path) == at_once


# -------------------------------------------------------------------------------------------- what may be asked for


VIRTUAL, REAL = Scenario("quick", 1.0), Scenario("slow", 1.0, clock="real")


@given(st.decimals("0.001", "1000000", places=3))
def test_any_number_of_times_is_a_speed(times: object) -> None:
    assert speed_of(f"{times}x", [VIRTUAL]) == float(str(times))


@pytest.mark.parametrize(
    ("speed", "runs", "found"),
    [
        (None, [VIRTUAL, REAL], inf),
        ("max", [VIRTUAL], inf),
        ("real", [VIRTUAL, REAL], 1.0),
        ("1x", [REAL], 1.0),
        ("0.5x", [VIRTUAL], 0.5),
    ],
)
def test_a_speed_has_a_word_or_a_number(speed: str | None, runs: Sequence[Scenario], found: float) -> None:
    assert speed_of(speed, runs) == found


@pytest.mark.parametrize(
    "speed", ["", "x", "10", "0x", "0.0x", "-1x", "infx", "nanx", "1e3x", "١x", " 1x", "9" * 400 + "x"]
)
def test_anything_else_is_none(speed: str) -> None:
    with pytest.raises(ConfigInvalid, match="--speed: must be real, max or a number of times"):
        speed_of(speed, [VIRTUAL])


@pytest.mark.parametrize("speed", ["max", "10x"])
def test_the_real_clock_has_one_speed(speed: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"--speed: the real clock has one speed: .*\(slow\)"):
        speed_of(speed, [VIRTUAL, REAL])


def test_who_watches_has_one_run_at_a_time() -> None:
    assert [jobs_of(jobs, live=False) for jobs in (None, 1, 4)] == [None, 1, 4]
    assert [jobs_of(jobs, live=True) for jobs in (None, 1)] == [1, 1]
    with pytest.raises(ConfigInvalid, match="--live: shows one run at a time, and --jobs 4 runs more"):
        jobs_of(4, live=True)
