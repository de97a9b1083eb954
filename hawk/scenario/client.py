"""One client of a run: an application with one hawk, that publishes and receives as the script says, through its crashes.

Each life has its own hawk and its own hold on the world (`mortal.py`); the disk outlives them all.
"""

import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from random import Random

import anyio
from anyio.abc import ByteStream, TaskGroup

from hawk.config import Config
from hawk.errors import (
    Dropped,
    Expired,
    HawkError,
    OutboxFull,
    OutboxUnavailable,
    Refused,
    Stopped,
    Superseded,
    UnknownFate,
)
from hawk.interface import MQTTInterface
from hawk.links.dialing import StreamDialer
from hawk.messages import MessageSettled, Missed, StateChanged
from hawk.ports import Ports, WallClock
from hawk.receipt import Receipt
from hawk.scenario.journal import KILLED, Accepted, Attempted, FateMet, Logged, Received, StateEntered, Subscribed
from hawk.scenario.model import Scenario, Traffic
from hawk.scenario.moments import moments
from hawk.scenario.mortal import MortalDialer, Mortality, MortalStore
from hawk.scenario.recorder import QueueTrack, Recorder, TellingRandom
from hawk.stores.memory import MemoryStore
from hawk.streams import EventStream
from hawk.values import ConnectionState, FateKind

client_name: contextvars.ContextVar[str] = contextvars.ContextVar("client_name", default="")
"""The client in whose task this runs: what hawk logs there is its own."""

_RESTARTS_AFTER_S = 1.0
_FATES: dict[type[HawkError], FateKind] = {
    Expired: FateKind.EXPIRED,
    Dropped: FateKind.DROPPED,
    Superseded: FateKind.SUPERSEDED,
    UnknownFate: FateKind.UNKNOWN,
    Refused: FateKind.DEAD_LETTERED,
    Stopped: FateKind.ABANDONED,
    OutboxFull: FateKind.FULL,
    OutboxUnavailable: FateKind.UNAVAILABLE,
}


class Client:
    """One client, over all its lives. `run` is its task; the run's task group `tasks` holds the lives."""

    def __init__(
        self,
        number: int,
        scenario: Scenario,
        *,
        recorder: Recorder,
        connect: Callable[[], Awaitable[ByteStream]],
        wall_clock: WallClock,
        random: Random,
        tasks: TaskGroup,
        on_disk_failure: Callable[[], None],
    ) -> None:
        self.number = number
        self.name = name_of(number)
        self.disk = MemoryStore() if scenario.outbox == "durable" else None
        self._scenario = scenario
        self._config = config_of(scenario, f"{recorder.mark}{self.name}")
        self._recorder = recorder
        self._connect = connect
        self._wall_clock = wall_clock
        self._random = random
        self._tasks = tasks
        self._on_disk_failure = on_disk_failure
        self._life: _Life | None = None
        self._track = QueueTrack(recorder, self.name, window_s=scenario.duration_s / 2000)

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands; DISCONNECTED between two lives."""
        return ConnectionState.DISCONNECTED if self._life is None else self._life.state

    @property
    def queue_size(self) -> int:
        """What waits, or is in flight; what waits on the disk of a client that is down counts as one."""
        return 1 if self._life is None else self._life.queue_size

    @property
    def size_bytes(self) -> int:
        """The bytes of what waits, as far as this life sent it."""
        return 0 if self._life is None else self._life.size_bytes

    def start(self) -> None:
        """Begin a life."""
        random = TellingRandom(self._random.getrandbits(64))
        self._life = _Life(self, random)
        self._tasks.start_soon(self._live, self._life)

    async def crash(self, down_s: float) -> bool:
        """Kill -9, and start again after `down_s`. Returns whether there was anything to kill."""
        life, self._life = self._life, None
        if life is None:
            return False
        await life.kill()
        if self.disk is not None:
            self.disk.crash(self._random)
        self.enter(ConnectionState.DISCONNECTED, KILLED)
        self._tasks.start_soon(self._start_after, down_s)
        return True

    def finish(self) -> None:
        """The run is over: note the last depth."""
        self._track.finish()

    async def _start_after(self, down_s: float) -> None:
        await anyio.sleep(down_s)
        self.start()

    async def _live(self, life: "_Life") -> None:
        client_name.set(self.name)
        try:
            await life.run()
        except* OutboxUnavailable as unavailable:
            # As under a supervisor: the program ends, and is started again.
            fields = {"cause": str(_first_of(unavailable))}
            self._recorder.note(Logged(self._recorder.now_s, self.name, "ERROR", "not started", fields))
            if self._life is life:
                self._life = None
                self._tasks.start_soon(self._start_after, _RESTARTS_AFTER_S)

    # ------------------------------------------------------------------------------------------ for its lives

    def enter(self, state: ConnectionState, cause: str) -> None:
        """Note a state."""
        self._recorder.note(StateEntered(self._recorder.now_s, self.name, state.value, cause))

    def ports(self, mortality: Mortality, random: TellingRandom) -> Ports:
        """The outside world of one life."""

        async def connect() -> ByteStream:
            return mortality.watch(await self._connect())

        def on_dial() -> None:
            drawn = random.take()
            now_s = self._recorder.now_s
            self._recorder.note(Attempted(now_s, self.name) if drawn is None else Attempted(now_s, self.name, *drawn))

        dialer = MortalDialer(StreamDialer(self._config, connect), mortality, on_dial)
        store = None if self.disk is None else MortalStore(self.disk, mortality, self._on_disk_failure)
        return Ports(dialer, store, self._wall_clock, random)

    @property
    def config(self) -> Config:
        """hawk's settings."""
        return self._config

    @property
    def recorder(self) -> Recorder:
        """Where a life notes what happens."""
        return self._recorder

    @property
    def track(self) -> QueueTrack:
        """Where a life notes its depth."""
        return self._track

    @property
    def lines(self) -> list[tuple[int, Traffic]]:
        """The traffic that this client takes part in, with its place in the file."""
        return [(line, each) for line, each in enumerate(self._scenario.traffic) if self.number <= each.clients]

    @property
    def scenario(self) -> Scenario:
        """The script."""
        return self._scenario


class _Life:
    """One process: from its start to its death."""

    def __init__(self, client: Client, random: TellingRandom) -> None:
        self.state = ConnectionState.DISCONNECTED
        self.size_bytes = 0
        self._client = client
        self._recorder = client.recorder
        self._random = random
        self._mortality = Mortality()
        self._scope = anyio.CancelScope()
        self._mqtt: MQTTInterface | None = None
        self._pending: dict[tuple[str, int], deque[tuple[int, int, Receipt]]] = {}

    @property
    def queue_size(self) -> int:
        return 0 if self._mqtt is None else self._mqtt.stats["queue_size"]

    async def kill(self) -> None:
        await self._mortality.kill()
        self._scope.cancel()

    async def run(self) -> None:
        with self._scope:
            async with anyio.create_task_group() as nursery:
                ports = self._client.ports(self._mortality, self._random)
                mqtt = self._mqtt = MQTTInterface(self._client.config, nursery, ports=ports)
                nursery.start_soon(self._watch, mqtt.events())
                async with mqtt:
                    self._look()
                    for line, traffic in self._client.lines:
                        if traffic.rate is None:
                            nursery.start_soon(self._receive, mqtt, traffic)
                        else:
                            nursery.start_soon(self._publish, mqtt, line, traffic)
                    await anyio.sleep_forever()

    async def _watch(self, events: EventStream) -> None:
        with closing(events):
            async for event in events:
                if not self._mortality.alive:
                    return
                match event:
                    case StateChanged(_, after, cause):
                        self.state = after
                        self._client.enter(after, "" if cause is None else str(cause))
                    case MessageSettled(topic, qos, _):
                        await self._settle(topic, qos)
                    case Missed():
                        for topic, qos in list(self._pending):
                            await self._settle(topic, qos)
                self._look()

    async def _receive(self, mqtt: MQTTInterface, traffic: Traffic) -> None:
        name, topic_filter = self._client.name, traffic.topic_of(self._client.number)
        try:
            async with mqtt.subscribe(topic_filter, qos=traffic.qos) as messages:
                self._recorder.note(Subscribed(self._recorder.now_s, name, topic_filter, traffic.qos))
                async for message in messages:
                    number = self._recorder.number_in(message.payload)
                    if number is not None and self._mortality.alive:
                        self._recorder.note(Received(self._recorder.now_s, name, number))
        except (Refused, Stopped) as error:
            if self._mortality.alive:
                fields = {"filter": topic_filter, "cause": str(error)}
                self._recorder.note(Logged(self._recorder.now_s, name, "ERROR", "not subscribed", fields))

    async def _publish(self, mqtt: MQTTInterface, line: int, traffic: Traffic) -> None:
        scenario, recorder = self._client.scenario, self._recorder
        stop_s = scenario.duration_s if traffic.stop_s is None else min(traffic.stop_s, scenario.duration_s)
        born_at_s = recorder.now_s
        topic = traffic.topic_of(self._client.number)
        for at_s in moments(traffic, client=self._client.number, seed=scenario.seed, line=line, stop_s=stop_s):
            if at_s < born_at_s:
                continue
            if at_s > recorder.now_s:
                await anyio.sleep_until(recorder.began_at + at_s)
            await self._publish_one(mqtt, topic, traffic)

    async def _publish_one(self, mqtt: MQTTInterface, topic: str, traffic: Traffic) -> None:
        recorder, name, qos = self._recorder, self._client.name, traffic.qos
        number, payload = recorder.new_message(name, topic, qos, traffic.size_bytes)
        try:
            receipt = await mqtt.publish(topic, payload, qos=qos, retain=traffic.retain)
        except HawkError as error:
            if self._mortality.alive:
                recorder.note(FateMet(recorder.now_s, name, number, fate_of(error).value, str(error)))
            return
        if self._mortality.alive:
            recorder.note(Accepted(recorder.now_s, name, number))
            size_bytes = len(payload) + len(topic)
            self._pending.setdefault((topic, qos), deque()).append((number, size_bytes, receipt))
            self.size_bytes += size_bytes
            self._look()

    async def _settle(self, topic: str, qos: int) -> None:
        """Note the fate of every message there that has met it; the oldest come first, unless a newer one was dropped."""
        pending = self._pending.get((topic, qos))
        if not pending:
            return
        if pending[0][2].settled:
            while pending and pending[0][2].settled:
                await self._tell(qos, *pending.popleft())
            return
        settled = [each for each in pending if each[2].settled]
        for each in settled:
            pending.remove(each)
            await self._tell(qos, *each)

    async def _tell(self, qos: int, number: int, size_bytes: int, receipt: Receipt) -> None:
        fate, detail = FateKind.ACKNOWLEDGED if qos else FateKind.SENT, ""
        try:
            await receipt.acknowledged()
        except HawkError as error:
            fate, detail = fate_of(error), str(error)
        self.size_bytes -= size_bytes
        self._recorder.note(FateMet(self._recorder.now_s, self._client.name, number, fate.value, detail))

    def _look(self) -> None:
        if self._mqtt is not None and self._mortality.alive:
            stats = self._mqtt.stats
            self._recorder.check_balance(stats)
            self._client.track.look(stats["queue_size"], self.size_bytes)


def name_of(number: int) -> str:
    """The name, and client identifier, of the client of that number."""
    return f"client-{number}"


def fate_of(error: HawkError) -> FateKind:
    """The fate that an error tells."""
    return next((fate for kind, fate in _FATES.items() if isinstance(error, kind)), FateKind.ABANDONED)


def config_of(scenario: Scenario, name: str) -> Config:
    """hawk's settings of the client of that name, its client identifier and its broker among them."""
    config = scenario.config
    if scenario.broker.url is not None:
        there = Config.from_url(scenario.broker.url)
        config = replace(config, broker=there.broker, port=there.port)
        if there.username is not None:
            config = replace(config, username=there.username, password=there.password)
    if config.client_id is None:
        return replace(config, client_id=name)
    # Two clients of one identifier would take each other's links over for ever.
    return config if scenario.clients == 1 else replace(config, client_id=f"{config.client_id}-{name}")


def _first_of(group: BaseExceptionGroup[HawkError]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
