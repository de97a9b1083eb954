"""The shape of the repository: what may stand where, and what no file may hold."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOP_LEVEL = {
    *[".ci", "examples", "hawk", "scenarios", "tests"],
    *[".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"],
}
LOCK_FILES = {"uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile.lock"}
LONGEST_SLEEP_S = 0.2

# A folder of somebody's own machine, or the address of a package index: neither means anything to a reader elsewhere.
ELSEWHERE = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/|pypi\.org|pythonhosted\.org|(?:index-url|find-links)\b")


def kept_files() -> list[Path]:
    """Every file that is or would be under version control, relative to the root; without git, every file there is."""
    if not (ROOT / ".git").exists():
        return sorted(path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    return sorted(Path(name) for name in listing.stdout.split("\0") if name and (ROOT / name).exists())


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def sleeps(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls of the `time` module's sleep, which holds up a whole test run whatever the clock of the test."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name == "sleep"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Attribute(value=ast.Name(id="time"), attr="sleep"):
                    yield node
                case ast.Name(id=name) if name in names:
                    yield node


def is_short(call: ast.Call) -> bool:
    match call.args:
        case [ast.Constant(value=int() | float() as seconds)]:
            return seconds <= LONGEST_SLEEP_S
    return False


def tools(requirements: list[str]) -> list[str]:
    return [requirement for requirement in requirements if not requirement.startswith("hawk-mqtt[")]


def extras_of_hawk(requirements: list[str]) -> set[str]:
    found = [re.fullmatch(r"hawk-mqtt\[(.+)\]", requirement) for requirement in requirements]
    return {extra for match in found if match for extra in match[1].split(",")}


def test_the_top_level_holds_only_what_the_design_names() -> None:
    assert {path.parts[0] for path in kept_files()} <= TOP_LEVEL


def test_no_lock_file_is_kept() -> None:
    assert [str(path) for path in kept_files() if path.name in LOCK_FILES] == []


def test_every_module_opens_with_a_docstring() -> None:
    modules = python_files("hawk")
    assert modules
    assert [str(path) for path in modules if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_no_file_names_a_folder_of_one_machine_or_a_package_index() -> None:
    others = [path for path in kept_files() if path != Path(__file__).relative_to(ROOT) and path.suffix != ".md"]
    texts = {path: (ROOT / path).read_text(errors="replace") for path in others}
    assert [f"{path}: {found[0]}" for path, text in texts.items() if (found := ELSEWHERE.search(text))] == []


def test_no_test_sleeps_long() -> None:
    """Virtual time sleeps as long as it likes; `tests/real` has a broker of its own that needs real time."""
    long = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in python_files("tests")
        if "real" not in path.parts
        for call in sleeps(ast.parse(path.read_text()))
        if not is_short(call)
    ]
    assert long == []


@pytest.mark.parametrize(
    ("source", "short"),
    [
        ("import time\ntime.sleep(0.2)", True),
        ("import time\ntime.sleep(0.3)", False),
        ("from time import sleep as nap\nnap(1)", False),
        ("import time\ntime.sleep(pause)", False),
    ],
)
def test_a_long_or_unknown_sleep_is_seen(source: str, short: bool) -> None:
    [call] = sleeps(ast.parse(source))
    assert is_short(call) is short


def test_the_development_extra_and_the_development_group_hold_the_same_tools() -> None:
    assert tools(PROJECT["project"]["optional-dependencies"]["dev"]) == tools(PROJECT["dependency-groups"]["dev"])


def test_the_groups_and_the_development_extra_hold_every_extra() -> None:
    extras = set(PROJECT["project"]["optional-dependencies"]) - {"dev"}
    groups = PROJECT["dependency-groups"]
    assert extras_of_hawk(groups["dev"]) | extras_of_hawk(groups["all"]) == extras
    assert extras_of_hawk(PROJECT["project"]["optional-dependencies"]["dev"]) == extras
