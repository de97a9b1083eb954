"""Promise C6: a dead link is hung up within 1.5 x keep alive + ping timeout, and a healthy one never.

`Wire` plays a link and the Connector's reports about it, on a made-up clock: reports come late, by up to a quarter of
the keep alive, and at most four times in one.
"""

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hawk.core.liveness import Liveness
from hawk.messages import Hangup, LinkDown, LinkUp, Ping, Stalled, Traffic, Transmit
from hawk.values import Cause, CauseKind, Verdict

ACK_TIMEOUT_S = 10.0
ENDED = LinkDown, Cause(CauseKind.CLOSED, "closed"), Verdict.AGAIN, False


@dataclass(frozen=True, eq=False)
class FakeLane:
    number: int = 1

    def send_nowait(self, transmit: Transmit, /) -> None:
        raise AssertionError("a core sends nothing")


@dataclass
class Wire:
    """A link that hears at `hears`, writes at `writes` (start, end), and answers a ping `round_trip_s` later.

    From `dies_at` on nothing is heard; from `blocks_at` on no write ends.
    """

    keep_alive_s: float
    ping_timeout_s: float
    hears: list[float] = field(default_factory=list)
    writes: list[tuple[float, float]] = field(default_factory=list)
    round_trip_s: float = 0.01
    dies_at: float = math.inf
    blocks_at: float = math.inf
    late: float = 1.0

    def run(self, until: float) -> tuple[list[float], Hangup | None, float]:
        """The instants of the pings, the hang-up if there was one, and when it all ended."""
        lane = FakeLane()
        liveness = Liveness(
            keep_alive_s=self.keep_alive_s, ping_timeout_s=self.ping_timeout_s, ack_timeout_s=ACK_TIMEOUT_S
        )
        liveness.hear(LinkUp(lane, self.keep_alive_s), 0.0)
        quarter = self.keep_alive_s / 4
        events = [(at, "hear") for at in self.hears if at < self.dies_at]
        for began, ended in self.writes:
            events += [(began, "write begins"), (ended, "write ends")]
        events = sorted(event for event in events if event[0] <= until)
        pings: list[float] = []
        heard_at = wrote_at = reported_at = 0.0
        write_since: float | None = None
        report_at = math.inf
        while True:
            now = min(report_at, liveness.deadline, events[0][0] if events else math.inf, until)
            if events and events[0][0] == now:
                what = events.pop(0)[1]
                if what == "hear":
                    heard_at = now
                elif what == "write begins":
                    write_since = now if write_since is None else write_since
                elif now < self.blocks_at:
                    wrote_at, write_since = now, None
                if report_at == math.inf:
                    report_at = max(now, min(reported_at + quarter, now + self.late * quarter))
            elif report_at == now:
                report_at, reported_at = math.inf, now
                assert liveness.hear(Traffic(lane, heard_at, wrote_at, write_since), now) is None
            elif liveness.deadline == now:
                decision = liveness.tick(now)
                assert decision is not None, "a deadline without a decision would be a hot loop"
                if isinstance(decision, Hangup):
                    return pings, decision, now
                pings.append(now)
                assert len(pings) < 10_000
                if now + self.round_trip_s < self.dies_at:
                    events = sorted([*events, (now + self.round_trip_s, "hear")])
                events = sorted([*events, (now, "write begins"), (now, "write ends")])
            else:
                return pings, None, now


keep_alives = st.floats(0.1, 65_535.0)
shares = st.floats(0.0, 1.0)


@st.composite
def wires(draw: st.DrawFn) -> Wire:
    keep_alive_s = draw(keep_alives)
    ping_timeout_s = keep_alive_s * draw(st.floats(0.01, 3.0))
    span = 8 * keep_alive_s
    instants = st.lists(st.floats(0.0, span), max_size=25)
    writes, free_at = [], 0.0
    for began, lasts in sorted(draw(st.lists(st.tuples(st.floats(0.0, span), shares), max_size=12))):
        if began >= free_at:
            free_at = began + lasts * keep_alive_s * 0.99
            writes.append((began, free_at))
    return Wire(
        keep_alive_s,
        ping_timeout_s,
        hears=draw(instants),
        writes=writes,
        round_trip_s=ping_timeout_s * 0.99 * draw(shares),
        late=draw(shares),
    )


@given(wires())
def test_a_healthy_link_is_never_hung_up(wire: Wire) -> None:
    _, hangup, _ = wire.run(10 * wire.keep_alive_s)
    assert hangup is None


@given(wires(), shares)
@example(Wire(40.0, 30.0, writes=[(160.0, 199.0)]), 0.5)
@example(Wire(40.0, 20.0, writes=[(54.0, 64.0), (64.5, 104.0)], late=1.0), 0.0)
def test_a_dead_link_is_hung_up_in_time(wire: Wire, share: float) -> None:
    wire.dies_at = 6 * wire.keep_alive_s * share
    pings, hangup, ended_at = wire.run(20 * wire.keep_alive_s)
    answers = [at + wire.round_trip_s for at in pings]
    last_heard = max((at for at in (0.0, *wire.hears, *answers) if at < wire.dies_at), default=0.0)
    assert hangup is not None
    assert ended_at <= (last_heard + 1.5 * wire.keep_alive_s + wire.ping_timeout_s) * (1 + 1e-9)


@given(keep_alives, st.floats(0.01, 3.0), shares)
def test_a_dead_link_is_hung_up_in_time_also_when_only_hawk_sends(
    keep_alive_s: float, timeout: float, late: float
) -> None:
    ping_timeout_s = timeout * keep_alive_s
    writes = [(at, at) for at in (keep_alive_s * step / 20 for step in range(1, 400))]
    wire = Wire(keep_alive_s, ping_timeout_s, writes=writes, dies_at=0.0, late=late)
    _, hangup, ended_at = wire.run(20 * keep_alive_s)
    assert hangup is not None
    assert ended_at <= 1.5 * keep_alive_s + ping_timeout_s


def hangs_up_at(reports: list[Traffic], lane: FakeLane) -> float:
    liveness = Liveness(keep_alive_s=40.0, ping_timeout_s=30.0, ack_timeout_s=ACK_TIMEOUT_S)
    liveness.hear(LinkUp(lane, 40.0), 0.0)
    for step, report in enumerate(reports):
        while liveness.deadline <= 10.0 * step:
            due = liveness.deadline
            if isinstance(liveness.tick(due), Hangup):
                return due
        assert liveness.hear(report, 10.0 * step) is None
    return math.inf


def test_a_ping_behind_a_write_that_gets_further_is_given_time_and_other_writes_give_it_none() -> None:
    lane = FakeLane()
    one_write = [Traffic(lane, 0.0, 0.0, 10.0 * step) for step in range(40)]
    many_writes = [Traffic(lane, 0.0, 10.0 * step - 1.0, 10.0 * step) for step in range(40)]
    assert hangs_up_at(one_write, lane) == math.inf
    assert hangs_up_at(many_writes, lane) <= 1.5 * 40.0 + 30.0


@given(keep_alives, shares, st.floats(0.01, 0.5))
def test_a_blocked_write_is_hung_up_in_time_although_the_peer_talks(
    keep_alive_s: float, share: float, late: float
) -> None:
    began = 3 * keep_alive_s * share
    hears = [keep_alive_s * step / 10 for step in range(1, 200)]
    wire = Wire(keep_alive_s, 1.0, hears=hears, writes=[(began, began)], blocks_at=began, late=late)
    _, hangup, ended_at = wire.run(20 * keep_alive_s)
    assert hangup is not None
    assert "write" in hangup.why
    assert began + keep_alive_s < ended_at <= began + 1.5 * keep_alive_s + 1.0


@given(keep_alives, shares)
def test_a_busy_healthy_link_is_never_pinged(keep_alive_s: float, late: float) -> None:
    instants = [keep_alive_s * step / 5 for step in range(1, 100)]
    wire = Wire(keep_alive_s, 0.5 * keep_alive_s, hears=instants, writes=[(at, at) for at in instants], late=late)
    assert wire.run(19 * keep_alive_s)[:2] == ([], None)


@given(wires())
def test_an_idle_broker_hears_from_hawk_within_every_keep_alive(wire: Wire) -> None:
    """MQTT 5 section 3.1.2.10: the client sends something within the keep alive; and pings are no storm."""
    wire.hears, wire.writes = [at for at in wire.hears if at > 0], []
    pings, hangup, ended_at = wire.run(10 * wire.keep_alive_s)
    assert hangup is None
    gaps = [after - before for before, after in zip([0.0, *pings], [*pings, ended_at], strict=True)]
    assert max(gaps) <= wire.keep_alive_s
    assert all(gap >= 0.75 * wire.keep_alive_s * (1 - 1e-9) for gap in gaps[:-1])


def watching(keep_alive_s: float = 60.0, ping_timeout_s: float = 10.0) -> tuple[Liveness, FakeLane]:
    liveness, lane = Liveness(keep_alive_s=60.0, ping_timeout_s=ping_timeout_s, ack_timeout_s=ACK_TIMEOUT_S), FakeLane()
    liveness.hear(LinkUp(lane, keep_alive_s), 0.0)
    return liveness, lane


def test_without_a_link_nothing_is_due() -> None:
    liveness, lane = watching()
    assert liveness.hear(LinkDown(lane, *ENDED[1:]), 1.0) is None
    assert liveness.deadline == math.inf
    assert liveness.tick(1e9) is None


def test_nothing_is_decided_before_the_deadline() -> None:
    liveness, lane = watching()
    assert liveness.tick(math.nextafter(45.0, 0.0)) is None
    assert liveness.tick(45.0) == Ping(lane)
    assert liveness.tick(45.0) is None


def test_a_keep_alive_that_the_broker_sets_is_obeyed() -> None:
    liveness, _ = watching(keep_alive_s=8.0)
    assert liveness.deadline == 6.0


def test_a_broker_without_a_keep_alive_is_pinged_all_the_same_and_not_without_end() -> None:
    liveness, lane = watching(keep_alive_s=0.0)
    assert liveness.deadline == 45.0
    assert liveness.tick(45.0) == Ping(lane)
    assert liveness.deadline > 45.0


def test_anything_heard_since_the_ping_answers_it_and_nothing_heard_before() -> None:
    for heard_at, hung_up in ((45.0, False), (math.nextafter(45.0, 0.0), True)):
        liveness, lane = watching()
        liveness.tick(45.0)
        liveness.hear(Traffic(lane, heard_at, 45.0, None), 46.0)
        due = 45.0 + 10.0 + 15.0
        assert isinstance(liveness.tick(due), Hangup) is hung_up


def test_a_stall_is_hung_up_once() -> None:
    liveness, lane = watching()
    decision = liveness.hear(Stalled(lane), 1.0)
    assert isinstance(decision, Hangup)
    assert decision.lane is lane
    assert liveness.hear(Stalled(lane), 1.0) is None
    assert liveness.deadline == math.inf


def test_what_is_still_being_written_is_no_stall() -> None:
    liveness, lane = watching()
    liveness.hear(Traffic(lane, 0.0, 0.0, 1.0), 1.0)
    assert liveness.hear(Stalled(lane), 10.0) is None
    liveness.hear(Traffic(lane, 0.0, 0.0, 16.0), 16.0)
    liveness.hear(Traffic(lane, 0.0, 19.0, None), 19.0)
    assert liveness.hear(Stalled(lane), 20.0) is None, "the same write got further since"
    assert isinstance(liveness.hear(Stalled(lane), 30.0), Hangup)


def test_a_link_that_is_never_idle_is_not_excused_for_that() -> None:
    """Each of its writes ends, and each report catches another."""
    liveness, lane = watching()
    for second in range(1, 11):
        liveness.hear(Traffic(lane, second, second - 0.1, second - 0.1), second)
    assert isinstance(liveness.hear(Stalled(lane), 10.5), Hangup)


def test_what_is_about_another_lane_is_dropped() -> None:
    liveness, lane = watching()
    other = FakeLane()
    assert liveness.hear(Stalled(other), 1.0) is None
    liveness.hear(Traffic(other, 40.0, 40.0, 1.0), 40.0)
    liveness.hear(LinkDown(other, *ENDED[1:]), 40.0)
    assert liveness.deadline == 45.0
    assert liveness.tick(45.0) == Ping(lane)


def test_a_new_link_begins_with_a_clean_sheet() -> None:
    liveness, lane = watching()
    liveness.hear(Traffic(lane, 1.0, 1.0, 1.0), 1.0)
    assert liveness.tick(1000.0) == Ping(lane)
    fresh = FakeLane()
    liveness.hear(LinkUp(fresh, 60.0), 1005.0)
    assert liveness.deadline == 1050.0
    assert liveness.tick(1050.0) == Ping(fresh)
    # A suspend was forgiven on the old link; this one has its own.
    assert liveness.tick(5000.0) == Ping(fresh)


@pytest.mark.parametrize("pinged_before", [False, True])
@pytest.mark.parametrize("write_since", [None, 44.0])
def test_after_a_suspend_only_a_new_pings_timeout_hangs_up(pinged_before: bool, write_since: float | None) -> None:
    liveness, lane = watching()
    liveness.hear(Traffic(lane, 0.0, 0.0, write_since), 44.0)
    if pinged_before:
        assert liveness.tick(45.0) == Ping(lane)
    assert liveness.tick(5000.0) == Ping(lane)
    # The report of the old write comes again: it too gets its time anew.
    liveness.hear(Traffic(lane, 0.0, 0.0, write_since), 5000.0)
    assert liveness.deadline == 5000.0 + 10.0 + 15.0
    assert isinstance(liveness.tick(liveness.deadline), Hangup)


def test_a_process_that_always_wakes_late_still_hangs_up() -> None:
    liveness, lane = watching()
    assert liveness.tick(5000.0) == Ping(lane)
    assert isinstance(liveness.tick(10_000.0), Hangup)


def test_a_link_that_answers_after_a_suspend_has_its_second_chance_again() -> None:
    liveness, lane = watching()
    for now in (5000.0, 10_000.0, 15_000.0):
        assert liveness.tick(liveness.deadline) == Ping(lane)
        assert liveness.tick(now) == Ping(lane)
        liveness.hear(Traffic(lane, now + 1.0, now, None), now + 1.0)
    assert isinstance(liveness.hear(Stalled(lane), 15_002.0), Hangup)
