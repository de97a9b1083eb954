"""Who may have an outbox file: nothing is touched that is none, and every name of one leads to the same lock."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hawk.clock import SystemWallClock
from hawk.errors import OutboxInUse, StoreFailed
from hawk.messages import InboxCommit, InboxRecord
from hawk.stores.claim import Claim
from hawk.stores.machine import Machine
from hawk.stores.sqlite import SQLiteStore
from hawk.stores.sqlite_inbox import SQLiteInboxStore
from hawk.stores.upkeep import keep_up

Open = Callable[..., Any]


def directory(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def notes(path: Path) -> None:
    path.write_text("my notes\n" * 100)


def one_word(path: Path) -> None:
    path.write_text("x")


def database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customer (name TEXT)")


def database_with_a_log(path: Path) -> None:
    """As it lies there while its program runs."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE customer (name TEXT)")


def link_to_notes(path: Path) -> None:
    (path.parent / "notes.txt").write_text("my notes\n")
    path.symlink_to("notes.txt")


FOREIGN = {
    "is a directory": directory,
    "no file that keeps anything": pipe,
    "notes is no outbox": notes,
    "one_word is no outbox": one_word,
    "database is a SQLite database of another program": database,
    "with_a_log is a SQLite database of another program": database_with_a_log,
    "notes.txt is no outbox": link_to_notes,
}


def state_of(directory: Path) -> dict[str, tuple[int, int, float, bytes]]:
    """Everything that could change of what is in a directory."""
    return {
        each.name: (
            (status := each.lstat()).st_mode,
            status.st_ino,
            status.st_mtime,
            each.read_bytes() if each.is_file() else b"",
        )
        for each in directory.iterdir()
    }


@pytest.mark.parametrize("why", FOREIGN)
def test_what_is_no_outbox_is_refused_and_nothing_is_touched(tmp_path: Path, opened: Open, why: str) -> None:
    path = tmp_path / FOREIGN[why].__name__
    FOREIGN[why](path)
    path.chmod(0o755 if path.is_dir() else 0o644)
    before = state_of(tmp_path)
    with pytest.raises(StoreFailed, match=why):
        opened(path)
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("length", [300, 255, 249])
def test_a_name_that_is_too_long_is_told(tmp_path: Path, opened: Open, length: int) -> None:
    with pytest.raises(StoreFailed, match="File name too long"):
        opened(tmp_path / ("x" * length))


@pytest.mark.parametrize("make", [notes, database])
def test_upkeep_touches_nothing_else_either(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "theirs"
    make(path)
    before = state_of(tmp_path)
    with pytest.raises(StoreFailed, match="theirs is"), keep_up(path, Machine(SystemWallClock())):
        pass
    assert state_of(tmp_path) == before


def test_a_lock_that_was_left_beside_it_makes_it_no_outbox(path: Path, opened: Open) -> None:
    notes(path)
    path.chmod(0o644)
    lock = path.with_name(path.name + ".lock")
    lock.write_text("of somebody else")
    before = state_of(path.parent)
    with pytest.raises(StoreFailed, match="is no outbox"):
        opened()
    assert state_of(path.parent) == before


def test_the_locks_of_the_application_on_its_own_database_stay(path: Path, opened: Open) -> None:
    """Whoever opens and closes a file without SQLite takes all locks of the process with it."""
    database(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as own:
        own.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreFailed):
            opened()
        program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM customer')"
        other = subprocess.run([sys.executable, "-c", program, str(path)], check=False, capture_output=True, text=True)
        assert "database is locked" in other.stderr


def test_an_empty_file_becomes_an_outbox_that_nobody_else_may_read(path: Path, opened: Open) -> None:
    path.touch(mode=0o644)
    opened().put(1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_file_says_what_it_is_before_it_has_a_log(path: Path, opened: Open) -> None:
    """A hawk that is killed early leaves no file that the next one does not know."""
    opened().put(1)
    assert path.read_bytes()[68:72] == b"hawk"


# -------------------------------------------------------------------------------------- links and races


def test_a_link_leads_to_the_lock_of_the_file(tmp_path: Path, path: Path, opened: Open) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link, directory_link = elsewhere / "link.db", tmp_path / "linked"
    link.symlink_to(path)
    directory_link.symlink_to(tmp_path)
    first = opened(link)
    first.put(1)
    for name in (path, link, directory_link / path.name):
        with pytest.raises(OutboxInUse, match="in use by process"):
            opened(name)
    with pytest.raises(OutboxInUse), keep_up(directory_link / path.name, Machine(SystemWallClock())):
        pass
    assert [each.name for each in elsewhere.iterdir()] == ["link.db"]
    first.file.close()
    assert opened(path).numbers() == [1]


def test_a_rescue_leaves_the_link_a_link(tmp_path: Path, path: Path, opened: Open) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    opened(link).file.close()
    path.write_bytes(b"\xff" * 8192)
    opened(link).put(1)
    assert link.readlink() == path
    assert path.with_name("outbox.db.damaged-1").read_bytes() == b"\xff" * 8192
    assert not link.with_name("link.db.damaged-1").exists()


@pytest.mark.anyio
async def test_the_inbox_follows_the_link_too(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "link.db"
    link.symlink_to(tmp_path / "outbox.db")
    outbox, inbox = SQLiteStore(link, wall_clock=SystemWallClock()), SQLiteInboxStore(link)
    await outbox.open()
    await inbox.open()
    await inbox.commit(InboxCommit(insert=(InboxRecord(1, "k1"),)))
    assert [each.name for each in elsewhere.iterdir()] == ["link.db"]
    await inbox.aclose()
    await outbox.aclose()


def test_who_comes_while_another_makes_the_file_is_told_that_it_is_in_use(
    path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one takes the lock after this one has seen none, and has just begun to write."""
    first = Claim(path)
    monkeypatch.setattr("hawk.stores.claim.check_file", _seen_before(first))
    with pytest.raises(OutboxInUse):
        opened()
    first.release()


def _seen_before(first: Claim) -> Callable[[Path], None]:
    """`check_file`, as it goes for the second one; the first one takes the lock meanwhile."""
    turns = iter([lambda: first.take(0.0)])

    def check(path: Path) -> None:
        for take in turns:
            take()
            raise StoreFailed(f"{path} is no outbox")

    return check


def test_of_many_that_start_at_once_one_has_it_and_the_others_are_told_who(path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from hawk.clock import SystemWallClock;"
        "from hawk.errors import OutboxInUse;"
        "from hawk.stores.machine import Machine; from hawk.stores.outbox_file import OutboxFile;"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try: OutboxFile(Path(sys.argv[1]), durability='power', machine=Machine(SystemWallClock())).open()\n"
        "except OutboxInUse: print('in use', flush=True)\n"
        "else: print('open', flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", program]
    for turn in range(5):
        where = path.with_name(f"{turn}.db")
        children = [
            subprocess.Popen([*command, str(where)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)
        ]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write(b"go\n")
            child.stdin.flush()
        said = sorted(child.stdout.readline() for child in children if child.stdout is not None)
        for child in children:
            child.communicate()
        assert said == [b"in use\n"] * 3 + [b"open\n"]


@pytest.mark.anyio
async def test_the_inbox_stays_in_the_file_of_its_outbox_when_the_link_is_turned(tmp_path: Path) -> None:
    for name in ("a.db", "b.db"):
        other = SQLiteStore(tmp_path / name, wall_clock=SystemWallClock())
        await other.open()
        await other.aclose()
    link = tmp_path / "current.db"
    link.symlink_to("a.db")
    outbox, inbox = SQLiteStore(link, wall_clock=SystemWallClock()), SQLiteInboxStore(link)
    await outbox.open()
    await inbox.open()
    link.unlink()
    link.symlink_to("b.db")
    await inbox.commit(InboxCommit(insert=(InboxRecord(1, "k1"),), join=("a/#",)))
    await inbox.aclose()
    await outbox.aclose()
    kept = []
    for name in ("a.db", "b.db"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            kept.append(connection.execute("SELECT filter FROM subscribed").fetchall())
    assert kept == [[("a/#",)], []]
