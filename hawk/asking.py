"""Asking at each dial: the application's callables, and the password in its file or from its command.

No deadline of its own: the dial has one, and whoever waits here is inside it. Nothing that goes wrong repeats what was
answered, nor what an exception of the application says: either may hold a secret (promise C10).
"""

import inspect
import shlex
import subprocess
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import anyio

from hawk.config import Config
from hawk.connecting import Credentials
from hawk.errors import Unprepared
from hawk.interrupts import uninterrupted

T = TypeVar("T")

LARGEST_PASSWORD_BYTES = 65_535
_NEWLINE_BYTES = 2


async def ask(name: str, value: object) -> Any:
    """The setting `name`: the value itself, or what the callable answers, awaited if it can be; of whatever type.

    Raises `Unprepared` whatever the callable raises, which stays the cause. Cancelling cancels the callable.
    """
    if not callable(value):
        return value
    try:
        answer = value()
    except Exception as error:
        raise _unprepared(name, error) from error
    if not inspect.isawaitable(answer):
        return answer
    outcome = _Outcome()
    # In a task of its own: on asyncio one may end as cancelled though nobody cancelled the dial, because it waited for a
    # task of the application that was.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(uninterrupted(outcome.wait_for), answer, name=f"hawk asks {name}")
    if outcome.error is not None:
        raise _unprepared(name, outcome.error) from outcome.error
    if not outcome.is_known:
        raise Unprepared(f"`{name}` was cancelled")
    return outcome.answer


class _Outcome:
    """What became of a callable's promise."""

    def __init__(self) -> None:
        self.answer: object = None
        self.error: Exception | None = None
        self.is_known = False

    async def wait_for(self, answer: Awaitable[object]) -> None:
        try:
            self.answer = await answer
            self.is_known = True
        except Exception as error:  # noqa: BLE001  told by whoever asked
            self.error = error


def _unprepared(name: str, error: Exception) -> Unprepared:
    return Unprepared(f"`{name}` raised {type(error).__name__}")


async def ask_for(name: str, value: object, kind: type[T]) -> T:
    """As `ask`, for a value of that type. Raises `Unprepared` for an answer of another."""
    answer = await ask(name, value)
    if not isinstance(answer, kind):
        raise Unprepared(f"`{name}` must return {kind.__name__}, and returned {type(answer).__name__}")
    return answer


async def ask_for_credentials(config: Config) -> Credentials:
    """User name and password for this dial: asked for, read from the file, printed by the command, or as configured.

    Raises `Unprepared`. Cancelling ends the command.
    """
    if config.credentials is not None:
        return await ask_for("credentials", config.credentials, Credentials)
    password: str | bytes | None = config.password
    if config.password_file is not None:
        password = read_password(Path(config.password_file))
    elif config.password_command is not None:
        password = await _run(config.password_command)
    return Credentials(config.username, password)


def read_password(file: Path) -> bytes:
    """The file without one newline at its end. Raises `Unprepared`; the sentence names the file."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_PASSWORD_BYTES + _NEWLINE_BYTES + 1)
    except OSError as error:
        raise Unprepared(f"password_file {file} cannot be read: {error.strerror}") from error
    except ValueError:
        raise Unprepared("password_file is not the name of a file") from None
    return _checked("password_file", data)


async def _run(command: str | tuple[str, ...]) -> bytes:
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
        done = await anyio.run_process(words, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a command"
        raise Unprepared(f"password_command cannot be run: {why}") from error
    if done.returncode:
        raise Unprepared(f"password_command ended with exit code {done.returncode}")
    return _checked("password_command", done.stdout)


def _checked(name: str, data: bytes) -> bytes:
    password = data.removesuffix(b"\n").removesuffix(b"\r") if data.endswith(b"\n") else data
    if len(password) > LARGEST_PASSWORD_BYTES:
        raise Unprepared(f"{name} holds more than a password can be")
    return password
