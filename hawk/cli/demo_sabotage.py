"""A dialer that lies once, so that `hawk demo` can show that its verdict is real.

It stands between hawk and the wire, where a broken client or a broken broker would be: hawk itself is not touched, and
the checkers do not know of it. It acts on the fifth PUBLISH to one topic, which is long before the broker dies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from hawk.connecting import Endpoint
from hawk.packets import AckKind, Acknowledgement, Arrivals, Connack, ConnectRequest, Outgoing, Publish
from hawk.ports import Dialer, Link

ACTS_ON = 5
"""Which PUBLISH to the topic is tampered with, counted from 1."""


class Sabotage(Enum):
    """What is done to one PUBLISH: swallowed and acknowledged all the same, written after the next one, or written twice."""

    LOSE = "lose"
    REORDER = "reorder"
    REPEAT = "repeat"


class Saboteur:
    """What one sabotage has done so far, over all the links of one hawk.

    `topic` must be one of QoS 1 for LOSE and REORDER. For REPEAT it is one of QoS 2: at QoS 1 a repeat may be innocent.
    """

    def __init__(self, sabotage: Sabotage, *, topic: str) -> None:
        self._sabotage = sabotage
        self._topic = topic
        self._seen = 0
        self._held: Publish | None = None
        self._forged: list[Acknowledgement] = []

    def tamper(self, packets: Sequence[Outgoing]) -> list[Outgoing]:
        """What goes onto the wire instead of `packets`."""
        return [written for packet in packets for written in self._instead_of(packet)]

    def forge(self, arrivals: Arrivals) -> Arrivals:
        """What hawk is told instead of `arrivals`."""
        arrivals.acknowledgements += self._forged
        self._forged.clear()
        return arrivals

    def _instead_of(self, packet: Outgoing) -> tuple[Outgoing, ...]:
        if type(packet) is not Publish or packet.message.topic != self._topic:
            return (packet,)
        self._seen += 1
        if self._held is not None:
            held, self._held = self._held, None
            return (packet, held)
        if self._seen != ACTS_ON:
            return (packet,)
        match self._sabotage:
            case Sabotage.LOSE:
                self._forged.append(Acknowledgement(AckKind.PUBACK, packet.identifier))
                return ()
            case Sabotage.REORDER:
                self._held = packet
                return ()
            case Sabotage.REPEAT:
                # As a message of its own, and at QoS 0, because nobody would be there to hear an acknowledgement.
                return (packet, Publish(packet.message._replace(qos=0)))
            case _:
                assert_never(self._sabotage)


@dataclass(frozen=True, slots=True)
class SabotagedDialer:
    """A `ports.Dialer` whose links pass through the saboteur."""

    dialer: Dialer
    saboteur: Saboteur

    async def dial(self, request: ConnectRequest) -> "SabotagedLink":
        """As the dialer inside."""
        return SabotagedLink(await self.dialer.dial(request), self.saboteur)

    async def reach(self, endpoint: Endpoint) -> None:
        """As the dialer inside."""
        await self.dialer.reach(endpoint)


@dataclass(frozen=True, slots=True)
class SabotagedLink:
    """A `ports.Link` that writes what the saboteur makes of it, and hears what he adds."""

    link: Link
    saboteur: Saboteur

    @property
    def connack(self) -> Connack:
        """As the link inside."""
        return self.link.connack

    @property
    def written_bytes(self) -> int:
        """As the link inside."""
        return self.link.written_bytes

    async def send(self, packets: Sequence[Outgoing]) -> None:
        """As the link inside, with other packets."""
        await self.link.send(self.saboteur.tamper(packets))

    async def receive(self) -> Arrivals:
        """As the link inside, with more acknowledgements. A forged one waits for the next real arrival."""
        return self.saboteur.forge(await self.link.receive())

    async def aclose(self) -> None:
        """As the link inside."""
        await self.link.aclose()
