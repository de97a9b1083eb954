"""The outbox with a store: what is on disk before what is on the wire, what is in memory, and what a failing disk holds up."""

from copy import deepcopy

import pytest

from hawk.config import Config
from hawk.core.backlog import Paging
from hawk.core.commits import GATHERING_S
from hawk.core.dispatch import LONGEST_HELD_S
from hawk.core.outbox import Outbox
from hawk.core.poison import LOSSES_ALONE, LOSSES_BEFORE_ISOLATION
from hawk.messages import Commit, Identity, Offer, Progress, ReadPage, Recovered, Reply, ReplyReference
from hawk.packets import AckKind, Acknowledgement, Connack, Outgoing, Publish
from hawk.stores.memory import Disk
from hawk.values import Cause, CauseKind, FateKind, Message, Properties, Stage

NEW, LIVING = Connack(), Connack(session_present=True)
CLOSED = Cause(CauseKind.CLOSED_BY_PEER, "closed")
PLAIN = Config()
WHO = Identity("sensor-1", session=False)


def nobody() -> Reply | None:
    return None


def offer_of(messages: tuple[Message, ...], reply: ReplyReference, *, asks: bool = False) -> Offer:
    return Offer(messages, reply, sum(message.size_bytes for message in messages), asks)


def texts(*payloads: str, qos: int = 1, expiry_s: float | None = None, topic: str = "t") -> tuple[Message, ...]:
    properties = Properties(expiry_s=expiry_s)
    return tuple(Message(topic, payload.encode(), qos, properties=properties) for payload in payloads)


class Session:
    """What a broker's session holds at QoS 2: identifiers received and not released, and what was delivered."""

    def __init__(self) -> None:
        self.received: set[int] = set()
        self.delivered: list[str] = []

    def receive(self, packets: list[Outgoing]) -> list[Acknowledgement]:
        """The answers, each of which may get lost."""
        answers = []
        for packet in packets:
            if isinstance(packet, Publish):
                if packet.identifier not in self.received:
                    self.delivered.append(packet.message.payload.decode())
                self.received.add(packet.identifier)
                answers.append(Acknowledgement(AckKind.PUBREC, packet.identifier))
            elif isinstance(packet, Acknowledgement):
                self.received.discard(packet.identifier)
                answers.append(Acknowledgement(AckKind.PUBCOMP, packet.identifier))
        return answers


class Desk:
    """An outbox and its disk, one step at a time."""

    def __init__(self, config: Config = PLAIN, *, disk: Disk | None = None, paging: Paging = Paging()) -> None:
        self.disk = Disk() if disk is None else disk
        self.now = 0.0
        self.identifiers: list[int] = []
        """Of the PUBLISHes that went out, acknowledged or not."""
        identity = self.disk.identity or WHO
        self.outbox = Outbox(config, durable=True, identity=identity, paging=paging)
        self.outbox.watch_fates(True)
        self.outbox.recover(self.disk.recovered(self.now), self.now)

    def offer(self, *messages: Message) -> None:
        self.outbox.offer([offer_of(messages, nobody, asks=True)], self.now)

    def open(self, connack: Connack = NEW) -> None:
        """A link, once the disk knows of its session."""
        self.outbox.open(connack, self.now)
        self.outbox.ready()
        if self.outbox.holds_back:
            self.commit()

    def sent(self) -> list[Outgoing]:
        return list(self.outbox.take_packets(self.now))

    def payloads(self) -> list[str]:
        packets = [packet for packet in self.sent() if isinstance(packet, Publish)]
        self.identifiers += [packet.identifier for packet in packets]
        return [packet.message.payload.decode() for packet in packets]

    def commit(self) -> Commit | None:
        commit = self.outbox.take_commit(self.now)
        if commit is None and (commit := self.outbox.take_commit(self.now + GATHERING_S)):
            self.now += GATHERING_S  # deletions alone wait for company
        if commit is not None:
            self.disk.apply(commit, self.now)
            self.outbox.committed()
        return commit

    def settle(self, kind: AckKind, *identifiers: int, code: int = 0) -> None:
        self.outbox.settle([Acknowledgement(kind, identifier, code) for identifier in identifiers], 0, self.now)

    def read(self) -> None:
        request = self.outbox.take_read(self.now)
        assert request is not None
        self.outbox.page_read(self.disk.page(request, self.now), self.now)

    def run(self) -> list[str]:
        """Go on until nothing happens by itself; the payloads that went out."""
        out: list[str] = []
        while True:
            out += self.payloads()
            request = self.outbox.take_read(self.now)
            if request is not None:
                self.outbox.page_read(self.disk.page(request, self.now), self.now)
            if self.commit() is None and request is None:
                return out

    def talk(self, session: Session) -> None:
        """Go on with a broker that answers, until nothing happens by itself."""
        while True:
            answers = session.receive(self.sent())
            self.outbox.settle(answers, 0, self.now)
            if self.commit() is None and not answers:
                return

    def told(self) -> list[tuple[str, str]]:
        answers = self.outbox.take_answers()
        return [(told.message.payload.decode(), told.fate.kind.value) for told in answers if told.fate is not None]


class TestSession:
    """Nothing is written on a link before the disk knows of its session, unless the disk has trouble."""

    def opened(self) -> Desk:
        desk = Desk()
        desk.offer(*texts("a"))
        desk.commit()
        desk.outbox.open(NEW, desk.now)
        desk.outbox.ready()
        assert desk.sent() == []
        desk.outbox.take_answers()
        assert desk.outbox.holds_back
        assert desk.outbox.deadline() <= desk.now + LONGEST_HELD_S
        return desk

    def test_the_first_link_waits_until_it_is_noted_and_later_ones_do_not(self) -> None:
        desk = self.opened()
        commit = desk.commit()
        assert commit is not None
        assert commit.identity == Identity("sensor-1", session=True)
        assert desk.payloads() == ["a"]
        assert not desk.outbox.holds_back
        desk.outbox.close(CLOSED)
        desk.outbox.open(LIVING, desk.now)
        assert len(desk.sent()) == 1

    def test_a_link_to_another_broker_waits_until_that_is_noted(self) -> None:
        desk = Desk()
        desk.offer(*texts("a"))
        desk.commit()
        for connack, endpoint, shared, waits in (
            (NEW, "mqtt://a:1883", True, True),
            (LIVING, "mqtt://a:1883", True, False),
            (NEW, "mqtt://b:1883", False, True),
            (LIVING, "mqtt://b:1883", False, False),
        ):
            desk.outbox.open(connack, desk.now, endpoint=endpoint, shared=shared)
            desk.outbox.ready()
            assert desk.outbox.holds_back is waits
            assert desk.payloads() == ([] if waits else ["a"])
            desk.commit()
            assert desk.payloads() == (["a"] if waits else [])
            assert desk.disk.identity == Identity("sensor-1", session=True, endpoint=endpoint, shared=shared)
            desk.outbox.close(CLOSED)

    def test_a_disk_that_hangs_holds_it_up_for_a_second(self) -> None:
        desk = self.opened()
        assert desk.outbox.take_commit(desk.now) is not None
        desk.now += LONGEST_HELD_S / 2
        assert desk.sent() == []
        desk.now = desk.outbox.deadline()
        assert desk.payloads() == ["a"]
        assert desk.outbox.deadline() > desk.now

    def test_while_it_is_held_back_nothing_that_was_deferred_is_due(self) -> None:
        desk = Desk()
        desk.offer(*texts("a"))
        desk.run()
        desk.open()
        assert desk.payloads() == ["a"]
        desk.settle(AckKind.PUBACK, desk.identifiers[-1], code=0x97)
        desk.run()
        desk.outbox.close(CLOSED)
        desk.now += 1000.0
        desk.outbox.open(LIVING, desk.now, endpoint="mqtt://another")
        desk.outbox.ready()
        assert desk.sent() == []
        assert desk.outbox.take_commit(desk.now) is not None
        desk.outbox.take_answers()
        assert desk.outbox.deadline() == desk.now + LONGEST_HELD_S

    def test_a_disk_that_fails_does_not(self) -> None:
        desk = self.opened()
        desk.outbox.take_commit(desk.now)
        desk.outbox.commit_failed("the disk is full", desk.now)
        assert desk.payloads() == ["a"]

    def test_a_link_that_dies_meanwhile_leaves_the_next_one_to_wait(self) -> None:
        desk = self.opened()
        desk.outbox.close(CLOSED)
        assert not desk.outbox.holds_back
        desk.outbox.open(NEW, desk.now)
        assert desk.outbox.holds_back


class TestQoS2:
    """Identifier before PUBLISH, PUBREC before PUBREL, deletion before the identifier is free."""

    def test_each_stage_is_on_disk_before_the_packet_that_tells_it(self) -> None:
        desk = Desk()
        desk.offer(*texts("a", qos=2))
        desk.commit()
        desk.open()
        assert desk.sent() == []
        commit = desk.commit()
        assert commit is not None
        assert commit.progress == (Progress(1, 1, Stage.PUBLISHED, 0),)
        (packet,) = desk.sent()
        assert packet == Publish(texts("a", qos=2)[0], 1)
        desk.settle(AckKind.PUBREC, 1)
        assert desk.sent() == []
        commit = desk.commit()
        assert commit is not None
        assert commit.progress == (Progress(1, 1, Stage.RELEASED, 0),)
        assert desk.sent() == [Acknowledgement(AckKind.PUBREL, 1)]
        desk.settle(AckKind.PUBCOMP, 1)
        commit = desk.commit()
        assert commit is not None
        assert commit.delete == (1,)

    def test_while_the_disk_takes_its_time_with_a_pubrec_the_broker_owes_nothing(self) -> None:
        desk = Desk()
        desk.offer(*texts("a", qos=2))
        desk.run()
        desk.open()
        desk.run()
        desk.settle(AckKind.PUBREC, 1)
        assert desk.sent() == []
        assert desk.outbox.take_commit(desk.now) is not None
        desk.now += 2 * PLAIN.ack_timeout_s
        assert not desk.outbox.stalled(desk.now)
        desk.outbox.committed()
        assert desk.sent() == [Acknowledgement(AckKind.PUBREL, 1)]
        assert not desk.outbox.stalled(desk.now), "the broker was asked just now"
        assert desk.outbox.stalled(desk.now + PLAIN.ack_timeout_s)

    def test_what_comes_behind_waits_for_it_and_keeps_its_place(self) -> None:
        desk = Desk()
        desk.offer(*texts("a"), *texts("b", qos=2), *texts("c"), *texts("d", qos=0), *texts("e", qos=2))
        desk.commit()
        desk.open()
        assert desk.payloads() == ["a"]
        commit = desk.commit()
        assert commit is not None
        assert [progress.number for progress in commit.progress] == [2, 5], "one commit for all of the window"
        assert desk.payloads() == ["b", "c", "d", "e"]

    def test_after_a_restart_left_overs_first_with_their_identifiers_and_the_session(self) -> None:
        desk = Desk()
        desk.offer(*texts("a", "b"), *texts("c", "d", qos=2))
        desk.run()
        desk.open()
        assert desk.run() == ["a", "b", "c", "d"]
        desk.settle(AckKind.PUBACK, 1)
        desk.settle(AckKind.PUBREC, 3)
        desk.commit()
        again = Desk(disk=desk.disk)
        again.offer(*texts("e"))
        again.commit()
        again.outbox.open(LIVING, 0.0)
        packets = again.sent()
        assert packets[0] == Acknowledgement(AckKind.PUBREL, 3)
        rest = [(p.message.payload, p.identifier, p.duplicate) for p in packets[1:] if isinstance(p, Publish)]
        assert rest == [(b"b", 1, False), (b"d", 4, True)], "left-overs in their order; at QoS 1 under a new identifier"
        again.outbox.ready()
        assert again.payloads() == ["e"]

    def test_a_new_session_publishes_anew_and_tells_what_it_can_not_know(self) -> None:
        desk = Desk()
        desk.offer(*texts("c", "d", qos=2))
        desk.run()
        desk.open()
        desk.run()
        desk.settle(AckKind.PUBREC, 1)
        desk.commit()
        again = Desk(disk=desk.disk)
        again.open()
        assert again.run() == ["d"]
        assert again.told() == [("c", "unknown")]
        (record,) = again.disk.records(0.0)
        assert record.identifier not in (0, 1, 2)


class TestMemory:
    def test_a_backlog_is_read_in_pages_in_order_and_only_a_page_is_in_memory(self) -> None:
        desk = Desk(Config(message_queue_size=10_000, max_inflight=10), paging=Paging(20, 10_000, 8, 10_000))
        for first in range(0, 500, 100):
            desk.offer(*texts(*map(str, range(first, first + 100))))
            desk.commit()
        assert desk.outbox.in_memory <= 20
        assert desk.outbox.ledger().queued == 500
        desk.open()
        arrived: list[str] = []
        while arrived != [str(number) for number in range(500)]:
            out = desk.run()
            assert out, f"stuck after {len(arrived)}"
            arrived += out
            assert desk.outbox.in_memory <= 20
            desk.settle(AckKind.PUBACK, *desk.identifiers)
        desk.run()
        assert desk.disk.records(0.0) == []

    def test_the_oldest_on_disk_is_read_before_it_is_dropped(self) -> None:
        desk = Desk(Config(message_queue_size=5), paging=Paging(0, 1000, 2, 1000))
        desk.offer(*texts("a", "b", "c", "d", "e"))
        desk.run()
        desk.offer(*texts("f", "g", "h"))
        desk.run()
        desk.run()
        assert desk.told() == [("a", "dropped"), ("b", "dropped"), ("c", "dropped")]
        assert [record.message.payload for record in desk.disk.records(0.0)] == [b"d", b"e", b"f", b"g", b"h"]

    def test_records_that_a_store_has_lost_are_damaged_and_block_nothing(self) -> None:
        disk = Disk()
        outbox = Outbox(Config(), durable=True)
        outbox.recover(Recovered(queued=3, queued_bytes=30, last_number=3), 0.0)
        assert outbox.take_read(0.0) is not None
        outbox.page_read(disk.page(ReadPage(0, 1000, 1_000_000), 0.0), 0.0)
        ledger = outbox.ledger()
        assert (ledger.damaged, ledger.queued, ledger.balance) == (3, 0, 0)
        assert outbox.take_read(0.0) is None


class TestTrouble:
    """While commits fail QoS 1 goes on with acknowledgements in memory, at most a window of them; QoS 2 pauses."""

    def test_qos_1_goes_on_for_a_window_and_qos_2_pauses(self) -> None:
        desk = Desk(Config(max_inflight=4))
        desk.offer(*texts(*map(str, range(10))), *texts("two", qos=2))
        desk.run()
        desk.open()
        desk.commit()
        out, now = [], 0.0
        while packets := [packet for packet in desk.outbox.take_packets(now) if isinstance(packet, Publish)]:
            out += [packet.message.payload.decode() for packet in packets]
            desk.settle(AckKind.PUBACK, *(packet.identifier for packet in packets))
            if desk.outbox.take_commit(now) is not None:
                desk.outbox.commit_failed("the disk is full", now)
            now += 100
        assert out == ["0", "1", "2", "3"]
        desk.offer(*texts("new"))
        desk.outbox.take_commit(now)
        desk.outbox.commit_failed("the disk is full", now)
        assert ("new", "unavailable") in desk.told()
        desk.now = now + 100
        arrived: list[str] = []
        for _ in range(5):
            arrived += desk.run()
            desk.settle(AckKind.PUBACK, *desk.identifiers)
        assert arrived == ["4", "5", "6", "7", "8", "9", "two"], "and heals by itself"


class TestLatest:
    CONFIG = Config(latest=("state/#", "other"), message_queue_size=100)

    def test_a_newer_one_takes_the_place_in_memory_and_on_disk(self) -> None:
        desk = Desk(self.CONFIG, paging=Paging(0, 1000, 10, 1000))
        desk.offer(*texts("1", topic="state/a"), *texts("x"), *texts("2", topic="state/b"))
        desk.run()
        desk.offer(*texts("3", topic="state/a"), *texts("y"))
        desk.run()
        told = desk.outbox.take_answers()
        assert [(t.message.topic, t.fate.kind) for t in told if t.fate is not None] == [
            ("state/a", FateKind.SUPERSEDED)
        ]
        desk.open()
        assert desk.run() == ["x", "2", "3", "y"]
        assert desk.outbox.ledger().balance == 0

    def test_one_at_qos_0_that_waited_among_what_only_the_disk_has_counts_off_its_bytes_once(self) -> None:
        """Counted off twice, they seemed to be in memory for ever, and from then on nothing was read any more."""
        desk = Desk(self.CONFIG, paging=Paging(0, 1000, 2, 1000))
        desk.offer(*texts("1"))
        desk.commit()
        desk.offer(*texts("x" * 1000, qos=0, topic="state/a"))
        desk.offer(*texts("2"), *texts("3", topic="state/a"))
        request = desk.outbox.take_read(desk.now)
        assert request is not None
        desk.commit()
        assert desk.told()[-1][1] == "superseded"
        desk.outbox.page_read(desk.disk.page(request, desk.now), desk.now)
        desk.open()
        out = desk.run()
        desk.settle(AckKind.PUBACK, *desk.identifiers)
        assert out + desk.run() == ["1", "2", "3"]
        assert desk.outbox.drained

    def test_a_disk_that_fails_costs_only_the_newer_one(self) -> None:
        desk = Desk(self.CONFIG)
        desk.offer(*texts("old", topic="state/a"))
        desk.run()
        desk.offer(*texts("new", topic="state/a"))
        desk.outbox.take_commit(0.0)
        desk.outbox.commit_failed("the disk is full", 0.0)
        assert desk.told() == [("new", "unavailable")]
        desk.open()
        assert desk.payloads() == ["old"]

    def test_it_needs_no_room_of_its_own(self) -> None:
        outbox = Outbox(Config(latest=("state/#",), message_queue_size=2, overflow="reject"))
        for message in (*texts("1", topic="state/a"), *texts("x"), *texts("2", topic="state/a")):
            outbox.offer([offer_of((message,), nobody, asks=True)], 0.0)
        kinds = [told.fate.kind for told in outbox.take_answers() if told.fate is not None]
        assert kinds == [FateKind.SUPERSEDED]

    def test_after_a_crash_between_the_two_only_the_newer_one_is_left(self) -> None:
        desk = Desk(self.CONFIG)
        desk.offer(*texts("old", topic="state/a"))
        desk.run()
        desk.offer(*texts("new", topic="state/a"))
        desk.commit()
        assert len(desk.disk.records(0.0)) == 2
        again = Desk(self.CONFIG, disk=desk.disk)
        again.open()
        assert again.run() == ["new"]
        assert again.outbox.ledger().superseded == 1


class TestIdentity:
    """Under which name the next process finds the session."""

    def test_an_assigned_identifier_is_kept_and_one_that_nobody_asked_for_is_not(self) -> None:
        for asked_for, kept in (("", "broker-1"), ("me", "me")):
            disk = Disk()
            disk.identity = Identity(asked_for, session=False)
            desk = Desk(disk=disk)
            for assigned in ("broker-1", "broker-2"):
                desk.open(Connack(assigned_client_identifier=assigned))
                desk.run()
                desk.outbox.close(CLOSED)
            assert disk.identity == Identity(kept, session=True)


class TestExpiry:
    def test_swept_at_its_instant_in_memory_and_on_disk_and_told(self) -> None:
        for paging in (Paging(), Paging(0, 1000, 10, 1000)):
            desk = Desk(paging=paging)
            desk.offer(*texts("late", expiry_s=50.0), *texts("soon", expiry_s=10.0), *texts("never"))
            desk.run()
            desk.told()
            assert desk.outbox.deadline() == 10.0
            desk.now = 10.0
            desk.run()
            assert desk.told() == [("soon", "expired")]
            desk.now = 49.5
            desk.open()
            assert desk.run() == ["late", "never"]

    def test_the_rest_of_its_time_goes_along(self) -> None:
        desk = Desk()
        desk.offer(*texts("a", expiry_s=50.0))
        desk.run()
        desk.now = 20.5
        desk.open()
        (packet,) = desk.sent()
        assert isinstance(packet, Publish)
        assert packet.message.properties.expiry_s == 30.0

    def test_what_was_sent_does_not_expire_while_its_session_may_live(self) -> None:
        """MQTT-4.3.3-7 and MQTT-4.4.0-1: it is repeated under its identifier, however late."""
        desk = Desk()
        desk.offer(*texts("one", expiry_s=10.0), *texts("two", "got", qos=2, expiry_s=10.0))
        desk.run()
        desk.open()
        assert desk.run() == ["one", "two", "got"]
        desk.settle(AckKind.PUBREC, 3)
        desk.run()
        desk.outbox.close(CLOSED)
        desk.told()
        desk.now = 3600.0
        desk.run()
        assert desk.told() == []
        desk.open(LIVING)
        release, *repeats = desk.sent()
        assert release == Acknowledgement(AckKind.PUBREL, 3)
        repeats = [each for each in repeats if isinstance(each, Publish)]
        assert [(each.message.payload, each.identifier, each.duplicate) for each in repeats] == [
            (b"one", 1, True),
            (b"two", 2, True),
        ]
        assert {each.message.properties.expiry_s for each in repeats} == {1.0}, "0 is for ever to some brokers"

    def test_with_the_session_what_was_sent_loses_its_promise_and_expires(self) -> None:
        desk = Desk()
        desk.offer(*texts("one", expiry_s=10.0), *texts("two", qos=2, expiry_s=10.0))
        desk.run()
        desk.open()
        desk.run()
        desk.outbox.close(CLOSED)
        desk.now = 11.0
        desk.told()
        desk.open(NEW)
        assert desk.run() == []
        assert desk.told() == [("one", "expired"), ("two", "expired")]
        assert desk.disk.records(11.0) == []
        assert desk.outbox.ledger().balance == 0

    def test_what_waits_anew_after_a_lost_session_expires_at_its_instant(self) -> None:
        desk = Desk()
        desk.offer(*texts("a", qos=2, expiry_s=10.0))
        desk.run()
        desk.open()
        desk.run()
        desk.outbox.close(CLOSED)
        desk.outbox.open(NEW, desk.now)  # and its subscriptions are not answered yet
        desk.outbox.close(CLOSED)
        desk.told()
        assert desk.outbox.deadline() <= 10.0
        desk.now = 10.0
        desk.run()
        assert desk.told() == [("a", "expired")]

    def test_after_a_restart_what_may_have_been_sent_at_qos_2_is_bound_and_what_waited_is_not(self) -> None:
        """At QoS 1 no store remembers the identifier, so nothing is left of the session to be bound by."""
        desk = Desk()
        desk.offer(*texts("one", expiry_s=10.0), *texts("two", qos=2, expiry_s=10.0))
        desk.run()
        desk.open()
        desk.run()
        desk.now = 11.0
        for connack, repeated in ((LIVING, [("two", 2, True)]), (NEW, [])):
            again = Desk(disk=deepcopy(desk.disk))
            again.now = 11.0
            again.run()
            again.open(connack)
            packets = [each for each in again.sent() if isinstance(each, Publish)]
            found = [(each.message.payload.decode(), each.identifier, each.duplicate) for each in packets]
            assert found == repeated

    def test_what_was_never_sent_expires_though_it_has_an_identifier(self) -> None:
        desk = Desk()
        desk.offer(*texts("a", qos=2, expiry_s=10.0))
        desk.run()
        desk.open()
        assert desk.sent() == [], "it waits for its identifier to be on disk"
        desk.outbox.close(CLOSED)
        desk.run()
        desk.told()
        desk.now = 10.0
        desk.run()
        assert desk.told() == [("a", "expired")]

    def test_what_expires_at_qos_0_behind_the_disk_leaves_no_bytes_behind(self) -> None:
        """Counted off twice it would make memory look full for ever, and the disk would not be read any more."""
        desk = Desk(paging=Paging(1, 1000, 10, 1000))
        desk.offer(*texts("first", "second"))
        desk.commit()
        desk.offer(*texts("x" * 5000, qos=0, expiry_s=5.0))
        desk.now = 5.0
        assert desk.sent() == []
        assert desk.told() == [("x" * 5000, "expired")]
        desk.read()
        desk.offer(*texts("third"))
        desk.open()
        assert desk.run() == ["first", "second", "third"]

    def test_in_flight_it_waits_for_its_answer(self) -> None:
        desk = Desk()
        desk.offer(*texts("a", expiry_s=10.0))
        desk.run()
        desk.open()
        desk.run()
        desk.now = 11.0
        desk.run()
        desk.settle(AckKind.PUBACK, 1)
        assert desk.told() == [("a", "acknowledged")]


class TestPoison:
    def test_one_message_that_kills_every_link_is_set_aside_and_the_rest_flows(self) -> None:
        desk = Desk()
        desk.offer(*texts("a", "bad", "c"))
        desk.run()
        delivered: list[str] = []
        for links in range(20):
            desk.open(LIVING if links else NEW)
            while packets := [packet for packet in desk.sent() if isinstance(packet, Publish)]:
                payloads = [packet.message.payload.decode() for packet in packets]
                if "bad" in payloads:
                    break  # it kills the link before any of them is answered
                delivered += payloads
                desk.settle(AckKind.PUBACK, *(packet.identifier for packet in packets))
            desk.outbox.close(CLOSED)
            desk.run()
        assert delivered == ["a", "c"]
        assert [letter.record.message.payload for letter in desk.disk.dead.values()] == [b"bad"]
        assert desk.outbox.ledger().balance == 0
        assert desk.disk.records(0.0) == []


class TestWithheld:
    """MQTT-4.3.3: an identifier names no other message before PUBCOMP, a PUBREC that says no, or the session's end."""

    @staticmethod
    def poisoned(session: Session) -> Desk:
        """The broker has received a message at QoS 2 and closed the link before its PUBREC, until hawk gave it up."""
        desk = Desk()
        desk.offer(*texts("bad", qos=2))
        desk.commit()
        for links in range(LOSSES_BEFORE_ISOLATION + LOSSES_ALONE):
            desk.open(LIVING if links else NEW)
            for _ in range(2):
                session.receive(desk.sent())
                desk.commit()
            desk.outbox.close(CLOSED)
        assert desk.told() == [("bad", "dead_lettered")]
        return desk

    @staticmethod
    def refused_by_a_smaller_broker(session: Session) -> Desk:
        """The broker has received a message at QoS 2, and comes back with the session and with a lower Maximum QoS."""
        desk = Desk()
        desk.offer(*texts("bad", qos=2))
        desk.commit()
        desk.open(NEW)
        desk.sent()
        desk.commit()
        session.receive(desk.sent())
        desk.outbox.close(CLOSED)
        desk.open(Connack(session_present=True, maximum_qos=1))
        assert desk.told() == [("bad", "dead_lettered")]
        desk.outbox.close(CLOSED)
        return desk

    @pytest.mark.parametrize("how", ["poisoned", "refused_by_a_smaller_broker"])
    def test_what_is_given_up_is_a_dead_letter_at_once_and_its_identifier_is_not_used_by_the_next_process(
        self, how: str
    ) -> None:
        session = Session()
        desk: Desk = getattr(self, how)(session)
        desk.commit()
        assert desk.disk.records(desk.now) == []
        assert [letter.record.message.payload for letter in desk.disk.dead.values()] == [b"bad"]
        assert desk.disk.withheld == {1: 1}
        again = Desk(disk=desk.disk)
        again.offer(*texts("good", qos=2))
        again.commit()
        again.open(LIVING)
        again.talk(session)
        assert session.delivered == ["bad", "good"]
        assert again.told() == [("good", "acknowledged")]

    @pytest.mark.parametrize("how", ["poisoned", "refused_by_a_smaller_broker"])
    def test_it_comes_back_with_a_new_session_and_once_the_disk_has_forgotten_it(self, how: str) -> None:
        desk: Desk = getattr(self, how)(Session())
        desk.commit()
        again = Desk(disk=desk.disk)
        again.outbox.open(NEW, again.now)
        commit = again.outbox.take_commit(again.now)
        assert commit is not None
        assert commit.released == (1,)
        again.disk.apply(commit, again.now)
        assert again.disk.withheld == {}
        assert again.disk.recovered(again.now).dead == 1

    def test_a_session_that_ends_before_the_disk_knows_of_the_dead_letter_leaves_nothing_behind(self) -> None:
        desk = self.poisoned(Session())
        taken = desk.outbox.take_commit(desk.now)
        assert taken is not None
        assert [each.identifier for each in taken.withheld] == [1]
        desk.outbox.commit_failed("the disk is full", desk.now)
        desk.outbox.open(NEW, desk.now)
        desk.now += 2.0
        desk.commit()
        assert desk.disk.withheld == {}
        assert len(desk.disk.dead) == 1

    @pytest.mark.parametrize("how", ["poisoned", "refused_by_a_smaller_broker"])
    def test_it_counts_once(self, how: str) -> None:
        desk: Desk = getattr(self, how)(Session())
        desk.commit()
        again = Desk(disk=desk.disk)
        ledgers = [each.outbox.ledger() for each in (desk, again)]
        assert [(each.balance, each.dead_lettered, each.recovered) for each in ledgers] == [(0, 1, 0), (0, 0, 0)]


class TestBirthAtQoS2:
    """It is of one link and on no disk; but the broker's session may hold it longer than the process lives."""

    BIRTH = Message("status", b"on", 2)

    def sent(self, session: Session) -> Desk:
        desk = Desk()
        desk.outbox.open(NEW, desk.now, self.BIRTH)
        desk.outbox.ready()
        desk.commit()
        assert desk.sent() == []
        desk.commit()
        desk.outbox.settle(session.receive(desk.sent()), 0, desk.now)
        assert session.delivered == ["on"]
        return desk

    def test_after_a_crash_its_identifier_names_no_other_message(self) -> None:
        session = Session()
        again = Desk(disk=self.sent(session).disk)
        again.offer(*texts("good", qos=2))
        again.commit()
        again.open(LIVING)
        again.talk(session)
        assert session.delivered == ["on", "good"]

    def test_nothing_of_it_is_left_once_it_is_delivered(self) -> None:
        session = Session()
        desk = self.sent(session)
        desk.commit()
        desk.talk(session)
        assert session.received == set()
        assert desk.disk.withheld == {}
        assert desk.outbox.drained

    def test_a_stop_that_abandons_it_leaves_its_identifier_to_the_session(self) -> None:
        desk = self.sent(Session())
        desk.outbox.begin_stop()
        assert desk.outbox.end_stop().abandoned == 1
        desk.commit()
        assert desk.disk.withheld == {1: -1}
