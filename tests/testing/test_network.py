"""The weather: each fault does what it says, bites, and stops when it is switched off."""

import gc
import socket
import weakref
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import ByteStream
from hypothesis import given, settings
from hypothesis import strategies as st

from hawk.testing.network import FAULTS, Network
from hawk.testing.network_stream import CAPACITY_BYTES
from hawk.testing.virtual_time import Backend, run

Program = Callable[[Network, ByteStream, ByteStream], Awaitable[Any]]


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return "trio" if request.param == "trio" else "asyncio"


def with_a_link(program: Program, *, backend: Backend, seed: int = 0) -> Any:
    """Run `program(network, client, server)` in virtual time."""

    async def whole() -> Any:
        accepted: list[ByteStream] = []
        async with Network(accepted.append, random=Random(seed)) as network:
            client = await network.connect()
            return await program(network, client, accepted[0])

    return run(whole, backend=backend, seed=seed)


async def read(stream: ByteStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive(count - len(data))
    return data


async def read_to_the_end(stream: ByteStream) -> tuple[bytes, type[Exception]]:
    data = b""
    try:
        while True:
            data += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        return data, type(error)


async def nothing_comes(stream: ByteStream, within_s: float = 100) -> bool:
    with anyio.move_on_after(within_s):
        await stream.receive()
        return False
    return True


def test_in_calm_weather_bytes_pass_at_once_both_ways_and_nothing_bites(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        for _ in range(100):
            await client.send(b"ping")
            assert await server.receive() == b"ping"
            await server.send(b"pong")
            assert await client.receive() == b"pong"
        assert anyio.current_time() == 0
        assert network.bites == dict.fromkeys(FAULTS, 0)

    with_a_link(program, backend=backend)


def test_sends_that_wait_are_read_together_and_in_parts(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        for data in (b"abc", b"", b"def", b"ghi"):
            await client.send(data)
        assert [await server.receive(n) for n in (2, 2, 1, 10)] == [b"ab", b"cd", b"e", b"fghi"]

    with_a_link(program, backend=backend)


def test_a_full_buffer_holds_the_sender_back_and_loses_nothing(backend: Backend) -> None:
    big = Random(3).randbytes(CAPACITY_BYTES * 3 + 17)

    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        with anyio.move_on_after(1) as scope:
            await client.send(bytes(CAPACITY_BYTES + 1))
        assert scope.cancelled_caught
        assert await read(server, CAPACITY_BYTES) == bytes(CAPACITY_BYTES)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send, big)
            assert await read(server, len(big)) == big

    with_a_link(program, backend=backend)


def test_closing_is_an_orderly_end_and_then_the_peers_sends_break(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        await client.send(b"last words")
        await client.aclose()
        await client.aclose()
        assert await read_to_the_end(server) == (b"last words", anyio.EndOfStream)
        with pytest.raises(anyio.ClosedResourceError):
            await client.send(b"x")
        with pytest.raises(anyio.ClosedResourceError):
            await client.receive()
        await server.send(b"into the void")
        with pytest.raises(anyio.BrokenResourceError):
            await server.send(b"refused by now")

    with_a_link(program, backend=backend)


def test_closing_wakes_whoever_waits_at_either_end(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        woken: list[type[Exception]] = []

        async def wait(call: Callable[..., Awaitable[object]], *arguments: object) -> None:
            try:
                await call(*arguments)
            except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
                woken.append(type(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, client.receive)
            tasks.start_soon(wait, client.send, bytes(CAPACITY_BYTES + 1))
            await anyio.sleep(1)
            await server.aclose()
        assert woken == [anyio.BrokenResourceError, anyio.BrokenResourceError]
        async with anyio.create_task_group() as tasks:
            second = await network.connect()
            tasks.start_soon(wait, second.receive)
            tasks.start_soon(wait, second.send, bytes(CAPACITY_BYTES + 1))
            await anyio.sleep(1)
            await second.aclose()
        assert woken[2:] == [anyio.ClosedResourceError, anyio.ClosedResourceError]

    with_a_link(program, backend=backend)


def test_half_a_close_leaves_the_other_way_open(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        await client.send_eof()
        assert await read_to_the_end(server) == (b"", anyio.EndOfStream)
        await server.send(b"still here")
        assert await client.receive() == b"still here"
        with pytest.raises(anyio.ClosedResourceError):
            await client.send(b"x")

    with_a_link(program, backend=backend)


def test_two_tasks_at_one_call_are_told(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nothing_comes, client)
            tasks.start_soon(client.send, bytes(CAPACITY_BYTES + 1))
            await anyio.sleep(1)
            with pytest.raises(anyio.BusyResourceError):
                await client.receive()
            with pytest.raises(anyio.BusyResourceError):
                await client.send(b"x")
            tasks.cancel_scope.cancel()

    with_a_link(program, backend=backend)


def test_latency_delays_each_way_and_a_connect_by_both(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.latency_s = 0.25
        await client.send(b"a")
        await anyio.sleep(0.1)
        await client.send(b"b")
        assert await server.receive() == b"a"
        assert anyio.current_time() == pytest.approx(0.25)
        assert await server.receive() == b"b"
        assert anyio.current_time() == pytest.approx(0.35)
        await network.connect()
        assert anyio.current_time() == pytest.approx(0.85)
        network.latency_s = 0
        await server.send(b"c")
        assert await client.receive() == b"c"
        assert anyio.current_time() == pytest.approx(0.85)
        assert network.bites["latency"] == 3

    with_a_link(program, backend=backend)


def test_jitter_spreads_but_keeps_the_order_also_when_it_is_switched_off(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.jitter_s = 1.0
        for number in range(100):
            await client.send(bytes([number]))
        network.jitter_s = 0.0
        await client.send(b"\xff")
        assert await read(server, 101) == bytes(range(100)) + b"\xff"
        assert 0.5 < anyio.current_time() <= 1
        assert network.bites["jitter"] == 100

    with_a_link(program, backend=backend)


def test_slices_are_small_and_all_sizes_occur(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.slice_bytes = 7
        sent = Random(1).randbytes(1000)
        await client.send(sent)
        parts = list[bytes]()
        while sum(len(part) for part in parts) < 1000:
            parts.append(await server.receive())
        assert b"".join(parts) == sent
        assert {len(part) for part in parts} == {1, 2, 3, 4, 5, 6, 7}
        assert network.bites["slice"] > 100

    with_a_link(program, backend=backend)


def test_what_is_sent_within_the_gathering_time_arrives_as_one(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.coalesce_s, network.latency_s, network.jitter_s = 0.1, 1.0, 0.5

        async def speak() -> None:
            for letter in b"abcdef":
                await client.send(bytes([letter]))
                await anyio.sleep(0.04)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(speak)
            assert [await server.receive(), await server.receive()] == [b"abc", b"def"]
        assert network.bites["coalesce"] == 4

    with_a_link(program, backend=backend)


def test_bandwidth_paces_the_bytes(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.bandwidth_bytes_per_s = 10_000
        await client.send(bytes(100_000))
        await read(server, 50_000)
        assert anyio.current_time() == pytest.approx(5, rel=0.05)
        await read(server, 50_000)
        assert anyio.current_time() == pytest.approx(10)
        assert network.bites["bandwidth"] == 1

    with_a_link(program, backend=backend)


def test_refusal_and_a_failing_name_lookup_concern_new_links_only(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.refuse()
        with pytest.raises(ConnectionRefusedError):
            await network.connect()
        network.name_lookup_fails()
        with pytest.raises(socket.gaierror):
            await network.connect()
        await client.send(b"x")
        assert await server.receive() == b"x"
        network.allow()
        await network.connect()
        assert (network.bites["refuse"], network.bites["name_lookup"]) == (1, 1)

    with_a_link(program, backend=backend)


def test_a_blackhole_swallows_everything_and_a_stream_that_lost_bytes_stays_silent(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.latency_s = 1.0
        await client.send(b"on its way")
        network.blackhole()
        network.latency_s = 0.0
        await server.send(b"swallowed")
        assert await nothing_comes(server)
        assert await nothing_comes(client)
        with anyio.move_on_after(10) as scope:
            await network.connect()
        assert scope.cancelled_caught
        network.heal()
        await client.send(b"after a hole")
        assert await nothing_comes(server)
        assert network.bites["blackhole"] == 4

    with_a_link(program, backend=backend)


def test_a_blackhole_one_way_lets_the_other_pass_and_heals_for_who_lost_nothing(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.blackhole("down")
        await client.send(b"up")
        assert await server.receive() == b"up"
        await server.send(b"down")
        assert await nothing_comes(client)
        network.heal()
        network.blackhole("up")
        network.heal()
        await client.send(b"up")
        assert await server.receive() == b"up"

    with_a_link(program, backend=backend)


def test_what_left_during_a_blackhole_never_arrives_even_if_it_heals_meanwhile(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.latency_s = 1.0
        network.blackhole()
        await client.send(b"gone")
        network.heal()
        await client.send(b"after a hole")
        assert await nothing_comes(server)
        assert network.bites["blackhole"] == 2

    with_a_link(program, backend=backend)


def test_a_close_in_a_blackhole_is_not_seen_and_a_sender_blocks_in_the_end(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.blackhole()
        await server.send(bytes(CAPACITY_BYTES))
        with anyio.move_on_after(10) as scope:
            await server.send(b"x")
        assert scope.cancelled_caught
        await client.aclose()
        assert await nothing_comes(server)

    with_a_link(program, backend=backend)


@pytest.mark.parametrize("fault", ["blackhole", "stall"])
def test_a_connect_that_hangs_goes_on_after_the_heal(backend: Backend, fault: str) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        getattr(network, fault)()

        async def heal_later() -> None:
            await anyio.sleep(30)
            network.heal()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heal_later)
            await network.connect()
        assert anyio.current_time() == 30
        assert network.bites[fault] == 1

    with_a_link(program, backend=backend)


def test_a_stall_holds_bytes_and_ends_and_delivers_them_after_the_heal(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.stall()
        await client.send(b"held")
        await server.send(b"back")
        await client.send_eof()
        assert await nothing_comes(server)
        network.heal()
        assert await read_to_the_end(server) == (b"held", anyio.EndOfStream)
        assert await client.receive() == b"back"
        assert network.bites["stall"] == 3

    with_a_link(program, backend=backend)


def test_a_reset_breaks_both_ends_at_once_also_in_a_blackhole(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        await client.send(b"never read")
        network.blackhole()
        network.reset_all()
        for end in (client, server):
            with pytest.raises(anyio.BrokenResourceError):
                await end.receive()
            with pytest.raises(anyio.BrokenResourceError):
                await end.send(b"x")
        network.reset_all()
        assert network.bites["reset"] == 1
        network.heal()
        await (await network.connect()).send(b"x")

    with_a_link(program, backend=backend)


def test_a_cut_is_an_orderly_end_for_both(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.latency_s = 1.0
        await client.send(b"under way")
        network.cut_all()
        assert await read_to_the_end(server) == (b"under way", anyio.EndOfStream)
        assert await read_to_the_end(client) == (b"", anyio.EndOfStream)
        with pytest.raises(anyio.BrokenResourceError):
            await client.send(b"x")
        assert network.bites["cut"] == 1

    with_a_link(program, backend=backend)


def test_a_cut_after_some_bytes_lets_exactly_those_through_on_every_link(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        network.cut_after(10)
        await client.send(b"0123456")
        await client.send(b"789abc")
        assert await read_to_the_end(server) == (b"0123456789", anyio.BrokenResourceError)
        for end in (client, server):
            with pytest.raises(anyio.BrokenResourceError):
                await end.send(b"x")
        with pytest.raises(anyio.BrokenResourceError):
            await client.receive()
        second = await network.connect()
        await second.send(bytes(10))
        with pytest.raises(anyio.BrokenResourceError):
            await second.send(b"x")
        network.cut_after(None)
        third = await network.connect()
        await third.send(bytes(100))
        await third.send(b"x")
        assert network.bites["cut_after"] == 2
        with pytest.raises(ValueError, match="bytes_up"):
            network.cut_after(0)

    with_a_link(program, backend=backend)


def test_leaving_the_block_breaks_the_links_and_lets_an_error_out_as_it_is(backend: Backend) -> None:
    async def program() -> None:
        accepted: list[ByteStream] = []

        async def fail_inside() -> None:
            async with Network(accepted.append, random=Random(0)) as network:
                client = await network.connect()
                network.latency_s = 1000
                await client.send(b"x")
                raise LookupError

        with pytest.raises(LookupError):
            await fail_inside()
        with pytest.raises(anyio.BrokenResourceError):
            await accepted[0].receive()
        assert anyio.current_time() == 0

    run(program, backend=backend)


@pytest.mark.anyio
async def test_it_works_in_real_time_too() -> None:
    accepted: list[ByteStream] = []
    async with Network(accepted.append, random=Random(0)) as network:
        network.latency_s = 0.01
        began_at = anyio.current_time()
        client = await network.connect()
        await client.send(b"x")
        assert await accepted[0].receive() == b"x"
        assert anyio.current_time() - began_at >= 0.029


changes = st.sampled_from(
    [
        *[("latency_s", value) for value in (0.0, 0.01, 5.0)],
        *[("jitter_s", value) for value in (0.0, 2.0)],
        *[("slice_bytes", value) for value in (0, 1, 7)],
        *[("coalesce_s", value) for value in (0.0, 1.0)],
        *[("bandwidth_bytes_per_s", value) for value in (100.0, 1e6, float("inf"))],
        ("stall", None),
        ("heal", None),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(changes, st.integers(0, 3000), st.sampled_from([0.0, 0.5])), max_size=20), st.booleans())
def test_weather_that_loses_nothing_keeps_every_byte_in_order(
    script: list[tuple[tuple[str, Any], int, float]], on_trio: bool
) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> None:
        sent = bytearray()

        async def speak() -> None:
            for (name, value), count, pause_s in script:
                if value is None:
                    getattr(network, name)()
                else:
                    setattr(network, name, value)
                data = Random(len(sent)).randbytes(count)
                sent.extend(data)
                await client.send(data)
                await anyio.sleep(pause_s)
            network.heal()
            await client.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(speak)
            data, how = await read_to_the_end(server)
        assert data == sent
        assert how is anyio.EndOfStream

    with_a_link(program, backend="trio" if on_trio else "asyncio")


def test_one_seed_gives_the_same_weather(backend: Backend) -> None:
    async def program(network: Network, client: ByteStream, server: ByteStream) -> list[tuple[float, bytes]]:
        network.jitter_s, network.slice_bytes = 1.0, 5
        seen = list[tuple[float, bytes]]()
        for _ in range(20):
            await client.send(b"0123456789")
        while sum(len(data) for _, data in seen) < 200:
            data = await server.receive()
            seen.append((anyio.current_time(), data))
        return seen

    first = with_a_link(program, backend=backend, seed=1)
    assert with_a_link(program, backend=backend, seed=1) == first
    assert with_a_link(program, backend=backend, seed=2) != first


def test_a_link_that_is_over_is_gone_without_a_collection(backend: Backend) -> None:
    """A thousand clients that dial for an hour make millions of links."""

    async def whole() -> bool:
        accepted: list[ByteStream] = []
        async with Network(accepted.append, random=Random(0)) as network:
            seen = weakref.ref(await network.connect())
            network.reset_all()
            accepted.clear()
            return seen() is None

    gc.disable()
    try:
        assert run(whole, backend=backend)
    finally:
        gc.enable()
