"""A damaged outbox: hawk starts, nothing altered is ever sent, what is lost is counted, and what is sound is delivered."""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hawk.errors import StoreFailed
from hawk.messages import Commit, DeadLetter, Identity, InboxRecord, Progress, Withheld
from hawk.stores.rows import inbound_row, progress_row, withheld_row
from hawk.stores.salvage import take_over
from hawk.values import Stage

Open = Callable[..., Any]
MESSAGES = 400
WHO = Identity("sensor-1", session=True, endpoint="mqtt://a:1883", shared=False)


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def filled(opened: Open, *, qos: int = 1) -> tuple[Any, ...]:
    """An outbox file that nobody has open, and what is in it."""
    outbox = opened()
    outbox.put(*range(1, MESSAGES + 1), qos=qos)
    outbox.file.commit(Commit(identity=WHO))
    records: tuple[Any, ...] = outbox.all()
    outbox.file.close()
    return records


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement, values)


def test_a_flipped_bit_in_a_message_costs_that_message(path: Path, opened: Open, caplog: Any) -> None:
    before = filled(opened)
    with closing(sqlite3.connect(path)) as connection:
        (body,) = connection.execute("SELECT body FROM message WHERE number = 7").fetchone()
    for position in range(0, len(body) * 8, 29):
        flipped = bytearray(body)
        flipped[position // 8] ^= 1 << position % 8
        change(path, "UPDATE message SET body = ? WHERE number = 7", bytes(flipped))
        outbox = opened()
        page = outbox.file.page(_everything())
        assert page.damaged == (7,), f"bit {position}"
        assert page.records == (*before[:6], *before[7:])
        assert outbox.file.page(_everything()).damaged == ()
        outbox.file.close()
        change(path, "DELETE FROM damaged")
        change(path, "INSERT INTO message SELECT 7, ?, ?", before[6].message.size_bytes, bytes(flipped))
    record = next(each for each in caplog.records if each.name == "hawk.store")
    assert (record.levelno, record.hawk["path"], record.hawk["first"]) == (logging.ERROR, path, 7)


def test_a_row_under_another_number_is_no_message(path: Path, opened: Open) -> None:
    before = filled(opened)
    change(path, "UPDATE message SET number = 1000 WHERE number = 1")
    assert opened().file.page(_everything()) == (before[1:], True, (1000,), None)


def test_what_was_set_aside_is_kept_for_a_look_at_it(path: Path, opened: Open) -> None:
    filled(opened)
    change(path, "UPDATE message SET body = x'00112233445566' WHERE number = 9")
    outbox = opened()
    outbox.all()
    outbox.file.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT number, hex(body) FROM damaged").fetchall() == [(9, "00112233445566")]
    assert opened().recovered.queued == MESSAGES - 1


@pytest.mark.parametrize(("qos", "damaged"), [(1, 0), (2, 1)])
def test_where_the_progress_is_damaged_only_exactly_once_has_to_give_up(
    path: Path, opened: Open, qos: int, damaged: int
) -> None:
    filled(opened, qos=qos)
    outbox = opened()
    outbox.file.commit(Commit(progress=tuple(Progress(n, n + 100, Stage.PUBLISHED, 0) for n in (1, 2, 3))))
    outbox.file.close()
    change(path, "UPDATE progress SET stage = 2 WHERE number = 2")
    recovered = opened().recovered
    assert recovered.damaged == damaged
    assert [(each.number, each.identifier) for each in recovered.under_way if each.number != 2] == [(1, 101), (3, 103)]
    assert recovered.withheld == ((Withheld(102, 2),) if damaged else ()), "the broker may hold it all the same"
    assert recovered.queued + len(recovered.under_way) == MESSAGES - damaged


def test_a_damaged_message_that_was_under_way_leaves_its_identifier_to_the_session(path: Path, opened: Open) -> None:
    filled(opened, qos=2)
    outbox = opened()
    outbox.file.commit(Commit(progress=(Progress(2, 102, Stage.RELEASED, 0),)))
    outbox.file.close()
    change(path, "UPDATE message SET body = x'00' WHERE number IN (2, 5)")
    outbox = opened()
    assert (outbox.recovered.damaged, outbox.recovered.withheld) == (1, (Withheld(102, 2),))
    outbox.file.close()
    assert opened().recovered.withheld == (Withheld(102, 2),)


def test_an_identifier_that_is_withheld_stays_so_when_its_row_is_damaged(path: Path, opened: Open) -> None:
    outbox = opened()
    outbox.file.commit(Commit(withheld=(Withheld(7, 1), Withheld(8, 2))))
    outbox.file.close()
    change(path, "UPDATE withheld SET number = 5 WHERE identifier = 7")
    assert [each.identifier for each in opened().recovered.withheld] == [7, 8]


def test_damaged_sums_are_taken_anew(path: Path, opened: Open) -> None:
    filled(opened)
    change(path, "UPDATE tally SET messages = 7, last_number = 3")
    recovered = opened().recovered
    assert (recovered.queued, recovered.last_number, recovered.damaged) == (MESSAGES, MESSAGES, 0)


@pytest.mark.parametrize("altered", ["client_identifier = 'sensor-2'", "endpoint = 'mqtt://b:1883'", "shared = 1"])
def test_a_damaged_identity_is_none(path: Path, opened: Open, altered: str) -> None:
    filled(opened)
    change(path, f"UPDATE identity SET {altered}")
    recovered = opened().recovered
    assert (recovered.identity, recovered.copied) == (None, False)


@pytest.mark.parametrize("garbage", ["header", "first page", "all", "cut", "empty"])
def test_a_file_that_is_no_database_any_more_is_moved_aside(
    path: Path, opened: Open, garbage: str, caplog: Any
) -> None:
    before = filled(opened)
    data = path.read_bytes()
    damage = {
        "header": b"\xff" * 16 + data[16:],
        "first page": b"\0" * 4096 + data[4096:],
        "all": Random(1).randbytes(len(data)),
        "cut": data[: len(data) // 2],
        "empty": b"",
    }
    path.write_bytes(damage[garbage])
    outbox = opened()
    assert set(outbox.all()) <= set(before)
    outbox.put(2000)
    assert outbox.numbers()[-1] == 2000
    outbox.file.close()
    assert opened().numbers()[-1] == 2000
    if garbage != "empty":
        assert beside(path, ".damaged-1").read_bytes()[:16] == damage[garbage][:16]
        [told] = [each for each in caplog.records if each.getMessage().startswith("outbox was damaged")]
        assert told.levelno == logging.ERROR
        assert told.hawk["damaged_file"] == beside(path, ".damaged-1")


def test_one_bad_page_costs_what_is_on_it(path: Path, opened: Open) -> None:
    before = filled(opened)
    for record in (InboxRecord(7, "a key", handled=True), InboxRecord(9, "another", fingerprint=3)):
        change(path, "INSERT INTO inbound VALUES (?, ?, ?, ?, ?)", *inbound_row(record))
    change(path, "INSERT INTO withheld VALUES (?, ?, ?)", *withheld_row(Withheld(11, 5)))
    change(path, "INSERT INTO withheld VALUES (12, 6, 0)")
    change(path, "INSERT INTO progress VALUES (?, ?, ?, ?, ?)", *progress_row(200, 13, Stage.PUBLISHED, 0))
    data = bytearray(path.read_bytes())
    at = data.find(b"000200")
    page = at // 4096
    on_it = data[page * 4096 : (page + 1) * 4096].count(b"a/topic")
    assert 10 < on_it < 100
    data[page * 4096 : (page + 1) * 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    outbox = opened()
    assert set(outbox.all()) <= set(before)
    assert len(outbox.all()) == MESSAGES - on_it
    recovered = outbox.recovered
    assert (recovered.damaged, recovered.queued, recovered.last_number) == (on_it, MESSAGES - on_it, MESSAGES)
    assert recovered.identity == WHO
    assert recovered.withheld == (Withheld(11, 5), Withheld(13, 200)), (
        "what is proven, and what was under way and is lost"
    )
    outbox.file.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT identifier, key FROM inbound").fetchall() == [(7, "a key"), (9, "another")]


@pytest.mark.timeout(900)
def test_wherever_a_bit_flips_nothing_altered_comes_out_and_hawk_starts(
    path: Path, opened: Open, deep: bool, pytestconfig: pytest.Config
) -> None:
    """Of every flip: what comes out is what went in; what is missing is counted, when the file is opened or read."""
    before = filled(opened)
    sound = path.read_bytes()
    random = Random(pytestconfig.getoption("--seed") or 0)
    bitten, refusals = 0, list[tuple[int, str]]()
    for _ in range(3000 if deep else 60):
        data = bytearray(sound)
        offset = random.randrange(len(data))
        data[offset] ^= 1 << random.randrange(8)
        path.write_bytes(data)
        for each in path.parent.glob("outbox.db.damaged-*"):
            each.unlink()
        try:
            outbox = opened()
        except StoreFailed as refused:
            # The number of the format, in the header: it may be that of a newer hawk.
            refusals.append((offset, str(refused)))
            continue
        page = outbox.file.page(_everything())
        assert set(page.records) <= set(before), f"byte {offset}"
        assert list(page.records) == sorted(page.records, key=lambda each: each.number)
        lost = MESSAGES - len(page.records)
        assert lost == outbox.recovered.damaged + len(page.damaged), f"byte {offset}"
        bitten += bool(lost)
        outbox.put(MESSAGES + 1)
        outbox.file.close()
    assert all(60 <= offset < 64 and "newer hawk" in why for offset, why in refusals), refusals
    assert bitten, "no flip ever hit a message"


def test_a_rescue_that_was_cut_short_is_ended_by_the_next_start(path: Path, opened: Open) -> None:
    before = filled(opened)
    rescued = path.read_bytes()
    for step in ("before the log moved", "before the file moved", "before the new one came"):
        beside(path, ".rescued").write_bytes(rescued)
        if step != "before the new one came":
            path.write_bytes(b"\xff" * 8192)
        else:
            path.unlink()
        if step == "before the log moved":
            beside(path, "-wal").write_bytes(b"\xff" * 8192)
        assert opened_and_read(opened) == list(before), step
        assert not beside(path, ".rescued").exists()
    assert take_over(path) is None


# --------------------------------------------------------------------------------------- dead letters


def with_dead(opened: Open, *numbers: int) -> None:
    """A filled outbox, of whose messages these are dead letters."""
    filled(opened)
    outbox = opened()
    outbox.file.commit(Commit(dead=tuple(DeadLetter(number, "not authorized", 0x87, 1) for number in numbers)))
    outbox.file.close()


def page_of(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return int(page)


def test_where_the_dead_letters_are_something_else_the_messages_are_delivered(path: Path, opened: Open) -> None:
    """A write that went to the wrong page has put rows there that are none."""
    outbox = opened()
    outbox.put(*range(1, 21))
    before = outbox.all()
    outbox.file.close()
    data = bytearray(path.read_bytes())
    theirs, ours = ((page_of(path, table) - 1) * 4096 for table in ("message", "dead"))
    data[ours : ours + 4096] = data[theirs : theirs + 4096]
    path.write_bytes(data)
    again = opened()
    assert again.all() == before
    assert (again.recovered.damaged, again.recovered.dead) == (0, 0)
    again.put(21)


def test_dead_letters_that_a_rescue_cannot_keep_are_counted_and_set_aside(
    path: Path, opened: Open, caplog: Any
) -> None:
    with_dead(opened, 3, 5, 7)
    change(path, "UPDATE dead SET reason = 'not authorised' WHERE number = 3")
    change(path, "UPDATE dead SET body = x'00112233445566' WHERE number = 5")
    data = bytearray(path.read_bytes())
    boot = (page_of(path, "boot") - 1) * 4096
    data[boot : boot + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    recovered = opened().recovered
    assert (recovered.damaged, recovered.dead, recovered.queued) == (2, 1, MESSAGES - 3)
    [told] = [each for each in caplog.records if each.getMessage().startswith("outbox was damaged")]
    assert (told.hawk["lost"], told.hawk["dead_letters_lost"]) == (0, 2)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT number FROM damaged ORDER BY 1").fetchall() == [(3,), (5,)]


def test_a_dead_letter_of_a_hawk_without_checksums_is_believed(path: Path, opened: Open) -> None:
    with_dead(opened, 3)
    change(path, "UPDATE dead SET checksum = NULL")
    data = bytearray(path.read_bytes())
    boot = (page_of(path, "boot") - 1) * 4096
    data[boot : boot + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    assert opened().recovered.dead == 1


def opened_and_read(opened: Open) -> list[Any]:
    outbox = opened()
    records = list(outbox.all())
    outbox.file.close()
    return records


def _everything() -> Any:
    from hawk.messages import ReadPage

    return ReadPage(0, 1_000_000, 1 << 40)
