"""`hawk sub`: subscribe, and print what arrives as mosquitto_sub does, or as one JSON object a line."""

from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

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


async def sub(
    *,
    topics: Annotated[list[str] | None, Parameter(name=["--topic", "-t"], negative="")] = None,
    qos: Annotated[Literal[0, 1, 2] | None, Parameter(name=["--qos", "-q"])] = None,
    count: Annotated[int | None, Parameter(name=["--count", "-C"], validator=Number(gte=1))] = None,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative="", show_default=False)] = False,
    connection: ConnectionOptions = DEFAULT_CONNECTION,
    security: SecurityOptions = DEFAULT_SECURITY,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> int:
    """Subscribe, and print each payload with a newline.

    A message is acknowledged once it is printed. An empty payload prints nothing, with -v the topic and (null).

    Parameters
    ----------
    topics:
        The topic filter; give it again for more. It may stand behind the broker in -L instead.
    qos:
        The highest QoS to receive with: 0, 1 or 2. Default: the configuration's, else 1.
    count:
        End after this many messages, all acknowledged.
    verbose:
        Print the topic before the payload.
    """
    from hawk.cli.exit_codes import ExitCode
    from hawk.cli.outcome import Outcome, conclude, outcome_of
    from hawk.cli.reception import Reception, as_json, as_payload, as_topic_and_payload
    from hawk.cli.session import patience_of, run_session
    from hawk.cli.stderr_lines import log_to_stderr
    from hawk.core.topics import validate_filter
    from hawk.errors import ConfigInvalid, MessageInvalid

    log_to_stderr(quiet=output.quiet, debug=output.debug)
    try:
        filters = [validate_filter(each) for each in _filters_of(topics, connection.url)]
        config = config_of(connection, qos=qos, security=security)
    except UsageError as error:
        return conclude(Outcome(ExitCode.USAGE, str(error)), output)
    except (ConfigInvalid, MessageInvalid) as error:
        return conclude(outcome_of(error), output)
    shown = as_json if output.json else as_topic_and_payload if verbose else as_payload
    reception = Reception(filters, config.qos, count=count, shown=shown)
    patience = patience_of(connection.wait_s, retry=connection.retry, in_all=False)
    ended = await run_session(config, patience, reception.run)
    return conclude(ended.outcome, output)


def _filters_of(topics: list[str] | None, url: str | None) -> list[str]:
    in_url = None if url is None else split_url(url)[1]
    filters = [*(topics or ()), *(() if in_url is None else (in_url,))]
    if not filters:
        raise UsageError("which topics? Give -t FILTER, or one behind the broker in -L")
    return list(dict.fromkeys(filters))
