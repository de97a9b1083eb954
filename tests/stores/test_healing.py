"""Damage that only the use of an outbox shows: it is rescued while it runs, once an episode, and nothing stays wedged."""

import errno
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hawk.clock import SystemWallClock
from hawk.core.expiry import Clocks
from hawk.errors import StoreFailed
from hawk.messages import Commit, InboxCommit, InboxRecord, InboxRecovered, Progress, ReadPage, Record
from hawk.stores import recovery, salvage
from hawk.stores.machine import Machine
from hawk.stores.outbox_file import RESCUES_APART_S, OutboxFile
from hawk.stores.sqlite import SQLiteStore
from hawk.stores.sqlite_inbox import SQLiteInboxStore
from hawk.values import Message, Stage

Open = Callable[..., Any]
MESSAGES = 400


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is too large to be looked through when it is opened."""
    monkeypatch.setattr(recovery, "MOST_CHECKED_BYTES", 0)


def fill(opened: Open) -> None:
    """Messages, of which ten expire and one is under way, in a file that nobody has open."""
    outbox = opened()
    outbox.put(*range(1, MESSAGES - 9))
    late = tuple(
        Record(number, Message("a/topic", b"%06d" % number, 1), remaining_s=1e6)
        for number in range(MESSAGES - 9, MESSAGES + 1)
    )
    outbox.file.commit(Commit(insert=late, progress=(Progress(200, 9, Stage.PUBLISHED, 0),)))
    outbox.file.close()


def flip_in_index(path: Path, name: str = "expiry_since_boot") -> None:
    """One bit of the first entry of an index, which is on one page."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    data = bytearray(path.read_bytes())
    data[page * 4096 - 6] ^= 1
    path.write_bytes(data)


def spoil_page_of(path: Path, text: bytes) -> int:
    """Make a page of messages unreadable. Returns how many were on it."""
    data = bytearray(path.read_bytes())
    page = data.find(text) // 4096
    on_it = data[page * 4096 : (page + 1) * 4096].count(b"a/topic")
    data[page * 4096 : (page + 1) * 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    return on_it


def is_whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


def told(caplog: Any) -> list[Any]:
    return [each for each in caplog.records if each.getMessage().startswith("outbox was damaged")]


def test_a_flipped_bit_in_an_index_is_healed_by_the_opening(path: Path, opened: Open, caplog: Any) -> None:
    fill(opened)
    flip_in_index(path)
    outbox = opened()
    outbox.file.commit(Commit(delete=tuple(range(MESSAGES - 9, MESSAGES + 1))))
    outbox.put(MESSAGES + 1)
    assert outbox.recovered.damaged == 0
    assert [each.hawk["lost"] for each in told(caplog)] == [0]
    outbox.file.close()
    assert is_whole(path)
    again = opened()
    assert len(again.recovered.under_way) + again.recovered.queued == MESSAGES - 9


@pytest.mark.usefixtures("large")
def test_a_flipped_bit_in_an_index_is_healed_by_the_commit_that_meets_it(path: Path, opened: Open, caplog: Any) -> None:
    fill(opened)
    flip_in_index(path)
    outbox = opened()
    assert not told(caplog)
    outbox.file.commit(Commit(delete=(MESSAGES - 9, MESSAGES - 8)))
    [record] = told(caplog)
    assert (record.levelno, record.hawk["lost"]) == (logging.ERROR, 0)
    outbox.put(MESSAGES + 1)
    assert len(outbox.all()) == MESSAGES - 2
    outbox.file.close()
    assert is_whole(path)
    opened().file.close()
    assert len(told(caplog)) == 1


@pytest.mark.usefixtures("large")
def test_a_page_that_cannot_be_read_costs_what_is_on_it_and_no_more(path: Path, opened: Open, caplog: Any) -> None:
    fill(opened)
    on_it = spoil_page_of(path, b"000350")
    assert 10 < on_it < 100
    outbox = opened()
    assert len(outbox.all()) == MESSAGES - 1 - on_it
    [record] = told(caplog)
    assert record.hawk["lost"] == on_it
    assert is_whole(path)


@pytest.mark.usefixtures("large")
def test_a_large_file_is_opened_although_what_it_is_asked_first_is_damaged(
    path: Path, opened: Open, caplog: Any
) -> None:
    fill(opened)
    on_it = spoil_page_of(path, b"000200")
    recovered = opened().recovered
    assert recovered.damaged == on_it
    assert len(recovered.under_way) + recovered.queued == MESSAGES - on_it
    assert len(told(caplog)) == 1


@pytest.mark.usefixtures("large")
def test_what_the_inbox_needs_is_healed_in_a_large_file_too(path: Path, opened: Open, caplog: Any) -> None:
    fill(opened)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executemany("INSERT INTO subscribed VALUES (?)", [("a/#",), ("no/#/filter",)])
    flip_in_index(path, "sqlite_autoindex_subscribed_1")
    opened().file.close()
    assert len(told(caplog)) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT filter FROM subscribed").fetchall() == [("a/#",)]


class SlowMachine(Machine):
    """A machine on which time passes when it is told to."""

    passed_s = 0.0

    def clocks(self) -> Clocks:
        now = super().clocks()
        return now._replace(since_boot_s=now.since_boot_s + self.passed_s)


@pytest.mark.usefixtures("large")
def test_a_file_that_cannot_be_rescued_is_left_alone_for_a_while_and_healed_later(
    path: Path, opened: Open, calendar: Any, caplog: Any
) -> None:
    fill(opened)
    flip_in_index(path)
    machine = SlowMachine(calendar)
    file = OutboxFile(path, durability="power", machine=machine)
    file.open()
    obstacle = path.with_name(path.name + ".rescuing")
    obstacle.mkdir()
    late = Commit(delete=(MESSAGES - 9,))
    with pytest.raises(StoreFailed, match="what it holds cannot be saved"):
        file.commit(late)
    obstacle.rmdir()
    for _ in range(3):
        with pytest.raises(StoreFailed, match="malformed"):
            file.commit(late)
    machine.passed_s = RESCUES_APART_S
    file.commit(late)
    assert len(told(caplog)) == 1
    assert len(file.page(ReadPage(0, 1000, 1 << 30)).records) == MESSAGES - 2
    file.close()


@pytest.mark.parametrize("step", ["the file", "the rescued file", "the directory"])
@pytest.mark.usefixtures("large")
def test_a_rescue_that_could_not_be_ended_is_ended_before_anything_is_accepted(
    path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    rename = Path.rename
    last = {"the file": path, "the rescued file": path.with_name("outbox.db.rescued")}.get(step)
    fill(opened)
    flip_in_index(path)
    outbox = opened()
    outbox.put(MESSAGES + 1)  # in the log
    with monkeypatch.context() as patched:
        if last is None:
            patched.setattr(salvage, "sync_directory", fail)
        else:
            patched.setattr(Path, "rename", lambda old, new: fail() if old == last else rename(old, new))
        for _ in range(2):
            with pytest.raises(StoreFailed, match="Input/output error"):
                outbox.file.commit(Commit(delete=(MESSAGES - 9,)))
            if last is None:
                break
    outbox.file.commit(Commit(delete=(MESSAGES - 9,)))
    outbox.put(MESSAGES + 2)
    assert len(outbox.all()) == MESSAGES
    outbox.file.close()
    recovered = opened().recovered
    assert (len(recovered.under_way) + recovered.queued, recovered.damaged) == (MESSAGES + 1, 0)
    assert not path.with_name("outbox.db.rescued").exists()


@pytest.mark.anyio
@pytest.mark.usefixtures("large")
async def test_the_inbox_goes_on_in_the_rescued_file(path: Path, opened: Open) -> None:
    fill(opened)
    flip_in_index(path)
    outbox, inbox = SQLiteStore(path, wall_clock=SystemWallClock()), SQLiteInboxStore(path)
    await outbox.open()
    await inbox.open()
    await inbox.commit(InboxCommit(insert=(InboxRecord(1, "k1"),), join=("a/#",)))
    await outbox.commit(Commit(delete=(MESSAGES - 9,)))
    assert path.with_name("outbox.db.damaged-1").exists()
    await inbox.commit(InboxCommit(insert=(InboxRecord(2, "k2"),)))
    await inbox.aclose()
    await outbox.aclose()

    await outbox.open()
    recovered = await inbox.open()
    await inbox.aclose()
    await outbox.aclose()
    assert recovered == InboxRecovered((InboxRecord(1, "k1"), InboxRecord(2, "k2")), ("a/#",))
