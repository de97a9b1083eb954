"""A scenario with `clock: real`: the same script on sockets, against hawk's own broker behind the fault proxy."""

from pathlib import Path

import pytest

from hawk.scenario.model import Backend
from hawk.scenario.reading import read_text
from hawk.scenario.sweep import run_one
from hawk.scenario.variants import variants

FILE = """\
hawk: 1
name: on_sockets
clock: real
duration: 3s
client: {health_check_interval: 1s, initial_retry_delay: 100ms, max_retry_delay: 500ms, max_retries: null}
traffic:
  - {pub: "s/{i}", clients: 2, rate: 10/s, qos: 1}
  - {sub: "s/#"}
timeline:
  - {at: 1s, fault: broker.down, for: 500ms}
  - {at: 2s, fault: link.reset}
expect:
  - lost == 0
  - missed == 0
  - reordered == 0
  - state == CONNECTED at end
"""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_scenario_runs_on_sockets(backend: Backend, tmp_path: Path) -> None:
    [scenario] = variants(read_text(FILE, "on_sockets.yaml"), backends=[backend])
    outcome = run_one(scenario, tmp_path)
    assert outcome.passed, outcome.error or outcome.verdict
    assert outcome.journal.exists()
