"""`hawk pub`: publish one message, a file, or every line of standard input, and wait until the broker has it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from hawk.cli.connection_options import (
    DEFAULT_CONNECTION,
    DEFAULT_OUTPUT,
    DEFAULT_SECURITY,
    ConnectionOptions,
    OutputOptions,
    SecurityOptions,
    UsageError,
    config_of,
    split_url,
)

if TYPE_CHECKING:
    from hawk.cli.outcome import Outcome
    from hawk.interface import MQTTInterface


async def pub(
    *,
    topic: Annotated[str | None, Parameter(name=["--topic", "-t"])] = None,
    message: Annotated[str | None, Parameter(name=["--message", "-m"], allow_leading_hyphen=True)] = None,
    file: Annotated[Path | None, Parameter(name=["--file", "-f"], allow_leading_hyphen=True)] = None,
    stdin_line: Annotated[bool, Parameter(name=["--stdin-line", "-l"], negative="", show_default=False)] = False,
    null_message: Annotated[bool, Parameter(name=["--null-message", "-n"], negative="", show_default=False)] = False,
    qos: Annotated[Literal[0, 1, 2] | None, Parameter(name=["--qos", "-q"])] = None,
    retain: Annotated[bool, Parameter(name=["--retain", "-r"], negative="", show_default=False)] = False,
    properties: Annotated[list[str] | None, Parameter(name=["--property", "-D"], consume_multiple=True)] = None,
    outbox: Annotated[Path | None, Parameter(name="--outbox")] = None,
    connection: ConnectionOptions = DEFAULT_CONNECTION,
    security: SecurityOptions = DEFAULT_SECURITY,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> int:
    """Publish messages and wait until the broker has acknowledged them.

    Parameters
    ----------
    topic:
        The topic to publish to. It may stand behind the broker in -L instead.
    message:
        The payload.
    file:
        Publish the file's bytes as one message; - is standard input.
    stdin_line:
        Publish every line of standard input, never faster than the broker takes them; blank lines are not sent.
    null_message:
        Publish an empty payload.
    qos:
        0, 1 or 2. Default: the configuration's, else 1.
    retain:
        Ask the broker to keep the message for later subscribers.
    properties:
        An MQTT 5 property: -D publish content-type text/plain, or -D publish user-property name value. Also
        message-expiry-interval, payload-format-indicator, response-topic and correlation-data. May be given often.
    outbox:
        A file that keeps what is not delivered for the next command with the same file, which delivers it first.
    """
    from hawk.cli.exit_codes import ExitCode
    from hawk.cli.outcome import Outcome, conclude, outcome_of
    from hawk.cli.property_options import properties_of
    from hawk.cli.publication import Publication
    from hawk.cli.session import patience_of, run_session
    from hawk.cli.stderr_lines import log_to_stderr
    from hawk.core.properties import with_properties
    from hawk.core.topics import validate_topic
    from hawk.errors import ConfigInvalid, MessageInvalid
    from hawk.values import Message

    log_to_stderr(quiet=output.quiet, debug=output.debug)
    try:
        where = validate_topic(_topic_of(topic, connection.url))
        payload = _payload_of(message, file, stdin_line=stdin_line, null_message=null_message)
        carried = properties_of(properties or ())
        # Whether a payload is text shows when it is there.
        with_properties(Message(where, payload or b""), carried if payload else carried._replace(text=False))
        config = config_of(connection, qos=qos, outbox=outbox, security=security)
    except UsageError as error:
        return conclude(Outcome(ExitCode.USAGE, str(error)), output)
    except (ConfigInvalid, MessageInvalid) as error:
        return conclude(outcome_of(error), output)
    messages = 0 if stdin_line else 1
    publication = Publication(where, config.qos, retain=retain, properties=carried, messages=messages)
    patience = patience_of(connection.wait_s, retry=connection.retry, in_all=not stdin_line)

    async def work(mqtt: "MQTTInterface") -> "Outcome":
        if stdin_line:
            await publication.publish_lines(mqtt)
        else:
            await publication.publish_one(mqtt, payload)
        return await publication.wait_for_acknowledgements()

    ended = await run_session(config, patience, work, finish=publication.stop_reading)
    verdict = publication.verdict(ended.outcome)
    if outbox is not None and verdict.why and (kept := ended.stats["queue_size"]):
        verdict = replace(verdict, why=f"{verdict.why}; {kept} kept in {outbox}")
    return conclude(verdict, output, publication.facts())


def _topic_of(topic: str | None, url: str | None) -> str:
    in_url = None if url is None else split_url(url)[1]
    if topic is not None and in_url is not None:
        raise UsageError("-t and a topic in -L: give one of the two")
    chosen = topic if in_url is None else in_url
    if chosen is None:
        raise UsageError("where to? Give -t TOPIC, or a topic behind the broker in -L")
    return chosen


def _payload_of(message: str | None, file: Path | None, *, stdin_line: bool, null_message: bool) -> bytes | None:
    """The payload; None if it comes from standard input. Raises `UsageError`."""
    if (message is not None) + (file is not None) + stdin_line + null_message != 1:
        raise UsageError("what? Give one of -m MESSAGE, -f FILE, -l (lines of standard input) and -n (empty)")
    if message is not None:
        # The bytes that were typed, whatever they are.
        return os.fsencode(message)
    if file is None:
        return b"" if null_message else None
    if file == Path("-"):
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"-f {file}: {error.strerror}") from error
