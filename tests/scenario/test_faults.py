"""Every kind of fault bites: in a run made for it, what it counts is above zero, and everything is delivered after all."""

import pytest

from hawk.scenario.fault_kinds import FAULT_KINDS
from hawk.scenario.journal import FaultRan
from hawk.scenario.judging import judge
from hawk.scenario.model import Backend
from hawk.scenario.reading import read_text
from hawk.scenario.simulation import simulate
from hawk.scenario.variants import variants

FILE = """\
hawk: 1
name: one_fault
duration: 30s
client: {{outbox: durable, max_retries: null, initial_retry_delay: 500ms, max_retry_delay: 2s, health_check_interval: 4s,
         connection_timeout: 2s, ack_timeout_s: 4}}
traffic:
  - {{pub: "f/{{i}}", clients: 2, rate: 1/s, qos: 1, stop: 18s}}
  - {{sub: "f/#", qos: 1}}
timeline:
  - {{at: 5s, fault: {fault}}}
  - {{at: 6s, fault: link.reset, as: helper}}
expect:
  - lost == 0
  - reordered == 0
  - states == legal
  - state == CONNECTED at end
"""
ARGUMENTS = {
    "link.latency": "mean: 50ms, jitter: 20ms",
    "link.bandwidth": "rate: 1KB/s",
    "link.slice": "size: 2B",
    "dns.slow": "delay: 300ms",
    "host.clock_jump": "by: 1h",
}
VARIANTS = [
    *((kind, ARGUMENTS.get(kind, "")) for kind in FAULT_KINDS),
    ("link.blackhole", "way: up"),
    ("link.blackhole", "way: down"),
    ("link.bandwidth", "rate: 1KB/s, way: down"),
    ("link.cut", "way: up"),
    ("link.cut", "way: down"),
    ("link.cut", "after: 30B"),
    ("client.crash", "client: 2"),
    ("host.clock_jump", "by: 1h, direction: back"),
]


def fault(kind: str, arguments: str) -> str:
    reasons = FAULT_KINDS[kind].reasons
    name = f"{kind}(server-busy)" if reasons else kind
    lasts = ", for: 20s" if kind == "mqtt.drop_pingresp" else ", for: 4s" if FAULT_KINDS[kind].lasting else ""
    return f"{name}{lasts}{', ' if arguments else ''}{arguments}"


@pytest.mark.parametrize(("kind", "arguments"), VARIANTS, ids=[f"{k} {a}".strip() for k, a in VARIANTS])
def test_a_fault_bites_and_is_survived(kind: str, arguments: str) -> None:
    # By turns, so that both backends are seen with all families.
    backend: Backend = "trio" if VARIANTS.index((kind, arguments)) % 2 else "asyncio"
    [scenario] = variants(read_text(FILE.format(fault=fault(kind, arguments)), kind), backends=[backend])
    journal = simulate(scenario)
    [ran] = [each for each in journal.of(FaultRan) if each.fault.startswith(kind) and each.label != "helper"]
    assert ran.bites > 0
    # The reset that helps a fault of new connections finds no link after one that has ended them all.
    failed = [row for row in judge(journal).rows if not row.passed and not row.expectation.startswith("helper")]
    assert failed == []


def test_a_fault_that_touches_nothing_fails_the_run() -> None:
    """Nobody dials while names cannot be looked up."""
    content = FILE.format(fault="dns.fail, for: 500ms")
    [scenario] = variants(read_text(content, "idle"), backends=["trio"])
    verdict = judge(simulate(scenario))
    assert not verdict.passed
    assert "touched nothing" in next(row.note for row in verdict.rows if not row.passed)


def test_a_run_is_ended_early_by_its_abort_condition() -> None:
    content = FILE.format(fault="broker.down, for: 10s").replace("expect:", "abort_if: queue.depth > 3 for 1s\nexpect:")
    [scenario] = variants(read_text(content, "abort"), backends=["asyncio"])
    verdict = judge(simulate(scenario))
    assert verdict.aborted.startswith("queue.depth > 3 for 1s: it was ")
    assert not verdict.passed
