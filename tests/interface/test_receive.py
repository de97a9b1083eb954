"""`subscribe`: what is delivered, when it is acknowledged, and what ends an iteration (DESIGN.md section 9)."""

from typing import Any

import anyio
import pytest

from hawk import Config, MessageInvalid, MQTTInterface, ReceivedMessage, ReconnectionConfig, Refused
from hawk.packets import Arrivals, ConnectRequest, SubscribeOutcome
from hawk.ports import Dialer, Link
from hawk.testing.rehearsal import Rehearsal

CONFIG = Config(
    client_id="receiver",
    reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=1.0, max_retry_delay=4.0),
)


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

    async def receive(self) -> Arrivals:
        arrivals = await self._link.receive()
        arrivals.inbound[:] = [
            packet._replace(reason_codes=(0x87,)) if isinstance(packet, SubscribeOutcome) else packet
            for packet in arrivals.inbound
        ]
        return arrivals


def acknowledgements(rehearsal: Rehearsal) -> int:
    """How many PUBACKs and PUBRECs hawk has sent."""
    return sum(
        1 for record in rehearsal.broker.records if record.direction == "in" and record.packet in ("PUBACK", "PUBREC")
    )


async def take(messages: Any) -> ReceivedMessage:
    """The next message, within a minute."""
    with anyio.fail_after(60.0):
        message = await anext(messages)
    assert isinstance(message, ReceivedMessage)
    return message


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_what_the_broker_publishes_is_received_once_in_order_at_each_qos(qos: int) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        async with mqtt.subscribe("in/+", qos=2) as messages:
            for number in range(50):
                rehearsal.broker.publish(f"in/{number}", b"%d" % number, qos=qos)
            got = [await take(messages) for _ in range(50)]
            assert [(each.topic, each.json(), each.qos) for each in got] == [(f"in/{n}", n, qos) for n in range(50)]
            assert not any(each.redelivered or each.retain for each in got)
            with anyio.move_on_after(5.0) as nothing_more:
                await anext(messages)
            assert nothing_more.cancelled_caught
        await anyio.sleep(1.0)
        assert rehearsal.broker.sessions["receiver"].in_flight == 0
        assert mqtt.stats["handled"] == mqtt.stats["received"] == 50


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_message_is_acknowledged_when_the_next_is_asked_for_and_at_the_end_of_the_block(qos: int) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        async with mqtt.subscribe("in", qos=2) as messages:
            for number in range(2):
                rehearsal.broker.publish("in", b"%d" % number, qos=qos)
            await take(messages)
            await anyio.sleep(5.0)
            assert acknowledgements(rehearsal) == 0, "still in hand"
            await take(messages)
            await anyio.sleep(5.0)
            assert acknowledgements(rehearsal) == 1
        await anyio.sleep(5.0)
        assert acknowledgements(rehearsal) == 2


async def test_a_block_that_raises_does_not_acknowledge_and_the_next_one_is_given_it_again() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:

        async def block() -> None:
            async with mqtt.subscribe("in") as messages:
                rehearsal.broker.publish("in", b"first", qos=1)
                rehearsal.broker.publish("in", b"second", qos=1)
                await take(messages)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await block()
        await anyio.sleep(1.0)
        assert acknowledgements(rehearsal) == 0
        async with mqtt.subscribe("in") as messages:
            got = [await take(messages), await take(messages)]
        assert (got[0].payload, got[0].redelivered) == (b"first", True)
        assert got[1].payload == b"second"
        await anyio.sleep(1.0)
        assert acknowledgements(rehearsal) == 2
        assert rehearsal.broker.sessions["receiver"].in_flight == 0


async def test_nothing_unhandled_is_acknowledged_when_hawk_stops_the_session_has_it() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        await mqtt.connect()
        async with mqtt.subscribe("in") as messages:
            rehearsal.broker.publish("in", b"x", qos=1)
            await take(messages)
            await mqtt.disconnect()
        assert acknowledgements(rehearsal) == 0
        assert rehearsal.broker.sessions["receiver"].queued + rehearsal.broker.sessions["receiver"].in_flight == 1


@pytest.mark.parametrize("sessions", ["keep", "lose"])
async def test_subscriptions_outlive_an_outage_whether_the_session_does_or_not(sessions: Any) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        async with mqtt.subscribe("in") as messages:
            await rehearsal.broker.kill()
            await anyio.sleep(3.0)
            await rehearsal.broker.restart(sessions=sessions)
            await mqtt.connect()
            await anyio.sleep(1.0)
            rehearsal.broker.publish("in", b"after", qos=1)
            assert (await take(messages)).payload == b"after"
        asked = [record for record in rehearsal.broker.records if record.packet == "SUBSCRIBE"]
        assert len(asked) == (1 if sessions == "keep" else 2)


async def test_a_subscription_made_without_a_link_begins_with_the_link() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        rehearsal.network.refuse()
        await anyio.sleep(1.5)
        before = anyio.current_time()
        async with mqtt.subscribe("in") as messages:
            assert anyio.current_time() - before < 0.1
            rehearsal.network.allow()
            await mqtt.connect()
            await anyio.sleep(0.1)
            rehearsal.broker.publish("in", b"x", qos=1)
            assert (await take(messages)).payload == b"x"


@pytest.mark.parametrize("settled_first", [True, False])
async def test_a_refused_subscription_raises_at_the_async_with(settled_first: bool) -> None:
    """Also when it is the first thing that a block does: asked to connect is as good as connecting."""
    async with Rehearsal() as rehearsal:
        ports = rehearsal.ports(CONFIG, dialer=RefusesSubscriptions(rehearsal.dialer(CONFIG)))
        async with rehearsal.open_mqtt(CONFIG, ports=ports) as mqtt:
            if settled_first:
                await mqtt.connect()
            with pytest.raises(Refused, match="Not authorized") as caught:
                async with mqtt.subscribe("in"):
                    pytest.fail("entered")
            assert caught.value.reason_code == 0x87
            await (await mqtt.publish("a", "the link stays")).acknowledged()
            assert mqtt.stats["total_connections"] == 1


@pytest.mark.parametrize("topic_filter", ["", "a#", "#/a", "a+", "a\0", "$share/g", "x" * 65_536, None, 7])
async def test_a_filter_that_mqtt_cannot_carry_raises_at_the_call(topic_filter: Any) -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        with pytest.raises(MessageInvalid):
            mqtt.subscribe(topic_filter)
        assert mqtt.stats["messages_failed"] == 0, "that counts what should have been published"


async def test_iterations_end_at_disconnect() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        await mqtt.connect()
        ended = anyio.Event()

        async def read() -> None:
            async with mqtt.subscribe("in") as messages:
                async for _message in messages:
                    pass
            ended.set()

        nursery.start_soon(read)
        await anyio.sleep(0.1)
        await mqtt.disconnect()
        with anyio.fail_after(1.0):
            await ended.wait()


async def test_publishing_inside_a_handler_loop_flows() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt:
        async with mqtt.subscribe("ping") as messages:
            for number in range(300):
                rehearsal.broker.publish("ping", b"%d" % number, qos=1)
            for _ in range(300):
                message = await take(messages)
                await (await mqtt.publish("pong", message.payload)).acknowledged()
        assert [int(payload) for topic, payload in rehearsal.broker.received()] == list(range(300))


async def test_two_subscriptions_each_get_what_matches_them() -> None:
    async with (
        Rehearsal() as rehearsal,
        rehearsal.open_mqtt(CONFIG) as mqtt,
        mqtt.subscribe("a/#") as ours,
        mqtt.subscribe("b/#", qos=0) as theirs,
    ):
        rehearsal.broker.publish("a/1", b"x", qos=1)
        rehearsal.broker.publish("b/1", b"y", qos=1)
        assert (await take(theirs)).topic == "b/1"
        assert (await take(ours)).topic == "a/1"


async def test_a_payload_that_is_neither_json_nor_text_ends_nothing() -> None:
    async with Rehearsal() as rehearsal, rehearsal.open_mqtt(CONFIG) as mqtt, mqtt.subscribe("in") as messages:
        for payload in (b"\xff", b'{"a": 1}'):
            rehearsal.broker.publish("in", payload, qos=1)
        bad = await take(messages)
        with pytest.raises(UnicodeDecodeError):
            bad.text()
        with pytest.raises(ValueError, match=r"codec|Expecting"):
            bad.json()
        good = await take(messages)
        assert good.json() == {"a": 1}
        assert good.text() == '{"a": 1}'
