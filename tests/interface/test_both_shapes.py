"""The two ways to hold a hawk, in every kind of nursery; and a Ctrl-C, in a process of its own."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import anyio
import pytest
import trio

from hawk import Config, ConnectionState, MQTTInterface, open_mqtt
from hawk.testing.broker import Broker
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import run

CONFIG = Config()


async def test_in_a_task_group() -> None:
    async with Rehearsal() as rehearsal:
        async with anyio.create_task_group() as nursery:
            mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
            await mqtt.connect()
            await mqtt.publish("a", "x")
            await mqtt.disconnect()
        assert rehearsal.broker.received() == [("a", b"x")]


def test_in_a_trio_nursery() -> None:
    async def program() -> None:
        async with Rehearsal() as rehearsal:
            async with trio.open_nursery() as nursery:
                mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
                await mqtt.connect()
                await mqtt.publish("a", "x")
                await mqtt.disconnect()
            assert rehearsal.broker.received() == [("a", b"x")]

    run(program, backend="trio")


async def test_as_a_block_in_a_task_group() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        async with MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG)) as mqtt:
            await mqtt.publish("a", "x")
        assert mqtt.connection_state is ConnectionState.DISCONNECTED
        assert rehearsal.broker.received() == [("a", b"x")]


async def test_a_cancelled_nursery_drains_what_it_can() -> None:
    async with Rehearsal() as rehearsal:
        async with anyio.create_task_group() as nursery:
            mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
            await mqtt.connect()
            await mqtt.publish_many([("n", number) for number in range(500)])
            nursery.cancel_scope.cancel()
        assert [int(payload) for _, payload in rehearsal.broker.received()] == list(range(500))


async def test_what_the_block_of_open_mqtt_raises_leaves_it_as_it_is_after_the_drain() -> None:
    async with Rehearsal() as rehearsal:

        async def block() -> None:
            async with open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG)) as mqtt:
                await mqtt.publish("a", "x")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await block()
        assert rehearsal.broker.received() == [("a", b"x")]


async def test_settings_beside_a_config_are_refused_before_anything_starts() -> None:
    with pytest.raises(TypeError, match="port"):
        async with open_mqtt(CONFIG, port=1):
            pytest.fail("entered")


CHILD = """
    import sys
    import anyio
    import hawk

    async def main(port: int) -> None:
        async with hawk.open_mqtt(f"mqtt://127.0.0.1:{port}") as mqtt:
            await mqtt.connect()
            for number in range(2000):
                await mqtt.publish("n", number)
            print("published", flush=True)
            await anyio.sleep_forever()

    anyio.run(main, int(sys.argv[1]), backend=sys.argv[2])
"""


@pytest.mark.anyio
@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("of_child", ["trio", "asyncio"])
async def test_an_interrupt_ends_in_time_with_nothing_but_keyboard_interrupt_and_the_queue_drained(
    of_child: str,
) -> None:
    async with Broker() as broker:
        port = await broker.listen()
        command = [sys.executable, "-c", textwrap.dedent(CHILD), str(port), of_child]
        child = await anyio.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        async with child:
            assert child.stdout is not None
            assert child.stderr is not None
            with anyio.fail_after(20.0):
                await child.stdout.receive()
            interrupted_at = time.monotonic()
            child.send_signal(signal.SIGINT)
            said = b""
            with anyio.fail_after(10.0):
                async for chunk in child.stderr:
                    said += chunk
                await child.wait()
            assert time.monotonic() - interrupted_at < 3.0
        text = said.decode()
        assert text.rstrip().endswith("KeyboardInterrupt"), text
        assert "Group" not in text, text
        assert [int(payload) for _, payload in broker.received()] == list(range(2000))


BUSY_CHILD = """
    import sys
    import anyio
    import hawk

    accepted = 0

    async def main(port: int) -> None:
        global accepted
        async with hawk.open_mqtt(f"mqtt://127.0.0.1:{port}") as mqtt:
            await mqtt.connect()
            print("connected", flush=True)
            while True:
                await mqtt.publish("n", accepted)
                accepted += 1

    try:
        anyio.run(main, int(sys.argv[1]), backend=sys.argv[2])
    except KeyboardInterrupt:
        print(accepted, flush=True)
"""


@pytest.mark.anyio
@pytest.mark.parametrize("of_child", ["trio", "asyncio"])
async def test_an_interrupt_in_the_middle_of_the_actors_work_tears_none_of_them(of_child: str) -> None:
    """Under load Ctrl-C mostly comes while an actor runs. What was accepted by then is delivered all the same."""
    async with Broker() as broker:
        port = await broker.listen()
        command = [sys.executable, "-c", textwrap.dedent(BUSY_CHILD), str(port), of_child]
        child = await anyio.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        async with child:
            assert child.stdout is not None
            assert child.stderr is not None
            with anyio.fail_after(30.0):
                await child.stdout.receive()
                await anyio.sleep(0.2)
                child.send_signal(signal.SIGINT)
                told = b"".join([chunk async for chunk in child.stdout])
                said = b"".join([chunk async for chunk in child.stderr])
                await child.wait()
        assert said == b""
        received = [int(payload) for _, payload in broker.received()]
        assert received == list(range(len(received)))
        assert len(received) >= int(told)
