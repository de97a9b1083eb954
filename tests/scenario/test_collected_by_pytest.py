"""`pytest scenarios/`: scenario files are tests in every project, and a failure is told with lanes and table."""

import os
import subprocess
import sys
from pathlib import Path

PASSING = """
# a comment first
hawk: 1
name: calm
duration: 10s
matrix: {backend: [trio, asyncio], seed: [1, 2]}
traffic: [{pub: a/b, rate: 1/s, qos: 1}]
expect: [lost == 0]
"""
FAILING = """
hawk: 1  # the format
name: hopeless
duration: 10s
traffic: [{pub: a/b, rate: 1/s, qos: 1}]
timeline: [{at: 2s, fault: broker.down, for: 5s, as: outage}]
expect: [detect(outage) <= 1s, "latency.max <= 10ms"]
"""
WRONG = "hawk: 1\nname: wrong\nduration: soon\n"


def pytest_in(folder: Path) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-v",
        "--continue-on-collection-errors",
        "scenarios",
    ]
    child = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return child.returncode, child.stdout + child.stderr


def test_each_run_of_a_file_is_a_test_and_other_yaml_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "scenarios"
    folder.mkdir()
    (folder / "calm.yaml").write_text(PASSING)
    (folder / "hopeless.yml").write_text(FAILING)
    (folder / "wrong.yaml").write_text(WRONG)
    (folder / "compose.yaml").write_text("services: {hawk: 1}\n")
    (folder / "other.yaml").write_text("hawk: 12\n")
    code, out = pytest_in(tmp_path)
    assert code == 1, out
    assert "wrong.yaml:3:11: duration: not a duration" in out, out
    assert "4 passed" in out
    assert "1 failed" in out
    assert "scenarios/calm.yaml::calm-asyncio-seed-2 PASSED" in out
    assert " p99 lat " in out
    assert "✗  latency.max" in out
    [kept] = tmp_path.glob("hawk-scenario-*")
    assert f"journal: {kept}" in out
    assert list(kept.rglob("journal.jsonl"))
