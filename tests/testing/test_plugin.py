"""pytest's plugin, in projects that are not hawk's: children with a folder and an environment of their own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

OTHER_PROJECT = Path(__file__).parents[1] / "project" / "other_project"

WRONG = """
import pytest, anyio

pytestmark = pytest.mark.filterwarnings("error")

async def test_without_a_mark(hawk_broker): pass

@pytest.mark.hawk_virtual(seed=3)
async def test_unknown_option(): pass
"""

FAILING = """
import pytest, anyio

ended = []

@pytest.fixture
async def lasting():
    yield 1
    ended.append(anyio.current_time())

@pytest.mark.hawk_virtual(backend="trio", seeds=[5])
async def test_that_fails(lasting):
    await anyio.sleep(10)
    assert lasting == 2

def test_the_fixture_of_the_failing_one_ended_in_its_own_time():
    assert ended == [10]

@pytest.mark.hawk_virtual(backend="trio")
async def test_tcp_in_virtual_time(hawk_tcp_broker): pass

async def test_without_a_mark(hawk_broker): pass

def test_that_is_ordinary(): pass
"""

ORDINARY = """
import sys

def test_what_came_along():
    print("\\nMODULES", *sys.modules)
"""


THEIRS = {
    "asyncio": """
import asyncio, anyio, pytest, pytest_asyncio

@pytest_asyncio.fixture
async def loop():
    yield asyncio.get_running_loop()

@pytest.mark.asyncio
async def test_of_theirs(loop):
    assert loop is asyncio.get_running_loop()

@pytest.mark.hawk_virtual(backend="asyncio")
async def test_of_hawk_with_a_fixture_of_theirs(loop, hawk_client):
    await anyio.sleep(3600)
    assert loop is asyncio.get_running_loop()
""",
    "trio": """
import anyio, pytest, pytest_trio, trio

@pytest_trio.trio_fixture
async def task():
    yield trio.lowlevel.current_root_task()

@pytest.mark.trio
async def test_of_theirs(task, nursery):
    assert task is trio.lowlevel.current_root_task()

@pytest.mark.hawk_virtual(backend="trio")
async def test_of_hawk_with_a_fixture_of_theirs(task, hawk_client):
    await anyio.sleep(3600)
    assert task is trio.lowlevel.current_root_task()
""",
}


def pytest_in(folder: Path, *arguments: str, beside: Collection[str] = ()) -> tuple[int, str]:
    """Exit code and output of a run in a folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    # Somebody else has none of these, if the test does not say so.
    without = [
        word
        for name in ("cacheprovider", "xdist", "trio", "asyncio", "timeout", "hypothesispytest")
        if name not in beside
        for word in ("-p", f"no:{name}")
    ]
    command = [sys.executable, "-m", "pytest", *without, *arguments]
    child = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return child.returncode, child.stdout + child.stderr


def project(folder: Path, text: str) -> Path:
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    return folder


def test_virtual_and_real_tests_of_another_project_pass(tmp_path: Path) -> None:
    """2 seeds x 2 backends, 1, 2 parameters x 2 backends, and twice 2 in real time: each once."""
    shutil.copy(OTHER_PROJECT / "test_boat.py", project(tmp_path, ""))
    code, out = pytest_in(tmp_path, "-v")
    assert code == 0, out
    assert "13 passed" in out
    assert "test_ten_minutes_without_the_broker[trio-seed1] PASSED" in out
    assert "test_methods_and_parameters_are_as_usual[1-asyncio-seed7] PASSED" in out.replace(
        "[asyncio-seed7-1]", "[1-asyncio-seed7]"
    )


SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")
ALONE = {"asyncio": (*SCOPE, "-o", "asyncio_mode=strict"), "trio": ("-o", "trio_mode=false")}
AUTO = {"asyncio": (*SCOPE, "-o", "asyncio_mode=auto"), "trio": ("-o", "trio_mode=true")}


@pytest.mark.parametrize("arguments", [ALONE, AUTO], ids=["on request", "always"])
@pytest.mark.parametrize("beside", [("asyncio",), ("trio",)], ids=" ".join)
def test_virtual_tests_are_left_alone_by_other_plugins_for_async_tests(
    tmp_path: Path, beside: tuple[str, ...], arguments: dict[str, tuple[str, ...]]
) -> None:
    """Their modes say which async tests are theirs; a test that is marked as hawk's is not, nor is any fixture of it."""
    shutil.copy(OTHER_PROJECT / "test_boat.py", project(tmp_path, ""))
    (tmp_path / "test_theirs.py").write_text(THEIRS[beside[0]])
    words = [word for name in beside for word in arguments[name]]
    code, out = pytest_in(tmp_path, "-v", "-k", "not in_real_time", *words, beside=beside)
    assert code == 0, out
    assert "11 passed" in out


def test_both_other_plugins_may_be_there_at_once(tmp_path: Path) -> None:
    shutil.copy(OTHER_PROJECT / "test_boat.py", project(tmp_path, ""))
    code, out = pytest_in(
        tmp_path, "-k", "not in_real_time", *AUTO["asyncio"], *AUTO["trio"], beside=("asyncio", "trio")
    )
    assert code == 0, out
    assert "9 passed" in out


@pytest.mark.parametrize(("name", "setting"), [("asyncio", "asyncio_mode = strict"), ("trio", "trio_mode = false")])
def test_a_test_in_real_time_that_another_plugin_takes_from_anyio_is_told(
    tmp_path: Path, name: str, setting: str
) -> None:
    """anyio's plugin cannot be where another one takes everything: such a test would hang, or run in two event loops."""
    for file in ("test_boat.py", "test_boat_again.py"):
        shutil.copy(OTHER_PROJECT / "test_boat.py", project(tmp_path, "") / file)
    code, out = pytest_in(tmp_path, *AUTO[name], beside=(name,))
    assert code == 1
    assert f"pytest-{name} takes this test marked anyio for its own; set {setting}" in out
    assert "18 passed, 8 errors" in out
    assert "AssertionError" not in out


def test_failures_are_told_with_their_seed_and_misuse_in_words(tmp_path: Path) -> None:
    (project(tmp_path, FAILING) / "test_wrong.py").write_text(WRONG)
    code, out = pytest_in(tmp_path, "--continue-on-collection-errors")
    assert code == 1, out
    assert "@pytest.mark.hawk_virtual takes backend, seeds and limit_s, not seed" in out
    assert "replay with seed=5, backend='trio'" in out
    assert "hawk_tcp_broker cannot be part of a test in virtual time: it has real sockets" in out
    assert "hawk_rehearsal is for tests marked @pytest.mark.hawk_virtual or @pytest.mark.anyio" in out
    assert re.search(r"1 failed, 2 passed, 3 errors", out), out


def test_who_does_not_use_it_pays_for_a_module_or_two_and_nothing_else(tmp_path: Path) -> None:
    """No event loop, no codec and no part of hawk comes along that is not the plugin itself."""
    there = project(tmp_path, ORDINARY)
    outs = [pytest_in(there, "-s", *without)[1] for without in ((), ("-p", "no:hawk", "-p", "no:hawk_scenarios"))]
    with_hawk, without_hawk = (set(out.partition("MODULES")[2].partition("\n")[0].split()) for out in outs)
    assert "pytest" in without_hawk
    plugins = {"hawk", "hawk.testing", "hawk.testing.plugin", "hawk.scenario", "hawk.scenario.plugin"}
    assert {name for name in with_hawk - without_hawk if not name.startswith("__editable__")} <= plugins


@pytest.mark.hawk_virtual(seeds=[3])
async def test_hawks_own_tests_may_use_it_too(hawk_broker: object, hawk_client: object, hawk_seed: int) -> None:
    assert hawk_seed == 3
