"""The counters of the connection: pure steps from one `ConnectionReport` to the next, each of a higher revision.

They count what `core/connection.py` decides; the Connector calls them beside its effects and reports what comes out.
"""

from hawk.messages import ConnectionReport
from hawk.values import ConnectionState


def moved(report: ConnectionReport, state: ConnectionState) -> ConnectionReport:
    """The public state is now `state`."""
    return report._replace(revision=report.revision + 1, state=state)


def started_afresh(report: ConnectionReport) -> ConnectionReport:
    """`connect()` was called at DISCONNECTED or FAILED: the budget of dials is whole again."""
    return report._replace(revision=report.revision + 1, consecutive_failures=0)


def dial_begun(report: ConnectionReport, wall_time: float) -> ConnectionReport:
    """A dial begins; `wall_time` in seconds since the epoch."""
    return report._replace(revision=report.revision + 1, last_connection_attempt=wall_time)


def dial_failed(report: ConnectionReport) -> ConnectionReport:
    """A dial ended without CONNECTED, and nobody had cancelled it."""
    return report._replace(revision=report.revision + 1, consecutive_failures=report.consecutive_failures + 1)


def link_adopted(report: ConnectionReport) -> ConnectionReport:
    """The broker accepted, and hawk took the link."""
    return report._replace(
        revision=report.revision + 1,
        total_connections=report.total_connections + 1,
        # Each one after the first, also after a disconnect() and a connect().
        total_reconnections=report.total_connections,
        consecutive_failures=0,
    )


def link_ended(report: ConnectionReport) -> ConnectionReport:
    """An adopted link ended, for whatever reason."""
    return report._replace(revision=report.revision + 1, total_disconnections=report.total_disconnections + 1)
