"""`hawk broker`: the broker of hawk's own tests on a TCP port, for development. It keeps everything in memory."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from hawk.cli.connection_options import DEFAULT_OUTPUT, OutputOptions

_FAREWELL_S = 1.0


async def broker(
    *,
    host: Annotated[str, Parameter(name=["--host", "-h"])] = "127.0.0.1",
    port: Annotated[int, Parameter(name=["--port", "-p"], validator=Number(gte=0, lte=65_535))] = 1883,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> int:
    """Run an MQTT 5 broker in memory, for development and tests. Ctrl-C or SIGTERM stops it.

    It asks nobody for a password: what listens on another address than this machine's own is open to everybody.

    Parameters
    ----------
    host:
        The address to listen on.
    port:
        The port to listen on; 0 takes a free one.
    """
    import signal

    import anyio

    from hawk.cli.exit_codes import ExitCode
    from hawk.cli.outcome import Outcome, conclude, say
    from hawk.cli.stderr_lines import log_to_stderr
    from hawk.testing.broker import Broker

    log_to_stderr(quiet=output.quiet, debug=output.debug)
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
