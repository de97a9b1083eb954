"""The report on a terminal: lanes that agree with the journal, 92 columns, and the words for people."""

import re
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.scenario import report_data, report_lanes
from hawk.scenario.journal import (
    Attempted,
    Delivered,
    FateMet,
    FaultRan,
    Header,
    Journal,
    QueueDepth,
    Sent,
    StateEntered,
    Verdict,
    VerdictRow,
    from_lines,
)
from hawk.scenario.report import WIDTH, Ending, seconds, show

COLOUR = re.compile(r"\x1b\[\d+m")


def journal(*events: Any, rows: tuple[VerdictRow, ...] | None = None, clients: tuple[str, ...] = ("boat",)) -> Journal:
    header = Header("storm", "", 7, "trio", "virtual", 100.0, clients, {}, (), queue_limit=30, cap_s=8.0)
    verdict = None if rows is None else Verdict("storm", 7, "trio", rows)
    return Journal(header, tuple(sorted(events, key=lambda event: event.at_s)), verdict)


def an_outage() -> list[Any]:
    """Down from 25 s to 50 s; messages every second; the queue fills to 25; one message is repeated, one dropped."""
    events: list[Any] = [
        StateEntered(0, "boat", "connecting"),
        StateEntered(0, "boat", "connected"),
        StateEntered(25, "boat", "reconnecting", "reset by peer"),
        StateEntered(50, "boat", "connected"),
        FaultRan(25, 50, "storm", "broker.down", {}, 9),
        QueueDepth(50, "boat", 0, 0),
    ]
    for number in range(100):
        down = 25 <= number < 50
        events.append(Sent(number, "boat", number + 1, "boat/position", 1, 9))
        if down:
            events.append(QueueDepth(number, "boat", number - 24, 9))
        if number == 30:
            events.append(FateMet(number, "boat", number + 1, "dropped", "full"))
        else:
            latency_s = 50.0 - number if down else 0.0
            events.append(Delivered(number + latency_s, "boat", number + 1, latency_s, 2 if number == 25 else 1))
            events.append(FateMet(number + latency_s, "boat", number + 1, "acknowledged"))
    return events


ROWS = (
    VerdictRow("lost == 0", "1", "== 0", None, False, "every position counts", "message 31"),
    VerdictRow("latency.p99 <= 50ms during calm", "0 s", "<= 50ms", 1.0, True),
    VerdictRow("recovery(storm) <= 0.5s", "1.0 s", "<= 0.5s", -1.0, False),
)


def test_the_lanes_show_the_outage_where_it_was() -> None:
    title, faults, state, queue, latency, axis = show(journal(*an_outage())).splitlines()
    assert title == "storm  backend trio · virtual clock · seed 7 · 100 s"
    assert faults == "  faults ·············▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄·························· storm 25-50"
    assert state == "   state █████████████▓▒▒▒▒▒▒▒▒▒▒▒▒▒███████████████████████████ 1 reconnect"
    assert re.fullmatch(r"   queue  {13}[▁-█]{15} +peak 25/30", queue)
    assert latency.endswith("max 25 s")
    assert set(latency[9 + 14 : 9 + 25]) <= set("▅▆▇█")
    assert axis == "         0 s                      50 s                    100 s"


ENDING = Ending(0.21, "out/storm.html", "hawk scenario run storm.yaml --seed 7")


def test_the_table_has_the_limit_and_the_margin_in_columns_and_says_why() -> None:
    shown = show(
        journal(*an_outage(), rows=ROWS), ending=Ending(0.21, "out/storm.html", "hawk scenario run storm.yaml --seed 7")
    )
    assert "100 s simulated in 210 ms" in shown
    table = shown.splitlines()[6:]
    assert table[0].split() == ["expectation", "actual", "limit", "margin"]
    assert table[1].split() == ["✗", "lost", "1", "==", "0"]
    assert table[2].strip() == "message 31"
    assert table[3].split() == ["✓", "latency.p99", "during", "calm", "0", "s", "<=", "50ms", "100", "%"]
    assert table[4].split() == ["✗", "recovery(storm)", "1.0", "s", "<=", "0.5s", "-100", "%"]
    assert table[5] == "FAIL 1/3 · report out/storm.html · replay: hawk scenario run storm.yaml --seed 7"


def test_colour_changes_nothing_but_the_colour() -> None:
    plain, painted = (show(journal(*an_outage(), rows=ROWS), colour=colour) for colour in (False, True))
    assert "\x1b" not in plain
    assert painted != plain
    assert [line.rstrip() for line in COLOUR.sub("", painted).splitlines()] == plain.splitlines()


def test_a_short_outage_and_a_failed_client_are_seen_among_many() -> None:
    clients = tuple(f"boat-{number}" for number in range(10))
    events: list[Any] = [StateEntered(0, client, "connected") for client in clients]
    events += [StateEntered(40, "boat-3", "reconnecting"), StateEntered(40.1, "boat-3", "connected")]
    state = show(journal(*events, clients=clients)).splitlines()[2]
    assert state.count("▓") == 1
    assert state.endswith("1 reconnect, 10 clients")
    events += [StateEntered(60, client, "failed") for client in clients]
    state = show(journal(*events, clients=clients)).splitlines()[2]
    assert state.count("X") == 22
    assert state.endswith("1 reconnect, 10/10 failed")


def test_a_journal_in_which_nothing_happened_is_shown_too() -> None:
    assert show(journal()).splitlines()[1:5] == [
        "  faults " + "·" * 54 + " none",
        "   state " + " " * 54 + " 0 reconnects",
        "   queue " + " " * 54 + " peak 0/30",
        " p99 lat " + " " * 54 + " nothing arrived",
    ]


@pytest.mark.parametrize("now_s", [0.0, 10.0, 24.9, 40.0, 99.0])
def test_a_run_that_goes_on_ends_where_it_is(now_s: float) -> None:
    """The cells that are over are those of the whole run, and those to come are blank."""
    happened = [event for event in an_outage() if event.at_s <= now_s or isinstance(event, FaultRan)]
    known = ceil(now_s / 100 * 54)
    title, *lanes, axis = show(journal(*happened), now_s=now_s).splitlines()
    assert title == f"storm  backend trio · virtual clock · seed 7 · at {seconds(now_s)} of 100 s"
    whole = show(journal(*an_outage())).splitlines()
    assert axis == whole[-1]
    for lane, final in zip(lanes, whole[1:-1], strict=True):
        drawn = lane[9:63].ljust(54)
        assert drawn[known:].strip() == ""
        if final.split()[0] in ("faults", "state"):
            over = max(0, known - 1)
            assert drawn[:over] == final[9 : 9 + over]
    assert lanes[1][9 : 9 + known].strip(" ") == lanes[1][9 : 9 + known]


def test_a_run_that_is_through_its_script_says_what_it_waits_for() -> None:
    shown = show(journal(*an_outage()), now_s=103.0).splitlines()
    assert shown[0].endswith("100 s, delivering what is left")
    assert len(shown[2][9:63].rstrip()) == 54


texts = st.text(st.characters(max_codepoint=0x24F, exclude_categories=["C", "Z"]), min_size=1, max_size=120)
instants = st.floats(0, 500)
events = st.one_of(
    st.builds(StateEntered, instants, st.sampled_from("abc"), st.sampled_from(["connected", "failed", "reconnecting"])),
    st.builds(FaultRan, instants, instants, texts, texts, st.just({})),
    st.builds(Sent, instants, st.sampled_from("abc"), st.integers(1, 50), texts, st.integers(0, 2), st.integers(0, 99)),
    st.builds(Delivered, instants, st.sampled_from("abc"), st.integers(1, 50), st.floats(0, 1e4), st.integers(1, 3)),
    st.builds(
        FateMet, instants, st.sampled_from("abc"), st.integers(1, 50), st.sampled_from(["dropped", "acknowledged"])
    ),
    st.builds(QueueDepth, instants, st.sampled_from("abc"), st.integers(0, 10**6), st.integers(0, 99)),
    st.builds(
        Attempted, instants, st.sampled_from("abc"), st.none() | instants, st.none() | instants, st.none() | instants
    ),
)
rows = st.builds(VerdictRow, texts, texts, texts, st.none() | st.floats(-1e6, 1e6), st.booleans(), texts, texts)


@given(st.lists(events, max_size=60), st.lists(rows, max_size=5))
def test_no_journal_is_wider_than_the_screen_or_breaks_a_line(happened: list[Any], judged: list[VerdictRow]) -> None:
    shown = show(journal(*happened, rows=tuple(judged)))
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert len(shown.splitlines()) == 8 + len(judged) + sum(map(_has_aside, judged))


def _has_aside(row: VerdictRow) -> bool:
    return bool(row.note or (row.why and not row.passed))


@given(st.lists(events, max_size=60), st.floats(0, 600))
def test_a_run_that_goes_on_is_no_wider_either(happened: list[Any], now_s: float) -> None:
    shown = show(journal(*happened), now_s=now_s).splitlines()
    assert max(map(len, shown)) <= WIDTH
    assert len(shown) == 6


@given(st.lists(events, max_size=60))
def test_the_lanes_keep_the_books(happened: list[Any]) -> None:
    """Every message has one row and one place in a stack, each with one fate; what is drawn lies on the axis."""
    told = journal(*happened)
    end_s = report_lanes.axis_end_s(told)
    messages = report_lanes.messages_of(told)
    assert len(messages) == len(told.of(Sent))
    stacks = report_data.fates(messages, end_s, ["acknowledged"])
    assert sum(row["count"] for row in stacks) == len(messages)
    assert all(row["high"] - row["low"] == row["count"] for row in stacks)
    assert all(0 <= span.from_s < span.to_s <= end_s for span in report_lanes.spans_of(told))
    for share in report_lanes.state_bins(told, 54):
        assert -1e-9 <= share.connected <= 1 + 1e-9
    peak = max((each.depth for each in told.of(QueueDepth)), default=0)
    assert max(report_lanes.queue_bins(told, 54)) == peak
    assert max((row["depth"] for row in report_data.queue(told)), default=0) <= peak


def test_a_message_has_its_fate_and_a_repeated_one_is_told_apart() -> None:
    fates = [row.fate for row in report_lanes.messages_of(journal(*an_outage()))]
    assert (fates[25], fates[30], fates[31]) == ("repeated", "dropped", "acknowledged")
    unfinished = report_lanes.messages_of(journal(Sent(1, "boat", 1, "a", 1, 1)))
    assert unfinished[0].fate == "open"


def test_thinning_keeps_what_ended_badly_and_what_was_slow() -> None:
    template = report_lanes.messages_of(journal(Sent(0, "boat", 1, "a", 1, 1)))[0]
    many = [template._replace(message=number, fate="acknowledged", latency_s=0.001) for number in range(20_000)]
    many[777] = many[777]._replace(latency_s=99.0)
    many[888] = many[888]._replace(fate="dropped", latency_s=None)
    kept = report_lanes.thinned(many, 1000)
    assert len(kept) <= 1100
    assert {777, 888} <= {row.message for row in kept}


def test_a_message_of_no_latency_is_not_drawn_as_one_that_never_came() -> None:
    [at_once, never] = report_data.latencies(
        report_lanes.messages_of(
            journal(Sent(0, "boat", 1, "a", 1, 1), Delivered(0, "boat", 1, 0.0), Sent(1, "boat", 2, "a", 1, 1))
        )
    )
    assert at_once["shown_s"] == report_data.LEAST_LATENCY_S
    assert never["latency_s"] is None


def test_what_is_read_back_from_lines_is_shown_the_same() -> None:
    whole = journal(*an_outage(), rows=ROWS)
    assert show(from_lines(whole.lines())) == show(whole)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (16.94, "16.9 s"),
        (100, "100 s"),
        (300, "5 min"),
        (1500, "25 min"),
        (28_800, "8 h"),
    ],
)
def test_durations_are_short(value: float, words: str) -> None:
    assert seconds(value) == words
