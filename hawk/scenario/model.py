"""A scenario as it is believed: read, judged, and with units taken off. Frozen data, no files and no events.

`reading.py` makes it of a file, `writing.py` a file of it, `schedule.py` the occurrences of its faults.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from hawk.config import Config
from hawk.errors import Problem
from hawk.scenario.expectations import Expectation
from hawk.scenario.units import Rate, Span
from hawk.service.located import Place

Backend = Literal["trio", "asyncio"]
Clock = Literal["virtual", "real"]
Sessions = Literal["keep", "lose"]
WAYS = ("up", "down", "both")
SECRETS = frozenset({"password", "password_command", "url"})
"""Settings of a client that are or may hold a credential: a journal masks them, and a written scenario leaves them out."""


class BrokerPart(NamedTuple):
    """Which broker: hawk's own, that keeps or loses its sessions when it goes down, or one at a URL."""

    sessions: Sessions = "keep"
    url: str | None = None

    @property
    def shown_url(self) -> str:
        """The URL without the credentials that it may hold (promise C10)."""
        parts = urlsplit(self.url or "")
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def __repr__(self) -> str:
        """Without credentials."""
        return f"<BrokerPart: {self.shown_url or f'embedded, sessions: {self.sessions}'}>"


EMBEDDED = BrokerPart()


class Traffic(NamedTuple):
    """What the first `clients` hawks publish or receive; `{i}` in the topic is the number of the client, from 1.

    `rate` is None for what is received. `stop_s` None: until the script ends.
    """

    topic: str
    rate: Rate | None
    clients: int = 1
    qos: int = 1
    size_bytes: int = 16
    retain: bool = False
    start_s: float = 0.0
    stop_s: float | None = None

    def topic_of(self, client: int) -> str:
        """The topic, or filter, of the client of that number."""
        return self.topic.replace("{i}", str(client))


class Fault(NamedTuple):
    """What happens: a kind of `FAULT_KINDS`, its reason code and its arguments, complete."""

    kind: str
    reason: str = ""
    way: str = ""
    arguments: Mapping[str, Any] = MappingProxyType({})

    @property
    def words(self) -> str:
        """The kind, and its reason in brackets."""
        return f"{self.kind}({self.reason})" if self.reason else self.kind


class FaultEntry(NamedTuple):
    """A fault of the timeline. `for_s` None: until `heal`, or until the script ends. It comes `times` times."""

    at_s: float
    fault: Fault
    for_s: float | None = None
    label: str = ""
    every_s: float = 0.0
    times: int = 1
    chance: float = 1.0
    scripted: bool = True


class RandomEntry(NamedTuple):
    """Faults drawn from the seed: one of `pick` begins an `every` after the one before began, and lasts for a `lasting`.
    So they overlap where `lasting` is longer.
    """

    from_s: float
    to_s: float
    every: Span
    lasting: Span
    pick: tuple[Fault, ...]


class HealEntry(NamedTuple):
    """Every fault that goes on ends."""

    at_s: float


TimelineEntry = FaultEntry | RandomEntry | HealEntry


class AbortIf(NamedTuple):
    """End the run early once `gauge` has been on that side of `limit` for so long. `text` is how the file says it."""

    text: str
    gauge: str
    operator: str
    limit: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole scenario, of one variant. `settings` are hawk's, flat, as the file gives them; `matrix` is not applied yet.

    `left_out`: what the file has and this run has not, located, each with its reason. `places`: where each part of the
    file stands, by its path (`timeline.3.fault`).
    """

    name: str
    duration_s: float
    about: str = ""
    seed: int = 0
    clock: Clock = "virtual"
    backend: Backend = "trio"
    broker: BrokerPart = EMBEDDED
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    outbox: Literal["memory", "durable"] = "memory"
    traffic: tuple[Traffic, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    abort_if: AbortIf | None = None
    matrix: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    variant: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)

    def problem_at(self, path: str, what: str) -> Problem:
        """A problem of the part with that path, at its place if that is known."""
        place = self.places.get(path)
        return Problem(path, what) if place is None else place.problem(path, what)

    @property
    def source(self) -> str:
        """The file that it was read from; empty if it was not."""
        return next((place.source for place in self.places.values()), "")

    @property
    def clients(self) -> int:
        """How many hawks there are."""
        return max((each.clients for each in self.traffic), default=1)

    @property
    def config(self) -> Config:
        """The configuration of every hawk, but for its client identifier.

        With a durable outbox it has the defaults of one with a file, although the disk is in memory.
        """
        outbox = {"outbox": self.name} if self.outbox == "durable" else {}
        return Config.from_mapping({**self.settings, **outbox})
