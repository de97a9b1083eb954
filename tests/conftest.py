"""What every test shares: both backends, and the one check of C5 on whatever connection states a test saw."""

from collections.abc import Iterator

import pytest

from hawk.testing.state_watch import StateWatch, watched_states


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every test marked `anyio` runs on both."""
    return str(request.param)


@pytest.fixture(autouse=True)
def connection_states() -> Iterator[StateWatch]:
    """Promise C5 in every test: the changes of state that it saw follow the table, or the test fails."""
    with watched_states() as watch:
        yield watch
    assert watch.illegal() == {}, "a connection state changed as C5 forbids"
