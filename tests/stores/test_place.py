"""An outbox whose files are taken away, moved or replaced while it is open: nothing is accepted that the next hawk misses."""

import fcntl
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hawk.clock import SystemWallClock
from hawk.errors import OutboxInUse, StoreFailed
from hawk.messages import Commit, DeadLetter, Identity, InboxCommit, InboxRecord, Progress
from hawk.stores.sqlite import SQLiteStore
from hawk.stores.sqlite_inbox import SQLiteInboxStore
from hawk.stores.tables import Tables
from hawk.values import Stage

Open = Callable[..., Any]
DATABASE = ("", "-wal", "-shm")


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def remove(path: Path, *endings: str) -> None:
    for ending in endings:
        beside(path, ending).unlink()


def move(path: Path, *endings: str) -> None:
    for ending in endings:
        beside(path, ending).rename(path.with_name("moved.db" + ending))


def put_an_empty_file_there(path: Path) -> None:
    other = path.with_name("other.db")
    other.touch()
    other.rename(path)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def make_the_directory_anew(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()


AWAY: dict[str, Callable[[Path], None]] = {
    "the file": lambda path: remove(path, ""),
    "the file and its log": lambda path: remove(path, *DATABASE),
    "the log": lambda path: remove(path, "-wal"),
    "everything": lambda path: remove(path, *DATABASE, ".lock", ".ballast"),
    "the file, moved": lambda path: move(path, ""),
    "all of it, moved": lambda path: move(path, *DATABASE),
    "the file, emptied by a new one": put_an_empty_file_there,
    "the file, emptied": empty,
    "the directory": make_the_directory_anew,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "here"
    directory.mkdir()
    return directory / "outbox.db"


def filled(opened: Open) -> Any:
    outbox = opened()
    outbox.put(*range(1, 6))
    outbox.file.commit(
        Commit(
            progress=(Progress(1, 9, Stage.PUBLISHED, 1),),
            dead=(DeadLetter(5, "not authorized", 0x87, 1),),
            identity=Identity("sensor-1", session=True),
        )
    )
    return outbox


def after_a_crash(path: Path, directory: Path, opened: Open) -> Any:
    """What the next hawk finds where this one is killed now."""
    shutil.copytree(path.parent, directory)
    return opened(directory / path.name)


@pytest.mark.parametrize("what", AWAY)
def test_what_was_taken_away_is_written_there_again_before_anything_is_accepted(
    path: Path, tmp_path: Path, opened: Open, what: str, caplog: Any
) -> None:
    outbox = filled(opened)
    AWAY[what](path)
    outbox.put(6)
    crashed = after_a_crash(path, tmp_path / "crashed", opened)
    assert [each.number for each in crashed.recovered.under_way] == [1]
    assert crashed.numbers() == [2, 3, 4, 6]
    [told] = [each for each in caplog.records if each.getMessage().startswith("outbox was gone from its place")]
    assert (told.levelno, told.hawk["path"]) == (logging.ERROR, path)

    outbox.put(7)
    outbox.file.commit(Commit(delete=(6,)))
    assert outbox.numbers() == [2, 3, 4, 7]
    outbox.file.close()
    assert not [*path.parent.glob("*.damaged-*"), *path.parent.glob("*.rescu*")]
    again = opened()
    assert again.numbers() == [2, 3, 4, 7]
    assert (again.recovered.identity, again.recovered.copied) == (Identity("sensor-1", session=True), False)
    assert (again.recovered.dead, again.recovered.damaged) == (1, 0)


@pytest.mark.parametrize("what", AWAY)
def test_what_goes_away_during_a_commit_is_there_when_that_returns(
    path: Path, tmp_path: Path, opened: Open, calendar: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    outbox = filled(opened)
    moments = iter([lambda: AWAY[what](path)])  # in the transaction

    def now() -> float:
        next(moments, lambda: None)()
        return float(calendar.at)

    monkeypatch.setattr(calendar, "now", now)
    outbox.put(6)
    assert next(moments, None) is None
    assert after_a_crash(path, tmp_path / "crashed", opened).numbers() == [2, 3, 4, 6]


def test_what_went_away_while_hawk_was_idle_is_there_when_it_has_ended(path: Path, opened: Open) -> None:
    outbox = filled(opened)
    remove(path, *DATABASE)
    outbox.file.close()
    assert opened().numbers() == [2, 3, 4]


def test_a_file_of_somebody_else_is_left_alone_and_nothing_is_accepted_until_it_goes(path: Path, opened: Open) -> None:
    theirs = path.with_name("theirs")
    theirs.write_text("a backup")
    outbox = filled(opened)
    theirs.rename(path)
    for _ in range(2):
        with pytest.raises(StoreFailed, match=r"another file was put in the place of .* move that one away"):
            outbox.put(6)
    assert path.read_text() == "a backup"
    assert outbox.numbers() == [2, 3, 4]
    path.unlink()
    outbox.put(6)
    outbox.file.close()
    assert opened().numbers() == [2, 3, 4, 6]


def test_a_refused_message_is_undone(path: Path, opened: Open, calendar: Any, monkeypatch: Any) -> None:
    """The other file came after the look at the place, so the message was written, to a file without a name."""
    outbox = filled(opened)
    moments = iter([lambda: (path.unlink(), path.write_text("a backup"))])

    def now() -> float:
        next(moments, lambda: None)()
        return float(calendar.at)

    monkeypatch.setattr(calendar, "now", now)
    with pytest.raises(StoreFailed, match="another file was put"):
        outbox.put(6)
    path.unlink()
    outbox.put(7)
    assert outbox.numbers() == [2, 3, 4, 7]


def test_without_a_directory_nothing_is_accepted_and_with_one_it_goes_on(path: Path, opened: Open) -> None:
    outbox = filled(opened)
    shutil.rmtree(path.parent)
    with pytest.raises(StoreFailed, match="here does not exist"):
        outbox.put(6)
    path.parent.mkdir()
    outbox.put(6)
    outbox.file.close()
    assert opened().numbers() == [2, 3, 4, 6]


def test_where_it_cannot_be_written_again_nothing_half_made_is_left(path: Path, opened: Open) -> None:
    outbox = filled(opened)
    remove(path, *DATABASE)
    obstacle = beside(path, ".rescued")
    obstacle.mkdir()
    with pytest.raises(StoreFailed, match=r"cannot be written there again: .*rescued"):
        outbox.put(6)
    assert sorted(path.parent.iterdir()) == [beside(path, ending) for ending in (".ballast", ".lock", ".rescued")]
    obstacle.rmdir()
    outbox.put(6)
    assert outbox.numbers() == [2, 3, 4, 6]


def test_a_lock_that_was_removed_is_taken_again(path: Path, opened: Open) -> None:
    outbox = filled(opened)
    remove(path, ".lock")
    outbox.put(6)
    with pytest.raises(OutboxInUse):
        opened()


def test_who_lost_the_lock_to_another_accepts_nothing(path: Path, opened: Open) -> None:
    outbox = filled(opened)
    remove(path, ".lock")
    with beside(path, ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreFailed, match="in use by"):
            outbox.put(6)
    outbox.put(6)


@pytest.mark.anyio
async def test_the_inbox_goes_on_in_the_file_that_the_outbox_has_put_there(path: Path) -> None:
    outbox, inbox = SQLiteStore(path, wall_clock=SystemWallClock()), SQLiteInboxStore(path)
    await outbox.open()
    await inbox.open()
    await inbox.commit(InboxCommit(insert=(InboxRecord(1, "k1"),), join=("a/#",)))
    remove(path, *DATABASE)
    with pytest.raises(StoreFailed, match="removed or emptied"):
        await inbox.commit(InboxCommit(insert=(InboxRecord(2, "k2"),), join=("b",)))
    await outbox.commit(Commit(identity=Identity("sensor-1", session=True)))
    await inbox.commit(InboxCommit(insert=(InboxRecord(3, "k3"),), delete=(1,)))
    await inbox.aclose()
    await outbox.aclose()

    await outbox.open()
    recovered = await inbox.open()
    await inbox.aclose()
    await outbox.aclose()
    # What was refused may be there: whoever was refused does it again.
    assert sorted(recovered.records) == [InboxRecord(2, "k2"), InboxRecord(3, "k3")]
    assert recovered.filters == ("a/#", "b")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "take_away",
    [
        lambda path: remove(path, *DATABASE),
        empty,
        lambda path: beside(path, ".rescued").touch(),
    ],
    ids=["removed", "emptied", "to be replaced"],
)
async def test_the_inbox_accepts_nothing_that_the_next_hawk_would_not_find(
    path: Path, take_away: Callable[[Path], None]
) -> None:
    outbox, inbox = SQLiteStore(path, wall_clock=SystemWallClock()), SQLiteInboxStore(path)
    await outbox.open()
    await inbox.open()
    take_away(path)
    for _ in range(2):
        with pytest.raises(StoreFailed, match=r"outbox\.db (was removed or emptied|is about to be replaced)"):
            await inbox.commit(InboxCommit(insert=(InboxRecord(1, "k1"),)))
    beside(path, ".rescued").unlink(missing_ok=True)
    await outbox.commit(Commit(identity=Identity("sensor-1", session=True)))
    await inbox.aclose()
    await outbox.aclose()


def test_what_was_written_there_again_and_could_not_be_opened_is_opened_by_the_next_commit(
    path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    outbox = filled(opened)
    remove(path, *DATABASE)
    monkeypatch.setattr("hawk.stores.outbox_file.check_tables", fail)
    with pytest.raises(StoreFailed, match="disk I/O error"):
        outbox.put(6)
    monkeypatch.undo()
    outbox.put(6)
    assert outbox.numbers() == [2, 3, 4, 6]


def test_a_file_that_a_newer_hawk_had_between_two_openings_is_left_as_it_is(path: Path, opened: Open) -> None:
    """The log that was beside it when this hawk had it open is gone, but nobody took it away."""
    outbox = filled(opened)
    outbox.file.close()
    (path.parent / "filler").touch()  # on the inode of the log
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.stat().st_ino, path.read_bytes()
    with pytest.raises(StoreFailed, match="newer hawk"):
        outbox.file.open()
    outbox.file.close()
    assert (path.stat().st_ino, path.read_bytes()) == before


MANY = 2000


def connection_of(outbox: Any) -> Any:
    return outbox.file._connection  # noqa: SLF001 - only what it remembers is left of a file


def take_in_the_log(outbox: Any) -> None:
    connection_of(outbox).execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_what_sqlite_remembers_of_an_emptied_file_without_a_log_is_written_there_again(
    path: Path, opened: Open, caplog: Any
) -> None:
    outbox = filled(opened)
    take_in_the_log(outbox)
    empty(path)
    outbox.put(6)
    assert told_gone(caplog) == [0]
    outbox.file.close()
    again = opened()
    assert again.numbers() == [2, 3, 4, 6]
    assert again.recovered.identity == Identity("sensor-1", session=True)


def large(opened: Open) -> Any:
    """An outbox of which SQLite does not remember all, with nothing in its log."""
    outbox = opened()
    outbox.put(*range(1, MANY + 1), payload_bytes=2000)
    take_in_the_log(outbox)
    return outbox


def told_gone(caplog: Any) -> list[int]:
    return [each.hawk["lost"] for each in caplog.records if "was gone from its place" in each.getMessage()]


@pytest.mark.parametrize("use", ["a commit", "a page"])
def test_what_can_not_be_read_of_an_emptied_file_is_told_and_it_goes_on(
    path: Path, opened: Open, caplog: Any, use: str
) -> None:
    outbox = large(opened)
    empty(path)
    if use == "a page":
        outbox.all()
    outbox.put(MANY + 1)
    left = len(outbox.numbers())
    assert told_gone(caplog) == [MANY + 1 - left]
    assert 1 <= left < MANY
    outbox.file.close()
    again = opened()
    assert (len(again.numbers()), again.recovered.damaged) == (left, 0)
    again.put(MANY + 2)


def test_what_can_not_be_read_of_a_file_that_was_taken_away_is_told_and_what_is_left_there_is_kept(
    path: Path, opened: Open, caplog: Any
) -> None:
    outbox = large(opened)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096 * 16)
    path.unlink()
    outbox.put(MANY + 1)
    [lost] = told_gone(caplog)
    assert lost == MANY + 1 - len(outbox.numbers()) > 0
    assert beside(path, ".damaged-1-wal").exists()


class Deaf:
    """A connection to a file on a device that does not answer."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, *values: Any) -> Any:
        if "message" not in statement:
            return self._connection.execute(statement, *values)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_while_a_device_does_not_answer_nothing_is_given_up(
    path: Path, opened: Open, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = filled(opened)
    remove(path, *DATABASE)
    with monkeypatch.context() as patched:
        patched.setattr(outbox.file, "_connection", Deaf(connection_of(outbox)))
        with pytest.raises(StoreFailed, match="cannot be written there again: disk I/O error"):
            outbox.put(6)
    outbox.put(6)
    assert outbox.numbers() == [2, 3, 4, 6]
    assert told_gone(caplog) == [0]


@pytest.mark.parametrize("what", [empty, lambda path: path.unlink()], ids=["emptied", "removed"])
def test_what_goes_while_it_is_not_open_is_told(
    path: Path, opened: Open, caplog: Any, monkeypatch: pytest.MonkeyPatch, what: Callable[[Path], None]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    outbox = filled(opened)
    with monkeypatch.context() as patched:
        patched.setattr("hawk.stores.outbox_file.check_tables", fail)
        patched.setattr(Tables, "apply", fail)
        with pytest.raises(StoreFailed, match="disk I/O error"):
            outbox.put(6)
    what(path)
    outbox.put(6)
    assert outbox.numbers() == [6]
    assert told_gone(caplog) == [4]
