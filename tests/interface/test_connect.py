"""`connect` and `disconnect`: what returns when, what is raised, what the operator reads, and that nothing is lost."""

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketStream

from hawk import (
    Config,
    ConnectionState,
    GaveUp,
    MQTTInterface,
    ReconnectionConfig,
    Stopped,
    StopReport,
    open_mqtt,
)
from hawk.core.refusals import CONNACK
from hawk.stores.memory import MemoryStore
from hawk.testing.broker import Broker
from hawk.testing.rehearsal import Rehearsal
from hawk.values import Verdict

RECONNECTION = ReconnectionConfig(max_retries=3, initial_retry_delay=1.0, max_retry_delay=8.0, jitter_factor=0.0)
CONFIG = Config(reconnection=RECONNECTION)

NEVER = sorted(code for code, refusal in CONNACK.items() if refusal.verdict is Verdict.NEVER)


def retrying(**settings: Any) -> Config:
    """CONFIG with other retries."""
    return Config(reconnection=ReconnectionConfig(**{"initial_retry_delay": 1.0, "jitter_factor": 0.0, **settings}))


@asynccontextmanager
async def held(rehearsal: Rehearsal, config: Config, **ports: Any) -> AsyncIterator[MQTTInterface]:
    """A hawk in a nursery that has not been started, and is stopped at the end."""
    async with anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(config, nursery, ports=rehearsal.ports(config, **ports))
        yield mqtt
        await mqtt.disconnect(drain_s=0)


def connects(rehearsal: Rehearsal) -> list[float]:
    """When the broker saw each CONNECT."""
    return [record.at for record in rehearsal.broker.records if record.packet == "CONNECT"]


# ------------------------------------------------------------------------------------------ connect


async def test_connect_returns_when_connected_and_again_at_once() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        assert mqtt.connection_state is ConnectionState.DISCONNECTED
        rehearsal.network.latency_s = 0.5
        await mqtt.connect()
        assert mqtt.connection_state is ConnectionState.CONNECTED
        before = anyio.current_time()
        await mqtt.connect()
        assert anyio.current_time() == before
        assert mqtt.stats["total_connections"] == 1
        rehearsal.network.latency_s = 0.0


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_r_retries_mean_r_plus_one_dials_and_then_gave_up(retries: int) -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, retrying(max_retries=retries)) as mqtt:
        rehearsal.network.refuse()
        with pytest.raises(GaveUp, match="connection refused") as caught:
            await mqtt.connect()
        assert mqtt.connection_state is ConnectionState.FAILED
        assert rehearsal.network.bites["refuse"] == retries + 1
        assert caught.value.attempts == mqtt.stats["consecutive_failures"] == retries + 1
        assert caught.value.reason_code is None
        await anyio.sleep(3600.0)
        assert rehearsal.network.bites["refuse"] == retries + 1, "FAILED dials nobody"


async def test_after_failed_connect_tries_afresh() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        rehearsal.network.refuse()
        for _ in range(2):
            with pytest.raises(GaveUp) as caught:
                await mqtt.connect()
            assert caught.value.attempts == 4
        receipt = await mqtt.publish("a", "while failed")
        rehearsal.network.allow()
        await mqtt.connect()
        await receipt.acknowledged()
        assert mqtt.stats["consecutive_failures"] == 0
        assert rehearsal.network.bites["refuse"] == 8


async def test_none_retries_for_ever() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, retrying(max_retries=None, max_retry_delay=60.0)) as mqtt:
        rehearsal.network.refuse()
        with anyio.move_on_after(86_400.0):
            await mqtt.connect()
        assert mqtt.connection_state is ConnectionState.RECONNECTING
        assert mqtt.stats["consecutive_failures"] > 1000
        rehearsal.network.allow()
        await anyio.sleep(60.0)
        assert mqtt.connection_state is ConnectionState.CONNECTED


async def test_connect_cuts_a_waiting_delay_short() -> None:
    config = retrying(max_retries=None, initial_retry_delay=200.0)
    async with Rehearsal() as rehearsal, held(rehearsal, config) as mqtt:
        rehearsal.network.refuse()
        with anyio.move_on_after(1.0):
            await mqtt.connect()
        rehearsal.network.allow()
        before = anyio.current_time()
        await mqtt.connect()
        assert anyio.current_time() - before < 0.1


async def test_a_cancelled_connect_ends_only_its_own_wait() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        rehearsal.network.refuse()
        with anyio.move_on_after(0.5) as scope:
            await mqtt.connect()
        assert scope.cancelled_caught
        rehearsal.network.allow()
        await anyio.sleep(1.0)
        assert mqtt.connection_state is ConnectionState.CONNECTED


async def test_hundreds_may_connect_and_disconnect_at_once() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        rehearsal.network.latency_s = 0.1
        for _ in range(3):
            async with anyio.create_task_group() as everybody:
                for _ in range(300):
                    everybody.start_soon(mqtt.connect)
            assert mqtt.connection_state is ConnectionState.CONNECTED
            reports: list[StopReport] = []

            async def disconnect(reports: list[StopReport] = reports) -> None:
                reports.append(await mqtt.disconnect())

            async with anyio.create_task_group() as everybody:
                for _ in range(300):
                    everybody.start_soon(disconnect)
            assert len(set(reports)) == 1
            assert mqtt.connection_state is ConnectionState.DISCONNECTED
        assert mqtt.stats["total_connections"] == mqtt.stats["total_disconnections"] == 3


async def test_hundreds_who_connect_during_an_outage_do_not_keep_the_actors_from_each_other() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, retrying(max_retries=None)) as mqtt:
        rehearsal.network.refuse()

        async def insist() -> None:
            for _ in range(20):
                with anyio.move_on_after(0.1):
                    await mqtt.connect()

        async with anyio.create_task_group() as everybody:
            for _ in range(200):
                everybody.start_soon(insist)
        rehearsal.network.allow()
        await mqtt.connect()


# ------------------------------------------------------------------------------- connect, disconnect


async def test_after_disconnect_connect_works_again_and_stats_continue() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        for run in range(1, 4):
            await mqtt.connect()
            await mqtt.publish("n", run)
            report = await mqtt.disconnect()
            assert report.acknowledged <= 1
            stats = mqtt.stats
            assert mqtt.connection_state is ConnectionState.DISCONNECTED
            assert stats["total_connections"] == stats["total_disconnections"] == run
            assert stats["total_reconnections"] == run - 1
            assert stats["messages_published"] == stats["accepted"] == run
            assert stats["queue_size"] == 0
        assert [payload for _, payload in rehearsal.broker.received()] == [b"1", b"2", b"3"]


async def test_disconnect_before_connect_and_twice_does_nothing() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        assert await mqtt.disconnect() == StopReport()
        await mqtt.connect()
        await mqtt.disconnect()
        await mqtt.disconnect()
        assert mqtt.stats["total_disconnections"] == 1
        assert mqtt.connection_state is ConnectionState.DISCONNECTED


@pytest.mark.parametrize("passes", range(0, 80, 2))
async def test_a_second_disconnect_at_whatever_moment_waits_for_the_same_end(passes: int) -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG, outbox_store=MemoryStore()) as mqtt:
        await mqtt.connect()
        await mqtt.publish("a", "x")
        async with anyio.create_task_group() as others:
            others.start_soon(mqtt.disconnect)
            for _ in range(passes):
                await anyio.lowlevel.checkpoint()
            await mqtt.disconnect()
            assert mqtt.connection_state is ConnectionState.DISCONNECTED
            assert not rehearsal.broker.sessions or not any(
                each.is_connected for each in rehearsal.broker.sessions.values()
            )
        await mqtt.connect()


class ClosesSlowly:
    """A store that takes a tenth of a second to close, as a disk may."""

    def __init__(self) -> None:
        self._inner = MemoryStore()
        self.durable = True
        self.open = self._inner.open
        self.commit = self._inner.commit
        self.page = self._inner.page

    async def aclose(self) -> None:
        await anyio.sleep(0.1)
        await self._inner.aclose()


@pytest.mark.parametrize("hundredths", range(0, 60, 2))
async def test_connect_at_whatever_moment_of_a_disconnect_connects_or_is_told_stopped(hundredths: int) -> None:
    """Never `OutboxInUse`: the store of the old run is closed before the next one opens it."""
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG, outbox_store=ClosesSlowly()) as mqtt:
        await mqtt.connect()
        async with anyio.create_task_group() as others:
            others.start_soon(mqtt.disconnect)
            await anyio.sleep(hundredths / 100 + 0.001)
            try:
                await mqtt.connect()
            except Stopped:
                await mqtt.disconnect()
                await mqtt.connect()
        await (await mqtt.publish("a", "y")).acknowledged()


async def test_disconnect_in_each_state_ends_it_in_time() -> None:
    async def refused(rehearsal: Rehearsal) -> None:
        rehearsal.network.refuse()

    async def hanging(rehearsal: Rehearsal) -> None:
        rehearsal.network.blackhole()

    async def fine(rehearsal: Rehearsal) -> None:
        assert rehearsal.broker.is_up

    cases: list[tuple[Callable[[Rehearsal], Awaitable[None]], ConnectionState]] = [
        (hanging, ConnectionState.CONNECTING),
        (fine, ConnectionState.CONNECTED),
        (refused, ConnectionState.RECONNECTING),
    ]
    for weather, expected in cases:
        async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
            await weather(rehearsal)
            with anyio.move_on_after(0.5):
                await mqtt.connect()
            assert mqtt.connection_state is expected
            before = anyio.current_time()
            await mqtt.disconnect()
            assert anyio.current_time() - before < 0.5
            assert mqtt.connection_state is ConnectionState.DISCONNECTED


async def test_disconnect_when_failed_ends_it_and_the_state_stays_failed() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, retrying(max_retries=0)) as mqtt:
        rehearsal.network.refuse()
        with pytest.raises(GaveUp):
            await mqtt.connect()
        await mqtt.disconnect()
        assert mqtt.connection_state is ConnectionState.FAILED
        rehearsal.network.allow()
        await mqtt.connect()
        assert mqtt.connection_state is ConnectionState.CONNECTED


async def test_who_waits_to_be_connected_when_somebody_disconnects_is_told_stopped() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        rehearsal.network.blackhole()
        told: list[Exception] = []

        async def connect() -> None:
            try:
                await mqtt.connect()
            except Stopped as stopped:
                told.append(stopped)

        async with anyio.create_task_group() as others:
            others.start_soon(connect)
            await anyio.sleep(0.1)
            await mqtt.disconnect()
        assert len(told) == 1


async def test_a_cancelled_disconnect_stops_all_the_same() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        await mqtt.connect()
        rehearsal.network.latency_s = 0.2
        await mqtt.publish("a", "x")
        with anyio.move_on_after(0.05):
            await mqtt.disconnect()
        await anyio.sleep(2.0)
        assert mqtt.connection_state is ConnectionState.DISCONNECTED
        assert rehearsal.broker.received() == [("a", b"x")]


async def test_disconnect_drains_what_a_returning_broker_takes() -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        receipts = [await mqtt.publish("n", number) for number in range(100)]
        report = await mqtt.disconnect()
        assert report == StopReport(acknowledged=100), "what is in memory alone gets one dial"
        assert all(receipt.settled for receipt in receipts)


async def test_disabled_dials_nobody_and_accepts_nothing() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as nursery:
        config = Config(enabled=False)
        mqtt = MQTTInterface(config, nursery, ports=rehearsal.ports(config))
        for call in (mqtt.connect, lambda: mqtt.publish("a", "x"), lambda: mqtt.publish_many([("a", "x")])):
            with pytest.raises(Stopped, match="enabled"):
                await call()
        with pytest.raises(Stopped):
            async with mqtt.subscribe("a"):
                pass
        assert await mqtt.disconnect() == StopReport()
        assert mqtt.stats["connection_state"] == "disconnected"
        assert not rehearsal.broker.records


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("code", NEVER)
async def test_a_refusal_for_good_fails_at_once_and_says_what_to_do(code: int, records: Any) -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        rehearsal.broker.refuse_with(code)
        with pytest.raises(GaveUp) as caught:
            await mqtt.connect()
        assert (caught.value.attempts, caught.value.reason_code) == (1, code)
        assert mqtt.connection_state is ConnectionState.FAILED
        await anyio.sleep(3600.0)
        assert len(connects(rehearsal)) == 1
        assert records.levels("connection attempt failed") == ["ERROR"]
        (failed,) = records.of("connection failed")
        assert failed.levelname == "ERROR"
        assert CONNACK[code].remedy in failed.getMessage()
        assert f"0x{code:02x}" in failed.getMessage()


@pytest.mark.parametrize("code", sorted(set(CONNACK) - set(NEVER) - {0x86, 0x87}))
async def test_a_refusal_for_now_is_tried_again(code: int, records: Any) -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        rehearsal.broker.refuse_with(code)
        with anyio.move_on_after(0.5):
            await mqtt.connect()
        assert mqtt.connection_state is ConnectionState.RECONNECTING
        assert records.levels("connection attempt failed") == ["WARNING"]
        rehearsal.broker.refuse_with(None)
        await anyio.sleep(8.0)
        assert mqtt.connection_state is ConnectionState.CONNECTED


@pytest.mark.parametrize("code", [0x86, 0x87])
async def test_an_authentication_failure_is_retried_and_the_first_of_an_episode_is_loud(
    code: int, records: Any
) -> None:
    async with Rehearsal() as rehearsal, held(rehearsal, CONFIG) as mqtt:
        rehearsal.broker.refuse_with(0x88)
        with anyio.move_on_after(0.5):
            await mqtt.connect()
        rehearsal.broker.refuse_with(code)
        with pytest.raises(GaveUp) as caught:
            await mqtt.connect()
        assert caught.value.reason_code == code
        assert len(connects(rehearsal)) == 4
        assert records.levels("connection attempt failed") == ["WARNING", "ERROR", "WARNING", "WARNING"]
        rehearsal.broker.refuse_with(None)
        await mqtt.connect()
        rehearsal.broker.refuse_with(code)
        rehearsal.network.reset_all()
        await anyio.sleep(4.0)
        assert records.levels("connection attempt failed")[4:6] == ["ERROR", "WARNING"]


async def test_an_authentication_failure_can_be_made_to_fail_at_once() -> None:
    config = Config(username="me", password="wrong", on_auth_failure="fail", reconnection=RECONNECTION)
    async with Rehearsal(broker=Broker(users={"me": "right"})) as rehearsal, held(rehearsal, config) as mqtt:
        with pytest.raises(GaveUp) as caught:
            await mqtt.connect()
        assert (caught.value.attempts, caught.value.reason_code) == (1, 0x86)


async def test_the_right_credentials_connect() -> None:
    config = Config(username="me", password="right")
    async with Rehearsal(broker=Broker(users={"me": "right"})) as rehearsal, held(rehearsal, config) as mqtt:
        await mqtt.connect()
        assert mqtt.connection_state is ConnectionState.CONNECTED


# ------------------------------------------------------------------------------- over real sockets


HASTY = ReconnectionConfig(max_retries=1, initial_retry_delay=0.02, max_retry_delay=0.05, connection_timeout=0.15)


def a_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def answers_http(stream: SocketStream) -> None:
    async with stream:
        await stream.receive()
        await stream.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


async def says_nothing(stream: SocketStream) -> None:
    async with stream:
        await anyio.sleep_forever()


async def closes_at_once(stream: SocketStream) -> None:
    await anyio.aclose_forcefully(stream)


async def dribbles(stream: SocketStream) -> None:
    """A CONNACK that claims 127 bytes and brings one every 50 ms."""
    async with stream:
        await stream.receive()
        for byte in bytes([0x20, 0x7F, 0x00, 0x00, 0x7C]) + bytes(40):
            await stream.send(bytes([byte]))
            await anyio.sleep(0.05)


async def publishes_first(stream: SocketStream) -> None:
    async with stream:
        await stream.receive()
        await stream.send(b"\x30\x05\x00\x01a\x00x")
        await anyio.sleep_forever()


@asynccontextmanager
async def serving(handler: Callable[[SocketStream], Awaitable[None]] | None) -> AsyncIterator[int]:
    """A port on which that answers; or, without a handler, nothing."""
    if handler is None:
        yield a_free_port()
        return

    async def carefully(stream: SocketStream) -> None:
        try:
            await handler(stream)
        except (anyio.BrokenResourceError, anyio.EndOfStream):
            return  # hawk has hung up

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", family=socket.AF_INET)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, carefully)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()
    await listener.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (None, "connection refused: nothing listens on that port"),
        (answers_http, "does not answer as an MQTT 5 broker"),
        (says_nothing, "no CONNACK from .* within 0.15 s"),
        (closes_at_once, "without answering CONNECT"),
        (dribbles, "no CONNACK from .* within 0.15 s"),
        (publishes_first, "does not answer as an MQTT 5 broker"),
    ],
)
async def test_whatever_answers_instead_of_a_broker_nothing_is_lost(
    handler: Callable[[SocketStream], Awaitable[None]] | None, why: str, records: Any
) -> None:
    """RECONNECTING, then FAILED, each attempt in the log; and all that was published arrives once a broker is there."""
    async with anyio.create_task_group() as nursery:
        async with serving(handler) as port:
            mqtt = MQTTInterface(Config(broker="127.0.0.1", port=port, reconnection=HASTY), nursery)
            seen = mqtt.events()
            before = anyio.current_time()
            with pytest.raises(GaveUp, match=why) as caught:
                await mqtt.connect()
            assert anyio.current_time() - before < 2.0
            assert caught.value.attempts == 2
            receipts = [await mqtt.publish("kept", number) for number in range(100)]
        assert records.levels("connection attempt failed") == ["WARNING", "WARNING"]
        (failed,) = records.of("connection failed")
        assert failed.levelname == "ERROR"
        assert str(port) in failed.getMessage()
        assert "`broker` and `port`" in failed.getMessage()
        assert "connect()" in failed.getMessage()
        changes = [(await anext(seen)).after.value for _ in range(3)]
        assert changes == ["connecting", "reconnecting", "failed"]
        seen.close()
        async with Broker() as broker:
            await broker.listen(port=port)
            await mqtt.connect()
            for receipt in receipts:
                await receipt.acknowledged()
            assert [int(payload) for _, payload in broker.received()] == list(range(100))
            await mqtt.disconnect()


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["no-such-host.invalid", "not a host", "x" * 300, "a..b", "-"])
async def test_an_unknown_host_is_told_as_that(host: str, records: Any) -> None:
    config = Config(broker=host, reconnection=ReconnectionConfig(max_retries=0, connection_timeout=5.0))
    async with anyio.create_task_group() as nursery:
        mqtt = MQTTInterface(config, nursery)
        with pytest.raises(GaveUp, match=r"name|host"):
            await mqtt.connect()
        await mqtt.publish("a", "still accepted")
        assert [record.levelno for record in records.of("connection failed")] == [logging.ERROR]
        report = await mqtt.disconnect(drain_s=0)
        assert report.abandoned == 1


@pytest.mark.anyio
async def test_open_mqtt_yields_at_once_and_delivers_over_a_real_socket() -> None:
    async with Broker() as broker:
        port = await broker.listen()
        async with open_mqtt(f"mqtt://127.0.0.1:{port}") as mqtt:
            await mqtt.publish("a", {"value": 23.5})
        assert broker.received() == [("a", b'{"value":23.5}')]
    assert isinstance(mqtt, MQTTInterface)


# ------------------------------------------------------------------------------------------- leaving


async def own_error() -> None:
    raise ValueError("the application's own")


async def own_group() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own_error)
        await anyio.sleep(1.0)


@pytest.mark.parametrize("fail", [own_error, own_group])
async def test_what_the_block_raises_leaves_it_as_it_is(fail: Callable[[], Awaitable[None]]) -> None:
    raised: list[Exception] = []
    async with Rehearsal() as rehearsal:
        with pytest.raises((ValueError, ExceptionGroup)) as left:  # noqa: PT012
            async with rehearsal.open_mqtt(CONFIG) as mqtt:
                await mqtt.connect()
                await mqtt.publish("a", "x")
                try:
                    await fail()
                except Exception as error:
                    raised.append(error)
                    raise
        assert [left.value] == raised
        assert len(rehearsal.broker.received()) == 1
