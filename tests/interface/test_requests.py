"""`request`: each answer finds its request, whatever comes late, twice, from others, over a reconnect, or not at all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from hawk import (
    Config,
    Expired,
    MessageInvalid,
    MQTTInterface,
    NoResponse,
    Properties,
    ReceivedMessage,
    ReconnectionConfig,
    Refused,
    Stopped,
)
from hawk.packets import Arrivals, ConnectRequest, SubscribeOutcome
from hawk.ports import Dialer, Link
from hawk.testing.rehearsal import Rehearsal

QUICK = ReconnectionConfig(max_retries=None, initial_retry_delay=1.0, max_retry_delay=4.0)
ASKS = Config(client_id="asks/+#", reconnection=QUICK)
ANSWERS = Config(client_id="answers", reconnection=QUICK)
RESPONSE_TOPIC = "hawk/response/asks%2F%2B%23"


class World:
    """One hawk that asks, one that answers, and the broker between them."""

    def __init__(self, rehearsal: Rehearsal, mqtt: MQTTInterface, other: MQTTInterface) -> None:
        self.rehearsal = rehearsal
        self.mqtt = mqtt
        self.other = other
        self.asked: list[ReceivedMessage] = []

    async def answer(self, request: ReceivedMessage, payload: str, *, correlation_data: bytes | None = None) -> None:
        """Answer as MQTT wants it, or under another mark."""
        topic = request.properties.response_topic
        assert topic is not None
        mark = request.properties.correlation_data if correlation_data is None else correlation_data
        await self.other.publish(topic, payload, properties=Properties(correlation_data=mark))

    async def hear(self, count: int = 1) -> list[ReceivedMessage]:
        """The requests that came, when so many have come."""
        with anyio.fail_after(600):
            while len(self.asked) < count:
                await anyio.sleep(0.01)
        return self.asked

    async def serve(self) -> None:
        """Answer everything with its payload, for ever."""
        answered = 0
        while True:
            for request in (await self.hear(answered + 1))[answered:]:
                answered += 1
                await self.answer(request, f"to {request.text()}")


@asynccontextmanager
async def a_world(seed: int = 3) -> AsyncIterator[World]:
    async with (
        Rehearsal(seed=seed) as rehearsal,
        rehearsal.open_mqtt(ANSWERS) as other,
        rehearsal.open_mqtt(ASKS) as mqtt,
        anyio.create_task_group() as tasks,
    ):
        await mqtt.connect()
        world = World(rehearsal, mqtt, other)

        async def listen() -> None:
            async with other.subscribe("ask") as messages:
                async for message in messages:
                    world.asked.append(message)

        tasks.start_soon(listen)
        await anyio.sleep(0.1)
        yield world
        tasks.cancel_scope.cancel()


async def test_a_request_carries_where_and_under_which_mark_to_answer_and_expires_with_its_patience() -> None:
    async with a_world() as world, anyio.create_task_group() as tasks:
        tasks.start_soon(world.serve)
        user = (("n", "v"),)
        response = await world.mqtt.request("ask", "x", timeout_s=5.0, properties=Properties(user=user))
        assert (response.text(), response.topic) == ("to x", RESPONSE_TOPIC)
        properties = world.asked[0].properties
        assert properties.response_topic == RESPONSE_TOPIC
        assert properties.correlation_data is not None
        assert properties == Properties(5.0, False, None, RESPONSE_TOPIC, properties.correlation_data, user)
        await world.mqtt.request("ask", "y", timeout_s=5.0, properties=Properties(expiry_s=60))
        assert world.asked[1].properties.expiry_s == 60
        tasks.cancel_scope.cancel()


async def test_many_at_once_share_one_subscription_and_each_gets_its_own_answer() -> None:
    async with a_world() as world:
        answers: dict[int, str] = {}

        async def ask(number: int) -> None:
            answers[number] = (await world.mqtt.request("ask", str(number), timeout_s=60)).text()

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(ask, number)
            for request in reversed(await world.hear(50)):
                await world.answer(request, f"to {request.text()}")
        assert answers == {number: f"to {number}" for number in range(50)}
        subscribes = [
            record
            for record in world.rehearsal.broker.records
            if record.packet == "SUBSCRIBE" and record.filters == (RESPONSE_TOPIC,)
        ]
        assert len(subscribes) == 1


async def test_a_request_that_nobody_answers_says_how_far_it_came() -> None:
    async with a_world() as world:
        began_at = anyio.current_time()
        with pytest.raises(NoResponse, match="the broker has the request") as heard:
            await world.mqtt.request("ask", "x", timeout_s=2.0)
        assert anyio.current_time() - began_at == pytest.approx(2.0)
        assert heard.value.acknowledged
        assert isinstance(heard.value, TimeoutError)
        await world.rehearsal.broker.kill()
        with pytest.raises(NoResponse, match="whether the connection is up") as unheard:
            await world.mqtt.request("ask", "x", timeout_s=2.0)
        assert not unheard.value.acknowledged
        await world.rehearsal.broker.restart()


async def test_late_foreign_and_repeated_answers_are_nobodys() -> None:
    async with a_world() as world:
        with pytest.raises(NoResponse):
            await world.mqtt.request("ask", "late", timeout_s=1.0)
        (late,) = world.asked

        async def confuse() -> None:
            request = (await world.hear(2))[1]
            await world.answer(late, "too late")
            await world.answer(request, "foreign", correlation_data=b"foreign")
            await world.other.publish(RESPONSE_TOPIC, "no mark at all")
            await world.answer(request, "right")
            await world.answer(request, "once more")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(confuse)
            assert (await world.mqtt.request("ask", "x", timeout_s=60)).text() == "right"
        await anyio.sleep(1.0)
        assert world.mqtt.stats["unhandled"] == 0, "all of them are acknowledged"
        assert world.mqtt.stats["received"] == 5


async def test_a_cancelled_request_forgets_its_answer_and_disturbs_no_other() -> None:
    async with a_world() as world, anyio.create_task_group() as tasks:
        with anyio.move_on_after(1.0) as scope:
            await world.mqtt.request("ask", "cancelled", timeout_s=60)
        assert scope.cancelled_caught
        tasks.start_soon(world.serve)
        assert (await world.mqtt.request("ask", "x", timeout_s=60)).text() == "to x"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("sessions", ["keep", "lose"])
async def test_an_answer_finds_its_request_over_a_reconnect(sessions: Any) -> None:
    async with a_world() as world:

        async def answer_after_an_outage() -> None:
            requests = await world.hear(3)
            await world.rehearsal.broker.kill()
            for request in requests:
                await world.answer(request, f"to {request.text()}")
            await world.rehearsal.broker.restart(sessions=sessions)

        answers: list[str] = []

        async def ask(number: int) -> None:
            answers.append((await world.mqtt.request("ask", str(number), timeout_s=120)).text())

        # The one that answers may be back before the one that asks: only a session that is kept bridges that.
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(ask, number)
            tasks.start_soon(answer_after_an_outage)
            if sessions == "lose":
                await world.hear(3)
                await world.mqtt.connect()
                while len(answers) < 3:
                    await anyio.sleep(1.0)
                    for request in world.asked[:3]:
                        await world.answer(request, f"to {request.text()}")
        assert sorted(answers) == ["to 0", "to 1", "to 2"]


async def test_a_request_made_without_a_link_is_answered_when_there_is_one() -> None:
    async with a_world() as world, anyio.create_task_group() as tasks:
        tasks.start_soon(world.serve)
        await world.rehearsal.broker.kill()
        await anyio.sleep(1.0)

        async def restart() -> None:
            await anyio.sleep(20)
            await world.rehearsal.broker.restart()

        tasks.start_soon(restart)
        assert (await world.mqtt.request("ask", "x", timeout_s=60)).text() == "to x"
        tasks.cancel_scope.cancel()


async def test_a_request_that_expires_before_its_patience_is_over_says_so() -> None:
    async with a_world() as world:
        await world.rehearsal.broker.kill()
        await anyio.sleep(1.0)
        with anyio.fail_after(30.0), pytest.raises(Expired):
            await world.mqtt.request("ask", "x", timeout_s=600, properties=Properties(expiry_s=5))
        await world.rehearsal.broker.restart()


async def test_a_request_that_the_broker_refuses_raises_at_once() -> None:
    async with a_world() as world:
        world.rehearsal.broker.answer_publishes_with(0x87, topic="ask")
        with anyio.fail_after(1.0), pytest.raises(Refused) as refused:
            await world.mqtt.request("ask", "x", timeout_s=60)
        assert refused.value.reason_code == 0x87


async def test_a_hawk_that_stops_tells_those_who_wait_and_leaves_no_subscription_behind() -> None:
    async with a_world() as world:
        told: list[str] = []

        async def ask() -> None:
            with pytest.raises(Stopped) as stopped:
                await world.mqtt.request("ask", "x", timeout_s=60)
            told.append(str(stopped.value))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            await world.hear(2)
            await world.mqtt.disconnect()
        assert len(told) == 2
        left = [record.filters for record in world.rehearsal.broker.records if record.packet == "UNSUBSCRIBE"]
        assert left == [(RESPONSE_TOPIC,)]
        # And once more, on a new run of the same hawk.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.serve)
            await world.mqtt.connect()
            assert (await world.mqtt.request("ask", "again", timeout_s=60)).text() == "to again"
            tasks.cancel_scope.cancel()


class RefusesSubscriptions:
    """A dialer to a broker that answers every SUBSCRIBE with 0x87."""

    def __init__(self, inner: Dialer) -> None:
        self._inner = inner

    async def dial(self, request: ConnectRequest) -> Link:
        return _Refusing(await self._inner.dial(request))


class _Refusing:
    def __init__(self, link: Link) -> None:
        self._link = link
        self.connack = link.connack
        self.send = link.send
        self.aclose = link.aclose

    @property
    def written_bytes(self) -> int:
        return self._link.written_bytes

    async def receive(self) -> Arrivals:
        arrivals = await self._link.receive()
        arrivals.inbound[:] = [
            packet._replace(reason_codes=(0x87,)) if isinstance(packet, SubscribeOutcome) else packet
            for packet in arrivals.inbound
        ]
        return arrivals


async def test_without_leave_to_receive_answers_nothing_is_asked() -> None:
    async with Rehearsal() as rehearsal:
        ports = rehearsal.ports(ASKS, dialer=RefusesSubscriptions(rehearsal.dialer(ASKS)))
        async with rehearsal.open_mqtt(ASKS, ports=ports) as mqtt:
            await mqtt.connect()
            for _ in range(2):
                with pytest.raises(Refused, match="no answer can be received") as refused:
                    await mqtt.request("ask", "x", timeout_s=60)
                assert refused.value.reason_code == 0x87
            assert rehearsal.broker.received() == []


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": "5"}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"properties": Properties(response_topic="mine")}, "sets response_topic"),
        ({"properties": Properties(correlation_data=b"mine")}, "sets response_topic"),
        ({"properties": {"user": ()}}, "must be hawk.Properties"),
        ({"properties": Properties(content_type="\0")}, "content_type has a NUL"),
        ({"qos": 3}, "qos must be 0, 1 or 2"),
    ],
)
async def test_what_cannot_be_asked_raises(settings: Any, what: str) -> None:
    async with a_world() as world:
        with pytest.raises(MessageInvalid, match=what):
            await world.mqtt.request("ask", "x", **settings)
        assert world.asked == []


async def test_a_nursery_that_is_cancelled_ends_the_subscription_too() -> None:
    async with Rehearsal() as rehearsal:
        with anyio.move_on_after(5.0) as scope:
            async with anyio.create_task_group() as nursery:
                mqtt = MQTTInterface(ASKS, nursery, ports=rehearsal.ports(ASKS))
                await mqtt.connect()
                with pytest.raises(NoResponse):
                    await mqtt.request("ask", "x", timeout_s=1.0)
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert rehearsal.broker.received() == [("ask", b"x")]


@pytest.mark.parametrize("seed", range(3))
async def test_every_request_gets_its_own_answer_while_links_break_under_it(seed: int) -> None:
    async with a_world(seed) as world:
        network, random = world.rehearsal.network, world.rehearsal.random
        network.latency_s, network.jitter_s = 0.02, 0.02
        answers: dict[int, str] = {}

        async def ask(number: int) -> None:
            await anyio.sleep(random.uniform(0.0, 20.0))
            answers[number] = (await world.mqtt.request("ask", str(number), timeout_s=600)).text()

        async def cut_links() -> None:
            while True:
                await anyio.sleep(random.uniform(0.1, 1.5))
                random.choice([network.reset_all, network.cut_all])()

        async with anyio.create_task_group() as background:
            background.start_soon(world.serve)
            background.start_soon(cut_links)
            async with anyio.create_task_group() as asking:
                for number in range(60):
                    asking.start_soon(ask, number)
            background.cancel_scope.cancel()
        assert answers == {number: f"to {number}" for number in range(60)}
        assert world.mqtt.stats["total_disconnections"] > 5
