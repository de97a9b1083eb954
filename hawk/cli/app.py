"""The frame: which commands there are, and how what they raise becomes an exit code. Commands are imported when run."""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Group

from hawk import __version__
from hawk.cli.exit_codes import EPILOGUE, ExitCode
from hawk.cli.stderr_lines import complain

_COMMANDS = (
    ("demo", "hawk.cli.demo:demo", "Watch an outage: the broker dies, comes back, and nothing is lost."),
    (
        "pub",
        "hawk.cli.publish:pub",
        """Publish messages and wait until the broker has acknowledged them.

        SIGTERM ends the reading of standard input; what was read is delivered within the configuration's drain_s.
        """,
    ),
    (
        "sub",
        "hawk.cli.subscribe:sub",
        """Subscribe, and print each payload with a newline.

        A message is acknowledged once it is printed. An empty payload prints nothing; with -v, the topic and (null).
        A message that several filters match is printed for each of them.
        """,
    ),
    (
        "broker",
        "hawk.cli.broker:broker",
        """Run an MQTT 5 broker in memory, for development and tests.

        It asks nobody for a password: on an address that others can reach, it is open to everybody.
        """,
    ),
    (
        "proxy",
        "hawk.cli.proxy:proxy",
        """Carry TCP connections to a broker through bad weather: slow, torn, silent, refused or broken.

        Without --script each line of standard input is a spell, at once or at its time: latency 400ms,
        at 20s blackhole up for 15s, reset, refuse for 10s, latency off, heal.
        """,
    ),
)


def make_app() -> App:
    """The application with every command registered and none imported."""
    app = App(
        name="hawk",
        help="The MQTT client that never loses a message.",
        help_epilogue=EPILOGUE,
        help_flags=["--help"],
        version=__version__,
        version_flags=["--version"],
        help_format="plaintext",
        backend="trio",
        result_action="return_int_as_exit_code_else_zero",
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        group_commands=Group("Commands", sort_key=0),
        group_parameters=Group("Options", sort_key=1),
    )
    for name, where, what in _COMMANDS:
        app.command(where, name=name, help=what, help_epilogue=EPILOGUE)
    app.command("hawk.cli.config:config_app", name="config", help="Check, show and write configuration files.")
    app.command("hawk.cli.outbox:outbox_app", name="outbox", help="Look into an outbox file, and tidy it up.")
    app.command("hawk.cli.scenario:scenario_app", name="scenario", help="Rehearse scripted outages, and judge them.")
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `arguments` default to those of the process.

    Raises `KeyboardInterrupt` where the command does not handle it itself.
    """
    try:
        code = int(make_app()(None if arguments is None else list(arguments)))
        if sys.stdout is not None:
            sys.stdout.flush()
    except CycloptsError:
        # It has printed itself.
        return ExitCode.USAGE
    except SystemExit as ending:
        # What rich makes of a closed pipe.
        if not isinstance(ending.__context__, BrokenPipeError):
            raise
        return ExitCode.OK
    except OSError as error:
        _leave(error)
        return ExitCode.OK if isinstance(error, BrokenPipeError) else ExitCode.FAILED
    return code


def _leave(error: OSError) -> None:
    """Standard output takes no more: what it still holds goes nowhere, instead of up as an error at the very end."""
    if not isinstance(error, BrokenPipeError):
        complain(error.strerror or str(error))
    if sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
