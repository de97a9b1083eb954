"""The options that `pub` and `sub` share: which broker, as whom, for how long, and how much is said. No I/O but files.

`config_of` turns them into a `Config`, through the one loader of files, environment and flags.
"""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote, unquote

from cyclopts import Group, Parameter

from hawk.connecting import DEFAULT_PORTS, Transport

if TYPE_CHECKING:
    from hawk.config import Config

logger = logging.getLogger("hawk.cli")

CONNECTION = Group("Connection", sort_key=2)
TLS = Group("TLS", sort_key=2.1)
WILL = Group("Will", sort_key=2.2)
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
    """Broker and topic at once: mqtt://[user[:password]@]host[:port]/topic, mqtts:// for TLS, mqtt+unix:///path/to/socket."""

    unix: Annotated[Path | None, Parameter(name="--unix", group=CONNECTION)] = None
    """The broker's Unix socket, instead of host and port."""

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


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SecurityOptions:
    """TLS and the will. Any option of TLS turns TLS on; the port is 8883 then, if none is given."""

    cafile: Annotated[Path | None, Parameter(name="--cafile", group=TLS)] = None
    """The authorities that may vouch for the broker (PEM). Default: the system's, with mqtts://."""

    cert: Annotated[Path | None, Parameter(name="--cert", group=TLS)] = None
    """A certificate of your own (PEM), if the broker asks for one."""

    key: Annotated[Path | None, Parameter(name="--key", group=TLS)] = None
    """Its key (PEM), if it is not in the same file."""

    tls_alpn: Annotated[str | None, Parameter(name="--tls-alpn", group=TLS)] = None
    """The protocol to ask for in the TLS handshake."""

    insecure: Annotated[bool, Parameter(name="--insecure", negative="", show_default=False, group=TLS)] = False
    """Verify nothing: anybody may pose as the broker."""

    will_topic: Annotated[str | None, Parameter(name="--will-topic", group=WILL)] = None
    """Where the broker publishes a message for this command when it is lost without a goodbye."""

    will_payload: Annotated[str | None, Parameter(name="--will-payload", group=WILL, allow_leading_hyphen=True)] = None
    """That message. Default: an empty one."""

    will_qos: Annotated[int | None, Parameter(name="--will-qos", group=WILL)] = None
    """Its quality of service. Default: 0."""

    will_retain: Annotated[bool, Parameter(name="--will-retain", negative="", show_default=False, group=WILL)] = False
    """Have the broker keep it as a retained message."""

    def flags(self) -> dict[str, object]:
        """The settings that these options name; None where they say nothing."""
        tls = bool(self.cafile or self.cert or self.tls_alpn or self.insecure)
        return {
            "tls": tls or None,
            "tls_ca_file": self.cafile,
            "tls_certificate_file": self.cert,
            "tls_key_file": self.key,
            "tls_alpn": self.tls_alpn,
            "tls_insecure": self.insecure or None,
            "will_topic": self.will_topic,
            "will_payload": self.will_payload,
            "will_qos": self.will_qos,
            "will_retain": self.will_retain or None,
        }


DEFAULT_SECURITY = SecurityOptions()
DEFAULT_OUTPUT = OutputOptions()
DEFAULT_CONNECTION = ConnectionOptions()


class UsageError(Exception):
    """The options contradict one another, or something that they need is missing."""


def split_url(url: str) -> tuple[str, str | None]:
    """What `-L` names: the broker's own URL, and the topic behind it, if there is one."""
    scheme, separator, rest = url.partition("://")
    if scheme == "mqtt+unix":
        return url, None
    authority, _, topic = rest.partition("/")
    return f"{scheme}{separator}{authority}", unquote(topic) or None


def config_of(
    options: ConnectionOptions,
    *,
    qos: int | None,
    outbox: Path | None = None,
    security: SecurityOptions = DEFAULT_SECURITY,
) -> "Config":
    """The configuration of one command, of file, environment and flags; what they warn of is logged.

    A command waits for room instead of dropping, and takes a refused password for final, whatever the file says. The
    outbox that a file names is its service's, and none of a command.
    Raises `ConfigInvalid` with every problem at once, and `UsageError`.
    """
    from hawk.service.settings import load_settings

    if options.unix is not None and (options.host or options.port or options.url):
        raise UsageError("--unix stands for the broker's address: leave out --host, --port and --url")
    of_security = security.flags()
    url = None if options.url is None else split_url(options.url)[0]
    if url is not None and not url.startswith("mqtt://"):
        of_security.pop("tls")
    elif url is not None and of_security["tls"]:
        raise UsageError("a URL of TLS begins with mqtts://")
    port = options.port
    if port is None and of_security.get("tls"):
        port = DEFAULT_PORTS[Transport.TLS]
    flags = of_security | {
        "broker": options.host,
        "port": port,
        "url": url,
        "endpoints": None if options.unix is None else f"mqtt+unix://{quote(str(options.unix.absolute()))}",
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
