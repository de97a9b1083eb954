"""`hawk pub` and `hawk sub` over TLS and Unix sockets, with certificates and wills, by Mosquitto's own flags."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from hawk.testing import Broker

Run = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tls_port(broker: Broker, certificates: Any) -> str:
    return str(await broker.listen(tls=certificates.server_context(wants_clients=True, alpn="mqtt")))


@pytest.fixture
def flags(certificates: Any) -> list[str]:
    """A certificate of one's own, and the authority of the broker's."""
    certificate, key = certificates.issue("ann.example")
    return ["--cafile", str(certificates.authority), "--cert", str(certificate), "--key", str(key)]


async def test_a_message_goes_out_over_mutual_tls(run: Run, broker: Broker, tls_port: str, flags: list[str]) -> None:
    result = await run("pub", *flags, "--tls-alpn", "mqtt", "-p", tls_port, "-t", "a", "-m", "x")
    assert (result.code, result.err) == (0, "")
    result = await run("pub", *flags, "-L", f"mqtts://localhost:{tls_port}/b", "-m", "y")
    assert (result.code, result.err) == (0, "")
    assert broker.received() == [("a", b"x"), ("b", b"y")]


async def test_a_broker_that_nobody_vouches_for_is_not_spoken_to(run: Run, broker: Broker, certificates: Any) -> None:
    port = str(await broker.listen(tls=certificates.server_context()))
    result = await run("pub", "-L", f"mqtts://localhost:{port}/b", "-m", "y", "-W", "2")
    assert result.code == 3
    assert "certificate is not trusted" in result.err
    assert broker.records == []
    result = await run("pub", "--insecure", "-p", port, "-t", "b", "-m", "y")
    assert result.code == 0
    assert "anybody may pose as the broker" in result.err
    assert broker.received() == [("b", b"y")]


async def test_a_unix_socket(run: Run, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "a socket"
    await broker.listen_unix(path)
    assert (await run("pub", "--unix", str(path), "-t", "a", "-m", "x")).code == 0
    assert (await run("pub", "-L", f"mqtt+unix://{str(path).replace(' ', '%20')}", "-t", "b", "-m", "y")).code == 0
    assert broker.received() == [("a", b"x"), ("b", b"y")]


async def test_a_will_is_left_with_the_broker(start: Run, run: Run, broker: Broker, port: str) -> None:
    will = ["--will-topic", "gone", "--will-payload", "-bye", "--will-qos", "1", "--will-retain"]
    child = await start("sub", "-p", port, "-t", "nothing", "-i", "ann", *will)
    listener = await start("sub", "-p", port, "-t", "gone", "-C", "1", "-v")
    while len([each for each in broker.sessions.values() if each.subscriptions]) < 2:
        await anyio.sleep(0.01)
    child.process.kill()
    await child.process.wait()
    assert (await listener.end()).out == b"gone -bye\n"
    assert (await run("sub", "-p", port, "-t", "gone", "-C", "1")).out == b"-bye\n", "retained"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--unix", "/s", "-h", "b"], "--unix stands for the broker's address"),
        (["--cafile", "x", "-L", "mqtt://b/t"], "a URL of TLS begins with mqtts://"),
        (["--key", "x"], "needs `tls_certificate_file` beside it"),
        (["--will-payload", "x"], "needs `will_topic` beside it"),
        (["--will-topic", "a/#"], "a topic that can be published to"),
        (["--will-topic", "a", "--will-qos", "3"], "its qos must be 0, 1 or 2"),
    ],
)
async def test_options_that_contradict_one_another_are_told(run: Run, arguments: list[str], why: str) -> None:
    topic = [] if "-L" in arguments else ["-t", "t"]
    result = await run("pub", *arguments, *topic, "-m", "x")
    assert result.code == 2
    assert why in result.err


async def test_what_tls_asks_for_goes_to_its_usual_port(run: Run, certificates: Any) -> None:
    result = await run(
        "pub", "--cafile", str(certificates.authority), "-h", "127.0.0.1", "-t", "a", "-m", "x", "-W", "1"
    )
    assert result.code == 3
    assert "127.0.0.1:8883" in result.err
