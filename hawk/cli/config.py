"""`hawk config`: checks a configuration file, shows what is in force and where it came from, and writes new files.

Exit code 0, or 2 with every problem on stderr, one a line: `hawk.yaml:7:16: max_retries: must be ...`.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from hawk.cli.documents import complain_of, document, problems_of, refuse, write
from hawk.cli.exit_codes import ExitCode
from hawk.errors import ConfigInvalid

config_app = App(name="config", help="Check, show and write configuration files.")


@config_app.command
def check(file: Path, /, *, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Tell everything that is wrong with a configuration file. The environment is left out of it.

    Parameters
    ----------
    file
        A YAML file, or a TOML file whose name ends in `.toml`.
    as_json
        Print one JSON object.
    """
    from hawk.service.settings import load_settings

    try:
        loaded = load_settings(file, environ={}, flags={})
    except ConfigInvalid as invalid:
        if as_json:
            write(document({"file": str(file), "problems": problems_of(invalid), "warnings": []}))
        return refuse(invalid)
    _warn(loaded.warnings)
    told = {"file": str(file), "problems": [], "warnings": loaded.warnings}
    write(document(told) if as_json else f"{file}: no problems\n")
    return ExitCode.OK


@config_app.command
def show(
    *,
    config: Annotated[Path | None, Parameter(name="--config")] = None,
    origin: Annotated[bool, Parameter(name="--origin", negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Print the settings in force, of the file, HAWK_* variables and defaults, as a YAML file. A password is ***.

    Parameters
    ----------
    config
        A YAML or TOML file of settings.
    origin
        Say of each setting where it came from.
    as_json
        Print one JSON object.
    """
    from hawk.service.settings import load_settings
    from hawk.service.writing import settings_yaml, shown_settings

    try:
        loaded = load_settings(config, environ=os.environ, flags={})
    except ConfigInvalid as invalid:
        return refuse(invalid)
    _warn(loaded.warnings)
    settings = shown_settings(loaded.config)
    if as_json:
        write(document({"mqtt": settings} | ({"origins": loaded.origins} if origin else {})))
    else:
        write(settings_yaml(settings, loaded.origins if origin else None))
    return ExitCode.OK


@config_app.command
def schema() -> int:
    """Print the JSON Schema of a configuration file, for editors."""
    from hawk.service.schema import json_schema

    write(document(json_schema()))
    return ExitCode.OK


@config_app.command
def new() -> int:
    """Print a commented YAML file with every setting and its default."""
    from hawk.service.writing import template

    write(template())
    return ExitCode.OK


def _warn(warnings: Iterable[str]) -> None:
    complain_of([f"warning: {warning}" for warning in warnings])
