"""What every link promises its Connector, tried over a pair of streams in memory and over TCP, on both backends."""

import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import mqtt5
import pytest
import trio
import trio.testing
from anyio.abc import SocketAttribute, SocketStream

from hawk.config import Config
from hawk.connecting import Credentials, Endpoint, Transport
from hawk.core.poison import is_evidence
from hawk.errors import ConnectRefused, LinkLost, Unreachable
from hawk.links.dialing import NetworkDialer, StreamDialer
from hawk.links.endings import cause_of
from hawk.links.stream import CHUNK_BYTES, StreamLink, open_link
from hawk.packets import (
    Arrivals,
    Connack,
    ConnectRequest,
    Delivery,
    DisconnectRequest,
    Inbound,
    PingRequest,
    Publish,
)
from hawk.ports import Dialer, Link
from hawk.testing.broker import Broker
from hawk.testing.virtual_time import Backend, run
from hawk.values import Cause, CauseKind, Message

pytestmark = pytest.mark.anyio

CONFIG = Config(client_id="me", max_packet_size=5_000_000)
REQUEST = ConnectRequest("me", clean_start=True)
WELCOME = mqtt5.ConnAckPacket()
PONG = mqtt5.PingRespPacket()
PATIENCE_S = 5.0


async def linked(ends: Any, *behind: mqtt5.Packet | bytes) -> StreamLink:
    """A link whose broker said welcome, and perhaps more in the same write."""
    await ends.peer.say(WELCOME, *behind)
    link = await open_link(ends.client, config=CONFIG, request=REQUEST)
    assert isinstance(await ends.peer.hear(), mqtt5.ConnectPacket)
    return link


async def end_of(link: Link) -> tuple[Arrivals, Cause]:
    """Everything until the link ends, and why it did."""
    whole = Arrivals()
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                part = await link.receive()
            except LinkLost as lost:
                return whole, cause_in(lost)
            whole.acknowledged += part.acknowledged
            whole.acknowledgements += part.acknowledgements
            whole.inbound += part.inbound
            whole.pong = whole.pong or part.pong


async def write_until_lost(link: Link) -> Cause:
    """Write pings until the link ends, and why it did."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                await link.send([PingRequest()])
            except LinkLost as lost:
                return cause_in(lost)
            await anyio.lowlevel.checkpoint()


def cause_in(lost: LinkLost) -> Cause:
    if not isinstance(lost.cause, Cause):
        raise TypeError(lost.cause)
    return lost.cause


async def test_what_is_sent_arrives_in_order(ends: Any) -> None:
    link: Link = await linked(ends)
    publishes = [Publish(Message("t", str(number).encode()), number) for number in range(1, 3000)]
    heard: list[int] = []

    async def hear() -> None:
        while not isinstance(packet := await ends.peer.hear(), mqtt5.PingReqPacket):
            assert isinstance(packet, mqtt5.PublishPacket)
            heard.append(int(packet.payload))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear)
            await link.send(publishes[:1000])
            await link.send(())
            await link.send([*publishes[1000:], PingRequest()])
    assert heard == list(range(1, 3000))


@pytest.mark.parametrize("password", ["hunter2", b"hunter2"])
async def test_a_broker_that_repeats_the_password_does_not_make_hawk_repeat_it(ends: Any, password: Any) -> None:
    request = ConnectRequest("me", clean_start=True, credentials=Credentials("sailor", password))
    farewell = mqtt5.DisconnectPacket(
        reason_code=mqtt5.DisconnectReasonCode.NOT_AUTHORIZED, reason_str="sailor, hunter2 is not valid any more"
    )
    await ends.peer.say(WELCOME, farewell)
    _, cause = await end_of(await open_link(ends.client, config=CONFIG, request=request))
    assert cause.text == "not authorized: sailor, *** is not valid any more"


async def test_a_refusal_that_repeats_the_password_does_not_make_hawk_repeat_it(ends: Any) -> None:
    request = ConnectRequest("me", clean_start=True, credentials=Credentials("sailor", "hunter2"))
    code = mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD
    await ends.peer.say(mqtt5.ConnAckPacket(reason_code=code, reason_str="hunter2?"))
    with pytest.raises(ConnectRefused) as raised:
        await open_link(ends.client, config=CONFIG, request=request)
    assert "hunter2" not in repr(raised.value.connack)
    assert "***" in raised.value.connack.reason


async def test_a_payload_of_megabytes_goes_and_comes_whole(ends: Any) -> None:
    link = await linked(ends)
    payload = bytes(range(256)) * 16_000
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(link.send, [Publish(Message("t", payload), 1)])
            packet = await ends.peer.hear()
        assert isinstance(packet, mqtt5.PublishPacket)
        assert packet.payload == payload
        inbound: list[Inbound] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ends.peer.say, mqtt5.PublishPacket("t", payload))
            while not inbound:
                inbound += (await link.receive()).inbound
    assert inbound == [Delivery(Message("t", payload, 0))]


async def test_bytes_behind_the_connack_are_not_lost(ends: Any) -> None:
    link = await linked(ends, mqtt5.PublishPacket("t", b"x"), PONG.write()[:1])
    first = await link.receive()
    assert first.inbound == [Delivery(Message("t", b"x", 0))]
    assert not first.pong
    await ends.peer.say(PONG.write()[1:])
    assert (await link.receive()).pong


async def test_a_read_that_completes_nothing_is_heard_all_the_same(ends: Any) -> None:
    link = await linked(ends)
    await ends.peer.say(b"\x40\x02")
    assert await link.receive() == Arrivals()
    await ends.peer.say(b"\x00\x05")
    assert await link.receive() == Arrivals([5])


async def test_a_cancelled_receive_loses_nothing(ends: Any) -> None:
    link = await linked(ends, mqtt5.PubAckPacket(1))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await link.receive()
    assert scope.cancelled_caught
    with anyio.move_on_after(0.01):
        await link.receive()
        await link.receive()
    await ends.peer.say(mqtt5.PubAckPacket(2))
    assert await link.receive() == Arrivals([2])


async def test_the_broker_closing_is_told_after_what_it_said_and_for_ever(ends: Any) -> None:
    link = await linked(ends)
    await ends.peer.say(mqtt5.PubAckPacket(1), mqtt5.PubAckPacket(2).write()[:3])
    await ends.peer.close()
    arrivals, cause = await end_of(link)
    assert arrivals == Arrivals([1])
    assert cause.kind is CauseKind.CLOSED_BY_PEER
    assert await end_of(link) == (Arrivals(), cause)
    with pytest.raises(LinkLost) as lost:
        await link.send([PingRequest()])
    assert lost.value.cause == cause


async def test_a_reset_is_told_as_one(ends: Any) -> None:
    link = await linked(ends)
    await ends.peer.reset()
    _, cause = await end_of(link)
    assert cause.kind is CauseKind.RESET_BY_PEER


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (anyio.EndOfStream(), CauseKind.CLOSED_BY_PEER),
        (anyio.BrokenResourceError(), CauseKind.RESET_BY_PEER),
        (ConnectionResetError(errno.ECONNRESET, "reset"), CauseKind.RESET_BY_PEER),
        (BrokenPipeError(errno.EPIPE, "broken pipe"), CauseKind.RESET_BY_PEER),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), CauseKind.UNREACHABLE),
        (OSError(errno.EHOSTUNREACH, "no route"), CauseKind.UNREACHABLE),
        (OSError(errno.ENETDOWN, "network down"), CauseKind.UNREACHABLE),
        (ssl.SSLError(1, "bad record mac"), CauseKind.PROTOCOL_ERROR),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_the_broker_did_is_told_as_its_doing(error: Exception, kind: CauseKind) -> None:
    """What lies between is no evidence against a message that was under way."""
    broken = anyio.BrokenResourceError()
    broken.__cause__ = error
    told = [cause_of(error)] if isinstance(error, anyio.EndOfStream) else [cause_of(error), cause_of(broken)]
    assert {cause.kind for cause in told} == {kind}
    of_the_broker = (CauseKind.CLOSED_BY_PEER, CauseKind.RESET_BY_PEER)
    assert is_evidence(told[0]) == (kind in of_the_broker)


async def test_a_write_to_a_broker_that_is_gone_ends_the_link(ends: Any) -> None:
    link = await linked(ends)
    await ends.peer.reset()
    cause = await write_until_lost(link)
    assert cause.kind is CauseKind.RESET_BY_PEER
    assert await end_of(link) == (Arrivals(), cause)


async def test_the_brokers_last_words_explain_a_write_that_fails(ends: Any) -> None:
    link = await linked(ends)
    reason = mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER
    causes: list[Cause] = []

    async def read() -> None:
        causes.append((await end_of(link))[1])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        await ends.peer.say(mqtt5.DisconnectPacket(reason_code=reason))
        await ends.peer.close()
        causes.append(await write_until_lost(link))
    assert causes == [Cause(CauseKind.DISCONNECT, "session taken over", 0x8E)] * 2


async def test_what_came_before_a_disconnect_comes_first(ends: Any) -> None:
    link = await linked(ends)
    reason = mqtt5.DisconnectReasonCode.SERVER_MOVED
    goodbye = mqtt5.DisconnectPacket(reason_code=reason, reason_str="moved", server_reference="b:1883")
    await ends.peer.say(mqtt5.PubAckPacket(1), goodbye, mqtt5.PubAckPacket(2))
    arrivals, cause = await end_of(link)
    assert arrivals == Arrivals([1])
    assert cause == Cause(CauseKind.DISCONNECT, "server moved: moved", 0x9D, "b:1883")


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\x20\x03\x00\x00\x00", 0x82), (b"\x36\x00", 0x81), (b"\x30\xff\xff\xff\x7f", 0x95)],
    ids=["second CONNACK", "QoS 3", "256 MiB"],
)
async def test_a_broken_rule_is_told_to_the_broker_after_all_that_was_good(ends: Any, data: bytes, code: int) -> None:
    link = await linked(ends)
    await ends.peer.say(mqtt5.PubAckPacket(1), data)
    arrivals, cause = await end_of(link)
    assert arrivals == Arrivals([1])
    assert (cause.kind, cause.reason_code) == (CauseKind.PROTOCOL_ERROR, code)
    farewell = await ends.peer.hear()
    assert isinstance(farewell, mqtt5.DisconnectPacket)
    assert int(farewell.reason_code) == code
    assert await end_of(link) == (Arrivals(), cause)


async def test_closing_is_idempotent_final_and_immediate(ends: Any) -> None:
    link = await linked(ends)
    await link.aclose()
    await link.aclose()
    assert await ends.peer.is_closed_by_client()
    for work in (link.receive(), link.send([PingRequest()])):
        with pytest.raises(LinkLost) as lost:
            await work
        assert isinstance(lost.value.cause, Cause)
        assert lost.value.cause.kind is CauseKind.CLOSED


async def test_closing_works_inside_a_cancelled_scope(ends: Any) -> None:
    link = await linked(ends)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await link.aclose()
    with anyio.fail_after(PATIENCE_S):
        assert await ends.peer.is_closed_by_client()


async def test_after_a_cancelled_write_nothing_more_is_written(ends: Any) -> None:
    link = await linked(ends)
    large = [Publish(Message("t", bytes(4_000_000)), 1) for _ in range(20)]
    with anyio.move_on_after(0.05) as scope:
        await link.send(large)
    assert scope.cancelled_caught
    with pytest.raises(LinkLost) as lost:
        await link.send([DisconnectRequest()])
    assert isinstance(lost.value.cause, Cause)
    assert lost.value.cause.kind is CauseKind.CLOSED
    await link.aclose()


async def test_a_send_that_is_cancelled_between_two_packets_tears_the_stream_too(
    ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of them are out nobody knows, although each that is out is whole."""
    link = await linked(ends)
    send, sent = ends.client.send, list[int]()

    async def send_one(item: bytes) -> None:
        await send(item)
        sent.append(len(item))
        scope.cancel()

    monkeypatch.setattr(ends.client, "send", send_one)
    packet = Publish(Message("t", bytes(CHUNK_BYTES - 100)), 1)
    with anyio.CancelScope() as scope:
        await link.send([packet, packet])
    assert scope.cancelled_caught
    assert len(sent) == 1
    with pytest.raises(LinkLost) as lost:
        await link.send([DisconnectRequest()])
    assert cause_in(lost.value).kind is CauseKind.CLOSED
    await link.aclose()


# ------------------------------------------------------------------------------------- the handshake


async def failed_handshake(ends: Any, answer: bytes) -> Exception:
    """What `open_link` raises; and the stream is closed after it."""
    await ends.peer.say(answer)
    with anyio.fail_after(PATIENCE_S):
        with pytest.raises((Unreachable, ConnectRefused)) as raised:
            await open_link(ends.client, config=CONFIG, request=REQUEST)
        assert await ends.peer.is_closed_by_client()
    return raised.value


async def test_a_refusal_carries_the_connack_and_closes_the_stream(ends: Any) -> None:
    answer = mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.SERVER_BUSY, reason_str="later").write()
    error = await failed_handshake(ends, answer)
    assert isinstance(error, ConnectRefused)
    assert error.connack == Connack(0x89, "server busy: later")


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (mqtt5.PublishPacket("t", b"").write(), "first packet"),
        (mqtt5.ConnAckPacket(session_present=True).write(), "session is present"),
        (b"\x20\xff\xff\xff\x7f", "maximum packet size"),
        (b"\x00" * 100, "first packet"),
    ],
    ids=["HTTP", "PUBLISH", "session after clean start", "256 MiB", "zeros"],
)
async def test_another_answer_is_unreachable_and_says_what_and_where(ends: Any, answer: bytes, what: str) -> None:
    error = await failed_handshake(ends, answer)
    assert isinstance(error, Unreachable)
    assert what in str(error)
    assert "localhost:1883" in str(error)


@pytest.mark.parametrize("beginning", [b"", b"\x20", WELCOME.write()[:4]])
async def test_a_broker_that_closes_early_is_unreachable(ends: Any, beginning: bytes) -> None:
    if beginning:
        await ends.peer.say(beginning)
    await ends.peer.half_close()
    with anyio.fail_after(PATIENCE_S), pytest.raises(Unreachable, match="localhost:1883 closed"):
        await open_link(ends.client, config=CONFIG, request=REQUEST)


async def test_a_broker_that_resets_is_unreachable(ends: Any) -> None:
    await ends.peer.reset()
    with anyio.fail_after(PATIENCE_S), pytest.raises(Unreachable, match="localhost:1883"):
        await open_link(ends.client, config=CONFIG, request=REQUEST)


async def test_a_connack_that_dribbles_is_understood(ends: Any) -> None:
    welcome = mqtt5.ConnAckPacket(receive_max=20, user_properties=[("k", "v" * 200)]).write()

    async def dribble() -> None:
        for byte in welcome:
            await ends.peer.say(bytes((byte,)))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dribble)
            link = await open_link(ends.client, config=CONFIG, request=REQUEST)
    assert link.connack.receive_maximum == 20


async def test_a_cancelled_handshake_closes_the_stream(ends: Any) -> None:
    with anyio.move_on_after(0.02) as scope:
        await open_link(ends.client, config=CONFIG, request=REQUEST)
    assert scope.cancelled_caught
    with anyio.fail_after(PATIENCE_S):
        assert await ends.peer.is_closed_by_client()


# ----------------------------------------------------------------------------------------- in memory


def test_saying_farewell_to_a_broker_that_does_not_read_takes_a_second_at_most(memory_ends: Callable[[], Any]) -> None:
    async def main() -> float:
        ends = memory_ends()
        link = await linked(ends)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_until_lost, link)
            await anyio.wait_all_tasks_blocked()
            await ends.peer.say(b"\x36\x00")
            began_at = anyio.current_time()
            cause = (await end_of(link))[1]
            took_s = anyio.current_time() - began_at
            assert cause.kind is CauseKind.PROTOCOL_ERROR
            tasks.cancel_scope.cancel()
        await link.aclose()
        await ends.peer.close()
        return took_s

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(main, clock=clock) == pytest.approx(1.0)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_write_that_fails_first_waits_for_the_brokers_last_words(
    memory_ends: Callable[[], Any], backend: Backend
) -> None:
    """In virtual time: how long it waits is bounded, and a busy machine must not use that up."""

    async def main() -> list[Cause]:
        ends = memory_ends()
        link = await linked(ends)
        await ends.peer.say(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER))
        await ends.peer.close()
        causes: list[Cause] = []

        async def write() -> None:
            causes.append(await write_until_lost(link))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await anyio.sleep(0.1)
            causes.append((await end_of(link))[1])
        await link.aclose()
        return causes

    assert run(main, backend=backend) == [Cause(CauseKind.DISCONNECT, "session taken over", 0x8E)] * 2


async def test_no_farewell_is_written_into_a_torn_packet(memory_ends: Callable[[], Any]) -> None:
    ends = memory_ends()
    link = await linked(ends)
    with anyio.move_on_after(0.02) as scope:
        for _ in range(100):
            await link.send([PingRequest()])
    assert scope.cancelled_caught
    assert [await ends.peer.hear() for _ in range(4)] == [mqtt5.PingReqPacket()] * 4
    await ends.peer.say(b"\x36\x00")
    assert (await end_of(link))[1].kind is CauseKind.PROTOCOL_ERROR
    await link.aclose()
    with pytest.raises(anyio.EndOfStream):
        await ends.peer.hear()
    await ends.peer.close()


def test_small_packets_are_joined_and_large_ones_go_in_pieces(memory_ends: Callable[[], Any]) -> None:
    async def main() -> list[int]:
        ends = memory_ends()
        link = await linked(ends)
        small = [Publish(Message("t", bytes(992)), number) for number in range(1, 101)]  # 1,001 bytes each
        sizes: list[int] = []
        async with anyio.create_task_group() as tasks:

            async def write() -> None:
                await link.send([*small, Publish(Message("t", bytes(100_000)), 101), PingRequest()])
                await ends.client.send_eof()

            tasks.start_soon(write)
            try:
                while True:
                    sizes.append(len(await ends.peer.stream.receive(1_000_000)))
            except anyio.EndOfStream:
                await ends.peer.close()
        await link.aclose()
        return sizes

    assert trio.run(main) == [65 * 1001, 35 * 1001, CHUNK_BYTES, 100_010 - CHUNK_BYTES, 2]
    assert 65 * 1001 <= CHUNK_BYTES < 66 * 1001


# ----------------------------------------------------------------------------------------- dialing


async def test_a_dialer_dials_over_tcp_and_small_packets_are_not_held_back() -> None:
    streams: list[SocketStream] = []
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        config = Config(broker="127.0.0.1", port=listener.extra(SocketAttribute.local_port))

        async def welcome(stream: SocketStream) -> None:
            async with stream:
                await stream.receive()
                await stream.send(WELCOME.write())
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()

        async def connect() -> SocketStream:
            streams.append(await anyio.connect_tcp(config.broker, config.port))
            return streams[-1]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, welcome)
            dialer: Dialer = NetworkDialer(config)
            await (await dialer.dial(REQUEST)).aclose()
            link = await StreamDialer(config, connect).dial(REQUEST)
            raw = streams[0].extra(SocketAttribute.raw_socket)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await link.aclose()
            tasks.cancel_scope.cancel()


async def test_a_closed_port_is_unreachable_and_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{port}: connection refused"):
            await NetworkDialer(Config(broker="127.0.0.1", port=port)).dial(REQUEST)
        with pytest.raises(Unreachable, match=rf"localhost:{port}: connection refused"):
            await NetworkDialer(Config(port=port)).dial(REQUEST)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "cannot be looked up: Name or service",
        ),
        (TimeoutError(110, "Connection timed out"), "timed out"),
        (OSError(113, "No route to host"), "No route to host"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (UnicodeError("label too long"), "not the name of a host"),
        (anyio.BrokenResourceError(), "the connection broke"),
    ],
)
async def test_what_failed_is_told_with_host_and_port(error: Exception, words: str) -> None:
    async def connect() -> SocketStream:
        raise error

    with pytest.raises(Unreachable) as raised:
        await StreamDialer(Config(broker="::1"), connect).dial(REQUEST)
    assert str(raised.value).startswith("[::1]:1883: ")
    assert words in str(raised.value)
    assert raised.value.__cause__ is error


async def test_a_cancelled_dial_leaves_no_socket_behind() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        config = Config(broker="127.0.0.1", port=listener.extra(SocketAttribute.local_port))
        closed = anyio.Event()

        async def say_nothing(stream: SocketStream) -> None:
            async with stream:
                assert await stream.receive()
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
                closed.set()

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, say_nothing)
                with anyio.move_on_after(0.05) as scope:
                    await NetworkDialer(config).dial(REQUEST)
                assert scope.cancelled_caught
                await closed.wait()
                tasks.cancel_scope.cancel()


@pytest.mark.parametrize("transport", ["tcp", "tls", "unix"], indirect=True)
async def test_a_network_dialer_reaches_every_kind_of_endpoint(
    transport: str, certificates: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tls = certificates.server_context() if transport == "tls" else None
    async with Broker() as broker:
        if transport == "unix":
            path = tmp_path_factory.mktemp("s") / "socket"
            await broker.listen_unix(path)
            endpoint = Endpoint(Transport.UNIX, str(path))
        else:
            kind = Transport.TCP if tls is None else Transport.TLS
            endpoint = Endpoint(kind, "localhost", await broker.listen(tls=tls))
        dialer: Dialer = NetworkDialer(Config(tls_ca_file=str(certificates.authority)))
        with anyio.fail_after(PATIENCE_S):
            await dialer.reach(endpoint)
            assert broker.records == [], "a look says nothing"
            link = await dialer.dial(ConnectRequest("me", clean_start=True, endpoint=endpoint))
            await link.send([PingRequest()])
            assert (await link.receive()).pong
            await link.aclose()
            await broker.stop()
            with pytest.raises(Unreachable, match=r"connection refused|No such file"):
                await dialer.reach(endpoint)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no TCP_USER_TIMEOUT")
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
async def test_the_system_gives_up_on_what_it_cannot_deliver_as_late_as_c6_allows(
    certificates: Any, secure: bool
) -> None:
    config = Config(health_check_interval=2.0, ping_timeout_s=0.5, tls_ca_file=str(certificates.authority))
    raw_sockets: list[socket.socket] = []

    class Watched(NetworkDialer):
        async def _connect_tcp(self, endpoint: Endpoint) -> Any:
            stream = await super()._connect_tcp(endpoint)
            raw_sockets.append(stream.extra(SocketAttribute.raw_socket))
            return stream

    async with Broker() as broker:
        port = await broker.listen(tls=certificates.server_context() if secure else None)
        endpoint = Endpoint(Transport.TLS if secure else Transport.TCP, "localhost", port)
        link = await Watched(config).dial(ConnectRequest("me", clean_start=True, endpoint=endpoint))
        assert raw_sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3500
        await link.aclose()


async def test_a_cancelled_tls_handshake_leaves_no_socket_behind(certificates: Any) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        endpoint = Endpoint(Transport.TLS, "127.0.0.1", listener.extra(SocketAttribute.local_port))
        closed = anyio.Event()

        async def say_nothing(stream: SocketStream) -> None:
            async with stream:
                assert (await stream.receive())[0] == 0x16, "a handshake, and nothing of MQTT"
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
                closed.set()

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, say_nothing)
                with anyio.move_on_after(0.1) as scope:
                    await NetworkDialer(Config(tls_ca_file=str(certificates.authority))).reach(endpoint)
                assert scope.cancelled_caught
                await closed.wait()
                tasks.cancel_scope.cancel()
