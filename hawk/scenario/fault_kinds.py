"""The faults that a scenario file can name, each with what it takes. A table, and nothing else. Pure.

What each does to the world is in `weather.py`; how a file is read against this table in `reading.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from hawk.core.refusals import CONNACK, DISCONNECT

Unit = Literal["duration", "size", "byte rate", "share", "words", "number"]


class Argument(NamedTuple):
    """One argument of a fault: its unit, its value when it is not given (None: it must be), and its words if it has any."""

    unit: Unit
    default: object
    what: str
    words: tuple[str, ...] = ()


class FaultKind(NamedTuple):
    """A kind of fault. `lasting`: it goes on for its `for`; else it is a blow.

    `default_for_s` None: without a `for` it lasts until `heal`, or until the script ends. `reasons`: MQTT's names and
    codes, of which one stands in brackets after the kind. `real`: it can be done where the broker is not hawk's own: in the
    client, or by the proxy, which then behaves as the broker would. `virtual_only`: there is nothing of the kind on sockets.
    """

    what: str
    lasting: bool = True
    default_for_s: float | None = None
    needs_for: bool = False
    has_way: bool = False
    reasons: Mapping[str, int] = MappingProxyType({})
    arguments: Mapping[str, Argument] = MappingProxyType({})
    real: bool = False
    virtual_only: bool = False


def _slugs(names: Mapping[int, str]) -> Mapping[str, int]:
    """MQTT's names as files write them: `Server busy` is `server-busy`."""
    return {name.lower().replace(" ", "-"): code for code, name in names.items()}


_CONNACK_REASONS = _slugs({code: refusal.name for code, refusal in CONNACK.items()})
_DISCONNECT_REASONS = _slugs({code: refusal.name for code, refusal in DISCONNECT.items() if code >= 0x80})
_CLIENT = {"client": Argument("number", 0, "the number of the one client it befalls; 0 stands for all")}

FAULT_KINDS: Final[Mapping[str, FaultKind]] = {
    "dns.fail": FaultKind("the broker's name cannot be looked up", real=True),
    "dns.slow": FaultKind(
        "looking the name up takes longer",
        arguments={"delay": Argument("duration", 5.0, "how much longer")},
        real=True,
    ),
    "link.refuse": FaultKind("nobody listens: new connections are refused, those that live go on", real=True),
    "link.blackhole": FaultKind("bytes vanish, connects hang, nobody is told", has_way=True, real=True),
    "link.reset": FaultKind("every link breaks, as by an RST", lasting=False, real=True),
    "link.latency": FaultKind(
        "every byte is late",
        arguments={
            "mean": Argument("duration", None, "the mean delay of one way"),
            "jitter": Argument("duration", 0.0, "how far from the mean at most"),
        },
        real=True,
    ),
    "link.bandwidth": FaultKind(
        "few bytes pass in a second",
        has_way=True,
        arguments={"rate": Argument("byte rate", None, "bytes in a second, of each link")},
        real=True,
    ),
    "link.slice": FaultKind(
        "bytes arrive in small pieces",
        arguments={"size": Argument("size", 1, "the largest piece")},
        real=True,
    ),
    "link.cut": FaultKind(
        "every link ends; with `way`, in that direction alone; with `after`, in the midst of what is sent",
        lasting=False,
        has_way=True,
        arguments={"after": Argument("size", 0, "bytes that still pass upwards before each link breaks")},
        real=True,
    ),
    "tls.expired": FaultKind("the broker's certificate has expired: new connections fail", virtual_only=True),
    "tls.stall": FaultKind("the TLS handshake gets no answer: new connections hang", virtual_only=True),
    "mqtt.connack": FaultKind(
        "every link breaks, and each CONNECT is refused with this reason", reasons=_CONNACK_REASONS, real=True
    ),
    "mqtt.disconnect": FaultKind(
        "the broker says DISCONNECT with this reason to everybody", lasting=False, reasons=_DISCONNECT_REASONS
    ),
    "mqtt.no_ack": FaultKind("the broker takes messages and acknowledges none"),
    "mqtt.drop_pingresp": FaultKind("the broker answers no ping"),
    "mqtt.session_lost": FaultKind("every link breaks, and the broker has forgotten its sessions", lasting=False),
    "broker.down": FaultKind("the broker is killed; it is back at the end", real=True),
    "broker.restart": FaultKind("the broker says goodbye, and is back at the end", default_for_s=1.0, real=True),
    "broker.pause": FaultKind("the broker keeps its links, and neither reads nor says anything", real=True),
    "client.crash": FaultKind(
        "kill -9; the program is started again at the end, with the same outbox",
        default_for_s=1.0,
        arguments=_CLIENT,
        real=True,
    ),
    "host.disk_full": FaultKind("the outbox cannot be written", real=True),
    "host.suspend": FaultKind("the computers sleep: time goes on, and nobody runs", needs_for=True, virtual_only=True),
    "host.clock_jump": FaultKind(
        "somebody sets the calendar; durations go on as before",
        lasting=False,
        arguments={
            "by": Argument("duration", None, "how far"),
            "direction": Argument("words", "forward", "where to", ("forward", "back")),
        },
        virtual_only=True,
    ),
}
