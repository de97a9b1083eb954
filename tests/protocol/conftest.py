"""A long conversation as a broker would speak it, and what it says."""

from typing import NamedTuple

import mqtt5
import pytest

from hawk.packets import AckKind, Acknowledgement, Delivery, Inbound, SubscribeOutcome
from hawk.values import Message, Properties

ASKED = Properties(
    expiry_s=4_294_967_295.0,
    response_topic="answers/\u00e9",
    correlation_data=b"\x00\xff",
    user=(("n", ""), ("n", "")),
)


class Conversation(NamedTuple):
    """The packets, one by one, and all that they say."""

    packets: tuple[bytes, ...]
    acknowledgements: list[Acknowledgement]
    inbound: list[Inbound]


@pytest.fixture(scope="session")
def conversation() -> Conversation:
    """Every packet that a broker may send but DISCONNECT, short and long forms, with and without properties."""
    qos1, qos2 = mqtt5.QoS.AT_LEAST_ONCE, mqtt5.QoS.EXACTLY_ONCE
    denied = mqtt5.PubAckReasonCode.NOT_AUTHORIZED
    quota = mqtt5.PubRecReasonCode.QUOTA_EXCEEDED
    unknown = mqtt5.PubCompReasonCode.PACKET_ID_NOT_FOUND
    properties = [("who", "broker")]
    packets = (
        mqtt5.SubAckPacket(65_024, [mqtt5.SubAckReasonCode(1), mqtt5.SubAckReasonCode(0x87)], reason_str="r").write(),
        mqtt5.PublishPacket("a/b", b"retained", retain=True).write(),
        mqtt5.PublishPacket("a/b", b"x" * 200, qos=qos1, packet_id=1).write(),
        mqtt5.PublishPacket("a/\u00e9", b"", qos=qos2, packet_id=2, duplicate=True).write(),
        mqtt5.PublishPacket(
            "a", b"\0\1\2", qos=qos1, packet_id=65_535, payload_format_indicator=1, subscription_ids=[1, 300]
        ).write(),
        mqtt5.PublishPacket("p", b"y", content_type="c" * 150, user_properties=properties).write(),
        mqtt5.PublishPacket(
            "ask",
            b"?",
            qos=qos1,
            packet_id=7,
            message_expiry_interval=4_294_967_295,
            response_topic="answers/\u00e9",
            correlation_data=b"\x00\xff",
            user_properties=[("n", ""), ("n", "")],
        ).write(),
        mqtt5.PubAckPacket(10).write(),
        mqtt5.PubAckPacket(11).write(),
        mqtt5.PubAckPacket(12, reason_code=denied, reason_str="n" * 130, user_properties=properties).write(),
        b"\x40\x03\x00\x0d\x10",
        b"\x40\x04\x00\x0e\x00\x00",
        mqtt5.PubRecPacket(20).write(),
        mqtt5.PubRecPacket(21, reason_code=quota).write(),
        mqtt5.PingRespPacket().write(),
        mqtt5.PubCompPacket(20).write(),
        mqtt5.PubCompPacket(22, reason_code=unknown).write(),
        mqtt5.PubRelPacket(2).write(),
        mqtt5.PubRelPacket(3, reason_code=mqtt5.PubRelReasonCode.PACKET_ID_NOT_FOUND).write(),
        mqtt5.UnsubAckPacket(65_025, [mqtt5.UnsubAckReasonCode(0), mqtt5.UnsubAckReasonCode(17)]).write(),
    )
    acknowledgements = [
        Acknowledgement(AckKind.PUBACK, 10),
        Acknowledgement(AckKind.PUBACK, 11),
        Acknowledgement(AckKind.PUBACK, 12, 0x87),
        Acknowledgement(AckKind.PUBACK, 13),
        Acknowledgement(AckKind.PUBACK, 14),
        Acknowledgement(AckKind.PUBREC, 20),
        Acknowledgement(AckKind.PUBREC, 21, 0x97),
        Acknowledgement(AckKind.PUBCOMP, 20),
        Acknowledgement(AckKind.PUBCOMP, 22, 0x92),
    ]
    inbound: list[Inbound] = [
        SubscribeOutcome(65_024, (1, 0x87)),
        Delivery(Message("a/b", b"retained", 0, True)),
        Delivery(Message("a/b", b"x" * 200, 1), 1),
        Delivery(Message("a/\u00e9", b"", 2), 2, True),
        Delivery(
            Message("a", b"\0\1\2", 1, properties=Properties(text=True)), 65_535, subscription_identifiers=(1, 300)
        ),
        Delivery(Message("p", b"y", 0, properties=Properties(content_type="c" * 150, user=(("who", "broker"),)))),
        Delivery(Message("ask", b"?", 1, properties=ASKED), 7),
        Acknowledgement(AckKind.PUBREL, 2),
        Acknowledgement(AckKind.PUBREL, 3, 0x92),
        SubscribeOutcome(65_025, (0, 17), leaving=True),
    ]
    return Conversation(packets, acknowledgements, inbound)
