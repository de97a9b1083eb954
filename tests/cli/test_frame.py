"""What all commands share: help, usage errors, exit codes, and nothing heavy before it is needed."""

import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from cyclopts import App

from hawk.cli import MISSING
from hawk.cli.app import make_app
from hawk.testing import Broker

Run = Callable[..., Awaitable[Any]]
Here = Callable[..., int]

HEAVY = ("trio", "anyio", "hawk.interface", "pydantic", "yaml", "mqtt5")


@pytest.mark.anyio
async def test_help_tells_every_command_and_every_exit_code(run: Run, start_on_terminal: Run) -> None:
    terminal = await start_on_terminal("--help")
    result = await run("--help")
    text = result.out.decode()
    assert result.code == 0
    assert await terminal.end() == 0
    assert "Exit codes" in terminal.screen
    for word in ("pub", "sub", "broker", "demo", "config"):
        assert f" {word} " in text
    for code in (0, 1, 2, 3, 4, 5, 130):
        assert f"\n  {code:<4} " in text


@pytest.mark.parametrize("command", ["pub", "sub", "broker"])
def test_every_command_has_help_that_ends_with_the_exit_codes(
    here: Here, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    assert here(command, "--help") == 0
    text = capfd.readouterr().out
    assert f"Usage: hawk {command}" in text
    assert "130  Ctrl-C" in text


def test_help_imports_nothing_that_it_does_not_need() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "hawk", "--help"]
    told = subprocess.run(command, capture_output=True, check=True, timeout=20).stderr.decode()
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")}
    assert "cyclopts" in imported
    assert not imported & set(HEAVY)


def test_without_the_extra_one_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['cyclopts'] = None; import hawk.cli; sys.exit(hawk.cli.main())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=20)
    assert result.returncode == 2
    assert result.stderr.decode() == MISSING


UMLAUT = """\
hawk: 1
name: wüst_雨
duration: 5s
traffic:
  - {pub: a, rate: 1/s}
matrix: {backend: [trio, asyncio]}
expect:
  - {check: lost == 0, why: es heilt schön}
"""

WRONG = [
    ("bork", "Unknown command"),
    ("pub --bogus", "--bogus"),
    ("pub -t a -m x -p many", "-p"),
    ("pub -t a -m x -W 0", "-W"),
    ("pub -t a -m x -W nan", "-W"),
    ("pub -t a -m x -q 3", "-q"),
    ("pub -m x", "-t TOPIC"),
    ("pub -t a", "-m MESSAGE"),
    ("pub -t a -m x -n", "Give one of"),
    ("pub -t a/# -m x", "wildcard"),
    ("pub -t a -f /nowhere/at/all", "No such file"),
    ("pub -t a -L mqtt://h/b -m x", "give one of the two"),
    ("pub -t a -L mqtt://h -h i -m x", "flag broker"),
    ("pub -t a -L http://h -m x", "mqtt://"),
    ("pub -t a -m x -p 99999", "flag port"),
    ("pub -t a -m x --password-file /nowhere/at/all", "password_file"),
    ("sub", "-t FILTER"),
    ("sub -t a#", "a#"),
    ("sub -t a -C 0", "-C"),
    ("sub -t a --config /nowhere/at/all", "/nowhere/at/all"),
    ("broker -p 70000", "-p"),
]


@pytest.mark.parametrize(("arguments", "reason"), WRONG)
def test_wrong_usage_and_configuration_exit_2_with_a_reason(
    here: Here, capfd: pytest.CaptureFixture[str], arguments: str, reason: str
) -> None:
    assert here(*arguments.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert reason in err


def test_what_is_disabled_is_not_connected(
    here: Here, capfd: pytest.CaptureFixture[str], settings: Callable[..., str]
) -> None:
    assert here("sub", "-t", "a", "--config", settings(enabled=False)) == 2
    assert "enabled: false" in capfd.readouterr().err


@pytest.mark.anyio
async def test_an_unknown_variable_is_an_error(run: Run) -> None:
    result = await run("sub", "-t", "a", "--json", env={"HAWK_PROT": "1"})
    assert result.code == 2
    assert "HAWK_PORT" in result.err
    assert b'"exit_code": 2' in result.out


@pytest.mark.anyio
async def test_an_unreachable_broker_exits_3_after_w_and_its_cause_is_told_at_once(
    start: Run, free_tcp_port: int
) -> None:
    options = ("-t", "a", "-p", str(free_tcp_port), "-W", "2", "--json")
    children = [await start("pub", "-m", "x", *options), await start("sub", *options)]
    for child in children:
        with anyio.fail_after(20):
            await child.read_errors_until(b"nothing listens on that port (attempt 1)\n")
        assert child.process.returncode is None
    for child in children:
        result = await child.end()
        assert result.code == 3
        assert f"no broker at localhost:{free_tcp_port} within 2 s" in result.err
        assert b'"exit_code": 3' in result.out


@pytest.mark.anyio
async def test_when_hawk_gives_up_first_that_is_exit_3_too(
    run: Run, settings: Callable[..., str], free_tcp_port: int
) -> None:
    config = settings(port=free_tcp_port, max_retries=1, initial_retry_delay=0.05)
    result = await run("pub", "-t", "a", "-m", "x", "--config", config, "--quiet")
    assert (result.code, result.out) == (3, b"")
    assert result.err.count("\n") == 1
    assert "gave up after 2 attempts" in result.err


@pytest.mark.anyio
async def test_retry_waits_for_a_broker_that_comes_late(
    start: Run, settings: Callable[..., str], broker: Broker, port: str
) -> None:
    await broker.kill()
    config = settings(max_retries=0, initial_retry_delay=0.05, max_retry_delay=0.1)
    child = await start("pub", "-t", "a", "-m", "x", "-p", port, "--retry", "--config", config)
    with anyio.fail_after(20):
        await child.read_errors_until(b"(attempt 3)")
    await broker.restart()
    assert (await child.end()).code == 0
    assert broker.received() == [("a", b"x")]


@pytest.mark.anyio
async def test_a_refused_password_is_final_and_a_right_one_is_not_told(run: Run, tmp_path: Any) -> None:
    async with Broker(users={"ann": "secret"}) as broker:
        port = str(await broker.listen())
        result = await run("pub", "-t", "a", "-m", "x", "-p", port, "-u", "ann", "-P", "guess", "--retry", "--json")
        assert result.code == 4
        assert b'"reason_code": 134' in result.out
        assert "bad user name or password" in result.err
        assert "guess" not in result.err
        (tmp_path / "password").write_text("secret\n")
        (tmp_path / "password").chmod(0o600)
        file = str(tmp_path / "password")
        result = await run("pub", "-t", "a", "-m", "x", "-p", port, "-u", "ann", "--password-file", file, "-d")
        assert result.code == 0
        assert "secret" not in result.err
        result = await run("pub", "-L", f"mqtt://ann:secret@127.0.0.1:{port}/b", "-m", "y", "-d")
        assert result.code == 0
        assert "secret" not in result.err
        assert broker.received() == [("a", b"x"), ("b", b"y")]


@pytest.mark.anyio
async def test_colour_is_for_terminals_that_want_it(start_on_terminal: Run, free_tcp_port: int) -> None:
    arguments = ("pub", "-t", "a", "-m", "x", "-p", str(free_tcp_port), "-W", "0.2")
    coloured = await start_on_terminal(*arguments)
    plain = await start_on_terminal(*arguments, env={"NO_COLOR": "1"})
    assert (await coloured.end(), await plain.end()) == (3, 3)
    assert "\x1b[31mhawk: no broker" in coloured.screen
    assert "no broker" in plain.screen
    assert "\x1b" not in plain.screen


def test_help_into_a_closed_pipe_ends_quietly() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "hawk", "--help"]
    result = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, check=False, timeout=20)
    os.close(write_end)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize("command", ["demo --fast", "demo --fast --json", "config new", "scenario new", "--help"])
def test_an_output_that_takes_no_more_is_told_in_one_line(command: str) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "hawk", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (result.returncode, result.stderr) == (1, b"hawk: No space left on device\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict"])
def test_an_output_that_lacks_characters_changes_no_outcome(tmp_path: Path, encoding: str) -> None:
    command = [sys.executable, "-m", "hawk", "scenario", "run", "umlaut.yaml"]
    (tmp_path / "umlaut.yaml").write_text(UMLAUT, encoding="utf-8")
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert b"2 of 2 runs passed" in result.stdout


def commands_of(app: App, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every command, `config check` for one, and its flags."""
    for name in app:
        if name.startswith("-"):
            continue
        command = app[name]
        if any(not each.startswith("-") for each in command):
            yield from commands_of(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", {flag for each in command.assemble_argument_collection() for flag in each.names}


def test_the_readme_says_which_commands_have_json_and_config() -> None:
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split())
    said = re.search(
        r"Every command has `--help`, and `--json` except ([^.]*)\. `--config FILE` is for ([^.]*)\.", readme
    )
    assert said is not None
    without_json, with_config = (set(re.findall("`([^`]+)`", words)) for words in said.groups())
    commands = dict(commands_of(make_app()))
    assert len(commands) > 20
    assert {name for name, flags in commands.items() if "--json" not in flags} == without_json
    assert {name for name, flags in commands.items() if "--config" in flags} == with_config
