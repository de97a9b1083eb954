"""The SQLite store in an event loop: its thread ends with it, a cancelled call is whole, and a thread that hangs is named."""

import threading
from pathlib import Path

import anyio
import pytest

from hawk import Config, OutboxUnavailable, open_mqtt
from hawk.clock import SystemWallClock
from hawk.errors import StoreFailed
from hawk.messages import Commit, Page, ReadPage, Record, Recovered
from hawk.stores.sqlite import SQLiteStore
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, run
from hawk.values import Message


def store_at(path: Path) -> SQLiteStore:
    return SQLiteStore(path, wall_clock=SystemWallClock())


def outbox_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("hawk outbox")]


@pytest.mark.anyio
async def test_the_thread_ends_with_the_store_and_with_an_opening_that_failed(path: Path, tmp_path: Path) -> None:
    store = store_at(path)
    await store.open()
    assert outbox_threads() == ["hawk outbox outbox.db"]
    await store.aclose()
    assert outbox_threads() == []
    assert store.lingering_thread is None
    with pytest.raises(StoreFailed):
        await store_at(tmp_path / "nowhere" / "outbox.db").open()
    assert outbox_threads() == []
    with pytest.raises(StoreFailed, match="not open"):
        await store.page(ReadPage(0, 1, 1))


@pytest.mark.anyio
async def test_a_cancelled_commit_is_there_or_not_and_never_half(path: Path) -> None:
    store = store_at(path)
    await store.open()
    for turn in range(40):
        first = turn * 50 + 1
        batch = tuple(Record(number, Message("t", b"x" * 500)) for number in range(first, first + 50))
        with anyio.move_on_after(turn * 0.0001):
            await store.commit(Commit(insert=batch))
        there = [each.number for each in (await store.page(ReadPage(first - 1, 100, 1 << 30))).records]
        assert there in ([], list(range(first, first + 50)))
    await store.aclose()


@pytest.mark.anyio
async def test_an_application_leaves_no_thread_and_is_told_why_a_file_cannot_be_opened(tmp_path: Path) -> None:
    async with open_mqtt("mqtt://127.0.0.1:1", outbox=tmp_path / "outbox.db", drain_s=0.0) as mqtt:
        await mqtt.publish("t", "kept")
        report = await mqtt.disconnect()
    assert (report.kept, report.abandoned, report.lingering) == (1, 0, None)
    assert outbox_threads() == []
    with pytest.raises(OutboxUnavailable, match="nowhere does not exist"):
        async with open_mqtt("mqtt://127.0.0.1:1", outbox=tmp_path / "nowhere" / "outbox.db"):
            pass


class DeadDisk:
    """A store whose thread never comes back."""

    durable = True
    lingering_thread = "hawk outbox dead.db"

    async def open(self) -> Recovered:
        return Recovered()

    async def commit(self, changes: Commit) -> None:
        await anyio.sleep_forever()

    async def page(self, request: ReadPage) -> Page:
        return Page((), end=True)

    async def aclose(self) -> None:
        await anyio.sleep_forever()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_report_names_the_thread_that_a_dead_disk_holds(backend: Backend) -> None:
    async def stop() -> str | None:
        async with Rehearsal() as rehearsal:
            config = Config(drain_s=0.5)
            async with rehearsal.open_mqtt(config, ports=rehearsal.ports(config, outbox_store=DeadDisk())) as mqtt:
                await mqtt.connect()
                return (await mqtt.disconnect()).lingering

    assert run(stop, backend=backend) == "hawk outbox dead.db"
