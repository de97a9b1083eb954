"""What happens in `hawk demo`, and nothing of how it is shown: a broker that dies and returns, three sensors that publish
through one hawk, and a second hawk that receives.

A view may look at `DemoRun.moment()` and `DemoRun.happenings` whenever it likes; the run never waits for one.
"""

from bisect import bisect_left
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from dataclasses import dataclass, replace
from math import sin
from typing import NamedTuple

import anyio

from hawk.cli.demo_sabotage import Sabotage, SabotagedDialer, Saboteur
from hawk.cli.demo_verdict import History, Judgement, Sensor, Stamped, judge_history
from hawk.cli.demo_world import World
from hawk.clock import SystemWallClock
from hawk.config import Config, ReconnectionConfig
from hawk.core.backoff import ceiling_s
from hawk.errors import HawkError
from hawk.interface import MQTTInterface, open_mqtt
from hawk.messages import StateChanged
from hawk.ports import WallClock
from hawk.receipt import Receipt
from hawk.subscription import Subscription
from hawk.testing.broker import Broker
from hawk.values import ConnectionState

SENSORS = (Sensor("demo/temperature", 1), Sensor("demo/humidity", 1), Sensor("demo/door", 2))
SETTINGS = Config(
    reconnection=ReconnectionConfig(
        max_retries=None, initial_retry_delay=0.2, max_retry_delay=1.0, connection_timeout=5.0
    )
)
"""What both hawks are told, but for the broker and the room: quick delays, so that the outage is over soon."""

_RATE_WINDOW_S = 1.0
_LAST_ARRIVALS_S = 2.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """When what happens: seconds since the run began. Each sensor sends `readings`, one every `every_s`.

    `patience_s`: how long after the last reading the run waits for acknowledgements that are still missing.
    """

    dies_at_s: float = 5.0
    returns_at_s: float = 12.0
    readings: int = 50
    every_s: float = 0.3
    patience_s: float = 8.0

    @property
    def total(self) -> int:
        """The readings of all sensors."""
        return self.readings * len(SENSORS)

    @property
    def length_s(self) -> float:
        """How long the sensors go on."""
        return self.readings * self.every_s


class Happening(NamedTuple):
    """Something worth a line, and when: seconds since the run began."""

    at_s: float
    what: str


class Moment(NamedTuple):
    """All that a view shows of one moment. `next_try_in_s` is about right: the delay is jittered, and not told."""

    at_s: float
    broker_is_up: bool
    broker_returns_in_s: float | None
    publisher: ConnectionState
    subscriber: ConnectionState
    failures: int
    next_try_in_s: float | None
    queue_size: int
    queue_limit: int
    accepted_per_s: float
    delivered_per_s: float
    sent: int
    delivered: int
    underway: int
    repeats: int
    reconnections: int


class DemoRun:
    """One run. `run` may be cancelled at any time; `judge` then speaks of what has happened until then."""

    def __init__(
        self, schedule: Schedule = Schedule(), *, sabotage: Sabotage | None = None, settings: Config = SETTINGS
    ) -> None:
        self.schedule = schedule
        self._settings = settings
        self.history = History(SENSORS)
        self.happenings: list[Happening] = []
        self.finished = False
        self._sabotage = sabotage
        self._has_broker = False
        self._wall_clock: WallClock = SystemWallClock()
        self._publisher: MQTTInterface | None = None
        self._subscriber: MQTTInterface | None = None
        self._receipts: list[Receipt] = []
        self._began_at: float | None = None
        self._down_since = 0.0
        self._arrival = anyio.Event()
        self._end: tuple[int, ConnectionState] | None = None

    # -------------------------------------------------------------------------------------------- what happens

    async def run(self, world: World) -> None:
        """From the first connection to the end. Cancelling leaves within a second, and no task behind."""
        self._has_broker = True
        async with AsyncExitStack() as stack:
            watching = await stack.enter_async_context(anyio.create_task_group())
            subscriber = await stack.enter_async_context(self._open(world, "demo-subscriber"))
            publisher = await stack.enter_async_context(self._open(world, "demo-sensors"))
            self._subscriber, self._publisher = subscriber, publisher
            watching.start_soon(self._watch, "subscriber", subscriber)
            watching.start_soon(self._watch, "sensors", publisher)
            await subscriber.connect()
            messages = await stack.enter_async_context(subscriber.subscribe("demo/#", qos=2))
            await publisher.connect()
            self._began_at = anyio.current_time()
            try:
                async with anyio.create_task_group() as playing:
                    playing.start_soon(self._receive, messages)
                    playing.start_soon(self._take_broker_away, world.broker)
                    async with anyio.create_task_group() as sensing:
                        for place, sensor in enumerate(SENSORS):
                            sensing.start_soon(self._sense, publisher, sensor, place / len(SENSORS))
                    await self._await_stragglers()
                    self.finished = True
                    playing.cancel_scope.cancel()
            finally:
                # The verdict is about the moment before the demo itself says goodbye.
                self._end = self._standing()

    def _open(self, world: World, name: str) -> AbstractAsyncContextManager[MQTTInterface]:
        config = replace(
            self._settings,
            broker="127.0.0.1",
            port=world.port,
            client_id=name,
            username=None,
            password=None,
            # Room for every reading: no overflow policy can be the reason why one is missing.
            message_queue_size=self.schedule.total,
            drain_s=2.0,
            cancel_drain_s=0.2,
        )
        ports = world.ports(config)
        if name == "demo-sensors":
            self._wall_clock = ports.wall_clock
            if self._sabotage is not None:
                topic = SENSORS[-1 if self._sabotage is Sabotage.REPEAT else 0].topic
                dialer = SabotagedDialer(ports.dialer, Saboteur(self._sabotage, topic=topic))
                ports = replace(ports, dialer=dialer)
        return open_mqtt(config, ports=ports)

    async def _sense(self, publisher: MQTTInterface, sensor: Sensor, phase: float) -> None:
        for number in range(self.schedule.readings):
            await anyio.sleep_until(self._at((number + phase) * self.schedule.every_s))
            key = (sensor.topic, number)
            self.history.note_sent(key)
            reading = {"number": number, "value": round(20 + 5 * sin(number / 8), 2)}
            receipt = await publisher.publish(sensor.topic, reading, qos=sensor.qos)
            self.history.note_accepted(key, self._now_s())
            self._receipts.append(receipt)

    async def _receive(self, messages: Subscription) -> None:
        async for message in messages:
            self.history.note_arrived((message.topic, message.json()["number"]), self._now_s())
            self._arrival.set()

    async def _take_broker_away(self, broker: Broker) -> None:
        await anyio.sleep_until(self._at(self.schedule.dies_at_s))
        await broker.kill()
        self.history.died_at_s = self._now_s()
        self._tell("the broker dies")
        await anyio.sleep_until(self._at(self.schedule.returns_at_s))
        await broker.restart()
        self.history.returned_at_s = self._now_s()
        self._tell("the broker is back")

    async def _watch(self, name: str, mqtt: MQTTInterface) -> None:
        with closing(mqtt.events()) as events:
            async for event in events:
                if isinstance(event, StateChanged):
                    if name == "sensors":
                        self._down_since = anyio.current_time()
                    why = f" ({event.cause})" if event.cause else ""
                    self._tell(f"{name}: {event.before.value} -> {event.after.value}{why}")

    async def _await_stragglers(self) -> None:
        """Until everything has been acknowledged and has arrived, or patience ends."""
        with anyio.move_on_after(self.schedule.patience_s):
            for receipt in self._receipts:
                try:
                    await receipt.acknowledged()
                except HawkError as error:
                    self._tell(f"a reading was not delivered: {error}")
            with anyio.move_on_after(_LAST_ARRIVALS_S):
                while self.history.underway():
                    self._arrival = anyio.Event()
                    await self._arrival.wait()

    # --------------------------------------------------------------------------------------- what is to be seen

    def moment(self) -> Moment:
        """How it stands, also before `run` has begun. Call it where the event loop runs."""
        history, now_s, publisher = self.history, self._now_s(), self._publisher
        stats = None if publisher is None else publisher.stats
        away = history.died_at_s is not None and history.returned_at_s is None
        return Moment(
            at_s=now_s,
            broker_is_up=self._has_broker and not away,
            broker_returns_in_s=max(0.0, self.schedule.returns_at_s - now_s) if away else None,
            publisher=_state_of(publisher),
            subscriber=_state_of(self._subscriber),
            failures=stats["consecutive_failures"] if stats else 0,
            next_try_in_s=self._next_try_in_s(),
            queue_size=stats["queue_size"] if stats else 0,
            queue_limit=self.schedule.total,
            accepted_per_s=_rate(history.accepted, now_s),
            delivered_per_s=_rate(history.arrived, now_s),
            sent=history.sent,
            delivered=history.delivered,
            underway=len(history.accepted) - history.delivered,
            repeats=len(history.arrived) - history.delivered,
            reconnections=stats["total_reconnections"] if stats else 0,
        )

    def judge(self) -> Judgement:
        """What the run came to; if it was cut short, what it came to until then."""
        reconnections, state = self._end or self._standing()
        return judge_history(self.history, reconnections=reconnections, final_state=state, cut_short=not self.finished)

    def _standing(self) -> tuple[int, ConnectionState]:
        """The reconnections of the hawk that publishes, and the state of the pair: CONNECTED if both are."""
        publisher, subscriber = _state_of(self._publisher), _state_of(self._subscriber)
        reconnections = 0 if self._publisher is None else self._publisher.stats["total_reconnections"]
        return reconnections, subscriber if publisher is ConnectionState.CONNECTED else publisher

    def _next_try_in_s(self) -> float | None:
        """From what is public: the last attempt, how many failed in a row, and the delay that follows, but for its jitter."""
        publisher = self._publisher
        if publisher is None or publisher.connection_state is not ConnectionState.RECONNECTING:
            return None
        stats = publisher.stats
        waited_s = anyio.current_time() - self._down_since
        if stats["last_connection_attempt"] is not None:
            waited_s = min(waited_s, self._wall_clock.now() - stats["last_connection_attempt"])
        return max(0.0, ceiling_s(stats["consecutive_failures"] + 1, self._settings.reconnection) - waited_s)

    def _tell(self, what: str) -> None:
        self.happenings.append(Happening(self._now_s(), what))

    def _now_s(self) -> float:
        return 0.0 if self._began_at is None else anyio.current_time() - self._began_at

    def _at(self, at_s: float) -> float:
        assert self._began_at is not None
        return self._began_at + at_s


def _state_of(mqtt: MQTTInterface | None) -> ConnectionState:
    return ConnectionState.DISCONNECTED if mqtt is None else mqtt.connection_state


def _rate(stamped: list[Stamped], now_s: float) -> float:
    """How many in the second before, or since the beginning if that is shorter."""
    window_s = min(_RATE_WINDOW_S, now_s)
    recent = len(stamped) - bisect_left(stamped, now_s - window_s, key=lambda one: one.at_s)
    return recent / window_s if window_s > 0 else 0.0
