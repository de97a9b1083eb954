"""The journal of a run: what is written is read back, and what is no journal is told."""

import pytest

from hawk.scenario.journal import (
    Accepted,
    Attempted,
    Delivered,
    Ended,
    Expected,
    FateMet,
    FaultRan,
    Header,
    Journal,
    JournalBroken,
    Logged,
    QueueDepth,
    Received,
    Sent,
    StateEntered,
    Verdict,
    VerdictRow,
    from_lines,
)

HEADER = Header(
    scenario="broker_flapping",
    about="a story",
    seed=7,
    backend="trio",
    clock="virtual",
    duration_s=100.0,
    clients=("client-1",),
    client={"max_retries": None},
    expectations=(Expected("lost == 0", "because"), Expected("reordered == 0")),
)
EVENTS = (
    StateEntered(0.0, "client-1", "connecting"),
    Attempted(0.0, "client-1"),
    Sent(1.0, "client-1", 1, "s/1/temp", 1, 64),
    Accepted(1.0, "client-1", 1),
    Delivered(1.25, "client-1", 1, 0.25),
    Received(1.5, "client-1", 1),
    FateMet(1.5, "client-1", 1, "acknowledged"),
    QueueDepth(1.5, "client-1", 0, 0),
    FaultRan(20.0, 35.0, "restart", "broker.down", {"how": "kill"}, 3),
    Attempted(21.0, "client-1", 1.0, 0.9, 1.1),
    Logged(21.0, "client-1", "WARNING", "connection lost", {"link": 1}),
    Ended(101.0),
)
VERDICT = Verdict("broker_flapping", 7, "trio", (VerdictRow("lost == 0", "0", "== 0", 0.0, True),))


def test_what_is_written_is_read_back() -> None:
    journal = Journal(HEADER, EVENTS, VERDICT)
    assert from_lines(journal.lines()) == journal


def test_a_journal_without_a_verdict_is_one_too() -> None:
    assert from_lines(Journal(HEADER, EVENTS).lines()).verdict is None


def test_kinds_and_fields_of_a_later_hawk_are_passed_over() -> None:
    lines = [*Journal(HEADER, EVENTS[:1]).lines(), '{"kind":"omen","at_s":3}\n']
    lines[1] = lines[1].replace("{", '{"colour":"blue",', 1)
    assert from_lines(lines).events == EVENTS[:1]


@pytest.mark.parametrize(
    "lines",
    [[], ["no json\n"], ['{"kind":"header"}\n'], ['{"at_s":1}\n'], ['{"kind":"sent","at_s":1}\n'], ["[]\n"]],
)
def test_what_is_no_journal_is_told(lines: list[str]) -> None:
    with pytest.raises(JournalBroken):
        from_lines(lines)


def test_instants_are_rounded_to_a_microsecond() -> None:
    [_, line] = Journal(HEADER, (Accepted(0.1 + 0.2, "client-1", 1),)).lines()
    assert '"at_s":0.3,' in line
