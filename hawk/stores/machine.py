"""What an outbox file knows its machine by, and the clocks that go on while no hawk runs."""

import time
import uuid
from pathlib import Path

from hawk.core.expiry import Clocks
from hawk.ports import WallClock

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MACHINE_ID = Path("/etc/machine-id")


class Machine:
    """The machine that hawk runs on. Where it has no boot id of its own, each process counts as a boot."""

    def __init__(self, wall_clock: WallClock) -> None:
        self._wall_clock = wall_clock
        self._boot_id = _line_of(_BOOT_ID) or f"process-{uuid.uuid4()}"
        self.machine_id = _line_of(_MACHINE_ID)
        """Empty if unknown: in a container, for example."""

    def clocks(self) -> Clocks:
        """This moment."""
        return Clocks(self._wall_clock.now(), self._boot_id, _since_boot_s())


def _since_boot_s() -> float:
    """Seconds of a clock that a suspended machine does not stop. Linux has one of its own for that."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _line_of(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
