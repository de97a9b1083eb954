"""`hawk proxy`: weather by flags, by a script and line by line, and an account of it at the end."""

import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

CONNECT = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00"
CONNACK = 0x20

Run = Callable[..., Awaitable[Any]]


@pytest.mark.anyio
async def test_spells_on_standard_input_take_effect_as_they_come(start: Run, port: str) -> None:
    """Also: a bad line is told, and the rest goes on; SIGTERM ends it with an account of what was felt."""
    child = await start("proxy", "--upstream", f"127.0.0.1:{port}", "--listen", ":0", "--latency", "20ms", "--json")
    with anyio.fail_after(20):
        told = json.loads((await child.read_until(b"\n")).splitlines()[0])
        assert told == {
            "event": "listening",
            "host": "127.0.0.1",
            "port": told["port"],
            "upstream": f"127.0.0.1:{port}",
        }
        async with await anyio.connect_tcp("127.0.0.1", told["port"]) as client:
            await client.send(CONNECT)
            assert (await client.receive())[0] == CONNACK
            await child.send(b"blakhole\nreset\nrefuse for 20ms\n")
            with pytest.raises(anyio.BrokenResourceError):
                await client.receive()
            await child.read_until(b'{"event": "ends", "spell": "refuse"}\n')
        async with await anyio.connect_tcp("127.0.0.1", told["port"]):
            child.process.send_signal(signal.SIGTERM)
            ended = await child.end()
    assert ended.code == 0
    assert json.loads(ended.out.splitlines()[-1])["bites"]["reset"] == 1
    assert "hawk: unknown fault 'blakhole'; did you mean 'blackhole'?" in ended.err


@pytest.mark.anyio
async def test_a_script_is_played_from_the_start(start: Run, port: str, tmp_path: Path) -> None:
    script = tmp_path / "storm.txt"
    script.write_text("refuse for 10ms\nat 20ms latency 1ms\n")
    child = await start("proxy", "-u", f"127.0.0.1:{port}", "-l", "127.0.0.1:0", "--script", str(script))
    with anyio.fail_after(20):
        out = await child.read_until(b"begins: latency 0.001s\n")
    assert out.decode().splitlines()[1:] == ["begins: refuse for 0.01s", "ends: refuse", "begins: latency 0.001s"]
    child.process.send_signal(signal.SIGINT)
    ended = await child.end()
    assert (ended.code, ended.out) == (130, b"stopped; felt: refuse 1\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-u", "nowhere"], "--upstream: 'nowhere' is no host:port"),
        (["-u", "a:1", "-l", "b:x"], "--listen: 'b:x' is no host:port"),
        (["-u", "a:1", "--latency", "4"], "--latency: '4' is not a duration (try 250ms, 30s, 2m)"),
        (["-u", "a:1", "--latency", "off"], "--latency: 'off': give one value"),
        (["-u", "a:1", "--script", "no-such-file"], "cannot read no-such-file"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    here: Callable[..., int], arguments: list[str], why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert here("proxy", *arguments) == 2
    told = capfd.readouterr()
    assert why in told.err
    assert told.err.count("\n") == 1


@pytest.mark.anyio
async def test_a_port_that_is_taken_is_an_error_in_one_line(run: Run, port: str) -> None:
    result = await run("proxy", "-u", "127.0.0.1:1", "-l", f"127.0.0.1:{port}")
    assert (result.code, result.err) == (1, f"hawk: cannot listen on 127.0.0.1:{port}: Address already in use\n")
