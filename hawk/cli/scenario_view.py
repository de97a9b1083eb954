"""Outcomes as JSON and as JUnit XML, and two journals side by side. For people `hawk.scenario.report` shows them."""

import json
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from hawk.scenario.journal import Journal, Verdict, to_line
from hawk.scenario.judging import judge
from hawk.scenario.sweep import Outcome
from hawk.scenario.variants import title_of

_OK, _BAD = "\u2713", "\u2717"


def verdict_json(verdict: Verdict) -> str:
    """One object on one line."""
    rows = [row._asdict() for row in verdict.rows]
    return json.dumps(verdict._asdict() | {"rows": rows, "passed": verdict.passed}, ensure_ascii=False) + "\n"


def outcome_json(outcome: Outcome) -> str:
    """One object on one line: the run, its verdict, its journal."""
    verdict = outcome.verdict
    found: dict[str, object] = {
        "scenario": outcome.scenario.name,
        "seed": outcome.scenario.seed,
        "backend": outcome.scenario.backend,
        "passed": outcome.passed,
        "journal": str(outcome.journal),
        "cpu_s": round(outcome.cpu_s, 3),
    }
    if verdict is None:
        found["error"] = outcome.error
    else:
        found |= {"aborted": verdict.aborted, "rows": [row._asdict() for row in verdict.rows]}
    return json.dumps(found, ensure_ascii=False) + "\n"


def junit(outcomes: Iterable[Outcome]) -> str:
    """One test case for each run; what failed stands in it."""
    all_outcomes = list(outcomes)
    failures = sum(not outcome.passed and outcome.verdict is not None for outcome in all_outcomes)
    errors = sum(outcome.verdict is None for outcome in all_outcomes)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<testsuite name="hawk scenario" tests="{len(all_outcomes)}" failures="{failures}" errors="{errors}">',
    ]
    for outcome in all_outcomes:
        name, classname = quoteattr(title_of(outcome.scenario)), quoteattr(outcome.scenario.name)
        lines.append(f'  <testcase classname={classname} name={name} time="{outcome.cpu_s:.3f}">')
        if outcome.verdict is None:
            lines.append(f'    <error message="the run raised">{escape(outcome.error)}</error>')
        elif not outcome.passed:
            broken = ", ".join(row.expectation for row in outcome.verdict.rows if not row.passed)
            message = quoteattr(broken or outcome.verdict.aborted)
            rows = [
                f"{row.expectation}: {row.actual} {row.note}".strip() for row in outcome.verdict.rows if not row.passed
            ]
            told = escape("\n".join([*rows, str(outcome.journal)]))
            lines.append(f"    <failure message={message}>{told}</failure>")
        lines.append("  </testcase>")
    return "\n".join([*lines, "</testsuite>", ""])


def show_difference(first: Journal, second: Journal) -> str:
    """What tells two journals apart; empty if they hold the same."""
    lines = []
    ours, theirs = ({row.expectation: row for row in judge(journal).rows} for journal in (first, second))
    for text in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(text), theirs.get(text)
        if one is None or other is None:
            lines.append(f"{text}: only in the {'second' if one is None else 'first'}")
        elif (one.actual, one.passed) != (other.actual, other.passed):
            marks = [_OK if row.passed else _BAD for row in (one, other)]
            lines.append(f"{text}: {marks[0]} {one.actual} -> {marks[1]} {other.actual}")
    if first.header != second.header:
        names = [name for name in first.header._fields if getattr(first.header, name) != getattr(second.header, name)]
        lines.append(f"the headers differ: {', '.join(names)}")
    for number, (event, other_event) in enumerate(zip(first.events, second.events, strict=False), 1):
        if event != other_event:
            told = [f"  {to_line(each).strip()}" for each in (event, other_event)]
            lines += [f"the first event that differs is number {number}:", *told]
            break
    else:
        if len(first.events) != len(second.events):
            lines.append(f"{len(first.events)} events -> {len(second.events)} events")
    return "".join(f"{line}\n" for line in lines)
