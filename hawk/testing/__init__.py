"""What applications test with: an in-process broker, virtual time, links that fail on purpose, checkers of histories.

Everything public is here, and comes in when it is first used.
"""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hawk.stores.memory import MemoryStore as MemoryStore
    from hawk.testing.broker import Broker as Broker
    from hawk.testing.history import Verdict as Verdict
    from hawk.testing.history import duplicated as duplicated
    from hawk.testing.history import illegal_edges as illegal_edges
    from hawk.testing.history import judge as judge
    from hawk.testing.history import lost as lost
    from hawk.testing.history import reordered as reordered
    from hawk.testing.network import Network as Network
    from hawk.testing.proxy import FaultProxy as FaultProxy
    from hawk.testing.proxy_timeline import Spell as Spell
    from hawk.testing.proxy_timeline import Weather as Weather
    from hawk.testing.rehearsal import Rehearsal as Rehearsal
    from hawk.testing.virtual_pace import Pace as Pace
    from hawk.testing.virtual_time import VirtualWallClock as VirtualWallClock
    from hawk.testing.virtual_time import run as run

_HOME_OF = {
    "Broker": "hawk.testing.broker",
    "FaultProxy": "hawk.testing.proxy",
    "MemoryStore": "hawk.stores.memory",
    "Network": "hawk.testing.network",
    "Pace": "hawk.testing.virtual_pace",
    "Rehearsal": "hawk.testing.rehearsal",
    "Spell": "hawk.testing.proxy_timeline",
    "Verdict": "hawk.testing.history",
    "VirtualWallClock": "hawk.testing.virtual_time",
    "Weather": "hawk.testing.proxy_timeline",
    "duplicated": "hawk.testing.history",
    "illegal_edges": "hawk.testing.history",
    "judge": "hawk.testing.history",
    "lost": "hawk.testing.history",
    "reordered": "hawk.testing.history",
    "run": "hawk.testing.virtual_time",
}

__all__ = [
    "Broker",
    "FaultProxy",
    "MemoryStore",
    "Network",
    "Pace",
    "Rehearsal",
    "Spell",
    "Verdict",
    "VirtualWallClock",
    "Weather",
    "duplicated",
    "illegal_edges",
    "judge",
    "lost",
    "reordered",
    "run",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hawk.testing' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value
