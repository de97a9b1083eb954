"""One run: the same seed writes the same bytes, whatever the weather, on both backends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hawk.scenario.journal import Journal, Logged
from hawk.scenario.judging import judge
from hawk.scenario.model import Backend, Scenario
from hawk.scenario.reading import read_text
from hawk.scenario.simulation import simulate
from hawk.scenario.variants import variants

STORMY = """\
hawk: 1
name: stormy
duration: 100s
client: {outbox: durable, max_retries: null, max_retry_delay: 8s, health_check_interval: 10s}
traffic:
  - {pub: "s/{i}/a", clients: 3, rate: 1/s, qos: 1}
  - {pub: "s/{i}/b", clients: 2, rate: poisson 20/min, qos: 2}
  - {sub: "s/#", clients: 2, qos: 2}
timeline:
  - {at: 0s, fault: link.latency, mean: 50ms, jitter: 40ms}
  - {at: 40s, fault: client.crash, for: 5s}
  - {at: 70s, fault: host.suspend, for: 20s}
  - random: {from: 5s, to: 90s, every: 1s..10s, for: 1s..8s, pick: [
      link.blackhole, link.reset, link.refuse, link.cut, {fault: link.slice, size: 3B}, dns.fail, dns.slow, tls.expired,
      tls.stall, mqtt.connack(server-busy), mqtt.disconnect(server-busy), mqtt.no_ack, broker.down, broker.restart,
      broker.pause]}
expect:
  - lost == 0
  - reordered == 0
  - states == legal
  - state == CONNECTED at end
"""
KILLED_ON_A_FULL_DISK = """\
hawk: 1
name: killed_on_a_full_disk
duration: 60s
client: {outbox: durable, max_retries: null}
traffic: [{pub: "s/{i}", clients: 2, rate: 1/s}]
timeline:
  - {at: 10s, fault: host.disk_full, for: 20s}
  - {at: 15s, fault: client.crash}
expect: [lost == 0, state == CONNECTED at end]
"""


def stormy(seed: int, backend: Backend) -> Scenario:
    [variant] = variants(read_text(STORMY, "stormy.yaml"), seeds=[seed], backends=[backend])
    return variant


def written(journal: Journal) -> str:
    return "".join(journal.lines())


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_one_seed_writes_the_same_journal_twice_and_another_writes_another(backend: Backend) -> None:
    first = simulate(stormy(1, backend))
    assert written(first) == written(simulate(stormy(1, backend)))
    assert written(first) != written(simulate(stormy(2, backend)))
    verdict = judge(first)
    assert verdict.passed, verdict


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_journal_hangs_on_nothing_but_the_seed(backend: Backend, tmp_path: Path) -> None:
    """Not on the process, the hashes of its texts or the places of its objects in memory."""
    (tmp_path / "stormy.yaml").write_text(STORMY)
    told = []
    for hash_seed, clutter in (("1", 0), ("2", 100_000)):
        program = f"clutter = [object() for _ in range({clutter})]\nfrom hawk.cli import main\nmain()\n"
        command = [sys.executable, "-c", program, "scenario", "run", "stormy.yaml", "--seed", "5", "--backend", backend]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=60)
        told.append((tmp_path / "out" / f"stormy-{backend}-5" / "journal.jsonl").read_bytes())
    assert told[0] == told[1]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_program_that_cannot_open_its_outbox_is_started_again_until_it_can(backend: Backend) -> None:
    [scenario] = variants(read_text(KILLED_ON_A_FULL_DISK, "killed.yaml"), backends=[backend])
    journal = simulate(scenario)
    verdict = judge(journal)
    assert verdict.passed, verdict
    refused = [each for each in journal.of(Logged) if each.event == "not started"]
    assert {each.client for each in refused} == {"client-1", "client-2"}
    assert "no space left on device" in str(refused[0].fields["cause"])


def test_nothing_is_lost_in_random_weather(deep: bool, request: pytest.FixtureRequest) -> None:
    chosen = request.config.getoption("--seed")
    seeds = range(3, 40 if deep else 5) if chosen is None else [int(chosen)]
    for seed in seeds:
        verdict = judge(simulate(stormy(seed, "trio" if seed % 2 else "asyncio")))
        assert verdict.passed, f"seed {seed}: {[row for row in verdict.rows if not row.passed]}"
