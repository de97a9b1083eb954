"""What the broker does with time: keep alive, session expiry, message expiry, will delay. All in virtual time."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import mqtt5
import pytest
from mqtt5 import PublishPacket, QoS, TopicFilter, Will

from hawk.testing.broker import Broker
from hawk.testing.virtual_time import run

Program = Callable[[], Awaitable[None]]


@pytest.fixture(params=["trio", "asyncio"])
def in_virtual_time(request: pytest.FixtureRequest) -> Callable[[Program], None]:
    return lambda program: run(program, backend=request.param)


def test_a_silent_client_is_cut_off_after_one_and_a_half_keep_alives(in_virtual_time: Any, dial: Any) -> None:
    async def program() -> None:
        async with Broker() as broker:
            client = await dial(broker, keep_alive=10)
            await anyio.sleep(14)
            await client.ping()
            started_at = anyio.current_time()
            assert int((mqtt5.read(await client.stream.receive())[0]).reason_code) == 0x8D
            assert anyio.current_time() - started_at == pytest.approx(15)
            assert not broker.sessions

    in_virtual_time(program)


def test_the_servers_keep_alive_wins_and_zero_means_for_ever(in_virtual_time: Any, dial: Any) -> None:
    async def program() -> None:
        async with Broker() as broker:
            client = await dial(broker, keep_alive=0)
            await anyio.sleep(80_000)
            await client.ping()
        async with Broker(server_keep_alive_s=4) as broker:
            client = await dial(broker, keep_alive=0)
            started_at = anyio.current_time()
            await client.stream.receive()
            assert anyio.current_time() - started_at == pytest.approx(6)

    in_virtual_time(program)


def test_a_pause_does_not_count_as_the_clients_silence(in_virtual_time: Any, dial: Any) -> None:
    async def program() -> None:
        async with Broker() as broker:
            client = await dial(broker, keep_alive=10)
            broker.pause()
            await anyio.sleep(1000)
            broker.resume()
            await anyio.sleep(14)
            await client.ping()

    in_virtual_time(program)


def test_a_session_lives_as_long_as_its_expiry_after_the_connection(in_virtual_time: Any, dial: Any) -> None:
    async def program() -> None:
        async with Broker() as broker:
            client = await dial(broker, session_expiry_interval=60)
            for away_s, present in ((59, True), (61, False), (59, True)):
                await anyio.sleep(200)
                await client.stream.aclose()
                await anyio.sleep(away_s)
                client = await dial(broker, session_expiry_interval=60)
                assert client.connack.session_present is present
            await client.stream.aclose()
            await anyio.sleep(61)
            assert not broker.sessions
            client = await dial(broker, session_expiry_interval=0xFFFF_FFFF)
            await client.stream.aclose()
            await anyio.sleep(86_400)
            assert (await dial(broker)).connack.session_present

    in_virtual_time(program)


def test_an_expired_session_is_sent_nothing(in_virtual_time: Any, dial: Any) -> None:
    async def program() -> None:
        async with Broker() as broker:
            client = await dial(broker, session_expiry_interval=10)
            await client.subscribe("a")
            await client.stream.aclose()
            await anyio.sleep(11)
            broker.publish("a", b"x", qos=1)
            assert "client" not in broker.sessions

    in_virtual_time(program)


def test_messages_expire_while_they_wait_and_tell_what_remains(in_virtual_time: Any, dial: Any) -> None:
    async def program() -> None:
        async with Broker() as broker:
            client = await dial(broker, session_expiry_interval=1000)
            await client.subscribe("a")
            await client.stream.aclose()
            writer = await dial(broker, "writer")
            for number, expiry_s in enumerate((5, 100, None), 1):
                await writer.publish("a", b"%d" % number, 1, number, message_expiry_interval=expiry_s, retain=True)
                await writer.receive()
            await anyio.sleep(30)
            client = await dial(broker, session_expiry_interval=1000)
            heard = [await client.receive_publish() for _ in range(2)]
            assert [(p.payload, p.message_expiry_interval) for p in heard] == [(b"2", 70), (b"3", None)]
            await writer.publish("r", b"kept", retain=True, message_expiry_interval=10)
            await writer.ping()
            await anyio.sleep(11)
            await client.subscribe("r")
            await client.ping()

    in_virtual_time(program)


@pytest.mark.parametrize(
    ("delay_s", "expiry_s", "said_after_s"), [(30, 60, 30), (60, 30, 30), (30, 0, 0), (30, 0xFFFF_FFFF, 30)]
)
def test_a_will_waits_for_its_delay_or_the_end_of_the_session(
    in_virtual_time: Any, dial: Any, delay_s: int, expiry_s: int, said_after_s: int
) -> None:
    async def program() -> None:
        async with Broker() as broker:
            reader = await dial(broker, "reader")
            await reader.subscribe("w")
            will = Will("w", payload=b"gone", will_delay_interval=delay_s, message_expiry_interval=9)
            client = await dial(broker, will=will, session_expiry_interval=expiry_s)
            await anyio.sleep(100)
            await client.stream.aclose()
            started_at = anyio.current_time()
            packet = mqtt5.read(await reader.stream.receive())[0]
            assert isinstance(packet, PublishPacket)
            assert (packet.payload, packet.message_expiry_interval) == (b"gone", 9)
            assert anyio.current_time() - started_at == pytest.approx(said_after_s)
            await anyio.sleep(1000)
            await reader.ping()

    in_virtual_time(program)


def test_a_client_that_comes_back_in_time_has_no_will_said(in_virtual_time: Any, dial: Any) -> None:
    async def program() -> None:
        async with Broker() as broker:
            reader = await dial(broker, "reader")
            await reader.subscribe(TopicFilter("w", max_qos=QoS(0)))
            will = Will("w", will_delay_interval=30)
            client = await dial(broker, will=will, session_expiry_interval=60)
            for _ in range(3):
                await client.stream.aclose()
                await anyio.sleep(20)
                client = await dial(broker, will=will, session_expiry_interval=60)
            await anyio.sleep(100)
            await reader.ping()

    in_virtual_time(program)


def test_a_day_with_a_paused_broker_takes_no_time(in_virtual_time: Any, dial: Any) -> None:
    async def program() -> None:
        async with Broker() as broker:
            client = await dial(broker, keep_alive=30)
            broker.pause()
            with anyio.move_on_after(86_400):
                await client.stream.receive()
            broker.resume()
            await client.ping()

    in_virtual_time(program)
