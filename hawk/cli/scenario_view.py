"""A verdict as a table for people, as JSON, and as JUnit XML; and two journals side by side."""

import json
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from hawk.scenario.journal import Journal, Verdict, VerdictRow, to_line
from hawk.scenario.judging import judge
from hawk.scenario.sweep import Outcome
from hawk.scenario.variants import title_of

_WIDEST = 60
_OK, _BAD = "\u2713", "\u2717"


def show_verdict(verdict: Verdict) -> str:
    """The table of expectations, and one line that sums up."""
    rows = [("", "expectation", "actual", "limit", "margin")]
    rows += [
        (_OK if row.passed else _BAD, _subject(row), row.actual, row.limit, _margin(row.margin)) for row in verdict.rows
    ]
    widths = [min(_WIDEST, max(len(row[column]) for row in rows)) for column in range(5)]
    lines = [
        f"{mark:<1}  {name:<{widths[1]}}  {actual:>{widths[2]}}  {limit:>{widths[3]}}  {margin:>{widths[4]}}".rstrip()
        for mark, name, actual, limit, margin in rows
    ]
    lines += [f"   {_subject(row)}: {row.note}" for row in verdict.rows if row.note and not row.passed]
    lines += [f"   {_subject(row)}: {row.why}" for row in verdict.rows if row.why and not row.passed]
    passed = sum(row.passed for row in verdict.rows)
    ended = f", ended early: {verdict.aborted}" if verdict.aborted else ""
    lines.append(f"{'PASS' if verdict.passed else 'FAIL'} {passed}/{len(verdict.rows)}{ended}")
    return "\n".join(lines) + "\n"


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
            lines.append(f"    <failure message={message}>{escape(show_verdict(outcome.verdict))}</failure>")
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


def _subject(row: VerdictRow) -> str:
    """The expectation without its limit, which has a column of its own."""
    subject = row.expectation.replace(row.limit, "", 1) if row.limit else row.expectation
    return " ".join(subject.split())


def _margin(margin: float | None) -> str:
    return "" if margin is None else f"{round(100 * margin)} %"
