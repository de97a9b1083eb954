"""The outbox file: who may open it, what is in it after a crash, and what its disk may do to it."""

import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from hawk.errors import OutboxInUse, StoreFailed
from hawk.messages import Commit, DeadLetter, Identity, Page, Progress, ReadPage, Record
from hawk.stores import schema
from hawk.stores.ballast import BALLAST_BYTES, Ballast
from hawk.stores.machine import Machine
from hawk.stores.outbox_file import OutboxFile
from hawk.stores.rows import body_of, checksum_of, progress_row
from hawk.values import Message, Properties, Stage

Open = Callable[..., Any]


def sql(path: Path, *statements: str) -> list[Any]:
    """What the last statement returns, of a file that nobody has open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows: list[Any] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


# ------------------------------------------------------------------------------------------ the files


def test_nobody_else_may_read_it(path: Path, opened: Open) -> None:
    outbox = opened()
    outbox.put(1)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes) == {path.name + ending for ending in ("", "-wal", "-shm", ".lock", ".ballast")}
    assert set(modes.values()) == {0o600}


def test_a_file_that_others_could_read_is_closed_to_them(path: Path, opened: Open) -> None:
    opened().file.close()
    path.chmod(0o644)
    opened()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_missing_directory_is_told(tmp_path: Path, opened: Open) -> None:
    with pytest.raises(StoreFailed, match="nowhere does not exist"):
        opened(tmp_path / "nowhere" / "outbox.db")


def test_a_file_of_another_program_is_left_alone(path: Path, opened: Open) -> None:
    sql(path, "CREATE TABLE customer (name TEXT)", "INSERT INTO customer VALUES ('Ada')")
    with pytest.raises(StoreFailed, match="another program"):
        opened()
    assert sql(path, "SELECT name FROM customer") == [("Ada",)]
    path.write_text("my notes\n" * 100)
    with pytest.raises(StoreFailed, match="is no outbox"):
        opened()
    assert path.read_text() == "my notes\n" * 100


# ------------------------------------------------------------------------------------------- the lock


def test_the_second_one_is_told_who_has_it(path: Path, opened: Open) -> None:
    first = opened()
    with pytest.raises(OutboxInUse) as refusal:
        opened()
    assert f"process {os.getpid()} on {socket.gethostname()} since 2027-01-15T08:00:00+00:00" in str(refusal.value)
    assert json.loads(beside(path, ".lock").read_text())["pid"] == os.getpid()
    first.file.close()
    opened()


def test_another_process_is_told_too_and_the_lock_ends_with_its_process(path: Path, opened: Open) -> None:
    program = (
        "import sys; from pathlib import Path; from hawk.clock import SystemWallClock;"
        "from hawk.stores.machine import Machine; from hawk.stores.outbox_file import OutboxFile;"
        "OutboxFile(Path(sys.argv[1]), durability='power', machine=Machine(SystemWallClock())).open();"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(OutboxInUse, match=f"process {holder.pid} on"):
            opened()
        holder.kill()
        holder.wait()
        opened()


# ------------------------------------------------------------------------------ what a crash leaves


def test_what_is_committed_needs_no_farewell(path: Path, tmp_path: Path, opened: Open) -> None:
    """The files as they stand in the middle of a life are what a crash leaves."""
    outbox = opened()
    outbox.put(1, 2, 3)
    outbox.file.commit(Commit(delete=(2,), progress=(Progress(3, 9, Stage.RELEASED, 0),)))
    copy = tmp_path / "after the crash"
    copy.mkdir()
    for each in path.parent.glob("outbox.db*"):
        shutil.copy(each, copy)
    again = opened(copy / path.name)
    assert [(each.number, each.identifier) for each in again.recovered.under_way] == [(1, 0), (3, 9)]


@pytest.mark.parametrize("torn_bytes", [1, 24, 100, 4096, 4120, 8240])
@pytest.mark.parametrize("zeroed", [True, False])
def test_a_torn_tail_takes_only_what_was_not_yet_accepted(
    path: Path, tmp_path: Path, opened: Open, torn_bytes: int, zeroed: bool
) -> None:
    """The power goes while the last commit is being written: what stands before it is whole."""
    outbox = opened()
    outbox.put(*range(1, 51))
    log = beside(path, "-wal")
    accepted_bytes = log.stat().st_size
    outbox.put(*range(51, 101), payload_bytes=2000)
    copy = tmp_path / "copy"
    copy.mkdir()
    for each in path.parent.glob("outbox.db*"):
        shutil.copy(each, copy)
    data = (copy / log.name).read_bytes()
    assert len(data) > accepted_bytes + torn_bytes
    (copy / log.name).write_bytes(data[:-torn_bytes] + (b"\0" * torn_bytes if zeroed else b""))
    again = opened(copy / path.name)
    assert again.recovered.damaged == 0
    assert again.numbers() == list(range(1, 51))
    again.put(101)


def test_a_failed_commit_leaves_nothing_and_the_file_stays_usable(opened: Open) -> None:
    outbox = opened()
    outbox.put(1)
    twice = Commit(
        insert=(Record(2, Message("t", b"", 2), identifier=7), Record(3, Message("t", b"", 2), identifier=7)),
        delete=(1,),
    )
    with pytest.raises(StoreFailed, match="UNIQUE"):
        outbox.file.commit(twice)
    assert outbox.numbers() == [1]
    outbox.put(4)
    assert outbox.numbers() == [1, 4]


# ------------------------------------------------------------------------------------------- versions


def test_an_older_file_is_brought_up_to_date(path: Path, opened: Open) -> None:
    path.touch()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.prepare(connection, steps=schema.STEPS[:1])
        assert schema.version_of(connection) == 1
    outbox = opened()
    late = Record(1, Message("t", b"", properties=Properties(expiry_s=60.0)), remaining_s=60.0)
    outbox.file.commit(Commit(insert=(late,)))
    assert outbox.file.page(ReadPage(1, 1, 1)).next_expiry_s is None
    outbox.file.close()
    assert sql(path, "PRAGMA user_version") == [(schema.VERSION,)]


def test_the_messages_of_an_older_file_are_delivered(path: Path, opened: Open) -> None:
    outbox = opened()
    outbox.put(1, 2)
    outbox.file.close()
    sql(
        path,
        *(f"DROP TABLE {table}" for table in ("boot", "expiry", "latest", "withheld")),
        "PRAGMA user_version = 1",
    )
    assert opened().numbers() == [1, 2]


def test_a_file_that_knows_no_endpoints_keeps_what_is_under_way_and_who_it_is(
    path: Path, opened: Open, calendar: Any
) -> None:
    path.touch()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.prepare(connection, steps=schema.STEPS[:4])
        machine = Machine(calendar)
        who = ("sensor-1", 1, machine.machine_id, str(path.stat().st_ino))
        connection.execute("INSERT INTO identity VALUES (1, ?, ?, ?, ?, ?)", (*who, checksum_of(*who)))
        body = body_of(Record(1, Message("t", b"", 2)), machine.clocks())
        connection.execute("INSERT INTO message VALUES (1, 1, ?)", (body,))
        connection.execute("INSERT INTO progress VALUES (?, ?, ?, ?, ?)", progress_row(1, 7, Stage.PUBLISHED, 0))
    recovered = opened().recovered
    assert recovered.identity == Identity("sensor-1", session=True)
    assert [(each.number, each.identifier) for each in recovered.under_way] == [(1, 7)]
    assert recovered.withheld == ()


def test_a_newer_file_is_refused_with_what_to_do(path: Path, opened: Open) -> None:
    opened().file.close()
    sql(path, f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(StoreFailed, match=rf"newer hawk \(its format is {schema.VERSION + 1}.* run that hawk"):
        opened()
    assert sql(path, "PRAGMA user_version") == [(schema.VERSION + 1,)]


# --------------------------------------------------------------------------------------- who hawk is


def test_a_copy_of_the_file_is_told_and_has_no_identity(path: Path, opened: Open) -> None:
    outbox = opened()
    outbox.file.commit(Commit(identity=Identity("sensor-1", session=True)))
    outbox.file.close()
    shutil.copy(path, path.with_name("copy.db"))
    copy = opened(path.with_name("copy.db")).recovered
    assert (copy.identity, copy.copied) == (None, True)
    path.rename(path.with_name("renamed.db"))
    renamed = opened(path.with_name("renamed.db")).recovered
    assert (renamed.identity, renamed.copied) == (Identity("sensor-1", session=True), False)


def test_on_another_machine_the_file_counts_as_a_copy(path: Path, opened: Open, calendar: Any) -> None:
    outbox = opened()
    outbox.file.commit(Commit(identity=Identity("sensor-1", session=True)))
    outbox.file.close()
    elsewhere = Machine(calendar)
    for machine_id, copied in (("another", bool(Machine(calendar).machine_id)), ("", False)):
        elsewhere.machine_id = machine_id
        file = OutboxFile(path, durability="power", machine=elsewhere)
        assert file.open().copied is copied
        file.close()


# ----------------------------------------------------------------------------------------- expiry


def test_over_a_boot_the_calendar_says_how_much_time_has_passed(path: Path, opened: Open, calendar: Any) -> None:
    outbox = opened()
    message = Message("t", b"", properties=Properties(expiry_s=100.0))
    outbox.file.commit(Commit(insert=tuple(Record(n, message, remaining_s=100.0 * n) for n in (1, 2))))
    outbox.file.close()
    sql(path, "UPDATE boot SET name = 'an earlier one'")
    body = sql(path, "SELECT body FROM message WHERE number = 1")[0][0]
    assert b"written_at" in body

    calendar.at += 150.0
    again = opened()
    # The row itself says that it is of this boot, and it knows better than the table that is looked up.
    assert [each.number for each in again.file.page(ReadPage(0, 10, 1000, expired=True)).records] == []
    assert [round(each.remaining_s) for each in again.all()] == [100, 200]


# -------------------------------------------------------------------------------- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path) -> Path:
    """Take all that is left of a disk."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (65_536, 4096, 512, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    assert shutil.disk_usage(disk).free == 0
    return filler


def test_a_full_disk_takes_nothing_new_lets_deletions_through_and_heals(small_disk: Path, opened: Open) -> None:
    outbox = opened(small_disk / "outbox.db")
    outbox.put(*range(1, 501))
    filler = fill(small_disk)
    told: list[str] = []
    for number in range(501, 600):
        try:
            outbox.put(number, payload_bytes=5000)
        except StoreFailed as failed:
            told.append(str(failed))
    assert len(told) > 50, "the disk was never full"
    assert all("full" in each or "no space" in each for each in told)
    kept = outbox.numbers()
    for number in kept[:400]:
        outbox.file.commit(Commit(delete=(number,)))
    assert outbox.numbers() == kept[400:]
    with pytest.raises(StoreFailed, match="no space left on device"):
        outbox.put(600)
    filler.unlink()
    outbox.put(601)
    assert outbox.numbers() == [*kept[400:], 601]
    outbox.file.close()
    assert opened(small_disk / "outbox.db").numbers() == [*kept[400:], 601]


def test_on_a_full_disk_it_starts_and_what_is_in_it_can_go(small_disk: Path, opened: Open) -> None:
    outbox = opened(small_disk / "outbox.db")
    outbox.put(1, 2, 3)
    outbox.file.close()
    filler = fill(small_disk)
    again = opened(small_disk / "outbox.db")
    assert again.numbers() == [1, 2, 3]
    again.file.commit(Commit(delete=(1, 2)))
    with pytest.raises(StoreFailed, match="no space left on device"):
        again.put(4, payload_bytes=100_000)
    filler.unlink()
    again.put(5)
    assert again.numbers() == [3, 5]


def test_the_ballast_is_a_megabyte_that_no_file_system_makes_small(path: Path) -> None:
    ballast = Ballast(path)
    assert ballast.put()
    assert ballast.stands
    assert ballast.path.stat().st_size == BALLAST_BYTES
    assert ballast.path.stat().st_blocks * 512 >= BALLAST_BYTES
    assert ballast.give_up()
    assert not ballast.give_up()
    assert not ballast.stands
    assert not Ballast(path.parent / "nowhere" / "outbox.db").put()


# --------------------------------------------------------------------------------------- dead letters


def test_a_dead_letter_is_kept_whole_with_its_reason(path: Path, opened: Open) -> None:
    outbox = opened()
    outbox.put(1, 2)
    outbox.file.commit(Commit(dead=(DeadLetter(1, "not authorized", 0x87, 2),)))
    outbox.file.close()
    assert sql(path, "SELECT number, reason, reason_code, attempts FROM dead") == [(1, "not authorized", 0x87, 2)]
    again = opened()
    assert (again.recovered.queued, again.recovered.dead) == (1, 1)
    assert again.file.page(ReadPage(0, 10, 1000)) == Page(again.all(), end=True)
