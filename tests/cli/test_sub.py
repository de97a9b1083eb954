"""`hawk sub`: what arrives is printed at once and acknowledged then; whatever ends it, it ends quietly."""

import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from hawk.testing import Broker

Run = Callable[..., Awaitable[Any]]
Until = Callable[[Callable[[], object]], Awaitable[None]]

pytestmark = pytest.mark.anyio

MESSAGES = [("a/1", b"text"), ("a/2", b""), ("a/3", b"\xff\n"), ("a/4", "gr\u00fcn".encode())]


@pytest.fixture
def subscribed(broker: Broker, until: Until) -> Callable[[int], Awaitable[None]]:
    async def wait(filters: int) -> None:
        await until(lambda: sum(len(view.subscriptions) for view in broker.sessions.values()) == filters)

    return wait


async def test_the_three_ways_to_print(start: Run, broker: Broker, port: str, subscribed: Run) -> None:
    options = ([], ["-v"], ["--json"])
    children = [await start("sub", "-p", port, "-t", "a/#", "-C", "4", *option) for option in options]
    await subscribed(3)
    for topic, payload in MESSAGES:
        broker.publish(topic, payload, qos=1)
    plain, verbose, as_json = [await child.end() for child in children]
    assert (plain.code, verbose.code, as_json.code) == (0, 0, 0)
    assert (plain.err, verbose.err, as_json.err) == ("", "", "")
    assert plain.out == b"text\n\xff\n\n" + "gr\u00fcn\n".encode()
    assert verbose.out == b"a/1 text\na/2 (null)\na/3 \xff\n\n" + "a/4 gr\u00fcn\n".encode()
    told = [json.loads(line) for line in as_json.out.splitlines()]
    assert [(each["topic"], each["qos"], each["retain"]) for each in told] == [(t, 1, False) for t, _ in MESSAGES]
    assert [each.get("payload") for each in told] == ["text", "", None, "gr\u00fcn"]
    assert told[2]["payload_base64"] == "/wo="


async def test_each_message_is_there_before_the_next(start: Run, broker: Broker, port: str, subscribed: Run) -> None:
    child = await start("sub", "-p", port, "-t", "a", "-t", "b", "-q", "0")
    await subscribed(2)
    with anyio.fail_after(20):
        for topic in ("a", "b", "a"):
            broker.publish(topic, topic.encode())
            assert await child.read_until(b"\n") == topic.encode() + b"\n"
    child.process.send_signal(signal.SIGTERM)
    assert (await child.end())[:2] == (0, b"")


async def test_the_topic_may_stand_in_the_url(start: Run, broker: Broker, port: str, subscribed: Run) -> None:
    child = await start("sub", "-L", f"mqtt://127.0.0.1:{port}/a/%23", "-C", "1")
    await subscribed(1)
    broker.publish("a/b", b"x")
    assert (await child.end())[:2] == (0, b"x\n")


async def test_c_messages_are_printed_and_no_more(start: Run, broker: Broker, port: str, subscribed: Run) -> None:
    child = await start("sub", "-p", port, "-t", "a", "-t", "+", "-C", "3")
    await subscribed(2)
    for payload in (b"0", b"1", b"2", b"3"):
        broker.publish("a", payload, qos=2)
    result = await child.end()
    assert result.code == 0
    # Both filters match, so that two tasks race for the last place.
    assert len(result.out.splitlines()) == 3
    assert set(result.out.splitlines()) <= {b"0", b"1", b"2", b"3"}


async def test_the_last_message_is_acknowledged_before_it_ends(
    start: Run, broker: Broker, port: str, subscribed: Run
) -> None:
    child = await start("sub", "-p", port, "-t", "a", "-C", "2", "-i", "ann")
    await subscribed(1)
    broker.publish("a", b"0", qos=1)
    broker.publish("a", b"1", qos=1)
    assert (await child.end())[:2] == (0, b"0\n1\n")
    view = broker.sessions["ann"]
    assert view.queued + view.in_flight == 0


async def test_out_of_time_exits_5(run: Run, port: str) -> None:
    result = await run("sub", "-p", port, "-t", "a", "-C", "1", "-W", "1", "--json")
    assert result.code == 5
    assert result.err == "hawk: timed out after 1 s\n"
    assert json.loads(result.out) == {"reason": "timed out after 1 s", "reason_code": None, "exit_code": 5}


async def test_a_closed_pipe_ends_it_quietly_before_the_next_message(
    start: Run, broker: Broker, port: str, subscribed: Run, until: Until
) -> None:
    child = await start("sub", "-p", port, "-t", "a", "-i", "ann")
    await subscribed(1)
    broker.publish("a", b"1", qos=1)
    with anyio.fail_after(20):
        await child.read_until(b"1\n")
        await until(lambda: broker.sessions["ann"].in_flight == 0)
        await child.process.stdout.aclose()
        assert await child.process.wait() == 0
    assert [data async for data in child.process.stderr] == []


async def test_what_a_closed_pipe_cut_short_stays_with_the_broker(
    start: Run, broker: Broker, port: str, subscribed: Run
) -> None:
    child = await start("sub", "-p", port, "-t", "a", "-i", "ann")
    await subscribed(1)
    broker.publish("a", b"x" * 500_000, qos=1)
    with anyio.fail_after(20):
        await child.read_until(b"x")
        await child.process.stdout.aclose()
        assert await child.process.wait() == 0
    assert [data async for data in child.process.stderr] == []
    view = broker.sessions["ann"]
    assert view.queued + view.in_flight == 1


async def test_a_reader_that_does_not_read_does_not_cost_the_connection(start: Run) -> None:
    """A full pipe holds the printing up, and nothing else: hawk goes on to answer for its keep alive."""
    async with Broker(server_keep_alive_s=1) as broker:
        child = await start("sub", "-p", str(await broker.listen()), "-t", "a", "-i", "ann")
        with anyio.fail_after(20):
            while "ann" not in broker.sessions or not broker.sessions["ann"].subscriptions:
                await anyio.sleep(0.01)
        broker.publish("a", b"x" * 500_000, qos=1)
        for _ in range(20):
            await anyio.sleep(0.1)
            assert broker.sessions["ann"].is_connected
        with anyio.fail_after(20):
            assert len(await child.read_until(b"\n")) == 500_001
        child.process.send_signal(signal.SIGTERM)
        result = await child.end()
        assert (result.code, result.err) == (0, "")


async def test_it_goes_on_after_an_outage(
    start: Run, broker: Broker, port: str, subscribed: Run, settings: Callable[..., str]
) -> None:
    child = await start("sub", "-p", port, "-t", "a", "-C", "1", "--config", settings(initial_retry_delay=0.05))
    await subscribed(1)
    await broker.kill()
    await broker.restart(sessions="lose")
    await subscribed(1)
    broker.publish("a", b"x")
    result = await child.end()
    assert (result.code, result.out) == (0, b"x\n")
    assert "connection lost" in result.err
    assert "reconnected" in result.err


async def test_ctrl_c_on_a_terminal_exits_130_without_a_word(
    start_on_terminal: Run, broker: Broker, port: str, subscribed: Run
) -> None:
    terminal = await start_on_terminal("sub", "-p", port, "-t", "a")
    await subscribed(1)
    broker.publish("a", b"shown")
    await terminal.read_until("shown\r\n")
    terminal.type(b"\x03")
    assert await terminal.end() == 130
    assert terminal.screen.replace("^C", "") == "shown\r\n"
