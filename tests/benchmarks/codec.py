"""What the protocol layer costs: microseconds for each PUBLISH encoded, and for each packet decoded.

Run it by hand: `python tests/benchmarks/codec.py`. The best of several rounds counts: the rest is other work's noise.
"""

from collections.abc import Callable
from timeit import repeat

import mqtt5

from hawk.packets import Publish
from hawk.protocol.version5 import Decoder, encode
from hawk.values import Message

PACKETS = 1000
ROUNDS = 20


def main() -> None:
    qos1 = [Publish(Message("sensors/temperature", b"x" * 256), number) for number in range(1, PACKETS + 1)]
    qos0 = [Publish(Message("sensors/temperature", b"x" * 256, qos=0)) for _ in range(PACKETS)]
    tell("PUBLISH encoded, QoS 1, 256 B", lambda: encode(qos1))
    tell("PUBLISH encoded, QoS 0, 256 B", lambda: encode(qos0))
    tell("  the codec alone, QoS 1", codec_alone)
    short = b"".join(mqtt5.PubAckPacket(number).write() for number in range(1, PACKETS + 1))
    reason = mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS
    long = b"".join(mqtt5.PubAckPacket(number, reason_code=reason).write() for number in range(1, PACKETS + 1))
    tell("PUBACK decoded", lambda: decode(short))
    tell("PUBACK decoded, with a reason code", lambda: decode(long))
    wire0, wire1 = b"".join(encode(qos0)), b"".join(encode(qos1))
    tell("PUBLISH decoded, QoS 0, 256 B", lambda: decode(wire0))
    tell("PUBLISH decoded, QoS 1, 256 B", lambda: decode(wire1))


def codec_alone() -> None:
    for number in range(1, PACKETS + 1):
        mqtt5.PublishPacket(
            "sensors/temperature", b"x" * 256, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number, duplicate=False
        ).write()


def decode(data: bytes) -> None:
    decoder = Decoder(maximum_packet_size=1_000_000)
    for start in range(0, len(data), 65_536):
        decoder.feed(data[start : start + 65_536])
    if decoder.ending is not None:
        raise AssertionError(decoder.ending)


def tell(what: str, work: Callable[[], object]) -> None:
    best_s = min(repeat(work, number=1, repeat=ROUNDS))
    print(f"{what:40} {best_s / PACKETS * 1e6:6.2f} us")


if __name__ == "__main__":
    main()
