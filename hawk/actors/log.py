"""How actors log: `hawk/eventlog.py`, by the name that they know it by."""

from hawk.eventlog import log_event

__all__ = ["log_event"]
