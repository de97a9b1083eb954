"""The fault proxy: every fault of the network reaches real sockets, and a hawk behind it loses nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import anyio
import pytest
from anyio.abc import SocketStream

from hawk import ConnectionState, open_mqtt
from hawk.testing import Broker
from hawk.testing.network import Network
from hawk.testing.proxy import FaultProxy

pytestmark = pytest.mark.anyio


class Ends:
    """A client's socket, the upstream's socket that it leads to, and the weather between."""

    def __init__(self, proxy: FaultProxy, port: int, client: SocketStream, upstream: SocketStream) -> None:
        self.proxy, self.port, self.client, self.upstream = proxy, port, client, upstream

    @property
    def network(self) -> Network:
        return self.proxy.network


@asynccontextmanager
async def carried() -> AsyncIterator[Ends]:
    to_upstreams, upstreams = anyio.create_memory_object_stream[SocketStream](10)

    async def keep(stream: SocketStream) -> None:
        async with stream:
            to_upstreams.send_nowait(stream)
            await anyio.sleep_forever()

    with to_upstreams, upstreams, anyio.fail_after(10):
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, keep)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with FaultProxy("127.0.0.1", port, random=Random(1)) as proxy:
                bound = await proxy.listen()
                async with await anyio.connect_tcp("127.0.0.1", bound) as client:
                    await client.send(b"hello")
                    upstream = await upstreams.receive()
                    assert await read(upstream, 5) == b"hello"
                    yield Ends(proxy, bound, client, upstream)
            tasks.cancel_scope.cancel()


async def read(stream: SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive(count - len(data))
    return data


async def hears_nothing(stream: SocketStream, within_s: float = 0.1) -> bool:
    with anyio.move_on_after(within_s):
        await stream.receive()
        return False
    return True


async def test_in_calm_weather_bytes_pass_both_ways_and_an_end_of_file_leaves_the_other_way_open() -> None:
    async with carried() as ends:
        big = Random(2).randbytes(1_000_000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ends.client.send, big)
            assert await read(ends.upstream, len(big)) == big
        await ends.client.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await ends.upstream.receive()
        await ends.upstream.send(b"still here")
        assert await read(ends.client, 10) == b"still here"
        await ends.upstream.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await ends.client.receive()


async def test_latency_and_jitter_delay_both_ways_and_keep_order() -> None:
    async with carried() as ends:
        ends.network.latency_s, ends.network.jitter_s = 0.05, 0.05
        began_at = anyio.current_time()
        for number in range(10):
            await ends.client.send(bytes([number]))
        assert await read(ends.upstream, 10) == bytes(range(10))
        await ends.upstream.send(b"back")
        assert await read(ends.client, 4) == b"back"
        assert anyio.current_time() - began_at >= 0.1
        assert ends.network.bites["latency"] >= 2
        assert ends.network.bites["jitter"] >= 2


async def test_bandwidth_takes_its_time() -> None:
    async with carried() as ends:
        ends.network.bandwidth_bytes_per_s = 100_000
        began_at = anyio.current_time()
        await ends.client.send(bytes(20_000))
        await read(ends.upstream, 20_000)
        assert anyio.current_time() - began_at >= 0.199
        assert ends.network.bites["bandwidth"] > 0


async def test_slices_are_written_one_by_one_and_lose_nothing() -> None:
    async with carried() as ends:
        ends.network.slice_bytes = 3
        await ends.client.send(b"abcdefghijklmnopqrstuvwxyz")
        assert await read(ends.upstream, 26) == b"abcdefghijklmnopqrstuvwxyz"
        assert ends.network.bites["slice"] >= 8


async def test_a_blackhole_of_one_way_swallows_that_way_alone() -> None:
    async with carried() as ends:
        ends.network.blackhole("up")
        await ends.client.send(b"into the void")
        await ends.upstream.send(b"down")
        assert await read(ends.client, 4) == b"down"
        assert await hears_nothing(ends.upstream)
        assert ends.network.bites["blackhole"] > 0


async def test_a_blackhole_hides_a_close_and_answers_no_new_client() -> None:
    async with carried() as ends:
        ends.network.blackhole()
        await ends.client.aclose()
        async with await anyio.connect_tcp("127.0.0.1", ends.port) as late:
            await late.send(b"anybody?")
            assert await hears_nothing(late)
        assert await hears_nothing(ends.upstream)


async def test_a_stall_holds_everything_back_until_it_heals() -> None:
    async with carried() as ends:
        ends.network.stall()
        await ends.client.send(b"later")
        assert await hears_nothing(ends.upstream)
        ends.network.heal()
        assert await read(ends.upstream, 5) == b"later"


async def test_a_reset_is_a_reset_on_both_sides() -> None:
    async with carried() as ends:
        ends.network.reset_all()
        for stream in (ends.client, ends.upstream):
            with pytest.raises(anyio.BrokenResourceError) as broken:
                await stream.receive()
            assert isinstance(broken.value.__cause__, ConnectionResetError)


async def test_a_cut_is_an_orderly_end_on_both_sides() -> None:
    async with carried() as ends:
        ends.network.cut_all()
        for stream in (ends.client, ends.upstream):
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


async def test_a_half_close_ends_one_way_and_the_other_goes_on() -> None:
    async with carried() as ends:
        ends.network.half_close("up")
        with pytest.raises(anyio.EndOfStream):
            await ends.upstream.receive()
        await ends.upstream.send(b"down")
        assert await read(ends.client, 4) == b"down"
        assert ends.network.bites["half_close"] == 1


async def test_refusing_closes_the_port_and_allowing_opens_the_same_one_again() -> None:
    async with carried() as ends:
        ends.network.refuse()
        with pytest.raises(OSError, match=r"refused|failed"):
            await anyio.connect_tcp("127.0.0.1", ends.port)
        await ends.client.send(b"living links go on")
        assert await read(ends.upstream, 18) == b"living links go on"
        ends.network.allow()
        async with await anyio.connect_tcp("127.0.0.1", ends.port) as client:
            await client.send(b"again")
        assert ends.network.bites["refuse"] == 1


async def test_who_connects_while_the_name_is_unknown_is_reset() -> None:
    async with carried() as ends:
        ends.network.name_lookup_fails()
        async with await anyio.connect_tcp("127.0.0.1", ends.port) as client:
            with pytest.raises(anyio.BrokenResourceError):
                await client.receive()
        assert ends.network.bites["name_lookup"] == 1


async def test_a_reset_of_one_side_reaches_the_other(free_tcp_port: int) -> None:
    """As when nothing listens upstream: the client was let in, and is reset."""
    async with FaultProxy("127.0.0.1", free_tcp_port, random=Random(1)) as proxy:
        port = await proxy.listen()
        with anyio.fail_after(10):
            async with await anyio.connect_tcp("127.0.0.1", port) as client:
                with pytest.raises(anyio.BrokenResourceError):
                    await client.receive()


async def test_leaving_the_block_resets_every_connection_and_frees_the_port() -> None:
    async with Broker() as broker:
        async with FaultProxy("127.0.0.1", await broker.listen(), random=Random(1)) as proxy:
            port = await proxy.listen()
            client = await anyio.connect_tcp("127.0.0.1", port)
            await client.send(b"x")
        async with client:
            with pytest.raises(anyio.BrokenResourceError), anyio.fail_after(10):
                await client.receive()
        with pytest.raises(OSError, match=r"refused|failed"):
            await anyio.connect_tcp("127.0.0.1", port)


async def test_an_error_in_the_block_leaves_as_it_is() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with FaultProxy("127.0.0.1", 1, random=Random(1)):
            raise LookupError("mine")


async def test_hawk_behind_the_proxy_loses_nothing_in_any_of_it() -> None:
    async with Broker() as broker, FaultProxy("127.0.0.1", await broker.listen(), random=Random(1)) as proxy:
        url = f"mqtt://127.0.0.1:{await proxy.listen()}"
        proxy.network.latency_s, proxy.network.slice_bytes = 0.002, 7
        with anyio.fail_after(10):
            async with open_mqtt(url, initial_retry_delay=0.02) as mqtt:
                await mqtt.connect()
                for number in range(90):
                    receipt = await mqtt.publish("a/b", str(number))
                    if number == 30:
                        proxy.network.reset_all()
                    elif number == 60:
                        proxy.network.cut_all()
                await receipt.acknowledged()
                assert mqtt.connection_state is ConnectionState.CONNECTED
        first_arrivals = list(dict.fromkeys(payload for _, payload in broker.received()))
        assert first_arrivals == [str(number).encode() for number in range(90)]
        assert proxy.network.bites["reset"] == 1
