"""`hawk broker`: one line when it listens, clients served, a clear end."""

import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

Run = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.anyio


async def test_it_serves_pub_and_sub_and_sigterm_stops_it_gracefully(start: Run, run: Run) -> None:
    served = await start("broker", "-p", "0", "--json")
    with anyio.fail_after(20):
        told = json.loads(await served.read_until(b"\n"))
    assert (told["event"], told["host"]) == ("listening", "127.0.0.1")
    port = str(told["port"])
    assert (await run("pub", "-p", port, "-t", "a", "-m", "kept", "-r")).code == 0
    subscriber = await start("sub", "-p", port, "-t", "a")
    with anyio.fail_after(20):
        assert await subscriber.read_until(b"\n") == b"kept\n"
    second = await run("broker", "-p", port)
    assert (second.code, second.out) == (1, b"")
    assert second.err == f"hawk: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    served.process.send_signal(signal.SIGTERM)
    assert await served.end() == (0, b"", "")
    with anyio.fail_after(20):
        assert b"server shutting down" in (await subscriber.read_errors_until(b"\n")).lower()
    subscriber.process.send_signal(signal.SIGTERM)
    assert (await subscriber.end()).code == 0


async def test_ctrl_c_on_a_terminal_exits_130(start_on_terminal: Run) -> None:
    terminal = await start_on_terminal("broker", "-p", "0")
    screen = await terminal.read_until("\n")
    assert screen.startswith("an MQTT 5 broker listens on 127.0.0.1:")
    terminal.type(b"\x03")
    assert await terminal.end() == 130
    assert terminal.screen.replace("^C", "") == screen


async def test_a_name_that_is_no_address_is_an_error_in_one_line(run: Run) -> None:
    result = await run("broker", "-p", "0", "--host", "no.such.host.invalid")
    assert result.code == 1
    assert result.err.startswith("hawk: cannot listen on no.such.host.invalid:0: ")
    assert result.err.count("\n") == 1


async def test_it_listens_where_the_clients_of_a_configuration_look(run: Run, settings: Callable[..., str]) -> None:
    result = await run("broker", "--config", settings(broker="no.such.host.invalid", port=1))
    assert result.code == 1
    assert result.err.startswith("hawk: cannot listen on no.such.host.invalid:1: ")
    result = await run("broker", "--config", settings(prot=1))
    assert result.code == 2
    assert "did you mean 'port'?" in result.err
