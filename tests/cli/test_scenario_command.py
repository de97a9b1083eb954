"""`hawk scenario` as a user types it: what it prints, what it writes, and with which exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hawk.cli.app import run
from hawk.scenario.journal import Logged
from hawk.scenario.sweep import read_journal

GOOD = """\
hawk: 1
name: good
about: All is well.
duration: 5s
traffic:
  - {pub: "a/{i}", clients: 2, rate: 1/s}
timeline:
  - {at: 2s, fault: link.reset}
expect:
  - lost == 0
  - {check: state == CONNECTED at end, why: it heals}
"""
BAD = GOOD.replace("name: good", "name: bad").replace("lost == 0", "{check: connects == 2, abort: true}")
MUTED = GOOD.replace("name: good", "name: muted").replace("link.reset", "mqtt.no_ack, for: 1s")
WRONG = GOOD.replace("duration: 5s", "duration: five").replace("expect:", "expects:")


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Shell:
    folder: Path
    output: pytest.CaptureFixture[str]

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def scenario(self, *arguments: str) -> Ran:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            code = run(["scenario", *arguments])
        return Ran(code, *self.output.readouterr())


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    found = Shell(tmp_path, capsys)
    for name, text in (("good", GOOD), ("bad", BAD), ("muted", MUTED), ("wrong", WRONG)):
        found.write(f"{name}.yaml", text)
    return found


def test_a_run_that_passes_is_shown_writes_its_journal_and_is_judged_again(shell: Shell) -> None:
    ran = shell.scenario("run", "good.yaml")
    assert (ran.code, ran.err) == (0, "")
    assert "PASS 2/2" in ran.out
    journal = shell.folder / "out" / "good-trio-0" / "journal.jsonl"
    assert read_journal(journal).verdict is not None
    again = shell.scenario("replay", "out/good-trio-0")
    assert again.code == 0
    assert "PASS 2/2" in again.out


def test_a_run_that_fails_says_what_and_how_to_see_it_again(shell: Shell) -> None:
    ran = shell.scenario("run", "bad.yaml", "--seed", "3", "--backend", "asyncio")
    assert ran.code == 1
    assert "FAIL 1/2" in ran.out
    assert "replay: hawk scenario run bad.yaml --seed 3 --backend asyncio" in ran.out


def test_wrong_files_are_told_all_at_once_and_nothing_runs(shell: Shell) -> None:
    for command in ("run", "check", "list", "show"):
        ran = shell.scenario(command, "wrong.yaml")
        assert (ran.code, ran.out) == (2, "")
        assert "wrong.yaml:4:11: duration: not a duration" in ran.err
        assert "expects: unknown key; did you mean 'expect'?" in ran.err
    assert not (shell.folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["run"], "name a scenario file"),
        (["run", "none.yaml"], "cannot be read"),
        (["run", "good.yaml", "--seeds", "5..1"], "must be two numbers"),
        (["run", "good.yaml", "--seed", "1", "--seeds", "1..2"], "give one of the two"),
        (["run", "good.yaml", "--seed", "99999999999999999999"], "must be from 0 to 9223372036854775807"),
        (["run", "good.yaml", "--seeds", "1..999999999"], "10000 seeds are the most"),
        (["run", "good.yaml", "--seeds", "\u00b2..\u00b3"], "must be two numbers"),
        (["run", "good.yaml", "--jobs", "0"], "must be 1 or more, not 0"),
        (["run", "good.yaml", "--report", "good.yaml/here"], "good.yaml/here: cannot be made: Not a directory"),
        (["run", "good.yaml", "--junit", "good.yaml/j.xml"], "good.yaml: cannot be made: File exists"),
        (["run", "good.yaml", "--junit", "."], ".: cannot be written: is a folder"),
        (["run", "good.yaml", "good.yaml"], "out/good-trio-0: 2 runs would write there"),
        (["run", "good.yaml", "--shorten", "0.5", "--clock", "real"], "must be from 1 to 100000, not 0.5"),
        (["run", "good.yaml", "--shorten", "9"], "virtual time needs no shortening: give --clock real or --broker URL"),
        (["run", "good.yaml", "--speed", "fast"], "--speed: must be real, max or a number of times (10x), not 'fast'"),
        (["run", "good.yaml", "--speed", "10x", "--clock", "real"], "--speed: the real clock has one speed: give real"),
        (["run", "good.yaml", "--live", "--jobs", "2"], "--live: shows one run at a time, and --jobs 2 runs more"),
        (["run", "good.yaml", "--live", "--json"], "--live: is for people, and --json prints for programs alone"),
        (["run", "good.yaml", "--broker", "http://h"], "--broker: url must begin with mqtt://"),
        (["run", "good.yaml", "--broker", "mqtts://h"], "hawk's fault proxy stands before plain TCP only"),
        (
            ["run", "muted.yaml", "--broker", "mqtt://u:secret@h"],
            "muted.yaml:8:21: timeline.0.fault: left out: mqtt.no_ack",
        ),
        (["replay"], "name a journal.jsonl"),
        (["replay", "good.yaml"], "is not a record of a journal"),
        (["replay", "none"], "cannot be read"),
        (["diff", "none", "none"], "cannot be read"),
    ],
)
def test_wrong_usage_ends_with_2(shell: Shell, arguments: list[str], what: str) -> None:
    ran = shell.scenario(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert what in ran.err
    assert "secret" not in ran.err


def test_a_sweep_is_told_as_json_and_junit_and_a_breach_of_an_abort_ends_it(shell: Shell) -> None:
    ran = shell.scenario("run", "good.yaml", "--seeds", "1..3", "--json", "--jobs", "1", "--junit", "j/unit.xml")
    told = [json.loads(line) for line in ran.out.splitlines()]
    assert [(each["seed"], each["passed"]) for each in told] == [(1, True), (2, True), (3, True)]
    cases = ElementTree.parse(shell.folder / "j" / "unit.xml").getroot().findall("testcase")
    assert len(cases) == 3
    ran = shell.scenario("run", "bad.yaml", "--seeds", "1..3", "--jobs", "1", "--junit", "junit.xml")
    assert ran.code == 1
    assert "0 of 3 runs passed, 2 were not begun" in ran.out
    suite = ElementTree.parse(shell.folder / "junit.xml").getroot()
    assert suite.attrib["failures"] == "1"
    assert "minimal file: out/bad-seed-1-minimal.yaml" in ran.err
    assert shell.scenario("check", "out/bad-seed-1-minimal.yaml").code == 0


def test_several_runs_share_the_cores_and_one_line_each(shell: Shell) -> None:
    ran = shell.scenario("run", "good.yaml", "--seeds", "1..5", "--jobs", "2")
    assert ran.code == 0
    assert ran.out.count("PASS 2/2  good") == 5
    assert "5 of 5 runs passed" in ran.out


def test_two_journals_of_one_seed_are_the_same_and_of_two_are_not(shell: Shell) -> None:
    shell.scenario("run", "good.yaml", "--seeds", "1..2", "--jobs", "1")
    assert shell.scenario("diff", "out/good-trio-1", "out/good-trio-1").code == 0
    other = shell.scenario("diff", "out/good-trio-1", "out/good-trio-2")
    assert other.code == 1
    assert "the headers differ: seed" in other.out


def test_what_is_printed_to_begin_with_can_be_checked(shell: Shell) -> None:
    shell.write("new.yaml", shell.scenario("new").out)
    assert shell.scenario("check", "new.yaml").out == "new.yaml: no problems; 1 run\n"
    assert json.loads(shell.scenario("schema").out)["title"] == "A scripted outage for hawk"
    listed = shell.scenario("list", "good.yaml", "new.yaml").out
    assert "good" in listed
    assert "All is well." in listed


def test_show_writes_out_what_the_seed_draws(shell: Shell) -> None:
    drawn = "random: {to: 5s, every: 1s, for: 500ms, pick: [link.refuse]}"
    shell.write("drawn.yaml", GOOD.replace("{at: 2s, fault: link.reset}", drawn))
    shown = shell.scenario("show", "drawn.yaml", "--seed", "9").out
    assert shown.count("fault: link.refuse, for: ") == 4
    shell.write("shown.yaml", shown)
    assert shell.scenario("check", "shown.yaml").code == 0


def test_a_file_runs_by_the_real_clock_in_a_fraction_of_its_time(shell: Shell) -> None:
    shell.write("both.yaml", GOOD.replace("timeline:", "timeline:\n  - {at: 1s, fault: tls.stall, for: 1s, as: tls}"))
    ran = shell.scenario("run", "both.yaml", "--clock", "real", "--shorten", "4")
    assert ran.code == 0
    assert "real clock" in ran.out
    assert ran.err == "both.yaml:8:21: timeline.0.fault: left out: tls.stall needs `clock: virtual`\n"
    journal = read_journal(shell.folder / "out" / "good-trio-0")
    assert journal.header.duration_s == 1.25
    assert [each.fields for each in journal.of(Logged) if each.event == "left out"] == [{"what": ran.err.strip()}]


def is_gone(group: int) -> bool:
    """Whether every process of the group has ended, or does in a moment."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_check_and_list_speak_json(shell: Shell) -> None:
    shell.write("good.yaml", GOOD)
    ran = shell.scenario("check", "good.yaml", "--json")
    assert (ran.code, json.loads(ran.out)) == (0, {"runs": {"good.yaml": 1}, "problems": []})
    ran = shell.scenario("list", "good.yaml", "--json")
    listed = {"name": "good", "duration_s": 5.0, "runs": 1, "about": "All is well."}
    assert (ran.code, json.loads(ran.out)) == (0, listed)
    shell.write("wrong.yaml", WRONG)
    ran = shell.scenario("check", "wrong.yaml", "--json")
    assert ran.code == 2
    assert "wrong.yaml:4:11: duration" in [problem["at"] for problem in json.loads(ran.out)["problems"]]


def start_a_sweep(shell: Shell, *arguments: str) -> "subprocess.Popen[str]":
    """Two hundred runs, in a process group of their own; the first is done."""
    shell.write("long.yaml", GOOD.replace("duration: 5s", "duration: 30m"))
    command = [sys.executable, "-m", "hawk", "scenario", "run", "long.yaml", "--seeds", "1..200", *arguments]
    child = subprocess.Popen(
        [*command, "--junit", "junit.xml"],
        cwd=shell.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline()
    return child


BY_THE_REAL_CLOCK = ("--clock", "real", "--shorten", "5000")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--jobs", "1"),
        ("--jobs", "1", "--backend", "asyncio"),
        ("--jobs", "1", "--backend", "asyncio", *BY_THE_REAL_CLOCK),
        ("--jobs", "2"),
        ("--jobs", "2", *BY_THE_REAL_CLOCK),
    ],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_ctrl_c_and_sigterm_end_a_sweep_and_say_what_was_done(
    shell: Shell, arguments: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    with start_a_sweep(shell, *arguments) as child:
        # Into the midst of the next run: asyncio itself complains on stderr where its loop is interrupted in the making.
        time.sleep(0.15)
        if number is signal.SIGINT:
            # As a terminal does: every process of the group.
            os.killpg(child.pid, number)
        else:
            child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (code, "")
    assert "of 200 runs passed" in out
    assert "were not finished" in out
    assert ElementTree.parse(shell.folder / "junit.xml").getroot().findall("testcase")
    assert is_gone(child.pid)


def test_sigterm_ends_a_sweep_that_was_told_to_ignore_ctrl_c(shell: Shell) -> None:
    """As what a shell script starts in the background is."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = start_a_sweep(shell, "--jobs", "1")
    finally:
        signal.signal(signal.SIGINT, before)
    with child:
        child.send_signal(signal.SIGINT)
        assert child.stdout is not None
        assert child.stdout.readline()
        child.terminate()
        out, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (1, "")
    assert "FAIL" not in out
    assert "were not finished" in out


@pytest.mark.parametrize("arguments", [(), BY_THE_REAL_CLOCK])
def test_no_worker_outlives_a_sweep_that_is_killed(shell: Shell, arguments: tuple[str, ...]) -> None:
    with start_a_sweep(shell, "--jobs", "2", *arguments) as child:
        child.kill()
        child.communicate(timeout=30)
    assert is_gone(child.pid)
