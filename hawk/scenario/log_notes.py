"""hawk's log during a run, as events of its journal, from INFO on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from hawk.scenario.client import client_name
from hawk.scenario.journal import Logged
from hawk.scenario.recorder import Recorder, plain

_NOT_TOLD = "hawk"
"""A field with a number that counts the hawks of the process, and not those of the run."""
_run_here: ContextVar[Recorder | None] = ContextVar("run_here", default=None)
"""The run in whose tasks this is: of several runs in one event loop, each notes its own."""


class _Notes(logging.Handler):
    before = logging.NOTSET, True
    """How the logger was before the first run that goes on."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(logging.INFO)
        self._recorder = recorder

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", "")
        if event and _run_here.get() is self._recorder:
            fields: dict[str, object] = getattr(record, "hawk", {})
            told = {name: plain(value) for name, value in fields.items() if name != _NOT_TOLD}
            self._recorder.note(Logged(self._recorder.now_s, client_name.get(), record.levelname, event, told))


@contextmanager
def noted_log(recorder: Recorder) -> Iterator[None]:
    """Note what hawk logs in this task and those that it starts, for the length of a block.

    Nothing else sees it, unless somebody listens at "hawk" already.
    """
    logger, notes = logging.getLogger("hawk"), _Notes(recorder)
    here = _run_here.set(recorder)
    if not _has_notes(logger):
        _Notes.before = logger.level, logger.propagate
    logger.addHandler(notes)
    logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    # A thousand hawks on a bad night are no news to the terminal of whoever rehearses it.
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(notes)
        _run_here.reset(here)
        if not _has_notes(logger):
            level, logger.propagate = _Notes.before
            logger.setLevel(level)


def _has_notes(logger: logging.Logger) -> bool:
    return any(isinstance(each, _Notes) for each in logger.handlers)
