"""`hawk outbox`: reading while a hawk has the file, changing while nobody has it, and telling the truth about damage."""

import base64
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hawk.clock import SystemWallClock
from hawk.messages import Commit, DeadLetter, Identity, Progress, Record, Withheld
from hawk.stores.machine import Machine
from hawk.stores.outbox_file import OutboxFile
from hawk.values import Message, Properties, Stage

Outbox = Callable[..., tuple[int, list[Any], str]]


@pytest.fixture
def file(tmp_path: Path) -> OutboxFile:
    """An open outbox: four messages, of which one is under way, and two dead letters."""
    path = tmp_path / "out box.db"
    file = OutboxFile(path, durability="power", machine=Machine(SystemWallClock()))
    file.open()
    properties = Properties(expiry_s=1000.0, content_type="text/plain", correlation_data=b"\1\2")
    records = [Record(number, Message(f"t/{number}", b"payload %d" % number, 1)) for number in range(1, 6)]
    records += [Record(6, Message("t/6", b"\xff\0", 2, properties=properties), remaining_s=1000.0)]
    file.commit(
        Commit(
            insert=tuple(records),
            progress=(Progress(6, 99, Stage.PUBLISHED, 1),),
            dead=(DeadLetter(2, "not authorized", 0x87, 1), DeadLetter(4, "too large", 0x95, 0)),
            identity=Identity("sensor-1", session=True),
        )
    )
    return file


@pytest.fixture
def outbox(file: OutboxFile, here: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> Outbox:
    """`outbox("ls", ...)` on that file: the exit code, the objects of `--json`, and what stands on stderr."""

    def run(command: str, *arguments: str) -> tuple[int, list[Any], str]:
        capfd.readouterr()
        code = here("outbox", command, str(file.path), *arguments, "--json")
        told = capfd.readouterr()
        assert "Traceback" not in told.err
        return code, [json.loads(line) for line in told.out.splitlines()], told.err

    return run


def test_ls_lists_what_waits_while_hawk_runs(file: OutboxFile, outbox: Outbox) -> None:
    code, rows, _ = outbox("ls")
    assert code == 0
    assert [row["number"] for row in rows] == [1, 3, 5, 6]
    first = {"number": 1, "topic": "t/1", "qos": 1, "retain": False, "payload_bytes": 9}
    assert rows[0] == first | {"stage": "queued", "identifier": 0, "refusals": 0}
    assert (rows[3]["stage"], rows[3]["identifier"], rows[3]["refusals"]) == ("published", 99, 1)
    assert 900 < rows[3]["expires_in_s"] <= 1000
    assert [row["number"] for row in outbox("ls", "-n", "2")[1]] == [1, 3]
    file.commit(Commit(delete=(1,)))
    assert [row["number"] for row in outbox("ls")[1]] == [3, 5, 6]


def test_ls_for_people_shows_no_payload(file: OutboxFile, here: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert here("outbox", "ls", str(file.path)) == 0
    out = capfd.readouterr().out
    assert out.splitlines()[0] == "1 t/1 qos=1 payload_bytes=9 stage=queued"
    assert out.splitlines()[-1] == "4 messages, 53 bytes, 2 dead letters, of sensor-1"
    assert "payload 1" not in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("ls", "-n", "-1"), "-n"),
        (("show", "99999999999999999999999"), "NUMBER"),
        (("show", "0"), "NUMBER"),
        (("show", "9223372036854775808"), "NUMBER"),
        (("purge", "--dead", "99999999999999999999999"), "NUMBERS"),
        (("replay", "0"), "NUMBERS"),
    ],
)
def test_a_number_that_none_can_have_is_a_wrong_command(outbox: Outbox, arguments: tuple[str, ...], named: str) -> None:
    code, rows, told = outbox(*arguments)
    assert (code, rows) == (2, [])
    assert named in told


def test_the_greatest_number_is_one_like_any_other(outbox: Outbox) -> None:
    code, _, told = outbox("show", "9223372036854775807")
    assert code == 1
    assert "there is no message 9223372036854775807" in told
    assert outbox("ls", "-n", "0")[:2] == (0, [])


def test_ls_goes_through_more_than_one_page(file: OutboxFile, outbox: Outbox) -> None:
    file.commit(Commit(insert=tuple(Record(number, Message("t", b"")) for number in range(7, 1300))))
    assert [row["number"] for row in outbox("ls")[1]] == [1, 3, 5, *range(6, 1300)]


def test_dead_letters_are_listed_with_their_reasons(outbox: Outbox) -> None:
    code, rows, _ = outbox("ls", "--dead")
    assert code == 0
    assert [(row["number"], row["reason"], row["reason_code"], row["attempts"]) for row in rows] == [
        (2, "not authorized", 0x87, 1),
        (4, "too large", 0x95, 0),
    ]


def test_show_and_export_give_the_payload_and_all_that_was_with_it(outbox: Outbox) -> None:
    [shown] = outbox("show", "6")[1]
    assert base64.b64decode(shown["payload_base64"]) == b"\xff\0"
    assert shown["properties"] == {"expiry_s": 1000.0, "content_type": "text/plain", "correlation_data": "0102"}
    assert outbox("export")[1][-1]["payload_base64"] == shown["payload_base64"]
    assert [each["number"] for each in outbox("export")[1]] == [1, 3, 5, 6]
    [letter] = outbox("show", "2")[1]
    assert base64.b64decode(letter["payload_base64"]) == b"payload 2"
    assert [each["number"] for each in outbox("export", "--dead")[1]] == [2, 4]
    code, _, why = outbox("show", "77")
    assert (code, "there is no message 77" in why) == (1, True)


@pytest.mark.parametrize(
    "command", [["replay", "--all"], ["purge", "--dead", "--all"], ["purge", "--waiting", "1"], ["vacuum"]]
)
def test_what_changes_the_file_says_who_has_it(file: OutboxFile, outbox: Outbox, command: list[str]) -> None:
    code, _, why = outbox(*command)
    assert code == 1
    assert f"is in use by process {os.getpid()} on" in why
    file.close()
    assert outbox(*command)[0] == 0


def test_replayed_dead_letters_wait_behind_the_others_with_their_whole_time(file: OutboxFile, outbox: Outbox) -> None:
    file.commit(Commit(dead=(DeadLetter(6, "quota exceeded", 0x97, 4),)))
    file.close()
    assert outbox("replay", "77")[0] == 1
    assert outbox("replay")[0] == 2
    assert outbox("replay", "6", "2")[1] == [{"replayed": 2, "numbers": [2, 6]}]
    rows = outbox("ls")[1]
    assert [(row["number"], row["topic"]) for row in rows] == [
        (1, "t/1"),
        (3, "t/3"),
        (5, "t/5"),
        (7, "t/2"),
        (8, "t/6"),
    ]
    assert 900 < rows[-1]["expires_in_s"] <= 1000
    assert outbox("check")[1] == [{"messages": 5, "dead": 1, "set_aside": 0, "problems": []}]
    recovered = file.open()
    assert (recovered.queued, recovered.dead, recovered.last_number) == (5, 1, 8)
    file.close()


def test_purge_deletes_what_it_was_told_to_and_nothing_else(file: OutboxFile, outbox: Outbox) -> None:
    file.close()
    for wrong in ([], ["--dead"], ["--dead", "--waiting", "--all"], ["--damaged", "3"], ["--dead", "2", "--all"]):
        assert outbox("purge", *wrong)[0] == 2, wrong
    assert outbox("purge", "--dead", "2")[1] == [{"purged": 1, "numbers": [2]}]
    assert outbox("purge", "--waiting", "3", "5")[1] == [{"purged": 2, "numbers": [3, 5]}]
    assert outbox("check")[1] == [{"messages": 2, "dead": 1, "set_aside": 0, "problems": []}]
    assert outbox("purge", "--waiting", "--all")[0] == 0
    assert outbox("ls")[1] == []
    assert [row["number"] for row in outbox("ls", "--dead")[1]] == [4]
    assert file.open().withheld == (Withheld(99, 6),), "that one was sent, and the broker may hold it"
    file.close()
    outbox("purge", "--dead", "--all")
    assert file.open().withheld == (Withheld(99, 6),)
    file.close()


def test_check_finds_a_flipped_bit_and_what_is_set_aside_can_be_listed_and_purged(
    file: OutboxFile, outbox: Outbox
) -> None:
    assert outbox("check")[:2] == (0, [{"messages": 4, "dead": 2, "set_aside": 0, "problems": []}])
    file.close()
    with closing(sqlite3.connect(file.path)) as connection, connection:
        connection.execute("UPDATE message SET body = x'00' WHERE number = 3")
    code, [findings], _ = outbox("check")
    assert code == 1
    assert findings["problems"] == ["message 3: does not match its checksum"]
    assert outbox("ls")[1][1] == {"number": 3, "damaged": True}
    assert [file.open().damaged, file.close(), file.open().damaged, file.close()] == [1, None, 0, None]
    [row] = outbox("ls", "--damaged")[1]
    assert (row["number"], row["body_bytes"]) == (3, 1)
    assert outbox("check")[1] == [{"messages": 3, "dead": 2, "set_aside": 1, "problems": []}]
    assert outbox("purge", "--damaged", "--all")[1] == [{"purged": 1}]
    assert outbox("ls", "--damaged")[1] == []


def test_vacuum_gives_room_back_and_leaves_a_file_that_hawk_opens(file: OutboxFile, outbox: Outbox) -> None:
    file.commit(Commit(insert=tuple(Record(number, Message("t", b"x" * 4000)) for number in range(7, 200))))
    file.commit(Commit(delete=tuple(range(7, 200))))
    file.close()
    code, [sizes], _ = outbox("vacuum")
    assert code == 0
    assert sizes["bytes_after"] < sizes["bytes_before"] / 5
    assert file.open().damaged == 0
    file.close()


DAMAGE = [
    "died_at = 1e300",
    "died_at = 'never'",
    "died_at = -1e18",
    "reason = x'00ff'",
    "reason = 'not authorised'",
    "reason_code = 'x'",
    "attempts = 1.5",
    "attempts = 9223372036854775807",
    "checksum = 'x'",
]
IMPLAUSIBLE = [*DAMAGE[:4], "reason_code = 'x'", "attempts = 1.5"]


@pytest.mark.parametrize(
    "damage", [*DAMAGE, *(f"checksum = NULL, {each}" for each in IMPLAUSIBLE), "body = 'x'", "body = 7"]
)
def test_a_damaged_dead_letter_is_shown_as_that(file: OutboxFile, outbox: Outbox, damage: str) -> None:
    file.close()
    with closing(sqlite3.connect(file.path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE dead SET {damage} WHERE number = 2")
    for command in ("ls", "export"):
        code, rows, _ = outbox(command, "--dead")
        assert (code, [row["number"] for row in rows], rows[0]["damaged"]) == (0, [2, 4], True)
        assert "damaged" not in rows[1]
    assert outbox("show", "2")[0] == 0
    code, [found], _ = outbox("check")
    assert (code, found["problems"]) == (1, ["dead letter 2: does not match its checksum"])


def test_a_row_set_aside_that_is_damaged_itself_is_shown(file: OutboxFile, outbox: Outbox) -> None:
    file.close()
    with closing(sqlite3.connect(file.path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO damaged (number, found_at, body) VALUES (x'00', 1e300, 7)")
    assert outbox("ls", "--damaged")[:2] == (0, [{"number": None, "found_at": None, "body_bytes": 1}])


def test_a_file_that_is_no_outbox_is_told(tmp_path: Path, here: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert here("outbox", "ls", str(tmp_path / "nowhere.db")) == 1
    assert "there is no such file" in capfd.readouterr().err
    notes = tmp_path / "notes.txt"
    notes.write_text("my notes\n" * 100)
    for command, words in (("ls", "not a database"), ("check", "not a database"), ("vacuum", "is no outbox")):
        assert here("outbox", command, str(notes)) == 1
        assert words in capfd.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]
    assert notes.read_text() == "my notes\n" * 100


@pytest.mark.anyio
async def test_what_pub_could_not_deliver_waits_in_its_outbox_for_the_next_pub(
    tmp_path: Path, broker: Any, run: Callable[..., Awaitable[Any]]
) -> None:
    port = str(await broker.listen())
    await broker.stop()
    outbox = ["--outbox", str(tmp_path / "pub.db")]
    first = await run("pub", "-p", port, "-t", "a", "-m", "1", "-W", "0.3", *outbox)
    assert first.code == 3
    assert f"1 kept in {outbox[1]}" in first.err
    await broker.restart()
    second = await run("pub", "-p", port, "-t", "a", "-m", "2", "--json", *outbox)
    assert second.code == 0
    assert json.loads(second.out)["acknowledged"] == 1
    assert [payload for _, payload in broker.received()] == [b"1", b"2"]
