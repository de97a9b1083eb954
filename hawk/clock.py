"""The calendar's clock of the machine. Durations never come from here: they are differences of `anyio.current_time()`."""

from datetime import UTC, datetime


class SystemWallClock:
    """The `WallClock` that people read."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return datetime.now(UTC).timestamp()
