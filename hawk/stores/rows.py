"""One message as a row of the outbox file holds it: a number, and a body that begins with its own checksum. Pure.

The checksum is of the number as well, so that neither a flipped bit nor a row in a wrong place is ever taken for a message.

    body = CRC-32, flags, length of the topic, topic, [length of the extras, extras as JSON], payload
"""

import json
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

from hawk.core.expiry import Clocks, remaining_s
from hawk.messages import Identity, InboxRecord, Record, Withheld
from hawk.values import NO_PROPERTIES, Message, Properties, Stage

_HEAD = struct.Struct(">IBH")
_CHECKED_HEAD = struct.Struct(">QBH")
_EXTRAS_LENGTH = struct.Struct(">I")
_PROGRESS = struct.Struct(">QHBQ")

_YEAR_10_000 = 253_402_300_800

_RETAIN = 4
_EXTRAS = 8
_STAGES = tuple(Stage)
_STAGE_NUMBERS = {stage: number for number, stage in enumerate(_STAGES)}


class RowDamaged(Exception):
    """A row is not what was written."""


class Death(NamedTuple):
    """Why nobody got a message, how often it was sent, and when it was given up, in seconds since the epoch."""

    reason: str
    reason_code: int
    attempts: int
    died_at: float


class Body(NamedTuple):
    """What a body says: the message, and how much of its time was left when it was written."""

    message: Message
    latest: str = ""
    remaining_s: float | None = None
    written_at: Clocks | None = None

    def remaining_now_s(self, now: Clocks) -> float | None:
        """What is left of its time; 0 or less when it is over, None if it never is."""
        if self.remaining_s is None or self.written_at is None:
            return None
        return remaining_s(self.remaining_s, self.written_at, now)


def body_of(record: Record, now: Clocks) -> bytes:
    """What to write of a record, but for how far it has come."""
    number, message = record.number, record.message
    topic = message.topic.encode()
    flags = message.qos | (_RETAIN if message.retain else 0)
    payload = message.payload
    if message.properties is not NO_PROPERTIES or record.remaining_s is not None or record.latest:
        flags |= _EXTRAS
        extras = _extras_of(record, now)
        payload = b"".join((_EXTRAS_LENGTH.pack(len(extras)), extras, payload))
    checksum = crc32(payload, crc32(topic, crc32(_CHECKED_HEAD.pack(number, flags, len(topic)))))
    return b"".join((_HEAD.pack(checksum, flags, len(topic)), topic, payload))


def read_body(number: int, body: object) -> Body:
    """What was written. Raises `RowDamaged` if it is not that any more."""
    if not isinstance(body, bytes) or len(body) < _HEAD.size or not 0 < number < 1 << 63:
        raise RowDamaged(f"row {number} is none")
    checksum, flags, topic_bytes = _HEAD.unpack_from(body)
    if crc32(memoryview(body)[_HEAD.size :], crc32(_CHECKED_HEAD.pack(number, flags, topic_bytes))) != checksum:
        raise RowDamaged(f"row {number} does not match its checksum")
    begins = _HEAD.size + topic_bytes
    topic = body[_HEAD.size : begins].decode()
    qos, retain = flags & 3, bool(flags & _RETAIN)
    if not flags & _EXTRAS:
        return Body(Message(topic, body[begins:], qos, retain))
    (extras_bytes,) = _EXTRAS_LENGTH.unpack_from(body, begins)
    begins += _EXTRAS_LENGTH.size
    extras = json.loads(body[begins : begins + extras_bytes])
    message = Message(topic, body[begins + extras_bytes :], qos, retain, _properties_of(extras))
    written_at = Clocks(*extras["written_at"]) if "written_at" in extras else None
    return Body(message, extras.get("latest", ""), extras.get("remaining_s"), written_at)


def progress_row(number: int, identifier: int, stage: Stage, refusals: int) -> tuple[int, int, int, int, int]:
    """How far a record has come, and the checksum of that."""
    stage_number = _STAGE_NUMBERS[stage]
    return number, identifier, stage_number, refusals, crc32(_PROGRESS.pack(number, identifier, stage_number, refusals))


def read_progress(row: tuple[object, ...]) -> tuple[int, int, Stage, int]:
    """The opposite of `progress_row`. Raises `RowDamaged`."""
    try:
        number, identifier, stage_number, refusals, checksum = row
        if crc32(_PROGRESS.pack(number, identifier, stage_number, refusals)) == checksum:
            assert isinstance(number, int)
            assert isinstance(identifier, int)
            assert isinstance(stage_number, int)
            assert isinstance(refusals, int)
            return number, identifier, _STAGES[stage_number], refusals
    except (struct.error, IndexError):
        # A number too large for its place, or a text: the checksum would not have matched either.
        raise RowDamaged("the progress of a row is none") from None
    raise RowDamaged("the progress of a row does not match its checksum")


def inbound_row(record: InboxRecord) -> tuple[int, str, int, int, int | None]:
    """A message of QoS 2 under way, and the checksum of that."""
    identifier, key, handled, fingerprint = record
    # Rows of the format before this one have no fingerprint.
    known = () if fingerprint is None else (fingerprint,)
    return identifier, key, int(handled), checksum_of(identifier, key, int(handled), *known), fingerprint


def read_inbound(row: tuple[Any, ...]) -> InboxRecord:
    """The opposite of `inbound_row`. Raises `RowDamaged`."""
    identifier, key, handled, _, fingerprint = row
    record = InboxRecord(identifier, key, handled == 1, fingerprint)
    if inbound_row(record) != row:
        raise RowDamaged("a message under way does not match its checksum")
    return record


def identity_row(identity: Identity, place: tuple[str, str]) -> tuple[str, int, str, str, str, int, int]:
    """Who hawk is for the broker, where the file is, and the checksum of that."""
    client_identifier, session, endpoint, shared = identity
    # Rows of the format before this one know nothing of endpoints.
    known = () if (endpoint, shared) == ("", True) else (endpoint, int(shared))
    checksum = checksum_of(client_identifier, int(session), *place, *known)
    return client_identifier, int(session), *place, endpoint, int(shared), checksum


def read_identity(row: tuple[Any, ...]) -> tuple[Identity, tuple[str, str]]:
    """The opposite of `identity_row`. Raises `RowDamaged`."""
    client_identifier, session, machine_id, inode, endpoint, shared, _ = row
    identity, place = Identity(client_identifier, session == 1, endpoint, shared == 1), (machine_id, inode)
    if identity_row(identity, place) != row:
        raise RowDamaged("who hawk is does not match its checksum")
    return identity, place


def withheld_row(withheld: Withheld) -> tuple[int, int, int]:
    """An identifier that is withheld, and the checksum of that."""
    return *withheld, checksum_of(*withheld)


def read_withheld(row: tuple[Any, ...]) -> Withheld:
    """The opposite of `withheld_row`. Raises `RowDamaged`."""
    withheld = Withheld(*row[:2])
    if withheld_row(withheld) != row:
        raise RowDamaged("an identifier that is withheld does not match its checksum")
    return withheld


def death_checksum(number: int, death: Death) -> int:
    """The checksum of what stands beside the body of a dead letter."""
    return checksum_of(number, *death)


def read_death(number: int, death: Sequence[Any], checksum: object) -> Death:
    """What was written of a dead letter. Raises `RowDamaged`. Without a checksum it is believed if it can be true."""
    read = Death(*death)
    if checksum is not None and checksum != death_checksum(number, read):
        raise RowDamaged(f"dead letter {number} does not match its checksum")
    if [type(each) for each in read[:3]] != [str, int, int] or not is_date(read.died_at):
        raise RowDamaged(f"dead letter {number} is none")
    return read


def is_date(at: object) -> bool:
    """Whether a calendar can show that time, in seconds since the epoch."""
    return isinstance(at, int | float) and 0 <= at < _YEAR_10_000


def checksum_of(*values: object) -> int:
    """The checksum of a small row: of what its values look like."""
    return crc32(repr(values).encode())


def _extras_of(record: Record, now: Clocks) -> bytes:
    properties = record.message.properties
    extras: dict[str, Any] = {}
    for name, value in properties._asdict().items():
        if value != getattr(NO_PROPERTIES, name):
            extras[name] = value.hex() if isinstance(value, bytes) else value
    if record.remaining_s is not None:
        extras["remaining_s"] = record.remaining_s
        extras["written_at"] = now
    if record.latest:
        extras["latest"] = record.latest
    return json.dumps(extras, separators=(",", ":")).encode()


def _properties_of(extras: dict[str, Any]) -> Properties:
    given = {name: extras[name] for name in Properties._fields if name in extras}
    if "correlation_data" in given:
        given["correlation_data"] = bytes.fromhex(given["correlation_data"])
    if "user" in given:
        given["user"] = tuple((name, value) for name, value in given["user"])
    return Properties(**given) if given else NO_PROPERTIES
