"""A child of `test_killed_receiver`: receives at QoS 2 with an outbox file, and tells what it handles before it is done.

    receiving_child.py PORT OUTBOX BACKEND

Each delivery is a line: its payload, its delivery key and whether it was given before.
"""

import sys

import anyio

import hawk


async def main(port: str, outbox: str) -> None:
    """Print what is handled, until somebody kills this process."""
    url = f"mqtt://127.0.0.1:{port}"
    async with hawk.open_mqtt(url, outbox=outbox) as mqtt, mqtt.subscribe("jobs/#", qos=2) as messages:
        say("ready")
        async for message in messages:
            say(f"{message.text()} {message.delivery_key} {message.redelivered}")
            await anyio.sleep(0.002)
            say(f"handled {message.text()}")


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


anyio.run(main, sys.argv[1], sys.argv[2], backend=sys.argv[3])
