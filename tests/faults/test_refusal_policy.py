"""What an application's `refusal_policy` may decide about each of the six packets, and what it cannot break."""

import logging
from contextlib import suppress
from itertools import pairwise
from typing import Any

import anyio
import mqtt5
import pytest

from hawk import ConnectionState, GaveUp, Judgement, Refused, Verdict

CONNECTED, FAILED = ConnectionState.CONNECTED, ConnectionState.FAILED
INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR
AGAIN, SLOWLY, AT_THE_CAP, NEVER = Verdict.AGAIN, Verdict.SLOWLY, Verdict.AT_THE_CAP, Verdict.NEVER


class Policy:
    """Says one thing about one packet, nothing about others, and remembers what it was asked."""

    def __init__(self, packet: str, verdict: Any) -> None:
        self.packet = packet
        self.verdict = verdict
        self.asked: list[Judgement] = []

    def __call__(self, judgement: Judgement) -> Any:
        self.asked.append(judgement)
        return self.verdict if judgement.packet == self.packet else None


class Refusing:
    """Refuses the first PUBLISHes, SUBSCRIBEs or UNSUBSCRIBEs of each connection, and is a good broker otherwise."""

    def __init__(self, kind: type, code: int, times: int = 1_000_000) -> None:
        self.kind = kind
        self.code = code
        self.times = times
        self.heard_at: list[float] = []

    async def __call__(self, peer: Any) -> None:
        await peer.welcome(session_present=peer.number > 1)
        while True:
            packet = await peer.hear()
            if not isinstance(packet, self.kind):
                await peer.answer(packet)
                continue
            self.heard_at.append(anyio.current_time())
            if len(self.heard_at) > self.times:
                await peer.answer(packet)
                continue
            await peer.inject("refused", self.refusal(packet))

    def refusal(self, packet: Any) -> Any:
        identifier, code = packet.packet_id, self.code
        match packet:
            case mqtt5.SubscribePacket():
                return mqtt5.SubAckPacket(identifier, [mqtt5.SubAckReasonCode(code)])
            case mqtt5.UnsubscribePacket():
                return mqtt5.UnsubAckPacket(identifier, [mqtt5.UnsubAckReasonCode(code)])
            case _ if packet.qos == 1:
                return mqtt5.PubAckPacket(identifier, reason_code=mqtt5.PubAckReasonCode(code))
            case _:
                return mqtt5.PubRecPacket(identifier, reason_code=mqtt5.PubRecReasonCode(code))

    @property
    def waits(self) -> list[int]:
        """From each of them to the next."""
        return [round(later - earlier) for earlier, later in pairwise(self.heard_at)]


# -------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(("qos", "packet"), [(1, "PUBACK"), (2, "PUBREC")])
@pytest.mark.parametrize(("verdict", "waits"), [(AGAIN, [1, 2]), (SLOWLY, [10, 20]), (AT_THE_CAP, [60, 60])], ids=str)
def test_what_hawk_would_give_up_is_sent_again(
    rehearse: Any, qos: int, packet: str, verdict: Verdict, waits: list[int]
) -> None:
    policy, refusing = Policy(packet, verdict), Refusing(mqtt5.PublishPacket, 0x87, times=2)

    async def story(world: Any) -> None:
        await world.publish("a", qos=qos)
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        assert policy.asked == [Judgement(packet, 0x87, "Not authorized", NEVER)] * 2
        assert refusing.waits == waits
        over = {"messages_failed": 0, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=over, level=INFO, arrived=["a"])

    rehearse(story, refusing, refusal_policy=policy)


@pytest.mark.parametrize(("qos", "packet"), [(1, "PUBACK"), (2, "PUBREC")])
def test_what_hawk_would_send_again_is_a_dead_letter_at_once(rehearse: Any, qos: int, packet: str) -> None:
    policy, refusing = Policy(packet, NEVER), Refusing(mqtt5.PublishPacket, 0x97, times=1)

    async def story(world: Any) -> None:
        world.excuse("a", error=Refused)
        await world.publish("a", qos=qos)
        await world.publish("b", qos=qos)
        await world.reach(lambda: not world.mqtt.stats["queue_size"])
        assert policy.asked == [Judgement(packet, 0x97, "Quota exceeded", AGAIN)]
        over = {"messages_failed": 1, "acknowledged": 1, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=["b"], logged={"message refused": 1})

    rehearse(story, refusing, refusal_policy=policy)


def test_the_limit_of_retries_holds_whatever_the_policy_says(rehearse: Any) -> None:
    policy, refusing = Policy("PUBACK", AGAIN), Refusing(mqtt5.PublishPacket, 0x87)

    async def story(world: Any) -> None:
        world.excuse("a", error=Refused)
        await world.publish("a")
        await world.reach(lambda: not world.mqtt.stats["queue_size"])
        assert len(policy.asked) == len(refusing.heard_at) == 3
        over = {"messages_failed": 1, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=[], logged={"message refused": 1})

    rehearse(story, refusing, refusal_policy=policy, message_retry_limit=2)


# ---------------------------------------------------------------------------------------------------- filters


@pytest.mark.parametrize(("verdict", "waits"), [(AGAIN, [1, 2, 4]), (AT_THE_CAP, [60, 60, 60])])
def test_a_filter_is_asked_for_again_on_its_link_and_its_subscriber_waits(
    rehearse: Any, verdict: Verdict, waits: list[int]
) -> None:
    policy, refusing = Policy("SUBACK", verdict), Refusing(mqtt5.SubscribePacket, 0x97, times=3)

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        await world.connect()
        await world.publish("a")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1, within_s=1.0)
        await world.reach(lambda: len(refusing.heard_at) == 4)
        await anyio.sleep(1000)
        assert policy.asked == [Judgement("SUBACK", 0x97, "Quota exceeded", SLOWLY)] * 3
        assert refusing.waits == waits, "and once granted it is asked for no more"
        logged = {"subscription refused": 1}
        over = {"total_disconnections": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=["a"], logged=logged)

    rehearse(story, refusing, refusal_policy=policy)


@pytest.mark.parametrize(("verdict", "asked"), [(SLOWLY, 2), (None, 2), (NEVER, 1)])
def test_a_filter_is_asked_for_on_the_next_link_or_never(rehearse: Any, verdict: Verdict | None, asked: int) -> None:
    """A subscription that outlives its refusal: it had been granted, and the broker forgot it."""
    policy, refusing = Policy("SUBACK", verdict), Refusing(mqtt5.SubscribePacket, 0x87)

    async def grant(peer: Any) -> None:
        await peer.welcome()
        await peer.answer(await peer.hear(mqtt5.SubscribePacket))
        await peer.close()

    async def forget(peer: Any) -> None:
        await peer.welcome()
        subscribe = await peer.hear(mqtt5.SubscribePacket)
        await peer.inject("refused", refusing.refusal(subscribe))
        refusing.heard_at.append(anyio.current_time())
        await anyio.sleep(100)
        await peer.close()

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        await world.reach(lambda: world.mqtt.stats["total_connections"] == 3)
        await anyio.sleep(100)
        assert len(refusing.heard_at) == asked
        refused = {"subscription refused": asked}
        world.observe(state=CONNECTED, stats={"accepted": 0}, level=WARNING, arrived=[], logged=refused)
        # Somebody who subscribes anew is asked for all the same.
        with pytest.raises(Refused):
            await world.receive()
        assert len(refusing.heard_at) == asked + 1

    rehearse(story, grant, forget, refusing, refusal_policy=policy)


async def visit(world: Any) -> None:
    """Subscribe, and leave again."""
    async with world.mqtt.subscribe("down"):
        pass


@pytest.mark.parametrize(
    ("verdict", "waits", "later"), [(AGAIN, [1, 2], 0), (SLOWLY, [], 1), (None, [], 1), (NEVER, [], 0)]
)
def test_a_filter_that_the_broker_keeps_is_left_again_later_or_never(
    rehearse: Any, verdict: Verdict | None, waits: list[int], later: int
) -> None:
    policy, refusing = Policy("UNSUBACK", verdict), Refusing(mqtt5.UnsubscribePacket, 0x83, times=len(waits) or 1)
    later_on: list[Any] = []

    async def second(peer: Any) -> None:
        await peer.welcome(session_present=True)
        while True:
            packet = await peer.hear()
            later_on.append(packet)
            await peer.answer(packet)

    async def story(world: Any) -> None:
        await world.connect()
        await visit(world)
        await anyio.sleep(100)
        assert refusing.waits == waits
        world.peer.conversations[0].reset()
        await world.reach(lambda: world.mqtt.stats["total_connections"] == 2)
        await anyio.sleep(100)
        assert sum(isinstance(packet, mqtt5.UnsubscribePacket) for packet in later_on) == later
        assert {each.packet for each in policy.asked} == {"UNSUBACK"}
        logged = {"still subscribed": 1}
        world.observe(state=CONNECTED, stats={"accepted": 0}, level=WARNING, arrived=[], logged=logged)

    rehearse(story, refusing, second, refusal_policy=policy)


def test_what_comes_for_a_filter_that_is_never_left_is_acknowledged_and_kept_for_nobody(rehearse: Any) -> None:
    policy, refusing = Policy("UNSUBACK", NEVER), Refusing(mqtt5.UnsubscribePacket, 0x83)

    async def story(world: Any) -> None:
        await world.connect()
        await visit(world)
        await anyio.sleep(1)
        (conversation,) = world.peer.conversations
        unwanted = mqtt5.PublishPacket("down", b"cargo x", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7)
        await conversation.inject("unwanted", unwanted)
        await anyio.sleep(100)
        assert conversation.count(mqtt5.PubAckPacket) == 1
        stats = {"received": 1, "unhandled": 0, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=stats, level=INFO, arrived=[], logged={"deliveries abandoned": 0})

    rehearse(story, refusing, refusal_policy=policy)


# ------------------------------------------------------------------------------------------ a policy in trouble


async def never_awaited(judgement: Judgement) -> Verdict:
    return NEVER


def raises(judgement: Judgement) -> Verdict:
    raise RuntimeError(f"the password is correct-horse, and {judgement}")


@pytest.mark.parametrize("policy", [raises, never_awaited, lambda judgement: "never"], ids=["raises", "async", "text"])
def test_a_policy_in_trouble_is_told_once_an_episode_and_the_tables_stand(rehearse: Any, policy: Any) -> None:
    refused = mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.SERVER_UNAVAILABLE)

    async def refuse_connect(peer: Any) -> None:
        await peer.hear(mqtt5.ConnectPacket)
        await peer.inject("refused", refused)

    async def refuse_all(peer: Any) -> None:
        await peer.welcome(session_present=peer.number > 3)
        for _ in range(4):
            packet = await peer.hear((mqtt5.PublishPacket, mqtt5.SubscribePacket, mqtt5.UnsubscribePacket))
            await peer.inject("refused", Refusing(type(packet), 0x87).refusal(packet))
        await peer.say(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.ADMINISTRATIVE_ACTION))
        await peer.hear_the_end()

    async def story(world: Any) -> None:
        world.excuse("a", "b", "c", "d", error=Refused)
        for link in range(2):
            await world.connect()
            with suppress(Refused):
                await world.receive()
            await world.publish("ac"[link], qos=1)
            await world.publish("bd"[link], qos=2)
            with suppress(Refused):
                await world.receive("other")
            await world.reach(lambda link=link: world.mqtt.stats["total_disconnections"] == link + 1)
        await world.reach(CONNECTED)
        stats = {"dead_lettered": 4, "total_connections": 3}
        told = world.logged("refusal_policy failed")
        # Both keepers on each link, the Connector until the first link, and until the second and the third.
        assert sorted(record.name for record in told) == [
            *["hawk.connector"] * 3,
            *["hawk.queue_keeper"] * 2,
            *["hawk.subscription_keeper"] * 2,
        ]
        assert {record.levelno for record in told} == {ERROR}
        world.observe(state=CONNECTED, stats=stats, level=ERROR, arrived=[])

    rehearse(story, refuse_connect, refuse_connect, refuse_all, refuse_all, refusal_policy=policy)


def test_never_about_a_disconnect_ends_in_failed(rehearse: Any) -> None:
    policy = Policy("DISCONNECT", NEVER)

    async def send_away(peer: Any) -> None:
        await peer.welcome()
        peer.fire("sent away")
        await peer.say(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.ADMINISTRATIVE_ACTION))
        await peer.hear_the_end()

    async def story(world: Any) -> None:
        await world.reach(FAILED)
        world.observe(state=FAILED, stats={"total_disconnections": 1}, level=ERROR, arrived=[])

    rehearse(story, send_away, refusal_policy=policy)


def test_never_about_a_connack_ends_in_failed(rehearse: Any) -> None:
    policy = Policy("CONNACK", NEVER)

    async def refuse(peer: Any) -> None:
        await peer.hear(mqtt5.ConnectPacket)
        await peer.inject("refused", mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.SERVER_BUSY))

    async def story(world: Any) -> None:
        with pytest.raises(GaveUp):
            await world.connect()
        assert policy.asked == [Judgement("CONNACK", 0x89, "Server busy", SLOWLY)]
        world.observe(state=FAILED, stats={"total_connections": 0}, level=ERROR, arrived=[])

    rehearse(story, refuse, refusal_policy=policy)
