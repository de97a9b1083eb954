"""The seeds of the simulations: all of them, or the one that `--seed` names."""

from collections.abc import Sequence

import pytest

SEEDS = range(40)


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> Sequence[int]:
    """Which seeds to run."""
    chosen = request.config.getoption("--seed")
    return SEEDS if chosen is None else (int(chosen),)
