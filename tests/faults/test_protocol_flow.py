"""Faults in the flow of packets: acknowledgements missing, wrong, refused, unasked; limits; floods. Guards C2, C3, C4, C9."""

import logging
from contextlib import suppress
from itertools import pairwise
from time import process_time
from typing import Any

import anyio
import mqtt5
import pytest

from hawk import ConnectionState, Dropped, Expired, Refused

CONNECTED, RECONNECTING = ConnectionState.CONNECTED, ConnectionState.RECONNECTING
DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
REFUSED_FOR_GOOD, REFUSED_FOR_NOW = (0x87, 0x90, 0x99), (0x97, 0x80, 0x83, 0x91)


def ack(kind: int, identifier: int, code: int = 0) -> bytes:
    """A PUBACK, PUBREC, PUBREL or PUBCOMP."""
    head = bytes((kind, 3 if code else 2)) + identifier.to_bytes(2, "big")
    return head + (bytes((code,)) if code else b"")


def ack_of(publish: Any, code: int = 0) -> bytes:
    """The PUBACK or PUBREC that answers this PUBLISH."""
    return ack(PUBACK if publish.qos == 1 else PUBREC, publish.packet_id, code)


def delivery(payload: str, *, qos: int, identifier: int, duplicate: bool = False) -> Any:
    """A PUBLISH of the broker to whoever receives "down"."""
    levels = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE, mqtt5.QoS.EXACTLY_ONCE)
    number = identifier if qos else None
    return mqtt5.PublishPacket("down", payload.encode(), qos=levels[qos], packet_id=number, duplicate=duplicate)


def publishes(conversation: Any) -> list[Any]:
    return [packet for packet in conversation.heard if isinstance(packet, mqtt5.PublishPacket)]


def session(**connack: Any) -> Any:
    """A good broker that has kept the session on every connection after the first."""

    async def script(peer: Any) -> None:
        await peer.welcome(session_present=peer.number > 1, **connack)
        await peer.serve()

    return script


async def done(world: Any, count: int) -> None:
    await world.reach(lambda: world.mqtt.stats["acknowledged"] == count)


# ------------------------------------------------------------------------------- acknowledgements that fail


@pytest.mark.fault_row("no ack")
def test_what_is_not_acknowledged_is_not_repeated_on_its_link_and_costs_the_link_once(rehearse: Any) -> None:
    async def never_acknowledge(peer: Any) -> None:
        peer.fire("no ack")
        await peer.welcome()
        await peer.hear_the_end()

    async def story(world: Any) -> None:
        await world.connect()
        await world.publish("a", qos=1)
        await world.publish("b", qos=2)
        await anyio.sleep(19)
        waiting = {"queue_size": 2, "in_flight": 2, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=waiting, level=INFO, arrived=[])
        await done(world, 2)
        assert len(publishes(world.peer.conversations[0])) == 2
        over = {"queue_size": 0, "total_disconnections": 1, "messages_failed": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=["a", "b"], logged={"connection lost": 1})
        assert "acknowledged" in world.logged("connection lost")[0].getMessage()

    rehearse(story, never_acknowledge, ack_timeout_s=20.0)


@pytest.mark.fault_row("PUBACK/PUBREC 0x87 0x90 0x99")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("code", REFUSED_FOR_GOOD)
def test_a_message_refused_for_good_is_counted_told_and_frees_its_slot(rehearse: Any, qos: int, code: int) -> None:
    async def refuse_the_first(peer: Any) -> None:
        await peer.welcome(receive_max=1)
        await peer.inject("refused", ack_of(await peer.hear(mqtt5.PublishPacket), code))
        await peer.serve()

    async def story(world: Any) -> None:
        world.excuse("a", error=Refused)
        await world.publish("a", qos=qos)
        await world.publish("b", qos=qos)
        await done(world, 1)
        over = {"messages_failed": 1, "dead_lettered": 1, "queue_size": 0, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=["b"], logged={"message refused": 1})
        (conversation,) = world.peer.conversations
        assert conversation.count(mqtt5.PubRelPacket) == qos - 1, "only the one that was taken is released"

    rehearse(story, refuse_the_first)


@pytest.mark.fault_row("PUBACK 0x97 / 0x80 0x83")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("code", REFUSED_FOR_NOW)
@pytest.mark.parametrize("refusals", [3, 4])
def test_a_message_refused_for_now_is_tried_again_up_to_its_limit(
    rehearse: Any, qos: int, code: int, refusals: int
) -> None:
    tried_at: list[float] = []

    async def refuse_for_a_while(peer: Any) -> None:
        await peer.welcome()
        while True:
            packet = await peer.hear()
            if isinstance(packet, mqtt5.PublishPacket) and packet.payload == b"cargo a":
                tried_at.append(anyio.current_time())
                assert not packet.duplicate
                if len(tried_at) <= refusals:
                    await peer.inject("refused", ack_of(packet, code))
                    continue
            await peer.answer(packet)

    async def story(world: Any) -> None:
        fails = refusals == 4
        if fails:
            world.excuse("a", error=Refused)
        await world.publish("a", qos=qos)
        await world.publish("b", qos=qos)
        await world.reach(lambda: not world.mqtt.stats["queue_size"])
        assert [round(later - earlier) for earlier, later in pairwise(tried_at)] == [1, 2, 4]
        over = {"messages_failed": int(fails), "acknowledged": 2 - fails, "total_disconnections": 0}
        arrived = ["b"] if fails else ["b", "a"]
        world.observe(state=CONNECTED, stats=over, level=WARNING if fails else INFO, arrived=arrived)

    rehearse(story, refuse_for_a_while, message_retry_limit=3)


@pytest.mark.fault_row("PUBACK 0x10")
@pytest.mark.parametrize("qos", [1, 2])
def test_no_matching_subscribers_is_success(rehearse: Any, qos: int) -> None:
    async def take_for_nobody(peer: Any) -> None:
        await peer.welcome()
        packet = await peer.hear(mqtt5.PublishPacket)
        peer.peer.arrived.append(packet.payload.decode())
        await peer.inject("no matching subscribers", ack_of(packet, 0x10))
        await peer.serve()

    async def story(world: Any) -> None:
        await world.publish("a", qos=qos)
        await done(world, 1)
        over = {"messages_failed": 0, "queue_size": 0, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=over, level=INFO, arrived=["a"])

    rehearse(story, take_for_nobody)


@pytest.mark.fault_row("unknown ids, duplicate PUBACK/PUBREC, wrong ack type, reversed acks")
def test_acknowledgements_that_make_no_sense_are_ignored_and_counted_once(rehearse: Any) -> None:
    async def talk_nonsense(peer: Any) -> None:
        await peer.welcome()
        taken = [await peer.hear(mqtt5.PublishPacket) for _ in range(6)]
        ones, twos = [each for each in taken if each.qos == 1], [each for each in taken if each.qos == 2]
        peer.peer.arrived.extend(each.payload.decode() for each in taken)
        # Wrong kinds for what is under way, and identifiers that nobody has.
        wrong = [ack(PUBREC, each.packet_id) + ack(PUBCOMP, each.packet_id) for each in ones]
        wrong += [ack(PUBACK, each.packet_id) + ack(PUBCOMP, each.packet_id) for each in twos]
        unknown = [ack(kind, identifier) for kind in (PUBACK, PUBREC, PUBCOMP) for identifier in (9_000, 65_535)]
        await peer.inject("wrong and unknown", *wrong, *unknown)
        releases = [await peer.hear(mqtt5.PubRelPacket) for _ in range(2)]
        assert [(each.packet_id, int(each.reason_code)) for each in releases] == [(9_000, 0x92), (65_535, 0x92)]
        # Each twice, and the last first.
        await peer.inject("reversed and twice", *[ack_of(each) * 2 for each in reversed(taken)])
        released = [(await peer.hear(mqtt5.PubRelPacket)).packet_id for _ in twos]
        assert released == [each.packet_id for each in reversed(twos)], "in the order of the PUBRECs"
        await peer.inject("reversed and twice", *[ack(PUBCOMP, identifier) * 2 for identifier in released])
        await peer.serve()

    async def story(world: Any) -> None:
        for number in range(6):
            await world.publish(str(number), qos=1 + number % 2)
        await done(world, 6)
        over = {"accepted": 6, "messages_published": 6, "queue_size": 0, "total_disconnections": 0}
        expected = [str(number) for number in range(6)]
        world.observe(state=CONNECTED, stats=over, level=INFO, arrived=expected, logged={"connection lost": 0})

    rehearse(story, talk_nonsense, session=session())


@pytest.mark.fault_row("missing PUBCOMP, PUBREL resend, PUBCOMP 0x92")
@pytest.mark.parametrize("code", [0x00, 0x92])
def test_a_release_without_answer_is_repeated_on_the_next_link_and_the_message_never(rehearse: Any, code: int) -> None:
    async def never_complete(peer: Any) -> None:
        await peer.welcome()
        await peer.take(await peer.hear(mqtt5.PublishPacket))
        await peer.hear(mqtt5.PubRelPacket)
        await peer.close()

    async def complete(peer: Any) -> None:
        await peer.welcome(session_present=True)
        release = await peer.hear(mqtt5.PubRelPacket)
        await peer.inject("PUBCOMP", ack(PUBCOMP, release.packet_id, code))
        await peer.serve()

    async def story(world: Any) -> None:
        await world.publish("a", qos=2)
        await done(world, 1)
        assert [len(publishes(each)) for each in world.peer.conversations] == [1, 0, 0]
        over = {"acknowledged": 1, "unknown": 0, "queue_size": 0, "total_disconnections": 2}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=["a"])

    rehearse(story, never_complete, never_complete_again, complete, session=session())


async def never_complete_again(peer: Any) -> None:
    await peer.welcome(session_present=True)
    await peer.hear(mqtt5.PubRelPacket)
    peer.reset()


def test_a_publish_whose_pubrec_was_lost_is_repeated_with_dup_and_arrives_once(rehearse: Any) -> None:
    async def lose_the_pubrec(peer: Any) -> None:
        await peer.welcome(session_present=peer.number > 1)
        packet = await peer.hear(mqtt5.PublishPacket)
        assert packet.duplicate == (peer.number > 1)
        if packet.packet_id not in peer.peer.unreleased:
            peer.peer.unreleased.add(packet.packet_id)
            peer.peer.arrived.append(packet.payload.decode())
        peer.reset()

    async def story(world: Any) -> None:
        await world.publish("a", qos=2)
        await done(world, 1)
        over = {"acknowledged": 1, "queue_size": 0, "total_disconnections": 3}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=["a"])

    rehearse(story, lose_the_pubrec, lose_the_pubrec, lose_the_pubrec, session(), session=session())


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("kept", [True, False], ids=["session kept", "session lost"])
def test_what_was_sent_outlives_its_expiry_with_its_session_and_not_without(
    rehearse: Any, qos: int, kept: bool
) -> None:
    """MQTT-4.3.3-7, MQTT-4.4.0-1."""
    seen: list[Any] = []

    async def swallow(peer: Any) -> None:
        await peer.welcome()
        seen.append(await peer.hear(mqtt5.PublishPacket))
        peer.fire("no ack")
        await peer.close()

    async def come_back_late(peer: Any) -> None:
        peer.fire("late")
        await peer.welcome(session_present=kept)
        if kept:
            seen.append(await peer.hear(mqtt5.PublishPacket))
            await peer.answer(seen[-1])
        await peer.serve()

    async def story(world: Any) -> None:
        await world.connect()
        await world.publish("a", qos=qos, expiry_s=3.0)
        if not kept:
            world.excuse("a", error=Expired)
        await world.reach(lambda: not world.mqtt.stats["queue_size"])
        over = {"acknowledged": int(kept), "expired": int(not kept), "total_connections": 2, "in_flight": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=["a"] if kept else [])
        if kept:
            first, repeat = seen
            assert (repeat.packet_id, repeat.duplicate) == (first.packet_id, True)
            assert (first.message_expiry_interval, repeat.message_expiry_interval) == (3, 1)

    nobody = [OSError("nobody there")] * 3
    rehearse(story, swallow, *nobody, come_back_late, session=session())


# -------------------------------------------------------------------------------------------------- limits


@pytest.mark.fault_row("Receive Maximum 1, shrinking, after reconnect")
def test_the_receive_maximum_of_each_link_is_never_exceeded_by_new_or_repeated_ones(rehearse: Any) -> None:
    count = 12

    def limited(receive_maximum: int) -> Any:
        async def script(peer: Any) -> None:
            peer.fire("receive maximum")
            await peer.welcome(receive_max=receive_maximum, session_present=peer.number > 1)
            under_way: list[Any] = []
            # For a moment nothing is acknowledged: whatever comes until then must be within the limit.
            with anyio.move_on_after(0.5):
                while True:
                    under_way.append(await peer.hear(mqtt5.PublishPacket))
                    assert len(under_way) <= receive_maximum
            assert len(under_way) == receive_maximum
            if receive_maximum > 1:
                peer.reset()
                return
            while True:
                for packet in under_way:
                    await peer.take(packet)
                under_way = [await peer.hear(mqtt5.PublishPacket)]

        return script

    async def story(world: Any) -> None:
        await world.connect()
        for number in range(count):
            await world.publish(str(number))
        await done(world, count)
        over = {"acknowledged": count, "queue_size": 0, "total_disconnections": 2}
        expected = [str(number) for number in range(count)]
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=expected)

    rehearse(story, limited(8), limited(3), limited(1), session=session())


def test_messages_in_the_middle_of_qos_2_count_against_the_receive_maximum(rehearse: Any) -> None:
    async def never_complete(peer: Any) -> None:
        peer.fire("receive maximum")
        await peer.welcome(receive_max=2)
        for _ in range(2):
            await peer.take(await peer.hear(mqtt5.PublishPacket))
        for _ in range(2):
            await peer.hear(mqtt5.PubRelPacket)
        with anyio.move_on_after(5.0):
            raise AssertionError(f"{await peer.hear()} is beyond the Receive Maximum")
        peer.reset()

    async def story(world: Any) -> None:
        for number in range(4):
            await world.publish(str(number), qos=2)
        await done(world, 4)
        over = {"acknowledged": 4, "queue_size": 0, "total_disconnections": 1}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=["0", "1", "2", "3"])

    rehearse(story, never_complete, session(), session=session())


LIMITS_ROW = "Maximum Packet Size, Maximum QoS, Retain Available"


@pytest.mark.fault_row(LIMITS_ROW)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_packet_of_exactly_the_maximum_size_is_sent_and_one_byte_more_is_not(rehearse: Any, qos: int) -> None:
    limit = 100
    sizes: list[int] = []

    async def limit_size(peer: Any) -> None:
        peer.fire("maximum packet size")
        await peer.welcome(max_packet_size=limit)
        while True:
            packet = await peer.hear()
            sizes.append(len(packet.write()))
            await peer.answer(packet)

    async def story(world: Any) -> None:
        await world.connect()
        overhead = 2 + 2 + len("up") + (2 if qos else 0) + 1 + len("cargo ")
        fits, exceeds = "." * (limit - overhead), "." * (limit - overhead + 1)
        world.excuse(exceeds, error=Refused)
        await world.publish(exceeds, qos=qos)
        await world.publish(fits, qos=qos)
        await world.reach(lambda: not world.mqtt.stats["queue_size"])
        over = {"dead_lettered": 1, "messages_failed": 1, "messages_published": 1, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=[fits], logged={"message refused": 1})
        assert max(sizes) == limit

    rehearse(story, limit_size)


@pytest.mark.fault_row(LIMITS_ROW)
@pytest.mark.parametrize("maximum_qos", [0, 1])
def test_a_message_above_the_maximum_qos_is_told_and_never_sent_at_a_lower_one(rehearse: Any, maximum_qos: int) -> None:
    async def limit_qos(peer: Any) -> None:
        peer.fire("maximum QoS")
        await peer.welcome(max_qos=(mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE)[maximum_qos])
        await peer.serve()

    async def story(world: Any) -> None:
        await world.connect()
        taken = [str(qos) for qos in range(maximum_qos + 1)]
        refused = [str(qos) for qos in range(maximum_qos + 1, 3)]
        world.excuse(*refused, error=Refused)
        for qos in (2, 1, 0):
            await world.publish(str(qos), qos=qos)
        await world.reach(lambda: not world.mqtt.stats["queue_size"])
        over = {"messages_failed": len(refused), "messages_published": len(taken), "total_disconnections": 0}
        logged = {"message refused": 1}  # once for each reason and link
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=taken[::-1], logged=logged)
        (conversation,) = world.peer.conversations
        assert all(int(packet.qos) <= maximum_qos for packet in publishes(conversation))

    rehearse(story, limit_qos)


@pytest.mark.fault_row(LIMITS_ROW)
def test_a_retained_message_is_told_where_none_is_kept(rehearse: Any) -> None:
    async def keep_none(peer: Any) -> None:
        peer.fire("retain not available")
        await peer.welcome(retain_available=False)
        await peer.serve()

    async def story(world: Any) -> None:
        await world.connect()
        world.excuse("a", error=Refused)
        await world.publish("a", retain=True)
        await world.publish("b")
        await done(world, 1)
        over = {"messages_failed": 1, "queue_size": 0, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=["b"], logged={"message refused": 1})

    rehearse(story, keep_none)


def test_limits_that_shrink_on_the_next_link_end_what_is_under_way_and_no_longer_fits(rehearse: Any) -> None:
    async def swallow(peer: Any) -> None:
        await peer.welcome()
        for _ in range(4):
            await peer.hear(mqtt5.PublishPacket)
        peer.reset()

    async def shrink(peer: Any) -> None:
        peer.fire("shrink")
        await peer.welcome(
            session_present=True, max_packet_size=60, max_qos=mqtt5.QoS.AT_LEAST_ONCE, retain_available=False
        )
        await peer.serve()

    large = "." * 60

    async def story(world: Any) -> None:
        await world.connect()
        world.excuse(large, "two", "kept", error=Refused)
        await world.publish(large)
        await world.publish("two", qos=2)
        await world.publish("kept", retain=True)
        await world.publish("small")
        await world.reach(lambda: not world.mqtt.stats["queue_size"])
        over = {"messages_failed": 3, "acknowledged": 1, "total_disconnections": 1}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=["small"], logged={"message refused": 3})

    rehearse(story, swallow, shrink)


def test_aliases_follow_what_each_link_takes_and_none_outlives_its_link(rehearse: Any) -> None:
    seen: list[list[tuple[str, int | None]]] = []

    def taking(topic_alias_maximum: int) -> Any:
        async def script(peer: Any) -> None:
            peer.fire("topic alias maximum")
            await peer.welcome(topic_alias_max=topic_alias_maximum, session_present=peer.number > 1)
            aliases: dict[int, str] = {}
            seen.append([])
            for _ in range(6):
                packet = await peer.hear(mqtt5.PublishPacket)
                seen[-1].append((packet.topic, packet.topic_alias))
                if packet.topic and packet.topic_alias:
                    aliases[packet.topic_alias] = packet.topic
                topic = packet.topic or aliases[packet.topic_alias]
                assert packet.payload.endswith(topic.encode()), "the message has its own topic"
                if peer.number == 3:
                    await peer.take(packet)
            if peer.number < 3:
                peer.reset()
            await peer.serve()

        return script

    async def story(world: Any) -> None:
        await world.connect()
        for number in range(6):
            topic = f"topic {number % 2}"
            await world.publish(f"{number} {topic}", topic=topic)
        await done(world, 6)
        one, other = "topic 0", "topic 1"
        assert seen == [
            [(one, 1), (other, 2), ("", 1), ("", 2), ("", 1), ("", 2)],
            [(one, 1), (other, None), ("", 1), (other, None), ("", 1), (other, None)],
            [(one, None), (other, None)] * 3,
        ]
        over = {"acknowledged": 6, "queue_size": 0, "total_disconnections": 2, "messages_failed": 0}
        expected = [f"{number} topic {number % 2}" for number in range(6)]
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=expected)

    rehearse(story, taking(10), taking(1), taking(0), session=session())


@pytest.mark.parametrize(
    ("limit", "topic_filter", "code"),
    [
        ({"wildcard_subscription_available": False}, "down/+", 0xA2),
        ({"wildcard_subscription_available": False}, "$share/group/down/#", 0xA2),
        ({"shared_subscription_available": False}, "$share/group/down", 0x9E),
        ({"max_packet_size": 20}, "down/" + 20 * "x", 0x95),
    ],
    ids=["wildcard", "wildcard shared", "shared", "size"],
)
def test_a_subscription_that_the_broker_rules_out_is_told_without_being_asked_for(
    rehearse: Any, limit: dict[str, Any], topic_filter: str, code: int
) -> None:
    async def rule_out(peer: Any) -> None:
        peer.fire("limit")
        await peer.welcome(subscription_id_available=False, **limit)
        await peer.serve()

    async def story(world: Any) -> None:
        await world.connect()
        with pytest.raises(Refused) as refused:
            await world.receive(topic_filter)
        assert refused.value.reason_code == code
        assert ";" in refused.value.reason, "and what to do about it"
        world.applications.start_soon(world.receive)
        await world.publish("a")
        await done(world, 1)
        await anyio.sleep(1)
        (conversation,) = world.peer.conversations
        asked = [packet for packet in conversation.heard if isinstance(packet, mqtt5.SubscribePacket)]
        assert [[each.pattern for each in packet.topic_filters] for packet in asked] == [["down"]]
        assert [packet.subscription_id for packet in asked] == [None]
        up = {"total_disconnections": 0, "acknowledged": 1}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["a"], logged={"subscription refused": 1})

    rehearse(story, rule_out)


@pytest.mark.fault_row("id exhaustion (65 535), 100k queued, huge payload")
@pytest.mark.timeout(600)
def test_a_hundred_thousand_that_waited_go_out_in_order_at_a_cost_that_does_not_grow(rehearse: Any, deep: bool) -> None:
    """100,000 under `--deep`, where the last quarter is queued as quickly as the first; 5,000 by default, and not timed."""
    count = 100_000 if deep else 5_000
    arrived: list[int] = []

    async def take_all(peer: Any) -> None:
        await peer.welcome()
        while len(arrived) < count:
            packet = await peer.hear(mqtt5.PublishPacket)
            arrived.append(int(packet.payload))
            await peer.say(ack(PUBACK, packet.packet_id))
        await peer.serve()

    async def story(world: Any) -> None:
        costs = []
        for start in range(0, count, count // 4):
            began = process_time()
            for first in range(start, start + count // 4, 250):
                await world.mqtt.publish_many([("up", b"%d" % number) for number in range(first, first + 250)])
            costs.append(process_time() - began)
        assert not deep or costs[3] < 3 * max(costs[0], costs[1]) + 0.1
        await done(world, count)
        assert arrived == list(range(count))
        over = {"accepted": count, "queue_size": 0, "total_disconnections": 0, "dropped": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=[])

    rehearse(story, *[ConnectionRefusedError()] * 3, take_all, message_queue_size=count, ack_timeout_s=1000.0)


@pytest.mark.fault_row("id exhaustion (65 535), 100k queued, huge payload")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_huge_payload_goes_and_comes_whole_and_one_beyond_every_bound_is_told(rehearse: Any, qos: int) -> None:
    huge = "x" * (4 * 1024 * 1024)

    async def take_slowly(peer: Any) -> None:
        peer.fire("huge payload")
        await peer.welcome(max_packet_size=5 * 1024 * 1024)
        await peer.serve()

    async def story(world: Any) -> None:
        await world.connect()
        world.excuse(2 * huge, error=Refused)
        for payload in (huge, 2 * huge, "small"):
            await world.publish(payload, qos=qos)
        await world.reach(lambda: not world.mqtt.stats["queue_size"])
        over = {"dead_lettered": 1, "messages_published": 2, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=[huge, "small"])

    rehearse(story, take_slowly, capacity_bytes=1 << 24)


@pytest.mark.fault_row("id exhaustion (65 535), 100k queued, huge payload")
def test_identifiers_wrap_without_touching_one_that_is_in_use(rehearse: Any) -> None:
    count, first_held = 66_000, "held"
    identifiers: list[int] = []

    async def hold_the_first(peer: Any) -> None:
        peer.fire("identifiers")
        await peer.welcome()
        held = await peer.hear(mqtt5.PublishPacket)
        while len(identifiers) < count:
            batch = [await peer.hear(mqtt5.PublishPacket)]
            while len(batch) < 50 and len(identifiers) + len(batch) < count:
                batch.append(await peer.hear(mqtt5.PublishPacket))
            identifiers.extend(packet.packet_id for packet in batch)
            await peer.say(*[ack(PUBACK, packet.packet_id) for packet in batch])
        assert held.packet_id not in identifiers
        await peer.take(held)
        await peer.serve()

    async def story(world: Any) -> None:
        await world.connect()
        await world.publish(first_held)
        for _ in range(count // 1000):
            await world.mqtt.publish_many([("up", b"")] * 1000)
        await done(world, count + 1)
        over = {"accepted": count + 1, "queue_size": 0, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=over, level=INFO, arrived=[first_held])
        assert len(set(identifiers)) == 65_022, "1 to 65,023 without the one that was held"
        assert max(identifiers) == 65_023

    rehearse(story, hold_the_first, max_inflight=51, ack_timeout_s=1000.0)


@pytest.mark.fault_row("queue overflow")
def test_an_overflow_while_the_link_is_down_drops_the_oldest_unsent_and_none_in_flight(rehearse: Any) -> None:
    async def swallow(peer: Any) -> None:
        await peer.welcome()
        for _ in range(2):
            await peer.hear(mqtt5.PublishPacket)
        await peer.close()

    refused = [ConnectionRefusedError()] * 3

    async def story(world: Any) -> None:
        await world.connect()
        await world.publish("in flight 0")
        await world.publish("in flight 1")
        await world.reach(RECONNECTING)
        world.excuse(*[str(number) for number in range(5)], error=Dropped)
        for number in range(10):
            await world.publish(str(number))
        full = {"dropped": 5, "queue_size": 7, "accepted": 12}
        world.observe(state=RECONNECTING, stats=full, level=WARNING, arrived=[], logged={"messages dropped": 1})
        await done(world, 7)
        expected = ["in flight 0", "in flight 1", "5", "6", "7", "8", "9"]
        over = {"dropped": 5, "queue_size": 0}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=expected, logged={"messages dropped": 1})

    rehearse(story, swallow, *refused, message_queue_size=5)


@pytest.mark.fault_row("queue overflow")
def test_a_full_outbox_makes_publish_wait_while_the_link_is_up(rehearse: Any) -> None:
    async def take_after_a_while(peer: Any) -> None:
        peer.fire("slow acknowledgement")
        await peer.welcome(receive_max=1)
        while True:
            packet = await peer.hear(mqtt5.PublishPacket)
            await anyio.sleep(1.0)
            await peer.take(packet)

    async def story(world: Any) -> None:
        await world.connect()
        started_at = anyio.current_time()
        for number in range(10):
            await world.publish(str(number))
        assert anyio.current_time() - started_at >= 3.0
        assert world.mqtt.stats["queue_size"] <= 6
        await done(world, 10)
        over = {"dropped": 0, "queue_size": 0, "total_disconnections": 0}
        expected = [str(number) for number in range(10)]
        world.observe(state=CONNECTED, stats=over, level=INFO, arrived=expected)

    rehearse(story, take_after_a_while, message_queue_size=5)


# ----------------------------------------------------------------------------------------------- receiving


@pytest.mark.fault_row("inbound QoS 2 repeated, across reconnect")
def test_a_qos_2_delivery_that_is_repeated_is_handled_once(rehearse: Any) -> None:
    async def repeat(peer: Any) -> None:
        await peer.welcome()
        await peer.answer(await peer.hear(mqtt5.SubscribePacket))
        await peer.say(delivery("one", qos=2, identifier=5))
        await peer.hear(mqtt5.PubRecPacket)
        await peer.inject("repeat", *[delivery("one", qos=2, identifier=5, duplicate=True)] * 3)
        for _ in range(3):
            await peer.hear(mqtt5.PubRecPacket)
        await peer.close()

    async def repeat_after_reconnect(peer: Any) -> None:
        await peer.welcome(session_present=True)
        await peer.inject("repeat", delivery("one", qos=2, identifier=5, duplicate=True))
        await peer.hear(mqtt5.PubRecPacket)
        await peer.say(ack(PUBREL, 5))
        complete = await peer.hear(mqtt5.PubCompPacket)
        assert int(complete.reason_code) == 0
        # Released: from here on the identifier names another message.
        await peer.say(delivery("two", qos=2, identifier=5))
        await peer.serve()

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        await world.reach(lambda: world.mqtt.stats["handled"] == 2)
        over = {"received": 2, "handled": 2, "unhandled": 0, "total_disconnections": 1}
        world.observe(state=CONNECTED, stats=over, level=WARNING, arrived=[], received=["one", "two"])

    rehearse(story, repeat, repeat_after_reconnect, session=session())


@pytest.mark.parametrize("code", [0x00, 0x92])
def test_a_release_that_hawk_does_not_know_is_answered_and_ends_nothing(rehearse: Any, code: int) -> None:
    async def release_strangers(peer: Any) -> None:
        await peer.welcome()
        await peer.inject("unknown PUBREL", *[ack(PUBREL, identifier, code) for identifier in (1, 2, 65_535)])
        while peer.count(mqtt5.PubCompPacket) < 3:
            await peer.answer(await peer.hear())
        answers = [packet for packet in peer.heard if isinstance(packet, mqtt5.PubCompPacket)]
        assert [(each.packet_id, int(each.reason_code)) for each in answers] == [(1, 0x92), (2, 0x92), (65_535, 0x92)]
        await peer.serve()

    async def story(world: Any) -> None:
        await world.connect()
        await world.publish("a")
        await done(world, 1)
        world.observe(state=CONNECTED, stats={"received": 0, "total_disconnections": 0}, level=INFO, arrived=["a"])

    rehearse(story, release_strangers)


@pytest.mark.fault_row("SUBACK >= 0x80")
@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2])
def test_a_refused_subscription_is_told_once_and_not_asked_again_on_its_link(rehearse: Any, code: int) -> None:
    async def refuse(peer: Any) -> None:
        await peer.welcome()
        subscribe = await peer.hear(mqtt5.SubscribePacket)
        await peer.inject("refused", mqtt5.SubAckPacket(subscribe.packet_id, [mqtt5.SubAckReasonCode(code)]))
        await peer.serve()

    async def story(world: Any) -> None:
        await world.connect()
        with pytest.raises(Refused) as refused:
            await world.receive()
        assert refused.value.reason_code == code
        await world.publish("a")
        await anyio.sleep(300)
        (conversation,) = world.peer.conversations
        assert conversation.count(mqtt5.SubscribePacket) == 1
        up = {"total_disconnections": 0, "acknowledged": 1}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["a"], logged={"subscription refused": 1})

    rehearse(story, refuse)


async def receive_if_allowed(world: Any) -> None:
    with suppress(Refused):
        await world.receive("other")


@pytest.mark.parametrize("codes", [[0], [0, 1, 2, 0]], ids=["too few", "too many"])
def test_a_suback_with_another_number_of_codes_ends_no_actor(rehearse: Any, codes: list[int]) -> None:
    async def miscount(peer: Any) -> None:
        # Without identifiers of subscriptions one SUBSCRIBE asks for all filters.
        await peer.welcome(subscription_id_available=False)
        subscribe = await peer.hear(mqtt5.SubscribePacket)
        assert len(subscribe.topic_filters) == 2
        await peer.inject(
            "miscounted", mqtt5.SubAckPacket(subscribe.packet_id, list(map(mqtt5.SubAckReasonCode, codes)))
        )
        await peer.say(delivery("one", qos=1, identifier=1))
        await peer.serve()

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive, "down")
        world.applications.start_soon(receive_if_allowed, world)
        await world.connect()
        await world.publish("a")
        await done(world, 1)
        await world.reach(lambda: world.mqtt.stats["handled"] == 1)
        up = {"received": 1, "total_disconnections": 0}
        level = WARNING
        world.observe(state=CONNECTED, stats=up, level=level, arrived=["a"], received=["one"])

    # Both filters are wanted before the first link is there, so that one SUBSCRIBE asks for them.
    rehearse(story, ConnectionRefusedError(), miscount)


def test_answers_that_nobody_asked_for_change_nothing(rehearse: Any) -> None:
    async def answer_unasked(peer: Any) -> None:
        await peer.welcome()
        success = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE
        unasked = [mqtt5.SubAckPacket(identifier, [success]).write() for identifier in (1, 65_024, 65_535)]
        gone = mqtt5.UnsubAckReasonCode.SUCCESS
        unasked += [mqtt5.UnsubAckPacket(identifier, [gone]).write() for identifier in (1, 65_024, 65_535)]
        await peer.inject("unasked", *unasked, *[mqtt5.PingRespPacket()] * 10_000)
        await peer.serve()

    async def story(world: Any) -> None:
        await world.connect()
        world.applications.start_soon(world.receive)
        await world.publish("a")
        await done(world, 1)
        await anyio.sleep(100)
        up = {"total_connections": 1, "total_disconnections": 0, "received": 0}
        world.observe(state=CONNECTED, stats=up, level=INFO, arrived=["a"])

    rehearse(story, answer_unasked)


@pytest.mark.fault_row("unknown ids, duplicate PUBACK/PUBREC, wrong ack type, reversed acks")
def test_an_unsuback_is_no_answer_to_a_subscribe_nor_a_suback_to_an_unsubscribe(rehearse: Any) -> None:
    async def confuse(peer: Any) -> None:
        await peer.welcome()
        subscribe = await peer.hear(mqtt5.SubscribePacket)
        gone = [mqtt5.UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED]
        await peer.inject("confused", mqtt5.UnsubAckPacket(subscribe.packet_id, gone))
        await anyio.sleep(1)
        await peer.answer(subscribe)
        unsubscribe = await peer.hear(mqtt5.UnsubscribePacket)
        granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE]
        await peer.inject("confused", mqtt5.SubAckPacket(unsubscribe.packet_id, granted))
        await peer.say(delivery("late", qos=1, identifier=1))
        await peer.answer(unsubscribe)
        await peer.serve()

    async def story(world: Any) -> None:
        await world.connect()
        began_at = anyio.current_time()
        async with world.mqtt.subscribe("down"):
            assert anyio.current_time() - began_at >= 1.0, "answered by the SUBACK alone"
        await anyio.sleep(60)
        (conversation,) = world.peer.conversations
        assert conversation.count(mqtt5.PubAckPacket) == 1
        up = {"total_disconnections": 0, "received": 1, "unhandled": 0}
        world.observe(state=CONNECTED, stats=up, level=INFO, arrived=[], logged={"deliveries abandoned": 0})

    rehearse(story, confuse)


def test_a_publish_before_the_suback_is_delivered(rehearse: Any) -> None:
    async def deliver_early(peer: Any) -> None:
        await peer.welcome()
        subscribe = await peer.hear(mqtt5.SubscribePacket)
        granted = mqtt5.SubAckPacket(subscribe.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_EXACTLY_ONCE])
        await peer.inject("early", delivery("early", qos=1, identifier=9), granted)
        await peer.serve()

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        await world.reach(lambda: world.mqtt.stats["handled"] == 1)
        up = {"received": 1, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=up, level=INFO, arrived=[], received=["early"])

    rehearse(story, deliver_early)


def test_a_broker_a_little_beyond_our_receive_maximum_is_borne_and_told_of(rehearse: Any) -> None:
    async def exceed(peer: Any) -> None:
        connect = await peer.welcome()
        assert connect.receive_max == 10
        await peer.answer(await peer.hear(mqtt5.SubscribePacket))
        await peer.inject("beyond", *[delivery(str(each), qos=1, identifier=each) for each in range(1, 51)])
        await peer.serve()

    async def story(world: Any) -> None:
        world.applications.start_soon(world.receive)
        await world.publish("a")
        await done(world, 1)
        await world.reach(lambda: world.mqtt.stats["handled"] == 50)
        up = {"total_connections": 1, "total_disconnections": 0, "received": 50}
        expected, logged = [str(each) for each in range(1, 51)], {"receive maximum exceeded": 1}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["a"], received=expected, logged=logged)

    rehearse(story, exceed, receive_maximum=10)


def test_a_broker_beyond_every_packet_identifier_is_told_so_and_left(rehearse: Any) -> None:
    last_words: list[Any] = []

    async def exceed(peer: Any) -> None:
        await peer.welcome()
        peer.fire("far beyond")
        # Nobody subscribed, so none of them is acknowledged for a while.
        for first in range(0, 66_000, 1_000):
            identifiers = [number % 65_535 + 1 for number in range(first, first + 1_000)]
            await peer.say(*[delivery("", qos=1, identifier=each) for each in identifiers])
        last_words.extend(await peer.hear_the_end())

    async def story(world: Any) -> None:
        await world.reach(lambda: world.mqtt.stats["total_connections"] == 2)
        await world.publish("a")
        await done(world, 1)
        assert int(last_words[-1].reason_code) == 0x93
        up = {"total_disconnections": 1, "received": 65_535}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["a"], logged={"receive maximum exceeded": 1})

    rehearse(story, exceed)


# -------------------------------------------------------------------------------------------------- floods


FLOODS = {
    "PUBREC": (ack(PUBREC, 9_999), True),
    "PUBREL": (ack(PUBREL, 9_999), True),
    "PUBACK": (ack(PUBACK, 9_999), False),
    "PUBCOMP": (ack(PUBCOMP, 9_999), False),
    "PINGRESP": (b"\xd0\x00\xd0\x00", False),
}
"""What a peer may say for ever, and whether hawk answers each."""


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("burst", [64, 16_384])
def test_a_flood_from_a_peer_that_never_reads_ends_its_link_and_fills_no_memory(
    rehearse: Any, name: str, burst: int
) -> None:
    packet, answered = FLOODS[name]
    said = [0]

    async def flood(peer: Any) -> None:
        await peer.welcome()
        peer.fire("flood")
        while said[0] < (1_000_000 if answered else 50_000):
            await peer.say(packet * burst)
            said[0] += burst
        peer.reset()

    async def story(world: Any) -> None:
        await world.publish("a")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        up = {"total_connections": 2, "total_disconnections": 1, "queue_size": 0}
        world.observe(state=CONNECTED, stats=up, level=WARNING, arrived=["a"], logged={"connection lost": 1})
        if answered:
            assert said[0] <= (150_000 if burst == 64 else 300_000), (
                "the answers that a link may owe are bounded, in packets"
            )
            assert "answers" in world.logged("connection lost")[0].getMessage()

    rehearse(story, flood, capacity_bytes=65_536 if burst > 64 else 1024)


def test_a_flood_of_releases_from_a_peer_that_reads_is_answered(rehearse: Any) -> None:
    count = 50_000

    async def flood(peer: Any) -> None:
        await peer.welcome()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer.serve)
            for _ in range(count // 100):
                await peer.inject("flood", ack(PUBREL, 9_999) * 100)
                await anyio.sleep(0.01)

    async def story(world: Any) -> None:
        await world.connect()
        await world.reach(lambda: world.peer.conversations[0].count(mqtt5.PubCompPacket) == count)
        await world.publish("a")
        await done(world, 1)
        up = {"total_connections": 1, "total_disconnections": 0}
        world.observe(state=CONNECTED, stats=up, level=INFO, arrived=["a"])

    rehearse(story, flood)
