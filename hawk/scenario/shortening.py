"""A scenario in time lapse: the same story, message for message, in a fraction of its time. Pure.

For the real clock, which nobody can hurry. Every duration is divided by the factor, every rate is multiplied; counts, sizes
and shares stay. What a real machine and a real network need does not shrink: timeouts, keep alive and limits end at a floor.
"""

import math
from dataclasses import fields, replace
from typing import Any

from hawk.config import Config, ReconnectionConfig
from hawk.scenario.expectations import METRICS, Expectation
from hawk.scenario.fault_kinds import FAULT_KINDS
from hawk.scenario.model import AbortIf, Fault, FaultEntry, HealEntry, RandomEntry, Scenario, TimelineEntry, Traffic
from hawk.scenario.units import Rate, Span, write_duration

SHORTEST_WAIT_S = 1.0
"""No keep alive and no timeout goes below it: there a busy machine would look like a dead broker."""

SHORTEST_LIMIT_S = 3.0
"""No limit of a duration is below it: so long it may take to notice a dead link with that keep alive, and to dial."""

_WAITS = ("health_check_interval", "connection_timeout", "ping_timeout_s", "ack_timeout_s", "suback_timeout_s")
_PACES = ("initial_retry_delay", "max_retry_delay", "stable_after_s", "return_grace_s", "message_expiry_s")
_SHORTEST_PACE_S = 0.001
_DEFAULTS: dict[str, Any] = {each.name: each.default for kind in (Config, ReconnectionConfig) for each in fields(kind)}


def shortened(scenario: Scenario, factor: float) -> Scenario:
    """The scenario in that fraction of its time; `factor` is above 0, and 1 changes nothing.

    What its `matrix` says of durations is not looked at: shorten the variants.
    """
    if factor == 1:
        return scenario
    return replace(
        scenario,
        duration_s=scenario.duration_s / factor,
        settings=_settings(scenario.settings, factor),
        traffic=tuple(_traffic(each, factor) for each in scenario.traffic),
        timeline=tuple(_entry(each, factor) for each in scenario.timeline),
        expectations=tuple(_expectation(each, factor) for each in scenario.expectations),
        abort_if=None if scenario.abort_if is None else _abort_if(scenario.abort_if, factor),
    )


def _settings(given: Any, factor: float) -> dict[str, Any]:
    """hawk's own durations, those with their defaults too: a story has its pace of them."""
    found = dict(given)
    for names, least_s in ((_WAITS, SHORTEST_WAIT_S), (_PACES, _SHORTEST_PACE_S)):
        for name in names:
            whole_s = given.get(name, _DEFAULTS[name])
            if whole_s is not None:
                # What the file has shorter than the floor stays as it is.
                found[name] = min(float(whole_s), max(whole_s / factor, least_s))
    if given.get("session_expiry_s"):
        found["session_expiry_s"] = math.ceil(given["session_expiry_s"] / factor)
    return found


def _traffic(traffic: Traffic, factor: float) -> Traffic:
    return traffic._replace(
        rate=None if traffic.rate is None else _rate(traffic.rate, factor),
        start_s=traffic.start_s / factor,
        stop_s=None if traffic.stop_s is None else traffic.stop_s / factor,
    )


def _entry(entry: TimelineEntry, factor: float) -> TimelineEntry:
    match entry:
        case HealEntry(at_s):
            return HealEntry(at_s / factor)
        case RandomEntry():
            return RandomEntry(
                entry.from_s / factor,
                entry.to_s / factor,
                _span(entry.every, factor),
                _span(entry.lasting, factor),
                tuple(_fault(fault, factor) for fault in entry.pick),
            )
        case FaultEntry():
            default_s = FAULT_KINDS[entry.fault.kind].default_for_s
            for_s = default_s if entry.for_s is None else entry.for_s
            return entry._replace(
                at_s=entry.at_s / factor,
                fault=_fault(entry.fault, factor),
                for_s=None if for_s is None else for_s / factor,
                every_s=entry.every_s / factor,
            )


def _fault(fault: Fault, factor: float) -> Fault:
    arguments = dict(fault.arguments)
    for name, argument in FAULT_KINDS[fault.kind].arguments.items():
        if argument.unit == "duration":
            arguments[name] /= factor
        elif argument.unit == "byte rate":
            arguments[name] *= factor
    return fault._replace(arguments=arguments)


def _expectation(expectation: Expectation, factor: float) -> Expectation:
    limit, limit_text, window = expectation.limit, expectation.limit_text, expectation.window
    match METRICS[expectation.metric].unit:
        case "duration":
            is_upper = expectation.operator in ("<", "<=")
            limit = max(limit / factor, SHORTEST_LIMIT_S) if is_upper else limit / factor
            limit_text = write_duration(limit)
        case "rate":
            limit = _rate(limit, factor)
            limit_text = f"{limit.messages:g}/{write_duration(limit.every_s)}"
        case _:
            if not window.plus_s:
                return expectation
    window = window._replace(plus_s=window.plus_s / factor)
    argument = f"({expectation.argument})" if expectation.argument else ""
    plus = f"+{write_duration(window.plus_s)}" if window.plus_s else ""
    when = f" {window.kind} {window.label}{plus}" if window.kind != "all" else ""
    text = f"{expectation.metric}{argument} {expectation.operator} {limit_text}{when}"
    return expectation._replace(text=text, limit=limit, limit_text=limit_text, window=window)


def _abort_if(abort_if: AbortIf, factor: float) -> AbortIf:
    if not abort_if.for_s:
        return abort_if
    for_s = abort_if.for_s / factor
    text = f"{abort_if.text.partition(' for ')[0]} for {write_duration(for_s)}"
    return abort_if._replace(text=text, for_s=for_s)


def _rate(rate: Rate, factor: float) -> Rate:
    return rate._replace(every_s=rate.every_s / factor)


def _span(span: Span, factor: float) -> Span:
    return Span(span.least / factor, span.most / factor)
