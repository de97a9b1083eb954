"""How much of a message's time has passed, also over a restart of the process or the machine.

Within a process hawk's own clock says it. Over a restart the time since boot does, as long as the machine was not booted
anew; else the calendar, with mistrust: a clock that lies before the stored time, or before any hawk was made, is not set,
and counts nothing as elapsed. So a message may live too long and never too short.
"""

import math
from typing import NamedTuple

from hawk.values import Message

EARLIEST_CALENDAR = 1_735_689_600.0
"""2025-01-01, in seconds since the epoch. A machine without a battery boots in 1970."""


class Clocks(NamedTuple):
    """One moment by the clocks that outlive a process. `boot_id` names what `since_boot_s` counts from; "" for unknown."""

    calendar: float
    boot_id: str
    since_boot_s: float


def elapsed_s(then: Clocks, now: Clocks) -> float:
    """How many seconds passed between two moments, never too many and never less than 0."""
    if then.boot_id and then.boot_id == now.boot_id:
        return max(0.0, now.since_boot_s - then.since_boot_s)
    if min(then.calendar, now.calendar) < EARLIEST_CALENDAR:
        return 0.0
    return max(0.0, now.calendar - then.calendar)


def remaining_s(stored_s: float, then: Clocks, now: Clocks) -> float:
    """What is left now of a time of which `stored_s` was left then; 0 or less when it is over."""
    return stored_s - elapsed_s(then, now)


def expires_at(message: Message, now: float) -> float:
    """When a message that is accepted now expires; inf for never."""
    expiry_s = message.properties.expiry_s
    return math.inf if expiry_s is None else now + expiry_s


def with_remaining(message: Message, remaining_s: float) -> Message:
    """The message as it goes on the wire: its expiry is what is left of it, in whole seconds, and at least one.

    MQTT counts whole seconds (section 3.3.2.3.3), and some brokers take 0 for never.
    """
    # Rounded, so that the last bit of a sum of floats does not cost a second.
    whole_s = float(max(1, math.ceil(round(remaining_s, 3))))
    return message._replace(properties=message.properties._replace(expiry_s=whole_s))
