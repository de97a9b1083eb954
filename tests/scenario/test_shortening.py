"""A scenario in time lapse: durations divided, rates multiplied, counts and sizes as they were, nothing below its floor."""

from pathlib import Path

import pytest

from hawk.scenario.expectations import parse
from hawk.scenario.model import AbortIf, FaultEntry, HealEntry, RandomEntry, Scenario
from hawk.scenario.moments import moments
from hawk.scenario.reading import read_scenario, read_text
from hawk.scenario.schedule import schedule
from hawk.scenario.shortening import shortened
from hawk.scenario.units import Rate, Span

FOLDER = Path(__file__).parents[2] / "scenarios"
FILE = """\
hawk: 1
name: story
duration: 10m
client: {health_check_interval: 20s, max_retry_delay: 100s, connection_timeout: 500ms, session_expiry_s: 95, max_retries: 3}
traffic:
  - {pub: "a/{i}", clients: 2, rate: 1/10s, start: 1m, stop: 5m, size: 64B}
  - {pub: b, rate: burst 7 every 1m}
  - {sub: "a/#"}
timeline:
  - {at: 1m, fault: link.latency, mean: 400ms, jitter: 100ms, for: 30s}
  - {at: 2m, fault: link.bandwidth, rate: 4KB/s}
  - {at: 3m, fault: broker.restart, times: 3, every: 40s, as: blow}
  - {at: 3m, fault: client.crash, client: 2}
  - random: {from: 3m, to: 4m, every: 5s..10s, for: 1s..2s, pick: [{fault: dns.slow, delay: 2s}]}
  - {at: 5m, heal: all}
abort_if: queue.depth > 100 for 1m
expect:
  - lost <= 1%
  - recovery(blow) <= 100s
  - detect(blow) <= 5s
  - detect(blow) >= 5s
  - attempts.rate.max <= 20/min after blow+30s
  - attempts <= 50 during blow
  - delivered >= 3 after blow+10s
  - queue.bytes.max <= 2KB
  - {check: "latency.max(qos>=1) <= 2m", why: because, abort: true}
  - state == CONNECTED at end
"""


@pytest.fixture
def ten_times() -> Scenario:
    return shortened(read_text(FILE, "story.yaml"), 10)


def test_the_script_and_its_traffic(ten_times: Scenario) -> None:
    assert ten_times.duration_s == 60
    readings, bursts, received = ten_times.traffic
    assert readings.rate == Rate(1, 1)
    assert (readings.start_s, readings.stop_s, readings.size_bytes) == (6, 30, 64)
    assert bursts.rate == Rate(7, 6, "burst")
    assert received.rate is None
    latency, bandwidth, restart, crash, drawn, heal = ten_times.timeline
    assert isinstance(latency, FaultEntry)
    assert isinstance(bandwidth, FaultEntry)
    assert isinstance(restart, FaultEntry)
    assert isinstance(crash, FaultEntry)
    assert isinstance(drawn, RandomEntry)
    assert (latency.at_s, latency.for_s) == (6, 3)
    assert latency.fault.arguments == {"mean": pytest.approx(0.04), "jitter": pytest.approx(0.01)}
    assert bandwidth.fault.arguments == {"rate": 40_000}
    assert bandwidth.for_s is None
    # What a file does not say has its length too.
    assert (restart.every_s, restart.times, restart.for_s) == (4, 3, pytest.approx(0.1))
    assert crash.fault.arguments == {"client": 2}
    assert (drawn.from_s, drawn.to_s, drawn.every, drawn.lasting) == (18, 24, Span(0.5, 1), Span(0.1, 0.2))
    assert drawn.pick[0].arguments == {"delay": pytest.approx(0.2)}
    assert heal == HealEntry(30)
    assert ten_times.abort_if == AbortIf("queue.depth > 100 for 6s", "queue.depth", ">", 100, 6)


def test_hawks_own_durations_shrink_but_not_below_what_a_machine_needs(ten_times: Scenario) -> None:
    settings = ten_times.settings
    assert settings["health_check_interval"] == 2
    assert settings["max_retry_delay"] == 10
    assert settings["initial_retry_delay"] == pytest.approx(0.1)
    assert settings["connection_timeout"] == 0.5  # shorter than the floor to begin with
    assert settings["suback_timeout_s"] == 1
    assert settings["session_expiry_s"] == 10
    assert settings["max_retries"] == 3
    assert shortened(read_text(FILE, "story.yaml"), 1000).settings["health_check_interval"] == 1
    assert ten_times.config.reconnection.max_retry_delay == 10


def test_what_is_expected(ten_times: Scenario) -> None:
    assert [each.text for each in ten_times.expectations] == [
        "lost <= 1%",
        "recovery(blow) <= 10s",
        "detect(blow) <= 3s",
        "detect(blow) >= 500ms",
        "attempts.rate.max <= 20/6s after blow+3s",
        "attempts <= 50 during blow",
        "delivered >= 3 after blow+1s",
        "queue.bytes.max <= 2KB",
        "latency.max(qos>=1) <= 12s",
        "state == CONNECTED at end",
    ]
    assert ten_times.expectations[8].why == "because"
    assert ten_times.expectations[8].abort
    for each in ten_times.expectations:
        again = parse(each.text, why=each.why, abort=each.abort)
        assert (again.metric, again.argument, again.filter, again.window) == (
            each.metric, each.argument, each.filter, each.window
        )  # fmt: skip
        assert again.limit == pytest.approx(each.limit) or again.limit == each.limit


def test_by_one_nothing_changes() -> None:
    scenario = read_text(FILE, "story.yaml")
    assert shortened(scenario, 1) == scenario


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_tells_the_same_story_message_for_message(path: Path) -> None:
    scenario = read_scenario(path)
    faster = shortened(scenario, 16)
    for line, (traffic, quick) in enumerate(zip(scenario.traffic, faster.traffic, strict=True)):
        if traffic.rate is not None:
            times = list(moments(traffic, client=1, seed=1, line=line, stop_s=scenario.duration_s))
            quick_times = list(moments(quick, client=1, seed=1, line=line, stop_s=faster.duration_s))
            assert len(times) == pytest.approx(len(quick_times), abs=1)
            assert [each / 16 for each in times[:100]] == pytest.approx(quick_times[:100])
    if not any(isinstance(entry, RandomEntry) for entry in scenario.timeline):
        # What is drawn is drawn to a millisecond.
        begun = [each.begins_at_s / 16 for each in schedule(scenario, 1)]
        assert begun == pytest.approx([each.begins_at_s for each in schedule(faster, 1)])
    assert faster.config.broker == scenario.config.broker
