"""How a broker behaves at present: its announced limits, and the faults that a test has switched on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio

from hawk.testing.broker.topics import filter_matches


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker announces in CONNACK, and then enforces."""

    receive_maximum: int
    maximum_packet_size: int | None
    maximum_qos: int
    retain_available: bool
    topic_alias_maximum: int
    server_keep_alive_s: int | None
    users: Mapping[str, str] | None


FAULTS = ("down", "refusal", "disconnect", "no_ack", "no_pingresp", "paused", "session_lost")
"""The keys of `Broker.bites`."""

OnTaken = Callable[[str, str, bytes], None]
"""Is called with the client identifier, topic and payload of a message that the broker has taken."""


@dataclass(slots=True)
class Behaviour:
    """The faults, shared by all connections of one broker. `paused` is an event to wait for, or None.

    `bites` counts how often each touched something. `on_taken` is called for each message that goes to subscribers.
    """

    refusal: int | None = None
    acknowledges: bool = True
    answers_pings: bool = True
    answers: dict[str | None, int] = field(default_factory=dict)
    paused: anyio.Event | None = None
    bites: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    on_taken: OnTaken | None = None

    def answer_for(self, topic: str) -> int:
        """The reason code for a PUBLISH to `topic`; the rule made last for a matching filter counts."""
        for pattern, reason_code in reversed(self.answers.items()):
            if pattern is None or filter_matches(pattern, topic):
                return reason_code
        return 0

    async def while_paused(self) -> None:
        """Wait until the broker is not paused; at once if it is not."""
        while self.paused is not None:
            self.bites["paused"] += 1
            await self.paused.wait()
