"""The chart of a run as files: one HTML page that works without a network, and a PNG. Made of the journal alone.

The page holds everything: the libraries that draw, the data, the table of expectations and the messages that did not
fare well. Needs the extra `[report]`.
"""

import json
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from hawk.scenario import report_lanes as lanes
from hawk.scenario.journal import Journal, VerdictRow
from hawk.scenario.report import seconds

MOST_MESSAGES = 500
"""How many messages the page lists; the journal has them all."""

_PNG_SCALE = 2.0


class ReportMissing(Exception):
    """The packages that draw are not installed. Says how to get them."""

    def __init__(self) -> None:
        super().__init__("the report needs: pip install 'hawk-mqtt[report]'")


def write_page(journal: Journal, path: Path) -> None:
    """Write the HTML page. Raises `ReportMissing` and `OSError`."""
    path.write_text(page_of(journal), encoding="utf-8")


def write_png(journal: Journal, path: Path) -> None:
    """Write the chart as a picture, on white. Raises `ReportMissing` and `OSError`."""
    convert, version, chart = _drawn(journal)
    chart["config"]["background"] = "white"
    path.write_bytes(convert.vegalite_to_png(chart, vl_version=version, scale=_PNG_SCALE))


def page_of(journal: Journal) -> str:
    """The HTML page. Raises `ReportMissing`."""
    convert, version, chart = _drawn(journal)
    library = convert.javascript_bundle(vl_version=version)
    header = journal.header
    facts = f"backend {header.backend} · {header.clock} clock · seed {header.seed} · {seconds(header.duration_s)}"
    verdict = journal.verdict
    outcome = "" if verdict is None else "passed" if verdict.passed else "failed"
    badge = f' <span class="{outcome}">{outcome}</span>' if outcome else ""
    aborted = f"<p>Aborted: {escape(verdict.aborted)}</p>" if verdict is not None and verdict.aborted else ""
    return _PAGE.format(
        title=escape(header.scenario),
        style=_STYLE,
        badge=badge,
        about=escape(header.about),
        facts=escape(facts),
        aborted=aborted,
        expectations="" if verdict is None else _expectations(verdict.rows),
        fates=_fates(lanes.messages_of(journal)),
        library=library,
        chart=_in_a_script(chart),
    )


def _drawn(journal: Journal) -> tuple[Any, str, dict[str, Any]]:
    try:
        import vl_convert

        from hawk.scenario.report_chart import VEGALITE_VERSION, chart_of
    except ModuleNotFoundError as missing:
        if missing.name not in ("altair", "vl_convert"):
            raise
        raise ReportMissing from missing
    return vl_convert, VEGALITE_VERSION, chart_of(journal)


def _in_a_script(value: object) -> str:
    """JSON that no text in it can end the script with."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _expectations(rows: tuple[VerdictRow, ...]) -> str:
    lines = [
        f'<tr class="{"passed" if row.passed else "failed"}"><td>{"✓" if row.passed else "✗"}</td>'
        f"<td>{escape(row.expectation)}{_aside(row)}</td><td>{escape(row.actual)}</td><td>{escape(row.limit)}</td>"
        f"<td>{'' if row.margin is None else f'{100 * row.margin:.0f} %'}</td></tr>"
        for row in rows
    ]
    head = "<tr><th></th><th>expectation</th><th>actual</th><th>limit</th><th>margin</th></tr>"
    return f"<h2>Expectations</h2><table>{head}{''.join(lines)}</table>"


def _aside(row: VerdictRow) -> str:
    said = " · ".join(filter(None, (row.why, row.note)))
    return f"<small>{escape(said)}</small>" if said else ""


def _fates(messages: list[lanes.MessageRow]) -> str:
    """How many ended how, and each that did not simply arrive once."""
    counts = Counter(row.fate for row in messages)
    summed = "".join(f"<tr><td>{escape(fate)}</td><td>{count}</td></tr>" for fate, count in counts.most_common())
    strange = [row for row in messages if row.fate not in lanes.GOOD_FATES]
    rows = "".join(
        f"<tr><td>{row.message}</td><td>{escape(row.client)}</td><td>{escape(row.topic)}</td><td>{row.qos}</td>"
        f"<td>{row.sent_at_s:.3f}</td><td>{'' if row.latency_s is None else seconds(row.latency_s)}</td>"
        f"<td>{escape(row.fate)}</td><td>{row.times}</td><td>{escape(row.detail)}</td></tr>"
        for row in strange[:MOST_MESSAGES]
    )
    rest = len(strange) - MOST_MESSAGES
    more = f"<p>and {rest} more, in the journal</p>" if rest > 0 else ""
    head = "".join(
        f"<th>{name}</th>"
        for name in ("message", "client", "topic", "QoS", "published at (s)", "latency", "fate", "arrivals", "detail")
    )
    listed = f"<h2>Messages with a story</h2><table><tr>{head}</tr>{rows}</table>{more}" if strange else ""
    return f"<h2>Fates</h2><table>{summed}</table>{listed}"


_STYLE = """
:root { color-scheme: light dark; --quiet: #767676; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1180px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin: 0; } h2 { font-size: 1.05em; margin: 2em 0 .4em; }
p { margin: .3em 0; color: var(--quiet); }
#chart { margin-top: 1em; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: .15em .9em .15em 0; vertical-align: top; } th { color: var(--quiet); font-weight: 500; }
small { display: block; color: var(--quiet); }
span.passed, tr.passed td:first-child { color: #2e9e5b; } span.failed, tr.failed td:first-child { color: #d1343b; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<h1>{title}{badge}</h1>
<p>{about}</p>
<p>{facts}</p>
{aborted}
<div id="chart"></div>
<p>Scroll or drag in a lane to zoom and move all of them; double-click to see the whole run again.</p>
{expectations}
{fates}
<script type="module">
{library}
vegaEmbed("#chart", {chart}, {{renderer: "svg", actions: false}});
</script>
</body>
</html>
"""
