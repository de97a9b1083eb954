"""A run on one screen, made of its journal alone: four lanes on one axis, and the table of expectations.

    broker_flapping  backend trio · virtual clock · seed 7 · 100 s
      faults ············▄▄▄▄▄▄▄▄▄···············▄▄▄▄▄▄▄▄▄········ restart 20-35 · silent 60-75
       state ████████████▒▒▒▒▒▒▒▒▒▒████████████████▒▒▒▒▒▒▒▒███████ 2 reconnects

Never wider than 92 columns. The picture for a browser is in `hawk.scenario.report_page`.
"""

from collections.abc import Iterable, Sequence
from math import ceil, log10
from typing import NamedTuple

from hawk.scenario import report_lanes as lanes
from hawk.scenario.journal import FaultRan, Header, Journal, QueueDepth, StateEntered, Verdict, VerdictRow

WIDTH = 92

_LABEL = 8
_LANE = 54
_NOTE = WIDTH - _LABEL - _LANE - 2
_BLOCKS = "▁▂▃▄▅▆▇█"
_FULL, _PARTLY, _DOWN, _FAILED, _UNKNOWN = "█", "▓", "▒", "X", " "
_LEAST_LATENCY_S = 0.001
_EXPECTATION, _ACTUAL, _LIMIT, _MARGIN = 38, 14, 18, 12

_COLOURS = {"green": "32", "amber": "33", "red": "31", "blue": "34", "dim": "2", "bold": "1"}


class Ending(NamedTuple):
    """What the last line says beyond the verdict: how long it took, where the picture is, how to see it again."""

    took_s: float | None = None
    page: str = ""
    replay: str = ""


class _Paint:
    """Colours, or none."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, name: str) -> str:
        return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m" if self._colour and text.strip() else text

    def runs(self, text: str, name_of: dict[str, str]) -> str:
        """Each run of characters in its own colour."""
        painted, start = "", 0
        for index in range(1, len(text) + 1):
            if index == len(text) or name_of.get(text[index]) != name_of.get(text[start]):
                name = name_of.get(text[start])
                painted += self(text[start:index], name) if name else text[start:index]
                start = index
        return painted


_NO_ENDING = Ending()


def show(journal: Journal, *, colour: bool = False, ending: Ending = _NO_ENDING, now_s: float | None = None) -> str:
    """The whole report, with a newline at its end. Without a verdict in the journal the table is left out.

    Of a run that goes on, `now_s` is how far it is: what comes later is blank.
    """
    paint, end_s = _Paint(colour=colour), lanes.axis_end_s(journal)
    known = _LANE if now_s is None else min(_LANE, ceil(now_s / end_s * _LANE))
    title = _title(journal.header, _length(journal.header, ending, now_s), paint)
    lines = [title, *_lanes(journal, known, paint), _axis(end_s, paint)]
    if journal.verdict is not None:
        lines += [*_table(journal.verdict.rows, paint), _last_line(journal.verdict, ending, paint)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _title(header: Header, length: str, paint: _Paint) -> str:
    variant = [f"{key} {value}" for key, value in header.variant.items() if key not in ("backend", "seed")]
    facts = " · ".join([f"backend {header.backend}", f"{header.clock} clock", f"seed {header.seed}", *variant, length])
    name = header.scenario
    return f"{paint(name, 'bold')}  {_cut(facts, WIDTH - len(name) - 2)}"


def _length(header: Header, ending: Ending, now_s: float | None) -> str:
    length = seconds(header.duration_s)
    if now_s is not None:
        return f"at {seconds(now_s)} of {length}" if now_s < header.duration_s else f"{length}, delivering what is left"
    took = ending.took_s if header.clock == "virtual" else None
    return length if took is None else f"{length} simulated in {seconds(took)}"


def _lanes(journal: Journal, known: int, paint: _Paint) -> list[str]:
    """The four lanes; only the first `known` cells of each are drawn."""
    end_s = lanes.axis_end_s(journal)
    faults, messages = lanes.drawable(journal.of(FaultRan)), lanes.messages_of(journal)
    there = "".join("▄" if each else "·" for each in lanes.fault_bins(faults, end_s, _LANE))
    states = "".join(map(_state_mark, lanes.state_bins(journal, _LANE)))
    queue = _bars([float(each) if each else None for each in lanes.queue_bins(journal, _LANE)])
    latency = _bars([_log(each) for each in lanes.latency_bins(messages, end_s, _LANE)])
    there, states, queue, latency = (each[:known].ljust(_LANE) for each in (there, states, queue, latency))
    up_and_down = {_FULL: "green", _PARTLY: "amber", _DOWN: "amber", _FAILED: "red"}
    return [
        _lane("faults", paint.runs(there, {"▄": "red", "·": "dim"}), _fault_note(faults)),
        _lane("state", paint.runs(states, up_and_down), _state_note(journal)),
        _lane("queue", paint(queue, "blue"), _queue_note(journal)),
        _lane("p99 lat", paint(latency, "blue"), _latency_note(messages)),
    ]


def _lane(label: str, drawn: str, note: str) -> str:
    return f"{label:>{_LABEL}} {drawn} {_cut(note, _NOTE)}"


def _axis(end_s: float, paint: _Paint) -> str:
    middle, end = seconds(end_s / 2), seconds(end_s)
    centred = (" " * (_LABEL + 1) + "0 s").ljust(_LABEL + 1 + _LANE // 2 - len(middle) // 2) + middle
    return paint(centred.ljust(_LABEL + 1 + _LANE - len(end)) + end, "dim")


def _state_mark(share: lanes.Bin) -> str:
    if not share.known:
        return _UNKNOWN
    if share.failed > 0.5:
        return _FAILED
    return _FULL if share.connected > 0.9999 else _PARTLY if share.connected > 0 else _DOWN


def _bars(values: Sequence[float | None]) -> str:
    """Blocks as high as the values; the highest is full, and nothing is a blank."""
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    return "".join(" " if value is None else _BLOCKS[min(7, int(value / top * 7.999))] for value in values)


def _log(latency_s: float | None) -> float | None:
    return None if latency_s is None else max(0.0, log10(max(latency_s, _LEAST_LATENCY_S) / _LEAST_LATENCY_S))


def _fault_note(faults: Sequence[FaultRan]) -> str:
    """As many occurrences as there is room for, and how many more."""
    told = [_occurrence(fault) for fault in faults]
    for shown in range(len(told), 0, -1):
        rest = len(told) - shown
        note = " · ".join(told[:shown]) + (f" +{rest} more" if rest else "")
        if len(note) <= _NOTE:
            return note
    return f"{len(told)} faults" if told else "none"


def _occurrence(fault: FaultRan) -> str:
    name = fault.label.partition(".")[2] or fault.label
    return f"{name} {fault.at_s:g}" + (f"-{fault.ends_at_s:g}" if fault.ends_at_s > fault.at_s else "")


def _state_note(journal: Journal) -> str:
    by_client: dict[str, list[str]] = {}
    for each in journal.of(StateEntered):
        by_client.setdefault(each.client, []).append(each.state)
    ups = sum(max(0, states.count("connected") - 1) for states in by_client.values())
    failed = sum("failed" in states for states in by_client.values())
    among = (
        f", {failed}/{len(by_client)} failed" if failed else f", {len(by_client)} clients" if len(by_client) > 1 else ""
    )
    return f"{ups} reconnect{'' if ups == 1 else 's'}{among}"


def _queue_note(journal: Journal) -> str:
    peak = max((each.depth for each in journal.of(QueueDepth)), default=0)
    limit = journal.header.queue_limit
    return f"peak {peak}" + (f"/{limit}" if limit else "")


def _latency_note(messages: Iterable[lanes.MessageRow]) -> str:
    known = [row.latency_s for row in messages if row.latency_s is not None]
    return f"max {seconds(max(known))}" if known else "nothing arrived"


def _table(rows: Sequence[VerdictRow], paint: _Paint) -> list[str]:
    head = f"   {'expectation':<{_EXPECTATION}}{'actual':>{_ACTUAL}}{'limit':>{_LIMIT}}{'margin':>{_MARGIN}}"
    lines = [paint(head, "dim")]
    for row in rows:
        mark = paint("✓", "green") if row.passed else paint("✗", "red")
        name = _cut(_without_limit(row), _EXPECTATION)
        told = f"{_cut(row.actual, _ACTUAL - 1):>{_ACTUAL}}{_cut(row.limit, _LIMIT - 1):>{_LIMIT}}"
        margin = "" if row.margin is None else f"{100 * row.margin:.0f} %"
        lines.append(f"{mark}  {name:<{_EXPECTATION}}{told}{margin:>{_MARGIN}}")
        said = row.note or ("" if row.passed else row.why)
        if said:
            lines.append(paint(f"     {_cut(said, WIDTH - 5)}", "dim"))
    return lines


def _without_limit(row: VerdictRow) -> str:
    """`latency.p99 during calm`, where the limit has a column of its own."""
    before, found, after = row.expectation.partition(row.limit)
    return f"{before.strip()} {after.strip()}".strip() if found else row.expectation


def _last_line(verdict: Verdict, ending: Ending, paint: _Paint) -> str:
    met = sum(row.passed for row in verdict.rows)
    word = paint("PASS", "green") if verdict.passed else paint("FAIL", "red")
    aborted = f"aborted: {verdict.aborted}" if verdict.aborted else ""
    parts = [
        aborted,
        f"report {ending.page}" if ending.page else "",
        f"replay: {ending.replay}" if ending.replay else "",
    ]
    # What is typed or opened is never cut, however wide: it stands on lines of its own where it does not fit.
    line = f"{word} {met}/{len(verdict.rows)}"
    lines, length = [line], len(f"PASS {met}/{len(verdict.rows)}")
    for part in filter(None, parts):
        if length + 3 + len(part) <= WIDTH:
            lines[-1] += f" · {part}"
            length += 3 + len(part)
        else:
            lines.append(f"     {part}")
            length = 5 + len(part)
    return "\n".join(lines)


def seconds(value: float) -> str:
    """A duration in at most three digits or so: 250 ms, 16.9 s, 100 s, 25 min, 8 h."""
    if 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 60:
        return f"{value:.3g} s"
    if value <= 120:
        return f"{value:.0f} s"
    return f"{value / 60:.3g} min" if value < 3600 else f"{value / 3600:.3g} h"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
