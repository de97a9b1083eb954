"""The options that `pub` and `sub` share: which broker, as whom, for how long, and how much is said. No I/O but files.

`config_of` turns them into a `Config`, through the one loader of files, environment and flags.
"""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from hawk.config import Config

logger = logging.getLogger("hawk.cli")

CONNECTION = Group("Connection", sort_key=2)
OUTPUT = Group("Output", sort_key=3)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """How much is said, and in which form."""

    json: Annotated[bool, Parameter(name="--json", negative="", show_default=False, group=OUTPUT)] = False
    """Print JSON: one object a line."""

    quiet: Annotated[bool, Parameter(name="--quiet", negative="", show_default=False, group=OUTPUT)] = False
    """Say nothing on stderr but why the command failed."""

    debug: Annotated[bool, Parameter(name=["--debug", "-d"], negative="", show_default=False, group=OUTPUT)] = False
    """Log everything that hawk does to stderr."""


def _is_positive(kind: object, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError("must be a number of seconds above 0")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ConnectionOptions:
    """Which broker, as whom, and for how long it may take. No `repr`: two of the options may hold a password."""

    host: Annotated[str | None, Parameter(name=["--host", "-h"], group=CONNECTION)] = None
    """The broker's name or address. Default: the configuration's, else localhost."""

    port: Annotated[int | None, Parameter(name=["--port", "-p"], group=CONNECTION)] = None
    """The broker's port. Default: the configuration's, else 1883."""

    url: Annotated[str | None, Parameter(name=["--url", "-L"], group=CONNECTION)] = None
    """Broker and topic at once: mqtt://[user[:password]@]host[:port]/topic."""

    client_id: Annotated[str | None, Parameter(name=["--id", "-i"], group=CONNECTION, allow_leading_hyphen=True)] = None
    """The client identifier. Default: a random one, whose session ends with the command."""

    username: Annotated[str | None, Parameter(name=["--username", "-u"], group=CONNECTION)] = None
    """The user name."""

    password: Annotated[str | None, Parameter(name=["--pw", "-P"], group=CONNECTION, allow_leading_hyphen=True)] = None
    """The password. Everybody on this machine can read it in the process list: prefer --password-file."""

    password_file: Annotated[Path | None, Parameter(name="--password-file", group=CONNECTION)] = None
    """A file that holds the password."""

    config: Annotated[Path | None, Parameter(name="--config", group=CONNECTION)] = None
    """A YAML or TOML file of settings. Flags win over HAWK_* variables, and those over the file."""

    wait_s: Annotated[float | None, Parameter(name=["--wait", "-W"], group=CONNECTION, validator=_is_positive)] = None
    """End after so many seconds: exit 3 if no broker was reached, else 5. Default: 30 to reach one; for one message, 30."""

    retry: Annotated[bool, Parameter(name="--retry", negative="", show_default=False, group=CONNECTION)] = False
    """Try for ever to reach the broker; only -W ends that. A broker that refuses the password still ends it."""


DEFAULT_OUTPUT = OutputOptions()
DEFAULT_CONNECTION = ConnectionOptions()


class UsageError(Exception):
    """The options contradict one another, or something that they need is missing."""


def split_url(url: str) -> tuple[str, str | None]:
    """What `-L` names: the broker's own URL, and the topic behind it, if there is one."""
    scheme, separator, rest = url.partition("://")
    authority, _, topic = rest.partition("/")
    return f"{scheme}{separator}{authority}", unquote(topic) or None


def config_of(options: ConnectionOptions, *, qos: int | None, outbox: Path | None = None) -> "Config":
    """The configuration of one command, of file, environment and flags; what they warn of is logged.

    A command waits for room instead of dropping, and takes a refused password for final, whatever the file says. The
    outbox that a file names is its service's, and none of a command.
    Raises `ConfigInvalid` with every problem at once, and `UsageError`.
    """
    from hawk.service.settings import load_settings

    flags = {
        "broker": options.host,
        "port": options.port,
        "url": None if options.url is None else split_url(options.url)[0],
        "client_id": options.client_id,
        "username": options.username,
        "password": options.password,
        "password_file": None if options.password_file is None else str(options.password_file),
        "qos": qos,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    loaded = load_settings(options.config, environ=os.environ, flags=given)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    config = loaded.config
    if not config.enabled:
        raise UsageError("MQTT is disabled in the configuration (enabled: false)")
    config = replace(config, overflow="wait", on_auth_failure="fail", outbox=None if outbox is None else str(outbox))
    if options.retry:
        config = replace(config, reconnection=replace(config.reconnection, max_retries=None))
    return config
