"""What every test shares: both backends, and the one check of C5 on whatever connection states a test saw."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from hawk.testing.state_watch import StateWatch, watched_states

# How long an example takes says nothing on a shared machine; the blob replays a failure.
settings.register_profile("hawk", deadline=None, print_blob=True)
settings.load_profile("hawk")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--seed N` replays one seed of every test that draws from seeds; `--deep` runs the long versions of long tests."""
    parser.addoption("--seed", type=int, default=None, help="run the seeded tests with this seed alone")
    parser.addoption("--deep", action="store_true", help="run the long versions: every kill, cut, seed and mutation")


def pytest_configure(config: pytest.Config) -> None:
    """Where Python may keep no compiled modules beside their sources, workers and children keep them in pytest's cache.

    Otherwise each of a hundred children would compile all that it imports, which no installed hawk does.
    """
    cache: pytest.Cache | None = getattr(config, "cache", None)
    if sys.dont_write_bytecode and cache is not None:
        os.environ["PYTHONPYCACHEPREFIX"] = str(cache.mkdir("bytecode"))
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every test marked `anyio` runs on both."""
    return str(request.param)


@pytest.fixture(scope="session")
def deep(request: pytest.FixtureRequest) -> bool:
    """Whether the long versions of the tests were asked for."""
    return bool(request.config.getoption("--deep"))


@pytest.fixture(autouse=True)
def connection_states() -> Iterator[StateWatch]:
    """Promise C5 in every test: the changes of state that it saw follow the table, or the test fails."""
    with watched_states() as watch:
        yield watch
    assert watch.illegal() == {}, "a connection state changed as C5 forbids"
