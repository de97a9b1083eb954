"""The first line of a journal: what is run, with which versions."""

import platform
from importlib.metadata import version

from hawk import __version__
from hawk.scenario.client import name_of
from hawk.scenario.journal import Expected, Header
from hawk.scenario.model import SECRETS, Scenario

_LIBRARIES = ("anyio", "trio", "mqtt5")


def header_of(scenario: Scenario) -> Header:
    """The header of a run of that variant."""
    config = scenario.config
    versions = {"hawk": __version__, "python": platform.python_version()}
    return Header(
        scenario=scenario.name,
        about=scenario.about,
        seed=scenario.seed,
        backend=scenario.backend,
        clock=scenario.clock,
        duration_s=scenario.duration_s,
        clients=tuple(name_of(number) for number in range(1, scenario.clients + 1)),
        client={name: "***" if name in SECRETS else value for name, value in scenario.settings.items()}
        | {"outbox": scenario.outbox},
        expectations=tuple(Expected(each.text, each.why, each.abort) for each in scenario.expectations),
        abort_if="" if scenario.abort_if is None else scenario.abort_if.text,
        queue_limit=config.message_queue_size,
        cap_s=config.reconnection.max_retry_delay,
        variant=dict(scenario.variant),
        versions=versions | {library: version(library) for library in _LIBRARIES},
    )
