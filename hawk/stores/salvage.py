"""A damaged outbox file: it is kept under another name, and what can be read of it moves to a new one. So does what is open
of a file that was taken from its place.

Rows are read on both sides of what cannot be read, and only those that match their checksum are taken. Where the file does
not even know its tables any more, it is read with the first page of a new one, whose tables begin on the same pages. Every
step may be interrupted: the new file counts once it has its last name but one, and `take_over` ends what was begun.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from hawk.core.topics import validate_filter
from hawk.errors import MessageInvalid
from hawk.messages import Withheld
from hawk.stores.expiries import Expiries
from hawk.stores.machine import Machine
from hawk.stores.places import beside, sync_directory
from hawk.stores.rows import (
    RowDamaged,
    checksum_of,
    death_checksum,
    identity_row,
    read_body,
    read_death,
    read_identity,
    read_inbound,
    read_progress,
    read_withheld,
    withheld_row,
)
from hawk.stores.schema import PAGE_BYTES, FileError, code_of, connect, is_sound, prepare
from hawk.stores.tables import READ_IDENTITY, WRITE_IDENTITY, Tables, Tally, roll_back

_WIDEST_GAP = 1 << 62


class Lost(NamedTuple):
    """What is known to have been in a damaged file, and is in the new one no more."""

    messages: int
    dead: int


def rescue(path: Path, machine: Machine) -> tuple[Path, Lost]:
    """Put a new file in the place of a damaged one. Returns where the damaged one is, and what is known to be lost.

    Raises sqlite3's errors and OSError where the new file cannot be written.
    """
    inode = path.stat().st_ino
    with _unfinished(path) as unfinished, _legible(path, unfinished) as old:
        lost = _fill(unfinished, old, inode, machine)
        return _put_in_place(unfinished, path), lost


def put_back(path: Path, connection: sqlite3.Connection, inode: int, machine: Machine, known: Tally) -> Lost:
    """Write all that is open there to a new file at `path`, from where its own file, of that inode, was taken away.

    Returns what is lost of what is `known` to be in it; what was left in its place is kept then. Raises sqlite3's errors and
    OSError where the new file cannot be written, and where the old one is on a device that does not answer.
    """
    with _unfinished(path) as unfinished:
        _lock_out_writers(connection)
        try:
            lost = _fill(unfinished, connection, inode, machine, known)
            if 2 * sum(lost) > known.messages + known.dead:
                _check_device(connection)
            kept = _put_in_place(unfinished, path)
        finally:
            roll_back(connection)
    if not any(lost):
        # What was left there is in the new file, too.
        for ending in ("", "-wal"):
            beside(kept, ending).unlink(missing_ok=True)
    return lost


def _check_device(connection: sqlite3.Connection) -> None:
    """Raise sqlite3's error if messages cannot be read because of the device: it may answer again, a lost page does not."""
    try:
        connection.execute("SELECT sum(length(body)) FROM message").fetchone()
    except FileError as error:
        if code_of(error) == sqlite3.SQLITE_IOERR:
            raise


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A new file with empty tables, of which nobody takes notice until it has another name. Without one it goes again."""
    unfinished = beside(path, ".rescuing")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(connect(unfinished)) as new:
            prepare(new)
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def _fill(unfinished: Path, old: sqlite3.Connection, inode: int, machine: Machine, known: Tally | None = None) -> Lost:
    with closing(connect(unfinished)) as new:
        return _copy(old, new, machine, inodes=(inode, unfinished.stat().st_ino), known=known)


def _put_in_place(unfinished: Path, path: Path) -> Path:
    unfinished.rename(beside(path, ".rescued"))
    kept = take_over(path)
    assert kept is not None, "the rescued file has just been put there"
    return kept


def _lock_out_writers(connection: sqlite3.Connection) -> None:
    """What the inbox wrote to the old file while it is copied would be in neither: it writes to the new one instead."""
    with suppress(*FileError):
        connection.execute("BEGIN IMMEDIATE")


def take_over(path: Path) -> Path | None:
    """If a rescue was finished, put its file in place. Returns where the damaged one is now; None if there was no rescue."""
    rescued = beside(path, ".rescued")
    if not rescued.exists():
        return None
    kept = next(name for number in count(1) if not (name := beside(path, f".damaged-{number}")).exists())
    # The log first: left behind, it would be taken for the new file's.
    _rename(beside(path, "-wal"), beside(kept, "-wal"))
    beside(path, "-shm").unlink(missing_ok=True)
    _rename(path, kept)
    rescued.rename(path)
    sync_directory(path)
    return kept


@contextmanager
def _legible(path: Path, new: Path) -> Iterator[sqlite3.Connection]:
    """The damaged file, open for reading: as it is if it knows its tables, else a copy of it that does."""
    with closing(connect(path)) as old:
        _lock_out_writers(old)
        old.execute("PRAGMA query_only = ON")
        if _knows_its_tables(old):
            yield old
            return
    graft = beside(path, ".graft")
    try:
        _graft(path, new, graft)
        with closing(connect(graft)) as old:
            old.execute("PRAGMA query_only = ON")
            yield old
    finally:
        for ending in ("", "-wal", "-shm"):
            beside(graft, ending).unlink(missing_ok=True)


def _knows_its_tables(connection: sqlite3.Connection) -> bool:
    try:
        return is_sound(connection)
    except FileError:
        return False


def _graft(path: Path, new: Path, graft: Path) -> None:
    """Copy a file and its log, with the first page of a new one, but of its own size and with no free pages."""
    pages = max(1, path.stat().st_size // PAGE_BYTES)
    with new.open("rb") as file:
        first = bytearray(file.read(PAGE_BYTES))
    first[18:20] = b"\2\2"  # a log may stand beside it
    first[28:40] = pages.to_bytes(4, "big") + bytes(8)
    shutil.copyfile(path, graft)
    graft.chmod(0o600)
    with graft.open("r+b") as file:
        file.write(first)
    log = beside(path, "-wal")
    if log.exists():
        shutil.copyfile(log, beside(graft, "-wal"))


def _copy(
    old: sqlite3.Connection, new: sqlite3.Connection, machine: Machine, *, inodes: tuple[int, int], known: Tally | None
) -> Lost:
    """Copy all that is sound, in one transaction. Returns what is known of, if need be by the old sums, and is not."""
    known = known or _read_tally(old)
    new.execute("BEGIN")
    messages = _copy_messages(old, new, machine)
    for row in _readable(old, "progress", "identifier, stage, refusals, checksum"):
        try:
            number, identifier, _, _ = read_progress(row)
        except RowDamaged:
            continue
        if new.execute("SELECT 1 FROM message WHERE number = ?", (number,)).fetchone():
            new.execute("INSERT OR IGNORE INTO progress VALUES (?, ?, ?, ?, ?)", row)
        elif identifier:
            new.execute("INSERT OR IGNORE INTO withheld VALUES (?, ?, ?)", withheld_row(Withheld(identifier, number)))
    for row in _readable(old, "withheld", "number, checksum", number="identifier"):
        try:
            read_withheld(row)
        except RowDamaged:
            continue
        new.execute("INSERT OR IGNORE INTO withheld VALUES (?, ?, ?)", row)
    dead = _copy_dead(old, new, machine)
    for row in _readable(old, "inbound", "key, handled, checksum, fingerprint", number="identifier"):
        try:
            read_inbound(row)
        except RowDamaged:
            continue
        new.execute("INSERT INTO inbound VALUES (?, ?, ?, ?, ?)", row)
    for row in _readable(old, "damaged", "number, found_at, body", number="found"):
        new.execute("INSERT OR IGNORE INTO damaged (number, found_at, body) VALUES (?, ?, ?)", row[1:])
    _copy_filters(old, new)
    _copy_identity(old, new, inodes)
    tables = Tables(new, machine.clocks)
    tables.recount(at_least=known.last_number)
    tables.write_tally()
    new.execute("COMMIT")
    return Lost(max(0, known.messages - messages), max(0, known.dead - dead))


def _read_tally(connection: sqlite3.Connection) -> Tally:
    """The sums, if they are sound: nothing is known of what is lost if they are not."""
    row = _first_row(connection, "SELECT messages, size_bytes, last_number, dead, checksum FROM tally")
    return Tally(*row[:4]) if row is not None and checksum_of(*row[:4]) == row[4] else Tally()


def _copy_messages(old: sqlite3.Connection, new: sqlite3.Connection, machine: Machine) -> int:
    messages, now = 0, machine.clocks()
    expiries = Expiries(new, machine.clocks)
    for number, body in _readable(old, "message", "body"):
        try:
            read = read_body(number, body)
        except RowDamaged:
            new.execute("INSERT INTO damaged (number, found_at, body) VALUES (?, ?, ?)", (number, now.calendar, body))
            continue
        messages += 1
        new.execute("INSERT INTO message VALUES (?, ?, ?)", (number, read.message.size_bytes, body))
        left_s = read.remaining_now_s(now)
        if left_s is not None:
            expiries.add([(number, left_s)])
        if read.latest:
            new.execute("INSERT INTO latest VALUES (?)", (number,))
    return messages


def _copy_dead(old: sqlite3.Connection, new: sqlite3.Connection, machine: Machine) -> int:
    copied, now = 0, machine.clocks()
    for number, *told, body, checksum in _readable(
        old, "dead", "reason, reason_code, attempts, died_at, body, checksum"
    ):
        try:
            death = read_death(number, told, checksum)
            message = read_body(number, body).message
        except RowDamaged:
            new.execute("INSERT INTO damaged (number, found_at, body) VALUES (?, ?, ?)", (number, now.calendar, body))
            continue
        copied += 1
        row = (number, *death, message.size_bytes, body, death_checksum(number, death))
        new.execute("INSERT INTO dead VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    return copied


def _copy_filters(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """They have no checksum. What is none is left out, for no broker takes it."""
    for _, text in _readable(old, "subscribed", "filter", number="rowid"):
        with suppress(MessageInvalid):
            new.execute("INSERT OR IGNORE INTO subscribed VALUES (?)", (validate_filter(text),))


def _copy_identity(old: sqlite3.Connection, new: sqlite3.Connection, inodes: tuple[int, int]) -> None:
    row = _first_row(old, READ_IDENTITY)
    if row is None:
        return
    try:
        identity, (machine_id, inode) = read_identity(row)
    except RowDamaged:
        return
    before, now = map(str, inodes)
    # A file that was a copy before stays one.
    moved = identity_row(identity, (machine_id, now if inode == before else inode))
    new.execute(WRITE_IDENTITY, moved)


def _readable(
    connection: sqlite3.Connection, table: str, columns: str, *, number: str = "number"
) -> Iterator[tuple[Any, ...]]:
    """Every row that can be read, each once, by its number. Where some cannot be, the search goes on behind them."""
    query = f"SELECT {number}, {columns} FROM {table} WHERE {number} >= ? ORDER BY {number}"  # noqa: S608 - names of our own
    begin: int | None = 1
    while begin is not None:
        try:
            for row in connection.execute(query, (begin,)):
                if isinstance(row[0], int) and begin <= row[0] < _WIDEST_GAP:
                    begin = row[0] + 1
                    yield row
            return
        except FileError:
            # sqlite3 looks a row ahead, so the last one before the damage has not been given yet.
            row = _first_row(connection, f"{query} LIMIT 1", begin)
            if row is not None and isinstance(row[0], int):
                yield row
                begin = row[0]
            begin = _behind_the_gap(connection, f"{query} LIMIT 1", begin)


def _behind_the_gap(connection: sqlite3.Connection, query: str, begin: int) -> int | None:
    """The least number from which something can be read again, found by ever larger steps, and then by halves."""
    step = 1
    while not _can_read(connection, query, begin + step):
        step *= 2
        if step > _WIDEST_GAP - begin:
            return None
    least, most = begin + step // 2, begin + step
    while least + 1 < most:
        middle = (least + most) // 2
        if _can_read(connection, query, middle):
            most = middle
        else:
            least = middle
    return most


def _can_read(connection: sqlite3.Connection, query: str, begin: int) -> bool:
    try:
        connection.execute(query, (begin,)).fetchone()
    except FileError:
        return False
    return True


def _first_row(connection: sqlite3.Connection, query: str, *values: int) -> tuple[Any, ...] | None:
    try:
        row: tuple[Any, ...] | None = connection.execute(query, values).fetchone()
    except FileError:
        return None
    return row


def _rename(path: Path, name: Path) -> None:
    try:
        path.rename(name)
    except FileNotFoundError:
        return
