"""The runs that one scenario file asks for: its matrix, or what the command line puts in the place of an axis. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import product
from typing import Any

from hawk.config import Config
from hawk.errors import ConfigInvalid, Problem
from hawk.scenario.model import Backend, Scenario

_LONGEST_FOLDER_BYTES = 255
_CUT_AT_BYTES = 230


def variants(
    scenario: Scenario, *, seeds: Sequence[int] | None = None, backends: Sequence[Backend] | None = None
) -> list[Scenario]:
    """One scenario for each run, in the order of the axes. `seeds` and `backends` win over the file's.

    Raises `ConfigInvalid` when a combination of settings is none that hawk takes.
    """
    axes: dict[str, tuple[Any, ...]] = dict(scenario.matrix)
    axes |= {"seed": tuple(seeds)} if seeds is not None else {}
    axes |= {"backend": tuple(backends)} if backends is not None else {}
    return [_variant(scenario, dict(zip(axes, values, strict=True))) for values in product(*axes.values())]


def title_of(scenario: Scenario) -> str:
    """How one run is named in tables: `night_at_sea  trio  seed 3  jitter_factor=0`."""
    others = [f"{axis.removeprefix('client.')}={value}" for axis, value in _others(scenario)]
    return "  ".join([scenario.name, scenario.backend, f"seed {scenario.seed}", *others])


def folder_of(scenario: Scenario) -> str:
    """How the folder of one run's journal is named: one folder, whose name every file system takes."""
    others = [f"{axis.removeprefix('client.')}-{value}" for axis, value in _others(scenario)]
    name = "-".join([scenario.name, scenario.backend, str(scenario.seed), *others]).replace("/", "%2F")
    whole = name.encode()
    if len(whole) <= _LONGEST_FOLDER_BYTES:
        return name
    return f"{whole[:_CUT_AT_BYTES].decode(errors='ignore')}-{sha256(whole).hexdigest()[:16]}"


def _others(scenario: Scenario) -> list[tuple[str, Any]]:
    return [(axis, value) for axis, value in scenario.variant.items() if axis not in ("seed", "backend")]


def _variant(scenario: Scenario, chosen: dict[str, Any]) -> Scenario:
    settings = dict(scenario.settings)
    settings |= {axis.removeprefix("client."): value for axis, value in chosen.items() if axis.startswith("client.")}
    try:
        Config.from_mapping(settings)
    except ConfigInvalid as invalid:
        shown = ", ".join(f"{axis}={value}" for axis, value in chosen.items())
        problems = [Problem(f"{scenario.name}: matrix ({shown}): {key}", what) for key, what in invalid.problems]
        raise ConfigInvalid(problems) from None
    return replace(
        scenario,
        settings=settings,
        seed=chosen.get("seed", scenario.seed),
        backend=chosen.get("backend", scenario.backend),
        matrix={},
        variant=chosen,
    )
