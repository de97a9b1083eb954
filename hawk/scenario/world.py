"""What the faults of a script act upon: the links, the hosts of the clients, and whoever answers a CONNECT."""

from typing import Literal, Protocol

Way = Literal["up", "down", "both"]


class Links(Protocol):
    """The network between the clients and the broker: `hawk.testing.Network`, or what stands for it on sockets."""

    latency_s: float
    jitter_s: float
    bandwidth_up_bytes_per_s: float
    bandwidth_down_bytes_per_s: float
    slice_bytes: int
    name_lookup_s: float
    bites: dict[str, int]

    def refuse(self) -> None:
        """Refuse new connections."""

    def name_lookup_fails(self) -> None:
        """Know no name."""

    def allow(self) -> None:
        """End both."""

    def certificate_expired(self) -> None:
        """Fail every handshake."""

    def tls_stalls(self) -> None:
        """Answer no handshake."""

    def tls_works(self) -> None:
        """End both."""

    def blackhole(self, way: Way = "both") -> None:
        """Let bytes vanish."""

    def stall(self) -> None:
        """Hold everything back."""

    def heal(self) -> None:
        """End blackhole and stall."""

    def reset_all(self) -> None:
        """Break every link."""

    def cut_all(self) -> None:
        """End every link."""

    def half_close(self, way: Way = "up") -> None:
        """End one way of every link."""

    def cut_after(self, bytes_up: int | None, *, links_to_come: bool = True) -> None:
        """Break each link after so many bytes, those to come or not."""


class Hosts(Protocol):
    """The computers and programs of the clients."""

    bites: dict[str, int]

    async def crash(self, client: int, down_s: float) -> None:
        """Kill one client, or with 0 all; start them again after `down_s`."""

    def fill_disk(self, full: bool) -> None:
        """No outbox can be written, or all can again."""

    def sleep(self, seconds: float) -> None:
        """Let time go on while nobody runs."""

    def set_calendar(self, by_s: float) -> None:
        """Move every calendar."""


class Gate(Protocol):
    """Who answers each CONNECT: hawk's own broker, or before somebody else's the proxy."""

    @property
    def bites(self) -> dict[str, int]:
        """How often it did what it was told to."""

    def refuse_with(self, reason_code: int | None) -> None:
        """Refuse each CONNECT with that reason; None lets them pass again."""
