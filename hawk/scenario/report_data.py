"""The rows that a run's chart is drawn from, made of its journal alone: one function for each lane. Pure.

Every lane's instant is `at_s`, for one zoom moves one field. A lane of tens of thousands of rows is thinned, and what
ended badly or stands out stays.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hawk.scenario import report_lanes as lanes
from hawk.scenario.journal import Attempted, FaultRan, Journal, QueueDepth

MOST_POINTS = 4000
"""How many points a lane shows at most."""

LEAST_LATENCY_S = 0.0005
"""Less is drawn as this: the lane is logarithmic."""

Rows = list[dict[str, Any]]

_BINS = 230


def faults(journal: Journal) -> Rows:
    """A blow lasts no time; a four-hundredth of the axis keeps it in sight."""
    least_s = lanes.axis_end_s(journal) / 400
    return [
        {
            "at_s": each.at_s,
            "to_s": max(each.ends_at_s, each.at_s + least_s),
            "until_s": each.ends_at_s,
            "label": each.label,
            "fault": each.fault,
            "bites": each.bites,
        }
        for each in lanes.drawable(journal.of(FaultRan))
    ]


def states(journal: Journal) -> Rows:
    """Every client, state by state."""
    return [span._asdict() | {"at_s": span.from_s} for span in lanes.spans_of(journal)]


def queue(journal: Journal) -> Rows:
    """The deepest outbox of any client at each change; of many changes those that matter in each piece of the axis."""
    depths, rows, deepest = dict[str, int](), Rows(), ""
    for each in journal.of(QueueDepth):
        depths[each.client] = each.depth
        if each.depth >= depths.get(deepest, 0):
            deepest = each.client
        elif each.client == deepest:
            deepest = max(depths, key=depths.__getitem__)
        if rows and rows[-1]["at_s"] == each.at_s:
            rows.pop()
        rows.append({"at_s": each.at_s, "depth": depths[deepest], "client": deepest})
    rows = _peaks(rows, MOST_POINTS)
    if rows:
        rows.append(rows[-1] | {"at_s": lanes.axis_end_s(journal)})
    return rows


def _peaks(rows: Rows, most: int) -> Rows:
    if len(rows) <= most:
        return rows
    step = -(-len(rows) // (most // 3))
    kept = Rows()
    for start in range(0, len(rows), step):
        group = range(start, min(start + step, len(rows)))
        deepest = max(group, key=lambda index: rows[index]["depth"])
        kept += [rows[index] for index in sorted({group[0], deepest, group[-1]})]
    return kept


def latencies(messages: Sequence[lanes.MessageRow]) -> Rows:
    """A message that never arrived stands on the top edge, where the worst are."""
    shown = lanes.thinned(messages, MOST_POINTS)
    top_s = max((row.latency_s for row in messages if row.latency_s is not None), default=1.0)
    return [
        row._asdict()
        | {"at_s": row.sent_at_s}
        | {"shown_s": max(LEAST_LATENCY_S, 2 * top_s if row.latency_s is None else row.latency_s)}
        for row in shown
        if row.qos or row.latency_s is not None
    ]


def attempts(journal: Journal) -> Rows:
    """Every dial that waited, with the bounds that its delay was drawn between."""
    waited = [each for each in journal.of(Attempted) if each.delay_s is not None]
    return [each._asdict() for each in waited[:: 1 + len(waited) // MOST_POINTS]]


def fates(messages: Sequence[lanes.MessageRow], end_s: float, order: Sequence[str]) -> Rows:
    """Stacked: how many messages that were published in each piece of the axis ended how. None is left out.

    `order` is that of a stack, from its foot.
    """
    width_s = (end_s or 1) / _BINS
    counted = Counter((min(_BINS - 1, int(row.sent_at_s / width_s)), row.fate) for row in messages)
    heights, rows = Counter[int](), Rows()
    for (place, fate), count in sorted(counted.items(), key=lambda item: (item[0][0], _place(item[0][1], order))):
        low = heights[place]
        heights[place] += count
        at = {"at_s": place * width_s, "to_s": (place + 1) * width_s}
        rows.append({"fate": fate, "count": count, "low": low, "high": low + count} | at)
    return rows


def _place(fate: str, order: Sequence[str]) -> int:
    return order.index(fate) if fate in order else len(order)
