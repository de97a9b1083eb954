"""`hawk config` as a user types it: what it prints, where, and with which exit code."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from hawk import Config
from hawk.cli.app import run
from hawk.service.settings import load_settings

SECRET = "hunter2xyz"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Shell:
    """A working directory with the command in reach."""

    folder: Path
    output: pytest.CaptureFixture[str]

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)

    def config(self, *arguments: str, **variables: str) -> Ran:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(os, "environ", _clean_environment() | variables)
            code = run(["config", *arguments])
        return Ran(code, *self.output.readouterr())


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HAWK_")}


def test_a_process_ends_with_the_exit_code(shell: Shell) -> None:
    shell.write("hawk.yaml", "mqtt:\n  prot: 5\n")
    code = "import sys; from hawk.cli import main; sys.exit(main())"
    child = subprocess.run(
        [sys.executable, "-c", code, "config", "check", "hawk.yaml"],
        cwd=shell.folder,
        env=_clean_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    told = "hawk.yaml:2:3: prot: unknown setting; did you mean 'port'?\n1 problem\n"
    assert Ran(child.returncode, child.stdout, child.stderr) == Ran(2, "", told)


def test_check_is_content_with_a_good_file(shell: Shell) -> None:
    shell.write("hawk.yaml", "mqtt:\n  port: 5\n")
    assert shell.config("check", "hawk.yaml") == Ran(0, "hawk.yaml: no problems\n", "")


def test_check_lists_every_problem_on_stderr_and_ends_with_2(shell: Shell) -> None:
    shell.write("hawk.yaml", f"mqtt:\n  prot: 5\n  qos: 7\n  password: [{SECRET}]\n")
    assert shell.config("check", "hawk.yaml") == Ran(
        2,
        "",
        "hawk.yaml:2:3: prot: unknown setting; did you mean 'port'?\n"
        "hawk.yaml:3:8: qos: must be one of 0, 1, 2, not 7\n"
        "hawk.yaml:4:13: password: must be text or null, not a list\n"
        "3 problems\n",
    )


def test_check_json_is_one_object(shell: Shell) -> None:
    shell.write("good.yaml", "mqtt:\n  port: 5\n")
    ran = shell.config("check", "good.yaml", "--json")
    assert (ran.code, json.loads(ran.out)) == (0, {"file": "good.yaml", "problems": [], "warnings": []})
    shell.write("wrong.yaml", "mqtt:\n  prot: 5\n")
    ran = shell.config("check", "wrong.yaml", "--json")
    assert (ran.code, json.loads(ran.out)["problems"]) == (
        2,
        [{"at": "wrong.yaml:2:3: prot", "problem": "unknown setting; did you mean 'port'?"}],
    )


def test_check_looks_at_the_file_alone(shell: Shell) -> None:
    shell.write("hawk.yaml", "mqtt:\n")
    assert shell.config("check", "hawk.yaml", HAWK_PROT="5", HAWK_PORT="x").code == 0


def test_check_of_a_file_that_is_not_there_ends_with_2(shell: Shell) -> None:
    assert shell.config("check", "absent.yaml") == Ran(
        2, "", "absent.yaml: cannot be read: No such file or directory\n1 problem\n"
    )


def test_check_warns_of_a_password_that_everybody_can_read(shell: Shell) -> None:
    shell.write("secret.txt", SECRET)
    (shell.folder / "secret.txt").chmod(0o644)
    shell.write("hawk.yaml", "mqtt:\n  password_file: secret.txt\n")
    ran = shell.config("check", "hawk.yaml")
    assert ran.code == 0
    assert ran.err.startswith("warning: hawk.yaml:2:18: password_file: every user of this machine can read the file")
    assert SECRET not in ran.out + ran.err


@pytest.mark.parametrize("arguments", [["check"], ["check", "a", "b"], ["show", "--nonsense"], ["shwo"]])
def test_wrong_usage_ends_with_2(arguments: list[str], shell: Shell) -> None:
    assert shell.config(*arguments).code == 2


def test_show_prints_a_file_of_what_is_in_force(shell: Shell) -> None:
    shell.write("hawk.yaml", "mqtt:\n  port: 5\n  max_retries: null\n")
    ran = shell.config("show", "--config", "hawk.yaml", HAWK_BROKER="b")
    assert (ran.code, ran.err) == (0, "")
    shell.write("shown.yaml", ran.out)
    expected = load_settings(shell.folder / "hawk.yaml", environ={"HAWK_BROKER": "b"}, flags={}).config
    assert load_settings(shell.folder / "shown.yaml", environ={}, flags={}).config == expected


def test_show_origin_says_where_each_setting_came_from(shell: Shell) -> None:
    shell.write("hawk.yaml", f"mqtt:\n  port: 5\n  password: {SECRET}\n")
    ran = shell.config("show", "--config", "hawk.yaml", "--origin", HAWK_BROKER="b")
    told = dict(line.split("  # ") for line in ran.out.splitlines()[1:])
    told = {line.partition(":")[0].strip(): (line.partition(":")[2].strip(), origin) for line, origin in told.items()}
    assert told["port"] == ("5", "hawk.yaml:2")
    assert told["password"] == ('"***"', "hawk.yaml:3")
    assert told["broker"] == ("b", "environment HAWK_BROKER")
    assert told["qos"] == ("1", "default")


@pytest.mark.parametrize("more", [[], ["--origin"], ["--json"], ["--origin", "--json"]])
@pytest.mark.parametrize("section", [f"password: {SECRET}", f"url: mqtt://joe:{SECRET}@h", "password_file: secret.txt"])
def test_show_never_shows_a_password(section: str, more: list[str], shell: Shell) -> None:
    shell.write("secret.txt", SECRET)
    shell.write("hawk.yaml", f"mqtt:\n  {section}\n")
    ran = shell.config("show", "--config", "hawk.yaml", *more)
    assert ran.code == 0
    assert ("secret.txt" if section.startswith("password_file") else "***") in ran.out
    assert SECRET not in ran.out + ran.err


def test_show_json_is_one_object(shell: Shell) -> None:
    found = json.loads(shell.config("show", "--json", "--origin", HAWK_PORT="5", HAWK_PASSWORD=SECRET).out)
    assert found["mqtt"]["port"] == 5
    assert found["mqtt"]["password"] == "***"
    assert found["mqtt"]["max_retries"] == 10
    assert found["origins"]["port"] == "environment HAWK_PORT"
    assert found["origins"].keys() == found["mqtt"].keys()
    assert json.loads(shell.config("show", "--json").out).keys() == {"mqtt"}


def test_show_refuses_an_unknown_variable(shell: Shell) -> None:
    assert shell.config("show", HAWK_BROKR="x") == Ran(
        2, "", "HAWK_BROKR: unknown setting; did you mean 'HAWK_BROKER'?\n1 problem\n"
    )


def test_schema_prints_a_json_schema(shell: Shell) -> None:
    schema = json.loads(shell.config("schema").out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["mqtt"]["properties"]["port"]["maximum"] == 65_535


def test_new_prints_a_file_of_the_defaults_that_passes_check(shell: Shell) -> None:
    shell.write("hawk.yaml", shell.config("new").out)
    assert shell.config("check", "hawk.yaml").code == 0
    assert load_settings(shell.folder / "hawk.yaml", environ={}, flags={}).config == Config()


@pytest.mark.parametrize("command", ["check", "show", "schema", "new"])
def test_help_tells_of_every_command(command: str, shell: Shell) -> None:
    assert command in shell.config("--help").out
    ran = shell.config(command, "--help")
    assert ran.code == 0
    assert f"hawk config {command}" in ran.out
