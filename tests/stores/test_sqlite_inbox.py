"""The inbox in the outbox file: what was committed is there after a crash, and a damaged row is not believed."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest

from hawk.clock import SystemWallClock
from hawk.errors import StoreFailed
from hawk.messages import InboxCommit, InboxRecord, InboxRecovered
from hawk.stores import schema
from hawk.stores.memory_inbox import MemoryInboxStore
from hawk.stores.rows import checksum_of
from hawk.stores.sqlite import SQLiteStore
from hawk.stores.sqlite_inbox import SQLiteInboxStore

pytestmark = pytest.mark.anyio

COMMITS = [
    InboxCommit(insert=(InboxRecord(1, "k1"), InboxRecord(2, "k2")), join=("a/#", "b")),
    InboxCommit(insert=(InboxRecord(1, "k1", handled=True),), delete=(2,), leave=("b",), join=("c",)),
    InboxCommit(delete=(1,), insert=(InboxRecord(1, "k9", fingerprint=2**32 - 1), InboxRecord(3, "k3"))),
    InboxCommit(forget=True, insert=(InboxRecord(7, "k7"),), leave=("a/#",), join=("a/#",)),
]


async def opened(path: Path) -> tuple[SQLiteStore, SQLiteInboxStore, InboxRecovered]:
    outbox = SQLiteStore(path, wall_clock=SystemWallClock())
    inbox = SQLiteInboxStore(path)
    await outbox.open()
    return outbox, inbox, await inbox.open()


async def test_it_keeps_what_the_one_in_memory_keeps(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    model = MemoryInboxStore()
    await model.open()
    for commit in COMMITS:
        outbox, inbox, recovered = await opened(path)
        assert sorted(recovered.records) == sorted(model.kept.records)
        assert recovered.filters == model.kept.filters
        await model.commit(commit)
        await inbox.commit(commit)
        # Written twice, as after a failure of which nobody knows how far it went, it is the same.
        await inbox.commit(commit)
        await inbox.aclose()
        await outbox.aclose()


@pytest.mark.parametrize("damage", ["handled = 1", "handled = 2", "fingerprint = 1", "key = 'k1'"])
async def test_a_row_that_was_altered_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "outbox.db"
    outbox, inbox, _ = await opened(path)
    await inbox.commit(COMMITS[0])
    await inbox.aclose()
    await outbox.aclose()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE inbound SET {damage} WHERE identifier = 2")
    outbox, inbox, recovered = await opened(path)
    await inbox.aclose()
    await outbox.aclose()
    assert [record.identifier for record in recovered.records] == [1]
    assert "inbox damaged" in caplog.text


async def test_what_a_hawk_without_fingerprints_kept_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.prepare(connection, steps=schema.STEPS[:3])
        connection.execute("INSERT INTO inbound VALUES (1, 'k1', 1, ?)", (checksum_of(1, "k1", 1),))
    outbox, inbox, recovered = await opened(path)
    await inbox.aclose()
    await outbox.aclose()
    assert recovered.records == (InboxRecord(1, "k1", handled=True),)


async def test_without_the_outbox_file_there_is_no_inbox(tmp_path: Path) -> None:
    inbox = SQLiteInboxStore(tmp_path / "missing.db")
    with pytest.raises(StoreFailed, match=r"missing\.db"):
        await inbox.open()
    with pytest.raises(StoreFailed, match="not open"):
        await inbox.commit(COMMITS[0])
    await inbox.aclose()


def last_words(program: str, path: Path) -> int:
    """The last number that the child said before it was killed."""
    with subprocess.Popen([sys.executable, "-c", dedent(program), path], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = 0
        while said < 20:
            said = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        return max([said, *map(int, child.stdout.read().split())])


async def test_what_is_committed_is_there_after_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    program = """
        import sys
        import anyio
        from hawk.clock import SystemWallClock
        from hawk.messages import InboxCommit, InboxRecord
        from hawk.stores.sqlite import SQLiteStore
        from hawk.stores.sqlite_inbox import SQLiteInboxStore

        async def main():
            outbox, inbox = SQLiteStore(sys.argv[1], wall_clock=SystemWallClock()), SQLiteInboxStore(sys.argv[1])
            await outbox.open()
            await inbox.open()
            for number in range(1, 10_000):
                await inbox.commit(InboxCommit(insert=(InboxRecord(number, str(number)),)))
                print(number, flush=True)

        anyio.run(main)
    """
    said = last_words(program, path)
    outbox, inbox, recovered = await opened(path)
    await inbox.aclose()
    await outbox.aclose()
    assert len(recovered.records) in (said, said + 1)
