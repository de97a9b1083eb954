"""The README's application of 30 lines and its outage test of 15: written out as files, and run with pytest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
FILE = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    found = dict(FILE.findall(README))
    for name, text in found.items():
        (tmp_path / name).write_text(text)
    return found


def lines_of(text: str) -> int:
    return len([line for line in text.splitlines() if line.strip()])


def pytest_in(folder: Path, *chosen: str) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    others = ("cacheprovider", "xdist", "trio", "asyncio", "timeout", "hypothesispytest")
    without = [word for name in others for word in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", *without, "-W", "error", *chosen]
    child = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return child.returncode, child.stdout + child.stderr


def test_the_application_has_30_lines_and_its_test_15_and_it_passes(files: dict[str, str], tmp_path: Path) -> None:
    assert lines_of(files["thermometer.py"]) <= 30
    assert lines_of(files["test_thermometer.py"]) <= 15
    code, out = pytest_in(tmp_path)
    assert code == 0, out
    assert "6 passed" in out


def test_an_application_that_publishes_only_while_connected_fails_it(files: dict[str, str], tmp_path: Path) -> None:
    publish = '            await self.mqtt.publish("greenhouse/temperature", {"celsius": self.read()})\n'
    only_online = '            celsius = self.read()\n            if self.mqtt.connection_state.value == "connected":\n'
    only_online += '                await self.mqtt.publish("greenhouse/temperature", {"celsius": celsius})\n'
    bug = files["thermometer.py"].replace(publish, only_online)
    assert bug != files["thermometer.py"]
    (tmp_path / "thermometer.py").write_text(bug)
    code, out = pytest_in(tmp_path, "-k", "trio-seed0")
    assert code == 1, out
    assert "1 failed" in out
