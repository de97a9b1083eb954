"""What a session does that no test over a stream can force: identifiers that wrap, and a takeover in mid-sentence."""

import math

from mqtt5 import ConnectPacket, PubAckPacket, PublishPacket, SubscribePacket, TopicFilter, read

from hawk.testing.broker.behaviour import Behaviour, Limits
from hawk.testing.broker.conversation import Conversation
from hawk.testing.broker.model import BrokerModel

LIMITS = Limits(
    receive_maximum=65_535,
    maximum_packet_size=None,
    maximum_qos=2,
    retain_available=True,
    topic_alias_maximum=0,
    server_keep_alive_s=None,
    users=None,
)


class Outlet:
    def __init__(self) -> None:
        self.ended_with: int | None = None

    def wake(self) -> None:
        pass

    def end(self, reason_code: int) -> None:
        self.ended_with = reason_code


def conversation(model: BrokerModel) -> Conversation:
    opened = Conversation(model, LIMITS, Behaviour(), None, number=1)
    opened.outlet = Outlet()
    opened.hear([ConnectPacket("client", session_expiry_interval=60)], 0.0)
    return opened


def publish(model: BrokerModel) -> None:
    model.publish(PublishPacket("a", b"x"), "a", 1, False, None, math.inf, 0.0)


def packets(data: bytes) -> list[object]:
    found = []
    while data:
        packet, length = read(memoryview(data))
        found.append(packet)
        data = data[length:]
    return found


def test_identifiers_wrap_around_those_still_in_flight() -> None:
    model = BrokerModel(maximum_qos=2)
    client = conversation(model)
    client.hear([SubscribePacket(1, [TopicFilter("a")])], 0.0)
    client.take_bytes(0.0, math.inf)
    seen = []
    for number in range(65_540):
        publish(model)
        identifier = read(memoryview(client.take_bytes(0.0, math.inf)))[0].packet_id
        seen.append(identifier)
        if number:
            client.hear([PubAckPacket(identifier)], 0.0)
    assert seen[0] == 1
    assert seen[65_533:65_537] == [65_534, 65_535, 2, 3]


def test_after_a_takeover_the_older_connection_is_given_nothing_more() -> None:
    model = BrokerModel(maximum_qos=2)
    older = conversation(model)
    older.hear([SubscribePacket(1, [TopicFilter("a")])], 0.0)
    older.take_bytes(0.0, math.inf)
    newer = conversation(model)
    publish(model)
    assert older.outlet.ended_with == 0x8E
    assert older.take_bytes(0.0, math.inf) == b""
    assert older.leave(0.0) is None
    assert isinstance(packets(newer.take_bytes(0.0, math.inf))[-1], PublishPacket)
