"""CPU per PUBACK of a run of 1,000, from the socket to the settled batch: link, one hop to the keeper, outbox.

    python tests/benchmarks/puback_run.py [--backend trio]

A peer has 1,000 PUBLISHes of QoS 1 under way and answers them in one write. Counted is what hawk does from `receive` of
those bytes until every message is settled: reading, decoding, the channel, credit, books, one answer for each sender
who listens. Prints microseconds of CPU for each PUBACK, for each of several rounds, and their median.
"""

import argparse
import statistics
import time

import anyio

from hawk.actors.mailbox import open_lane
from hawk.config import Config
from hawk.core.outbox import Outbox
from hawk.links.stream import open_link
from hawk.messages import Offer, Settled
from hawk.packets import Connack, ConnectRequest, Publish
from hawk.testing.memory_stream import memory_stream_pair
from hawk.values import Message

RUN = 1_000
ROUNDS = 30
ACCEPTED = b"\x20\x03\x00\x00\x00"


async def measure() -> list[float]:
    """Microseconds of CPU for each PUBACK, one for each round."""
    config = Config(max_inflight=RUN)
    client, broker = memory_stream_pair()
    await broker.send(ACCEPTED)
    link = await open_link(client, config=config, request=ConnectRequest("bench", True))
    lane, outgoing = open_lane(1, 1)
    to_keeper, inbox = anyio.create_memory_object_stream[Settled](1)
    outbox = Outbox(config)
    outbox.open(Connack(), 0.0)
    outbox.ready()
    rounds = []
    for _ in range(ROUNDS):
        message = Message("bench/topic", b"x" * 100)
        outbox.offer([Offer((message,) * RUN, lambda: None, RUN * message.size_bytes)])
        identifiers = [packet.identifier for packet in outbox.take_packets(0.0) if isinstance(packet, Publish)]
        await broker.send(b"".join(b"\x40\x02" + identifier.to_bytes(2, "big") for identifier in identifiers))
        settled_before = outbox.ledger().acknowledged
        began = time.process_time()
        settled = 0
        while settled < RUN:
            arrivals = await link.receive()
            to_keeper.send_nowait(Settled(lane, (), 0, tuple(arrivals.acknowledged)))
            settled_run = inbox.receive_nowait()
            outbox.settle(settled_run.acknowledgements, settled_run.sent, 0.0, acknowledged=settled_run.acknowledged)
            outbox.take_packets(0.0)
            outbox.take_answers()
            settled = outbox.ledger().acknowledged - settled_before
        rounds.append((time.process_time() - began) / RUN * 1e6)
    await link.aclose()
    for end in (lane, outgoing, to_keeper, inbox):
        end.close()
    return rounds


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=["trio", "asyncio"], default="trio")
    options = parser.parse_args()
    rounds = anyio.run(measure, backend=options.backend)
    print(
        f"{options.backend}, {RUN} PUBACKs in one write: best {min(rounds):.2f} us, "
        f"median {statistics.median(rounds):.2f} us of CPU for each"
    )


if __name__ == "__main__":
    main()
