"""A memory stream pair carries bytes as a connected pair of sockets does."""

import anyio
import pytest

from hawk.testing.memory_stream import memory_stream_pair

pytestmark = pytest.mark.anyio


async def test_one_read_returns_everything_that_arrived() -> None:
    here, there = memory_stream_pair()
    for part in (b"a", b"bc", b"", b"def"):
        await here.send(part)
    assert there.unread_bytes == 6
    assert await there.receive(4) == b"abcd"
    assert await there.receive() == b"ef"


async def test_both_directions_are_independent() -> None:
    here, there = memory_stream_pair()
    await here.send(b"question")
    await there.send(b"answer")
    assert (await there.receive(), await here.receive()) == (b"question", b"answer")


async def test_a_reader_waits_for_the_first_byte() -> None:
    here, there = memory_stream_pair()
    heard: list[bytes] = []

    async def read() -> None:
        heard.append(await there.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        assert not heard
        await here.send(b"x")
    assert heard == [b"x"]


async def test_a_full_buffer_holds_the_sender_until_it_is_read() -> None:
    here, there = memory_stream_pair(capacity_bytes=10)
    sent = anyio.Event()

    async def send() -> None:
        await here.send(bytes(range(25)))
        sent.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        heard = b""
        while len(heard) < 25:
            await anyio.wait_all_tasks_blocked()
            assert there.unread_bytes <= 10
            assert not sent.is_set() or there.unread_bytes + len(heard) == 25
            heard += await there.receive()
    assert heard == bytes(range(25))


async def test_a_cancelled_receive_loses_nothing() -> None:
    here, there = memory_stream_pair()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await there.receive()
    await here.send(b"kept")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await there.receive()
    assert await there.receive() == b"kept"


async def test_a_cancelled_send_that_would_fit_sends_nothing() -> None:
    here, there = memory_stream_pair()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await here.send(b"lost")
    assert there.unread_bytes == 0


async def test_a_send_cancelled_while_waiting_keeps_what_was_accepted() -> None:
    here, there = memory_stream_pair(capacity_bytes=4)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.send, b"0123456789")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert await there.receive() == b"0123"
    await here.send(b"next")
    assert await there.receive() == b"next"


async def test_after_a_close_the_peer_reads_the_rest_and_then_the_end() -> None:
    here, there = memory_stream_pair()
    await here.send(b"last words")
    await here.aclose()
    await here.aclose()
    with pytest.raises(anyio.BrokenResourceError):
        await there.send(b"x")
    assert await there.receive() == b"last words"
    for _ in range(2):
        with pytest.raises(anyio.EndOfStream):
            await there.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await here.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await here.send(b"x")


async def test_half_close_ends_one_direction_only() -> None:
    here, there = memory_stream_pair()
    await here.send_eof()
    await here.send_eof()
    with pytest.raises(anyio.EndOfStream):
        await there.receive()
    await there.send(b"answer")
    assert await here.receive() == b"answer"
    with pytest.raises(anyio.ClosedResourceError):
        await here.send(b"x")


async def test_a_reset_breaks_both_ends_at_once_and_discards_what_was_unread() -> None:
    here, there = memory_stream_pair()
    await here.send(b"never read")
    await there.send(b"never read")
    here.reset()
    for end in (here, there):
        with pytest.raises(anyio.BrokenResourceError):
            await end.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await end.send(b"x")
    await there.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await there.receive()


@pytest.mark.parametrize("ending", ["reset", "close"])
async def test_an_ending_wakes_a_blocked_reader_and_a_blocked_sender(ending: str) -> None:
    here, there = memory_stream_pair(capacity_bytes=1)
    ends: list[type[BaseException]] = []

    async def read() -> None:
        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)) as caught:
            await there.receive()
        ends.append(caught.type)

    async def write() -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await there.send(b"too much")
        ends.append(anyio.BrokenResourceError)

    with anyio.fail_after(1):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(write)
            await anyio.wait_all_tasks_blocked()
            here.reset() if ending == "reset" else here.close()
    expected = anyio.BrokenResourceError if ending == "reset" else anyio.EndOfStream
    assert sorted(kind.__name__ for kind in ends) == sorted([expected.__name__, "BrokenResourceError"])


async def test_closing_wakes_the_own_reader() -> None:
    here, _ = memory_stream_pair()

    async def read() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await here.receive()

    with anyio.fail_after(1):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            here.close()


async def test_two_tasks_at_one_call_are_an_error() -> None:
    here, there = memory_stream_pair(capacity_bytes=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(there.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await there.receive()
        await here.send(b"x")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.send, b"too much")
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await here.send(b"x")
        tasks.cancel_scope.cancel()


def test_senseless_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="capacity_bytes"):
        memory_stream_pair(capacity_bytes=0)


async def test_a_senseless_read_is_refused() -> None:
    here, _ = memory_stream_pair()
    with pytest.raises(ValueError, match="max_bytes"):
        await here.receive(0)
