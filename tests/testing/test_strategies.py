"""The strategies draw only what hawk takes, and the machine finds what an application does wrong."""

import threading
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from hawk import Config, MQTTInterface, ReconnectionConfig
from hawk.core.topics import validate_filter, validate_topic
from hawk.payload import encode_payload
from hawk.testing.broker.topics import filter_matches
from hawk.testing.proxy_timeline import Spell, Weather, read_line
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.strategies import OutageMachine, configs, filters, messages, payloads, spells, timelines, topics
from hawk.testing.virtual_time import run
from hawk.values import Message


@given(topics())
def test_topics_are_taken(topic: str) -> None:
    validate_topic(topic)


@given(filters())
def test_filters_are_taken(topic_filter: str) -> None:
    validate_filter(topic_filter)


@given(st.data(), topics())
def test_a_filter_of_a_topic_matches_it(data: st.DataObject, topic: str) -> None:
    topic_filter = data.draw(filters(topic=topic))
    validate_filter(topic_filter)
    assert filter_matches(topic_filter, topic)


@given(payloads(most_bytes=100))
def test_payloads_are_taken(payload: Any) -> None:
    assert len(encode_payload("t", payload)) <= 100


@given(messages())
def test_messages_are_messages(message: Message) -> None:
    validate_topic(message.topic)
    assert message.qos in (0, 1, 2)


@given(configs(broker="a-boat", overflow="reject"))
def test_settings_are_taken_and_what_is_named_stays(config: Config) -> None:
    assert (config.broker, config.overflow) == ("a-boat", "reject")


def test_settings_differ() -> None:
    found: set[Config] = set()

    @settings(max_examples=30, database=None, derandomize=True)
    @given(configs())
    def draw(config: Config) -> None:
        found.add(config)

    draw()
    assert len({config.overflow for config in found}) > 1
    assert len({config.reconnection for config in found}) > 5


@given(spells())
def test_a_spell_can_be_written_down(spell: Spell) -> None:
    assert read_line(str(spell)) == spell


@settings(max_examples=20)
@given(timelines(duration_s=60, longest_s=30), st.sampled_from(["trio", "asyncio"]))
def test_after_any_timeline_the_weather_is_calm_and_hawk_delivers(timeline: list[Spell], backend: Any) -> None:
    async def program() -> None:
        config = Config(reconnection=ReconnectionConfig(max_retries=None), health_check_interval=10)
        async with Rehearsal() as rehearsal, rehearsal.open_mqtt(config) as mqtt:
            await mqtt.connect()
            await Weather(rehearsal.network).play(timeline)
            await anyio.sleep(max(0.0, 90 - anyio.current_time()))
            assert rehearsal.network.is_calm
            with anyio.fail_after(900):
                await (await mqtt.publish("a", "b")).acknowledged()

    run(program, backend=backend)


SMALL = settings(
    max_examples=8, stateful_step_count=12, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


class Logbook(OutageMachine):
    """An application that writes lines; every line must be in the broker's hands in the end, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    @rule(lines=st.integers(1, 5))
    def write(self, lines: int) -> None:
        for _ in range(lines):
            line = b"%d" % len(self.written)
            self.run(self.mqtt.publish, "log", line, qos=1)
            self.written.append(line)

    async def check_settled(self) -> None:
        arrived = list(dict.fromkeys(payload for _, payload in self.broker.received()))
        assert arrived == self.written


TestLogbook = Logbook.TestCase
TestLogbook.settings = SMALL


class Forgetful(Logbook):
    """Publishes at QoS 0, and so loses what is under way when a link breaks."""

    @rule()
    def write_and_forget(self) -> None:
        line = b"%d" % len(self.written)
        self.run(self.mqtt.publish, "log", line, qos=0)
        self.written.append(line)


def test_a_planted_bug_is_found_and_told_as_steps() -> None:
    hunting = settings(SMALL, max_examples=100, phases=(Phase.generate,), derandomize=True)
    with pytest.raises(AssertionError) as failure:
        run_state_machine_as_test(Forgetful, settings=hunting)
    steps = [note for note in failure.value.__notes__ if note.startswith("state.")]
    assert steps[0].startswith("state.begin(seed=")
    assert any("write_and_forget" in step for step in steps)


class Crashing(OutageMachine):
    """An application whose own task fails once it is disconnected."""

    async def application(self, mqtt: MQTTInterface) -> None:
        await anyio.sleep(30)
        raise LookupError("the application's own bug")


def test_an_application_that_fails_fails_the_example() -> None:
    with pytest.raises(ExceptionGroup) as failure:
        run_state_machine_as_test(Crashing, settings=settings(SMALL, max_examples=30, phases=(Phase.generate,)))
    assert failure.group_contains(LookupError)


class OnOneThread(OutageMachine):
    """Its application and its rules meet on one thread, and none is started for them."""

    async def application(self, mqtt: MQTTInterface) -> None:
        assert threading.current_thread() is threading.main_thread()

    @rule()
    def look(self) -> None:
        assert not [each for each in threading.enumerate() if "virtual" in each.name]


TestOnOneThread = OnOneThread.TestCase
TestOnOneThread.settings = SMALL


class Checked(OutageMachine):
    async def check(self) -> None:
        assert anyio.current_time() < 100, "a hundred seconds are enough"


def test_an_invariant_of_the_application_is_checked_at_every_step() -> None:
    with pytest.raises(AssertionError, match="a hundred seconds are enough"):
        run_state_machine_as_test(Checked, settings=settings(SMALL, max_examples=30, phases=(Phase.generate,)))
