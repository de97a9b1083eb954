"""Writes settings out as a YAML file that reads back as the same settings: the template, and what is in force."""

from collections.abc import Mapping

from hawk.config import Config
from hawk.service.descriptions import DESCRIPTIONS
from hawk.service.files import SECTION
from hawk.service.password_file import MASK
from hawk.service.scalars import write
from hawk.service.schema import SETTINGS
from hawk.service.settings import settings_of

_HEADING = """\
# Settings of hawk: each with its default. Delete what you do not change; `hawk config check FILE` checks the rest.
# An environment variable wins over this file (HAWK_BROKER, HAWK_MAX_RETRIES, ...), a flag over both.
"""


def template() -> str:
    """A YAML file with every setting, its default and what it is for."""
    lines = [_HEADING + f"{SECTION}:"]
    for setting in SETTINGS.values():
        choices = f" One of {', '.join(setting.choices)}." if setting.choices else ""
        lines += [f"  # {DESCRIPTIONS[setting.name].text}{choices}", f"  {setting.name}: {write(setting.default)}", ""]
    return "\n".join(lines[:-1]) + "\n"


def settings_yaml(settings: Mapping[str, object], notes: Mapping[str, str] | None = None) -> str:
    """Flat settings as a YAML file; `notes` are comments by name, at the end of the line."""
    lines = [f"  {name}: {write(value)}" for name, value in settings.items()]
    if notes is not None:
        width = min(max(map(len, lines)), 60)
        lines = [f"{line:<{width}}  # {notes[name]}" for line, name in zip(lines, settings, strict=True)]
    return "\n".join([f"{SECTION}:", *lines]) + "\n"


def shown_settings(config: Config) -> dict[str, object]:
    """A configuration flat, by the names of files, with `***` in the place of what is secret."""
    settings = settings_of(config)
    # A command may hold what it is asked with.
    hidden = {name: MASK for name in ("password", "password_command") if settings[name] is not None}
    return settings | hidden
