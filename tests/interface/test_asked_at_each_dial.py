"""What an application is asked at each dial, and what follows when it raises, dawdles or answers nonsense.

Nothing of it ends an actor (promise C2 goes on), and none of it shows a credential (promise C10).
"""

import asyncio
import logging
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from hawk import Config, ConnectionState, Credentials, GaveUp, Judgement, Message, Verdict, Will, open_mqtt
from hawk.asking import ask_for_credentials
from hawk.connecting import Endpoint
from hawk.errors import Unprepared, Unreachable
from hawk.links.stream import close_forcefully, open_link
from hawk.links.tls import tls_context
from hawk.packets import ConnectRequest
from hawk.ports import Link, Ports
from hawk.testing import VirtualWallClock, run
from hawk.testing.broker import Broker
from hawk.testing.history import lost

SECRET = "correct-horse"


class Fleet:
    """A `ports.Dialer` whose endpoints are in-process brokers, by host. `requests` are all it was asked for."""

    def __init__(self, config: Config, brokers: dict[str, Broker]) -> None:
        self.config = config
        self.brokers = brokers
        self.requests: list[ConnectRequest] = []
        self.looked_at: list[tuple[float, str]] = []

    @property
    def hosts(self) -> list[str]:
        return [request.endpoint.host for request in self.requests if request.endpoint is not None]

    async def dial(self, request: ConnectRequest) -> Link:
        assert request.endpoint is not None
        self.requests.append(request)
        return await open_link(await self._connect(request.endpoint), config=self.config, request=request)

    async def reach(self, endpoint: Endpoint) -> None:
        self.looked_at.append((anyio.current_time(), endpoint.host))
        await close_forcefully(await self._connect(endpoint))

    async def _connect(self, endpoint: Endpoint) -> ByteStream:
        await anyio.lowlevel.checkpoint()
        try:
            return self.brokers[endpoint.host].connect()
        except ConnectionRefusedError as error:
            raise Unreachable(f"{endpoint}: refused") from error


@asynccontextmanager
async def sailing(*hosts: str, **settings: Any) -> AsyncIterator[tuple[Any, Fleet]]:
    """A hawk before brokers of those names (one, if none is named) that it may dial in this order."""
    names = hosts or ("only",)
    usual: dict[str, Any] = {"client_id": "boat", "jitter_factor": 0.0, "max_retries": None, "max_retry_delay": 4.0}
    if "endpoints" not in settings:
        usual["endpoints"] = tuple(f"mqtt://{name}" for name in names)
    config = Config.from_mapping(usual | settings)
    brokers = {name: Broker() for name in names}
    async with AsyncExitStack() as stack:
        for broker in brokers.values():
            await stack.enter_async_context(broker)
        fleet = Fleet(config, brokers)
        ports = Ports(fleet, None, VirtualWallClock(), Random(3))
        async with open_mqtt(config, ports=ports) as mqtt:
            yield mqtt, fleet


async def lose(fleet: Fleet, mqtt: Any, *, host: str = "only", down_s: float = 0.0) -> None:
    """The broker dies and comes back, and hawk with it."""
    links = mqtt.stats["total_connections"]
    await fleet.brokers[host].kill()
    await anyio.sleep(down_s)
    await fleet.brokers[host].restart()
    with anyio.fail_after(600):
        while mqtt.stats["total_connections"] == links or mqtt.connection_state is not ConnectionState.CONNECTED:
            await anyio.sleep(0.05)


# --------------------------------------------------------------------------------------------- asked again


async def test_everything_is_asked_anew_at_each_dial() -> None:
    asked: list[str] = []

    def asking(name: str, *answers: Any) -> Callable[[], Awaitable[Any]]:
        left = list(answers)

        async def answer() -> Any:
            asked.append(name)
            await anyio.sleep(0.01)
            return left.pop(0)

        return answer

    settings = {
        "client_id": asking("client_id", "one", "one", "two"),
        "endpoints": asking("endpoints", "mqtt://only", ("mqtt://only",), "mqtts://only:7"),
        "credentials": asking("credentials", Credentials("u", "1"), Credentials("u", b"2"), Credentials()),
        "will": asking("will", Will("w"), None, Will("w", b"3")),
        "birth": asking("birth", Message("b", b"1"), None, Message("b", b"3")),
    }
    async with sailing(**settings) as (mqtt, fleet):
        await mqtt.connect()
        await lose(fleet, mqtt)
        await lose(fleet, mqtt)
        await anyio.sleep(1)
        assert [(each.client_identifier, each.clean_start) for each in fleet.requests] == [
            ("one", True),
            ("one", False),
            ("two", True),
        ]
        assert [each.credentials.password for each in fleet.requests] == ["1", b"2", None]
        assert [each.will for each in fleet.requests] == [Will("w"), None, Will("w", b"3")]
        assert [str(each.endpoint) for each in fleet.requests] == ["only:1883", "only:1883", "only:7"]
        assert fleet.brokers["only"].received() == [("b", b"1"), ("b", b"3")]
    assert asked == ["endpoints", "client_id", "credentials", "will", "birth"] * 3


@pytest.mark.parametrize("name", ["endpoints", "client_id", "credentials", "will", "birth"])
@pytest.mark.parametrize("trouble", ["raises", "dawdles", "answers nonsense"])
async def test_a_callable_in_trouble_fails_that_attempt_only(name: str, trouble: str, records: Any) -> None:
    good = {
        "endpoints": "mqtt://only",
        "client_id": "boat",
        "credentials": Credentials("u", "p"),
        "will": Will("w"),
        "birth": Message("b", b""),
    }
    attempts = 0

    async def answer() -> Any:
        nonlocal attempts
        attempts += 1
        if attempts > 2:
            return good[name]
        if trouble == "raises":
            raise RuntimeError(SECRET)
        if trouble == "dawdles":
            await anyio.sleep_forever()
        return 7

    async with sailing(connection_timeout=2.0, **{name: answer}) as (mqtt, fleet):
        receipt = await mqtt.publish("up", "x")
        await receipt.acknowledged()
        assert len(fleet.requests) == 1
        assert (mqtt.stats["total_connections"], mqtt.stats["consecutive_failures"]) == (1, 0)
    assert records.levels("connection attempt failed") == ["ERROR", "WARNING"]
    told = records.of("connection attempt failed")[0].getMessage()
    assert f"`{name}`" in told
    assert {"raises": "RuntimeError", "dawdles": "did not answer within 2 s", "answers nonsense": "must return"}[
        trouble
    ] in told
    assert SECRET not in records.text()


@pytest.mark.parametrize("name", ["endpoints", "client_id", "credentials", "will", "birth", "authentication"])
def test_a_callable_that_waits_for_a_cancelled_task_fails_that_attempt_only(name: str, records: Any) -> None:
    """As in an application on asyncio that shares one refresh of its token, and shuts that down."""
    attempts = 0

    async def answer() -> Any:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            refresh = asyncio.ensure_future(asyncio.sleep(1))
            refresh.cancel()
            await refresh
        return {"endpoints": "mqtt://only", "client_id": "boat", "credentials": Credentials("u", "p")}.get(name)

    async def program() -> None:
        async with sailing(**{name: answer}) as (mqtt, _):
            await mqtt.connect()
            assert mqtt.stats["total_connections"] == 1

    run(program, backend="asyncio")
    assert attempts == 3
    assert records.levels("connection attempt failed") == ["ERROR", "WARNING"]
    assert f"`{name}` was cancelled" in records.of("connection attempt failed")[0].getMessage()


async def test_giving_up_tells_which_callable_it_was() -> None:
    async def raise_it() -> Credentials:
        raise ValueError(SECRET)

    async with sailing(credentials=raise_it, max_retries=1) as (mqtt, _):
        with pytest.raises(GaveUp, match="not dialled: `credentials` raised ValueError") as caught:
            await mqtt.connect()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_a_callable_is_cancelled_with_its_dial() -> None:
    ended: list[str] = []

    async def dawdle() -> str:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")
        return "never"

    async with sailing(client_id=dawdle) as (mqtt, _):
        await anyio.sleep(1)
        began_at = anyio.current_time()
        await mqtt.disconnect()
        assert anyio.current_time() - began_at <= 0.5
    assert ended == ["cancelled"]


# -------------------------------------------------------------------------------------------- identifiers


async def test_an_identifier_that_the_broker_assigned_is_used_from_then_on() -> None:
    async with sailing(client_id="") as (mqtt, fleet):
        await mqtt.connect()
        await lose(fleet, mqtt)
        first, second = fleet.requests
        assert (first.client_identifier, first.clean_start) == ("", True)
        assert second.client_identifier.startswith("assigned-")
        assert not second.clean_start
        assert list(fleet.brokers["only"].sessions) == [second.client_identifier]


# ------------------------------------------------------------------------------------------- will and birth


async def test_a_will_is_published_when_hawk_is_lost_and_not_when_it_says_goodbye() -> None:
    will = Will("status", "gone", qos=1, retain=True, delay_s=3)
    async with sailing(will=will, session_expiry_s=60, initial_retry_delay=5.0, max_retry_delay=5.0) as (mqtt, fleet):
        broker = fleet.brokers["only"]
        async with sailing_beside(broker) as other, other.subscribe("status", qos=1) as statuses:
            await mqtt.connect()
            began_at = anyio.current_time()
            for connection in list(broker.sessions):
                assert connection in ("boat", "other")
            await lose_boat_alone(broker)
            message = await anext(statuses)
            assert (message.text(), anyio.current_time() - began_at) == ("gone", pytest.approx(3.0, abs=0.5))
            with anyio.fail_after(60):
                await mqtt.connect()
            await mqtt.disconnect()
            with pytest.raises(TimeoutError), anyio.fail_after(600):
                await anext(statuses)


@asynccontextmanager
async def sailing_beside(broker: Broker) -> AsyncIterator[Any]:
    config = Config(client_id="other")
    fleet = Fleet(config, {"localhost": broker})
    async with open_mqtt(config, ports=Ports(fleet, None, VirtualWallClock(), Random(4))) as other:
        await other.connect()
        yield other


async def lose_boat_alone(broker: Broker) -> None:
    """Cut hawk's link, and nobody else's."""
    (connection,) = [
        each
        for each in broker._connections  # noqa: SLF001  the broker of the tests has no word for it
        if each._conversation._session is not None  # noqa: SLF001
        and each._conversation._session.client_identifier == "boat"  # noqa: SLF001
    ]
    connection.kill()


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_the_birth_goes_out_on_each_link_before_the_backlog(qos: int) -> None:
    async with sailing(birth=Message("status", b"here", qos)) as (mqtt, fleet):
        broker = fleet.brokers["only"]
        await mqtt.publish("up", "0")
        await mqtt.connect()
        await (await mqtt.publish("up", "1")).acknowledged()
        await anyio.sleep(1)
        await broker.kill()
        await mqtt.publish("up", "2")
        await broker.restart(sessions="lose")
        await mqtt.connect()
        await (await mqtt.publish("up", "3")).acknowledged()
        await anyio.sleep(1)
        assert [payload for _, payload in broker.received()] == [b"here", b"0", b"1", b"here", b"2", b"3"]
        stats = mqtt.stats
        assert (stats["accepted"], stats["acknowledged"] + stats["sent"]) == (6, 6)


async def test_a_birth_that_found_no_time_is_superseded_and_counted() -> None:
    async with sailing(birth=Message("status", b"here", 1), suback_timeout_s=5.0) as (mqtt, fleet):
        broker = fleet.brokers["only"]
        await mqtt.connect()
        await anyio.sleep(1)
        async with mqtt.subscribe("a"):
            await broker.kill()
            await broker.restart(sessions="lose")
            broker.pause()
            await anyio.sleep(0.1)
        broker.resume()
        await broker.kill()
        await anyio.sleep(1)
        await broker.restart()
        await mqtt.connect()
        await (await mqtt.publish("up", "x")).acknowledged()
        stats = mqtt.stats
        assert stats["accepted"] == stats["acknowledged"] + stats["superseded"]


# ---------------------------------------------------------------------------------------------- endpoints


async def test_endpoints_are_dialled_in_order_until_one_accepts() -> None:
    async with sailing("a", "b", "c") as (mqtt, fleet):
        await fleet.brokers["a"].kill()
        await fleet.brokers["b"].kill()
        await (await mqtt.publish("up", "x")).acknowledged()
        assert fleet.hosts == ["a", "b", "c"]
        assert fleet.brokers["c"].received() == [("up", b"x")]


async def test_hawk_goes_back_to_the_first_endpoint_when_it_is_well_and_loses_nothing() -> None:
    async with sailing("a", "b", failback_s=10.0) as (mqtt, fleet):
        await fleet.brokers["a"].kill()
        await mqtt.connect()
        assert fleet.hosts == ["a", "b"]
        payloads: list[bytes] = []
        for number in range(60):
            if number == 25:
                await fleet.brokers["a"].restart()
            payloads.append(str(number).encode())
            await mqtt.publish("up", payloads[-1], qos=2)
            await anyio.sleep(1)
        assert fleet.hosts == ["a", "b", "a"]
        assert [host for _, host in fleet.looked_at] == ["a", "a", "a"]
        arrived = [payload for name in ("b", "a") for _, payload in fleet.brokers[name].received()]
        assert lost(payloads, arrived) == []
        assert arrived == payloads
        assert mqtt.stats["total_disconnections"] == 1


async def test_going_back_in_vain_gets_rarer() -> None:
    """The first endpoint takes connections, and refuses every CONNECT."""
    async with sailing("a", "b", failback_s=10.0) as (mqtt, fleet):
        fleet.brokers["a"].refuse_with(0x88)
        await mqtt.connect()
        await anyio.sleep(1000)
        # After 10, 20, 40, 80, ... seconds, and not every 10.
        assert fleet.hosts.count("b") == 7
        assert mqtt.connection_state is ConnectionState.CONNECTED


# --------------------------------------------------------------------------------------- refusals, judged anew


async def test_an_application_decides_what_a_refusal_leads_to() -> None:
    judged: list[Judgement] = []

    def policy(judgement: Judgement) -> Verdict:
        judged.append(judgement)
        return Verdict.NEVER if len(judged) == 2 else judgement.verdict

    async with sailing(refusal_policy=policy) as (mqtt, fleet):
        fleet.brokers["only"].refuse_with(0x88)
        with pytest.raises(GaveUp):
            await mqtt.connect()
        assert judged == [Judgement("CONNACK", 0x88, "Server unavailable", Verdict.AGAIN)] * 2
        fleet.brokers["only"].refuse_with(None)
        await mqtt.connect()
        fleet.brokers["only"].disconnect_all(0x98)
        await anyio.sleep(10)
        assert judged[2] == Judgement("DISCONNECT", 0x98, "Administrative action", Verdict.AGAIN)


@pytest.mark.parametrize("trouble", ["raises", "answers nonsense"])
async def test_a_policy_in_trouble_is_told_once_and_the_table_stands_in(trouble: str, records: Any) -> None:
    def policy(judgement: Judgement) -> Any:
        if trouble == "raises":
            raise RuntimeError(SECRET)
        return "again"

    async with sailing(refusal_policy=policy) as (mqtt, fleet):
        fleet.brokers["only"].refuse_with(0x88)
        await anyio.sleep(10)
        fleet.brokers["only"].refuse_with(None)
        await mqtt.connect()
    assert records.levels("refusal_policy failed") == ["ERROR"]
    assert len(records.of("connection attempt failed")) > 1
    assert SECRET not in records.text()


# ------------------------------------------------------------------------------------ files and commands


@pytest.mark.anyio
async def test_a_password_comes_from_its_file_and_from_its_command_as_they_are_now(tmp_path: Path) -> None:
    file = tmp_path / "password"
    of_file = Config(username="u", password_file=str(file))
    of_command = Config(username="u", password_command=("cat", str(file)))
    as_text = Config(username="u", password_command=f"cat '{file}'")
    for content, password in ((b"one\n", b"one"), (b"two\r\n", b"two"), (b" \xff\0\n\n", b" \xff\0\n")):
        file.write_bytes(content)
        for config in (of_file, of_command, as_text):
            assert await ask_for_credentials(config) == ("u", password)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"password_file": "absent"}, "password_file absent cannot be read: No such file"),
        ({"password_file": "a\x01b"}, "password_file"),
        ({"password_file": "/dev/zero"}, "holds more than a password can be"),
        ({"password_command": "absent-program-of-hawk"}, "cannot be run: No such file"),
        ({"password_command": "sh -c 'echo no >&2; exit 3'"}, "ended with exit code 3"),
        ({"password_command": "sh 'never closed"}, "cannot be run: not a command"),
        ({"password_command": ("head", "-c", "70000", "/dev/zero")}, "holds more than a password can be"),
    ],
)
async def test_a_password_that_cannot_be_had_is_told(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(Unprepared, match=why):
        await ask_for_credentials(Config(**settings))


@pytest.mark.anyio
async def test_a_command_that_dawdles_ends_with_its_dial() -> None:
    with anyio.move_on_after(0.1) as scope:
        await ask_for_credentials(Config(password_command=("sleep", "60")))
    assert scope.cancelled_caught


@pytest.mark.anyio
@pytest.mark.parametrize("setting", ["tls_ca_file", "tls_certificate_file"])
async def test_a_file_of_tls_that_cannot_be_used_is_told_with_its_name(setting: str, tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    with pytest.raises(Unprepared, match=f"{setting} .*x.pem cannot be used: No such file"):
        await tls_context(Config(**{setting: str(file)}))
    file.write_text(SECRET)
    with pytest.raises(Unprepared, match="not usable PEM") as caught:
        await tls_context(Config(**{setting: str(file)}))
    assert SECRET not in str(caught.value)


@pytest.mark.anyio
async def test_a_tls_context_may_be_asked_for_and_must_be_one() -> None:
    context = ssl.create_default_context()
    for given in (context, lambda: context):
        assert await tls_context(Config(tls_context=given)) is context
    with pytest.raises(Unprepared, match=r"must be an ssl\.SSLContext, not str"):
        await tls_context(Config(tls_context=lambda: SECRET))


# ------------------------------------------------------------------------------------------- secrets (C10)


@pytest.mark.parametrize("source", ["password", "credentials", "partial", "password_file"])
async def test_no_credential_is_in_a_log_a_repr_a_traceback_or_a_report(
    source: str, records: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise C10, through refusals, losses, a protocol error and a crash of the application's own block."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "password").write_text(f"{SECRET}\n")

    async def fetch(password: str) -> Credentials:
        return Credentials("sailor", password)

    settings: dict[str, Any] = {
        "password": {"username": "sailor", "password": SECRET},
        "credentials": {"credentials": Credentials("sailor", SECRET)},
        "partial": {"credentials": partial(fetch, SECRET)},
        "password_file": {"username": "sailor", "password_file": str(tmp_path / "password")},
    }[source]
    seen: list[object] = []
    will = Will("status", SECRET)
    with pytest.raises(RuntimeError, match="own") as caught:  # noqa: PT012
        async with sailing(will=will, birth=Message("status", SECRET.encode()), **settings) as (mqtt, fleet):
            broker = fleet.brokers["only"]
            events = mqtt.events()
            for code in (0x86, 0x80, 0x89):
                broker.refuse_with(code)
                await anyio.sleep(8)
            broker.refuse_with(None)
            await mqtt.connect()
            broker.disconnect_all(0x82)
            await anyio.sleep(8)
            await broker.kill()
            await anyio.sleep(8)
            await broker.restart()
            await mqtt.connect()
            password = fleet.requests[-1].credentials.password
            assert password in (SECRET, SECRET.encode()), "otherwise this test proves nothing"
            seen += [mqtt, mqtt.stats, fleet.config, *fleet.requests, await mqtt.disconnect()]
            seen += [event async for event in events]
            raise RuntimeError("the application's own")
    seen += ["".join(traceback.format_exception(caught.value))]
    assert len(records.all) > 10
    everything = f"{records.text()}{caplog.text}{seen!r}{seen}"
    assert SECRET not in everything


@pytest.mark.anyio
async def test_no_credential_is_in_the_outbox_file_or_any_of_its_journals(tmp_path: Path, records: Any) -> None:
    """Promise C10 on the disk: a hawk that dies with messages in its file, and the one after it."""
    async with Broker(users={"sailor": SECRET}) as broker:
        port = await broker.listen()
        for name in ("one", "two"):
            async with open_mqtt(
                f"mqtt://sailor:{SECRET}@127.0.0.1:{port}",
                outbox=str(tmp_path / "outbox.db"),
                will=Will("status", SECRET),
                drain_s=0.1,
            ) as mqtt:
                await mqtt.connect()
                broker.acknowledge(False)
                await mqtt.publish("up", f"kept {name}")
                await anyio.sleep(0.05)
                written = contents_of(tmp_path)
                assert any(f"kept {name}".encode() in data for data in written.values()), "nothing was written"
                assert [name for name, data in written.items() if SECRET.encode() in data] == []
                broker.acknowledge(True)
    assert not any(SECRET.encode() in data for data in contents_of(tmp_path).values())
    assert SECRET not in records.text()


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
