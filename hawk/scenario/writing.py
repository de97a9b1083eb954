"""Writes a scenario as a YAML file that reads back as the same: for what was shrunk, and for `hawk scenario show`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hawk.scenario.fault_kinds import FAULT_KINDS
from hawk.scenario.model import SECRETS, Fault, FaultEntry, HealEntry, RandomEntry, Scenario, TimelineEntry, Traffic
from hawk.scenario.units import Rate, Span, write_duration
from hawk.service.scalars import read_plain, write

SCHEMA_LINE = "# yaml-language-server: $schema=schema.v1.json\n"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./%()-]*\Z")
_SENTENCE = re.compile(r"[A-Za-z][^:#'\"{}\[\],&*!|>%@`\n]*\Z")


def scenario_yaml(scenario: Scenario) -> str:
    """The scenario as a file. Credentials are left out, for a file is soon passed on."""
    lines = [SCHEMA_LINE + "hawk: 1", f"name: {_scalar(scenario.name)}"]
    if scenario.about:
        lines.append(f"about: {_sentence(scenario.about)}")
    if scenario.clock == "real" and scenario.broker.url is None:
        lines.append("clock: real")
    lines += [f"seed: {scenario.seed}", f"duration: {write_duration(scenario.duration_s)}"]
    matrix = dict(scenario.matrix) or {"backend": (scenario.backend,)}
    lines.append(f"matrix: {_flow({axis: list(values) for axis, values in matrix.items()})}")
    if scenario.broker.url is not None:
        lines.append(f"broker: {_flow({'url': scenario.broker.shown_url})}")
    elif scenario.broker.sessions != "keep":
        lines.append(f"broker: {_flow({'kind': 'embedded', 'session': scenario.broker.sessions})}")
    client = {name: value for name, value in scenario.settings.items() if name not in SECRETS}
    if scenario.outbox == "durable":
        client["outbox"] = "durable"
    if client:
        lines.append(f"client: {_flow(client)}")
    lines += _listed("traffic", (_flow(_traffic(each)) for each in scenario.traffic))
    lines += _listed("timeline", (_entry(each) for each in scenario.timeline))
    if scenario.abort_if is not None:
        lines.append(f"abort_if: {_sentence(scenario.abort_if.text)}")
    lines += _listed("expect", map(_expectation, scenario.expectations))
    return "\n".join(lines) + "\n"


def _listed(key: str, entries: Iterable[str]) -> Iterator[str]:
    written = [f"  - {entry}" for entry in entries]
    if written:
        yield f"{key}:"
        yield from written


def _traffic(traffic: Traffic) -> dict[str, Any]:
    found: dict[str, Any] = {"pub" if traffic.rate is not None else "sub": traffic.topic}
    if traffic.clients != 1:
        found["clients"] = traffic.clients
    if traffic.rate is not None:
        found |= {"rate": _rate(traffic.rate), "qos": traffic.qos, "size": f"{traffic.size_bytes}B"}
        found |= {"retain": True} if traffic.retain else {}
        found |= {"start": write_duration(traffic.start_s)} if traffic.start_s else {}
        return found | ({} if traffic.stop_s is None else {"stop": write_duration(traffic.stop_s)})
    return found | {"qos": traffic.qos}


def _rate(rate: Rate) -> str:
    count, every = f"{rate.messages:g}", write_duration(rate.every_s)
    if rate.shape == "burst":
        return f"burst {count} every {every}"
    return f"{'poisson ' if rate.shape == 'poisson' else ''}{count}/{every}"


def _entry(entry: TimelineEntry) -> str:
    match entry:
        case HealEntry(at_s):
            return _flow({"at": write_duration(at_s), "heal": "all"})
        case RandomEntry():
            return "random: " + _flow(
                {
                    "from": write_duration(entry.from_s),
                    "to": write_duration(entry.to_s),
                    "every": _span(entry.every),
                    "for": _span(entry.lasting),
                    "pick": [_picked(fault) for fault in entry.pick],
                }
            )
        case FaultEntry():
            found: dict[str, Any] = {"at": write_duration(entry.at_s), **_fault(entry.fault)}
            found |= {} if entry.for_s is None else {"for": write_duration(entry.for_s)}
            found |= {"as": entry.label} if entry.label else {}
            found |= {"every": write_duration(entry.every_s), "times": entry.times} if entry.times > 1 else {}
            return _flow(found | ({} if entry.chance == 1 else {"chance": entry.chance}))


def _span(span: Span) -> str:
    return f"{write_duration(span.least)}..{write_duration(span.most)}"


def _picked(fault: Fault) -> object:
    full = _fault(fault)
    return full["fault"] if len(full) == 1 else full


def _fault(fault: Fault) -> dict[str, Any]:
    kind = FAULT_KINDS[fault.kind]
    found: dict[str, Any] = {"fault": fault.words}
    if fault.way and fault.way != "both":
        found["way"] = fault.way
    for name, value in fault.arguments.items():
        argument = kind.arguments[name]
        if value != argument.default:
            match argument.unit:
                case "duration":
                    found[name] = write_duration(value)
                case "size":
                    found[name] = f"{value}B"
                case "byte rate":
                    found[name] = f"{value:g}B/s"
                case _:
                    found[name] = value
    return found


def _expectation(expectation: Any) -> str:
    if not expectation.why and not expectation.abort:
        return _sentence(expectation.text)
    full = {"check": expectation.text} | ({"why": expectation.why} if expectation.why else {})
    return _flow(full | ({"abort": True} if expectation.abort else {}))


def _flow(value: object) -> str:
    match value:
        case Mapping():
            return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case _:
            return _scalar(value)


def _scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN.match(value) and read_plain(value) == value:
        return value
    return write(value)


def _sentence(text: str) -> str:
    """A text that stands alone on its line."""
    return text if _SENTENCE.match(text) and read_plain(text) == text and text == text.strip() else write(text)
