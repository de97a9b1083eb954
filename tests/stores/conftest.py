"""Outbox files as the store finds them: made, left, damaged, and found again, all without an event loop."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hawk.messages import Commit, ReadPage, Record, Recovered
from hawk.stores.machine import Machine
from hawk.stores.outbox_file import Durability, OutboxFile
from hawk.values import Message

NOW = 1_800_000_000.0
EVERYTHING = ReadPage(0, 1_000_000, 1 << 40)


class Calendar:
    """A calendar that stands still until it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.at = now

    def now(self) -> float:
        return self.at


class Opened:
    """One outbox file that is open, and what it said of itself."""

    def __init__(self, file: OutboxFile) -> None:
        self.file = file
        self.recovered: Recovered = file.open()

    def put(self, *numbers: int, payload_bytes: int = 20, qos: int = 1) -> None:
        self.file.commit(Commit(insert=tuple(record(number, payload_bytes, qos) for number in numbers)))

    def all(self) -> tuple[Record, ...]:
        return self.file.page(EVERYTHING).records

    def numbers(self) -> list[int]:
        return [each.number for each in self.all()]


def record(number: int, payload_bytes: int = 20, qos: int = 1) -> Record:
    return Record(number, Message("a/topic", b"%06d" % number + b"." * (payload_bytes - 6), qos))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the outbox is. Its directory is there."""
    return tmp_path / "outbox.db"


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def opened(path: Path, calendar: Calendar) -> Iterator[Callable[..., Opened]]:
    """`opened()`: open the outbox, as the next process would once the last one has closed it. Closed at the end."""
    files: list[OutboxFile] = []

    def open_it(where: Path = path, *, durability: Durability = "power") -> Opened:
        file = OutboxFile(where, durability=durability, machine=Machine(calendar))
        files.append(file)
        return Opened(file)

    yield open_it
    for file in files:
        file.close()
