"""The broker as a whole: its life, its connections, and the faults that a test can switch on."""

import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from os import PathLike
from ssl import SSLContext
from types import TracebackType
from typing import Any, Literal, NamedTuple

import anyio
from anyio.abc import ByteStream, Listener, SocketAttribute, TaskGroup
from anyio.streams.tls import TLSListener
from mqtt5 import PublishPacket

from hawk.testing.broker.behaviour import Behaviour, Limits, OnTaken
from hawk.testing.broker.connection import Connection
from hawk.testing.broker.conversation import Conversation
from hawk.testing.broker.model import BrokerModel
from hawk.testing.broker.record import Arrival, Record, Recorder, arrivals_of
from hawk.testing.broker.session import Session, Will
from hawk.testing.memory_stream import memory_stream_pair

SERVER_SHUTTING_DOWN = 0x8B


class SessionView(NamedTuple):
    """What a session holds. `subscriptions` maps each filter to its QoS; `queued` waits, `in_flight` was sent."""

    is_connected: bool
    subscriptions: dict[str, int]
    queued: int
    in_flight: int


class Broker:
    """An MQTT 5 broker in the tasks of the test: over memory, over TCP, in real or in virtual time.

    Use it as `async with Broker() as broker`; leaving the block ends every connection. It keeps everything in memory,
    and stays as it is over `kill` and `restart` unless told to lose its sessions. No method may be called from
    another thread.

    `record=False` keeps no record of packets. `on_taken` is called for each message as it is passed to subscribers, with
    the client identifier it came from, its topic and its payload; a repeat that QoS 2 takes no second time is left out.
    """

    def __init__(
        self,
        *,
        receive_maximum: int = 65_535,
        maximum_packet_size: int | None = None,
        maximum_qos: int = 2,
        retain_available: bool = True,
        topic_alias_maximum: int = 0,
        server_keep_alive_s: int | None = None,
        users: Mapping[str, str] | None = None,
        record: bool = True,
        on_taken: OnTaken | None = None,
    ) -> None:
        self._limits = Limits(
            receive_maximum=receive_maximum,
            maximum_packet_size=maximum_packet_size,
            maximum_qos=maximum_qos,
            retain_available=retain_available,
            topic_alias_maximum=topic_alias_maximum,
            server_keep_alive_s=server_keep_alive_s,
            users=users,
        )
        self.records: list[Record] = []
        self._behaviour = Behaviour(on_taken=on_taken)
        self._recording = record
        self._model = self._new_model()
        self._tasks: TaskGroup
        # No set: its order hangs on memory addresses, and with it the order in which links die.
        self._connections: dict[Connection, None] = {}
        self._connections_made = 0
        self._all_gone = anyio.Event()
        self._is_up = False
        self._listeners: dict[Listener[Any], Callable[[], Awaitable[object]]] = {}

    async def __aenter__(self) -> "Broker":
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._is_up = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._is_up = False
        self._tasks.cancel_scope.cancel()
        if isinstance(error, Exception):
            # What the block raised goes on as it is, not wrapped in the group of the broker's tasks.
            await self._tasks.__aexit__(None, None, None)
            return False
        return await self._tasks.__aexit__(kind, error, traceback)

    def connect(self) -> ByteStream:
        """A fresh stream to this broker. Raises `ConnectionRefusedError` while it is stopped or killed."""
        ours, theirs = memory_stream_pair()
        self.accept(ours)
        return theirs

    def accept(self, stream: ByteStream) -> None:
        """Serve `stream`, the server's side of a connection, until either side ends it.

        Raises `ConnectionRefusedError` while the broker is stopped or killed; the stream stays the caller's then.
        """
        if not self._is_up:
            self.bites["down"] += 1
            raise ConnectionRefusedError("the broker is down")
        self._tasks.start_soon(self._serve, self._new_connection(stream))

    async def listen(self, *, host: str = "127.0.0.1", port: int = 0, tls: SSLContext | None = None) -> int:
        """Serve TCP as well, with `tls` TLS, and return the port; it stays the same over `kill`, `stop` and `restart`.

        Raises `OSError` when the port is taken. Real sockets do not go with virtual time.
        """
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port, family=socket.AF_INET)
        bound = listener.extra(SocketAttribute.local_port)
        # Clients often close without TLS's own goodbye.
        served = listener if tls is None else TLSListener(listener, tls, standard_compatible=False)
        self._serve_on(served, partial(self.listen, host=host, port=bound, tls=tls))
        return bound

    async def listen_unix(self, path: str | PathLike[str]) -> None:
        """Serve a Unix socket as well. Raises `OSError`. Real sockets do not go with virtual time."""
        self._serve_on(await anyio.create_unix_listener(path), partial(self.listen_unix, path))

    def _serve_on(self, listener: Listener[Any], listen_again: Callable[[], Awaitable[object]]) -> None:
        self._listeners[listener] = listen_again
        self._tasks.start_soon(self._serve_sockets, listener)

    async def stop(self) -> None:
        """Go down in an orderly way: DISCONNECT 0x8B to every client, close, refuse new connections."""
        self._is_up = False
        await self._close_listeners()
        self.disconnect_all(SERVER_SHUTTING_DOWN)
        await self._wait_until_alone()

    async def kill(self) -> None:
        """Go down at once: every connection is reset without a byte, new ones are refused.

        For the sessions it is the end of a connection: what has no delay of its own, expiry or will, is due at once.
        """
        self._is_up = False
        self.bites["down"] += len(self._connections)
        for connection in self._connections:
            connection.kill()
        await self._close_listeners()
        await self._wait_until_alone()

    async def restart(self, *, sessions: Literal["keep", "lose"] = "keep") -> None:
        """Come up again, killed first if it is up, and not paused.

        "keep": with all sessions, QoS 2 states and retained messages; "lose": with none, like a broker without a disk.
        """
        if self._is_up:
            await self.kill()
        self.resume()
        if sessions == "lose":
            self.bites["session_lost"] += len(self._model.sessions)
            self._model = self._new_model()
        self._is_up = True
        closed, self._listeners = self._listeners, {}
        for listen_again in closed.values():
            await listen_again()

    def pause(self) -> None:
        """Keep every connection, and new ones too, but read nothing and say nothing until `resume`."""
        if self._behaviour.paused is None:
            self._behaviour.paused = anyio.Event()

    def resume(self) -> None:
        """Go on after `pause`; a client's silence counts from here."""
        paused, self._behaviour.paused = self._behaviour.paused, None
        if paused is not None:
            for connection in self._connections:
                connection.restart_keep_alive()
            paused.set()

    def refuse_with(self, reason_code: int | None) -> None:
        """Answer each CONNECT with this reason code from now on; None accepts again."""
        self._behaviour.refusal = reason_code

    def disconnect_all(self, reason_code: int) -> None:
        """Say DISCONNECT with this reason code to every client, and close. Takes effect in the broker's own tasks."""
        self.bites["disconnect"] += len(self._connections)
        for connection in self._connections:
            connection.end(reason_code)

    def acknowledge(self, enabled: bool) -> None:
        """False: take every PUBLISH and PUBREL, and never answer it, not later either. True: answer from now on."""
        self._behaviour.acknowledges = enabled

    def answer_publishes_with(self, reason_code: int, *, topic: str | None = None) -> None:
        """Answer PUBLISHes with this reason code in PUBACK or PUBREC; 0 ends that. From 0x80 on they go nowhere.

        `topic` is a topic or a filter; None stands for every topic. The rule made last counts.
        """
        self._behaviour.answers.pop(topic, None)
        if reason_code:
            self._behaviour.answers[topic] = reason_code
        elif topic is None:
            self._behaviour.answers.clear()

    @property
    def bites(self) -> dict[str, int]:
        """How often each of the broker's faults touched something (`behaviour.FAULTS`)."""
        return self._behaviour.bites

    @property
    def answers_pings(self) -> bool:
        """Whether PINGREQ gets its PINGRESP."""
        return self._behaviour.answers_pings

    @answers_pings.setter
    def answers_pings(self, enabled: bool) -> None:
        self._behaviour.answers_pings = enabled

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Publish as the broker itself, to everyone subscribed. Raises `ValueError` for an invalid topic or QoS."""
        if qos not in (0, 1, 2):
            raise ValueError("qos must be 0, 1 or 2")
        packet = PublishPacket(topic, payload)
        if not self._model.publish(packet, topic, qos, retain, None, float("inf"), anyio.current_time()):
            raise ValueError(f"not a topic: {topic!r}")

    @property
    def arrivals(self) -> list[Arrival]:
        """Every PUBLISH that came in, in order, repeats and refused ones marked. Needs `record=True`."""
        return arrivals_of(self.records)

    def received(self, client_identifier: str | None = None) -> list[tuple[str, bytes]]:
        """Topic and payload of what the broker took, each once, in order; of one client or of all.

        Repeats (DUP) and refused PUBLISHes are left out. Needs `record=True`.
        """
        return [
            (arrival.topic, arrival.payload)
            for arrival in self.arrivals
            if not arrival.repeated
            and arrival.reason_code < 0x80
            and client_identifier in (None, arrival.client_identifier)
        ]

    @property
    def sessions(self) -> dict[str, SessionView]:
        """The sessions that live now, by client identifier."""
        self._model.prune(anyio.current_time())
        return {name: _view_of(session) for name, session in self._model.sessions.items()}

    @property
    def is_up(self) -> bool:
        """Whether connections are accepted; a paused broker is up."""
        return self._is_up

    def _new_model(self) -> BrokerModel:
        return BrokerModel(maximum_qos=self._limits.maximum_qos)

    def _new_connection(self, stream: ByteStream) -> Connection:
        self._connections_made += 1
        number = self._connections_made
        recorder = Recorder(self.records, number) if self._recording else None
        conversation = Conversation(self._model, self._limits, self._behaviour, recorder, number=number)
        connection = Connection(stream, conversation, self._schedule_will)
        self._connections[connection] = None
        return connection

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            del self._connections[connection]
            self._all_gone.set()

    async def _serve_sockets(self, listener: Listener[Any]) -> None:
        try:
            async with listener:
                await listener.serve(self._serve_socket, self._tasks)
        except* anyio.ClosedResourceError:
            # `stop` and `kill` close the listener: that is how this task ends.
            pass

    async def _serve_socket(self, stream: ByteStream) -> None:
        if self._is_up:
            await self._serve(self._new_connection(stream))
        else:
            await anyio.aclose_forcefully(stream)

    async def _close_listeners(self) -> None:
        for listener in self._listeners:
            await listener.aclose()

    async def _wait_until_alone(self) -> None:
        while self._connections:
            self._all_gone = anyio.Event()
            await self._all_gone.wait()

    def _schedule_will(self, session: Session, will: Will) -> None:
        self._tasks.start_soon(self._publish_will, self._model, session, will)

    async def _publish_will(self, model: BrokerModel, session: Session, will: Will) -> None:
        await anyio.sleep_until(session.will_at)
        if session.will is will:
            model.publish_due_will(session, anyio.current_time())


def _view_of(session: Session) -> SessionView:
    return SessionView(
        is_connected=session.outlet is not None,
        subscriptions={text: subscription.qos for text, subscription in session.subscriptions.items()},
        queued=len(session.queue),
        in_flight=len(session.in_flight),
    )
