"""`hawk pub`: every message arrives, each once and in order, or the exit code and the last line say that it did not."""

import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import hawk
from hawk.testing import Broker

Run = Callable[..., Awaitable[Any]]
Here = Callable[..., int]
Until = Callable[[Callable[[], object]], Awaitable[None]]

pytestmark = pytest.mark.anyio


async def test_one_message_goes_out_at_qos_1_and_is_waited_for(run: Run, broker: Broker, port: str) -> None:
    result = await run("pub", "-h", "127.0.0.1", "-p", port, "-t", "a/b", "-m", "-hello", "-i", "ann", "--json")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == {"messages": 1, "acknowledged": 1, "unacknowledged": 0, "exit_code": 0}
    (arrival,) = broker.arrivals
    assert (arrival.topic, arrival.payload, arrival.qos, arrival.retain) == ("a/b", b"-hello", 1, False)
    assert arrival.client_identifier == "ann"


async def test_a_retained_payload_of_any_bytes_at_qos_2(run: Run, broker: Broker, port: str) -> None:
    result = await run("pub", "-p", port, "-t", "a", "-m", b"\xff\x00"[:1], "-q", "2", "-r")
    assert (result.code, result.out, result.err) == (0, b"", "")
    (arrival,) = broker.arrivals
    assert (arrival.payload, arrival.qos, arrival.retain) == (b"\xff", 2, True)


async def test_a_file_is_one_message(start: Run, run: Run, broker: Broker, port: str, tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    assert (await run("pub", "-p", port, "-t", "a", "-f", str(tmp_path / "file"))).code == 0
    child = await start("pub", "-p", port, "-t", "b", "-f", "-", "-q", "0")
    await child.send(content)
    await child.close_input()
    assert (await child.end()).code == 0
    assert broker.received() == [("a", content), ("b", content)]


async def test_lines_of_any_length_and_any_bytes(start: Run, broker: Broker, port: str) -> None:
    lines = [b"first", b"\xff\xfe", b" \r", os.urandom(300_000).replace(b"\n", b"-"), b"last, without its newline"]
    child = await start("pub", "-p", port, "-t", "a", "-l", "--json")
    await child.send(b"\n\n".join(lines))
    await child.close_input()
    result = await child.end()
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out)["acknowledged"] == len(lines)
    assert [payload for _, payload in broker.received()] == lines


async def test_a_line_goes_out_before_the_next_one_comes(start: Run, broker: Broker, port: str, until: Until) -> None:
    child = await start("pub", "-p", port, "-t", "a", "-l")
    await child.send(b"1\n2")
    await until(lambda: broker.received() == [("a", b"1")])
    await child.send(b"3\n")
    await until(lambda: broker.received() == [("a", b"1"), ("a", b"23")])
    await child.close_input()
    assert (await child.end()).code == 0


async def test_lines_come_from_files_as_well(start: Run, broker: Broker, port: str, tmp_path: Path) -> None:
    lines = [str(number).encode() for number in range(20_000)]
    (tmp_path / "lines").write_bytes(b"\n".join(lines))
    with (tmp_path / "lines").open() as file:
        assert (await (await start("pub", "-p", port, "-t", "a", "-l", stdin=file.fileno())).end()).code == 0
    assert [payload for _, payload in broker.received()] == lines


async def test_no_lines_are_done_at_once(run: Run, port: str) -> None:
    assert (await run("pub", "-p", port, "-t", "a", "-l")).code == 0


async def test_lines_typed_on_a_terminal(start_on_terminal: Run, broker: Broker, port: str, until: Until) -> None:
    terminal = await start_on_terminal("pub", "-p", port, "-t", "a", "-l")
    terminal.type(b"typed\n")
    await until(lambda: broker.received() == [("a", b"typed")])
    terminal.type(b"\x04")
    assert await terminal.end() == 0


async def test_lines_survive_a_broker_that_dies_twice(
    start: Run, broker: Broker, port: str, settings: Callable[..., str], until: Until
) -> None:
    lines = [str(number).encode() for number in range(5_000)]
    config = settings(initial_retry_delay=0.05, max_retry_delay=0.1, port=port)
    child = await start("pub", "--config", config, "-t", "a", "-l")

    async def feed() -> None:
        for begin in range(0, len(lines), 100):
            await child.send(b"".join(line + b"\n" for line in lines[begin : begin + 100]))
            await anyio.sleep(0.005)
        await child.close_input()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed)
        for threshold in (500, 2_500):
            await until(lambda threshold=threshold: len(broker.arrivals) > threshold)
            await broker.kill()
            await anyio.sleep(0.1)
            await broker.restart()
    result = await child.end()
    assert result.code == 0
    assert "reconnected" in result.err
    first = list(dict.fromkeys(arrival.payload for arrival in broker.arrivals))
    assert first == lines


async def test_out_of_time_says_how_many_are_not_acknowledged(start: Run, broker: Broker, port: str) -> None:
    """With room for all lines, and with more than there is room for: those wait in the pipe and are not counted."""
    broker.acknowledge(False)
    few = await start("pub", "-p", port, "-t", "a", "-l", "-W", "1.5", "--json")
    many = await start("pub", "-p", port, "-t", "b", "-l", "-W", "1.5", "--json")
    await few.send(b"1\n2\n3\n")
    await few.close_input()
    with anyio.move_on_after(1):
        await many.send(b"line\n" * 100_000)
    result = await few.end()
    assert result.code == 5
    assert "timed out after 1.5 s: 3 of 3 messages not acknowledged" in result.err
    assert json.loads(result.out)["unacknowledged"] == 3
    result = await many.end()
    assert result.code == 5
    told = json.loads(result.out)
    assert told["acknowledged"] == 0
    assert 2_000 < told["messages"] == told["unacknowledged"] < 50_000


async def test_a_refused_message_exits_4_and_the_others_arrive(start: Run, broker: Broker, port: str) -> None:
    broker.answer_publishes_with(0x87)
    child = await start("pub", "-p", port, "-t", "a", "-l", "--json")
    await child.send(b"no\n")
    with anyio.fail_after(20):
        while not broker.arrivals:
            await anyio.sleep(0.01)
    broker.answer_publishes_with(0)
    await child.send(b"yes\n")
    await child.close_input()
    result = await child.end()
    assert result.code == 4
    told = json.loads(result.out)
    assert (told["acknowledged"], told["unacknowledged"], told["reason_code"]) == (1, 1, 0x87)
    assert broker.received() == [("a", b"yes")]


async def test_sigterm_delivers_what_was_read_and_exits_0(
    start: Run, broker: Broker, port: str, settings: Callable[..., str], until: Until
) -> None:
    child = await start("pub", "-p", port, "-t", "a", "-l", "--json", "--config", settings(drain_s=60))
    await child.send(b"1\n2\nhalf a li")
    await until(lambda: len(broker.received()) == 2)
    child.process.send_signal(signal.SIGTERM)
    result = await child.end()
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == {"messages": 2, "acknowledged": 2, "unacknowledged": 0, "exit_code": 0}
    assert broker.received() == [("a", b"1"), ("a", b"2")]


async def test_sigterm_without_acknowledgements_exits_1_when_the_drain_is_over(
    start: Run, broker: Broker, port: str, settings: Callable[..., str], until: Until
) -> None:
    broker.acknowledge(False)
    child = await start("pub", "-p", port, "-t", "a", "-l", "--config", settings(drain_s=0.2))
    await child.send(b"1\n2\n")
    await until(lambda: len(broker.received()) == 2)
    child.process.send_signal(signal.SIGTERM)
    result = await child.end()
    assert result.code == 1
    assert "stopped by SIGTERM: 2 of 2 messages not acknowledged" in result.err


async def test_sigterm_before_the_broker_is_reached_exits_1(start: Run, free_tcp_port: int) -> None:
    child = await start("pub", "-p", str(free_tcp_port), "-t", "a", "-m", "x", "--retry")
    with anyio.fail_after(20):
        await child.read_errors_until(b"attempt 1")
    child.process.send_signal(signal.SIGTERM)
    assert (await child.end()).code == 1


async def test_ctrl_c_exits_130_and_says_what_is_not_delivered(
    start_on_terminal: Run, broker: Broker, port: str, settings: Callable[..., str], until: Until
) -> None:
    broker.acknowledge(False)
    config = settings(cancel_drain_s=0.1)
    terminal = await start_on_terminal("pub", "-p", port, "-t", "a", "-l", "--config", config)
    terminal.type(b"1\n2\n")
    await until(lambda: len(broker.received()) == 2)
    terminal.type(b"\x03")
    assert await terminal.end() == 130
    assert "interrupted: 2 of 2 messages not acknowledged" in terminal.screen


async def test_ctrl_c_does_not_wait_for_what_sigterm_left_time_for(
    start_on_terminal: Run, broker: Broker, port: str, settings: Callable[..., str], until: Until
) -> None:
    broker.acknowledge(False)
    config = settings(drain_s=60, cancel_drain_s=0.1)
    terminal = await start_on_terminal("pub", "-p", port, "-t", "a", "-m", "x", "--config", config, "-W", "60")
    await until(lambda: len(broker.received()) == 1)
    os.kill(terminal.process.pid, signal.SIGTERM)
    await anyio.sleep(0.2)
    assert terminal.process.returncode is None
    terminal.type(b"\x03")
    assert await terminal.end() == 130


async def test_a_closed_output_does_not_change_how_it_ended(start: Run, broker: Broker, port: str) -> None:
    child = await start("pub", "-p", port, "-t", "a", "-m", "x", "--json")
    await child.process.stdout.aclose()
    assert await child.process.wait() == 0
    assert broker.received() == [("a", b"x")]


async def test_properties_go_out_in_mosquittos_manner(run: Run, broker: Broker, port: str) -> None:
    properties = [
        *("-D", "publish", "content-type", "text/plain", "-D", "publish", "user-property", "n", "v"),
        *("-D", "publish", "message-expiry-interval", "60", "-D", "publish", "payload-format-indicator", "1"),
        *("-D", "publish", "response-topic", "answers", "-D", "publish", "correlation-data", "mark"),
        *("-D", "publish", "user-property", "n", "w"),
    ]
    async with hawk.open_mqtt(f"mqtt://127.0.0.1:{port}") as mqtt, mqtt.subscribe("a") as messages:
        await mqtt.connect()
        assert (await run("pub", "-p", port, *properties, "-t", "a", "-m", "x")).code == 0
        message = await anext(messages)
    users = (("n", "v"), ("n", "w"))
    assert message.properties == hawk.Properties(60.0, True, "text/plain", "answers", b"mark", users)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["connect", "receive-maximum", "5"], "-D connect: only `publish`"),
        (["publish", "topic-alias", "5"], "topic-alias: no such property"),
        (["publish"], "a property is missing"),
        (["publish", "content-type"], "a value is missing"),
        (["publish", "user-property", "n"], "a value is missing"),
        (["publish", "content-type", "a", "publish", "content-type", "b"], "here are two"),
        (["publish", "message-expiry-interval", "soon"], "no number of seconds"),
        (["publish", "payload-format-indicator", "2"], "0 (bytes) or 1 (UTF-8 text)"),
        (["publish", "message-expiry-interval", "-1"], "from 0 to 4294967295"),
        (["publish", "response-topic", "a/#"], "wildcard"),
    ],
)
def test_a_property_that_cannot_be_sent_is_told(here: Here, capsys: Any, words: list[str], what: str) -> None:
    assert here("pub", "-t", "a", "-m", "x", "-D", *words) == 2
    assert what in capsys.readouterr().err


async def _leave_one_that_expires(outbox: Path, port: int) -> None:
    """In the file is a message that nobody wants any more when the next command takes it up."""
    async with hawk.open_mqtt(f"mqtt://127.0.0.1:{port}", outbox=str(outbox)) as mqtt:
        await mqtt.publish("old", "old", expiry_s=0.1)
        await mqtt.disconnect(drain_s=0)


@pytest.mark.parametrize("lines", [False, True])
async def test_what_became_of_an_earlier_commands_message_is_not_this_ones_affair(
    start: Run, broker: Broker, port: str, free_tcp_port: int, tmp_path: Path, lines: bool
) -> None:
    outbox = tmp_path / "left.db"
    await _leave_one_that_expires(outbox, free_tcp_port)
    what = ["-l"] if lines else ["-m", "arrived"]
    child = await start("pub", "-p", port, "-t", "new", *what, "--outbox", str(outbox), "--json")
    await child.send(b"arrived\n")
    await child.close_input()
    result = await child.end()
    assert broker.received() == [("new", b"arrived")]
    assert json.loads(result.out) == {"messages": 1, "acknowledged": 1, "unacknowledged": 0, "exit_code": 0}
    assert result.code == 0
    assert "not acknowledged" not in result.err


@pytest.mark.parametrize("on_disk", [False, True])
async def test_out_of_time_in_the_middle_of_a_batch_counts_what_the_broker_has_of_it(
    start: Run, broker: Broker, port: str, tmp_path: Path, until: Until, on_disk: bool
) -> None:
    kept = ["--outbox", str(tmp_path / "left.db")] if on_disk else []
    child = await start("pub", "-p", port, "-t", "a", "-l", "-W", "2", "--json", *kept)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.send, b"line\n" * 12_000)
        await until(lambda: len(broker.arrivals) > 100)
        broker.acknowledge(False)
        acknowledged = len(broker.arrivals)
    result = await child.end()
    told = json.loads(result.out)
    assert (result.code, told["acknowledged"]) == (5, acknowledged)
    assert f"{told['messages'] - acknowledged} of {told['messages']} messages not acknowledged" in result.err
