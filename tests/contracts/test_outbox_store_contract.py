"""What every `OutboxStore` promises. A store is added to `STORES` as a function that makes one in a directory.

The second call with the same directory is the next process, or the next hawk, that opens the same outbox.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from hawk.clock import SystemWallClock
from hawk.errors import OutboxInUse
from hawk.messages import (
    Commit,
    DeadLetter,
    Identity,
    LatestRecord,
    Page,
    Progress,
    ReadPage,
    Record,
    Recovered,
    Withheld,
)
from hawk.ports import OutboxStore
from hawk.stores.memory import MemoryStore
from hawk.stores.sqlite import SQLiteStore
from hawk.values import Message, Properties, Stage

pytestmark = pytest.mark.anyio

_disks: dict[Path, MemoryStore] = {}


def memory_store(directory: Path) -> OutboxStore:
    """The same object for the same directory: it is the disk."""
    return _disks.setdefault(directory, MemoryStore())


def sqlite_store(directory: Path) -> OutboxStore:
    """A file."""
    return SQLiteStore(directory / "outbox.db", wall_clock=SystemWallClock())


STORES: dict[str, Callable[[Path], OutboxStore]] = {"memory": memory_store, "sqlite": sqlite_store}

Reopen = Callable[[], OutboxStore]


@pytest.fixture(params=sorted(STORES))
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    make = STORES[request.param]
    return lambda: make(tmp_path)


def message(number: int, qos: int = 1, payload: bytes = b"xyz") -> Message:
    return Message(f"t/{number}", payload, qos, retain=number % 2 == 0)


def record(number: int, qos: int = 1) -> Record:
    return Record(number, message(number, qos))


EVERYTHING = ReadPage(0, 1000, 1_000_000)


async def test_a_new_one_is_empty(outbox: Reopen) -> None:
    store = outbox()
    assert store.durable
    assert await store.open() == Recovered()
    assert await store.page(EVERYTHING) == Page((), end=True)
    await store.aclose()
    await store.aclose()


async def test_what_is_committed_is_there_for_the_next_one_whole_and_in_order(outbox: Reopen) -> None:
    properties = Properties(None, True, "text/plain", "answers", b"\0\xff", (("a", "1"), ("a", "2")))
    records = (
        Record(1, Message("ä/b", b"", 2, properties=properties)),
        Record(2, Message("t", bytes(range(256)), 1, retain=True), refusals=2),
    )
    store = outbox()
    await store.open()
    await store.commit(Commit(insert=records, identity=Identity("sensor-1", session=True)))
    assert (await store.page(EVERYTHING)).records == records
    await store.aclose()
    again = outbox()
    recovered = await again.open()
    size_bytes = sum(each.message.size_bytes for each in records)
    assert recovered == Recovered(Identity("sensor-1", True), (), 2, size_bytes, last_number=2)
    assert await again.page(EVERYTHING) == Page(records, end=True)
    await again.aclose()


async def test_deleted_is_gone_and_a_number_is_never_given_twice(outbox: Reopen) -> None:
    store = outbox()
    await store.open()
    await store.commit(Commit(insert=(record(1), record(2), record(3))))
    await store.commit(Commit(delete=(1, 3, 99)))
    assert [each.number for each in (await store.page(EVERYTHING)).records] == [2]
    await store.aclose()
    again = outbox()
    recovered = await again.open()
    assert (recovered.queued, recovered.last_number) == (1, 3)
    await again.aclose()


async def test_what_comes_and_goes_in_one_commit_leaves_nothing(outbox: Reopen) -> None:
    store = outbox()
    await store.open()
    await store.commit(Commit(insert=(record(1),), delete=(1,)))
    assert await store.page(EVERYTHING) == Page((), end=True)
    await store.aclose()


async def test_under_way_is_everything_up_to_the_last_identifier(outbox: Reopen) -> None:
    store = outbox()
    await store.open()
    await store.commit(Commit(insert=tuple(record(number, 2) for number in range(1, 7))))
    await store.commit(
        Commit(
            progress=(
                Progress(2, 17, Stage.PUBLISHED, 0),
                Progress(4, 65_023, Stage.RELEASED, 1),
                Progress(9, 5, Stage.PUBLISHED, 0),
            )
        )
    )
    assert [each.number for each in (await store.page(EVERYTHING)).records] == [1, 3, 5, 6], "only what waits is paged"
    await store.aclose()
    again = outbox()
    recovered = await again.open()
    assert [(each.number, each.identifier, each.stage, each.refusals) for each in recovered.under_way] == [
        (1, 0, Stage.QUEUED, 0),
        (2, 17, Stage.PUBLISHED, 0),
        (3, 0, Stage.QUEUED, 0),
        (4, 65_023, Stage.RELEASED, 1),
    ]
    assert recovered.queued == 2
    await again.commit(Commit(progress=(Progress(4, 0, Stage.QUEUED, 2),)))
    assert [each.number for each in (await again.page(EVERYTHING)).records] == [1, 3, 4, 5, 6]
    await again.aclose()


async def test_pages_by_count_and_by_bytes_end_with_the_last(outbox: Reopen) -> None:
    store = outbox()
    await store.open()
    await store.commit(Commit(insert=tuple(Record(n, Message("t", b"x" * 99)) for n in range(1, 11))))
    first = await store.page(ReadPage(0, 4, 10_000))
    assert ([each.number for each in first.records], first.end) == ([1, 2, 3, 4], False)
    second = await store.page(ReadPage(4, 100, 350))
    assert ([each.number for each in second.records], second.end) == ([5, 6, 7], False)
    assert [each.number for each in (await store.page(ReadPage(7, 100, 1))).records] == [8], "one at least"
    last = await store.page(ReadPage(8, 2, 10_000))
    assert ([each.number for each in last.records], last.end) == ([9, 10], True)
    assert await store.page(ReadPage(10, 2, 10_000)) == Page((), end=True)
    await store.aclose()


async def test_a_dead_letter_waits_no_more(outbox: Reopen) -> None:
    store = outbox()
    await store.open()
    await store.commit(Commit(insert=(record(1), record(2))))
    letters = (DeadLetter(1, "not authorized", 0x87, 1), DeadLetter(3, "too large", 0x95, 0))
    await store.commit(Commit(insert=(record(3, qos=0),), dead=letters))
    assert [each.number for each in (await store.page(EVERYTHING)).records] == [2]
    await store.commit(Commit(dead=(DeadLetter(77, "never kept", 0x80, 1),)))
    await store.aclose()
    again = outbox()
    recovered = await again.open()
    assert (recovered.queued, recovered.dead, recovered.last_number) == (1, 2, 3)
    await again.aclose()


async def test_expiry_counts_on_and_is_told(outbox: Reopen) -> None:
    store = outbox()
    await store.open()
    soon = Message("t", b"soon", properties=Properties(expiry_s=0.01))
    late = Message("t", b"late", properties=Properties(expiry_s=1000.0))
    await store.commit(
        Commit(insert=(record(1), Record(2, late, remaining_s=1000.0), Record(3, soon, remaining_s=-1.0)))
    )
    page = await store.page(EVERYTHING)
    remaining = [each.remaining_s for each in page.records]
    assert remaining[0] is None
    assert remaining[1] is not None
    assert 900 < remaining[1] <= 1000
    assert remaining[2] is not None
    assert remaining[2] <= -1
    assert [each.message.properties.expiry_s for each in page.records] == [None, 1000.0, 0.01]
    assert page.next_expiry_s is None
    over = await store.page(ReadPage(0, 10, 1000, expired=True))
    assert ([each.number for each in over.records], over.end) == ([3], True)
    assert over.next_expiry_s is not None
    assert 900 < over.next_expiry_s <= 1000
    await store.commit(Commit(delete=(3,)))
    assert (await store.page(ReadPage(2, 10, 1000, expired=True))).next_expiry_s is None
    await store.aclose()
    again = outbox()
    recovered = await again.open()
    assert recovered.next_expiry_s is not None
    assert 900 < recovered.next_expiry_s <= 1000
    await again.aclose()


async def test_what_may_have_been_sent_is_told_though_its_time_is_over(outbox: Reopen) -> None:
    """Its session may live, and with it the promise to send it again (MQTT-4.3.3-7)."""
    store = outbox()
    await store.open()
    late = Message("t", b"late", 2, properties=Properties(expiry_s=0.01))
    await store.commit(Commit(insert=(Record(1, late, remaining_s=-1.0),)))
    await store.commit(Commit(progress=(Progress(1, 7, Stage.PUBLISHED, 0),)))
    assert (await store.page(ReadPage(0, 10, 1000, expired=True))).records == ()
    await store.aclose()
    again = outbox()
    (recovered,) = (await again.open()).under_way
    assert (recovered.identifier, recovered.stage) == (7, Stage.PUBLISHED)
    assert recovered.remaining_s is not None
    assert recovered.remaining_s <= -1
    await again.aclose()


async def test_what_a_newer_message_would_replace_is_known_at_once(outbox: Reopen) -> None:
    store = outbox()
    await store.open()
    await store.commit(
        Commit(insert=(record(1), record(2)._replace(latest="t/#"), record(3, 2)._replace(latest="t/#")))
    )
    await store.commit(Commit(progress=(Progress(2, 1, Stage.PUBLISHED, 0),)))
    assert [each.latest for each in (await store.page(EVERYTHING)).records] == ["", "t/#"]
    await store.aclose()
    again = outbox()
    recovered = await again.open()
    assert recovered.latest == (LatestRecord("t/3", 3, 6, 2),)
    assert [each.latest for each in recovered.under_way] == ["", "t/#"]
    await again.aclose()


async def test_what_is_withheld_stays_until_it_is_released(outbox: Reopen) -> None:
    store = outbox()
    await store.open()
    await store.commit(Commit(insert=(record(1, 2), record(2, 2))))
    await store.commit(Commit(progress=(Progress(1, 7, Stage.PUBLISHED, 0), Progress(2, 8, Stage.PUBLISHED, 0))))
    letters = tuple(DeadLetter(number, "set aside", 0x80, 0) for number in (1, 2))
    await store.commit(Commit(dead=letters, withheld=(Withheld(7, 1), Withheld(8, 2), Withheld(300, -1))))
    await store.commit(Commit(withheld=(Withheld(300, -2),), released=(8, 9)))
    await store.commit(Commit(withheld=(Withheld(11, 3),), released=(11,)))
    await store.aclose()
    again = outbox()
    recovered = await again.open()
    assert recovered.withheld == (Withheld(7, 1), Withheld(300, -2))
    assert (recovered.under_way, recovered.queued, recovered.dead) == ((), 0, 2)
    await again.aclose()


async def test_the_identity_stays_until_another_is_written(outbox: Reopen) -> None:
    store = outbox()
    await store.open()
    await store.commit(Commit(identity=Identity("hawk-1", session=False)))
    await store.commit(Commit(insert=(record(1),)))
    await store.commit(Commit(identity=Identity("hawk-1", session=True)))
    await store.aclose()
    again = outbox()
    assert (await again.open()).identity == Identity("hawk-1", session=True)
    for known in (("mqtt://a:1883", True), ("mqtt://b:1883", False), ("", False), ("", True)):
        identity = Identity("hawk-1", True, *known)
        await again.commit(Commit(identity=identity))
        await again.aclose()
        again = outbox()
        assert (await again.open()).identity == identity
    await again.aclose()


async def test_one_hawk_at_a_time(outbox: Reopen) -> None:
    store = outbox()
    await store.open()
    with pytest.raises(OutboxInUse):
        await outbox().open()
    await store.aclose()
    again = outbox()
    await again.open()
    await again.aclose()
