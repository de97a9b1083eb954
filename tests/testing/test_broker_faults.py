"""The faults of the broker: down, killed, restarted, silent, paused, refusing; over memory and over TCP."""

from typing import Any

import anyio
import mqtt5
import pytest
from mqtt5 import PubAckPacket, PublishPacket, PubRecPacket, PubRelPacket, QoS

from hawk.testing.broker import Broker
from hawk.testing.memory_stream import memory_stream_pair

pytestmark = pytest.mark.anyio


async def test_stop_says_goodbye_and_refuses_newcomers(dial: Any) -> None:
    async with Broker() as broker:
        clients = [await dial(broker, name) for name in ("one", "two")]
        await broker.stop()
        for client in clients:
            assert await client.receive_disconnect() == 0x8B
        assert not broker.is_up
        with pytest.raises(ConnectionRefusedError):
            broker.connect()
        with pytest.raises(ConnectionRefusedError):
            broker.accept(memory_stream_pair()[0])
        await broker.restart()
        await (await dial(broker)).ping()


async def test_kill_breaks_the_links_without_a_byte(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.send(mqtt5.PingReqPacket())
        await broker.kill()
        with pytest.raises(anyio.BrokenResourceError):
            await client.stream.receive()
        with pytest.raises(ConnectionRefusedError):
            broker.connect()


@pytest.mark.parametrize("going", ["kill", "stop", "still up"])
async def test_a_restart_keeps_sessions_unless_told_to_lose_them(dial: Any, going: str) -> None:
    async with Broker() as broker:
        client = await dial(broker, session_expiry_interval=60)
        await client.subscribe("a")
        await client.publish("b", b"x", 2, 5)
        await client.receive()
        broker.publish("a", b"kept", qos=1)
        broker.publish("r", b"kept", retain=True)
        await client.receive_publish()
        if going != "still up":
            await (broker.kill() if going == "kill" else broker.stop())
        await broker.restart()
        client = await dial(broker, session_expiry_interval=60)
        assert client.connack.session_present
        packet = await client.receive_publish()
        assert (packet.payload, packet.duplicate) == (b"kept", True)
        await client.send(PubRelPacket(5))
        assert int((await client.receive()).reason_code) == 0
        await broker.restart(sessions="lose")
        assert not broker.sessions
        client = await dial(broker, session_expiry_interval=60)
        assert not client.connack.session_present
        await client.send(PubRelPacket(5))
        assert int((await client.receive()).reason_code) == 0x92
        await client.subscribe("r")
        await client.ping()


async def test_a_paused_broker_neither_reads_nor_says_anything(dial: Any, raw_client: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        await client.subscribe("a")
        broker.pause()
        newcomer = raw_client(broker.connect())
        await newcomer.send(mqtt5.ConnectPacket("newcomer"))
        await client.publish("b", b"x", 1, 1)
        broker.publish("a", b"y")
        await anyio.wait_all_tasks_blocked()
        assert client.stream.unread_bytes == newcomer.stream.unread_bytes == 0
        assert broker.received() == []
        broker.resume()
        heard = {type(await client.receive()) for _ in range(2)}
        assert heard == {PubAckPacket, PublishPacket}
        assert isinstance(await newcomer.receive(), mqtt5.ConnAckPacket)


@pytest.mark.parametrize("going", ["kill", "stop", "restart"])
async def test_a_paused_broker_goes_down_without_a_word(dial: Any, going: str) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        broker.pause()
        with anyio.fail_after(1):
            await getattr(broker, going)()
        await client.receive_end()
        await broker.restart()
        await (await dial(broker)).ping()


async def test_a_refusing_broker_says_why_and_may_change_its_mind(dial: Any) -> None:
    async with Broker() as broker:
        for code in (0x88, 0x97, 0xA7):
            broker.refuse_with(code)
            client = broker.connect()
            await client.send(mqtt5.ConnectPacket("client").write())
            assert await client.receive() == bytes((0x20, 3, 0, code, 0))
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
        broker.refuse_with(None)
        await (await dial(broker)).ping()


async def test_before_its_connack_a_client_is_sent_no_disconnect() -> None:
    async with Broker() as broker:
        stream = broker.connect()
        await anyio.wait_all_tasks_blocked()
        broker.disconnect_all(0x98)
        with anyio.fail_after(1), pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_disconnect_all_names_its_reason_and_newcomers_are_welcome(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        broker.disconnect_all(0x98)
        assert await client.receive_disconnect() == 0x98
        await (await dial(broker)).ping()


async def test_what_was_queued_is_written_before_the_disconnect(dial: Any) -> None:
    """Whatever the scheduler does: an answer is never torn by a DISCONNECT."""
    async with Broker() as broker:
        for _ in range(20):
            client = await dial(broker)
            await client.send(*(PublishPacket("a", b"x", qos=QoS(1), packet_id=i) for i in range(1, 50)))
            broker.disconnect_all(0x98)
            packet = await client.receive()
            while isinstance(packet, PubAckPacket):
                packet = await client.receive()
            assert isinstance(packet, mqtt5.DisconnectPacket)


async def test_a_disconnect_waits_for_a_packet_that_is_being_written(raw_client: Any) -> None:
    async with Broker() as broker:
        ours, theirs = memory_stream_pair(capacity_bytes=1000)
        broker.accept(theirs)
        client = raw_client(ours)
        await client.connect()
        await client.subscribe("a")
        broker.publish("a", bytes(5000))
        await anyio.wait_all_tasks_blocked()
        broker.disconnect_all(0x98)
        assert (await client.receive_publish()).payload == bytes(5000)
        assert await client.receive_disconnect() == 0x98


async def test_a_silent_broker_takes_messages_and_acknowledges_none(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker, session_expiry_interval=60)
        broker.acknowledge(False)
        await client.publish("a", b"1", 1, 1)
        await client.publish("a", b"2", 2, 2)
        await client.ping()
        assert broker.received() == [("a", b"1"), ("a", b"2")]
        broker.acknowledge(True)
        await client.ping()
        client = await dial(broker, session_expiry_interval=60)
        await client.publish("a", b"1", 1, 1, duplicate=True)
        assert await client.receive() == PubAckPacket(1)
        await client.publish("a", b"2", 2, 2, duplicate=True)
        assert await client.receive() == PubRecPacket(2)
        broker.acknowledge(False)
        await client.send(PubRelPacket(2))
        await client.ping()
        assert broker.received() == [("a", b"1"), ("a", b"2")]


async def test_publishes_can_be_answered_with_a_reason(dial: Any) -> None:
    async with Broker() as broker:
        client, reader = await dial(broker), await dial(broker, "reader")
        await reader.subscribe("#")
        broker.answer_publishes_with(0x97)
        broker.answer_publishes_with(0x87, topic="secret/#")
        answers = []
        for identifier, (topic, qos) in enumerate([("a", 1), ("a", 2), ("secret/b", 1), ("secret/b", 2)], 1):
            await client.publish(topic, b"x", qos, identifier)
            answers.append(int((await client.receive()).reason_code))
        assert answers == [0x97, 0x97, 0x87, 0x87]
        assert broker.received() == []
        await reader.ping()
        broker.answer_publishes_with(0x10, topic="a")
        await client.publish("a", b"x", 1, 1)
        assert int((await client.receive()).reason_code) == 0x10
        assert (await reader.receive_publish()).topic == "a"
        broker.answer_publishes_with(0)
        await client.publish("secret/b", b"x", 1, 1)
        assert await client.receive() == PubAckPacket(1)


async def test_a_publish_refused_at_qos_2_leaves_nothing_in_flight(dial: Any) -> None:
    async with Broker(receive_maximum=1) as broker:
        client = await dial(broker)
        broker.answer_publishes_with(0x97)
        for identifier in (1, 2, 3):
            await client.publish("a", b"x", 2, identifier)
            assert int((await client.receive()).reason_code) == 0x97


async def test_pings_may_stay_unanswered(dial: Any) -> None:
    async with Broker() as broker:
        client = await dial(broker)
        assert broker.answers_pings
        broker.answers_pings = False
        await client.send(mqtt5.PingReqPacket())
        await client.publish("a", b"x", 1, 1)
        assert await client.receive() == PubAckPacket(1)
        broker.answers_pings = True
        await client.ping()


async def test_tcp_is_served_and_the_port_survives_kill_and_stop(raw_client: Any) -> None:
    async with Broker() as broker:
        port = await broker.listen()
        for going in ("kill", "stop", "restart"):
            client = raw_client(await anyio.connect_tcp("127.0.0.1", port))
            await client.connect()
            await client.publish("a", b"x", 1, 1)
            assert await client.receive() == PubAckPacket(1)
            await getattr(broker, going)()
            if going == "stop":
                assert await client.receive_disconnect() == 0x8B
            else:
                with pytest.raises(anyio.BrokenResourceError):
                    await client.stream.receive()
            await client.stream.aclose()
            if going != "restart":
                with pytest.raises(OSError, match="attempts failed"):
                    await anyio.connect_tcp("127.0.0.1", port)
                await broker.restart()
        client = raw_client(await anyio.connect_tcp("127.0.0.1", port))
        await client.connect()
        await client.stream.aclose()


async def test_leaving_the_block_ends_every_connection_and_every_task(dial: Any) -> None:
    before = {task.id for task in anyio.get_running_tasks()}
    async with Broker() as broker:
        port = await broker.listen()
        clients = [await dial(broker, name, keep_alive=10) for name in ("one", "two")]
        tcp = await anyio.connect_tcp("127.0.0.1", port)
        await anyio.wait_all_tasks_blocked()
        assert len(anyio.get_running_tasks()) > len(before)
    assert {task.id for task in anyio.get_running_tasks()} == before
    for client in clients:
        await client.receive_end()
    with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
        await tcp.receive()
    await tcp.aclose()
    with pytest.raises(ConnectionRefusedError):
        broker.connect()


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with Broker():
            raise KeyError


async def test_the_block_can_be_cancelled() -> None:
    with anyio.fail_after(1), anyio.CancelScope() as scope:
        async with Broker():
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
