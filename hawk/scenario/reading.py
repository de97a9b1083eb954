"""Reads a scenario file: YAML into a `Scenario`, with everything that is wrong told at once, each with its place.

`read_scenario(path)` raises `ConfigInvalid`; its problems are `night.yaml:7:6: timeline.1.at: not a duration (...)`.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from hawk.config import Config
from hawk.errors import ConfigInvalid, Problem
from hawk.scenario import readers, units
from hawk.scenario.elsewhere import labels_in, misfits
from hawk.scenario.expectations import Expectation, NoExpectation, labels_of, parse
from hawk.scenario.model import SECRETS, BrokerPart, FaultEntry, Scenario, TimelineEntry, Traffic
from hawk.scenario.reading_timeline import read_timeline
from hawk.scenario.sections import Section, one_of, text, truth, unknown, whole
from hawk.service.located import Item, legible, places_in
from hawk.service.schema import FILE_ONLY, SETTINGS
from hawk.service.yaml_reading import read_yaml

MOST_CLIENTS = 10_000
MOST_VARIANTS = 10_000
MOST_MESSAGES = 10_000_000

_DEEPEST = 8
_SEEDS = re.compile(r"\s*([0-9]+)\s*\.\.\s*([0-9]+)\s*\Z")
_NOTHING = Scenario("", 1.0)


def read_scenario(path: Path) -> Scenario:
    """Read and judge the file at `path`. Raises `ConfigInvalid` with every problem."""
    source = legible(path)
    try:
        data = path.read_bytes()
        content = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigInvalid([Problem(source, f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid([Problem(source, "is not UTF-8 text")]) from error
    return read_text(content, source)


def read_text(content: str, source: str) -> Scenario:
    """Read and judge a scenario that stands in a text. Raises `ConfigInvalid` with every problem."""
    tree = read_yaml(content, source, deepest=_DEEPEST, lists=True, needs="a scenario (see `hawk scenario new`)")
    problems = list(tree.problems)
    scenario = _NOTHING if tree.top is None else _Reading(tree.top, problems).scenario()
    if problems:
        raise ConfigInvalid(sorted(problems, key=lambda problem: _line_and_column(problem, source)))
    return scenario


class _Reading:
    """One walk through a file."""

    def __init__(self, top: Item, problems: list[Problem]) -> None:
        self._top = Section("", top, problems)
        self._problems = problems
        self._places = places_in(top)

    def scenario(self) -> Scenario:
        top = self._top
        top.need("hawk", readers.format_version, 1)
        broker = self._broker()
        timeline_items = top.entries("timeline")
        clock: Literal["virtual", "real"] = (
            "real" if top.take("clock", one_of("virtual", "real"), "") == "real" else "virtual"
        )
        settings, outbox = self._client()
        timeline = read_timeline(timeline_items, self._problems)
        scenario = Scenario(
            name=top.need("name", readers.scenario_name, "unnamed"),
            about=top.take("about", text, ""),
            seed=top.take("seed", whole(0, readers.LARGEST_SEED), 0),
            duration_s=top.need("duration", readers.script_length, readers.LONGEST_S),
            clock="real" if broker.url else clock,
            broker=broker,
            settings=settings,
            outbox=outbox,
            traffic=tuple(
                self._traffic(Section(f"traffic.{place}", item, self._problems))
                for place, item in enumerate(top.entries("traffic"))
            ),
            timeline=tuple(entry for entry in timeline if entry is not None),
            matrix=self._matrix(),
            abort_if=top.take("abort_if", readers.abort_if, None),
            places=self._places,
        )
        expectations = self._expectations(scenario.timeline)
        self._look_across(scenario, timeline, timeline_items)
        top.finish()
        return replace(scenario, expectations=expectations)

    def _broker(self) -> BrokerPart:
        section = self._top.section("broker")
        if section is None:
            return BrokerPart()
        section.take("kind", one_of("embedded"), "embedded")
        sessions: Literal["keep", "lose"] = (
            "lose" if section.take("session", one_of("keep", "lose"), "") == "lose" else "keep"
        )
        url = section.take("url", readers.broker_url, None)
        if url is not None and ("kind" in section or "session" in section):
            section.problem_at(
                "url", "stands beside `kind` or `session`, which are hawk's own broker's; give one of the two"
            )
        section.finish()
        return BrokerPart(sessions, url)

    def _client(self) -> tuple[dict[str, Any], Literal["memory", "durable"]]:
        section = self._top.section("client")
        if section is None:
            return {}, "memory"
        durable = section.take("outbox", one_of("memory", "durable"), "memory") == "durable"
        section.take("version", readers.protocol_version, 5)
        settings: dict[str, Any] = {}
        for name in SETTINGS:
            if name in section and name not in ("outbox", "version"):
                value = section.take(name, readers.setting(name), None)
                if name not in FILE_ONLY and (value is not None or SETTINGS[name].may_be_null):
                    settings[name] = value
        section.finish(also=SETTINGS)
        try:
            Config.from_mapping(settings)
        except ConfigInvalid as invalid:
            for problem in invalid.problems:
                section.problem_at(problem.key, problem.what)
        return settings, "durable" if durable else "memory"

    def _traffic(self, section: Section) -> Traffic:
        publishes = "pub" in section
        topic = section.take("pub", readers.topic, "t") if publishes else section.need("sub", readers.topic_filter, "t")
        if publishes and "sub" in section:
            section.item("sub")
            section.problem_at("sub", "stands beside `pub`; give each an entry of its own")
        rate = section.need("rate", units.rate, units.Rate(1, 1)) if publishes else None
        traffic = Traffic(
            topic,
            rate,
            clients=section.take("clients", whole(1, MOST_CLIENTS), 1),
            qos=section.take("qos", whole(0, 2), 1),
        )
        if publishes:
            start_s = section.take("start", units.duration_s, 0.0)
            stop_s = section.take("stop", units.duration_s, None)
            if stop_s is not None and stop_s <= start_s:
                section.problem_at("stop", "must be later than `start`")
            traffic = traffic._replace(
                size_bytes=section.take("size", readers.payload_size, 16),
                retain=section.take("retain", truth, False),
                start_s=start_s,
                stop_s=stop_s,
            )
        section.finish()
        return traffic

    def _matrix(self) -> dict[str, tuple[Any, ...]]:
        section = self._top.section("matrix")
        if section is None:
            return {}
        found: dict[str, tuple[Any, ...]] = {}
        variants = 1
        for key in section.keys:
            item = section.item(key)
            assert item is not None
            if key.removeprefix("client.") in SECRETS:
                what = "an axis names its runs, and a credential must not be told; set it under `client`"
                self._problems.append(item.key_at.problem(section.name_of(key), what))
                continue
            reader = readers.axis(key)
            if reader is None:
                axes = ("backend", "seed", *(f"client.{name}" for name in SETTINGS))
                self._problems.append(item.key_at.problem(section.name_of(key), unknown("axis", key, axes)))
                continue
            values = self._axis_values(section, item, reader, key)
            variants *= max(1, len(values))
            if values:
                found[key] = values
        if variants > MOST_VARIANTS:
            section.problems.append(section.at.problem("matrix", f"makes {variants} runs; {MOST_VARIANTS} is the most"))
        return found

    def _axis_values(self, section: Section, item: Item, reader: Callable[[object], Any], key: str) -> tuple[Any, ...]:
        if key == "seed" and isinstance(item.value, str) and (span := _SEEDS.match(item.value)) is not None:
            seeds = range(int(span[1]), int(span[2]) + 1)
            if not seeds:
                section.problem(item, "ends before it begins")
                return ()
            if len(seeds) > MOST_VARIANTS:
                section.problem(item, f"more than {MOST_VARIANTS} seeds")
                return ()
            return tuple(seeds)
        if not isinstance(item.value, list) or not item.value:
            section.problem(item, "must be a list of values ([a, b])" + (", or 1..20" if key == "seed" else ""))
            return ()
        values = []
        for place, each in enumerate(item.value):
            try:
                values.append(reader(each.value))
            except ValueError as error:
                self._problems.append(each.value_at.problem(f"matrix.{key}.{place}", str(error)))
        if len({repr(value) for value in values}) < len(values):
            section.problem(item, "holds a value twice")
        return tuple(values)

    def _expectations(self, timeline: tuple[TimelineEntry, ...]) -> tuple[Expectation, ...]:
        labels, expected = labels_in(timeline), self._top.item("expect")
        found: list[Expectation] = []
        for place, item in enumerate(self._top.entries("expect")):
            path, at = f"expect.{place}", item.value_at
            words, why, abort = item.value, "", False
            if isinstance(item.value, tuple):
                section = Section(path, item, self._problems)
                words = section.need("check", text, "lost == 0")
                at, path = section.place_of("check"), f"{path}.check"
                why, abort = section.take("why", text, ""), section.take("abort", truth, False)
                section.finish()
            try:
                expectation = parse(str(words), why=why, abort=abort)
            except NoExpectation as error:
                self._problems.append(at.problem(path, str(error)))
                continue
            found.append(expectation)
            self._problems += [
                at.problem(path, unknown("label", label, labels) if labels else f"no fault is labelled {label!r}")
                for label in labels_of(expectation)
                if label not in labels
            ]
        if "expect" not in self._top:
            self._top.need("expect", text, "")
        elif expected is not None and expected.value in ([], None):
            self._top.problem_at("expect", "expects nothing, so that nothing could fail: give at least `lost == 0`")
        return tuple(found)

    def _look_across(self, scenario: Scenario, timeline: tuple[TimelineEntry | None, ...], items: list[Item]) -> None:
        """What is wrong with one part only because of another."""
        self._problems += [scenario.problem_at(path, why) for path, why in misfits(timeline, scenario)]
        for place, item in enumerate(items):
            if isinstance(item.value, tuple):
                entry = Section(f"timeline.{place}", item, self._problems)
                at_s = entry.take("at", _or_zero, 0.0)
                if "duration" in self._top and at_s >= scenario.duration_s:
                    entry.problem_at("at", "is not before the end of the script (`duration`)")
        for place, each in enumerate(timeline):
            client = each.fault.arguments.get("client", 0) if isinstance(each, FaultEntry) else 0
            if client > scenario.clients:
                what = f"there is no client {client}: the file has {scenario.clients}"
                self._problems.append(scenario.problem_at(f"timeline.{place}.client", what))
        self._look_at_traffic(scenario)

    def _look_at_traffic(self, scenario: Scenario) -> None:
        if not any(each.rate is not None for each in scenario.traffic):
            self._top.problem_at("traffic", "nothing is published: give at least one {pub: topic, rate: 1/s}")
        if "duration" not in self._top:
            return
        for place, each in enumerate(scenario.traffic):
            if each.rate is not None and each.start_s >= scenario.duration_s:
                what = "is not before the end of the script (`duration`)"
                self._problems.append(scenario.problem_at(f"traffic.{place}.start", what))
            elif each.rate is not None and each.clients * each.rate.messages * scenario.duration_s > (
                MOST_MESSAGES * each.rate.every_s
            ):
                what = f"makes more than {MOST_MESSAGES:,} messages in the whole script"
                self._problems.append(scenario.problem_at(f"traffic.{place}.rate", what))


def _or_zero(value: object) -> float:
    try:
        return units.duration_s(value)
    except ValueError:
        return 0.0


def _line_and_column(problem: Problem, source: str) -> tuple[int, int]:
    line, _, rest = problem.key.removeprefix(f"{source}:").partition(":")
    column = rest.partition(":")[0]
    return (int(line), int(column)) if line.isdigit() and column.isdigit() else (0, 0)
