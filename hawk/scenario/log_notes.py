"""hawk's log during a run, as events of its journal, from INFO on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from hawk.scenario.client import client_name
from hawk.scenario.journal import Logged
from hawk.scenario.recorder import Recorder, plain

_NOT_TOLD = "hawk"
"""A field with a number that counts the hawks of the process, and not those of the run."""


class _Notes(logging.Handler):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__(logging.INFO)
        self._recorder = recorder

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = getattr(record, "hawk", {})
        told = {name: plain(value) for name, value in fields.items() if name != _NOT_TOLD}
        event = getattr(record, "event", "")
        if event:
            self._recorder.note(Logged(self._recorder.now_s, client_name.get(), record.levelname, event, told))


@contextmanager
def noted_log(recorder: Recorder) -> Iterator[None]:
    """Note what hawk logs for the length of a block. Nothing else sees it, unless somebody listens at "hawk" already."""
    logger, notes = logging.getLogger("hawk"), _Notes(recorder)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(notes)
    logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    # A thousand hawks on a bad night are no news to the terminal of whoever rehearses it.
    logger.propagate = False
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.removeHandler(notes)
