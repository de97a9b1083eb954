"""A program that is killed: hawk with an outbox file, publishing numbers, telling on its standard output which were accepted.

    python durable_child.py PORT OUTBOX BACKEND

It reads one line for each life: `FIRST COUNT SEED`. For each it forks, so that a life begins in milliseconds, and prints
`pid PID`, then `accepted NUMBER` for each message that `publish()` has accepted, and `ended` when the fork is gone, however
it went. COUNT 0 publishes nothing and ends when all that is in the file is delivered.
"""

import os
import sys
from random import Random

import anyio

import hawk
from hawk.stores import sqlite  # noqa: F401 - so that a life need not import it

PUBLISHERS = 4
SETTINGS = {
    "client_id": "killed",
    "initial_retry_delay": 0.01,
    "max_retry_delay": 0.1,
    "max_retries": None,
    "message_queue_size": 10_000,
    "drain_s": 20.0,
}


def say(line: str) -> None:
    """At once, and in one piece: whoever is killed after that has said it."""
    os.write(1, line.encode() + b"\n")


async def live(port: int, outbox: str, first: int, count: int, seed: int) -> None:
    """QoS 1 for even numbers, QoS 2 for odd ones; by ones, and by handfuls."""
    random = Random(seed)
    numbers = iter(range(first, first + count))

    async def publish() -> None:
        for number in numbers:
            if number % 7:
                await mqtt.publish("killed", b"%d" % number, qos=1 + number % 2)
                say(f"accepted {number}")
            else:
                batch = [number, *(other for other, _ in zip(numbers, range(random.randrange(20)), strict=False))]
                for qos in (1, 2):
                    same = [each for each in batch if 1 + each % 2 == qos]
                    await mqtt.publish_many([("killed", b"%d" % each) for each in same], qos=qos)
                    for each in same:
                        say(f"accepted {each}")

    async with hawk.open_mqtt(f"mqtt://127.0.0.1:{port}", outbox=outbox, **SETTINGS) as mqtt:
        async with anyio.create_task_group() as tasks:
            for _ in range(PUBLISHERS):
                tasks.start_soon(publish)
        # What was left over goes before this one.
        await (await mqtt.publish("end", b"", qos=1)).acknowledged()
        while mqtt.stats["queue_size"]:
            await anyio.sleep(0.005)


def main() -> None:
    """One fork for each line."""
    port, outbox, backend = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    for line in sys.stdin:
        first, count, seed = map(int, line.split())
        pid = os.fork()
        if not pid:
            status = 1
            try:
                anyio.run(live, port, outbox, first, count, seed, backend=backend)
                status = 0
            finally:
                os._exit(status)
        say(f"pid {pid}")
        _, status = os.waitpid(pid, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
