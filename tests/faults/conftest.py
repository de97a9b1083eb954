"""A peer that does what a script says, byte by byte, and one whole hawk before it, in virtual time.

`rehearse(story, *scripts)` runs one hawk against one script for each connection, in order; after the last script an
in-process `Broker` answers. It fails unless a fault was injected and the outcome observed, so a test of a fault that
never bit cannot pass. At the end of every story the peer behaves again, and whatever was accepted at QoS 1 and 2 must
have arrived, or have met the very end that the story excused.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise, repeat
from random import Random
from typing import Any

import anyio
import mqtt5
import pytest
from anyio.abc import ByteStream

from hawk import Config, ConnectionState, HawkError, MQTTInterface, Receipt, ReconnectionConfig, StateChanged, open_mqtt
from hawk.links.dialing import StreamDialer
from hawk.links.tls import tls_context, wrap
from hawk.ports import Ports
from hawk.testing.broker import Broker
from hawk.testing.memory_stream import MemoryStream, memory_stream_pair
from hawk.testing.virtual_time import VirtualWallClock, run

PASSWORD = "correct-horse"
PAYLOAD_MARK = "cargo"
INBOUND_COLUMNS = ("handled", "rejected", "inbound_abandoned", "inbound_dropped", "unhandled")
"""Every payload of a story begins with it: no log may show it (promise C10)."""

HEALED_WITHIN_S = 900.0
LIMIT_S = 10 * 86_400.0

ENDINGS = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE, mqtt5.QoS.EXACTLY_ONCE)

INTO = ("recovered", "accepted", "replayed")
ENDED = ("acknowledged", "sent", "dead_lettered", "expired", "dropped", "superseded", "unknown", "damaged", "abandoned")


def pytest_configure(config: pytest.Config) -> None:
    """The marker that names the row of the table of faults that a test stands for."""
    config.addinivalue_line("markers", "fault_row(name): the row of the table of faults that this test stands for")


class Evidence:
    """Which injectors fired, and how often an outcome was observed."""

    def __init__(self) -> None:
        self.fired: Counter[str] = Counter()
        self.observations = 0


class Conversation:
    """The peer's end of one connection: it hears packets and says anything. What injects a fault records that it did."""

    def __init__(self, peer: "ScriptedPeer", number: int, stream: MemoryStream) -> None:
        self.peer = peer
        self.number = number
        self.stream = stream
        self.began_at = anyio.current_time()
        self.ended_at: float | None = None
        self.heard: list[Any] = []
        self.heard_bytes = 0
        self.answers_pings = True
        self.pinged_at: list[float] = []
        self.scope = anyio.CancelScope()
        self._unread = b""

    # ------------------------------------------------------------------------------------------ hearing

    async def hear(self, kind: type | None = None) -> Any:
        """The next packet, which must be a `kind`; pings are answered on the way. Raises what the stream raises."""
        while True:
            try:
                packet, size = mqtt5.read(memoryview(self._unread))
            except IndexError:
                data = await self.stream.receive()
                self.heard_bytes += len(data)
                self._unread += data
                continue
            self._unread = self._unread[size:]
            self.heard.append(packet)
            if isinstance(packet, mqtt5.PingReqPacket):
                self.pinged_at.append(anyio.current_time())
                if self.answers_pings:
                    await self.say(mqtt5.PingRespPacket())
                continue
            if kind is not None and not isinstance(packet, kind):
                raise AssertionError(f"connection {self.number}: {type(packet).__name__}, and not {kind.__name__}")
            return packet

    async def hear_the_end(self) -> list[Any]:
        """Whatever hawk still says until it closes."""
        start = len(self.heard)
        try:
            while True:
                await self.hear()
        except ENDINGS:
            return self.heard[start:]

    def count(self, kind: type) -> int:
        """How many packets of that kind were heard."""
        return sum(isinstance(packet, kind) for packet in self.heard)

    # ------------------------------------------------------------------------------------------- saying

    async def say(self, *packets: Any) -> None:
        """All of it in one write."""
        await self.stream.send(b"".join(each if isinstance(each, bytes) else each.write() for each in packets))

    async def welcome(self, *behind: Any, **connack: Any) -> Any:
        """Hear CONNECT and accept; `behind` follows in the same segment. Returns the CONNECT."""
        connect = await self.hear(mqtt5.ConnectPacket)
        await self.say(mqtt5.ConnAckPacket(**connack), *behind)
        return connect

    async def take(self, publish: Any) -> None:
        """Take one PUBLISH as a good broker does."""
        identifier = publish.packet_id
        repeat = publish.qos == 2 and identifier in self.peer.unreleased
        if not repeat:
            self.peer.arrived.append(publish.payload.decode())
        if publish.qos == 1:
            await self.say(mqtt5.PubAckPacket(identifier))
        elif publish.qos == 2:
            self.peer.unreleased.add(identifier)
            await self.say(mqtt5.PubRecPacket(identifier))

    async def answer(self, packet: Any) -> None:
        """Answer one packet as a good broker does."""
        match packet:
            case mqtt5.PublishPacket():
                await self.take(packet)
            case mqtt5.PubRelPacket():
                self.peer.unreleased.discard(packet.packet_id)
                await self.say(mqtt5.PubCompPacket(packet.packet_id))
            case mqtt5.PubRecPacket():
                await self.say(mqtt5.PubRelPacket(packet.packet_id))
            case mqtt5.SubscribePacket():
                codes = [mqtt5.SubAckReasonCode(int(each.max_qos)) for each in packet.topic_filters]
                await self.say(mqtt5.SubAckPacket(packet.packet_id, codes))
            case mqtt5.UnsubscribePacket():
                codes = [mqtt5.UnsubAckReasonCode.SUCCESS for _ in packet.patterns]
                await self.say(mqtt5.UnsubAckPacket(packet.packet_id, codes))

    async def serve(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Be a good broker until hawk goes, or `until` says so."""
        while not until():
            await self.answer(await self.hear())

    # ---------------------------------------------------------------------------------------- injecting

    def fire(self, name: str) -> None:
        """Record that a fault was injected."""
        self.peer.evidence.fired[name] += 1

    async def inject(self, name: str, *packets: Any) -> None:
        """Say what no good broker says now."""
        self.fire(name)
        await self.say(*packets)

    async def drip(self, name: str, data: bytes, *, every_s: float) -> None:
        """Say it byte by byte."""
        self.fire(name)
        for byte in data:
            await self.say(bytes((byte,)))
            await anyio.sleep(every_s)

    async def close(self) -> None:
        """End it in an orderly way, unread bytes or not."""
        self.fire("close")
        await self.stream.aclose()

    def reset(self) -> None:
        """Break it as an RST does."""
        self.fire("reset")
        self.stream.reset()

    async def half_close(self) -> None:
        """Say nothing more, and go on reading."""
        self.fire("half close")
        await self.stream.send_eof()

    async def stop_reading(self) -> None:
        """Neither read nor say anything more."""
        self.fire("never read")
        await anyio.sleep_forever()

    async def only_listen(self) -> None:
        """Read everything and say nothing, not even PINGRESP."""
        self.fire("mute")
        self.answers_pings = False
        await self.hear_the_end()


Script = Callable[[Conversation], Awaitable[None]]


class ScriptedPeer:
    """Answers hawk's dials: one script for each connection, and after the last one a good broker.

    A script may be an exception instead: then nobody is there, and `connect` raises it.
    """

    def __init__(self, scripts: Iterable[Script | Exception], evidence: Evidence, broker: Broker, tasks: Any) -> None:
        self.evidence = evidence
        self.broker = broker
        self.conversations: list[Conversation] = []
        self.dialled_at: list[float] = []
        self.arrived: list[str] = []
        self.unreleased: set[int] = set()
        self.capacity_bytes = 256 * 1024
        self.is_scripted = True
        self._scripts: Iterator[Script | Exception] = iter(scripts)
        self._tasks = tasks

    async def connect(self) -> ByteStream:
        """What hawk dials with."""
        self.dialled_at.append(anyio.current_time())
        script = next(self._scripts, None)
        self.is_scripted = script is not None
        if isinstance(script, Exception):
            self.evidence.fired[f"connect raises {type(script).__name__}"] += 1
            raise script
        ours, theirs = memory_stream_pair(capacity_bytes=self.capacity_bytes)
        if script is None:
            self.broker.accept(ours)
        else:
            conversation = Conversation(self, len(self.conversations) + 1, ours)
            self.conversations.append(conversation)
            self._tasks.start_soon(self._converse, script, conversation)
        return theirs

    async def _converse(self, script: Script, conversation: Conversation) -> None:
        try:
            with conversation.scope:
                await script(conversation)
        except ENDINGS:
            return  # hawk went, and with it the script
        finally:
            conversation.ended_at = anyio.current_time()
            conversation.stream.close()

    def behave(self, script: Script | None = None) -> None:
        """No more faults: connections that live under a script end, later ones get `script`, or the broker."""
        self._scripts = iter(()) if script is None else repeat(script)
        for conversation in self.conversations:
            if conversation.ended_at is None:
                conversation.scope.cancel()


class World:
    """What a story acts in: the peer, the hawk, its log, and what the application was told."""

    def __init__(self, peer: ScriptedPeer, mqtt: MQTTInterface, config: Config, records: list[Any]) -> None:
        self.peer = peer
        self.mqtt = mqtt
        self.config = config
        self.records = records
        self.changes: list[StateChanged] = []
        self.received: list[str] = []
        self.applications: Any = None
        self._receipts: list[tuple[str, int, Receipt]] = []
        self._excused: dict[str, type[HawkError]] = {}
        self._asked_at: list[float] = []

    async def connect(self) -> None:
        """`connect()` of the application, remembered: it may cut a delay short."""
        self._asked_at.append(anyio.current_time())
        await self.mqtt.connect()

    async def publish(self, payload: str, *, qos: int = 1, topic: str = "up", **options: Any) -> Receipt:
        """Publish what must not be lost, unless it is excused."""
        receipt = await self.mqtt.publish(topic, f"{PAYLOAD_MARK} {payload}", qos=qos, **options)
        self._receipts.append((payload, qos, receipt))
        return receipt

    def excuse(self, *payloads: str, error: type[HawkError]) -> None:
        """These end so, and not otherwise."""
        self._excused |= dict.fromkeys(payloads, error)

    async def reach(self, condition: ConnectionState | Callable[[], bool], *, within_s: float = 600.0) -> None:
        """Wait for a state of the connection, or until `condition` holds."""
        started_at = anyio.current_time()
        with anyio.fail_after(within_s):
            while not (
                self.mqtt.connection_state is condition if isinstance(condition, ConnectionState) else condition()
            ):
                await anyio.sleep(0.05 if anyio.current_time() - started_at < 30 else 0.5)

    async def receive(self, topic_filter: str = "down", *, qos: int = 2) -> None:
        """An application that handles what comes, for ever."""
        async with self.mqtt.subscribe(topic_filter, qos=qos) as messages:
            async for message in messages:
                self.received.append(message.text())

    @property
    def arrived(self) -> list[str]:
        """What the peer took, in order, without the mark; repeats included. First the scripts, then the broker."""
        taken = self.peer.arrived + [payload.decode() for _, payload in self.peer.broker.received()]
        return [each.removeprefix(f"{PAYLOAD_MARK} ") for each in taken if each.startswith(PAYLOAD_MARK)]

    def gaps(self) -> list[float]:
        """From each dial to the next."""
        dials = self.peer.dialled_at
        return [later - earlier for earlier, later in pairwise(dials)]

    def logged(self, event: str) -> list[Any]:
        """The log records of that event."""
        return [record for record in self.records if record.event == event]

    def observe(
        self,
        *,
        state: ConnectionState,
        stats: Mapping[str, object],
        level: int,
        arrived: Sequence[str],
        received: Sequence[str] = (),
        logged: Mapping[str, int] | None = None,
    ) -> None:
        """The outcome, as one: the public state, counters, the loudest log level so far, what was delivered each way.

        `logged` counts the records of an event; `level` is DEBUG when nothing above it was logged.
        """
        found = dict(self.mqtt.stats)
        assert self.mqtt.connection_state is state
        assert {key: found[key] for key in stats} == dict(stats)
        assert max((record.levelno for record in self.records), default=logging.DEBUG) == level
        assert {event: len(self.logged(event)) for event in logged or {}} == dict(logged or {})
        assert self.arrived == list(arrived)
        assert self.received == list(received)
        self.check_books()
        self.peer.evidence.observations += 1

    def check_books(self) -> None:
        """Promise C4."""
        found: dict[str, Any] = dict(self.mqtt.stats)
        into = sum(found[key] for key in INTO)
        assert into == sum(found[key] for key in ENDED) + found["queued"] + found["in_flight"]
        assert found["received"] == sum(found[key] for key in INBOUND_COLUMNS)

    async def heal(self, script: Script | None = None) -> None:
        """The peer behaves again: everything left gets through, and nothing more is dialled too early."""
        self._check_pace()
        self.peer.behave(script)
        await anyio.sleep(0.5)
        with anyio.fail_after(HEALED_WITHIN_S):
            await self.connect()
            await (await self.mqtt.publish("healed", "healed", qos=1)).acknowledged()
            while self.mqtt.stats["queue_size"]:
                await anyio.sleep(0.1)
        assert self.mqtt.connection_state is ConnectionState.CONNECTED
        self.check_books()
        await self._check_fates()

    async def _check_fates(self) -> None:
        arrived = set(self.arrived)
        for payload, qos, receipt in self._receipts:
            error: HawkError | None = None
            try:
                with anyio.fail_after(1.0):
                    await receipt.acknowledged()
            except HawkError as raised:
                error = raised
            expected = self._excused.get(payload)
            assert type(error) is (expected or type(None)), f"{payload!r} ended as {error!r}"
            if expected is None and qos:
                assert payload in arrived, f"{payload!r} was acknowledged and has never arrived"

    def _check_pace(self) -> None:
        """Never a hot loop (promise C7): between two dials lies at least what backoff may draw at the least."""
        retry = self.config.reconnection
        least = retry.initial_retry_delay * (1 - retry.jitter_factor) - 1e-6
        dials = self.peer.dialled_at
        for earlier, later in pairwise(dials):
            if not any(earlier <= at <= later for at in self._asked_at):
                assert later - earlier >= least, f"dialled again after {later - earlier:.3f} s"

    def check_log(self) -> None:
        """Promise C10."""
        for record in self.records:
            line = f"{record.getMessage()} {getattr(record, 'hawk', '')}"
            assert PASSWORD not in line
            assert PAYLOAD_MARK not in line


@contextmanager
def kept_log() -> Iterator[list[Any]]:
    """Every record of hawk, as long as the block lasts."""
    records: list[Any] = []
    logger, handler = logging.getLogger("hawk"), logging.Handler(logging.DEBUG)
    handler.emit = records.append  # type: ignore[method-assign]
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield records
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error in all those groups that a reader wants to see first."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


Story = Callable[[World], Awaitable[None]]


def configured(**settings: Any) -> Config:
    """A configuration with short times, and a retry budget without end unless `settings` say otherwise."""
    usual: dict[str, Any] = {
        "client_id": "boat",
        "username": "sailor",
        "password": PASSWORD,
        "health_check_interval": 10.0,
        "ping_timeout_s": 4.0,
        "max_retries": None,
        "initial_retry_delay": 1.0,
        "max_retry_delay": 60.0,
        "jitter_factor": 0.1,
        "connection_timeout": 5.0,
    }
    return Config.from_mapping(usual | settings)


assert configured().reconnection == ReconnectionConfig(None, 1.0, 60.0, 2.0, 0.1, 5.0)


@pytest.fixture(params=["trio", "asyncio"])
def rehearse(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`rehearse(story, *scripts, **settings)`: see the module. Settings are those of `hawk.Config`, flat.

    `tls`: hawk speaks TLS to every script, and asks for the name boat.example; the broker after them is plain.
    `always` is the script of every connection after `scripts`, `session` that of the peer that behaves again.
    """

    def rehearse(
        story: Story,
        *scripts: Any,
        always: Any = None,
        session: Script | None = None,
        capacity_bytes: int = 1 << 18,
        tls: bool = False,
        **settings: Any,
    ) -> None:
        evidence, config = Evidence(), configured(**settings)
        plan = scripts if always is None else chain(scripts, repeat(always))

        async def program(records: list[Any]) -> None:
            async with Broker() as broker, anyio.create_task_group() as tasks:
                peer = ScriptedPeer(plan, evidence, broker, tasks)
                peer.capacity_bytes = capacity_bytes

                async def connect_by_tls() -> ByteStream:
                    stream = await peer.connect()
                    if not peer.is_scripted:
                        return stream
                    context = await tls_context(config)
                    return await wrap(stream, config=config, context=context, server_name="boat.example")

                connect = connect_by_tls if tls else peer.connect
                ports = Ports(StreamDialer(config, connect), None, VirtualWallClock(), Random(7))
                async with open_mqtt(config, ports=ports) as mqtt:
                    world = World(peer, mqtt, config, records)
                    events = mqtt.events()
                    tasks.start_soon(follow, events, world)
                    async with anyio.create_task_group() as applications:
                        world.applications = applications
                        await story(world)
                        await world.heal(session)
                        applications.cancel_scope.cancel()
                    events.close()
                world.check_books()
                assert mqtt.stats["queue_size"] == 0
                assert mqtt.connection_state is ConnectionState.DISCONNECTED
                world.check_log()
                tasks.cancel_scope.cancel()

        async def follow(events: Any, world: World) -> None:
            async for event in events:
                if isinstance(event, StateChanged):
                    world.changes.append(event)

        with kept_log() as records:
            try:
                run(program, records, backend=request.param, limit_s=LIMIT_S)
            except BaseExceptionGroup as group:
                raise first_of(group) from group
        assert evidence.fired, "no fault was injected"
        assert evidence.observations, "nothing was observed"

    return rehearse


@pytest.fixture
def behaving() -> Callable[..., Script]:
    """Makes the script of a good broker; `connack` says what it accepts with."""

    def make(**connack: Any) -> Script:
        async def script(conversation: Conversation) -> None:
            await conversation.welcome(**connack)
            await conversation.serve()

        return script

    return make
