"""README.md, held to its word: every Python block is run, every command is one that exists.

A block under a comment `<!-- not run: why -->` is left out, and the comment must say why.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BLOCK_DEADLINE_S = 30

FENCE = re.compile(r"\s*```+\s*([\w-]*)")
NOT_RUN = re.compile(r"<!--\s*not run:?(.*?)-->")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the line its text begins at, its text, and why it is not run, if it is not."""

    language: str
    line: int
    text: str
    excuse: str | None


def blocks_of(markdown: str) -> list[Block]:
    found: list[Block] = []
    language, start, above = "", None, ""
    lines = markdown.splitlines()
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence and start is None:
            language, start = fence[1], number + 1
        elif fence and start is not None:
            excuse = NOT_RUN.fullmatch(above)
            text = "\n".join(lines[start:number]) + "\n"
            found.append(Block(language, start + 1, text, excuse[1].strip() if excuse else None))
            start, above = None, ""
        elif start is None and line.strip():
            above = line.strip()
    return found


def commands_of(blocks: list[Block]) -> list[str]:
    """What a reader is told to type. In a `console` block only lines after a `$` are typed; the rest is output."""
    commands: list[str] = []
    for block in blocks:
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        elif block.language not in ("sh", "bash", "shell"):
            continue
        for line in lines:
            command = " ".join(shlex.split(line, comments=True))
            commands += [part.strip() for part in command.split("&&") if part.strip()]
    return commands


def is_known(command: list[str]) -> bool:
    """Whether a newcomer can type `command` and find what it names."""
    match command:
        case ["pip" | "pipx", "install", *packages]:
            return bool(packages) and all(map(is_known_package, packages))
        case ["git", "clone", _] | ["cd", _]:
            return True
        case [".ci/run"]:
            return (ROOT / ".ci" / "run").is_file()
        case ["uv", "run", "--group", group, *rest]:
            return group in PROJECT["dependency-groups"] and is_known(["uv", "run", *rest])
        case ["uv", "run", "--extra", extra, *rest]:
            return extra in PROJECT["project"]["optional-dependencies"] and is_known(["uv", "run", *rest])
        case ["uv", "run", ("pytest" | "python" | "hawk"), *_]:
            return is_known(command[2:])
        case ["pytest", *arguments]:
            return all((ROOT / word.split("::")[0]).exists() for word in arguments if not word.startswith("-"))
        case ["python", script, *_]:
            return (ROOT / script).is_file()
        case [name, *_]:
            return name in PROJECT["project"].get("scripts", {})
    return False


def is_known_package(requirement: str) -> bool:
    wanted = re.fullmatch(r"([\w-]+)(?:\[([\w,]+)\])?", requirement)
    if wanted is None or wanted[1] not in ("uv", PROJECT["project"]["name"]):
        return False
    extras = wanted[2].split(",") if wanted[2] else []
    return set(extras) <= set(PROJECT["project"]["optional-dependencies"])


def complaint(block: Block, folder: Path) -> str | None:
    """Run `block` as a script of its own; what went wrong, with the line numbers of the document, or None."""
    script = folder / f"line_{block.line}.py"
    script.write_text("\n" * (block.line - 1) + block.text)
    try:
        command = [sys.executable, script.name]
        child = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=BLOCK_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"line {block.line}: not done after {BLOCK_DEADLINE_S} s"
    return None if child.returncode == 0 else f"line {block.line}: exit {child.returncode}\n{child.stderr}"


@pytest.fixture(scope="module")
def readme() -> list[Block]:
    return blocks_of((ROOT / "README.md").read_text())


@pytest.mark.timeout(300)
def test_every_python_block_of_the_readme_runs(readme: list[Block], tmp_path: Path) -> None:
    runnable = [block for block in readme if block.language == "python" and block.excuse is None]
    assert runnable, "README.md shows no Python that can be run"
    assert [said for block in runnable if (said := complaint(block, tmp_path))] == []


def test_every_block_that_is_not_run_says_why(readme: list[Block]) -> None:
    assert [block.line for block in readme if block.excuse == ""] == []


def test_every_command_of_the_readme_is_known(readme: list[Block]) -> None:
    commands = commands_of(readme)
    assert "uv run pytest" in commands, "README.md does not say how to run the tests"
    assert [command for command in commands if not is_known(command.split())] == []


EXAMPLE = """
# A document

```python
print("first")
```
<!-- not run: needs a broker -->

```python
raise SystemExit(1)
```
<!-- not run: -->
```python
```

```console
$ pip install uv && uv run pytest
12 passed
$ sudo make me happy
```
"""


def test_blocks_are_found_with_their_excuses() -> None:
    found = [(block.language, block.line, block.excuse) for block in blocks_of(EXAMPLE)]
    assert found == [("python", 5, None), ("python", 10, "needs a broker"), ("python", 14, ""), ("console", 17, None)]


def test_commands_are_told_from_their_output_and_judged() -> None:
    judged = {command: is_known(command.split()) for command in commands_of(blocks_of(EXAMPLE))}
    assert judged == {"pip install uv": True, "uv run pytest": True, "sudo make me happy": False}


@pytest.mark.parametrize(
    ("text", "fault"),
    [("print('fine')\n", None), ("\nraise ValueError('planted')\n", 'line_7.py", line 8')],
)
def test_a_block_that_fails_is_reported_at_its_own_line(text: str, fault: str | None, tmp_path: Path) -> None:
    said = complaint(Block("python", 7, text, None), tmp_path)
    assert said is None if fault is None else fault in (said or "")
