"""`hawk broker`: the broker of hawk's own tests on a TCP port, for development. It keeps everything in memory."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from hawk.cli.connection_options import DEFAULT_OUTPUT, OutputOptions

if TYPE_CHECKING:
    from hawk.config import Config

_FAREWELL_S = 1.0


async def broker(
    *,
    host: Annotated[str | None, Parameter(name=["--host", "-h"])] = None,
    port: Annotated[int | None, Parameter(name=["--port", "-p"], validator=Number(gte=0, lte=65_535))] = None,
    config: Path | None = None,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> int:
    """Run an MQTT 5 broker in memory, for development and tests. Ctrl-C or SIGTERM stops it.

    It asks nobody for a password: what listens on another address than this machine's own is open to everybody.

    Parameters
    ----------
    host:
        The address to listen on. Default: the configuration's, else 127.0.0.1.
    port:
        The port to listen on; 0 takes a free one. Default: the configuration's, else 1883.
    config:
        A YAML or TOML file of settings: listen where its clients will look for their broker.
    """
    import signal

    import anyio

    from hawk.cli.exit_codes import ExitCode
    from hawk.cli.outcome import Outcome, conclude, outcome_of, say
    from hawk.cli.stderr_lines import log_to_stderr
    from hawk.errors import ConfigInvalid
    from hawk.testing.broker import Broker

    log_to_stderr(quiet=output.quiet, debug=output.debug)
    try:
        settings = None if config is None else _read(config)
    except ConfigInvalid as invalid:
        return conclude(outcome_of(invalid), output)
    if host is None:
        host = "127.0.0.1" if settings is None else settings.broker
    if port is None:
        port = 1883 if settings is None else settings.port
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with Broker(record=False) as served:
            try:
                bound = await served.listen(host=host, port=port)
            except (OSError, UnicodeError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                return conclude(Outcome(ExitCode.FAILED, f"cannot listen on {host}:{port}: {why}"), output)
            line = f"an MQTT 5 broker listens on {host}:{bound}; Ctrl-C stops it"
            say({"event": "listening", "host": host, "port": bound} if output.json else line)
            code = ExitCode.INTERRUPTED
            async for number in signals:
                code = ExitCode.INTERRUPTED if number is signal.SIGINT else ExitCode.OK
                break
            with anyio.move_on_after(_FAREWELL_S):
                await served.stop()
    return conclude(Outcome(code), output)


def _read(config: Path) -> "Config":
    from hawk.service.settings import load_settings

    return load_settings(config, environ=os.environ, flags={}).config
