"""Shrinking: of a whole night's weather, what is left is the one fault that does it."""

from dataclasses import replace

from hawk.scenario.model import Fault, FaultEntry, Scenario
from hawk.scenario.reading import read_text
from hawk.scenario.shrinking import broken_by, shrink
from hawk.scenario.writing import scenario_yaml

SWEEP = """\
hawk: 1
name: planted
seed: 1
duration: 50s
client: {max_retries: null, max_retry_delay: 4s}
traffic:
  - {pub: "p/{i}", clients: 2, rate: 1/2s, qos: 1}
  - {sub: "p/#", qos: 1}
timeline:
  - random: {from: 5s, to: 45s, every: 2s..6s, for: 1s..3s, pick: [link.reset, link.refuse, broker.pause]}
  - {at: 20s, fault: broker.down, for: 6s}
  - {at: 24300ms, fault: client.crash, for: 1s}
  - random: {from: 5s, to: 45s, every: 4s..9s, for: 1s..3s, pick: [link.cut, dns.fail]}
expect:
  - lost == 0
  - state == CONNECTED at end
"""


def planted() -> Scenario:
    """The bug is in the application: its outbox is in memory, and it is killed while the broker is away."""
    return read_text(SWEEP, "planted.yaml")


def test_a_planted_bug_is_shrunk_to_the_crash_that_shows_it() -> None:
    scenario = planted()
    assert broken_by(scenario) == {"lost == 0"}
    smallest = shrink(scenario, most_runs=30)
    assert smallest is not None
    kinds = [entry.fault.kind for entry in smallest.timeline if isinstance(entry, FaultEntry)]
    assert sorted(kinds) == ["broker.down", "client.crash"]
    assert len(smallest.traffic) == 1
    again = read_text(scenario_yaml(smallest), "minimal.yaml")
    assert broken_by(again) == {"lost == 0"}


def test_only_what_fails_alone_is_kept() -> None:
    """A search with an answer of its own: it fails as long as the third fault is there, and two clients."""
    entries = tuple(FaultEntry(float(place), Fault("link.reset"), label=f"f{place}") for place in range(1, 20))
    scenario = replace(planted(), timeline=entries, duration_s=60.0)

    def fails(candidate: Scenario) -> bool:
        labels = [entry.label for entry in candidate.timeline if isinstance(entry, FaultEntry)]
        return "f3" in labels and candidate.clients >= 1

    smallest = shrink(scenario, fails=fails)
    assert smallest is not None
    assert [entry.label for entry in smallest.timeline if isinstance(entry, FaultEntry)] == ["f3"]
    assert (smallest.clients, smallest.duration_s < 60) == (1, True)


def test_what_does_not_fail_is_not_shrunk() -> None:
    assert shrink(planted(), fails=lambda candidate: False) is None
