"""The store task: one commit at a time, each answered once, a failure as a message and a bug as an exception."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.actors.store_task import StoreTask
from hawk.messages import (
    Commit,
    CommitFailed,
    Committed,
    Page,
    PageFailed,
    ReadPage,
    Record,
    ToQueueKeeper,
    ToStoreTask,
)
from hawk.stores.memory import MemoryStore
from hawk.values import Message


@dataclass
class Running:
    store: MemoryStore
    commits: MemoryObjectSendStream[ToStoreTask]
    answers: MemoryObjectReceiveStream[ToQueueKeeper]


def commit(number: int) -> Commit:
    return Commit((Record(number, Message("a", b"1")),), ())


@pytest.fixture
async def running(anyio_backend: str) -> AsyncIterator[Running]:
    store = MemoryStore()
    await store.open()
    commits, inbox = anyio.create_memory_object_stream[ToStoreTask](2)
    to_queue_keeper, answers = anyio.create_memory_object_stream[ToQueueKeeper](8)
    with commits, inbox, to_queue_keeper, answers:
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(StoreTask(store, inbox=inbox, to_queue_keeper=to_queue_keeper).run)
            yield Running(store, commits, answers)
            nursery.cancel_scope.cancel()


@pytest.mark.anyio
async def test_what_it_says_is_committed_is_in_the_store(running: Running) -> None:
    with anyio.fail_after(2):
        await running.commits.send(commit(1))
        assert await running.answers.receive() == Committed()
        assert [record.number for record in running.store.records] == [1]


@pytest.mark.anyio
async def test_a_stalled_commit_is_answered_when_it_is_done_and_the_next_waits_for_it(running: Running) -> None:
    running.store.stall()
    with anyio.fail_after(2):
        await running.commits.send(commit(1))
        await running.commits.send(commit(2))
        with anyio.move_on_after(0.02) as waited:
            await running.answers.receive()
        assert waited.cancelled_caught
        assert running.store.unsynced == 1
        running.store.flow()
        assert [await running.answers.receive(), await running.answers.receive()] == [Committed(), Committed()]


@pytest.mark.anyio
async def test_a_failure_is_told_with_its_words_and_the_next_commit_is_tried(running: Running) -> None:
    with anyio.fail_after(2):
        running.store.fail("no space left on device")
        await running.commits.send(commit(1))
        assert await running.answers.receive() == CommitFailed("no space left on device")
        running.store.fail("")
        await running.commits.send(commit(2))
        assert await running.answers.receive() == Committed()
        assert [record.number for record in running.store.records] == [2]


@pytest.mark.anyio
async def test_a_commit_that_lost_its_power_is_told_as_failed(running: Running) -> None:
    """Whoever asked for it must not believe that it is kept."""
    with anyio.fail_after(2):
        running.store.stall()
        await running.commits.send(commit(1))
        while not running.store.unsynced:
            await anyio.sleep(0.001)
        lost = running.store.crash(_Unlucky())
        running.store.flow()
        assert lost == 1
        assert await running.answers.receive() == CommitFailed("the power was lost")
        assert running.store.records == ()


@pytest.mark.anyio
async def test_a_reading_is_answered_with_what_the_commits_before_it_left(running: Running) -> None:
    with anyio.fail_after(2):
        await running.commits.send(commit(1))
        await running.commits.send(ReadPage(0, 10, 1000))
        assert await running.answers.receive() == Committed()
        assert await running.answers.receive() == Page((Record(1, Message("a", b"1")),), end=True)
        running.store.fail("a bad sector")
        await running.commits.send(ReadPage(0, 10, 1000))
        assert await running.answers.receive() == PageFailed("a bad sector")


class _Unlucky(Random):
    """Draws the least."""

    def randint(self, least: int, most: int) -> int:
        return least
