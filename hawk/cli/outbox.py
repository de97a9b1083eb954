"""`hawk outbox`: looks into an outbox file, also while hawk runs on it, and changes one while it does not.

Exit code 0; 1 if a check finds damage, a number is not there or another process has the file; 2 for a wrong command.
"""

import base64
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from hawk.cli.connection_options import DEFAULT_OUTPUT, OutputOptions
from hawk.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from hawk.stores.inspection import Damaged, Dead, Findings, Inspection
    from hawk.stores.machine import Machine
    from hawk.stores.pages import Found
    from hawk.stores.upkeep import Upkeep

outbox_app = App(name="outbox", help="Look into an outbox file, and tidy it up.")

DeadFlag = Annotated[bool, Parameter(name="--dead", negative="", show_default=False)]
DamagedFlag = Annotated[bool, Parameter(name="--damaged", negative="", show_default=False)]
WaitingFlag = Annotated[bool, Parameter(name="--waiting", negative="", show_default=False)]
MessageNumber = Annotated[int, Parameter(validator=Number(gte=1, lt=1 << 63))]
AllFlag = Annotated[bool, Parameter(name="--all", negative="", show_default=False)]


@outbox_app.command
def ls(
    file: Path,
    /,
    *,
    dead: DeadFlag = False,
    damaged: DamagedFlag = False,
    limit: Annotated[int | None, Parameter(name=["--limit", "-n"], validator=Number(gte=0))] = None,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> int:
    """List what is in an outbox, oldest first, without payloads. Also while hawk runs.

    Parameters
    ----------
    file
        The outbox file.
    dead
        List the dead letters instead of what waits.
    damaged
        List the damaged rows that were set aside.
    limit
        List so many at most.
    """

    def read(inspection: "Inspection") -> ExitCode:
        rows: Iterable[dict[str, object]]
        if damaged:
            rows = map(_damaged_facts, inspection.damaged())
        elif dead:
            rows = map(_dead_facts, inspection.dead())
        else:
            rows = map(_facts, inspection.waiting())
        for row in islice(rows, limit):
            _say(row, output)
        tally, identity = inspection.sums()
        if not output.json and not (dead or damaged):
            who = "" if identity is None else f", of {identity.client_identifier}"
            _write(f"{tally.messages} messages, {tally.size_bytes} bytes, {tally.dead} dead letters{who}\n")
        return ExitCode.OK

    return _look(file, read, output)


@outbox_app.command
def show(file: Path, number: MessageNumber, /, *, output: OutputOptions = DEFAULT_OUTPUT) -> int:
    """Show one message or dead letter with its payload. Also while hawk runs.

    Parameters
    ----------
    file
        The outbox file.
    number
        The number that `hawk outbox ls` gives it.
    """
    from hawk.errors import StoreFailed
    from hawk.stores.inspection import Dead

    def read(inspection: "Inspection") -> ExitCode:
        found = inspection.find(number)
        if found is None:
            raise StoreFailed(f"{file}: there is no message {number}")
        facts = _dead_facts(found) if isinstance(found, Dead) else _facts(found)
        payload = found.record.message.payload if found.record is not None else b""
        if output.json:
            _say(facts | _payload_facts(found), output)
            return ExitCode.OK
        for name, value in facts.items():
            _write(f"{name}: {value}\n")
        _write("\n")
        _write_bytes(payload + b"\n")
        return ExitCode.OK

    return _look(file, read, output)


@outbox_app.command
def export(file: Path, /, *, dead: DeadFlag = False, output: OutputOptions = DEFAULT_OUTPUT) -> int:
    """Print every message with its payload in base64, one JSON object a line. Also while hawk runs.

    Parameters
    ----------
    file
        The outbox file.
    dead
        Print the dead letters instead of what waits.
    """
    as_json = OutputOptions(json=True, quiet=output.quiet, debug=output.debug)

    def read(inspection: "Inspection") -> ExitCode:
        if dead:
            for letter in inspection.dead():
                _say(_dead_facts(letter) | _payload_facts(letter), as_json)
        else:
            for found in inspection.waiting():
                _say(_facts(found) | _payload_facts(found), as_json)
        return ExitCode.OK

    return _look(file, read, output)


@outbox_app.command
def check(file: Path, /, *, output: OutputOptions = DEFAULT_OUTPUT) -> int:
    """Look at every page and every checksum of an outbox. Also while hawk runs. Exit code 1 if something is damaged.

    Parameters
    ----------
    file
        The outbox file.
    """

    def read(inspection: "Inspection") -> ExitCode:
        findings = inspection.check()
        _tell_findings(findings, output)
        return ExitCode.FAILED if findings.problems else ExitCode.OK

    return _look(file, read, output)


@outbox_app.command
def replay(
    file: Path, /, *numbers: MessageNumber, every: AllFlag = False, output: OutputOptions = DEFAULT_OUTPUT
) -> int:
    """Put dead letters back behind what waits, with their whole time to live. Not while hawk runs.

    Parameters
    ----------
    file
        The outbox file.
    numbers
        The numbers of dead letters, as `hawk outbox ls --dead` gives them.
    every
        All of them.
    """
    if bool(numbers) == every:
        return _refuse("which? Give numbers of dead letters, or --all", output)

    def change(upkeep: "Upkeep") -> None:
        replayed = upkeep.replay(None if every else numbers)
        _done("replayed", replayed, output)

    return _tidy(file, change, output)


@outbox_app.command
def purge(
    file: Path,
    /,
    *numbers: MessageNumber,
    dead: DeadFlag = False,
    damaged: DamagedFlag = False,
    waiting: WaitingFlag = False,
    every: AllFlag = False,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> int:
    """Delete dead letters, what was set aside, or messages that nobody has received. Not while hawk runs.

    Parameters
    ----------
    file
        The outbox file.
    numbers
        The numbers, as `hawk outbox ls` gives them.
    dead
        Delete dead letters.
    damaged
        Delete damaged rows that were set aside, all of them.
    waiting
        Delete messages that wait or are under way: nobody will ever receive them.
    every
        All of them.
    """
    if dead + damaged + waiting != 1:
        return _refuse("what? Give one of --dead, --damaged and --waiting", output)
    if not damaged and bool(numbers) == every:
        return _refuse("which? Give numbers, or --all", output)
    if damaged and (numbers or not every):
        return _refuse("damaged rows go all at once: --damaged --all", output)

    def change(upkeep: "Upkeep") -> None:
        chosen = None if every else numbers
        if damaged:
            _done("purged", range(upkeep.purge_damaged()), output, named=False)
        else:
            _done("purged", upkeep.purge_dead(chosen) if dead else upkeep.purge_waiting(chosen), output)

    return _tidy(file, change, output)


@outbox_app.command
def vacuum(file: Path, /, *, output: OutputOptions = DEFAULT_OUTPUT) -> int:
    """Bring an outbox file up to date, and give back the room that deleted messages have left. Not while hawk runs.

    Parameters
    ----------
    file
        The outbox file.
    """

    def change(upkeep: "Upkeep") -> None:
        before = file.stat().st_size
        upkeep.vacuum()
        after = file.stat().st_size
        _say({"bytes_before": before, "bytes_after": after}, output, f"{before} bytes before, {after} now")

    return _tidy(file, change, output)


def _look(file: Path, read: Callable[["Inspection"], ExitCode], output: OutputOptions) -> int:
    from hawk.errors import StoreFailed
    from hawk.stores.inspection import inspect

    try:
        with inspect(file, _machine().clocks) as inspection:
            return read(inspection)
    except StoreFailed as failed:
        return _fail(str(failed), output)


def _tidy(file: Path, change: Callable[["Upkeep"], None], output: OutputOptions) -> int:
    from hawk.errors import OutboxInUse, StoreFailed
    from hawk.stores.upkeep import keep_up

    try:
        with keep_up(file, _machine()) as upkeep:
            change(upkeep)
    except (StoreFailed, OutboxInUse) as failed:
        return _fail(str(failed), output)
    return ExitCode.OK


def _machine() -> "Machine":
    from hawk.clock import SystemWallClock
    from hawk.stores.machine import Machine

    return Machine(SystemWallClock())


def _facts(found: "Found") -> dict[str, object]:
    record = found.record
    if record is None:
        return {"number": found.number, "damaged": True}
    message = record.message
    facts: dict[str, object] = {
        "number": found.number,
        "topic": message.topic,
        "qos": message.qos,
        "retain": message.retain,
        "payload_bytes": len(message.payload),
        "stage": record.stage.value,
        "identifier": record.identifier,
        "refusals": record.refusals,
    }
    if record.remaining_s is not None:
        facts["expires_in_s"] = round(record.remaining_s, 3)
    return facts


def _dead_facts(letter: "Dead") -> dict[str, object]:
    facts: dict[str, object] = {"number": letter.number}
    if letter.record is None or letter.death is None:
        facts["damaged"] = True
    if letter.record is not None:
        message = letter.record.message
        facts |= {"topic": message.topic, "qos": message.qos, "payload_bytes": len(message.payload)}
    if letter.death is not None:
        facts |= letter.death._asdict() | {"died_at": _date(letter.death.died_at)}
    return facts


def _damaged_facts(row: "Damaged") -> dict[str, object]:
    found_at = None if row.found_at is None else _date(row.found_at)
    return {"number": row.number, "found_at": found_at, "body_bytes": row.body_bytes}


def _date(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _payload_facts(found: "Found | Dead") -> dict[str, object]:
    if found.record is None:
        return {}
    message = found.record.message
    given = {name: value for name, value in message.properties._asdict().items() if value}
    if message.properties.correlation_data:
        given["correlation_data"] = message.properties.correlation_data.hex()
    return {"payload_base64": base64.b64encode(message.payload).decode()} | ({"properties": given} if given else {})


def _tell_findings(findings: "Findings", output: OutputOptions) -> None:
    facts = findings._asdict() | {"problems": list(findings.problems)}
    words = f"{findings.messages} messages, {findings.dead} dead letters, {findings.set_aside} rows set aside: "
    words += "sound" if not findings.problems else f"{len(findings.problems)} problems"
    _say(facts, output, "\n".join([*findings.problems, words]))


def _done(verb: str, numbers: Iterable[int], output: OutputOptions, *, named: bool = True) -> None:
    listed = list(numbers)
    facts: dict[str, object] = {verb: len(listed)}
    _say(facts | ({"numbers": listed} if named else {}), output, f"{verb} {len(listed)}")


def _say(facts: dict[str, object], output: OutputOptions, words: str | None = None) -> None:
    import json

    if output.json:
        _write(json.dumps(facts, ensure_ascii=False) + "\n")
    else:
        _write((words if words is not None else _line(facts)) + "\n")


def _line(facts: dict[str, object]) -> str:
    """The number and the topic first, then what is not as it usually is."""
    named = {
        name: value for name, value in facts.items() if name not in ("number", "topic") and value not in (0, False)
    }
    topic = f" {facts['topic']}" if "topic" in facts else ""
    return f"{facts['number']}{topic} " + " ".join(f"{name}={value}" for name, value in named.items())


def _fail(why: str, output: OutputOptions, code: ExitCode = ExitCode.FAILED) -> int:
    from hawk.cli.outcome import Outcome, conclude

    return conclude(Outcome(code, why), output)


def _refuse(why: str, output: OutputOptions) -> int:
    return _fail(why, output, ExitCode.USAGE)


def _write(text: str) -> None:
    if sys.stdout is not None:
        sys.stdout.write(text)


def _write_bytes(data: bytes) -> None:
    if sys.stdout is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
