"""What a broker saw and said, packet by packet, and what that means in messages."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Direction = Literal["in", "out"]


class Record(NamedTuple):
    """One packet that a broker read ("in") or wrote ("out"), in order. `at` is on hawk's clock, in seconds.

    `packet` is MQTT's name, as "PUBLISH". What a packet has not is 0, False or empty; `connection` counts from 1.
    The reason code of an inbound PUBLISH is what the broker decided to answer.
    """

    at: float
    client_identifier: str
    connection: int
    direction: Direction
    packet: str
    packet_identifier: int = 0
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    duplicate: bool = False
    retain: bool = False
    reason_code: int = 0
    session_present: bool = False
    clean_start: bool = False
    filters: tuple[str, ...] = ()


class Arrival(NamedTuple):
    """A PUBLISH that reached the broker. `repeated`: it is the resending of one that had arrived already."""

    at: float
    client_identifier: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    reason_code: int
    repeated: bool


def arrivals_of(records: Iterable[Record]) -> list[Arrival]:
    """Every PUBLISH that came in, in order.

    One counts as repeated when it has DUP set, and the last PUBLISH with that identifier from the same client carried
    the same message: DUP alone says only that the client does not know whether an earlier one arrived.
    """
    last: dict[tuple[str, int], tuple[str, bytes]] = {}
    arrivals: list[Arrival] = []
    for record in records:
        if record.direction == "out" or record.packet != "PUBLISH":
            continue
        key, message = (record.client_identifier, record.packet_identifier), (record.topic, record.payload)
        repeated = record.duplicate and record.qos > 0 and last.get(key) == message
        if record.qos:
            last[key] = message
        arrivals.append(
            Arrival(
                record.at,
                record.client_identifier,
                record.topic,
                record.payload,
                record.qos,
                record.retain,
                record.reason_code,
                repeated,
            )
        )
    return arrivals


class Recorder:
    """Appends the packets of one connection to the broker's list of records. Set `at` before a batch."""

    __slots__ = ("_append", "_connection", "at", "client_identifier")

    def __init__(self, records: list[Record], connection: int) -> None:
        self._append = records.append
        self._connection = connection
        self.client_identifier = ""
        self.at = 0.0

    def publish(
        self,
        direction: Direction,
        identifier: int,
        topic: str,
        payload: bytes,
        qos: int,
        duplicate: bool,
        retain: bool,
        reason_code: int,
    ) -> None:
        """Note a PUBLISH."""
        self._append(
            Record(
                self.at,
                self.client_identifier,
                self._connection,
                direction,
                "PUBLISH",
                identifier,
                topic,
                payload,
                qos,
                duplicate,
                retain,
                reason_code,
            )
        )

    def acknowledgement(self, direction: Direction, name: str, identifier: int, reason_code: int) -> None:
        """Note a PUBACK, PUBREC, PUBREL or PUBCOMP."""
        self._append(
            Record(
                self.at,
                self.client_identifier,
                self._connection,
                direction,
                name,
                identifier,
                "",
                b"",
                0,
                False,
                False,
                reason_code,
            )
        )

    def packet(
        self,
        direction: Direction,
        name: str,
        identifier: int = 0,
        *,
        reason_code: int = 0,
        session_present: bool = False,
        clean_start: bool = False,
        filters: tuple[str, ...] = (),
    ) -> None:
        """Note any other packet."""
        self._append(
            Record(
                self.at,
                self.client_identifier,
                self._connection,
                direction,
                name,
                identifier,
                reason_code=reason_code,
                session_present=session_present,
                clean_start=clean_start,
                filters=filters,
            )
        )
