"""Where a run of `hawk demo` takes place: on sockets and in real time, or in memory and virtual time. The run cannot tell."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import NamedTuple

from hawk.clock import SystemWallClock
from hawk.config import Config
from hawk.links.dialing import NetworkDialer
from hawk.ports import Ports
from hawk.testing.broker import Broker


class World(NamedTuple):
    """Where a run takes place: a broker, the port it listens on, and the outside world for one more hawk."""

    broker: Broker
    port: int
    ports: Callable[[Config], Ports]


@asynccontextmanager
async def real_world(*, seed: int) -> AsyncIterator[World]:
    """A broker on a free port of 127.0.0.1, and real time. Raises `OSError` when there is no such port."""
    random = Random(seed)
    async with Broker() as broker:
        port = await broker.listen()
        yield World(broker, port, lambda config: Ports(NetworkDialer(config), None, SystemWallClock(), random))


@asynccontextmanager
async def rehearsed_world(*, seed: int) -> AsyncIterator[World]:
    """A broker in memory, a millisecond away, for `hawk.testing.run`."""
    from hawk.testing.rehearsal import Rehearsal

    async with Rehearsal(seed=seed) as rehearsal:
        rehearsal.network.latency_s = 0.001
        yield World(rehearsal.broker, 1883, rehearsal.ports)
