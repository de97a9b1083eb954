"""The outbox, one rule at a time: overflow, refusals, limits of the broker, lost sessions, stalls, and the stop."""

import math

import pytest

from hawk.config import Config, OverflowPolicy, ReconnectionConfig
from hawk.core.dispatch import MOST_UNSENT_BYTES
from hawk.core.outbox import Outbox
from hawk.core.wire_size import publish_size_bytes
from hawk.messages import Offer, Page, ReadPage, Record, Recovered, Reply, ReplyReference, Room, StopReport
from hawk.packets import AckKind, Acknowledgement, Connack, Outgoing, Publish
from hawk.values import FateKind, Message

NEW, LIVING = Connack(), Connack(session_present=True)
PUBACK, PUBREC, PUBCOMP = AckKind.PUBACK, AckKind.PUBREC, AckKind.PUBCOMP


def nobody() -> Reply | None:
    return None


def texts(*payloads: str, qos: int = 1) -> tuple[Message, ...]:
    return tuple(Message("t", payload.encode(), qos) for payload in payloads)


def small(
    overflow: OverflowPolicy = "drop_oldest",
    *,
    message_queue_size: int = 3,
    message_queue_bytes: int = 1_000_000,
    message_retry_limit: int = 3,
    max_inflight: int = 1000,
) -> Config:
    return Config(
        overflow=overflow,
        message_queue_size=message_queue_size,
        message_queue_bytes=message_queue_bytes,
        message_retry_limit=message_retry_limit,
        max_inflight=max_inflight,
        reconnection=ReconnectionConfig(initial_retry_delay=1.0, backoff_multiplier=2.0, max_retry_delay=8.0),
    )


def offer_of(
    messages: tuple[Message, ...], reply: ReplyReference, *, asks: bool = False, refuse_if_full: bool = False
) -> Offer:
    return Offer(messages, reply, sum(message.size_bytes for message in messages), asks, refuse_if_full)


def outbox_with(*messages: Message, config: Config | None = None) -> Outbox:
    outbox = Outbox(Config() if config is None else config)
    if messages:
        outbox.offer([offer_of(messages, nobody)])
    return outbox


def flowing(*messages: Message, config: Config | None = None, connack: Connack = NEW) -> Outbox:
    outbox = outbox_with(*messages, config=config)
    outbox.open(connack, 0.0)
    outbox.ready()
    return outbox


def ask(outbox: Outbox, *messages: Message, refuse_if_full: bool = False, reply: ReplyReference = nobody) -> None:
    outbox.offer([offer_of(messages, reply, asks=True, refuse_if_full=refuse_if_full)])


def told(outbox: Outbox) -> list[tuple[str, str]]:
    """Payload and fate of every answer; "accepted" where there is none yet."""
    return [
        (message.payload.decode()[:9], "accepted" if fate is None else fate.kind.value)
        for _, message, fate, _ in outbox.take_answers()
    ]


def sent(outbox: Outbox, now: float = 0.0) -> list[tuple[str, int, bool]]:
    """Payload, identifier and DUP of every PUBLISH that goes out now."""
    return [
        (packet.message.payload.decode()[:9], packet.identifier, packet.duplicate)
        for packet in outbox.take_packets(now)
        if isinstance(packet, Publish)
    ]


def answer(outbox: Outbox, kind: AckKind, *identifiers: int, code: int = 0, now: float = 0.0) -> None:
    outbox.settle([Acknowledgement(kind, identifier, code) for identifier in identifiers], 0, now)


def pubrel(identifier: int, code: int = 0) -> Outgoing:
    return Acknowledgement(AckKind.PUBREL, identifier, code)


class TestOverflow:
    """Overflow policies act only while the link is down; while it is up, a sender without room waits."""

    @pytest.mark.parametrize(
        ("overflow", "answers"),
        [
            ("drop_oldest", [("a", "dropped"), ("d", "accepted"), ("b", "dropped"), ("e", "accepted")]),
            ("drop_newest", [("d", "accepted"), ("d", "dropped"), ("e", "accepted"), ("e", "dropped")]),
            ("reject", [("d", "full"), ("e", "full")]),
            ("wait", []),
        ],
    )
    def test_policy_by_count(self, overflow: OverflowPolicy, answers: list[tuple[str, str]]) -> None:
        outbox = outbox_with(*texts("a", "b", "c"), config=small(overflow))
        ask(outbox, *texts("d", "e"))
        assert told(outbox) == answers
        assert outbox.ledger().balance == 0

    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "reject", "wait"])
    def test_with_the_link_up_every_policy_waits_and_a_batch_is_seated_as_room_comes(
        self, overflow: OverflowPolicy
    ) -> None:
        outbox = flowing(*texts("a", "b"), config=small(overflow), connack=Connack(receive_maximum=1))
        ask(outbox, *texts("c", "d", "e"))
        assert told(outbox) == [("c", "accepted")]
        assert outbox.room() == Room(2, 4), "none while anyone stands in line"
        assert sent(outbox) == [("a", 1, False)]
        assert told(outbox) == [("d", "accepted")]
        answer(outbox, PUBACK, 1)
        assert sent(outbox) == [("b", 2, False)]
        assert told(outbox) == [("a", "acknowledged"), ("e", "accepted")]

    @pytest.mark.parametrize(
        ("overflow", "answers"),
        [
            ("drop_oldest", [("a", "dropped"), ("b", "dropped"), ("cccccccc", "accepted")]),
            ("drop_newest", [("cccccccc", "accepted"), ("cccccccc", "dropped")]),
            ("reject", [("cccccccc", "full")]),
            ("wait", []),
        ],
    )
    def test_policy_by_bytes(self, overflow: OverflowPolicy, answers: list[tuple[str, str]]) -> None:
        outbox = outbox_with(*texts("a", "b"), config=small(overflow, message_queue_bytes=10))
        ask(outbox, *texts("c" * 8))
        assert told(outbox) == answers

    def test_exactly_the_bound_in_bytes_fits(self) -> None:
        outbox = outbox_with(*texts("a", "b"), config=small("reject", message_queue_bytes=10))
        ask(outbox, *texts("c" * 5))
        assert told(outbox) == [("ccccc", "accepted")]
        assert outbox.room() == Room(2, 4)

    def test_a_message_larger_than_the_bound_comes_in_alone(self) -> None:
        outbox = flowing(*texts("a"), config=small(message_queue_bytes=10), connack=Connack(receive_maximum=1))
        ask(outbox, *texts("l" * 50))
        assert told(outbox) == []
        assert sent(outbox) == [("a", 1, False)]
        assert told(outbox) == [("l" * 9, "accepted")]
        assert outbox.room().size_bytes == outbox.ledger().taken_bytes

    def test_a_batch_larger_than_the_bound_drops_its_own_oldest(self) -> None:
        outbox = Outbox(small())
        ask(outbox, *texts("a", "b", "c", "d"))
        assert told(outbox)[-2:] == [("a", "dropped"), ("d", "accepted")]

    def test_what_was_sent_is_never_dropped_for_a_newcomer(self) -> None:
        outbox = flowing(*texts("a", "b", "c"), config=small(), connack=Connack(receive_maximum=2))
        assert [payload for payload, _, _ in sent(outbox)] == ["a", "b"]
        answer(outbox, PUBACK, 1, code=0x97)
        outbox.close()
        ask(outbox, *texts("d", "e", "f"))
        assert [payload for payload, fate in told(outbox) if fate == "dropped"] == ["c"]
        assert outbox.ledger().queued == 5

    def test_the_line_meets_the_policy_when_the_link_goes_down(self) -> None:
        outbox = flowing(*texts("a", "b", "c"), config=small("reject"), connack=Connack(receive_maximum=1))
        sent(outbox)
        ask(outbox, *texts("d"))
        ask(outbox, *texts("e"))
        told(outbox)
        outbox.close()
        assert sent(outbox) == []
        assert told(outbox) == [("e", "full")]

    @pytest.mark.parametrize("overflow", ["drop_oldest", "wait"])
    def test_publish_nowait_never_waits_also_behind_a_line(self, overflow: OverflowPolicy) -> None:
        outbox = flowing(*texts("a", "b", "c"), config=small(overflow))
        ask(outbox, *texts("d"))
        ask(outbox, *texts("e"), refuse_if_full=True)
        assert told(outbox) == [("e", "full")]

    def test_a_cancelled_sender_is_not_admitted_and_those_behind_move_up(self) -> None:
        outbox = flowing(*texts("a", "b", "c"), config=small(), connack=Connack(receive_maximum=1))

        def first() -> Reply | None:
            return None

        ask(outbox, *texts("d"), reply=first)
        ask(outbox, *texts("e"))
        outbox.withdraw(first)
        sent(outbox)
        assert told(outbox) == [("e", "accepted")]

    def test_room_counts_what_the_keeper_has_taken(self) -> None:
        outbox = outbox_with(*texts("aa", "b"), config=small(message_queue_bytes=100))
        assert outbox.room() == Room(3, 100)
        ledger = outbox.ledger()
        assert (ledger.taken, ledger.taken_bytes) == (2, 5)


class TestRefusals:
    """`message_retry_limit` counts the refusals that may pass, never a lost link."""

    def test_tried_again_with_backoff_then_a_dead_letter_with_its_reason(self) -> None:
        outbox = flowing(*texts("a", "b"), config=small(message_retry_limit=2))
        assert sent(outbox) == [("a", 1, False), ("b", 2, False)]
        answer(outbox, PUBACK, 2)
        answer(outbox, PUBACK, 1, code=0x97, now=10.0)
        told(outbox)
        assert outbox.deadline() == 11.0
        assert sent(outbox, 10.9) == []
        assert sent(outbox, 11.0) == [("a", 3, False)], "a new identifier, and no DUP: the broker had refused it"
        answer(outbox, PUBACK, 3, code=0x80, now=11.0)
        assert outbox.deadline() == 13.0
        outbox.close()
        outbox.open(NEW, 12.0)
        outbox.ready()
        assert sent(outbox, 13.0) == [("a", 4, False)]
        answer(outbox, PUBACK, 4, code=0x97, now=13.0)
        ((_, _, fate, _),) = outbox.take_answers()
        assert fate is not None
        assert (fate.kind, fate.reason_code) == (FateKind.DEAD_LETTERED, 0x97)
        assert "Quota exceeded" in fate.detail
        assert outbox.ledger().balance == 0

    @pytest.mark.parametrize(("qos", "kind"), [(1, PUBACK), (2, PUBREC)])
    @pytest.mark.parametrize("code", [0x87, 0x90, 0x99])
    def test_refused_for_good_frees_the_slot_without_a_pubrel(self, qos: int, kind: AckKind, code: int) -> None:
        outbox = flowing(*texts("a", "b", qos=qos), connack=Connack(receive_maximum=1))
        sent(outbox)
        answer(outbox, kind, 1, code=code)
        (packet,) = outbox.take_packets(0.0)
        assert isinstance(packet, Publish)
        assert packet.message.payload == b"b"
        assert told(outbox) == [("a", "dead_lettered")]

    def test_no_matching_subscribers_is_a_success(self) -> None:
        outbox = flowing(*texts("a"))
        sent(outbox)
        answer(outbox, PUBACK, 1, code=0x10)
        assert told(outbox) == [("a", "acknowledged")]

    def test_those_due_together_go_in_their_order_and_in_front_of_the_backlog(self) -> None:
        outbox = flowing(*texts("a", "b"), connack=Connack(receive_maximum=2))
        sent(outbox)
        answer(outbox, PUBACK, 1, code=0x97, now=5.0)
        answer(outbox, PUBACK, 2, code=0x97, now=4.0)
        outbox.offer([offer_of(texts("c", "d"), nobody)])
        assert [payload for payload, _, _ in sent(outbox, 6.0)] == ["a", "b"]

    def test_due_and_without_credit_is_no_reason_to_wake(self) -> None:
        outbox = flowing(*texts("a", "b"), connack=Connack(receive_maximum=1))
        sent(outbox)
        answer(outbox, PUBACK, 1, code=0x97)
        sent(outbox)
        told(outbox)
        assert sent(outbox, 2.0) == []
        assert outbox.deadline() == 60.0, "only the broker's silence is left to wait for"

    def test_a_broker_that_refuses_everything_for_now_fills_no_memory(self) -> None:
        """Ten times the bound, all refused for now: never more than the bound and a window are kept back."""
        outbox = flowing(config=small(message_queue_size=20, max_inflight=5))
        for number in range(200):
            room, ledger = outbox.room(), outbox.ledger()
            if room.messages > ledger.taken:
                outbox.offer([offer_of(texts(str(number)), nobody)])
            for packet in outbox.take_packets(0.0):
                assert isinstance(packet, Publish)
                answer(outbox, PUBACK, packet.identifier, code=0x97)
        assert outbox.ledger().queued == 20 + 20
        assert len(sent(outbox, 100.0)) == 5, "and all of it flows again"


class TestBrokersLimits:
    """What this broker can never take is a dead letter, and blocks nothing behind it."""

    def test_a_packet_exactly_at_the_limit_goes_one_byte_more_does_not(self) -> None:
        fits, too_large = texts("x" * 50, "y" * 51)
        outbox = flowing(too_large, fits, connack=Connack(maximum_packet_size=publish_size_bytes(fits)))
        assert sent(outbox) == [("x" * 9, 1, False)]
        ((_, message, fate, _),) = outbox.take_answers()
        assert fate is not None
        assert (message, fate.kind) == (too_large, FateKind.DEAD_LETTERED)

    @pytest.mark.parametrize(
        ("connack", "impossible"),
        [
            (Connack(maximum_qos=1), Message("t", b"bad", 2)),
            (Connack(maximum_qos=0), Message("t", b"bad", 1)),
            (Connack(retain_available=False), Message("t", b"bad", 0, retain=True)),
        ],
    )
    def test_qos_and_retain(self, connack: Connack, impossible: Message) -> None:
        outbox = flowing(impossible, Message("t", b"good", 0), connack=connack)
        assert sent(outbox) == [("good", 0, False)]
        assert told(outbox) == [("bad", "dead_lettered")]

    @pytest.mark.parametrize("session_present", [True, False])
    def test_what_an_earlier_link_left_blocks_nothing_either(self, session_present: bool) -> None:
        outbox = flowing(*texts("large" * 10, "a"))
        sent(outbox)
        outbox.close()
        outbox.open(Connack(session_present=session_present, maximum_packet_size=20), 0.0)
        assert told(outbox) == [("largelarg", "dead_lettered")]
        outbox.ready()
        assert [payload for payload, _, _ in sent(outbox)] == ["a"]

    def test_what_ended_without_a_packet_is_told_at_once(self) -> None:
        outbox = flowing(*texts("a", qos=2), connack=Connack(maximum_qos=1))
        assert outbox.take_packets(1.0) == ()
        assert outbox.deadline() == -math.inf
        assert told(outbox) == [("a", "dead_lettered")]
        assert outbox.deadline() == math.inf


class TestLinksAndSessions:
    def test_the_backlog_waits_for_ready_and_the_unfinished_does_not(self) -> None:
        outbox = flowing(*texts("a"))
        sent(outbox)
        outbox.close()
        outbox.offer([offer_of(texts("b"), nobody)])
        outbox.open(LIVING, 0.0)
        assert sent(outbox) == [("a", 1, True)]
        outbox.ready()
        assert sent(outbox) == [("b", 2, False)]

    def test_a_lost_session_sends_anew_in_order_once_ready_and_says_what_it_can_not_know(self) -> None:
        outbox = flowing(*texts("a", "b"), *texts("c", "d", qos=2), *texts("e"))
        sent(outbox)
        answer(outbox, PUBREC, 3)
        outbox.close()
        outbox.open(NEW, 0.0)
        assert told(outbox) == [("c", "unknown")]
        assert outbox.take_packets(0.0) == ()
        outbox.ready()
        assert sent(outbox) == [("a", 6, False), ("b", 7, False), ("d", 8, False), ("e", 9, False)]

    def test_a_living_session_repeats_pubrels_in_the_order_of_pubrecs_and_ignores_their_credit(self) -> None:
        outbox = flowing(*texts("a", "b", "c", qos=2), *texts("d"))
        sent(outbox)
        answer(outbox, PUBREC, 2)
        answer(outbox, PUBREC, 1)
        assert outbox.take_packets(0.0) == (pubrel(2), pubrel(1))
        outbox.close()
        outbox.open(Connack(session_present=True, receive_maximum=2), 0.0)
        assert outbox.take_packets(0.0) == (pubrel(2), pubrel(1))
        answer(outbox, PUBCOMP, 2, code=0x92)
        assert sent(outbox) == [("c", 3, True)]
        assert told(outbox) == [("b", "acknowledged")]

    def test_receive_maximum_shrinks_from_20_to_1(self) -> None:
        outbox = flowing(*texts(*map(str, range(20))))
        assert len(sent(outbox)) == 20
        outbox.close()
        outbox.open(Connack(session_present=True, receive_maximum=1), 0.0)
        outbox.ready()
        for number in range(20):
            assert sent(outbox) == [(str(number), number + 1, True)]
            assert sent(outbox) == []
            answer(outbox, PUBACK, number + 1)
        assert outbox.ledger().acknowledged == 20

    def test_a_pubrec_for_what_is_not_sent_again_yet_releases_nothing(self) -> None:
        """A PUBREL with 0x92 would let the broker forget the identifier, and the repeat would be delivered twice."""
        outbox = flowing(*texts("a", "b", qos=2))
        sent(outbox)
        outbox.close()
        outbox.open(Connack(session_present=True, receive_maximum=1), 0.0)
        sent(outbox)
        answer(outbox, PUBREC, 2)
        assert outbox.take_packets(0.0) == ()

    def test_unknown_and_repeated_answers_are_answered_or_ignored(self) -> None:
        outbox = flowing(*texts("a"), *texts("b", qos=2))
        sent(outbox)
        answer(outbox, PUBREC, 9)
        answer(outbox, PUBREC, 9, code=0x80)
        answer(outbox, PUBACK, 9)
        answer(outbox, PUBCOMP, 9)
        assert outbox.take_packets(0.0) == (pubrel(9, 0x92),)
        answer(outbox, PUBREC, 1)
        answer(outbox, PUBACK, 2)
        answer(outbox, PUBCOMP, 2)
        assert outbox.take_packets(0.0) == ()
        answer(outbox, PUBREC, 2, 2)
        assert outbox.take_packets(0.0) == (pubrel(2),)
        answer(outbox, PUBACK, 1, 1)
        answer(outbox, PUBCOMP, 2, 2)
        assert told(outbox) == [("a", "acknowledged"), ("b", "acknowledged")]

    def test_qos_0_keeps_the_order_and_its_fate_is_sent_or_dropped_with_the_link(self) -> None:
        outbox = flowing(*texts("a", qos=0), *texts("b"), *texts("c", qos=0))
        assert [payload for payload, _, _ in sent(outbox)] == ["a", "b", "c"]
        outbox.settle([], 1, 0.0)
        assert told(outbox) == [("a", "sent")]
        outbox.close()
        assert told(outbox) == [("c", "dropped")]
        assert outbox.ledger().balance == 0

    def test_qos_0_is_bounded_by_what_the_socket_has_not_taken(self) -> None:
        half = "x" * (MOST_UNSENT_BYTES // 2)
        outbox = flowing(*texts(half, half, "late", qos=0))
        assert len(sent(outbox)) == 2
        outbox.settle([], 1, 0.0)
        assert sent(outbox) == [("late", 0, False)]

    def test_messages_queued_are_those_that_could_not_go_at_once(self) -> None:
        outbox = outbox_with(*texts("a", "b"))
        assert outbox.ledger().waited == 2, "the link is down: told with the acceptance"
        outbox.open(Connack(receive_maximum=3), 0.0)
        outbox.ready()
        outbox.offer([offer_of(texts("c", "d", "e"), nobody)])
        sent(outbox)
        sent(outbox)
        assert outbox.ledger().waited == 4
        outbox.close()
        assert outbox.ledger().waited == 4, "once each"


class TestTime:
    def test_a_stall_is_told_again_after_as_long_and_the_deadline_moves_on(self) -> None:
        outbox = flowing(*texts("a", "b"))
        sent(outbox, 100.0)
        assert outbox.deadline() == 160.0
        assert not outbox.stalled(159.9)
        answer(outbox, PUBACK, 1, now=159.9)
        told(outbox)
        assert not outbox.stalled(160.0)
        deadline = outbox.deadline()
        assert outbox.stalled(deadline)
        assert not outbox.stalled(deadline)
        assert outbox.deadline() == deadline + 60.0
        assert outbox.stalled(deadline + 60.0)
        outbox.close()
        assert outbox.deadline() == math.inf
        outbox.open(LIVING, 300.0)
        sent(outbox, 300.0)
        assert outbox.stalled(360.0)

    def test_answers_about_nothing_are_no_progress(self) -> None:
        outbox = flowing(*texts("a"))
        sent(outbox)
        answer(outbox, PUBACK, 77, now=59.0)
        answer(outbox, PUBCOMP, 1, now=59.0)
        assert outbox.stalled(60.0)

    def test_what_goes_anew_after_ready_has_its_whole_time(self) -> None:
        outbox = flowing(*texts("a"))
        sent(outbox)
        outbox.close()
        outbox.open(NEW, 10.0)
        sent(outbox, 10.0)
        outbox.ready()
        assert len(sent(outbox, 15.0)) == 1
        assert not outbox.stalled(70.0)
        assert outbox.stalled(75.0)

    def test_a_hundred_thousand_through_a_window_of_a_thousand_look_at_each_entry_a_few_times(self) -> None:
        """Linear time, by counting: how often a message's size is asked does not depend on how many others wait."""
        looks = 0

        class Counted(Message):
            @property
            def size_bytes(self) -> int:
                nonlocal looks
                looks += 1
                return 1

        outbox = flowing(config=Config(message_queue_size=100_000))
        outbox.offer([offer_of(tuple(Counted("t", b"", 1) for _ in range(100_000)), nobody)])
        rounds = 0
        while packets := outbox.take_packets(0.0):
            assert len(packets) <= 1000
            rounds += 1
            answer(outbox, PUBACK, *(packet.identifier for packet in packets if isinstance(packet, Publish)))
            outbox.take_answers()
        assert (rounds, outbox.ledger().acknowledged) == (100, 100_000)
        assert looks <= 4 * 100_000


class TestStop:
    def test_memory_alone_abandons_and_reports_what_happened_since_the_stop(self) -> None:
        outbox = flowing(*texts("a", "b", "c"), *texts("d", qos=0), connack=Connack(receive_maximum=3))
        sent(outbox)
        answer(outbox, PUBACK, 1)
        outbox.begin_stop()
        assert not outbox.drained
        ask(outbox, *texts("late"))
        answer(outbox, PUBACK, 2, code=0x87)
        told(outbox)
        sent(outbox)
        outbox.settle([Acknowledgement(PUBACK, 3)], 0, 0.0)
        outbox.offer([offer_of(texts("within the room"), nobody)])
        assert outbox.end_stop() == StopReport(acknowledged=1, sent=0, failed=1, kept=0, abandoned=2)
        outbox.offer([offer_of(texts("crossed the end"), nobody)])
        answers = told(outbox)
        assert answers[-1] == ("crossed t", "abandoned")
        assert outbox.ledger().balance == outbox.ledger().queued == 0

    def test_those_in_line_are_refused(self) -> None:
        outbox = flowing(*texts("a", "b", "c"), config=small())
        ask(outbox, *texts("d"))
        outbox.begin_stop()
        assert told(outbox) == [("d", "stopped")]

    def test_drained_when_all_is_delivered(self) -> None:
        outbox = flowing(*texts("a"))
        outbox.begin_stop()
        sent(outbox)
        assert not outbox.drained
        answer(outbox, PUBACK, 1)
        assert outbox.drained
        told(outbox)
        assert outbox.end_stop() == StopReport(acknowledged=1)

    def test_nothing_is_sent_after_the_end(self) -> None:
        outbox = flowing(*texts("a", qos=2))
        sent(outbox)
        outbox.begin_stop()
        outbox.end_stop()
        answer(outbox, PUBREC, 1)
        assert outbox.take_packets(0.0) == ()


class TestDisk:
    def durable(self, *messages: Message) -> Outbox:
        outbox = Outbox(Config(), durable=True)
        ask(outbox, *messages)
        return outbox

    def test_accepted_and_sent_only_when_committed_and_deleted_with_the_next_commit(self) -> None:
        outbox = self.durable(*texts("a"), *texts("b", qos=0))
        outbox.open(NEW, 0.0)
        outbox.ready()
        assert told(outbox) == [("b", "accepted")]
        assert sent(outbox) == [], "QoS 0 does not overtake"
        commit = outbox.take_commit(0.0)
        assert commit is not None
        assert [record.number for record in commit.insert] == [1]
        outbox.committed()
        assert told(outbox) == [("a", "accepted")]
        assert [payload for payload, _, _ in sent(outbox)] == ["a", "b"]
        answer(outbox, PUBACK, 1)
        told(outbox)
        assert outbox.take_commit(0.0) is None
        commit = outbox.take_commit(outbox.deadline())
        assert commit is not None
        assert (commit.insert, commit.delete) == ((), (1,))
        assert outbox.ledger().waited == 0, "nothing waited for the network"

    def test_a_failed_commit_turns_away_what_it_held_and_what_gathered_behind_it(self) -> None:
        outbox = self.durable(*texts("a"))
        outbox.take_commit(0.0)
        ask(outbox, *texts("b"), *texts("c", qos=0))
        outbox.commit_failed("the disk is full", 0.0)
        assert told(outbox) == [("c", "accepted"), ("a", "unavailable"), ("b", "unavailable")]
        ledger = outbox.ledger()
        assert (ledger.accepted, ledger.queued, ledger.balance) == (1, 1, 0)

    def test_a_message_dropped_before_its_commit_is_let_in_and_dropped_in_one_breath(self) -> None:
        """Its sender waits for a word, and there is none but that."""
        outbox = Outbox(small(message_queue_size=1), durable=True)
        ask(outbox, *texts("a"))
        outbox.take_commit(0.0)
        ask(outbox, *texts("b"))
        ask(outbox, *texts("c"))
        outbox.committed()
        assert told(outbox) == [("a", "accepted"), ("a", "dropped"), ("b", "accepted"), ("b", "dropped")]
        commit = outbox.take_commit(0.0)
        assert commit is not None
        assert ([record.number for record in commit.insert], commit.delete) == ([3], (1,))

    def test_seats_given_after_the_commit_was_taken_are_committed_at_once(self) -> None:
        outbox = self.durable(*texts("a"))
        assert outbox.deadline() == -math.inf
        outbox.take_commit(0.0)
        assert outbox.deadline() == math.inf

    def test_a_stop_with_the_link_down_waits_for_the_disk_alone_and_keeps(self) -> None:
        outbox = self.durable(*texts("a"), *texts("z", qos=0))
        outbox.begin_stop()
        assert not outbox.drained
        outbox.take_commit(0.0)
        outbox.committed()
        assert outbox.drained
        told(outbox)
        assert outbox.end_stop() == StopReport(kept=1, abandoned=1)
        assert told(outbox) == [("a", "stopped"), ("z", "abandoned")]

    def test_a_stop_waits_for_deletions_so_that_nothing_delivered_comes_back(self) -> None:
        outbox = self.durable(*texts("a"))
        outbox.take_commit(0.0)
        outbox.committed()
        outbox.open(NEW, 0.0)
        outbox.ready()
        sent(outbox)
        answer(outbox, PUBACK, 1)
        outbox.close()
        outbox.begin_stop()
        assert not outbox.drained
        outbox.take_commit(0.0)
        outbox.committed()
        assert outbox.drained

    def test_what_is_recovered_goes_first_and_is_counted_once_over_runs(self) -> None:
        first = self.durable(*texts("a", "b"))
        first.take_commit(0.0)
        first.committed()
        first.begin_stop()
        first.end_stop()
        second = Outbox(Config(), durable=True, opening=first.ledger())
        second.recover(Recovered(queued=2, queued_bytes=4, last_number=2))
        request = second.take_read(0.0)
        assert request == ReadPage(0, request.most_messages, request.most_bytes) if request else False
        second.page_read(Page((Record(1, texts("a")[0]), Record(2, texts("b")[0])), end=True), 0.0)
        ledger = second.ledger()
        assert (ledger.recovered, ledger.accepted, ledger.queued, ledger.balance) == (0, 2, 2, 0)
        ask(second, *texts("c"))
        second.open(NEW, 0.0)
        second.ready()
        assert [payload for payload, _, _ in sent(second)] == ["a", "b"]
        stranger = Outbox(Config(), durable=True)
        stranger.recover(Recovered(queued=1, queued_bytes=2, last_number=7))
        stranger.take_read(0.0)
        stranger.page_read(Page((Record(7, texts("a")[0]),), end=True), 0.0)
        assert stranger.ledger().recovered == 1
        ask(stranger, *texts("b"))
        commit = stranger.take_commit(0.0)
        assert commit is not None
        assert commit.insert[0].number == 8

    def test_what_a_crash_left_in_memory_counts_as_abandoned(self) -> None:
        crashed = flowing(*texts("a", "b"), connack=Connack(receive_maximum=1))
        sent(crashed)
        after = Outbox(Config(), opening=crashed.ledger())
        after.recover(Recovered())
        assert (after.ledger().abandoned, after.ledger().balance) == (2, 0)


class TestRunsOfAcknowledgements:
    """Plain PUBACKs come in runs, and a run is told to a sender at once."""

    def listening(self) -> tuple[Outbox, object]:
        sender = object()
        outbox = Outbox(small(message_queue_size=10))
        outbox.offer([offer_of(texts("a", "b", "c"), lambda: sender)])  # type: ignore[arg-type, return-value]
        outbox.open(NEW, 0.0)
        outbox.ready()
        outbox.take_packets(0.0)
        return outbox, sender

    def test_a_batch_is_told_once_how_many_were_acknowledged(self) -> None:
        outbox, _ = self.listening()
        outbox.settle([], 0, 0.0, acknowledged=[1, 2])
        ((_, _, fate, messages),) = outbox.take_answers()
        assert fate is not None
        assert (fate.kind, messages) == (FateKind.ACKNOWLEDGED, 2)
        assert outbox.ledger().acknowledged == 2
        assert outbox.ledger().in_flight == 1

    def test_each_is_told_while_fates_are_watched(self) -> None:
        outbox, _ = self.listening()
        outbox.watch_fates(True)
        outbox.settle([], 0, 0.0, acknowledged=[1, 2, 3])
        assert [payload for payload, _ in told(outbox)] == ["a", "b", "c"]

    def test_nobody_listens_and_nothing_is_told_but_all_is_counted(self) -> None:
        outbox = flowing(*texts("a", "b"))
        outbox.take_packets(0.0)
        outbox.settle([], 0, 0.0, acknowledged=[1, 2])
        assert outbox.take_answers() == []
        assert outbox.ledger().acknowledged == 2

    def test_an_unknown_one_and_one_for_qos_2_change_nothing(self) -> None:
        outbox = flowing(Message("t", b"a", 2), Message("t", b"b", 1))
        outbox.take_packets(0.0)
        outbox.settle([], 0, 0.0, acknowledged=[9, 1, 2])
        assert outbox.ledger().acknowledged == 1
        assert outbox.ledger().in_flight == 1
