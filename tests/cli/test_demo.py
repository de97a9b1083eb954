"""`hawk demo` as a user starts it, and its parts: the run in virtual time, the verdict, the sabotage, the screen."""

import fcntl
import io
import json
import os
import re
import runpy
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import anyio
import pytest
from rich.console import Console

from hawk.cli import demo_words
from hawk.cli.demo_run import SENSORS, SETTINGS, DemoRun, Happening, Moment, Schedule
from hawk.cli.demo_sabotage import Sabotage
from hawk.cli.demo_verdict import History, Judgement, Sensor, judge_history
from hawk.cli.demo_view import FRAME_S, WIDTH, LiveView, PlainView, draw
from hawk.cli.demo_world import rehearsed_world
from hawk.testing import run as run_in_virtual_time
from hawk.values import ConnectionState

Backend = Literal["trio", "asyncio"]
BACKENDS: tuple[Backend, ...] = ("trio", "asyncio")
KEYS = [
    *["sent", "accepted", "delivered", "lost", "duplicated", "reordered"],
    *["outage_s", "recovered_s", "reconnections", "final_state"],
]
FIELD_OF = {"lose": "lost", "reorder": "reordered", "repeat": "duplicated"}
SHORT = Schedule(dies_at_s=1.0, returns_at_s=3.0, readings=40, every_s=0.1)
ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0

# Makes the terminal on standard input the controlling one, as a login does: only then does Ctrl-C become a signal.
ON_ITS_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'hawk', *sys.argv[1:]])"
)


def environment(**more: str) -> dict[str, str]:
    names = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "UV_RUN_RECURSION_DEPTH"}
    return {name: value for name, value in os.environ.items() if name not in names} | {"TERM": "xterm-256color"} | more


def hawk(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, without a terminal."""
    command = [sys.executable, "-m", "hawk", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment(), cwd=ROOT
    )


class OnTerminal:
    """The command on a pseudo-terminal of 80 x 40, and all that it has written there."""

    def __init__(self, *arguments: str, env: Mapping[str, str]) -> None:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_ITS_TERMINAL, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=env,
            cwd=ROOT,
        )
        os.close(theirs)
        self.screen = ""

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def read_until(self, pattern: str | None) -> str:
        """All that was written until `pattern` has come, or until the end if it is None."""
        give_up_at = time.monotonic() + PATIENCE_S
        while pattern is None or not re.search(pattern, self.screen):
            assert time.monotonic() < give_up_at, f"{pattern!r} never came: {self.screen[-2000:]}"
            if not select.select([self._ours], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self._ours, 65_536)
            except OSError:
                data = b""  # how Linux says that the other side is closed
            if not data:
                assert pattern is None, f"ended without {pattern!r}: {self.screen[-2000:]}"
                break
            self.screen += data.decode(errors="replace")
        return self.screen

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        os.close(self._ours)


@pytest.fixture
def terminals() -> Iterator[list[OnTerminal]]:
    """Those that a test opens are closed behind it."""
    opened: list[OnTerminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


# ----------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_outage_in_virtual_time_loses_nothing_and_keeps_the_order(backend: str) -> None:
    done = hawk("demo", "--fast", "--json", "--backend", backend)
    assert (done.returncode, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    outcome = json.loads(line)
    assert list(outcome) == KEYS
    assert outcome["sent"] == outcome["accepted"] == outcome["delivered"] == 150
    assert (outcome["lost"], outcome["reordered"], outcome["final_state"]) == (0, 0, "connected")
    assert outcome["outage_s"] == pytest.approx(7.0, abs=0.01)
    assert 0 < outcome["recovered_s"] < 1.5
    assert outcome["reconnections"] == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sabotage", list(FIELD_OF))
def test_each_sabotage_fails_the_run_in_its_own_field(sabotage: str, backend: str) -> None:
    done = hawk("demo", "--fast", "--json", "--sabotage", sabotage, "--backend", backend)
    outcome = json.loads(done.stdout)
    assert done.returncode == 1
    assert {field: outcome[field] for field in FIELD_OF.values()} == {
        field: int(field == FIELD_OF[sabotage]) for field in FIELD_OF.values()
    }


def test_an_outage_with_settings_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_text("mqtt:\n  initial_retry_delay: 3\n  max_retry_delay: 4\n  jitter_factor: 0\n  username: nobody\n")
    ended = hawk("demo", "--fast", "--json", "--config", str(file))
    assert ended.returncode == 0, ended.stderr
    # Dialled 3, 7 and 11 seconds after the broker's death, which lasts 7 seconds.
    assert json.loads(ended.stdout)["recovered_s"] == pytest.approx(0.0, abs=0.2)
    file.write_text("mqtt:\n  initial_retry_delay: 3\n  max_retries: 0\n")
    given_up = json.loads(hawk("demo", "--fast", "--json", "--config", str(file)).stdout)
    assert given_up["final_state"] == "failed"
    file.write_text("mqtt:\n  max_retrys: 1\n")
    wrong = hawk("demo", "--config", str(file))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean 'max_retries'?" in wrong.stderr


def test_a_failure_is_told_in_words() -> None:
    done = hawk("demo", "--fast", "--sabotage", "lose")
    assert done.returncode == 1
    assert "149 delivered, 1 lost" in done.stdout
    assert "FAILED: demo/temperature 4 accepted and never arrived" in done.stdout


def test_without_a_terminal_there_are_plain_lines_a_summary_and_three_commands() -> None:
    done = hawk("demo", "--fast")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    for what in ("the broker dies", "sensors: connected -> reconnecting", "next try in about", "the broker is back"):
        assert what in done.stdout
    words = r"150 sent, 150 delivered, 0 lost, \d+ duplicates?, outage 7\.0 s, recovered in \d\.\d s\n"
    assert re.search(words, done.stdout)
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  hawk ")] == [
        *["broker", "sub", "pub"]
    ]


@pytest.mark.parametrize("arguments", [("--sabotage", "nothing"), ("--seed", "x"), ("--quick",), ("there",)])
def test_wrong_usage_is_exit_2(arguments: tuple[str, ...]) -> None:
    done = hawk("demo", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr


def test_help_names_every_option() -> None:
    done = hawk("demo", "--help")
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--fast", "--json", "--sabotage", "--backend", "--seed"))


def test_control_c_on_a_terminal_gives_the_summary_so_far_and_130(terminals: list[OnTerminal]) -> None:
    terminals.append(demo := OnTerminal("demo", env=environment()))
    demo.read_until(r"(?s)● CONNECTED.*[1-9]\d* delivered")
    demo.type("\x03")
    screen = demo.read_until(None)
    assert demo.process.wait(PATIENCE_S) == 130
    after = screen[screen.rindex("\x1b[?25h") :]  # the cursor is back
    assert re.search(r"[1-9]\d* sent, [1-9]\d* delivered, 0 lost, 0 duplicates", after)
    assert "Stopped before the end." in after
    assert "Traceback" not in screen
    assert "\x1b[1;32m" in screen


def test_no_color_is_honoured(terminals: list[OnTerminal]) -> None:
    terminals.append(demo := OnTerminal("demo", env=environment(NO_COLOR="1")))
    demo.read_until(r"● CONNECTED")
    demo.type("\x03")
    colours = re.findall(r"\x1b\[[\d;]*m", demo.read_until(None))
    assert set(colours) <= {"\x1b[0m", "\x1b[1m"}
    assert demo.process.wait(PATIENCE_S) == 130


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(terminals: list[OnTerminal]) -> None:
    terminals.append(demo := OnTerminal("demo", env=environment(TERM="dumb")))
    demo.read_until(r"sensors connected, .* [1-9]\d* delivered")
    demo.type("\x03")
    assert "\x1b" not in demo.read_until(None)
    assert demo.process.wait(PATIENCE_S) == 130


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_it_with_the_summary_so_far(backend: str, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "hawk", "demo", "--backend", backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if re.search(r"sensors connected, .* [1-9]\d* delivered", line):
                break
        demo.send_signal(number)
        rest = demo.stdout.read()
        assert demo.wait(PATIENCE_S) == code
    assert re.search(r"[1-9]\d* sent, [1-9]\d* delivered, 0 lost, 0 duplicates", rest)
    assert "Stopped before the end." in rest


def test_json_speaks_also_after_control_c() -> None:
    command = [sys.executable, "-m", "hawk", "demo", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT) as demo:
        assert demo.stdout is not None
        give_up_at = time.monotonic() + PATIENCE_S
        while not _listens(demo.pid):
            assert demo.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        demo.send_signal(signal.SIGINT)
        outcome = json.loads(demo.stdout.read())
        assert demo.wait(PATIENCE_S) == 130
    assert list(outcome) == KEYS
    assert outcome["lost"] == 0


def _listens(pid: int) -> bool:
    """Whether that process has taken over SIGINT from Python, which comes before anything else it does on the loop."""
    fields = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    sockets = [link for link in Path(f"/proc/{pid}/fd").iterdir() if _is_socket(link)]
    return bool(int(fields["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1 and sockets)


def _is_socket(link: Path) -> bool:
    try:
        return "socket:" in os.readlink(link)
    except FileNotFoundError:
        return False  # closed since it was listed


def test_a_closed_pipe_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "hawk", "demo"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        demo.stdout.readline()
        demo.stdout.close()
        assert demo.stderr.read() == ""
        assert demo.wait(PATIENCE_S) == 0


# --------------------------------------------------------------------------------- the run, in virtual time


async def rehearsed(demo: DemoRun, *, cut_short_s: float | None = None, looks: list[Moment] | None = None) -> Judgement:
    """Play `demo` in virtual time, look at it ten times a second, and judge it."""

    async def look() -> None:
        while True:
            if looks is not None:
                looks.append(demo.moment())
            await anyio.sleep(FRAME_S)

    with anyio.move_on_after(cut_short_s):
        async with rehearsed_world(seed=1) as world, anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await demo.run(world)
            tasks.cancel_scope.cancel()
    return demo.judge()


def play(demo: DemoRun, backend: Backend, *, cut_short_s: float | None = None) -> tuple[Judgement, list[Moment]]:
    looks: list[Moment] = []

    async def main() -> Judgement:
        return await rehearsed(demo, cut_short_s=cut_short_s, looks=looks)

    return run_in_virtual_time(main, backend=backend, seed=1), looks


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_queue_fills_while_the_broker_is_away_and_drains_when_it_is_back(backend: Backend) -> None:
    judgement, looks = play(DemoRun(SHORT), backend)
    assert judgement.passed
    assert judgement.outcome.outage_s == pytest.approx(2.0, abs=0.01)
    away = [look for look in looks if look.broker_returns_in_s is not None and look.at_s < 3.0]
    assert [look.queue_size for look in away] == sorted(look.queue_size for look in away)
    assert away[-1].queue_size > 50
    assert away[-1].publisher is ConnectionState.RECONNECTING
    assert away[-1].delivered_per_s == 0
    assert away[-1].accepted_per_s == pytest.approx(30, rel=0.1)
    assert looks[-1].queue_size == 0
    assert looks[-1].delivered == looks[-1].sent > away[-1].sent


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_countdown_tells_at_its_beginning_when_the_next_dial_will_fail(backend: Backend) -> None:
    _, looks = play(DemoRun(), backend)
    waiting = [look for look in looks if look.next_try_in_s is not None and not look.broker_is_up]
    firsts = {look.failures: look for look in reversed(waiting)}
    assert len(firsts) >= 6
    for failures in range(len(firsts) - 1):
        wait, outcome = firsts[failures], firsts[failures + 1]
        assert wait.next_try_in_s is not None
        late_s = outcome.at_s - (wait.at_s + wait.next_try_in_s)
        assert (
            abs(late_s) <= 1.1 * FRAME_S + SETTINGS.reconnection.jitter_factor * SETTINGS.reconnection.max_retry_delay
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_cut_short_in_the_outage_calls_nothing_lost_that_still_waits(backend: Backend) -> None:
    demo = DemoRun(SHORT)
    judgement, _ = play(demo, backend, cut_short_s=2.05)
    outcome = judgement.outcome
    assert not demo.finished
    assert outcome.lost == 0
    assert judgement.underway == outcome.accepted - outcome.delivered > 20
    assert (outcome.outage_s, outcome.recovered_s, outcome.final_state) == (None, None, "reconnecting")
    assert "Stopped before the end." in demo_words.summary(judgement, finished=False)


def test_nothing_has_happened_before_the_run_begins() -> None:
    judgement = DemoRun().judge()
    assert judgement.outcome.sent == 0
    assert not judgement.passed


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sabotage", Sabotage)
def test_the_checkers_name_the_very_reading_that_was_sabotaged(sabotage: Sabotage, backend: Backend) -> None:
    judgement, _ = play(DemoRun(SHORT, sabotage=sabotage), backend)
    found = {
        Sabotage.LOSE: judgement.lost,
        Sabotage.REORDER: judgement.reordered,
        Sabotage.REPEAT: judgement.repeated,
    }
    topic = SENSORS[-1 if sabotage is Sabotage.REPEAT else 0].topic
    [key] = found[sabotage]
    assert key in {(topic, 4), (topic, 5)}
    assert sum(map(len, found.values())) == 1
    assert not judgement.passed


# ------------------------------------------------------------------------------------------------ the verdict


def history(*, accepted: str, arrived: str, qos: int = 1) -> History:
    """Digits stand for readings of one sensor."""
    made = History([Sensor("a", qos)])
    for digit in accepted:
        made.note_sent(("a", int(digit)))
        made.note_accepted(("a", int(digit)), 1.0)
    for digit in arrived:
        made.note_arrived(("a", int(digit)), 2.0)
    return made


def judged(made: History, state: ConnectionState = ConnectionState.CONNECTED, *, cut_short: bool = False) -> Judgement:
    return judge_history(made, reconnections=1, final_state=state, cut_short=cut_short)


@pytest.mark.parametrize(
    ("arrived", "qos", "passed"),
    [
        *[("123", 1, True), ("1223", 1, True), ("1231", 1, True), ("12", 1, False), ("213", 1, False)],
        *[("123", 2, True), ("1223", 2, False), ("1231", 2, False), ("12", 2, False), ("213", 2, False)],
    ],
)
def test_only_qos_1_may_repeat_and_nothing_may_be_missing_or_out_of_order(arrived: str, qos: int, passed: bool) -> None:
    assert judged(history(accepted="123", arrived=arrived, qos=qos)).passed is passed


def test_a_run_that_ends_without_a_connection_has_failed() -> None:
    judgement = judged(history(accepted="1", arrived="1"), ConnectionState.RECONNECTING)
    assert not judgement.passed
    assert "FAILED: at the end the connection was reconnecting" in demo_words.summary(judgement, finished=True)


def test_a_reading_whose_publish_was_cut_off_counts_neither_way() -> None:
    made = history(accepted="1", arrived="12")
    assert judged(made).outcome.duplicated == 1
    made.note_sent(("a", 2))
    judgement = judged(made, cut_short=True)
    assert (judgement.outcome.duplicated, judgement.outcome.lost, judgement.underway) == (0, 0, 0)


def test_recovery_is_over_when_the_last_of_the_backlog_arrives() -> None:
    made = History([Sensor("a", 1)])
    made.died_at_s, made.returned_at_s = 5.0, 12.0
    for number, accepted_at_s, arrived_at_s in [(0, 4.0, 4.1), (1, 6.0, 12.5), (2, 11.0, 12.75), (3, 13.0, 13.5)]:
        made.note_sent(("a", number))
        made.note_accepted(("a", number), accepted_at_s)
        made.note_arrived(("a", number), arrived_at_s)
    outcome = judged(made).outcome
    assert (outcome.outage_s, outcome.recovered_s) == (7.0, 0.75)


# ------------------------------------------------------------------------------------------------- the screen


def moment(state: ConnectionState = ConnectionState.CONNECTED, *, queue_size: int = 0) -> Moment:
    away = state is ConnectionState.RECONNECTING
    return Moment(
        at_s=7.5,
        broker_is_up=not away,
        broker_returns_in_s=4.5 if away else None,
        publisher=state,
        subscriber=state,
        failures=3 if away else 0,
        next_try_in_s=0.4 if away else None,
        queue_size=queue_size,
        queue_limit=150,
        accepted_per_s=10.0,
        delivered_per_s=0.0,
        sent=75,
        delivered=50,
        underway=25,
        repeats=0,
        reconnections=0,
    )


def drawn(shown: Moment, *, ascii_only: bool = False, colour: bool = True) -> str:
    console = Console(
        file=io.StringIO(), width=WIDTH, force_terminal=True, color_system="standard" if colour else None, _environ={}
    )
    happenings = [Happening(float(number), "x" * 200) for number in range(20)]
    console.print(draw(shown, happenings, queue_history=[0, 1, shown.queue_size], ascii_only=ascii_only))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("state", ConnectionState)
def test_every_state_has_its_word_and_a_sign_of_its_own(state: ConnectionState, ascii_only: bool) -> None:
    screen = drawn(moment(state), ascii_only=ascii_only, colour=False)
    assert state.name in screen
    [row] = [line for line in screen.splitlines() if "sensors" in line]
    others = [drawn(moment(other), ascii_only=ascii_only, colour=False) for other in ConnectionState if other != state]
    sign = row.split()[2]
    assert all(f" {sign} " not in next(line for line in other.splitlines() if "sensors" in line) for other in others)
    assert screen.isascii() is ascii_only


@pytest.mark.parametrize(
    ("state", "code"),
    [(ConnectionState.CONNECTED, 32), (ConnectionState.RECONNECTING, 33), (ConnectionState.FAILED, 31)],
)
def test_the_state_has_a_colour(state: ConnectionState, code: int) -> None:
    assert re.search(rf"\x1b\[1;{code}m. {state.name}", drawn(moment(state)))


@pytest.mark.parametrize("queue_size", [0, 1, 75, 150, 151])
def test_the_screen_never_outgrows_its_width(queue_size: int) -> None:
    lines = drawn(moment(ConnectionState.RECONNECTING, queue_size=queue_size), colour=False).splitlines()
    assert {len(line) for line in lines} == {WIDTH}
    [bar] = [line for line in lines if " of 150" in line]
    assert ("█" in bar) is (queue_size > 0)
    assert f"{queue_size} of 150" in bar


def test_the_countdown_and_the_return_are_on_the_screen() -> None:
    screen = drawn(moment(ConnectionState.RECONNECTING), colour=False)
    assert "3 failed, next try in about 0.4 s" in screen
    assert "back in 4.5 s" in screen


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_views_show_a_whole_run(backend: Backend) -> None:
    lines: list[str] = []
    file = io.StringIO()
    demo = DemoRun(SHORT)
    console = Console(file=file, width=WIDTH, force_terminal=True, color_system=None, _environ={})

    async def main() -> None:
        async with rehearsed_world(seed=1) as world, anyio.create_task_group() as tasks:
            tasks.start_soon(PlainView(demo, lines.append).watch)
            tasks.start_soon(LiveView(demo, console).watch)
            await demo.run(world)
            tasks.cancel_scope.cancel()

    run_in_virtual_time(main, backend=backend)
    assert len([line for line in lines if " * " in line]) == len(demo.happenings)
    assert sum("broker DOWN" in line for line in lines) == 2
    assert "◐ RECONNECTING" in file.getvalue()
    assert file.getvalue().endswith("\x1b[?25h")


def test_the_picture_shows_the_outage_and_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "demo.svg"
    script = ROOT / "examples" / "render_demo.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(target)])
    runpy.run_path(str(script), run_name="__main__")
    for svg in (target.read_text(encoding="utf-8"), (script.parent / "demo.svg").read_text(encoding="utf-8")):
        assert "RECONNECTING" in svg
        assert set(re.findall(r"https?://[^\"')\s]+", svg)) == {"http://www.w3.org/2000/svg"}
