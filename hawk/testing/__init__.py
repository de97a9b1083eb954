"""What applications test with: an in-process broker, virtual time, links that fail on purpose, checkers of histories."""

from hawk.stores.memory import MemoryStore
from hawk.testing.broker import Broker
from hawk.testing.history import Verdict, duplicated, illegal_edges, judge, lost, reordered
from hawk.testing.network import Network
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import VirtualWallClock, run

__all__ = [
    "Broker",
    "MemoryStore",
    "Network",
    "Rehearsal",
    "Verdict",
    "VirtualWallClock",
    "duplicated",
    "illegal_edges",
    "judge",
    "lost",
    "reordered",
    "run",
]
