"""Log records as events with fields: one name, then `key=value`, and the same fields in `record.hawk` for machines.

No payload and no credential is ever a field (promise C10).
"""

import logging
from enum import Enum

logging.getLogger("hawk").addHandler(logging.NullHandler())


def log_event(logger: logging.Logger, level: int, event: str, **fields: object) -> None:
    """Log `event`. Every handler sees one line; a structured one finds `record.event` and `record.hawk`."""
    if logger.isEnabledFor(level):
        words = "".join(f" {key}={_shown(value)}" for key, value in fields.items())
        logger.log(level, "%s%s", event, words, extra={"event": event, "hawk": fields}, stacklevel=2)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value.value if isinstance(value, Enum) else value)
    return repr(text) if " " in text or not text else text
