"""CPU per acknowledged message of a plain loop of `await mqtt.publish()`, in memory, the in-process broker included.

    python tests/benchmarks/publish_in_memory.py [--messages 100000] [--backend trio] [--many]

Prints microseconds of CPU of the whole process, per message, for each of five rounds, and their median.
"""

import argparse
import statistics
import time
from random import Random

import anyio

import hawk
from hawk.clock import SystemWallClock
from hawk.links.dialing import StreamDialer
from hawk.testing.broker import Broker

ROUNDS = 5
PAYLOAD = b"x" * 100


async def measure(messages: int, *, many: bool) -> float:
    """Seconds of CPU that `messages` took from the first publish to the last acknowledgement."""
    async with Broker(record=False) as broker:
        config = hawk.Config()

        async def connect() -> anyio.abc.ByteStream:
            return broker.connect()

        ports = hawk.Ports(StreamDialer(config, connect), None, SystemWallClock(), Random(1))
        async with hawk.open_mqtt(config, ports=ports) as mqtt:
            await mqtt.connect()
            began = time.process_time()
            if many:
                for _ in range(messages // 1000):
                    receipt = await mqtt.publish_many([("bench/topic", PAYLOAD)] * 1000)
            else:
                for _ in range(messages):
                    receipt = await mqtt.publish("bench/topic", PAYLOAD)
            await receipt.acknowledged()
            took = time.process_time() - began
            assert mqtt.stats["acknowledged"] == messages
            return took


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--backend", choices=["trio", "asyncio"], default="trio")
    parser.add_argument("--many", action="store_true", help="publish_many of 1,000 instead of a plain loop")
    options = parser.parse_args()
    rounds = [
        anyio.run(lambda: measure(options.messages, many=options.many), backend=options.backend)
        / options.messages
        * 1e6
        for _ in range(ROUNDS)
    ]
    each = " ".join(f"{microseconds:.1f}" for microseconds in rounds)
    way = "publish_many" if options.many else "await publish()"
    print(
        f"{options.backend}, {way}: {each} -> median {statistics.median(rounds):.1f} us of CPU per acknowledged message"
    )


if __name__ == "__main__":
    main()
