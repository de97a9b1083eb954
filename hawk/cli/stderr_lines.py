"""What a command says on stderr: hawk's log as one-liners for people, and the one line that tells why it failed."""

import logging
import os
import sys
from typing import Any

_YELLOW, _RED, _PLAIN = "\x1b[33m", "\x1b[31m", "\x1b[0m"
_TOLD_BY_THE_COMMAND = "connection failed"
_GOOD_NEWS = "reconnected"


def log_to_stderr(*, quiet: bool, debug: bool) -> None:
    """Let hawk's own log out: warnings and the news that follow them, everything with `debug`, nothing with `quiet`."""
    logger = logging.getLogger("hawk")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    if not quiet:
        logger.addHandler(_Stderr(debug=debug))


def complain(sentence: str) -> None:
    """Tell on stderr why the command ends as it does."""
    _write_line(f"hawk: {sentence}", _RED)


class _Stderr(logging.Handler):
    """One line for a record. The standard library's class has a stream and its errors; this has neither."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__()
        self._debug = debug

    def emit(self, record: logging.LogRecord) -> None:
        if self._debug:
            _write_line(f"{record.relativeCreated / 1000:9.3f} {record.name} {record.getMessage()}", "")
            return
        event = getattr(record, "event", record.getMessage())
        if event == _TOLD_BY_THE_COMMAND or (record.levelno < logging.WARNING and event != _GOOD_NEWS):
            return
        colour = {logging.WARNING: _YELLOW, logging.ERROR: _RED}.get(record.levelno, "")
        _write_line(f"hawk: {_sentence(event, getattr(record, 'hawk', {}))}", colour)


def _sentence(event: str, fields: dict[str, Any]) -> str:
    """The event, its cause, what to do about it, and the other fields in brackets."""
    rest = [f"{key} {value}" for key, value in fields.items() if key not in ("cause", "remedy")]
    cause = f": {fields['cause']}" if "cause" in fields else ""
    brackets = f" ({', '.join(rest)})" if rest else ""
    remedy = f"; {fields['remedy']}" if "remedy" in fields else ""
    return f"{event}{cause}{brackets}{remedy}"


def _write_line(line: str, colour: str) -> None:
    if sys.stderr is None:
        return
    if colour and not os.environ.get("NO_COLOR") and sys.stderr.isatty():
        line = f"{colour}{line}{_PLAIN}"
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        # Nobody reads what would have been said; the command itself goes on.
        return
