"""Promise C5 watched from the logs: every change of connection state that any hawk of this process tells.

Attached for the length of a test, it judges afterwards. It reads log records, so it needs no hold on any hawk.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from hawk.messages import StateChanged
from hawk.testing.history import IllegalEdge, illegal_edges
from hawk.values import ConnectionState

STATE_EVENT = "connection state"


class StateWatch(logging.Handler):
    """Collects the changes of state from records whose event is "connection state", for each hawk apart."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.changes: dict[str, list[StateChanged]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's change, if it tells one. Raises KeyError or ValueError on a record that lacks a field."""
        if getattr(record, "event", None) == STATE_EVENT:
            fields = record.__dict__["hawk"]
            change = StateChanged(ConnectionState(fields["before"]), ConnectionState(fields["after"]))
            self.changes.setdefault(str(fields["hawk"]), []).append(change)

    def illegal(self) -> dict[str, list[IllegalEdge]]:
        """What breaks C5, by hawk; empty if nothing does. Every hawk begins DISCONNECTED."""
        judged = {
            name: illegal_edges(changes, start=ConnectionState.DISCONNECTED) for name, changes in self.changes.items()
        }
        return {name: found for name, found in judged.items() if found}


@contextmanager
def watched_states() -> Iterator[StateWatch]:
    """Watch for the length of a block. Logger "hawk" passes every level on meanwhile, and is as before afterwards."""
    logger, watch = logging.getLogger("hawk"), StateWatch()
    level = logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    try:
        yield watch
    finally:
        logger.setLevel(level)
        logger.removeHandler(watch)
