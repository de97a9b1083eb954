"""pytest's plugin, there for every project that has installed hawk: fixtures, and tests that run in virtual time.

    @pytest.mark.hawk_virtual
    async def test_an_hour_without_the_broker(hawk_broker, hawk_client): ...

A test marked `hawk_virtual` runs once on each backend, its async fixtures too, in `hawk.testing.run`. The same fixtures
serve tests marked `anyio`, in real time. Loading this imports nothing but pytest, and changes no test that does not ask.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from _pytest.fixtures import SubRequest

    from hawk import Config, MQTTInterface, Ports
    from hawk.testing import Broker, Network, Rehearsal
    from hawk.testing.proxy import FaultProxy

MARKER = "hawk_virtual"
_DESCRIPTION = (
    f"{MARKER}(backend=None, seeds=[0], limit_s=86400): run this async test and its async fixtures in virtual time, on "
    "both backends or on the one named, once for each seed; limit_s is the most virtual time it may take."
)
_BACKENDS = ("trio", "asyncio")
_OPTIONS = {"backend", "seeds", "limit_s"}
_TAKES_ALL = {"asyncio": "asyncio_mode = strict", "trio": "trio_mode = false"}
_FUNCTION = pytest.StashKey[Callable[..., Any]]()


class TcpBroker(NamedTuple):
    """A `hawk.testing.Broker` that listens on this machine; `url` is what `hawk.open_mqtt` takes."""

    broker: "Broker"
    host: str
    port: int

    @property
    def url(self) -> str:
        """mqtt://host:port."""
        return f"mqtt://{self.host}:{self.port}"


class TcpProxy(NamedTuple):
    """A `FaultProxy` before the TCP broker. `network` is the weather; `url` leads through it."""

    proxy: "FaultProxy"
    host: str
    port: int

    @property
    def network(self) -> "Network":
        """What befalls the links; see `hawk.testing.Network`."""
        return self.proxy.network

    @property
    def url(self) -> str:
        """mqtt://host:port."""
        return f"mqtt://{self.host}:{self.port}"


# ------------------------------------------------------------------------------------------------ fixtures


@pytest.fixture
def hawk_seed() -> int:
    """What the rehearsal draws all chance from; a marker's `seeds` set it."""
    return 0


@pytest.fixture
def hawk_config() -> "Config":
    """The settings of `hawk_client`. Override it in your project to test with your own."""
    from hawk import Config

    return Config()


@pytest.fixture
async def hawk_rehearsal(hawk_seed: int) -> AsyncIterator["Rehearsal"]:
    """A broker and a network in memory, and as many hawks as you open: `hawk.testing.Rehearsal`."""
    from hawk.testing import Rehearsal

    async with Rehearsal(seed=hawk_seed) as rehearsal:
        yield rehearsal


@pytest.fixture
async def hawk_broker(hawk_rehearsal: "Rehearsal") -> "Broker":
    """The rehearsal's broker: kill it, restart it, pause it, let it refuse; read what it received."""
    return hawk_rehearsal.broker


@pytest.fixture
async def hawk_link(hawk_rehearsal: "Rehearsal") -> "Network":
    """The weather between every hawk of the rehearsal and its broker: latency, blackholes, resets and the others."""
    return hawk_rehearsal.network


@pytest.fixture
async def hawk_ports(hawk_rehearsal: "Rehearsal", hawk_config: "Config") -> "Ports":
    """What makes a hawk of your own part of the rehearsal: `hawk.open_mqtt(config, ports=hawk_ports)`."""
    return hawk_rehearsal.ports(hawk_config)


@pytest.fixture
async def hawk_client(hawk_rehearsal: "Rehearsal", hawk_config: "Config") -> AsyncIterator["MQTTInterface"]:
    """A hawk that is connected to the rehearsal's broker; it disconnects at the end."""
    async with hawk_rehearsal.open_mqtt(hawk_config) as mqtt:
        await mqtt.connect()
        yield mqtt


@pytest.fixture
async def hawk_tcp_broker() -> AsyncIterator[TcpBroker]:
    """A broker on 127.0.0.1, for any MQTT 5 client; real time only."""
    from hawk.testing import Broker

    async with Broker() as broker:
        yield TcpBroker(broker, "127.0.0.1", await broker.listen())


@pytest.fixture
async def hawk_tcp_proxy(hawk_tcp_broker: TcpBroker, hawk_seed: int) -> AsyncIterator[TcpProxy]:
    """A fault proxy before `hawk_tcp_broker`; real time only."""
    from random import Random

    from hawk.testing.proxy import FaultProxy

    async with FaultProxy(hawk_tcp_broker.host, hawk_tcp_broker.port, random=Random(hawk_seed)) as proxy:
        yield TcpProxy(proxy, "127.0.0.1", await proxy.listen())


_REAL_TIME_ONLY = ("hawk_tcp_broker", "hawk_tcp_proxy")

# ------------------------------------------------------------------------------------------------- hooks


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _DESCRIPTION)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each backend and seed. `anyio_mode = auto` leaves such a test alone."""
    marker = metafunc.definition.get_closest_marker(MARKER)
    if marker is None:
        return
    _check(marker, metafunc)
    if "anyio_backend" in metafunc.fixturenames:
        metafunc.fixturenames.remove("anyio_backend")
    for name in ("hawk_backend", "hawk_seed"):
        if name not in metafunc.fixturenames:
            metafunc.fixturenames.append(name)
    backend, seeds = marker.kwargs.get("backend"), list(marker.kwargs.get("seeds", [0]))
    metafunc.parametrize("hawk_backend", _BACKENDS if backend is None else [backend])
    metafunc.parametrize("hawk_seed", seeds, ids=[f"seed{seed}" for seed in seeds])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: "SubRequest") -> Generator[None, object, object]:
    """In a virtual test an async fixture is only promised here: it begins inside the virtual event loop. Other plugins, which
    would begin it in theirs, see an ordinary fixture.
    """
    stand_in = _stand_in(fixturedef, request)
    if stand_in is None:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixturedef, "func", stand_in)
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Other plugins wrap each async test for an event loop of theirs. A virtual test stays what its author wrote."""
    if not isinstance(item, pytest.Function) or item.get_closest_marker(MARKER) is None:
        return (yield)
    function = item.stash[_FUNCTION] = item.obj
    try:
        return (yield)
    finally:
        item.obj = function


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a virtual test."""
    marker = pyfuncitem.get_closest_marker(MARKER)
    if marker is None:
        return None
    from hawk.testing.virtual_time import DAY_S, run

    test = _Test(pyfuncitem.stash[_FUNCTION], dict(pyfuncitem.funcargs))
    parameters: dict[str, Any] = {**pyfuncitem.callspec.params}
    limit_s = marker.kwargs.get("limit_s", DAY_S)
    run(test.play, backend=parameters["hawk_backend"], seed=parameters["hawk_seed"], limit_s=limit_s)
    return True


# ------------------------------------------------------------------------------------------------ helpers


def _stand_in(fixturedef: pytest.FixtureDef[Any], request: "SubRequest") -> Callable[..., Any] | None:
    """What is called in the place of a fixture; None: the fixture itself."""
    function = fixturedef.func
    if not (inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)):
        return None
    is_virtual = request.node.get_closest_marker(MARKER) is not None
    if _is_ours(function) and (why := _why_not(fixturedef.argname, request, is_virtual=is_virtual)):
        # pytest keeps its own books right only of what fails in here.
        return lambda **_: pytest.fail(why, False)
    if not is_virtual:
        return None
    if inspect.ismethod(function) and type(function.__self__) is type(request.instance):
        function = function.__func__.__get__(request.instance)
    return lambda **arguments: _Promise(function, arguments)


def _why_not(fixture: str, request: "SubRequest", *, is_virtual: bool) -> str:
    """Why one of hawk's own fixtures cannot be had in this test."""
    if is_virtual:
        sockets = fixture in _REAL_TIME_ONLY
        return f"{fixture} cannot be part of a test in virtual time: it has real sockets" if sockets else ""
    if "anyio_backend" not in request.fixturenames:
        return f"{fixture} is for tests marked @pytest.mark.{MARKER} or @pytest.mark.anyio"
    for name, setting in _TAKES_ALL.items():
        if request.node.get_closest_marker(name):
            return f"pytest-{name} takes this test marked anyio for its own; set {setting}"
    return ""


class _Promise:
    """An async fixture that has not begun."""

    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self.function = function
        self.arguments = arguments


class _Test:
    """A test function, and the fixtures that it begins in its own event loop."""

    def __init__(self, function: Callable[..., Any], values: dict[str, Any]) -> None:
        self._function = function
        self._values = values
        self._kept: dict[_Promise, Any] = {}

    async def play(self) -> None:
        """Begin every promised fixture, run the test, end the fixtures in reverse."""
        async with AsyncExitStack() as stack:
            values = {name: await self._keep(value, stack) for name, value in self._values.items()}
            wanted = inspect.signature(self._function).parameters
            await self._function(**{name: value for name, value in values.items() if name in wanted})

    async def _keep(self, value: Any, stack: AsyncExitStack) -> Any:
        if not isinstance(value, _Promise):
            return value
        if value not in self._kept:
            arguments = {name: await self._keep(each, stack) for name, each in value.arguments.items()}
            if inspect.isasyncgenfunction(value.function):
                self._kept[value] = await stack.enter_async_context(_lasting(value.function(**arguments)))
            else:
                self._kept[value] = await value.function(**arguments)
        return self._kept[value]


@asynccontextmanager
async def _lasting(fixture: Any) -> AsyncIterator[Any]:
    """What a fixture yields. As in every pytest, it goes on after its `yield` whether the test failed or not."""
    failure: Exception | None = None
    value = await anext(fixture)
    try:
        yield value
    except Exception as error:  # noqa: BLE001 - told after the fixture has ended
        failure = error
    except BaseException as cancelled:
        await fixture.athrow(cancelled)
        raise
    async for _ in fixture:
        pytest.fail("an async fixture yields once", False)
    if failure is not None:
        raise failure


def _is_ours(function: Callable[..., Any]) -> bool:
    return function.__module__ == __name__


def _check(marker: pytest.Mark, metafunc: pytest.Metafunc) -> None:
    """Raises `pytest.Collector.CollectError` where the marker cannot mean anything."""
    unknown = sorted(set(marker.kwargs) - _OPTIONS)
    if marker.args or unknown:
        wrong = ", ".join(unknown) or "arguments without a name"
        raise pytest.Collector.CollectError(f"@pytest.mark.{MARKER} takes backend, seeds and limit_s, not {wrong}")
    if marker.kwargs.get("backend") not in (None, *_BACKENDS):
        raise pytest.Collector.CollectError(f"backend must be 'trio' or 'asyncio', not {marker.kwargs['backend']!r}")
    if not inspect.iscoroutinefunction(metafunc.function):
        raise pytest.Collector.CollectError(f"@pytest.mark.{MARKER} is for `async def` tests")
    if metafunc.definition.get_closest_marker("anyio"):
        raise pytest.Collector.CollectError(f"a test is marked either anyio (real time) or {MARKER}, not both")
