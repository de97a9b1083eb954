"""Each metric: a run that meets an expectation of it, and the same journal doctored so that it does not."""

from collections.abc import Callable

import pytest

from hawk.scenario.expectations import METRICS, parse
from hawk.scenario.journal import (
    Accepted,
    Attempted,
    Delivered,
    Ended,
    Event,
    Expected,
    FateMet,
    FaultRan,
    Header,
    Journal,
    QueueDepth,
    Received,
    Sent,
    StateEntered,
    Subscribed,
    Verdict,
)
from hawk.scenario.judging import judge

ONE, TWO = "client-1", "client-2"


def good() -> list[Event]:
    """100 s of two clients: an outage from 20 to 30 s that is noticed after 2 s and recovered from after 3 s."""
    events: list[Event] = [Subscribed(0.0, TWO, "s/#", 1)]
    for client in (ONE, TWO):
        events += [
            StateEntered(0.0, client, "disconnected"),
            StateEntered(0.0, client, "connecting"),
            Attempted(0.0, client),
            StateEntered(1.0, client, "connected"),
            StateEntered(22.0, client, "reconnecting", "closed by peer"),
            Attempted(24.0, client, 2.0, 1.0, 3.0),
            Attempted(32.0, client, 8.0, 7.0, 9.0),
            StateEntered(32.0, client, "connected"),
        ]
    events.append(FaultRan(20.0, 30.0, "outage", "broker.down", bites=3))
    for number in range(1, 51):
        at_s = 2.0 * number
        arrives_s = 33.0 if 20.0 <= at_s <= 32.0 else at_s + 0.01 * (number % 5)
        events += [
            Sent(at_s, ONE, number, "s/a" if number % 2 else "s/b", 1 + number % 2, 20),
            Accepted(at_s, ONE, number),
            Delivered(arrives_s, ONE, number, arrives_s - at_s),
            FateMet(arrives_s, ONE, number, "acknowledged"),
            Received(arrives_s, TWO, number),
        ]
    events += [QueueDepth(2.0, ONE, 1, 20), QueueDepth(32.0, ONE, 7, 140), QueueDepth(33.0, ONE, 0, 0)]
    return [*sorted(events, key=lambda event: event.at_s), Ended(101.0)]


def verdict(events: list[Event], expectation: str) -> Verdict:
    ordered = sorted(events[:-1], key=lambda event: event.at_s)
    header = Header("s", "", 1, "trio", "virtual", 100.0, (ONE, TWO), {}, (Expected(expectation),))
    return judge(Journal(header, (*ordered, events[-1])))


def without(kind: type, message: int) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [e for e in events if not (isinstance(e, kind) and getattr(e, "message", 0) == message)]


def added(*more: Event) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [*events[:-1], *more, events[-1]]


def delayed(events: list[Event]) -> list[Event]:
    return [e._replace(at_s=e.at_s + 30, latency_s=e.latency_s + 30) if isinstance(e, Delivered) else e for e in events]


def swapped(events: list[Event]) -> list[Event]:
    """Messages 3 and 5, of one topic, arrive in the other order."""
    other = {3: 5, 5: 3}
    return [e._replace(message=other.get(e.message, e.message)) if isinstance(e, Delivered) else e for e in events]


def never_back(events: list[Event]) -> list[Event]:
    return [e for e in events if not (isinstance(e, StateEntered) and e.at_s == 32.0 and e.client == TWO)]


def unnoticed(events: list[Event]) -> list[Event]:
    return [
        e._replace(at_s=29.0) if isinstance(e, StateEntered) and e.state == "reconnecting" and e.client == TWO else e
        for e in events
    ]


CASES: list[tuple[str, Callable[[list[Event]], list[Event]]]] = [
    ("lost == 0", without(Delivered, 7)),
    ("lost(topic=s/b) == 0", without(Delivered, 8)),
    ("lost(qos==2) == 0", without(Delivered, 7)),
    ("lost <= 1%", lambda events: without(Delivered, 7)(without(Delivered, 9)(events))),
    ("duplicates == 0", added(Delivered(50.0, ONE, 7, 36.0, 2))),
    ("duplicates(qos==2) == 0", added(Delivered(50.0, ONE, 7, 36.0, 2))),
    ("reordered == 0", swapped),
    ("missed == 0", without(Received, 8)),
    ("delivered == 50", without(Delivered, 8)),
    ("delivered >= 100%", without(Delivered, 8)),
    ("delivered >= 1 after outage+10s", lambda e: [x for x in e if not (isinstance(x, Delivered) and x.at_s >= 40)]),
    ("dropped == 0", added(FateMet(40.0, ONE, 9, "dropped"))),
    ("dropped(overflow) == 0", added(FateMet(40.0, ONE, 9, "dropped"))),
    ("dropped(expired) == 0 after outage", added(FateMet(40.0, ONE, 9, "expired"))),
    ("latency.p50 <= 50ms", delayed),
    ("latency.p99 <= 20s", delayed),
    ("latency.max <= 13s", delayed),
    ("latency.max <= 50ms during calm", added(Sent(50.0, ONE, 99, "s/a", 1, 20), Delivered(60.0, ONE, 99, 10.0))),
    ("queue.depth.max <= 7", added(QueueDepth(25.0, ONE, 8, 140))),
    ("queue.depth.max <= 3 after outage+5s", added(QueueDepth(50.0, ONE, 8, 140))),
    ("queue.bytes.max <= 140B during outage", added(QueueDepth(25.0, ONE, 7, 141))),
    ("attempts <= 6", added(Attempted(50.0, ONE))),
    ("attempts <= 2 during outage", added(Attempted(25.0, ONE))),
    ("attempts.rate.max <= 2/s", added(Attempted(24.5, ONE))),
    ("attempts.rate.max <= 4/min after outage", added(*(Attempted(40.0 + n, ONE) for n in range(5)))),
    ("detect(outage) <= 2s", unnoticed),
    ("recovery(outage) <= 3s", never_back),
    ("recovery(outage) <= 3s", delayed),
    ("availability >= 85%", never_back),
    ("availability <= 30% during outage", lambda e: [x for x in e if getattr(x, "state", "") != "reconnecting"]),
    ("connects == 4", added(StateEntered(50.0, ONE, "reconnecting"), StateEntered(51.0, ONE, "connected"))),
    ("connects == 0 during outage", added(StateEntered(25.0, ONE, "connected"))),
    ("state == CONNECTED at end", never_back),
    ("states == legal", added(StateEntered(50.0, ONE, "connecting"))),
    ("states(FAILED) == 0", added(StateEntered(50.0, ONE, "failed"))),
]


@pytest.mark.parametrize(("expectation", "doctor"), CASES, ids=[text for text, _ in CASES])
def test_a_metric_passes_and_its_doctored_twin_fails(
    expectation: str, doctor: Callable[[list[Event]], list[Event]]
) -> None:
    met = verdict(good(), expectation)
    assert met.passed, met
    broken = verdict(doctor(good()), expectation)
    assert not broken.passed, broken


def test_every_metric_has_such_a_pair() -> None:
    assert {parse(text).metric for text, _ in CASES} == METRICS.keys()


def test_a_message_whose_fate_was_told_is_not_lost() -> None:
    events = without(FateMet, 7)(without(Delivered, 7)(good()))
    assert not verdict(events, "lost == 0").passed
    assert verdict(added(FateMet(40.0, ONE, 7, "dropped"))(events), "lost == 0").passed


def test_a_scripted_fault_that_changed_nothing_fails_the_run_and_one_that_was_drawn_does_not() -> None:
    idle = FaultRan(50.0, 60.0, "idle", "broker.pause", bites=0)
    assert not verdict(added(idle)(good()), "lost == 0").passed
    assert verdict(added(idle._replace(scripted=False))(good()), "lost == 0").passed
    # One of several occurrences is enough.
    assert verdict(added(idle, idle._replace(at_s=70.0, ends_at_s=80.0, bites=1))(good()), "lost == 0").passed


def test_a_ledger_that_does_not_balance_and_a_run_that_ended_early_fail() -> None:
    assert not verdict([*good()[:-1], Ended(101.0, balance=1)], "lost == 0").passed
    assert not verdict([*good()[:-1], Ended(50.0, aborted="queue.depth > 3")], "lost == 0").passed
    assert not verdict([*good()[:-1], good()[-2]], "lost == 0").passed


def test_a_client_that_was_killed_breaks_no_rule_of_states() -> None:
    killed = added(StateEntered(50.0, ONE, "disconnected", "killed"), StateEntered(55.0, ONE, "connecting"))
    assert verdict(killed(good()), "states == legal").passed


def test_by_the_real_clock_only_what_was_sent_after_somebody_had_subscribed_can_be_missed() -> None:
    """An observer tells late what the broker took: this one took the message before, and passed it to nobody."""
    before = [Sent(0.0, ONE, 99, "s/a", 1, 20), Accepted(0.0, ONE, 99), Delivered(0.5, ONE, 99, 0.5)]
    events = sorted([*before, *good()[:-1]], key=lambda event: event.at_s)
    late = [each._replace(at_s=0.1) if isinstance(each, Subscribed) else each for each in events]
    header = Header("s", "", 1, "trio", "real", 100.0, (ONE, TWO), {}, (Expected("missed == 0"),))
    assert judge(Journal(header, (*late, Ended(101.0)))).passed
    assert not judge(Journal(header._replace(clock="virtual"), (*late, Ended(101.0)))).passed


def test_nothing_to_measure_is_a_failure_with_a_reason() -> None:
    [row] = verdict(good(), "latency.max <= 1s during sunshine").rows
    assert (row.passed, row.actual) == (False, "none")
    assert "no message" in row.note


def test_the_margin_is_what_is_left_of_the_limit() -> None:
    [row] = verdict(good(), "queue.depth.max <= 14").rows
    assert row.margin == pytest.approx(0.5)
