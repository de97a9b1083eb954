"""One client of a run, through its crashes: each of its lives (`life.py`) has a hawk of its own; the disk outlives them."""

import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random

import anyio
from anyio.abc import ByteStream, TaskGroup

from hawk.config import Config
from hawk.errors import HawkError, OutboxUnavailable
from hawk.links.dialing import StreamDialer
from hawk.ports import Ports, WallClock
from hawk.scenario.journal import KILLED, Attempted, Logged, StateEntered
from hawk.scenario.life import Life
from hawk.scenario.model import Scenario, Traffic
from hawk.scenario.mortal import MortalDialer, Mortality, MortalStore
from hawk.scenario.recorder import QueueTrack, Recorder, TellingRandom
from hawk.stores.memory import MemoryStore
from hawk.values import ConnectionState

client_name: contextvars.ContextVar[str] = contextvars.ContextVar("client_name", default="")
"""The client in whose task this runs: what hawk logs there is its own."""

_RESTARTS_AFTER_S = 1.0


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
        self._life: Life | None = None
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
        self._life = Life(self, random)
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

    async def _live(self, life: Life) -> None:
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


def name_of(number: int) -> str:
    """The name, and client identifier, of the client of that number."""
    return f"client-{number}"


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
