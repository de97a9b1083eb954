"""The public face in virtual time: every coroutine test of this folder that is not marked `anyio` runs on both backends,
as a program of its own in virtual time. Those marked `anyio` need real sockets.
"""

import inspect
import logging
from collections.abc import Iterator

import pytest

from hawk.testing.virtual_time import run


def _is_virtual(test: object) -> bool:
    marks = getattr(test, "pytestmark", [])
    return inspect.iscoroutinefunction(test) and not any(mark.name == "anyio" for mark in marks)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(name: str, obj: object) -> None:
    if name.startswith("test_") and _is_virtual(obj):
        pytest.mark.usefixtures("anyio_backend")(obj)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not _is_virtual(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    run(lambda: pyfuncitem.obj(**arguments), backend=pyfuncitem.funcargs["anyio_backend"])
    return True


class Records(logging.Handler):
    """Every record that hawk logs during a test."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.all: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)

    def of(self, event: str) -> list[logging.LogRecord]:
        """Those of that event."""
        return [record for record in self.all if getattr(record, "event", None) == event]

    def levels(self, event: str) -> list[str]:
        """The levels of those of that event."""
        return [record.levelname for record in self.of(event)]

    def text(self) -> str:
        """All lines, with everything that a structured handler would find."""
        return "\n".join(f"{record.getMessage()} {record.__dict__}" for record in self.all)


@pytest.fixture
def records() -> Iterator[Records]:
    """What hawk logs, every level of it."""
    logger, handler = logging.getLogger("hawk"), Records()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)
