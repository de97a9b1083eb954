"""What each kind of fault does to the world, and how often it touched something.

`Weather.begin` and `end` are called for each occurrence, in order. Lasting faults may overlap: what the network is like
is made anew of all that go on whenever one begins or ends.
"""

from collections.abc import Iterable
from math import inf

from hawk.scenario.fault_kinds import FAULT_KINDS
from hawk.scenario.model import Sessions
from hawk.scenario.schedule import Occurrence
from hawk.scenario.world import Gate, Hosts, Links, Way
from hawk.testing.broker import Broker

_KILLED, _STOPPED = "broker.down", "broker.restart"


_LINK_BITES = {
    "dns.fail": ("name_lookup",),
    "dns.slow": ("slow_name_lookup",),
    "link.refuse": ("refuse",),
    "link.blackhole": ("blackhole",),
    "link.reset": ("reset",),
    "link.latency": ("latency", "jitter"),
    "link.bandwidth": ("bandwidth",),
    "link.slice": ("slice",),
    "link.cut": ("cut", "half_close", "cut_after"),
    "tls.expired": ("tls_expired",),
    "tls.stall": ("tls_stall",),
    "mqtt.connack": ("reset",),
    "mqtt.session_lost": (),
}
_GATE_BITES = {"mqtt.connack": ("refusal",)}
_BROKER_BITES = {
    "mqtt.disconnect": ("disconnect",),
    "mqtt.no_ack": ("no_ack",),
    "mqtt.drop_pingresp": ("no_pingresp",),
    "mqtt.session_lost": ("session_lost",),
    "broker.down": ("down",),
    "broker.restart": ("down", "disconnect"),
    "broker.pause": ("paused",),
}
_STAND_IN_BITES = {
    "broker.down": ("reset", "refuse"),
    "broker.restart": ("cut", "refuse"),
    "broker.pause": ("stall",),
}
"""What the links do where the broker is not hawk's own."""


class Weather:
    """The faults of one run. `broker` is None where it is somebody else's: then the links stand in for it, and `gate`."""

    def __init__(self, links: Links, broker: Broker | None, gate: Gate, hosts: Hosts, *, sessions: Sessions) -> None:
        self._links = links
        self._broker = broker
        self._gate = gate
        self._hosts = hosts
        self._sessions: Sessions = sessions
        self._active: list[Occurrence] = []

    def bites(self, kind: str) -> int:
        """How often faults of that kind have touched something so far."""
        found = sum(self._links.bites[name] for name in _LINK_BITES.get(kind, ()))
        found += sum(self._gate.bites[name] for name in _GATE_BITES.get(kind, ()))
        if self._broker is not None:
            found += sum(self._broker.bites[name] for name in _BROKER_BITES.get(kind, ()))
        else:
            found += sum(self._links.bites[name] for name in _STAND_IN_BITES.get(kind, ()))
        return found + self._hosts.bites.get(kind, 0)

    async def begin(self, occurrence: Occurrence) -> None:
        """Let a fault begin; a blow is over when this returns."""
        fault = occurrence.fault
        if FAULT_KINDS[fault.kind].lasting:
            self._active.append(occurrence)
        broker, links = self._broker, self._links
        match fault.kind:
            case "link.reset":
                links.reset_all()
            case "link.cut" if fault.arguments["after"]:
                links.cut_after(fault.arguments["after"], links_to_come=False)
            case "link.cut" if fault.way != "both":
                links.half_close(_way(fault.way))
            case "link.cut":
                links.cut_all()
            case "mqtt.connack":
                self._set_refusal()
                links.reset_all()
            case "mqtt.disconnect" if broker is not None:
                broker.disconnect_all(FAULT_KINDS[fault.kind].reasons[fault.reason])
            case "mqtt.session_lost" if broker is not None:
                if broker.is_up:
                    await broker.restart(sessions="lose")
            case "broker.down" if broker is not None and broker.is_up:
                await broker.kill()
            case "broker.restart" if broker is not None and broker.is_up:
                await broker.stop()
            case "broker.down" if broker is None:
                self._set_listening()
                links.reset_all()
            case "broker.restart" if broker is None:
                self._set_listening()
                links.cut_all()
            case "client.crash":
                await self._hosts.crash(fault.arguments["client"], occurrence.ends_at_s - occurrence.begins_at_s)
            case "host.suspend":
                self._hosts.sleep(occurrence.ends_at_s - occurrence.begins_at_s)
            case "host.clock_jump":
                forward = fault.arguments["direction"] == "forward"
                self._hosts.set_calendar(fault.arguments["by"] * (1 if forward else -1))
            case _:
                await self._changed(fault.kind)

    async def end(self, occurrence: Occurrence) -> None:
        """Let a lasting fault end."""
        self._active.remove(occurrence)
        await self._changed(occurrence.fault.kind)

    async def _changed(self, kind: str) -> None:
        """Make the world what all that goes on makes of it, as far as that kind has a say."""
        family, links, broker = kind.partition(".")[0], self._links, self._broker
        if kind == "link.blackhole" or (kind == "broker.pause" and broker is None):
            self._set_silence()
        elif kind in ("dns.fail", "link.refuse") or (kind in (_KILLED, _STOPPED) and broker is None):
            self._set_listening()
        elif kind == "mqtt.connack":
            self._set_refusal()
        elif family == "tls":
            links.tls_works()
            if self._goes_on("tls.expired"):
                links.certificate_expired()
            if self._goes_on("tls.stall"):
                links.tls_stalls()
        elif family in ("link", "dns"):
            self._set_pace()
        elif kind == "host.disk_full":
            self._hosts.fill_disk(self._goes_on(kind))
        elif broker is not None:
            await self._set_broker(broker)

    async def _set_broker(self, broker: Broker) -> None:
        broker.acknowledge(not self._goes_on("mqtt.no_ack"))
        broker.answers_pings = not self._goes_on("mqtt.drop_pingresp")
        if not broker.is_up and not self._goes_on(_KILLED) and not self._goes_on(_STOPPED):
            await broker.restart(sessions=self._sessions)
        if self._goes_on("broker.pause"):
            broker.pause()
        else:
            broker.resume()

    def _set_refusal(self) -> None:
        reasons = [each.fault.reason for each in self._active if each.fault.kind == "mqtt.connack"]
        self._gate.refuse_with(FAULT_KINDS["mqtt.connack"].reasons[reasons[-1]] if reasons else None)

    def _set_listening(self) -> None:
        self._links.allow()
        if self._goes_on("dns.fail"):
            self._links.name_lookup_fails()
        is_away = self._broker is None and (self._goes_on(_KILLED) or self._goes_on(_STOPPED))
        if is_away or self._goes_on("link.refuse"):
            self._links.refuse()

    def _set_silence(self) -> None:
        ways = {each.fault.way for each in self._active if each.fault.kind == "link.blackhole"}
        self._links.heal()
        if "both" in ways or {"up", "down"} <= ways:
            self._links.blackhole("both")
        elif ways:
            self._links.blackhole(_way(ways.pop()))
        if self._broker is None and self._goes_on("broker.pause"):
            self._links.stall()

    def _set_pace(self) -> None:
        """The last of each kind that began counts."""
        links = self._links
        links.latency_s = links.jitter_s = links.name_lookup_s = 0.0
        links.slice_bytes = 0
        links.bandwidth_up_bytes_per_s = links.bandwidth_down_bytes_per_s = inf
        for kind, way, arguments in ((each.fault.kind, each.fault.way, each.fault.arguments) for each in self._active):
            match kind:
                case "dns.slow":
                    links.name_lookup_s = arguments["delay"]
                case "link.latency":
                    links.latency_s = max(0.0, arguments["mean"] - arguments["jitter"])
                    links.jitter_s = arguments["mean"] + arguments["jitter"] - links.latency_s
                case "link.slice":
                    links.slice_bytes = arguments["size"]
                case "link.bandwidth":
                    if way != "down":
                        links.bandwidth_up_bytes_per_s = arguments["rate"]
                    if way != "up":
                        links.bandwidth_down_bytes_per_s = arguments["rate"]
                case _:
                    continue

    def _goes_on(self, kind: str) -> bool:
        return any(each.fault.kind == kind for each in self._active)


def kinds_that_bite() -> Iterable[str]:
    """Every kind whose bites are counted by links and broker; the hosts count the others."""
    return {*_LINK_BITES, *_GATE_BITES, *_BROKER_BITES}


def _way(way: str) -> Way:
    match way:
        case "up":
            return "up"
        case "down":
            return "down"
        case _:
            return "both"
