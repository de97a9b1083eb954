"""The command as a user types it: child processes, with a terminal and without, and a broker in the test's own loop."""

import logging
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from anyio.abc import Process

from hawk.testing import Broker

# In a session of its own a child gets the first terminal that it opens for its own, and with it Ctrl-C.
ON_A_TERMINAL = (
    "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR));"
    "os.execv(sys.executable, [sys.executable, '-m', 'hawk', *sys.argv[1:]])"
)


class Result(NamedTuple):
    """How a child ended."""

    code: int
    out: bytes
    err: str


class Child:
    """One running `hawk`, without a terminal."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.err = b""

    async def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send(data)

    async def close_input(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    async def read_until(self, what: bytes) -> bytes:
        """Standard output so far, as soon as `what` is in it."""
        assert self.process.stdout is not None
        out = b""
        while what not in out:
            out += await self.process.stdout.receive()
        return out

    async def read_errors_until(self, what: bytes) -> bytes:
        """Standard error so far, as soon as `what` is in it."""
        assert self.process.stderr is not None
        while what not in self.err:
            self.err += await self.process.stderr.receive()
        return self.err

    async def end(self) -> Result:
        """What else it writes, and its exit code."""
        found: dict[str, bytes] = {"out": b"", "err": self.err}

        async def collect(name: str) -> None:
            stream = self.process.stdout if name == "out" else self.process.stderr
            assert stream is not None
            async for data in stream:
                found[name] += data

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, "out")
                tasks.start_soon(collect, "err")
            code = await self.process.wait()
        assert b"Traceback" not in found["err"], found["err"].decode()
        return Result(code, found["out"], found["err"].decode())


class Terminal:
    """One running `hawk` on a pseudo-terminal: all that it writes comes on one screen."""

    def __init__(self, process: Process, master: int) -> None:
        self.process = process
        self._master = master
        self.screen = ""

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    async def read_until(self, what: str) -> str:
        """The screen, as soon as it shows `what`."""
        with anyio.fail_after(20):
            while what not in self.screen:
                assert await self._read(), f"it ended without {what!r}: {self.screen}"
        return self.screen

    async def end(self) -> int:
        """The exit code, with the whole screen read."""
        with anyio.fail_after(20):
            while await self._read():
                pass
            code = await self.process.wait()
        assert "Traceback" not in self.screen, self.screen
        return code

    async def _read(self) -> bool:
        await anyio.wait_readable(self._master)
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # nobody has the other end open any more
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)


Start = Callable[..., Awaitable[Child]]


@pytest.fixture
def anyio_backend() -> str:
    """The commands choose their own event loop; the tests' loop only serves them."""
    return "trio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HAWK_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def here() -> Iterator[Callable[..., int]]:
    """`here("pub", ...)`: the exit code of a command that ends before it needs an event loop, in this process."""
    logger = logging.getLogger("hawk")
    before = (logger.level, logger.propagate, logger.handlers[:])

    def run(*arguments: str) -> int:
        from hawk.cli.app import run

        return run(arguments)

    yield run
    logger.setLevel(before[0])
    logger.propagate = before[1]
    logger.handlers[:] = before[2]


@pytest.fixture
async def broker(anyio_backend: str) -> AsyncIterator[Broker]:
    async with Broker() as served:
        yield served


@pytest.fixture
async def port(broker: Broker) -> str:
    return str(await broker.listen())


@pytest.fixture
def children() -> Iterator[list[Process]]:
    """Every child of a test; whichever still runs at its end is killed by its pid."""
    started: list[Process] = []
    yield started
    for process in started:
        if process.returncode is None:
            try:
                os.kill(process.pid, 9)
            except ProcessLookupError:
                continue


@pytest.fixture
def start(children: list[Process], anyio_backend: str) -> Start:
    """`await start("pub", ...)`: a child with a pipe for each of its streams, or the file given for its input."""

    async def start(
        *arguments: str | bytes,
        stdin: int = subprocess.PIPE,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        command = [sys.executable, "-m", "hawk", *arguments]
        process = await anyio.open_process(command, stdin=stdin, env={**os.environ, **(env or {})}, cwd=cwd)
        children.append(process)
        return Child(process)

    return start


@pytest.fixture
def run(start: Start) -> Callable[..., Awaitable[Result]]:
    """`await run("pub", ...)`: a child from its start to its end."""

    async def run(*arguments: str | bytes, env: dict[str, str] | None = None) -> Result:
        return await (await start(*arguments, stdin=subprocess.DEVNULL, env=env)).end()

    return run


@pytest.fixture
def start_on_terminal(children: list[Process], anyio_backend: str) -> Iterator[Callable[..., Awaitable[Terminal]]]:
    """`await start_on_terminal("pub", ...)`: a child that has a terminal."""
    masters: list[int] = []

    async def start(*arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Terminal:
        master, slave = pty.openpty()
        masters.append(master)
        process = await anyio.open_process(
            [sys.executable, "-c", ON_A_TERMINAL, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", **(env or {})},
            cwd=cwd,
        )
        os.close(slave)
        children.append(process)
        return Terminal(process, master)

    yield start
    for master in masters:
        os.close(master)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., str]:
    """`settings(drain_s=0.1)`: the path of a configuration file that says so."""

    def write(**values: object) -> str:
        path = tmp_path / "hawk.yaml"
        path.write_text("mqtt:\n" + "".join(f"  {key}: {str(value).lower()}\n" for key, value in values.items()))
        return str(path)

    return write


@pytest.fixture
def until(anyio_backend: str) -> Callable[[Callable[[], object]], Awaitable[None]]:
    """`await until(lambda: ...)`: wait for what becomes true."""

    async def wait(condition: Callable[[], object]) -> None:
        with anyio.fail_after(20):
            while not condition():
                await anyio.sleep(0.01)

    return wait
