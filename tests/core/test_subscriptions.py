"""The Subscription keeper's decisions: against a model broker that keeps a session, and each rule by itself."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from hawk.config import Config
from hawk.core.acknowledgements import REJECTED
from hawk.core.deliveries import MOST_UNACKNOWLEDGED, MOST_UNACKNOWLEDGED_BYTES
from hawk.core.filters import FIRST_IDENTIFIER, LAST_IDENTIFIER, MOST_FILTERS
from hawk.core.holders import Decisions, Overrun, fingerprint_of
from hawk.core.subscriptions import Subscriptions
from hawk.messages import Delivered, InboxCommit, InboxRecord, InboxRecovered, Subscribe, Transmit
from hawk.packets import (
    AckKind,
    Acknowledgement,
    Connack,
    Delivery,
    DisconnectRequest,
    Inbound,
    SubscribeFilter,
    SubscribeOutcome,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hawk.values import Message

RECEIVE_MAXIMUM = 6
MIB = 1024 * 1024
LARGE = bytes(MIB)
SUBACK_TIMEOUT_S = Config().suback_timeout_s
RETURN_GRACE_S = Config().return_grace_s
MAX_DELIVERIES = Config().max_deliveries
NEW_SESSION = Connack(subscription_identifier_available=False)
RESUMED = Connack(session_present=True, subscription_identifier_available=False)


class FakeLane:
    """An identity; the core never sends."""

    number = 1

    def send_nowait(self, transmit: Transmit, /) -> None:
        raise AssertionError("the core only decides")


class FakeChannel:
    """A channel by identity; the core never sends."""

    def send_nowait(self, item: object, /) -> None:
        raise AssertionError("the core only decides")

    def close(self) -> None:
        raise AssertionError("the core only decides")


class Kept:
    """A core whose inbox keeps everything at once."""

    def __init__(self, core: Subscriptions) -> None:
        self.bare = core
        self.now = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def tick(self, now: float) -> None:
        self.now = now
        self.bare.tick(now)

    def take(self) -> Decisions:
        decisions = self.bare.take()
        while decisions.commit is not None:
            self.bare.committed(self.now)
            further = self.bare.take()
            assert further.lane is decisions.lane
            for name in ("packets", "runs", "ended", "answers", "unanswered", "refused", "overflowing"):
                getattr(decisions, name).extend(getattr(further, name))
            decisions.commit = further.commit
            decisions.ready = decisions.ready or further.ready
        return decisions


def deliveries(decisions: Decisions) -> list[tuple[object, Delivered]]:
    """Every delivery by itself, with the channel that it goes to."""
    return [(run.channel, one) for run in decisions.runs for one in run.delivered]


class App:
    """Drives a core by hand and sorts what it decides."""

    def __init__(self, receive_maximum: int = 100, *records: InboxRecord, **settings: Any) -> None:
        config = Config(receive_maximum=receive_maximum, **settings)
        self.core = Kept(Subscriptions(config, recovered=InboxRecovered(records), run="run"))
        self.lane = FakeLane()
        self.deliveries: dict[int, FakeChannel] = {}
        self.answers: dict[int, FakeChannel] = {}
        self.next_subscription = 1

    def up(self, connack: Connack = NEW_SESSION, *, now: float = 0.0) -> Decisions:
        self.lane = FakeLane()
        self.core.open_lane(self.lane, connack, now)
        return self.core.take()

    def subscribe(self, text: str, qos: int = 1, **options: Any) -> int:
        number = self.next_subscription
        self.next_subscription += 1
        self.deliveries[number], self.answers[number] = FakeChannel(), FakeChannel()
        self.core.subscribe(
            Subscribe(number, SubscribeFilter(text, qos, **options), self.deliveries[number], self.answers[number])
        )
        return number

    def arrive(self, *packets: Inbound, now: float = 0.0) -> Decisions:
        self.core.now = now
        self.core.incoming(self.lane, packets, now)
        return self.core.take()

    def keep_slowly(self) -> None:
        """From now on the inbox has kept something when the test says so: `app.kept()`."""
        self.core = self.core.bare

    def kept(self, *, now: float = 0.0) -> Decisions:
        """The inbox has done its commit."""
        self.core.committed(now)
        return self.core.take()

    def granted(self, decisions: Decisions, code: int = 1) -> Decisions:
        """Answer every SUBSCRIBE among `decisions` with that code, and every UNSUBSCRIBE with success."""
        asked = [one for one in decisions.packets if isinstance(one, SubscribeRequest | UnsubscribeRequest)]
        answers = []
        for one in asked:
            leaving = isinstance(one, UnsubscribeRequest)
            answers.append(SubscribeOutcome(one.identifier, (0 if leaving else code,) * len(one.filters), leaving))
        return self.arrive(*answers)

    def given(self, decisions: Decisions, subscription: int) -> list[Delivered]:
        return [one for channel, one in deliveries(decisions) if channel is self.deliveries[subscription]]


def publish(
    topic: str = "a", qos: int = 1, identifier: int = 1, *, duplicate: bool = False, payload: bytes = b"x"
) -> Delivery:
    return Delivery(Message(topic, payload, qos), identifier if qos else 0, duplicate)


def puback(identifier: int, code: int = 0) -> Acknowledgement:
    return Acknowledgement(AckKind.PUBACK, identifier, code)


def pubrec(identifier: int) -> Acknowledgement:
    return Acknowledgement(AckKind.PUBREC, identifier)


PUBREL = Acknowledgement(AckKind.PUBREL, 1)

# ------------------------------------------------------------------------------ what the broker is asked for


def test_subscriptions_that_share_a_filter_are_asked_for_once_with_the_highest_qos() -> None:
    app = App()
    first, second = app.subscribe("a", 0), app.subscribe("a", 2)
    decisions = app.up()
    assert decisions.packets == [SubscribeRequest(FIRST_IDENTIFIER, (SubscribeFilter("a", 2),))]
    assert decisions.ready is None
    decisions = app.granted(decisions, 2)
    assert decisions.answers == [(app.answers[first], 2), (app.answers[second], 2)]
    assert decisions.ready is app.lane
    third = app.subscribe("a", 1, retain_handling=1)
    decisions = app.core.take()
    assert (decisions.packets, decisions.answers) == ([], [(app.answers[third], 2)])


def test_a_higher_qos_is_asked_for_anew_and_the_older_answer_is_ignored() -> None:
    app = App()
    app.up()
    first = app.subscribe("a", 0)
    older = app.core.take()
    second = app.subscribe("a", 1)
    newer = app.core.take()
    assert newer.packets == [SubscribeRequest(FIRST_IDENTIFIER + 1, (SubscribeFilter("a", 1),))]
    assert app.granted(older, 0).answers == []
    assert app.granted(newer, 1).answers == [(app.answers[first], 1), (app.answers[second], 1)]


def test_without_a_filter_ready_is_immediate() -> None:
    app = App()
    assert app.up().ready is app.lane
    assert app.core.deadline == math.inf


def test_ready_is_said_once_when_subacks_are_overdue() -> None:
    app = App()
    app.subscribe("a")
    asked = app.up(now=10.0)
    assert app.core.deadline == 10.0 + SUBACK_TIMEOUT_S
    app.core.tick(14.9)
    assert app.core.take().ready is None
    app.core.tick(15.0)
    assert app.core.take().ready is app.lane
    assert app.core.deadline == math.inf
    app.core.tick(99.0)
    assert app.core.take().ready is None
    assert app.granted(asked).ready is None


def test_ready_waits_for_the_first_subscribes_only_and_for_no_filter_that_was_left() -> None:
    app = App()
    only = app.subscribe("a")
    app.up()
    app.subscribe("b")
    app.core.take()
    app.core.unsubscribe(only, 0.0)
    assert app.core.take().ready is app.lane


def test_a_resumed_session_is_asked_only_for_what_it_has_not_confirmed() -> None:
    app = App()
    app.subscribe("confirmed")
    app.granted(app.up())
    app.subscribe("unanswered")
    app.core.take()
    app.core.link_down(app.lane)
    app.subscribe("new")
    decisions = app.up(RESUMED)
    (request,) = decisions.packets
    assert isinstance(request, SubscribeRequest)
    assert [one.filter for one in request.filters] == ["unanswered", "new"]
    app.granted(decisions)
    assert app.up(RESUMED).packets == []


@pytest.mark.parametrize("session_present", [True, False])
def test_the_first_link_of_a_process_subscribes_everything(session_present: bool) -> None:
    app = App()
    app.subscribe("a")
    assert len(app.up(Connack(session_present=session_present)).packets) == 1


def test_a_new_session_is_asked_for_everything() -> None:
    app = App()
    app.subscribe("a")
    app.granted(app.up())
    assert len(app.up().packets) == 1


def test_a_refusal_is_told_and_asked_for_again_only_on_the_next_link_or_by_a_newcomer() -> None:
    app = App()
    one = app.subscribe("a")
    decisions = app.granted(app.up(), 0x87)
    assert decisions.answers == [(app.answers[one], 0x87)]
    assert decisions.refused == [("a", 0x87)]
    assert decisions.ready is app.lane
    app.core.tick(1e9)
    assert app.core.take().packets == []
    app.subscribe("a")
    assert len(app.core.take().packets) == 1
    assert len(app.up(RESUMED).packets) == 1


def test_a_suback_with_too_few_codes_refuses_the_rest() -> None:
    app = App()
    one, two = app.subscribe("a"), app.subscribe("b")
    app.up()
    decisions = app.arrive(SubscribeOutcome(FIRST_IDENTIFIER, (1,)))
    assert decisions.answers == [(app.answers[one], 1), (app.answers[two], 0x80)]


NEW_SESSION_LIMITED = replace(NEW_SESSION, shared_available=False, wildcard_available=False, maximum_packet_size=100)


def test_what_the_connack_rules_out_is_refused_without_asking() -> None:
    app = App()
    app.subscribe("$share/g/a")
    app.subscribe("a/#")
    app.subscribe("long" * 50)
    app.subscribe("b")
    decisions = app.up(NEW_SESSION_LIMITED)
    assert decisions.packets == [SubscribeRequest(FIRST_IDENTIFIER, (SubscribeFilter("b", 1),))]
    assert [code for _, code in decisions.refused] == [0x9E, 0xA2, 0x95]


def test_many_filters_go_out_in_few_packets_within_the_brokers_limits() -> None:
    app = App()
    for number in range(250):
        app.subscribe(f"filter/{number:04}")
    sizes = [len(one.filters) for one in app.up().packets if isinstance(one, SubscribeRequest)]
    assert sizes == [MOST_FILTERS, MOST_FILTERS, 50]
    # 13 bytes of header and 14 for each filter.
    limited = replace(NEW_SESSION, maximum_packet_size=69)
    sizes = [len(one.filters) for one in app.up(limited).packets if isinstance(one, SubscribeRequest)]
    assert sizes == [4] * 62 + [2]


def test_the_last_one_to_leave_unsubscribes() -> None:
    app = App()
    one, two = app.subscribe("a"), app.subscribe("a")
    app.granted(app.up())
    app.core.unsubscribe(one, 0.0)
    decisions = app.core.take()
    assert (decisions.packets, decisions.ended) == ([], [app.deliveries[one]])
    app.core.unsubscribe(two, 0.0)
    decisions = app.core.take()
    assert decisions.packets == [UnsubscribeRequest(FIRST_IDENTIFIER + 1, ("a",))]
    assert decisions.ended == [app.deliveries[two]]


def test_leaving_without_a_link_unsubscribes_when_the_session_lives_on() -> None:
    app = App()
    one = app.subscribe("a")
    app.granted(app.up())
    app.core.link_down(app.lane)
    app.core.unsubscribe(one, 0.0)
    unsubscribe = UnsubscribeRequest(FIRST_IDENTIFIER + 1, ("a",))
    assert app.up(RESUMED).packets == [unsubscribe]
    # Unanswered: once more on the next link, and not at all in a new session.
    again = app.up(RESUMED)
    assert again.packets == [unsubscribe._replace(identifier=FIRST_IDENTIFIER + 2)]
    app.granted(again, 0)
    assert app.up(RESUMED).packets == []
    two = app.subscribe("b")
    app.granted(app.core.take())
    app.core.link_down(app.lane)
    app.core.unsubscribe(two, 0.0)
    assert app.up().packets == []


@pytest.mark.parametrize("codes", [(0x87,), (0x80,), (0x91,), ()])
def test_a_filter_that_the_broker_does_not_let_go_of_is_left_again_on_the_next_link(codes: tuple[int, ...]) -> None:
    app = receiving("a")
    app.core.unsubscribe(1, 0.0)
    (first,) = app.core.take().packets
    assert isinstance(first, UnsubscribeRequest)
    decisions = app.arrive(SubscribeOutcome(first.identifier, codes, leaving=True))
    assert decisions.packets == [], "not on the same link"
    assert decisions.still_subscribed == [("a", codes[0] if codes else 0x80)]
    assert app.arrive(publish("a")).packets == [puback(1)], "nobody waits for what comes"
    (again,) = app.up(RESUMED).packets
    assert isinstance(again, UnsubscribeRequest)
    app.arrive(SubscribeOutcome(again.identifier, (0x11,), leaving=True))
    assert app.up(RESUMED).packets == []


def test_leaving_before_the_broker_spoke_closes_the_answer() -> None:
    app = App()
    one = app.subscribe("a")
    app.core.unsubscribe(one, 0.0)
    decisions = app.core.take()
    assert decisions.unanswered == [app.answers[one]]
    assert decisions.answers == []
    assert app.up().packets == []


def test_identifiers_stay_in_their_band_and_are_not_used_twice_at_once() -> None:
    app = App()
    app.up()
    used = []
    for number in range(600):
        app.subscribe(f"{number}")
        used += [one.identifier for one in app.core.take().packets if isinstance(one, SubscribeRequest)]
    assert sorted(used) == list(range(FIRST_IDENTIFIER, LAST_IDENTIFIER + 1))
    (freed,) = app.arrive(SubscribeOutcome(FIRST_IDENTIFIER + 7, (1,))).packets
    assert isinstance(freed, SubscribeRequest)
    assert freed.identifier == FIRST_IDENTIFIER + 7
    assert len(freed.filters) == 88


# ------------------------------------------------------------------------------------- what arrives


def receiving(*filters: str, receive_maximum: int = 100) -> App:
    app = App(receive_maximum)
    for text in filters:
        app.subscribe(text)
    app.granted(app.up())
    return app


def test_qos_2_is_delivered_once_and_acknowledged_when_handled() -> None:
    app = receiving("a")
    decisions = app.arrive(publish(qos=2))
    assert decisions.packets == []
    (delivered,) = app.given(decisions, 1)
    app.core.handled(1, (delivered.delivery,))
    assert app.core.take().packets == [pubrec(1)]
    # A repeat of what was handled and not released, also after the link: PUBREC, and no delivery.
    app.up(RESUMED)
    decisions = app.arrive(publish(qos=2, duplicate=True))
    assert (decisions.packets, deliveries(decisions)) == ([pubrec(1)], [])
    assert app.arrive(PUBREL).packets == [Acknowledgement(AckKind.PUBCOMP, 1)]
    assert app.arrive(PUBREL).packets == [Acknowledgement(AckKind.PUBCOMP, 1, 0x92)]
    assert len(deliveries(app.arrive(publish(qos=2)))) == 1


def test_a_new_session_forgets_identifiers_of_qos_2() -> None:
    app = receiving("a")
    app.core.handled(1, (app.given(app.arrive(publish(qos=2)), 1)[0].delivery,))
    app.up()
    assert len(deliveries(app.arrive(publish(qos=2)))) == 1


@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_being_handled_when_the_session_repeats_it_is_not_delivered_again(qos: int) -> None:
    app = receiving("a")
    (delivered,) = app.given(app.arrive(publish(qos=qos)), 1)
    app.up(RESUMED)
    assert deliveries(app.arrive(publish(qos=qos, duplicate=True))) == []
    app.core.handled(1, (delivered.delivery,))
    assert app.core.take().packets == [pubrec(1) if qos == 2 else puback(1)]


def test_qos_1_under_an_identifier_in_use_but_not_a_duplicate_is_another_message() -> None:
    app = receiving("a")
    app.arrive(publish())
    assert len(deliveries(app.arrive(publish()))) == 1


def test_acknowledgements_keep_the_order_of_arrival_however_handlers_finish() -> None:
    app = receiving("a")
    numbers = [one.delivery for one in app.given(app.arrive(*(publish(identifier=i) for i in (7, 3, 5))), 1)]
    app.core.handled(1, numbers[1:])
    assert app.core.take().packets == []
    app.core.handled(1, numbers)
    assert app.core.take().packets == [puback(7), puback(3), puback(5)]


def test_an_acknowledgement_belongs_to_the_lane_of_its_publish() -> None:
    app = receiving("a")
    (delivered,) = app.given(app.arrive(publish()), 1)
    app.up()
    app.core.handled(1, (delivered.delivery,))
    assert app.core.take().packets == []


def test_what_another_lane_brings_changes_nothing() -> None:
    app = receiving("a")
    app.core.incoming(FakeLane(), (publish(),), 0.0)
    app.core.link_down(FakeLane())
    assert deliveries(app.core.take()) == []
    assert len(deliveries(app.arrive(publish()))) == 1


def test_every_overlapping_subscription_has_to_handle_it() -> None:
    app = receiving("a", "#", "+", "b")
    decisions = app.arrive(publish())
    assert [len(app.given(decisions, number)) for number in (1, 2, 3, 4)] == [1, 1, 1, 0]
    number = deliveries(decisions)[0][1].delivery
    for subscription in (1, 2):
        app.core.handled(subscription, (number, number))
        assert app.core.take().packets == []
    app.core.handled(3, (number,))
    assert app.core.take().packets == [puback(1)]
    assert app.core.counters.handled == 1


def test_a_message_without_a_holder_waits_for_one() -> None:
    app = receiving("b")
    assert app.arrive(publish(qos=2), now=100.0).packets == []
    assert app.core.deadline == 100.0 + RETURN_GRACE_S
    app.core.tick(129.0)
    late = app.subscribe("a")
    (delivered,) = app.given(app.core.take(), late)
    assert not delivered.redelivered
    app.core.tick(131.0)
    assert app.core.take().packets == []
    app.core.handled(late, (delivered.delivery,))
    assert app.core.take().packets == [pubrec(1)]


def test_a_message_without_a_holder_is_acknowledged_and_counted_after_the_grace() -> None:
    app = receiving("b")
    app.arrive(publish(identifier=1), now=0.0)
    app.arrive(publish(identifier=2), now=1.0)
    app.core.tick(RETURN_GRACE_S)
    decisions = app.core.take()
    assert (decisions.packets, decisions.abandoned, decisions.abandoning) == ([puback(1, REJECTED)], 1, True)
    app.core.tick(RETURN_GRACE_S + 1.0)
    decisions = app.core.take()
    assert (decisions.packets, decisions.abandoned, decisions.abandoning) == ([puback(2, REJECTED)], 1, False)
    assert app.core.counters.abandoned == 2
    assert app.core.deadline == math.inf


def test_no_grace_ends_without_a_link() -> None:
    app = receiving("b")
    app.arrive(publish(), now=0.0)
    app.core.link_down(app.lane)
    assert app.core.deadline == math.inf
    app.core.tick(1e6)
    late = app.subscribe("a")
    assert len(app.given(app.core.take(), late)) == 1


def test_qos_0_without_a_holder_is_dropped_and_counted() -> None:
    app = receiving("b")
    assert deliveries(app.arrive(publish(qos=0))) == []
    assert (app.core.counters.received, app.core.counters.dropped) == (1, 1)


def test_what_a_leaver_has_not_handled_goes_to_its_successor_as_redelivered() -> None:
    app = receiving("a")
    app.arrive(publish())
    app.core.unsubscribe(1, 0.0)
    assert [type(one) for one in app.core.take().packets] == [UnsubscribeRequest]
    successor = app.subscribe("a")
    (delivered,) = app.given(app.core.take(), successor)
    assert delivered.redelivered
    app.core.handled(successor, (delivered.delivery,))
    assert app.core.take().packets == [puback(1)]
    assert app.core.counters.handled == 1


def test_what_a_leaver_has_not_handled_goes_at_once_to_one_who_came_later() -> None:
    app = receiving("a")
    app.arrive(publish())
    later = app.subscribe("#")
    app.core.unsubscribe(1, 0.0)
    (delivered,) = app.given(app.core.take(), later)
    assert delivered.redelivered


def test_who_has_had_a_message_is_not_given_it_again() -> None:
    app = receiving("a", "a", "#")
    app.arrive(publish())
    later = app.subscribe("a")
    app.core.unsubscribe(1, 0.0)
    assert [len(app.given(app.core.take(), number)) for number in (later,)] == [1]
    app.core.unsubscribe(2, 0.0)
    assert deliveries(app.core.take()) == []


def test_qos_0_is_not_returned() -> None:
    app = receiving("a")
    app.arrive(publish(qos=0))
    app.core.unsubscribe(1, 0.0)
    later = app.subscribe("a")
    assert app.given(app.core.take(), later) == []
    assert app.core.counters.dropped == 1


@pytest.mark.parametrize("qos", [1, 2])
def test_a_broker_beyond_our_receive_maximum_is_borne_with_and_told_of_once_a_link(qos: int) -> None:
    app = receiving("a", receive_maximum=2)
    decisions = app.arrive(*(publish(qos=qos, identifier=i) for i in (1, 2)))
    assert decisions.receive_maximum_exceeded == []
    numbers = [one.delivery for one in app.given(decisions, 1)]
    decisions = app.arrive(*(publish(qos=qos, identifier=i) for i in (3, 4, 5)))
    assert decisions.receive_maximum_exceeded == [1]
    numbers += [one.delivery for one in app.given(decisions, 1)]
    assert app.arrive(publish(qos=qos, identifier=6)).receive_maximum_exceeded == []
    app.core.handled(1, reversed(numbers))
    acknowledgement = pubrec if qos == 2 else puback
    decisions = app.core.take()
    assert decisions.packets == [acknowledgement(i) for i in (1, 2, 3, 4, 5)]
    assert decisions.overruns == []
    assert app.up(RESUMED).overruns == [Overrun(1, 4, given_up=False)]
    decisions = app.arrive(*(publish(qos=qos, identifier=i, duplicate=True) for i in (6, 7, 8)))
    assert decisions.receive_maximum_exceeded == [1]


@pytest.mark.parametrize("qos", [1, 2])
def test_beyond_all_packet_identifiers_the_broker_is_told_to_go(qos: int) -> None:
    app = receiving("a", receive_maximum=2)
    lane = app.lane
    flood = [publish(qos=qos, identifier=i) for i in range(1, MOST_UNACKNOWLEDGED + 1)]
    decisions = app.arrive(*flood)
    assert decisions.packets == []
    assert len(deliveries(decisions)) == MOST_UNACKNOWLEDGED
    decisions = app.arrive(publish(qos=qos, identifier=1))
    assert (decisions.lane, decisions.packets) == (lane, [DisconnectRequest(0x93)])
    assert decisions.overruns == [Overrun(1, MOST_UNACKNOWLEDGED - 1, given_up=True)]
    assert deliveries(decisions) == []
    assert deliveries(app.arrive(publish(qos=0))) == []
    # What is repeated is in memory already; what is new comes in as far as our Receive Maximum goes.
    app.up(RESUMED)
    decisions = app.arrive(*(one._replace(duplicate=True) for one in flood[:4]))
    assert (deliveries(decisions), decisions.overruns) == ([], [])
    (overrun,) = app.arrive(publish(qos=3 - qos, identifier=9)).overruns
    assert overrun.given_up


def test_more_than_64_mib_beyond_our_receive_maximum_are_too_much_and_within_it_are_not() -> None:
    app = receiving("a", receive_maximum=3)
    fill(app, MOST_UNACKNOWLEDGED_BYTES)
    app = receiving("a", receive_maximum=200)
    assert app.arrive(*(large(number) for number in range(1, 201))).overruns == []


def test_another_session_is_no_way_around_the_bound() -> None:
    """What holders have unhandled stays in memory, whichever link brought it."""
    app = receiving("a", receive_maximum=3)
    app.arrive(*(large(number) for number in range(1, 33)))
    app.granted(app.up())
    fill(app, MOST_UNACKNOWLEDGED_BYTES // 2)


def test_what_is_handled_out_of_order_no_longer_takes_memory() -> None:
    app = receiving("a", receive_maximum=3)
    numbers = [one.delivery for one in app.given(app.arrive(*(large(number) for number in range(1, 41))), 1)]
    app.core.handled(1, numbers[1:])
    assert app.core.take().packets == []
    fill(app, MOST_UNACKNOWLEDGED_BYTES - MIB, first=41)


@cache
def large(identifier: int, size_bytes: int = MIB) -> Delivery:
    """One whose payload and topic take that many bytes. Made once: a payload of this size costs more than a test."""
    return Delivery(Message("a", LARGE[: size_bytes - 1], 1), identifier)


def fill(app: App, size_bytes: int, *, first: int = 1) -> None:
    """So much goes in, and not one byte more."""
    end = first + size_bytes // MIB
    assert app.arrive(*(large(number) for number in range(first, end))).overruns == []
    (overrun,) = app.arrive(large(end, 1)).overruns
    assert overrun.given_up


def test_our_receive_maximum_counts_qos_2_until_pubcomp() -> None:
    app = receiving("a", receive_maximum=1)
    (delivered,) = app.given(app.arrive(publish(qos=2)), 1)
    app.core.handled(1, (delivered.delivery,))
    app.core.take()
    assert not app.arrive(PUBREL, publish(qos=1, identifier=2)).receive_maximum_exceeded
    assert app.arrive(publish(qos=1, identifier=3)).receive_maximum_exceeded


def test_ready_is_owed_to_a_lane_that_is_given_up() -> None:
    app = App(receive_maximum=1)
    app.subscribe("a")
    app.up()
    lane = app.lane
    decisions = app.arrive(*(large(number) for number in range(1, 66)))
    assert (decisions.ready, decisions.packets) == (lane, [DisconnectRequest(0x93)])


def test_a_stop_ends_every_iteration_and_acknowledges_only_what_is_handled() -> None:
    app = receiving("a")
    app.arrive(publish("unheld", identifier=9))
    waiting = app.subscribe("b")
    numbers = [one.delivery for one in app.given(app.arrive(*(publish(identifier=i) for i in (1, 2))), 1)]
    app.core.stop()
    app.core.stop()
    decisions = app.core.take()
    assert decisions.ended == [app.deliveries[1], app.deliveries[waiting]]
    assert decisions.unanswered == [app.answers[waiting]]
    assert deliveries(app.arrive(publish(identifier=3), publish(qos=0))) == []
    app.core.unsubscribe(waiting, 0.0)
    app.core.tick(1e6)
    assert app.core.take().packets == []
    app.core.handled(1, numbers)
    late = app.subscribe("c")
    decisions = app.core.take()
    # The one without a holder came first and stays unacknowledged, so order holds the others back.
    assert decisions.packets == []
    assert (decisions.ended, decisions.unanswered) == ([app.deliveries[late]], [app.answers[late]])
    assert app.up(RESUMED).ready is app.lane


def test_a_stop_says_ready_if_it_is_owed_and_still_acknowledges() -> None:
    app = App()
    app.subscribe("a")
    app.up()
    (delivered,) = app.given(app.arrive(publish()), 1)
    app.core.stop()
    assert app.core.take().ready is app.lane
    app.core.handled(1, (delivered.delivery,))
    assert app.core.take().packets == [puback(1)]


def test_a_batch_over_a_lost_link_leaves_nothing_for_the_old_lane() -> None:
    app = App()
    app.subscribe("a")
    old, new = FakeLane(), FakeLane()
    app.core.open_lane(old, Connack(), 0.0)
    app.core.incoming(old, (publish(qos=2), PUBREL), 0.0)
    app.core.link_down(old)
    app.core.open_lane(new, Connack(), 0.0)
    decisions = app.core.take()
    assert decisions.lane is new
    assert [type(one) for one in decisions.packets] == [SubscribeRequest]
    assert len(deliveries(decisions)) == 1


@pytest.mark.parametrize(("qos", "kind"), [(1, AckKind.PUBACK), (2, AckKind.PUBREC)])
def test_what_comes_for_a_filter_that_is_being_left_is_acknowledged_and_kept_for_nobody(
    qos: int, kind: AckKind
) -> None:
    app = receiving("a", "b")
    app.core.unsubscribe(1, 0.0)
    (unsubscribe,) = app.core.take().packets
    decisions = app.arrive(publish("a", qos=qos, identifier=1), publish("b", qos=qos, identifier=2))
    assert decisions.packets == [Acknowledgement(kind, 1)]
    assert [delivered.message.topic for _, delivered in deliveries(decisions)] == ["b"]
    app.subscribe("a")
    assert deliveries(app.core.take()) == []
    assert isinstance(unsubscribe, UnsubscribeRequest)


@pytest.mark.parametrize("handles", [False, True])
def test_what_only_refused_filters_match_is_handled_or_waits(handles: bool) -> None:
    """It is from an earlier process's subscription: none of the two has it because somebody else handles it."""
    app = App()
    app.subscribe("#")
    app.subscribe("#")
    app.granted(app.up(RESUMED), 0x87)
    app.arrive(publish())
    app.core.unsubscribe(1, 0.0)
    assert app.core.take().packets == []
    if handles:
        app.core.handled(2, (1,))
        assert app.core.take().packets == [puback(1)]
    app.core.unsubscribe(2, 0.0)
    assert app.core.take().packets == []
    successor = app.subscribe("a")
    assert len(app.given(app.core.take(), successor)) == (not handles)


@pytest.mark.parametrize("looked_at", [False, True])
def test_what_was_left_behind_is_not_acknowledged_when_the_filter_of_who_took_it_is_refused(looked_at: bool) -> None:
    app = receiving("a")
    app.granted(app.arrive(publish()))
    app.core.unsubscribe(1, 0.0)
    app.granted(app.core.take(), 0)
    heir = app.subscribe("a")
    asked = app.core.take()
    assert len(app.given(asked, heir)) == 1
    app.granted(asked, 0x87)
    app.core.unsubscribe(heir, 0.0, () if looked_at else (1,))
    assert app.core.take().packets == []
    successor = app.subscribe("a")
    assert len(app.given(app.core.take(), successor)) == 1


@pytest.mark.parametrize("first", [1, 2])
def test_what_waits_for_somebody_goes_on_waiting_when_those_whose_filter_is_refused_leave(first: int) -> None:
    app = App(1, max_deliveries=1)
    app.subscribe("a")
    app.subscribe("#")
    app.up(RESUMED)
    app.arrive(SubscribeOutcome(FIRST_IDENTIFIER, (1, 0x87)))
    app.arrive(publish())
    for number in (first, 3 - first):
        app.core.unsubscribe(number, 0.0, (1,) if number == 1 else ())
    assert [type(one) for one in app.core.take().packets] == [UnsubscribeRequest]
    successor = app.subscribe("a")
    assert len(app.given(app.core.take(), successor)) == 1


@pytest.mark.parametrize("first", [1, 2, 3])
def test_what_another_handled_is_done_when_those_whose_filter_is_refused_leave(first: int) -> None:
    app = App()
    for text in ("a", "#", "#"):
        app.subscribe(text)
    asked = app.up(RESUMED)
    app.arrive(SubscribeOutcome(FIRST_IDENTIFIER, (1, 0x87)))
    assert len(deliveries(app.arrive(publish()))) == 3
    assert len(asked.packets) == 1
    packets = []
    for number in (first, *({1, 2, 3} - {first})):
        if number == 1:
            app.core.handled(1, (1,))
        else:
            app.core.unsubscribe(number, 0.0)
        packets += app.core.take().packets
    assert packets == [puback(1)]
    assert app.core.counters.handled == 1


def test_who_comes_while_a_message_is_being_kept_is_given_it_once() -> None:
    """And not once more when another one leaves: it would be unhandled for ever."""
    app = receiving("a")
    app.keep_slowly()
    app.arrive(publish(qos=2))
    later = app.subscribe("a")
    decisions = app.kept()
    assert [len(app.given(decisions, number)) for number in (1, later)] == [1, 1]
    app.core.unsubscribe(1, 0.0)
    assert deliveries(app.core.take()) == []
    app.core.tick(RETURN_GRACE_S)
    app.core.handled(later, (1,))
    assert app.core.counters.unhandled == 0


@pytest.mark.parametrize("behind", [(), (publish(qos=1, identifier=2),)])
def test_what_came_before_its_filter_was_left_waits_for_somebody_however_slow_the_inbox(
    behind: tuple[Delivery, ...],
) -> None:
    app = receiving("a")
    app.keep_slowly()
    assert len(app.arrive(publish(qos=2), *behind).packets) == 0
    app.core.unsubscribe(1, 0.0)
    assert [type(one) for one in app.core.take().packets] == [UnsubscribeRequest]
    assert app.kept().commit is None, "nothing has ended"
    successor = app.subscribe("a")
    assert len(app.given(app.core.take(), successor)) == 1 + len(behind)


def test_what_came_while_its_filter_was_left_waits_for_nobody_however_slow_the_inbox() -> None:
    app = receiving("a")
    app.core.unsubscribe(1, 0.0)
    left = app.core.take()
    app.keep_slowly()
    app.arrive(publish(qos=2))
    app.granted(left)
    assert app.kept().commit is not None
    assert app.kept().packets == [pubrec(1)]


def test_a_pubrel_is_answered_when_its_identifier_is_forgotten_also_on_the_next_link() -> None:
    """Sooner, the broker would use it for another message, which a crash would make a repeat of this one."""
    app = receiving("a")
    app.core.handled(1, (app.given(app.arrive(publish(qos=2)), 1)[0].delivery,))
    app.core.take()
    app.keep_slowly()
    assert app.arrive(PUBREL).commit == InboxCommit(delete=(1,))
    app.up(RESUMED)
    assert app.arrive(PUBREL, PUBREL).packets == []
    assert app.kept().packets == [Acknowledgement(AckKind.PUBCOMP, 1)]
    assert app.arrive(PUBREL).packets == [Acknowledgement(AckKind.PUBCOMP, 1, 0x92)]


def test_a_pubrel_on_the_next_link_is_answered_once_a_disk_that_failed_keeps_again() -> None:
    app = receiving("a")
    app.core.handled(1, (app.given(app.arrive(publish(qos=2)), 1)[0].delivery,))
    app.core.take()
    app.keep_slowly()
    app.arrive(PUBREL)
    app.core.commit_failed(0.0)
    app.up(RESUMED)
    assert app.arrive(PUBREL).packets == []
    app.core.tick(1.0)
    assert app.core.take().commit == InboxCommit(delete=(1,))
    assert app.kept(now=1.0).packets == [Acknowledgement(AckKind.PUBCOMP, 1)]


FINGERPRINT = fingerprint_of(publish().message)


@pytest.mark.parametrize("fingerprint", [FINGERPRINT, None], ids=["known", "kept by an older hawk"])
@pytest.mark.parametrize("duplicate", [False, True])
def test_what_an_earlier_process_had_under_an_identifier_is_told_by_its_record(
    fingerprint: int | None, duplicate: bool
) -> None:
    handled, unhandled = InboxRecord(1, "one", True, fingerprint), InboxRecord(2, "two", False, fingerprint)
    app = App(100, handled, unhandled)
    app.subscribe("a")
    app.granted(app.up(RESUMED))
    decisions = app.arrive(*(publish(qos=2, identifier=one, duplicate=duplicate) for one in (1, 2)))
    assert decisions.packets == [pubrec(1)]
    (delivered,) = app.given(decisions, 1)
    assert (delivered.key, delivered.redelivered) == ("two", True)


@pytest.mark.parametrize("handled", [False, True])
@pytest.mark.parametrize("duplicate", [False, True])
def test_a_record_of_a_session_that_is_no_more_does_not_swallow_a_message_of_the_next(
    handled: bool, duplicate: bool
) -> None:
    """A process that died, or whose disk failed, before it had kept that the session is new, leaves such records."""
    app = App(100, InboxRecord(1, "before", handled, FINGERPRINT))
    app.subscribe("a")
    app.granted(app.up(RESUMED))
    app.keep_slowly()
    another = publish(qos=2, payload=b"another", duplicate=duplicate)
    commit = app.arrive(another).commit
    assert commit == InboxCommit(insert=(InboxRecord(1, "run-1", False, fingerprint_of(another.message)),))
    (delivered,) = app.given(app.kept(), 1)
    assert (delivered.key, delivered.redelivered) == ("run-1", duplicate)


def test_a_broker_that_lost_its_memory_may_use_an_identifier_of_qos_2_for_another_message() -> None:
    """One that starts again from an older copy of the session does not know that it waits for our PUBCOMP or PUBREC."""
    app = receiving("a")
    app.core.handled(1, (app.given(app.arrive(publish(qos=2)), 1)[0].delivery,))
    assert app.core.take().packets == [pubrec(1)]
    app.up(RESUMED)
    (delivered,) = app.given(app.arrive(publish(qos=2, payload=b"another")), 1)
    app.core.handled(1, (delivered.delivery,))
    assert app.core.take().packets == [pubrec(1)]
    assert app.arrive(PUBREL).packets == [Acknowledgement(AckKind.PUBCOMP, 1)]


def test_after_a_message_of_qos_2_was_set_aside_its_identifier_names_another() -> None:
    """A PUBREC that refuses ends the flow (MQTT 5 section 4.3.3)."""
    app = receiving("b")
    app.arrive(publish(qos=2), now=0.0)
    app.core.tick(RETURN_GRACE_S)
    assert app.core.take().packets == [Acknowledgement(AckKind.PUBREC, 1, REJECTED)]
    app.subscribe("a")
    app.core.take()
    assert len(deliveries(app.arrive(publish(qos=2), now=RETURN_GRACE_S))) == 1
