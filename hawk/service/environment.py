"""The settings in environment variables: `HAWK_` and a setting's name, `HAWK_MAX_RETRIES`."""

from collections.abc import Mapping
from pathlib import Path

from hawk.service.located import Entry, Layer, legible
from hawk.service.schema import SETTINGS, read_text

PREFIX = "HAWK_"


def read_environment(environ: Mapping[str, str]) -> Layer:
    """Every variable that begins with `HAWK_`, known or not. Relative paths start from the working directory."""
    names = sorted(name for name in environ if name.startswith(PREFIX))
    return Layer([_entry(name, environ[name]) for name in names], Path(), prefix=PREFIX)


def _entry(variable: str, text: str) -> Entry:
    name = variable.removeprefix(PREFIX).lower()
    # Only the spelling in capitals is a name: HAWK_Port is not read as HAWK_PORT.
    is_setting = name in SETTINGS and variable == f"{PREFIX}{name.upper()}"
    shown = legible(variable)
    return Entry(
        name=name if is_setting else variable,
        value=read_text(name, text) if is_setting else text,
        at=shown,
        name_at=shown,
        origin=f"environment {variable}",
    )
