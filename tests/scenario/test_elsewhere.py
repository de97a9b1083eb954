"""A file played elsewhere than it was written for: what cannot be done there is left out, and told with its place."""

import pytest

from hawk.errors import ConfigInvalid
from hawk.scenario.elsewhere import moved
from hawk.scenario.model import FaultEntry, RandomEntry, Scenario
from hawk.scenario.reading import read_text

FILE = """\
hawk: 1
name: story
duration: 100s
broker: {kind: embedded, session: lose}
client: {outbox: durable}
traffic:
  - {pub: "a/b", rate: 1/s, qos: 1}
  - {pub: "a/c", rate: 1/s, qos: 2}
timeline:
  - {at: 10s, fault: broker.down, for: 5s, as: outage}
  - {at: 20s, fault: mqtt.no_ack, for: 5s, as: mute}
  - random: {from: 30s, to: 60s, every: 5s, for: 1s, pick: [link.reset, mqtt.disconnect(server-busy), host.suspend]}
  - random: {from: 30s, to: 60s, every: 5s, for: 1s, pick: [mqtt.no_ack]}
  - {at: 70s, heal: all}
expect:
  - lost == 0
  - {check: reordered == 0, why: order matters}
  - recovery(mute) <= 5s
  - recovery(outage) <= 5s
  - latency.max <= 1s after mqtt.no_ack+1s
"""


@pytest.fixture
def story() -> Scenario:
    return read_text(FILE, "story.yaml")


def test_at_a_broker_that_is_not_hawks_own_each_thing_that_is_left_out_is_told_with_its_place(story: Scenario) -> None:
    there = moved(story, clock="real", url="mqtt://anna:secret@broker:1884")
    own = "can be done to hawk's own broker only, not to broker:1884"
    assert there.left_out == (
        f"story.yaml:11:22: timeline.1.fault: left out: mqtt.no_ack {own}",
        f"story.yaml:12:73: timeline.2.random.pick.1: left out: mqtt.disconnect {own}",
        "story.yaml:12:103: timeline.2.random.pick.2: left out: host.suspend needs `clock: virtual`",
        f"story.yaml:13:61: timeline.3.random.pick.0: left out: mqtt.no_ack {own}",
        "story.yaml:4:35: broker.session: left out: hawk cannot make somebody else's broker forget its sessions",
        "story.yaml:17:5: expect.1: is asked of each quality of service alone: MQTT keeps the order of one, not of one "
        "among others",
        "story.yaml:18:5: expect.2: left out, as the fault that it is about is: mute",
        "story.yaml:20:5: expect.4: left out, as the fault that it is about is: mqtt.no_ack",
    )
    assert [type(entry).__name__ for entry in there.timeline] == ["FaultEntry", "RandomEntry", "HealEntry"]
    outage, drawn, _ = there.timeline
    assert isinstance(outage, FaultEntry)
    assert isinstance(drawn, RandomEntry)
    assert outage.label == "outage"
    assert [fault.kind for fault in drawn.pick] == ["link.reset"]
    assert [each.text for each in there.expectations] == [
        "lost == 0",
        "reordered(qos==1) == 0",
        "reordered(qos==2) == 0",
        "recovery(outage) <= 5s",
    ]
    assert there.expectations[1].why == "order matters"
    assert (there.clock, there.broker.url) == ("real", "mqtt://anna:secret@broker:1884")


def test_at_hawks_own_broker_by_the_real_clock_only_what_needs_virtual_time_is_left_out(story: Scenario) -> None:
    here = moved(story, clock="real", url=None)
    assert len(here.left_out) == 1
    assert "host.suspend needs `clock: virtual`" in here.left_out[0]
    assert here.expectations == story.expectations
    assert here.broker == story.broker


def test_a_file_of_which_no_fault_is_left_is_refused(story: Scenario) -> None:
    text = FILE.replace("broker.down, for: 5s", "tls.expired, for: 5s").replace("link.reset, ", "")
    with pytest.raises(ConfigInvalid, match=r"story\.yaml:10:22: timeline\.0\.fault: left out: tls\.expired") as raised:
        moved(read_text(text, "story.yaml"), clock="real", url="mqtt://broker")
    assert "nothing is left of its timeline" in str(raised.value)


def test_a_file_without_faults_is_none_of_those() -> None:
    calm = FILE[: FILE.index("timeline:")] + "expect: [lost == 0]\n"
    assert moved(read_text(calm, "calm.yaml"), clock="real", url="mqtt://broker").timeline == ()
