"""How a command ended, told once: an exit code for the shell, a line on stderr for people, an object for `--json`."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from hawk.cli.connection_options import OutputOptions
from hawk.cli.exit_codes import ExitCode
from hawk.cli.standard_streams import STANDARD_OUTPUT
from hawk.cli.stderr_lines import complain
from hawk.errors import ConfigInvalid, GaveUp, HawkError, MessageInvalid, Refused


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a command. `why` is empty where there is nothing to explain; `reason_code` is MQTT 5's, of a refusal."""

    code: ExitCode
    why: str = ""
    reason_code: int | None = None


def outcome_of(error: HawkError | OSError) -> Outcome:
    """The end that an error means. Nobody reading any more is a good one: the reader had enough."""
    match error:
        case BrokenPipeError():
            return Outcome(ExitCode.OK)
        case GaveUp():
            code = ExitCode.UNREACHABLE if error.reason_code is None else ExitCode.REFUSED
            return Outcome(code, str(error), error.reason_code)
        case Refused():
            return Outcome(ExitCode.REFUSED, str(error), error.reason_code)
        case ConfigInvalid() | MessageInvalid():
            return Outcome(ExitCode.USAGE, str(error))
        case OSError():
            return Outcome(ExitCode.FAILED, error.strerror or str(error))
        case _:
            return Outcome(ExitCode.FAILED, str(error) or type(error).__name__)


def conclude(outcome: Outcome, output: OutputOptions, facts: Mapping[str, object] | None = None) -> ExitCode:
    """Tell it, and return its code. With `--json` the last line has the `facts`, and `reason` if it went wrong.

    Without facts an end that went well prints nothing.
    """
    if outcome.code is not ExitCode.OK and outcome.why:
        complain(outcome.why)
    if output.json:
        told: dict[str, object] = dict(facts or {})
        if outcome.code is not ExitCode.OK:
            told |= {"reason": outcome.why, "reason_code": outcome.reason_code}
        if told:
            say(told | {"exit_code": int(outcome.code)})
    return outcome.code


def say(told: Mapping[str, object] | str) -> None:
    """One line on standard output, of JSON or of words. If nobody reads it, nothing happens."""
    line = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
    try:
        os.write(STANDARD_OUTPUT, line.encode("utf-8", "replace") + b"\n")
    except OSError:
        # The exit code says how it ended, too.
        return
