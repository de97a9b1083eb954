"""Scenario files: what is read, and that everything wrong is told at once, with its place and a suggestion."""

from pathlib import Path
from time import process_time

import pytest

from hawk.errors import ConfigInvalid
from hawk.scenario.model import Fault, FaultEntry, RandomEntry, Scenario
from hawk.scenario.reading import read_scenario, read_text
from hawk.scenario.units import Rate, Span
from hawk.scenario.variants import folder_of, variants
from hawk.scenario.writing import scenario_yaml

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "scenarios").glob("*.yaml"))

MINIMAL = """\
hawk: 1
name: minimal
duration: 10s
traffic:
  - {pub: "a/{i}", rate: 1/s}
expect:
  - lost == 0
"""


def problems_of(content: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        read_text(content, "f.yaml")
    return [str(problem) for problem in caught.value.problems]


def with_entry(entry: str) -> str:
    return MINIMAL.replace("expect:", f"timeline:\n  - {entry}\nexpect:")


def test_a_minimal_file_is_read() -> None:
    scenario = read_text(MINIMAL, "f.yaml")
    assert (scenario.name, scenario.duration_s, scenario.clients, scenario.clock) == ("minimal", 10.0, 1, "virtual")
    [traffic] = scenario.traffic
    assert traffic.rate == Rate(1, 1)
    assert traffic.topic_of(3) == "a/3"


def test_everything_wrong_is_told_at_once_with_its_place() -> None:
    content = """\
hawk: 1
name: broker_flapping
duration: 100
client: {max_retrys: 3, qos: 7}
traffic:
  - {pub: "s/{i}", rate: often}
timeline:
  - {at: 30, fault: link.blakhole}
  - {at: 20s, fault: mqtt.connack(server-bussy), fr: 2s}
  - {at: 20s, fault: link.reset, for: 2s}
  - {at: 20s, fault: broker.down, fro: 2s}
expects:
  - lost == 0
"""
    assert problems_of(content) == [
        "f.yaml:1:1: expect: is missing",
        "f.yaml:3:11: duration: not a duration (try 30s, 2m, 250ms)",
        "f.yaml:4:10: client.max_retrys: unknown key; did you mean 'max_retries'?",
        "f.yaml:4:30: client.qos: must be one of 0, 1, 2, not 7",
        "f.yaml:6:26: traffic.0.rate: not a rate (try 5/s, 1/10s, poisson 2/h, burst 100 every 1m)",
        "f.yaml:8:10: timeline.0.at: not a duration (try 30s, 2m, 250ms)",
        "f.yaml:8:21: timeline.0.fault: unknown fault 'link.blakhole'; did you mean 'link.blackhole'?",
        "f.yaml:9:22: timeline.1.fault: unknown reason 'server-bussy'; did you mean 'server-busy'?",
        "f.yaml:10:39: timeline.2.for: link.reset is over at once; it has no `for`",
        "f.yaml:11:35: timeline.3.fro: unknown key; did you mean 'for'?",
        "f.yaml:12:1: expects: unknown key; did you mean 'expect'?",
    ]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("{fault: link.reset}", "timeline.0.at: is missing"),
        ("{at: 1s}", "timeline.0.fault: is missing"),
        ("{at: 11s, fault: link.reset}", "is not before the end of the script"),
        ("{at: 1s, fault: link.reset, way: up}", "link.reset has no `way`"),
        ("{at: 1s, fault: link.blackhole, way: sideways}", "unknown value 'sideways'"),
        ("{at: 1s, fault: link.latency}", "timeline.0.mean: is missing"),
        ("{at: 1s, fault: link.bandwidth, rate: 4KB}", "not a rate of bytes (try 4KB/s)"),
        ("{at: 1s, fault: host.suspend}", "timeline.0.for: is missing"),
        ("{at: 1s, fault: host.disk_full}", "without `outbox: durable`"),
        ("{at: 1s, fault: mqtt.connack}", "needs a reason"),
        ("{at: 1s, fault: link.reset(hard)}", "takes nothing in brackets"),
        ("{at: 1s, fault: link.reset, times: 3}", "needs an `every`"),
        ("{at: 1s, fault: link.reset, every: 3s}", "needs a `times`"),
        ("{at: 1s, fault: link.reset, as: calm}", "not a label"),
        ("{at: 1s, fault: link.reset, chance: 2}", "must be a number from 0 to 1"),
        ("{random: {to: 9s, every: 0s, for: 1s, pick: [link.reset]}}", "must be longer than nothing"),
        ("{random: {to: 9s, every: 3s..1s, for: 1s, pick: [link.reset]}}", "ends before it begins"),
        ("{random: {to: 9s, every: 1s, for: 1s, pick: [link.resett]}}", "did you mean 'link.reset'?"),
        ("{random: {to: 9s, every: 1s, for: 1s, pick: []}}", "timeline.0.random.pick: holds no fault to pick from"),
        ("{at: 1s, fault: client.crash, client: 7}", "timeline.0.client: there is no client 7: the file has"),
        ("{random: {to: 9s, every: 1s, for: 1s}}", "timeline.0.random.pick: is missing"),
        ("{random: {to: 9s, every: 1s, for: 1s, pick: [link.reset, host.disk_full]}}", "without `outbox: durable`"),
        ("{at: 1s, heal: some}", "unknown value 'some'"),
        ("nothing", "must be a mapping"),
    ],
)
def test_a_wrong_entry_of_the_timeline_is_told(entry: str, what: str) -> None:
    assert any(what in problem for problem in problems_of(with_entry(entry)))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("hawk: 1", "hawk: 2", "must be 1, the version of this format"),
        ("lost == 0", "losst == 0", "unknown metric 'losst'; did you mean 'lost'?"),
        ("lost == 0", "lost is 0", "not an expectation"),
        ("lost == 0", "lost <= 5s", "'5s' is not a whole number"),
        ("lost == 0", "recovery <= 5s", "recovery needs the label of a fault"),
        ("lost == 0", "recovery(outage) <= 5s", "no fault is labelled 'outage'"),
        ("lost == 0", "state == CONECTED", "did you mean 'CONNECTED'?"),
        ("lost == 0", "dropped(overflw) == 0", "did you mean 'overflow'?"),
        ("lost == 0", "lost(colour=red) == 0", "unknown filter"),
        ("lost == 0", "lost == 0 during calm", "lost is of the whole run"),
        ("rate: 1/s", "qos: 1", "traffic.0.rate: is missing"),
        ("rate: 1/s", "rate: 1/s, start: 2h", "traffic.0.start: is not before the end of the script"),
        ("rate: 1/s", "rate: 100000000/s", "traffic.0.rate: makes more than 10,000,000 messages in the whole script"),
        ("name: minimal", "name: minimal\nmatrix: {seed: 5..1}", "matrix.seed: ends before it begins"),
        ("name: minimal", "name: minimal\nmatrix: {seed: [1, 2, 1]}", "matrix.seed: holds a value twice"),
        ("rate: 1/s", "rate: 1/s, qos: 3", "must be a whole number from 0 to 2"),
        ("a/{i}", "a/#", "traffic.0.pub"),
        ("name: minimal", "name: minimal\nmatrix: {sed: 1..3}", "did you mean 'seed'?"),
        ("name: minimal", "name: minimal\nmatrix: {backend: trio}", "must be a list of values"),
        ("name: minimal", "name: minimal\nbroker: {url: 'mqtt://h', session: keep}", "give one of the two"),
        ("name: minimal", "name: minimal\nbroker: {url: 'mqtts://h'}", "stands before plain TCP only"),
        (
            "name: minimal",
            "name: minimal\nclient: {initial_retry_delay: 400s}",
            "must not be below initial_retry_delay",
        ),
        ("name: minimal", "name: minimal\nabort_if: queue > 3", "not a condition"),
        ("name: minimal", "name: on\nabout: no\nseed: yes", "must be a whole number"),
    ],
)
def test_a_wrong_value_is_told(old: str, new: str, what: str) -> None:
    assert any(what in problem for problem in problems_of(MINIMAL.replace(old, new)))


@pytest.mark.parametrize(
    ("head", "entry", "what"),
    [
        (
            "clock: real",
            "{at: 1s, fault: tls.stall}",
            "f.yaml:8:21: timeline.0.fault: tls.stall needs `clock: virtual`",
        ),
        (
            "broker: {url: 'mqtt://anna:secret@h'}",
            "{random: {to: 9s, every: 1s, for: 1s, pick: [link.reset, {fault: mqtt.no_ack}]}}",
            "f.yaml:8:62: timeline.0.random.pick.1: mqtt.no_ack can be done to hawk's own broker only, not to h:1883",
        ),
    ],
)
def test_what_cannot_be_done_where_a_file_is_played_is_told(head: str, entry: str, what: str) -> None:
    problems = problems_of(with_entry(entry).replace("name: minimal", f"name: minimal\n{head}"))
    assert problems == [what]


@pytest.mark.parametrize("nothing", ["[]", ""])
def test_a_file_that_expects_nothing_is_told(nothing: str) -> None:
    head, _, _ = MINIMAL.partition("expect:")
    [problem] = problems_of(f"{head}expect: {nothing}\n")
    assert "expects nothing, so that nothing could fail" in problem


def test_an_empty_file_and_one_that_is_no_mapping_are_told() -> None:
    assert problems_of("") == ["f.yaml:1:1: YAML: the file is empty; it needs a scenario (see `hawk scenario new`)"]
    assert "must be a mapping" in problems_of("- 1")[0]


@pytest.mark.parametrize("name", ["x" * 101, "雨" * 34])
def test_a_name_too_long_for_folders_is_told_at_its_place(name: str) -> None:
    assert problems_of(MINIMAL.replace("minimal", name)) == [
        "f.yaml:2:7: name: must be at most 100 bytes long: reports are named after it"
    ]


def test_every_run_has_a_folder_that_can_be_made_and_is_its_own(tmp_path: Path) -> None:
    names = [f"{letter * 300}/{end}" for letter in "a雨" for end in (1, 2)] + ["../up"]
    content = MINIMAL.replace("minimal", "x" * 100) + f"matrix: {{client.client_id: {names}}}\n"
    folders = [folder_of(run) for run in variants(read_text(content, "f.yaml"))]
    for name in folders:
        (tmp_path / name).mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(folders)


def test_aliases_that_repeat_one_another_are_told_at_once() -> None:
    lines = ["- &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"- &l{number} [{', '.join([f'*l{number - 1}'] * 10)}]" for number in range(1, 8)]
    bomb = MINIMAL + "timeline:\n" + "".join(f"  {line}\n" for line in lines)
    began = process_time()
    [problem] = problems_of(bomb)
    assert process_time() - began < 1
    assert problem.startswith("f.yaml:9:13: YAML: the aliases (*) of this file repeat more than 10,000 keys and values")


def test_an_alias_that_holds_itself_is_told() -> None:
    [problem] = problems_of(MINIMAL + "timeline: &a [" + ", ".join(["*a"] * 10) + "]\n")
    assert "the aliases (*) of this file repeat" in problem


def test_an_anchor_serves_many_entries() -> None:
    entries = "".join(f"  - {{at: {number}ms, fault: *torn, for: *long}}\n" for number in range(1, 2000))
    content = MINIMAL + "timeline:\n  - {at: 0s, fault: &torn broker.down, for: &long 0.1ms}\n" + entries
    assert len(read_text(content, "f.yaml").timeline) == 2000


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        read_scenario(tmp_path / "none.yaml")


def test_words_of_yaml_1_1_are_text_and_numbers_are_decimal() -> None:
    scenario = read_text(MINIMAL.replace("name: minimal", "name: on\nabout: no\nseed: 010"), "f.yaml")
    assert (scenario.name, scenario.about, scenario.seed) == ("on", "no", 10)


def test_units_are_read() -> None:
    content = MINIMAL.replace(
        "traffic:",
        "client: {health_check_interval: 1m30s, session_expiry_s: 1h, message_queue_bytes: 2MB, drain_s: 3}\ntraffic:",
    )
    assert read_text(content, "f").settings == {
        "health_check_interval": 90.0,
        "session_expiry_s": 3600,
        "message_queue_bytes": 2_000_000,
        "drain_s": 3.0,
    }


def test_faults_are_read_with_their_arguments() -> None:
    scenario = read_text(with_entry("{at: 1s, fault: link.latency, mean: 400ms, jitter: 0.3s, for: 2s, as: slow}"), "f")
    fault = Fault("link.latency", arguments={"mean": 0.4, "jitter": 0.3})
    assert scenario.timeline == (FaultEntry(1.0, fault, 2.0, "slow"),)
    scenario = read_text(with_entry("random: {to: 9s, every: 1s..2s, for: 1s, pick: [mqtt.connack(banned)]}"), "f")
    assert scenario.timeline == (RandomEntry(0, 9, Span(1, 2), Span(1, 1), (Fault("mqtt.connack", "banned"),)),)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_shipped_file_is_read_and_written_and_read_as_the_same(path: Path) -> None:
    scenario = read_scenario(path)
    assert scenario.name == path.stem
    assert scenario.about
    assert read_text(scenario_yaml(scenario), "again") == scenario


def test_what_is_written_holds_no_password() -> None:
    scenario = Scenario("s", 10.0, settings={"username": "u", "password": "hunter2"})
    assert "hunter2" not in scenario_yaml(scenario)
