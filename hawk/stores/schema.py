"""The tables of an outbox file, as the steps that lead from each version to the next. A new file takes them all.

Another keeper of the same file adds a table of its own as one more step.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from hawk.errors import StoreFailed

APPLICATION_ID: Final = 0x6861776B
"""`hawk` in ASCII: how a file is told from every other SQLite database."""

PAGE_BYTES: Final = 4096

STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # The messages. What changes while they wait stands beside them, so that this table only grows and shrinks.
        "CREATE TABLE message (number INTEGER PRIMARY KEY, size_bytes INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE TABLE progress (number INTEGER PRIMARY KEY, identifier INTEGER NOT NULL, stage INTEGER NOT NULL,"
        " refusals INTEGER NOT NULL, checksum INTEGER NOT NULL)",
        "CREATE UNIQUE INDEX progress_identifier ON progress (identifier) WHERE identifier > 0",
        "CREATE TABLE dead (number INTEGER PRIMARY KEY, reason TEXT NOT NULL, reason_code INTEGER NOT NULL,"
        " attempts INTEGER NOT NULL, died_at REAL NOT NULL, size_bytes INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE TABLE damaged (found INTEGER PRIMARY KEY, number INTEGER, found_at REAL NOT NULL, body BLOB)",
        # One row each. The sums spare a look at every message when the file is opened.
        "CREATE TABLE tally (one INTEGER PRIMARY KEY CHECK (one = 1), messages INTEGER NOT NULL,"
        " size_bytes INTEGER NOT NULL, last_number INTEGER NOT NULL, dead INTEGER NOT NULL, checksum INTEGER NOT NULL)",
        "CREATE TABLE identity (one INTEGER PRIMARY KEY CHECK (one = 1), client_identifier TEXT NOT NULL,"
        " session INTEGER NOT NULL, machine_id TEXT NOT NULL, inode TEXT NOT NULL, checksum INTEGER NOT NULL)",
    ),
    (
        # When messages expire, and which of them a newer one replaces: only those that do stand here.
        "CREATE TABLE boot (boot INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE expiry (number INTEGER PRIMARY KEY, boot INTEGER NOT NULL, since_boot_s REAL NOT NULL,"
        " calendar REAL)",
        "CREATE INDEX expiry_since_boot ON expiry (boot, since_boot_s)",
        "CREATE INDEX expiry_calendar ON expiry (boot, calendar)",
        "CREATE TABLE latest (number INTEGER PRIMARY KEY)",
    ),
    (
        # What receiving remembers of the broker's session: QoS 2 messages under way, and the filters subscribed.
        "CREATE TABLE inbound (identifier INTEGER PRIMARY KEY, key TEXT NOT NULL, handled INTEGER NOT NULL,"
        " checksum INTEGER NOT NULL)",
        "CREATE TABLE subscribed (filter TEXT PRIMARY KEY)",
    ),
    (
        # By which a message is told from another that came under its identifier.
        "ALTER TABLE inbound ADD COLUMN fingerprint INTEGER",
    ),
    (
        # Identifiers under which the broker's session may hold a message that does not wait any more.
        "CREATE TABLE withheld (identifier INTEGER PRIMARY KEY, number INTEGER NOT NULL, checksum INTEGER NOT NULL)",
        # Which broker holds the session, and whether another may share it.
        "ALTER TABLE identity ADD COLUMN endpoint TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE identity ADD COLUMN shared INTEGER NOT NULL DEFAULT 1",
    ),
    (
        # Of why and when a dead letter died; its body has its own. NULL: by a hawk that wrote none.
        "ALTER TABLE dead ADD COLUMN checksum INTEGER",
    ),
)

VERSION: Final = len(STEPS)

FileError: Final = (sqlite3.Error, UnicodeDecodeError)
"""What a file that cannot be read or written raises. The second comes of sqlite3's own words about damaged names."""

_BUSY_S = 5.0
_TABLES = "SELECT type, name, tbl_name, sql FROM sqlite_master"


def connect(path: str | Path, *, uri: bool = False) -> sqlite3.Connection:
    """Open a file. Transactions are begun by hand, and text that is damaged comes altered instead of as an error."""
    connection = sqlite3.connect(path, uri=uri, timeout=_BUSY_S, isolation_level=None)
    connection.text_factory = lambda text: text.decode(errors="replace")
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    return connection


def prepare(connection: sqlite3.Connection, *, steps: tuple[tuple[str, ...], ...] = STEPS) -> bool:
    """Bring a file to the present version, a new one from nothing. True if anything had to be done.

    Raises `StoreFailed` for a file of a newer hawk and for another program's database, and sqlite3's errors.
    """
    version = version_of(connection)
    if version == len(steps):
        return False
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version:]:
            for statement in step:
                _add(connection, statement)
        # Both are part of the transaction.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return True


def mark(connection: sqlite3.Connection) -> None:
    """Say of a new file that it is an outbox, before it has a log: so it can be told, wherever hawk is killed.

    Raises what `version_of` does.
    """
    if version_of(connection) == 0:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def version_of(connection: sqlite3.Connection) -> int:
    """The version of an outbox file; 0 for one with nothing in it.

    Raises `StoreFailed` for a file of a newer hawk and for another program's database, and sqlite3's errors.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not version:
        return 0
    if application != APPLICATION_ID:
        if is_sound(connection):
            raise damaged("the header of the outbox is damaged")
        raise StoreFailed("this is a SQLite database of another program; name another file for the outbox")
    if version > VERSION:
        raise StoreFailed(
            f"this outbox was written by a newer hawk (its format is {version}, this hawk knows up to {VERSION}); "
            "run that hawk, or name another file for the outbox"
        )
    return int(version)


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether the file describes its tables as `prepare` left them. Raises sqlite3's errors."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        prepare(model)
        wanted = set(model.execute(_TABLES))
    return wanted <= set(connection.execute(_TABLES))


def check_tables(connection: sqlite3.Connection) -> None:
    """Raise sqlite3's error for a damaged file unless it describes its tables as it should."""
    if not is_sound(connection):
        raise damaged("the outbox does not know its tables any more")


def _add(connection: sqlite3.Connection, statement: str) -> None:
    try:
        connection.execute(statement)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        # It is there already: the version that the file says it has is wrong.
        raise damaged(str(error)) from error


def damaged(what: str) -> sqlite3.DatabaseError:
    """The error of a damaged file, for what sqlite3 does not raise itself."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def code_of(error: Exception) -> int:
    """SQLite's primary result code of a `FileError`; 0 where sqlite3 itself found the fault."""
    if isinstance(error, UnicodeDecodeError):
        return sqlite3.SQLITE_CORRUPT
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
