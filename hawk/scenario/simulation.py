"""One run of a scenario in virtual time: whole hawks, a broker and a network in memory, fed by one seed.

Nothing here judges: what happened is in the journal that `simulate` returns. No thread runs, and no socket is opened.
"""

import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from random import Random
from typing import NamedTuple

import anyio
from anyio.abc import ByteStream, TaskGroup

from hawk.scenario.audience import NOBODY, Audience, Progress, look_again_and_again
from hawk.scenario.client import Client
from hawk.scenario.header import header_of
from hawk.scenario.journal import Ended, Journal, Logged, StateEntered
from hawk.scenario.log_notes import noted_log
from hawk.scenario.model import Scenario
from hawk.scenario.recorder import Recorder
from hawk.scenario.schedule import schedule
from hawk.scenario.script import Script, watch_abort
from hawk.scenario.weather import Weather
from hawk.scenario.world import Gate, Links
from hawk.testing.broker import Broker
from hawk.testing.network import Network
from hawk.testing.virtual_pace import Pace
from hawk.testing.virtual_time import VirtualWallClock, run, skip
from hawk.values import ConnectionState

_SHORTEST_DRAIN_S = 600.0
_LAST_WORDS_S = 2.0
_LOOK_EVERY_S = 0.25
_STEPS = 50
_STEPS_BETWEEN_COLLECTIONS = 10
_YOUNG = 1
"""What was made since the last collection; the rest of the process is not looked at again."""


def simulate(scenario: Scenario, *, audience: Audience = NOBODY, pace: Pace | None = None) -> Journal:
    """Run one variant of a scenario by its own seed and backend. The same seed gives the same journal, byte by byte.

    It keeps to `pace`, by default as fast as it can be; tidying up afterwards does not.
    Raises what hawk raises when it has a bug, with a note on how to see it again.
    """
    drain_s = longest_drain_s(scenario)
    limit_s = scenario.duration_s + drain_s + 3600.0
    kept = Pace() if pace is None else pace

    async def play() -> tuple[Recorder, Ended]:
        return await _play(scenario, drain_s, audience, kept)

    with _garbage_left_alone():
        recorder, ended = run(play, backend=scenario.backend, seed=scenario.seed, limit_s=limit_s, pace=kept)
    return Journal(header_of(scenario), (*recorder.events, ended))


def longest_drain_s(scenario: Scenario) -> float:
    """How long after the script, with everything healed, the clients may take to deliver what is left."""
    return max(_SHORTEST_DRAIN_S, 3 * scenario.config.reconnection.max_retry_delay)


class SimulatedHosts:
    """The computers and programs of the clients, in virtual time."""

    def __init__(self) -> None:
        self.bites = {"client.crash": 0, "host.disk_full": 0, "host.suspend": 0, "host.clock_jump": 0}
        self.clients: list[Client] = []
        self.calendar = Calendar(self._calendar_was_read)
        self._calendar_was_set = False

    async def crash(self, client: int, down_s: float) -> None:
        """Kill one client, or with 0 all; start them again after `down_s`."""
        for each in self.clients:
            if client in (0, each.number):
                self.bites["client.crash"] += await each.crash(down_s)

    def fill_disk(self, full: bool) -> None:
        """No outbox can be written, or all can again."""
        for client in self.clients:
            if client.disk is not None:
                client.disk.fail("no space left on device" if full else "")

    def sleep(self, seconds: float) -> None:
        """Let time go on while nobody runs."""
        self.bites["host.suspend"] += len(self.clients)
        skip(seconds)

    def set_calendar(self, by_s: float) -> None:
        """Move every calendar."""
        self._calendar_was_set = True
        self.calendar.clock.epoch_at += by_s

    def disk_failed(self) -> None:
        """A commit failed."""
        self.bites["host.disk_full"] += 1

    def _calendar_was_read(self) -> None:
        self.bites["host.clock_jump"] += self._calendar_was_set


class Calendar:
    """A virtual wall clock that tells when it is read."""

    def __init__(self, on_read: Callable[[], None]) -> None:
        self.clock = VirtualWallClock()
        self._on_read = on_read

    def now(self) -> float:
        """Seconds since the epoch."""
        self._on_read()
        return self.clock.now()


async def _play(scenario: Scenario, drain_s: float, audience: Audience, pace: Pace) -> tuple[Recorder, Ended]:
    recorder, random = Recorder(), Random(f"world {scenario.seed}")
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker(record=False, on_taken=recorder.taken))
        network = Network(broker.accept, random=Random(random.getrandbits(64)))
        await stack.enter_async_context(network)
        place = Place(network, broker, broker, network.connect)
        ended = await play_at(place, scenario, recorder, random, drain_s=drain_s, audience=audience, pace=pace)
    return recorder, ended


class Place(NamedTuple):
    """Where a run takes place: the links, hawk's own broker if it is that, who answers a CONNECT, and how a client gets a
    connection.
    """

    links: Links
    broker: Broker | None
    gate: Gate
    connect: Callable[[], Awaitable[ByteStream]]


async def play_at(
    place: Place,
    scenario: Scenario,
    recorder: Recorder,
    random: Random,
    *,
    drain_s: float,
    audience: Audience,
    pace: Pace | None = None,
) -> Ended:
    """Start the clients there, play the timeline, heal, and let them deliver what is left; what the run came to.

    `pace` is None by the real clock.
    """
    hosts = SimulatedHosts()
    async with AsyncExitStack() as stack:
        stack.enter_context(noted_log(recorder))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        hosts.clients = [
            Client(
                number,
                scenario,
                recorder=recorder,
                connect=place.connect,
                wall_clock=hosts.calendar,
                random=Random(random.getrandbits(64)),
                tasks=tasks,
                on_disk_failure=hosts.disk_failed,
            )
            for number in range(1, scenario.clients + 1)
        ]
        for client in hosts.clients:
            recorder.note(StateEntered(0.0, client.name, ConnectionState.DISCONNECTED.value))
        for what in scenario.left_out:
            recorder.note(Logged(0.0, "", "WARNING", "left out", {"what": what}))
        weather = Weather(place.links, place.broker, place.gate, hosts, sessions=scenario.broker.sessions)
        script = Script(weather, recorder)
        look = audience.eyes_on(scenario, recorder, script)
        if pace is not None:
            stack.enter_context(pace.kept(look))
        elif look is not None:
            tasks.start_soon(look_again_and_again, look)
        ended = await _run_script(scenario, script, hosts, recorder, drain_s, audience.on_progress, tasks)
        tasks.cancel_scope.cancel()
    return ended


async def _run_script(
    scenario: Scenario,
    script: Script,
    hosts: SimulatedHosts,
    recorder: Recorder,
    drain_s: float,
    on_progress: Progress | None,
    tasks: TaskGroup,
) -> Ended:
    """Start the clients, play the timeline, heal, drain; what the run came to."""
    aborted: list[str] = []
    with anyio.CancelScope() as scope:
        if scenario.abort_if is not None:
            tasks.start_soon(watch_abort, scenario.abort_if, hosts.clients, recorder, aborted, scope)
        tasks.start_soon(_tell_progress, scenario.duration_s, on_progress)
        for client in hosts.clients:
            client.start()
        await script.play(schedule(scenario, scenario.seed))
        await anyio.sleep_until(recorder.began_at + scenario.duration_s)
    await script.heal()
    drained = False
    if not aborted:
        with anyio.move_on_after(drain_s):
            await _wait_until_drained(hosts.clients)
            drained = True
            await anyio.sleep(_LAST_WORDS_S)
    for client in hosts.clients:
        client.finish()
    recorder.close()
    return Ended(recorder.now_s, aborted[0] if aborted else "", drained, recorder.imbalance)


async def _wait_until_drained(clients: list[Client]) -> None:
    """Until every client is CONNECTED with nothing left, or FAILED: that one dials no more by itself."""
    waiting = list(clients)
    while waiting:
        await anyio.sleep(_LOOK_EVERY_S)
        waiting = [each for each in waiting if not _is_done(each)]


def _is_done(client: Client) -> bool:
    if client.state is ConnectionState.FAILED:
        return True
    return client.state is ConnectionState.CONNECTED and not client.queue_size


async def _tell_progress(duration_s: float, on_progress: Progress | None) -> None:
    for step in range(1, _STEPS + 1):
        await anyio.sleep(duration_s / _STEPS)
        if step % _STEPS_BETWEEN_COLLECTIONS == 0:
            gc.collect(_YOUNG)
        if on_progress is not None:
            on_progress(step / _STEPS)


@contextmanager
def _garbage_left_alone() -> Iterator[None]:
    """Collect garbage at fixed instants of the run only: hawk holds receipts weakly, so when one dies may be seen."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
