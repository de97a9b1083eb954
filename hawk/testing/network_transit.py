"""What happens to bytes on their way through `hawk.testing.network`: one `Transit` for each direction of each link."""

from collections import deque
from collections.abc import Callable
from enum import Enum
from math import inf
from random import Random
from typing import Literal, Protocol

import anyio

from hawk.testing.network_stream import Pipe

Way = Literal["up", "down"]

_SEGMENT_BYTES = 1460


class Weather(Protocol):
    """What a transit asks of its network. `hawk.testing.network.Network` explains each."""

    latency_s: float
    jitter_s: float
    slice_bytes: int
    coalesce_s: float
    bites: dict[str, int]
    random: Random

    @property
    def is_calm(self) -> bool:
        """Whether what is sent now may arrive in the same instant."""

    @property
    def is_stalled(self) -> bool:
        """Whether everything under way is held back."""

    def is_dark(self, way: Way) -> bool:
        """Whether bytes vanish on that way."""

    def bandwidth_of(self, way: Way) -> float:
        """How many bytes pass that way in a second."""

    async def wait_until_healed(self) -> None:
        """Wait until nothing is dark or stalled any more."""

    def start_delivering(self, transit: "Transit") -> None:
        """Run `transit.deliver()` in a task."""


class _Sign(Enum):
    """What travels besides bytes."""

    FIN = "fin"
    RST = "rst"


class Transit:
    """One direction of one link, first in first out: an item that is due early waits for those before it.

    It leads into `pipe`; `back` is the pipe of the other direction, which a reset that arrives here breaks. `on_cut` is
    called when `bytes_to_cut` have left: then the end that sends here breaks.
    """

    def __init__(self, network: Weather, way: Way, pipe: Pipe, back: Pipe, *, on_cut: Callable[[], None]) -> None:
        self.pipe = pipe
        self.bytes_to_cut: int | None = None
        self._network = network
        self._way: Way = way
        self._back = back
        self._on_cut = on_cut
        self._queue: deque[tuple[float, bytes | _Sign]] = deque()
        self._delivering = False
        self._lost_something = False
        self._gathered_due_at = self._line_free_at = self._gathers_until = -inf

    def depart(self, data: bytes) -> None:
        """Bytes leave: straight into the pipe when nothing is in the way."""
        if self.bytes_to_cut is not None:
            self._depart_until_cut(data, self.bytes_to_cut)
        elif self._network.is_calm and not self._queue and not self._lost_something:
            self.pipe.arrive(data)
        else:
            self._travel(data)

    def finish(self) -> None:
        """Nothing more will leave."""
        self._travel(_Sign.FIN)

    def break_off(self) -> None:
        """The end that sends here has gone without reading everything: a reset follows what is under way."""
        self._travel(_Sign.RST)

    def piece_bytes(self, waiting_bytes: int) -> int:
        """From 1 to `slice_bytes` if that is set."""
        if not self._network.slice_bytes:
            return waiting_bytes
        most = self._network.random.randint(1, self._network.slice_bytes)
        self._network.bites["slice"] += most < waiting_bytes
        return most

    def break_now(self) -> None:
        """What is under way never arrives, and both ends of this direction break."""
        self._queue.clear()
        self.pipe.destroy()

    async def deliver(self) -> None:
        """Let what is under way arrive as it becomes due, until nothing is."""
        while self._queue:
            due_at, cargo = self._queue[0]
            if self._network.is_stalled:
                await self._network.wait_until_healed()
            elif due_at > anyio.current_time():
                await anyio.sleep_until(due_at)
            else:
                self._queue.popleft()
                self._arrive(cargo)
        self._delivering = False

    def _depart_until_cut(self, data: bytes, left_bytes: int) -> None:
        self._travel(data[:left_bytes])
        self.bytes_to_cut = left_bytes - len(data)
        if self.bytes_to_cut <= 0:
            self.bytes_to_cut = None
            self._network.bites["cut_after"] += 1
            self._travel(_Sign.RST)
            self._on_cut()
            self.pipe.refuse()

    def _travel(self, cargo: bytes | _Sign) -> None:
        network = self._network
        if network.is_dark(self._way):
            self._vanish()
            return
        now = anyio.current_time()
        if network.is_stalled:
            network.bites["stall"] += 1
        bytes_per_s = network.bandwidth_of(self._way)
        if bytes_per_s == inf or isinstance(cargo, _Sign):
            self._line_free_at = max(self._line_free_at, now)
            self._enqueue(now, cargo)
        else:
            network.bites["bandwidth"] += 1
            for start in range(0, len(cargo), _SEGMENT_BYTES):
                segment = cargo[start : start + _SEGMENT_BYTES]
                self._line_free_at = max(self._line_free_at, now) + len(segment) / bytes_per_s
                self._enqueue(now, segment)

    def _enqueue(self, now: float, cargo: bytes | _Sign) -> None:
        due_at = self._due_at(now)
        if due_at <= now and not self._queue and not self._network.is_stalled:
            self._arrive(cargo)
            return
        self._queue.append((due_at, cargo))
        if not self._delivering:
            self._delivering = True
            self._network.start_delivering(self)

    def _due_at(self, now: float) -> float:
        gather_s = self._network.coalesce_s
        if gather_s and now < self._gathers_until:
            self._network.bites["coalesce"] += 1
        else:
            self._gathers_until = now + gather_s
            self._gathered_due_at = self._gathers_until + self._delay_s()
        return max(self._gathered_due_at, self._line_free_at)

    def _delay_s(self) -> float:
        network = self._network
        delay_s = network.latency_s
        network.bites["latency"] += delay_s > 0
        if network.jitter_s:
            network.bites["jitter"] += 1
            delay_s += network.random.uniform(0, network.jitter_s)
        return delay_s

    def _arrive(self, cargo: bytes | _Sign) -> None:
        if self._lost_something or self._network.is_dark(self._way):
            self._vanish()
        elif isinstance(cargo, bytes):
            self.pipe.arrive(cargo)
        elif cargo is _Sign.FIN:
            self.pipe.end(anyio.EndOfStream)
        else:
            self.pipe.end(anyio.BrokenResourceError)
            self._back.refuse()

    def _vanish(self) -> None:
        self._lost_something = True
        self._network.bites["blackhole"] += 1
