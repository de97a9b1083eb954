"""The weather between one client and a server, in memory: slow, torn, refused, silent or broken links, on demand.

Every fault can be switched at any moment, by plain attributes or methods, and then applies to the links that live.
Each counts in `Network.bites` how often it touched something: a test of a fault that never bit has shown nothing.
Time is anyio's, randomness is given, and there are no threads: in virtual time every run can be repeated.
"""

import socket
import ssl
from collections.abc import Callable
from math import inf
from random import Random
from types import TracebackType
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from hawk.testing.network_stream import NetworkStream, Pipe
from hawk.testing.network_transit import Transit, Way

FAULTS = (
    *("latency", "jitter", "bandwidth", "slice", "coalesce", "refuse", "name_lookup", "slow_name_lookup"),
    *("blackhole", "stall", "reset", "cut", "half_close", "cut_after", "tls_expired", "tls_stall"),
)
"""The keys of `Network.bites`."""


_FEW_LINKS = 16


class Network:
    """Links to one server, and what befalls them. `accept` is given the server's end of each new link.

    Used as `async with Network(broker.accept, random=Random(seed)) as network`; leaving the block breaks every link.
    The attributes, off unless set, may be changed at any time and apply to what is sent from then on:

    `latency_s`, `jitter_s`: every send is delayed by the first and up to the second; order is kept. A connect takes
    two latencies.
    `bandwidth_bytes_per_s`: of each direction of each link; above 0 (0 is `stall`). `bandwidth_up_bytes_per_s` and
    `bandwidth_down_bytes_per_s`: of that direction alone; the smaller counts.
    `name_lookup_s`: a connect takes so much longer before anything else.
    `slice_bytes`: a `receive` returns from 1 to that many bytes.
    `coalesce_s`: what is sent within that time arrives as one.

    `on_listening` is told False when `refuse` is called and True at `allow`: for who has a real listener to close.
    """

    def __init__(
        self,
        accept: Callable[[NetworkStream], None],
        *,
        random: Random,
        on_listening: Callable[[bool], None] = lambda listening: None,
    ) -> None:
        self.latency_s = 0.0
        self.jitter_s = 0.0
        self.bandwidth_bytes_per_s = self.bandwidth_up_bytes_per_s = self.bandwidth_down_bytes_per_s = inf
        self.name_lookup_s = 0.0
        self.slice_bytes = 0
        self.coalesce_s = 0.0
        self.bites = dict.fromkeys(FAULTS, 0)
        self.random = random
        self._accept = accept
        self._on_listening = on_listening
        self._links: dict[_Link, None] = {}
        self._look_again_at = _FEW_LINKS
        self._tasks: TaskGroup | None = None
        self._refusing = self._nameless = self._stalled = False
        self._tls: Literal["good", "expired", "stalled"] = "good"
        self._dark: tuple[Way, ...] = ()
        self._cut_after_bytes: int | None = None
        self._healed = anyio.Event()
        self._over = False

    async def __aenter__(self) -> "Network":
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        self._over = True
        self._break_links()
        self._tasks.cancel_scope.cancel()
        if error is None or isinstance(error, anyio.get_cancelled_exc_class()):
            return await self._tasks.__aexit__(kind, error, traceback)
        # An error of the block is not one of the tasks: it leaves as it is, not in a group.
        await self._tasks.__aexit__(None, None, None)
        return None

    async def connect(self) -> NetworkStream:
        """The client's end of a new link; the server's end has been accepted. Hangs in a blackhole or a stall.

        Raises `ConnectionRefusedError`, `socket.gaierror` or `ssl.SSLCertVerificationError` when told to. Cancelling
        leaves nothing behind.
        """
        if self.name_lookup_s:
            self.bites["slow_name_lookup"] += 1
            await anyio.sleep(self.name_lookup_s)
        if self._nameless:
            self.bites["name_lookup"] += 1
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if self.latency_s:
            self.bites["latency"] += 1
        await anyio.sleep(2 * self.latency_s)
        while self._dark or self._stalled:
            self.bites["blackhole" if self._dark else "stall"] += 1
            await self._healed.wait()
        if self._refusing:
            self.bites["refuse"] += 1
            raise ConnectionRefusedError("connection refused")
        await self._shake_hands()
        link = _Link(self, self._cut_after_bytes)
        self._accept(link.server)
        self._forget_links_that_are_over()
        self._links[link] = None
        return link.client

    def refuse(self) -> None:
        """From now on nobody listens: `connect` raises `ConnectionRefusedError`. Links that live are left alone."""
        self._refusing = True
        self._on_listening(False)

    def name_lookup_fails(self) -> None:
        """From now on the server's name is unknown: `connect` raises `socket.gaierror`."""
        self._nameless = True

    def allow(self) -> None:
        """Ends `refuse` and `name_lookup_fails`."""
        self._refusing = self._nameless = False
        self._on_listening(True)

    def certificate_expired(self) -> None:
        """From now on TLS fails: `connect` raises `ssl.SSLCertVerificationError`. Links that live are left alone."""
        self._tls = "expired"

    def tls_stalls(self) -> None:
        """From now on the TLS handshake gets no answer: connects hang, those under way until `tls_works`."""
        self._tls = "stalled"

    def tls_works(self) -> None:
        """Ends `certificate_expired` and `tls_stalls`."""
        self._tls = "good"
        self._wake_waiting()

    def blackhole(self, way: Literal["both", "up", "down"] = "both") -> None:
        """From now on bytes vanish on that way (up is towards the server), ends of streams too; connects hang.

        As with a real socket, what vanished is never acknowledged, so a sender blocks once its buffer is full; and as
        a stream has no holes, a direction that has lost something stays silent even after `heal`.
        """
        self._dark = ("up", "down") if way == "both" else (way,)

    def stall(self) -> None:
        """From now on everything under way is held back, to arrive after `heal`; connects hang."""
        self._stalled = True

    def heal(self) -> None:
        """Ends `blackhole` and `stall`."""
        self._dark, self._stalled = (), False
        self._wake_waiting()

    def reset_all(self) -> None:
        """Break every link now, as an RST does: both ends raise `BrokenResourceError`; what was not read is gone."""
        self.bites["reset"] += self._break_links()

    def cut_all(self) -> None:
        """End every link now, as a FIN from both sides does: both ends read what is under way, then `EndOfStream`."""
        for link in [link for link in self._links if not link.is_over]:
            self.bites["cut"] += 1
            link.up.finish()
            link.down.finish()
            link.up.pipe.refuse()
            link.down.pipe.refuse()

    def half_close(self, way: Literal["both", "up", "down"] = "up") -> None:
        """End that way of every link now: its reader gets what is under way, then `EndOfStream`; the other way goes on.

        What is sent on that way afterwards vanishes.
        """
        for link in [link for link in self._links if not link.is_over]:
            self.bites["half_close"] += 1
            if way != "down":
                link.up.finish()
            if way != "up":
                link.down.finish()

    def cut_after(self, bytes_up: int | None, *, links_to_come: bool = True) -> None:
        """Break each link, those that live and those to come, after it has carried so many more bytes up; None: never.

        The server receives exactly those bytes, then `BrokenResourceError`; the client's end breaks at once.
        """
        if bytes_up is not None and bytes_up < 1:
            raise ValueError("bytes_up must be at least 1")
        if links_to_come:
            self._cut_after_bytes = bytes_up
        for link in self._links:
            link.up.bytes_to_cut = bytes_up

    @property
    def is_calm(self) -> bool:
        """Whether what is sent now may arrive in the same instant."""
        interfered = self._dark or self._stalled or self.latency_s or self.jitter_s or self.coalesce_s
        return not interfered and self._narrowest_bytes_per_s == inf

    @property
    def is_stalled(self) -> bool:
        """Whether everything under way is held back."""
        return self._stalled

    def is_dark(self, way: Way) -> bool:
        """Whether bytes vanish on that way."""
        return way in self._dark

    def bandwidth_of(self, way: Way) -> float:
        """How many bytes pass that way in a second."""
        of_way = self.bandwidth_up_bytes_per_s if way == "up" else self.bandwidth_down_bytes_per_s
        return min(self.bandwidth_bytes_per_s, of_way)

    async def wait_until_healed(self) -> None:
        """Wait for the next `heal`."""
        await self._healed.wait()

    def start_delivering(self, transit: "Transit") -> None:
        """Deliver what is under way there as it becomes due; after the network's block it vanishes.

        Raises RuntimeError before that block.
        """
        if self._tasks is None:
            raise RuntimeError("a Network works inside its `async with` block")
        if not self._over:
            self._tasks.start_soon(transit.deliver)

    @property
    def _narrowest_bytes_per_s(self) -> float:
        return min(self.bandwidth_bytes_per_s, self.bandwidth_up_bytes_per_s, self.bandwidth_down_bytes_per_s)

    async def _shake_hands(self) -> None:
        while self._tls == "stalled":
            self.bites["tls_stall"] += 1
            await self._healed.wait()
        if self._tls == "expired":
            self.bites["tls_expired"] += 1
            raise ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired")

    def _wake_waiting(self) -> None:
        self._healed.set()
        self._healed = anyio.Event()

    def _forget_links_that_are_over(self) -> None:
        """Only now and then: to look at every link at every connect would take a thousand clients a minute."""
        if len(self._links) >= self._look_again_at:
            for old in [old for old in self._links if old.is_over]:
                del self._links[old]
            self._look_again_at = 2 * len(self._links) + _FEW_LINKS

    def _break_links(self) -> int:
        living = [link for link in self._links if not link.is_over]
        for link in living:
            link.break_now()
        self._links.clear()
        return len(living)


class _Link:
    """A pair of ends, and the two ways between them.

    Nothing in it leads back to it, so that a link is gone when nobody holds it, and not at the next collection.
    """

    def __init__(self, network: Network, cut_after_bytes: int | None) -> None:
        up, down = Pipe(), Pipe()
        self.down = Transit(network, "down", down, up, on_cut=up.destroy)
        self.up = Transit(network, "up", up, down, on_cut=self.down.break_now)
        self.up.bytes_to_cut = cut_after_bytes
        self.client = NetworkStream(down, self.down, up, self.up)
        self.server = NetworkStream(up, self.up, down, self.down)

    @property
    def is_over(self) -> bool:
        return self.client.is_over and self.server.is_over

    def break_now(self) -> None:
        self.up.break_now()
        self.down.break_now()
