"""The verdict over a journal: every expectation of its header, and what no run may break. Pure, and needs no run."""

import math

from hawk.scenario import units
from hawk.scenario.expectations import METRICS, OPERATORS, Expectation, NoExpectation, Percent, parse
from hawk.scenario.facts import Facts
from hawk.scenario.journal import Ended, FaultRan, Journal, JournalBroken, Verdict, VerdictRow
from hawk.scenario.metrics import Measure, measure
from hawk.scenario.units import Rate


def judge(journal: Journal) -> Verdict:
    """Judge a run by its journal alone. Raises `JournalBroken` when the header's expectations cannot be read."""
    header, facts = journal.header, Facts(journal)
    try:
        expectations = [parse(each.text, why=each.why, abort=each.abort) for each in header.expectations]
    except NoExpectation as error:
        raise JournalBroken(1, str(error)) from error
    rows = [_judged(each, facts) for each in expectations]
    rows += _never_allowed(journal)
    ended = journal.of(Ended)
    aborted = ended[-1].aborted if ended else "the journal ends before the run did"
    return Verdict(header.scenario, header.seed, header.backend, tuple(rows), aborted)


def _judged(expectation: Expectation, facts: Facts) -> VerdictRow:
    found = measure(expectation, facts)
    limit = _limit(expectation, facts)
    told_limit = f"{expectation.operator} {expectation.limit_text}"
    if found.value is None:
        return VerdictRow(expectation.text, "none", told_limit, None, False, expectation.why, found.note)
    passed = bool(OPERATORS[expectation.operator](found.value, limit))
    return VerdictRow(
        expectation.text,
        _shown(expectation, found),
        told_limit,
        _margin(expectation.operator, found.value, limit),
        passed,
        expectation.why,
        "" if passed else found.note,
    )


def _never_allowed(journal: Journal) -> list[VerdictRow]:
    """Rows for what breaks any run; none when all is well."""
    rows = []
    idle: dict[str, int] = {}
    for fault in journal.of(FaultRan):
        if fault.scripted:
            name = fault.fault if fault.label == fault.fault else f"{fault.label} ({fault.fault})"
            idle[name] = idle.get(name, 0) + fault.bites
    for name, bites in idle.items():
        if not bites:
            note = "it touched nothing: let there be traffic, a dial or a link for it to break, or take it out"
            rows.append(VerdictRow(f"{name} bites", "0", "> 0", None, False, "", note))
    imbalance = sum(each.balance for each in journal.of(Ended))
    if imbalance:
        note = "hawk's ledger did not balance: this is a bug of hawk's, please report it with this journal"
        rows.append(VerdictRow("the ledger balances", f"off by {imbalance}", "== 0", None, False, "", note))
    return rows


def _limit(expectation: Expectation, facts: Facts) -> float | str:
    match expectation.limit:
        case Percent(share):
            return float(share * len(facts.accepted))
        case Rate(messages, _, _):
            return float(messages)
        case limit:
            return limit  # type: ignore[no-any-return]


def _shown(expectation: Expectation, found: Measure) -> str:
    value = found.value
    if isinstance(value, str) or value is None:
        return str(value)
    match METRICS[expectation.metric].unit:
        case "duration":
            return units.show_duration(value)
        case "size":
            return units.show_size(value)
        case "share":
            return f"{100 * value:.1f} %"
        case "rate":
            every_s = expectation.limit.every_s
            unit = {1.0: "s", 60.0: "min", 3600.0: "h"}.get(every_s, units.show_duration(every_s))
            return f"{value:g}/{unit}"
        case _:
            return f"{value:g}"


def _margin(sign: str, value: float | str, limit: float | str) -> float | None:
    """How much room is left, as a share of the limit; below 0 when it is broken. None where there is no room to speak of."""
    if isinstance(value, str) or isinstance(limit, str) or sign in ("==", "!=") or math.isinf(value):
        return None
    room = limit - value if sign in ("<=", "<") else value - limit
    return room / limit if limit else None
