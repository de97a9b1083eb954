"""A state machine for Hypothesis whose world is an application, a broker and the weather between, in virtual time.

Hypothesis calls rules from outside any event loop, one after another; each lets the world run until it has its answer.
Between two rules the world stands still, its clock too, so that an example is as repeatable as any other run in virtual
time. No thread runs: a breakpoint, or a Ctrl-C, is where it seems to be.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ClassVar, TypeVar

import anyio
from anyio.abc import TaskGroup
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hawk.config import Config, ReconnectionConfig
from hawk.interface import MQTTInterface
from hawk.testing.proxy_timeline import Spell, Weather
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, SteppedRun
from hawk.values import ConnectionState

Result = TypeVar("Result")

SETTLED_WITHIN_S = 7200.0
"""How long, once everything has healed, hawk may take to be connected with nothing left to deliver."""

_LONGEST_EXAMPLE_S = 30 * 86_400.0


def _spells() -> st.SearchStrategy[Spell]:
    from hawk.testing.strategies import spells

    return spells()


class OutageMachine(RuleBasedStateMachine):
    """Subclass it: say what your application does, and what must hold of it in any weather.

    class Logbook(OutageMachine):
        @rule(text=st.text())
        def write(self, text): self.run(self.mqtt.publish, "log", text)

        async def check_settled(self): assert len(self.broker.received()) == ...

    TestLogbook = Logbook.TestCase

    There already: weather that changes and clears, links that break, a broker that dies and returns with its sessions,
    and time that passes; the books of `mqtt.stats` are checked at every step. At the end of an example everything
    heals, and hawk has two hours to deliver.

    `rehearsal`, `broker`, `network`, `mqtt`: the world; look at them in rules and invariants, and call what is async
    with `run`. `config`: the settings of `mqtt`.
    """

    config: ClassVar[Config] = Config(reconnection=ReconnectionConfig(max_retries=None))

    async def application(self, mqtt: MQTTInterface) -> None:
        """Your application: a task beside the rules, cancelled at the end of the example. It may return, and not raise."""

    async def check(self) -> None:
        """What must hold after every step, whatever the weather; raise what breaks it."""

    async def check_settled(self) -> None:
        """What must hold once everything has healed and was delivered; raise what breaks it."""

    def run(self, function: Callable[..., Awaitable[Result]], *arguments: Any, **options: Any) -> Result:
        """Let the world run until this async function has returned, and return what it returns; raises what it raises.

        It does not return by itself where it waits for what only a later rule brings: give it a deadline.
        """
        result: Result = self._world.ask(function, arguments, options)
        return result

    # ------------------------------------------------------------------------------------------- rules

    @initialize(seed=st.integers(0, 2**32 - 1), backend=st.sampled_from(["trio", "asyncio"]))
    def begin(self, seed: int, backend: Backend) -> None:
        """The world begins: a broker, calm weather, and a hawk that connects."""
        self._world = _World(self.config, self.application, backend=backend, seed=seed)
        self.rehearsal, self.mqtt = self._world.start()
        self.broker, self.network = self.rehearsal.broker, self.rehearsal.network

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 60.0, 600.0]))
    def time_passes(self, seconds: float) -> None:
        """Nothing happens but what was on its way."""
        self.run(anyio.sleep, seconds)

    @rule(spell=st.deferred(_spells))
    def weather_changes(self, spell: Spell) -> None:
        """A fault begins, and ends by itself."""
        self.run(self._world.cast, spell)

    @rule()
    def skies_clear(self) -> None:
        """Every fault of the network ends."""
        self.run(self._world.cast, Spell("heal"))

    @precondition(lambda self: self.broker.is_up)
    @rule()
    def broker_dies(self) -> None:
        """Every connection is reset, and nobody listens."""
        self.run(self.broker.kill)

    @precondition(lambda self: not self.broker.is_up)
    @rule()
    def broker_returns(self) -> None:
        """With the sessions that it had."""
        self.run(self.broker.restart)

    @invariant()
    def the_books_balance(self) -> None:
        """Promise C4, and your `check`."""
        balance: Mapping[str, Any] = self.mqtt.stats
        into = balance["recovered"] + balance["accepted"] + balance["replayed"]
        assert into == sum(balance[column] for column in _WHERE_MESSAGES_GO), f"the books do not balance: {balance}"
        self.run(self.check)

    def teardown(self) -> None:
        """Everything heals, hawk delivers, `check_settled` looks; then the world ends."""
        world = getattr(self, "_world", None)
        if world is not None and world.is_alive:
            try:
                self.run(world.settle)
                self.run(self.check_settled)
            finally:
                world.end()


_WHERE_MESSAGES_GO = (
    *("acknowledged", "sent", "dead_lettered", "expired", "dropped", "superseded", "unknown", "damaged"),
    *("abandoned", "queued", "in_flight"),
)


class _World:
    """It works off what it is asked for, and stands still while nothing is asked."""

    def __init__(
        self,
        config: Config,
        application: Callable[[MQTTInterface], Coroutine[Any, Any, None]],
        *,
        backend: Backend,
        seed: int,
    ) -> None:
        self._config, self._application, self._seed = config, application, seed
        self._run = SteppedRun(self._live, backend=backend, seed=seed, limit_s=_LONGEST_EXAMPLE_S)
        self._question: Callable[[], Awaitable[Any]] | None = None
        self._asked: anyio.Event
        self._answers: list[tuple[Any, Exception | None]] = []
        self._rehearsal: Rehearsal
        self._mqtt: MQTTInterface
        self._tasks: TaskGroup
        self._weather: Weather

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self._run.has_ended

    def start(self) -> tuple[Rehearsal, MQTTInterface]:
        """Return once hawk is connected."""
        self._take()
        return self._rehearsal, self._mqtt

    def ask(self, function: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Let the world run until it has the answer."""
        if not self.is_alive:
            raise RuntimeError("the world of this example has ended")
        self._question = lambda: function(*arguments, **options)
        self._asked.set()
        return self._take()

    def end(self) -> None:
        """Let the world end in an orderly way."""
        if self.is_alive:
            self._question = None
            self._asked.set()
            self._run.run_until(lambda: False)

    async def cast(self, spell: Spell) -> None:
        """Begin a spell now; it ends by itself."""
        self._weather.begin(spell)
        if spell.for_s is not None:
            self._tasks.start_soon(self._finish, spell, spell.for_s)

    async def settle(self) -> None:
        """Heal everything, and wait until hawk is connected and nothing is left to deliver."""
        self._weather.begin(Spell("heal"))
        if not self._rehearsal.broker.is_up:
            await self._rehearsal.broker.restart()
        await self._mqtt.connect()
        for _ in range(round(SETTLED_WITHIN_S)):
            await anyio.sleep(1)
            left = self._mqtt.stats["queue_size"]
            if not left and self._mqtt.connection_state is ConnectionState.CONNECTED:
                return
        raise AssertionError(
            f"{SETTLED_WITHIN_S:g} s after everything healed, {left} messages are still to be delivered"
        )

    async def _finish(self, spell: Spell, for_s: float) -> None:
        await anyio.sleep(for_s)
        self._weather.end(spell)

    def _take(self) -> Any:
        self._run.run_until(lambda: bool(self._answers))
        value, error = self._answers.pop()
        if error is not None:
            raise error
        return value

    async def _live(self) -> None:
        async with Rehearsal(seed=self._seed) as self._rehearsal, self._rehearsal.open_mqtt(self._config) as self._mqtt:
            self._weather = Weather(self._rehearsal.network)
            await self._mqtt.connect()
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._application, self._mqtt)
                await self._say(None, None)
                while self._question is not None:
                    try:
                        value, error = await self._question(), None
                    except Exception as raised:  # noqa: BLE001 - raised again where it was asked
                        value, error = None, raised
                    await self._say(value, error)
                self._tasks.cancel_scope.cancel()

    async def _say(self, value: Any, error: Exception | None) -> None:
        """Answer, and wait for the next question."""
        self._asked = anyio.Event()
        self._answers.append((value, error))
        await self._asked.wait()
