"""A run as a Vega-Lite chart, made of its journal alone: five lanes on one time axis, with zoom and tooltips.

State per client, queue depth against its limit, latency per message, delays of dials against their envelope, and the
fate of every message; behind each lane the faults. Needs altair (the extra `[report]`). Pure: it draws and writes nothing.
"""

from collections.abc import Iterable
from typing import Any

import altair as alt

from hawk.scenario import report_data
from hawk.scenario import report_lanes as lanes
from hawk.scenario.journal import Journal

VEGALITE_VERSION = alt.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]

LANES = ("state", "queue", "latency", "backoff", "fate")
"""The lanes from top to bottom; each is the `name` of its view."""

_WIDTH = 920
_MOST_ROWS_PX = 320

_ZOOM = {
    "name": "zoom",
    "select": {"type": "interval", "encodings": ["x"]},
    "bind": "scales",
    "views": [f"{name}_marks" for name in LANES],
}
"""One zoom for the one time axis, whichever lane the pointer is in."""

_STATES = {
    "connected": "#2e9e5b",
    "reconnecting": "#e0a126",
    "connecting": "#4b8bd4",
    "disconnected": "#9a9a9a",
    "failed": "#d1343b",
}
_FATES = {
    "acknowledged": "#2e9e5b",
    "sent": "#7cc79a",
    lanes.REPEATED: "#4b8bd4",
    "superseded": "#8c7ae6",
    "expired": "#e0a126",
    "dropped": "#e5731f",
    "refused at once": "#b5651d",
    "dead_lettered": "#8c1d40",
    "unknown": "#d65db1",
    "damaged": "#7f1d1d",
    "abandoned": "#d1343b",
    lanes.OPEN: "#9a9a9a",
}
_FAULT, _LINE, _MARK, _QUIET = "#d1343b", "#d1343b", "#4b8bd4", "#8a8a8a"

_AXIS_FORMAT = (
    "datum.value >= 7200 ? format(datum.value / 3600, '.3~g') + ' h' : "
    "datum.value >= 300 ? format(datum.value / 60, '.3~g') + ' min' : format(datum.value, '~g') + ' s'"
)


def chart_of(journal: Journal) -> dict[str, Any]:
    """The whole chart as a Vega-Lite specification with its data in it."""
    end_s = lanes.axis_end_s(journal)
    messages = lanes.messages_of(journal)
    data = {
        "faults": report_data.faults(journal),
        "states": report_data.states(journal),
        "queue": report_data.queue(journal),
        "latency": report_data.latencies(messages),
        "attempts": report_data.attempts(journal),
        "fates": report_data.fates(messages, end_s, list(_FATES)),
    }
    axis, fates = _Axis(end_s), {row.fate for row in messages}
    drawn = alt.vconcat(
        _state_lane(journal, axis, {each["state"] for each in data["states"]}),
        _queue_lane(journal.header.queue_limit, axis),
        _latency_lane(axis, fates),
        _backoff_lane(journal.header.cap_s, axis),
        _fate_lane(axis, fates),
        spacing=14,
    ).resolve_scale(x="shared", color="independent")
    specification: dict[str, Any] = _styled(drawn).to_dict()
    # Attached after altair has validated the chart: rows by the thousand would be validated one by one.
    specification["datasets"] = specification.get("datasets", {}) | data
    # Named here, because altair gives numbers to the views of a layer.
    for lane in specification["vconcat"]:
        lane["layer"][1]["name"] = f"{lane['name']}_marks"
    return specification | {"params": [_ZOOM]}


# -------------------------------------------------------------------------------------------------- lanes


class _Axis:
    """The one time axis of all lanes, and the faults behind each."""

    def __init__(self, end_s: float) -> None:
        self._scale = alt.Scale(domain=[0, end_s or 1], nice=False)

    def x(self, *, labels: bool = False) -> alt.X:
        """Time along the lane."""
        axis = alt.Axis(labels=labels, ticks=labels, labelExpr=_AXIS_FORMAT, grid=True)
        return alt.X("at_s:Q", scale=self._scale, axis=axis, title=None)

    def lane(self, name: str, height: int, *layers: alt.Chart, labels: bool = False) -> alt.LayerChart:
        """The layers over the faults, as one view."""
        bands = (
            alt.Chart(alt.NamedData(name="faults"))
            .mark_rect(color=_FAULT, opacity=0.13, clip=True)
            .encode(
                x=self.x(labels=labels),
                x2="to_s:Q",
                tooltip=[
                    alt.Tooltip("label:N", title="fault"),
                    alt.Tooltip("fault:N", title="kind"),
                    alt.Tooltip("at_s:Q", title="from (s)"),
                    alt.Tooltip("until_s:Q", title="to (s)"),
                    alt.Tooltip("bites:Q"),
                ],
            )
        )
        drawn = alt.LayerChart(layer=[bands, *layers])
        return drawn.properties(name=name, width=_WIDTH, height=height, title=alt.Title(name, anchor="start", dy=4))


def _state_lane(journal: Journal, axis: _Axis, states: set[str]) -> alt.LayerChart:
    clients = len(journal.header.clients)
    row_px = max(1.0, min(16.0, _MOST_ROWS_PX / max(1, clients)))
    names = alt.Axis(labels=clients <= 20, ticks=False, labelLimit=120)
    bars = (
        alt.Chart(alt.NamedData(name="states"))
        .mark_rect(opacity=0.85, clip=True)
        .encode(
            x=axis.x(),
            x2="to_s:Q",
            y=alt.Y("client:N", axis=names, title=None, sort=list(journal.header.clients) if clients <= 100 else None),
            color=_colours("state", _STATES, states),
            tooltip=[
                alt.Tooltip("client:N"),
                alt.Tooltip("state:N"),
                alt.Tooltip("at_s:Q", title="from (s)"),
                alt.Tooltip("to_s:Q", title="to (s)"),
                alt.Tooltip("cause:N"),
            ],
        )
    )
    return axis.lane("state", max(24, round(row_px * max(1, clients))), bars)


def _queue_lane(limit: int, axis: _Axis) -> alt.LayerChart:
    depth = (
        alt.Chart(alt.NamedData(name="queue"))
        .mark_area(color=_MARK, opacity=0.75, interpolate="step-after", line={"color": _MARK}, clip=True)
        .encode(x=axis.x(), y=alt.Y("depth:Q", title="messages", stack=None))
    )
    points = (
        alt.Chart(alt.NamedData(name="queue"))
        .mark_point(opacity=0, size=60, clip=True)
        .encode(
            x=axis.x(),
            y="depth:Q",
            tooltip=[alt.Tooltip("at_s:Q", title="at (s)"), alt.Tooltip("depth:Q"), alt.Tooltip("client:N")],
        )
    )
    return axis.lane("queue", 110, depth, points, *_limit_line(limit, f"limit {limit}"))


def _latency_lane(axis: _Axis, fates: set[str]) -> alt.LayerChart:
    dots = (
        alt.Chart(alt.NamedData(name="latency"))
        .mark_circle(size=14, opacity=0.7, clip=True)
        .encode(
            x=axis.x(),
            y=alt.Y("shown_s:Q", scale=alt.Scale(type="log"), title="seconds", axis=alt.Axis(tickCount=5, format="~g")),
            color=_colours("fate", _FATES, fates, legend=False),
            tooltip=[
                alt.Tooltip("message:Q"),
                alt.Tooltip("client:N"),
                alt.Tooltip("topic:N"),
                alt.Tooltip("qos:Q", title="QoS"),
                alt.Tooltip("at_s:Q", title="published at (s)"),
                alt.Tooltip("latency_s:Q", title="latency (s)"),
                alt.Tooltip("fate:N"),
                alt.Tooltip("times:Q", title="arrivals"),
            ],
        )
    )
    return axis.lane("latency", 130, dots)


def _backoff_lane(cap_s: float, axis: _Axis) -> alt.LayerChart:
    dials = alt.Chart(alt.NamedData(name="attempts"))
    height = alt.Y("least_s:Q", title="delay (s)")
    envelope = dials.mark_rule(color=_QUIET, strokeWidth=4, opacity=0.5, clip=True).encode(
        x=axis.x(), y=height, y2="most_s:Q"
    )
    drawn = dials.mark_circle(size=34, color=_STATES["reconnecting"], clip=True).encode(
        x=axis.x(),
        y=alt.Y("delay_s:Q", title="delay (s)"),
        tooltip=[
            alt.Tooltip("client:N"),
            alt.Tooltip("at_s:Q", title="dialled at (s)"),
            alt.Tooltip("delay_s:Q", title="delay (s)"),
            alt.Tooltip("least_s:Q", title="drawn from (s)"),
            alt.Tooltip("most_s:Q", title="to (s)"),
        ],
    )
    return axis.lane("backoff", 110, envelope, drawn, *_limit_line(cap_s, f"cap {cap_s:g} s"))


def _fate_lane(axis: _Axis, fates: set[str]) -> alt.LayerChart:
    bars = (
        alt.Chart(alt.NamedData(name="fates"))
        .mark_bar(clip=True)
        .encode(
            x=axis.x(labels=True),
            x2="to_s:Q",
            y=alt.Y("low:Q", title="messages"),
            y2="high:Q",
            color=_colours("fate", _FATES, fates),
            tooltip=[
                alt.Tooltip("fate:N"),
                alt.Tooltip("count:Q", title="messages"),
                alt.Tooltip("at_s:Q", title="published from (s)"),
                alt.Tooltip("to_s:Q", title="to (s)"),
            ],
        )
    )
    return axis.lane("fate", 110, bars, labels=True)


def _limit_line(limit: float, what: str) -> list[alt.Chart]:
    """A dashed line, and a word on it; nothing where there is no limit."""
    if not limit:
        return []
    here = alt.Chart(alt.InlineData(values=[{"limit": limit, "what": what}]))
    line = here.mark_rule(color=_LINE, strokeDash=[5, 4]).encode(
        y="limit:Q", tooltip=[alt.Tooltip("what:N", title="limit")]
    )
    word = here.mark_text(color=_LINE, align="right", baseline="top", dy=3).encode(
        y="limit:Q", x=alt.value(_WIDTH - 4), text="what:N"
    )
    return [line, word]


def _colours(field: str, colours: dict[str, str], there: Iterable[str], *, legend: bool = True) -> alt.Color:
    """What is there keeps the colour that it has in every report."""
    present = set(there)
    colours = {name: colour for name, colour in colours.items() if name in present}
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    shown = alt.Legend(title=None, orient="right", symbolType="square") if legend else None
    return alt.Color(f"{field}:N", scale=scale, legend=shown)


def _styled(chart: alt.VConcatChart) -> Any:
    """Readable on white and on black: no background of its own, and greys that stand out from both."""
    return (
        chart.configure(background="transparent", font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_QUIET,
            titleColor=_QUIET,
            gridColor=_QUIET,
            gridOpacity=0.18,
            domainColor=_QUIET,
            tickColor=_QUIET,
        )
        .configure_legend(labelColor=_QUIET, titleColor=_QUIET)
        .configure_title(color=_QUIET, fontSize=13)
    )
