"""A scenario with `clock: real`: the same script on sockets, against hawk's own broker behind the fault proxy."""

from pathlib import Path

import anyio
import pytest

from hawk import open_mqtt
from hawk.scenario.audience import Audience, SoFar
from hawk.scenario.elsewhere import moved
from hawk.scenario.journal import FaultRan, Journal, Logged, StateEntered
from hawk.scenario.judging import judge
from hawk.scenario.model import Backend, Scenario
from hawk.scenario.reading import read_text
from hawk.scenario.real import play_for_real
from hawk.scenario.sweep import run_one
from hawk.scenario.variants import variants
from hawk.testing import Broker
from hawk.testing.broker.server import SessionView

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
    seen = list[SoFar]()
    outcome = run_one(scenario, tmp_path, Audience(on_look=seen.append))
    assert outcome.passed, outcome.error or outcome.verdict
    assert outcome.journal.exists()
    instants = [so_far.now_s for so_far in seen]
    assert len(instants) >= 5
    assert instants == sorted(set(instants))
    assert seen[0].journal.of(FaultRan) == []
    assert [each.fault for each in seen[-1].journal.of(FaultRan)] == ["broker.down", "link.reset"]


ELSEWHERE = """\
hawk: 1
name: elsewhere
duration: 2s
client: {{outbox: durable, health_check_interval: 1s, initial_retry_delay: 100ms, max_retry_delay: 300ms, max_retries: null}}
traffic:
  - {{pub: "{kind}/{{i}}/a", clients: 2, rate: 10/s, qos: 1, retain: true}}
  - {{pub: "{kind}/{{i}}/b", clients: 2, rate: 5/s, qos: 2}}
  - {{sub: "{kind}/#", qos: 2}}
timeline:
  - {{at: 700ms, fault: "{fault}", for: 700ms, as: trouble}}
expect:
  - lost == 0
  - missed == 0
  - reordered == 0
  - duplicates(qos==2) == 0
  - recovery(trouble) <= 3s
  - state == CONNECTED at end
"""
STAND_INS = {
    "broker.down": "connection refused",
    "broker.restart": "",
    "broker.pause": "",
    "mqtt.connack(not-authorized)": "not authorized",
    "link.blackhole": "",
    "client.crash": "",
}
"""Faults that the proxy does in the place of a broker that is not hawk's own, and what hawk makes of them."""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_somebody_elses_broker_is_rehearsed_through_the_proxy_and_left_as_it_was(backend: Backend) -> None:
    """Hawk's own broker is that of somebody else here: all that a run knows of it is its URL."""

    async def program() -> tuple[list[Journal], list[str], dict[str, SessionView]]:
        journals: list[Journal] = []

        async def play(scenario: Scenario) -> None:
            journals.append(await play_for_real(scenario))

        retained: list[str] = []
        async with Broker() as broker:
            url = f"mqtt://127.0.0.1:{await broker.listen()}"
            async with anyio.create_task_group() as tasks:
                for fault in STAND_INS:
                    text = ELSEWHERE.format(fault=fault, kind=fault.partition("(")[0])
                    there = moved(read_text(text, "elsewhere.yaml"), clock="real", url=url)
                    tasks.start_soon(play, variants(there, backends=[backend])[0])
            sessions = broker.sessions
            async with open_mqtt(url) as mqtt, mqtt.subscribe("#") as messages:
                await (await mqtt.publish("the/end", b"")).acknowledged()
                async for message in messages:
                    if message.topic == "the/end":
                        break
                    retained.append(message.topic)
        return journals, retained, sessions

    journals, retained, sessions = anyio.run(program, backend=backend)
    assert len(journals) == len(STAND_INS)
    for journal in journals:
        [fault] = journal.of(FaultRan)
        failed = [row for row in judge(journal).rows if not row.passed]
        assert failed == [], fault
        assert fault.bites > 0
        told = [str(each.fields) for each in journal.of(Logged)]
        assert any(STAND_INS[fault.fault] in each.lower() for each in told), (fault, told)
        # Of several runs in one event loop each notes what its own hawks say.
        connected = [each for each in journal.of(Logged) if each.event in ("connected", "reconnected")]
        assert len(connected) == len([each for each in journal.of(StateEntered) if each.state == "connected"])
    assert retained == []
    assert [name for name in sessions if "client-" in name] == []


def test_a_broker_that_is_not_there_is_told_in_a_sentence(tmp_path: Path, unused_port: int) -> None:
    text = ELSEWHERE.format(fault="broker.down", kind="x")
    there = moved(read_text(text, "elsewhere.yaml"), clock="real", url=f"mqtt://127.0.0.1:{unused_port}")
    outcome = run_one(there, tmp_path)
    assert not outcome.passed
    assert outcome.error.startswith("the broker lets nobody in: ")
    assert "connection refused" in outcome.error
    assert "Traceback" not in outcome.error
