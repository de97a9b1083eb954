"""Promises C1 to C4 of the outbox, under a broker that answers anything, links that die and processes that crash at any point.

The machine is an onlooker: it knows what was offered, what senders were told, what went on the wire, what the broker
said and what the disk holds. The rules do what the Queue keeper, the store and the broker can do, in any order; every
packet and every answer is judged when it leaves the outbox. Links open and die along the connection table. A crash leaves
what the disk holds, with the commit under way applied or not; the broker keeps its session.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hawk.config import Config, OverflowPolicy, ReconnectionConfig
from hawk.core.answers import answer_of
from hawk.core.backlog import Paging
from hawk.core.connection import Effect, Happening, State, advance
from hawk.core.outbox import Outbox
from hawk.core.poison import LOSSES_ALONE, LOSSES_BEFORE_ISOLATION
from hawk.core.window import HIGHEST_IDENTIFIER, MOST_BYTES_IN_FLIGHT
from hawk.core.wire_size import publish_size_bytes
from hawk.messages import Commit, Identity, Offer, ReadPage, Recovered, Reply, ReplyReference
from hawk.packets import AckKind, Acknowledgement, Connack, Outgoing, PingRequest, Publish
from hawk.stores.memory import Disk
from hawk.values import Cause, CauseKind, Fate, FateKind, Ledger, Message, Properties, Stage, Verdict

NEVER_ACCEPTED = {FateKind.FULL, FateKind.UNAVAILABLE, FateKind.STOPPED}
CODES = (0x00, 0x00, 0x10, 0x80, 0x97, 0x87, 0x99, 0x92, 0xFF)
PAYLOADS = {"small": b"", "middling": b"x" * 60, "huge": b"x" * 1_500_000}
KINDS = st.tuples(st.sampled_from(("small", "small", "middling", "huge")), st.sampled_from((1, 2, 0)))
PAGINGS = (Paging(), Paging(2, 1000, 1, 1000), Paging(0, 1000, 3, 100), Paging(3, 64_000_000, 2, 2_000_000))
EXPIRIES = (None, None, None, 4.0, 30.0)
TOPICS = ("t", "t", "t", "l/1", "l/2")
BY_THE_BROKER = Cause(CauseKind.CLOSED_BY_PEER, "closed")
BY_THE_NETWORK = Cause(CauseKind.HUNG_UP, "silent")
MOSTLY = st.sampled_from((True, True, True, False))


def offer_of(
    messages: tuple[Message, ...], reply: ReplyReference, *, asks: bool = False, refuse_if_full: bool = False
) -> Offer:
    return Offer(messages, reply, sum(message.size_bytes for message in messages), asks, refuse_if_full)


@dataclass(repr=False, eq=False)
class Track:
    """What the onlooker knows of one message."""

    message: Message
    reply: ReplyReference
    withdrawn: bool = False
    accepted: bool = False
    position: int = 0
    fate: FateKind | None = None
    sent: bool = False
    identifier: int = 0
    received: bool = False
    """The broker said PUBREC, and the session lives."""
    refusals: int = 0
    refused_for_good: bool = False
    acknowledged: bool = False
    forgotten: bool = False
    written: bool = False
    recovered: bool = False
    recovered_whole: bool = False
    """It is in memory since the start, as all are up to the last that was under way."""
    alone_at_losses: int = 0
    offered_at: float = 0.0
    accepted_at: float = math.inf


class Sender:
    """A sender who listens; its identity names the offer."""

    def __call__(self) -> Reply | None:
        return self

    def accept(self, ledger: Ledger, messages: int = 1) -> None:
        raise AssertionError("the keeper calls this, and there is none")

    def settle(self, fate: Fate, ledger: Ledger, messages: int = 1) -> None:
        raise AssertionError("the keeper calls this, and there is none")


class OutboxMachine(RuleBasedStateMachine):
    @initialize(
        durable=st.booleans(),
        overflow=st.sampled_from(("drop_oldest", "drop_newest", "wait", "reject")),
        most_bytes=st.sampled_from((150, 4_000_000, 64_000_000)),
        max_inflight=st.sampled_from((1, 3, 1000)),
        stops=st.booleans(),
        paging=st.sampled_from(PAGINGS),
    )
    def begin(
        self, durable: bool, overflow: OverflowPolicy, most_bytes: int, max_inflight: int, stops: bool, paging: Paging
    ) -> None:
        self.config = Config(
            message_queue_size=6,
            message_queue_bytes=most_bytes,
            overflow=overflow,
            max_inflight=max_inflight,
            message_retry_limit=2,
            ack_timeout_s=10.0,
            latest=("l/+",),
            reconnection=ReconnectionConfig(initial_retry_delay=1.0, max_retry_delay=8.0),
        )
        self.durable, self.stops_at_the_end = durable, stops
        self.paging = paging
        self.identity = Identity("machine", session=False)
        self.outbox = Outbox(self.config, durable=durable, identity=self.identity, paging=paging)
        if durable:
            self.outbox.recover(Recovered(), 0.0)
        self.outbox.watch_fates(True)
        self.now = 0.0
        self.serials = 0
        self.tracks: dict[int, Track] = {}
        self.session: dict[int, int] = {}
        self.withheld: set[int] = set()
        self.delivered: Counter[int] = Counter()
        self.acknowledged_on_this_link, self.losses = False, 0
        self.reading: ReadPage | None = None
        self.positions = 0
        self.offered = self.offered_bytes = 0
        self.commit: Commit | None = None
        self.disk = Disk()
        self.serials_on_disk: dict[int, int] = {}
        self.state = State.DISCONNECTED
        self.connack: Connack | None = None
        self.connacks: list[Connack] = []
        self.had_session = False
        self.ready = False
        self.window = 0
        self.under_way: dict[int, int] = {}
        self.on_this_link: list[int] = []
        self.newest_first = 0
        self.releases_owed: set[int] = set()
        self.strays: Counter[int] = Counter()
        self.unsent: list[int] = []
        self.progress_at = 0.0
        self.stopping = False
        self.stopped = False

    # -------------------------------------------------------------------------------- applications

    @rule(
        kinds=st.lists(
            st.tuples(
                st.sampled_from(sorted(PAYLOADS)),
                st.sampled_from((0, 1, 1, 2)),
                st.sampled_from(TOPICS),
            ),
            min_size=1,
            max_size=9,
        ),
        expiry_s=st.sampled_from(EXPIRIES),
        retain=st.booleans(),
        within_room=st.booleans(),
        never_waits=st.booleans(),
        acts=MOSTLY,
    )
    def offer(
        self,
        kinds: list[tuple[str, int, str]],
        expiry_s: float | None,
        retain: bool,
        within_room: bool,
        never_waits: bool,
        acts: bool,
    ) -> None:
        reply = Sender()
        batch = []
        room = self.outbox.room()
        for size, qos, topic in kinds:
            serial = self.serials
            message = Message(topic, b"%d:" % serial + PAYLOADS[size], qos, retain and size == "small")
            if expiry_s is not None:
                message = message._replace(properties=Properties(expiry_s=expiry_s))
            if within_room and not self.durable:
                if self.offered >= room.messages or self.offered_bytes + message.size_bytes > room.size_bytes:
                    break
                self.offered += 1
                self.offered_bytes += message.size_bytes
            self.serials += 1
            self.tracks[serial] = Track(message, reply, offered_at=self.now)
            batch.append(message)
        if not batch:
            return
        asks = self.durable or not within_room
        self.outbox.offer([offer_of(tuple(batch), reply, asks=asks, refuse_if_full=asks and never_waits)], self.now)
        if not asks:
            for message in batch:
                self.accept(self.tracks[serial_of(message)])
        self.hear_answers()
        if asks and never_waits:
            waiting = [track for track in self.of(reply) if not track.accepted and track.fate is None]
            assert self.durable or not waiting, "publish_nowait never waits for room"
        if acts:
            self.act()

    @rule(data=st.data())
    @precondition(lambda self: any(self.in_line()))
    def withdraw(self, data: st.DataObject) -> None:
        self.hear_answers()
        if in_line := self.in_line():
            track = data.draw(st.sampled_from(in_line))
            self.outbox.withdraw(track.reply)
            for other in self.of(track.reply):
                # With a disk some of it may be in already, and wait for the commit: accepted or not, never half.
                other.withdrawn = not other.accepted
                if not self.durable and not other.accepted and other.fate is None:
                    other.fate = FateKind.STOPPED

    # ------------------------------------------------------------------------------------ the keeper

    @rule()
    def act(self) -> None:
        """One round of the Queue keeper; at a deadline that has passed it goes round again, and comes to rest."""
        for _ in range(3 + len(self.in_line())):
            self.hear_answers()
            packets = self.outbox.take_packets(self.now)
            if (commit := self.outbox.take_commit(self.now)) is not None:
                assert self.commit is None, "one commit at a time"
                assert any(commit)
                self.commit = commit
            if (request := self.outbox.take_read(self.now)) is not None:
                assert self.reading is None, "one reading at a time"
                self.reading = request
            # Who found room just now may be under way already, and hears of both in one breath.
            self.hear_answers()
            for packet in packets:
                self.judge(packet)
            self.judge_stall()
            if self.outbox.deadline() > self.now:
                self.judge_rest()
                return
        raise AssertionError("a deadline that never moves on is a hot loop")

    @rule()
    @precondition(lambda self: self.commit is not None or self.reading is not None)
    def disk_is_quick(self) -> None:
        for _ in range(10):
            if self.commit is not None:
                self.commit_succeeds()
            if self.reading is not None:
                self.page_is_read()
            self.act()
            if self.commit is None and self.reading is None:
                break

    @rule()
    @precondition(lambda self: self.commit is not None)
    def commit_succeeds(self) -> None:
        self.apply_commit()
        self.hear_answers()
        for number, serial in list(self.serials_on_disk.items()):
            if not self.is_on_disk(number):
                del self.serials_on_disk[number]
                assert self.tracks[serial].fate is not None, "the disk forgets too early"
        self.outbox.committed()

    def apply_commit(self) -> None:
        commit, self.commit = self.commit, None
        assert commit is not None
        self.disk.apply(commit, self.now)
        for record in commit.insert:
            self.serials_on_disk[record.number] = serial_of(record.message)

    def is_on_disk(self, number: int) -> bool:
        return any(record.number == number for record in self.disk.records(self.now))

    def on_disk(self, serial: int) -> bool:
        return any(serial_of(record.message) == serial for record in self.disk.records(self.now))

    @rule()
    @precondition(lambda self: self.commit is not None)
    def commit_fails(self) -> None:
        self.commit = None
        self.outbox.commit_failed("the disk is full", self.now)

    @rule()
    @precondition(lambda self: self.reading is not None)
    def page_is_read(self) -> None:
        request, self.reading = self.reading, None
        assert request is not None
        self.outbox.page_read(self.disk.page(request, self.now), self.now)

    @rule()
    @precondition(lambda self: self.reading is not None)
    def page_fails(self) -> None:
        self.reading = None
        self.outbox.page_failed(self.now)

    @rule(commit_survives=st.booleans(), broker_got=st.booleans())
    @precondition(lambda self: self.durable and not self.stopping)
    def crash_and_restart(self, commit_survives: bool, broker_got: bool) -> None:
        """C1: what was accepted at QoS 1 and 2 is on disk, or has met a fate that was told."""
        self.hear_answers()
        if self.commit is not None and commit_survives:
            self.apply_commit()
        self.commit = self.reading = None
        if self.connack is not None:
            self.lose_link(broker_got)
        kept = {serial_of(record.message): record for record in self.disk.records(self.now)}
        self.withheld = set(self.disk.withheld)
        for identifier, serial in self.session.items():
            under_way = serial in kept and kept[serial].identifier == identifier
            assert under_way or identifier in self.withheld, "the disk knows every identifier that the broker holds"
        for serial, track in self.tracks.items():
            if track.accepted and track.fate is None and track.message.qos:
                assert serial in kept, "C1"
        before, self.tracks = self.tracks, {}
        self.serials_on_disk = {record.number: serial for serial, record in kept.items()}
        last_under_way = max((record.number for record in kept.values() if record.identifier), default=0)
        for serial, record in sorted(kept.items()):
            track = Track(record.message, before[serial].reply if serial in before else Sender())
            track.accepted = track.recovered = True
            track.recovered_whole = record.number <= last_under_way
            track.position = serial + 1
            track.accepted_at = self.now
            track.offered_at = -math.inf
            track.sent = record.identifier != 0
            track.identifier, track.refusals = record.identifier, record.refusals
            track.received = record.stage is Stage.RELEASED
            self.tracks[serial] = track
        self.identity = self.disk.identity or Identity("machine", session=False)
        self.outbox = Outbox(self.config, durable=True, identity=self.identity, paging=self.paging)
        self.outbox.watch_fates(True)
        self.outbox.recover(self.disk.recovered(self.now), self.now)
        self.offered = self.offered_bytes = 0
        self.newest_first = 0
        self.connacks = []
        self.state = State.DISCONNECTED
        self.had_session = self.identity.session

    @rule(seconds=st.sampled_from((0.1, 1.0, 9.0, 11.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    @precondition(lambda self: len(self.tracks) > 20)
    def begin_stop(self) -> None:
        self.outbox.begin_stop()
        self.stopping = True
        self.hear_answers()
        assert not any(not track.accepted for track in self.in_line()) or self.durable

    # -------------------------------------------------------------------------------------- the link

    @rule(
        keeps_session=st.booleans(),
        receive_maximum=st.sampled_from((1, 2, 5, 20, 65_535)),
        maximum_packet_size=st.sampled_from((None, None, None, 20, 100)),
        maximum_qos=st.sampled_from((2, 2, 2, 2, 1, 0)),
        retain_available=MOSTLY,
        ready=MOSTLY,
        acts=MOSTLY,
    )
    @precondition(lambda self: self.connack is None)
    def link_opens(
        self,
        keeps_session: bool,
        receive_maximum: int,
        maximum_packet_size: int | None,
        maximum_qos: int,
        retain_available: bool,
        ready: bool,
        acts: bool,
    ) -> None:
        self.open(
            Connack(
                session_present=keeps_session and self.had_session,
                receive_maximum=receive_maximum,
                maximum_packet_size=maximum_packet_size,
                maximum_qos=maximum_qos,
                retain_available=retain_available,
            )
        )
        if ready:
            self.subscriptions_are_in()
        if acts:
            self.act()
            self.act()

    def open(self, connack: Connack) -> None:
        self.happen(*((Happening.OPEN,) if self.state is State.DISCONNECTED else ()), Happening.DIAL, Happening.DIALED)
        self.had_session = True
        self.acknowledged_on_this_link = False
        if not connack.session_present:
            self.session.clear()
            self.withheld.clear()
        self.connack, self.ready = connack, False
        self.connacks.append(connack)
        self.window = min(connack.receive_maximum, self.config.max_inflight)
        self.progress_at = self.now
        for track in self.tracks.values():
            if not connack.session_present:
                track.forgotten = track.received
                track.identifier, track.received = 0, False
            elif track.received:
                self.releases_owed.add(track.identifier)
        self.outbox.open(connack, self.now)

    @rule()
    @precondition(lambda self: self.connack is not None and not self.ready)
    def subscriptions_are_in(self) -> None:
        self.ready = True
        self.outbox.ready()

    @rule(broker_got=st.booleans(), by_the_broker=MOSTLY, answered=MOSTLY)
    @precondition(lambda self: self.connack is not None and bool(self.under_way or self.unsent or self.strays))
    def link_dies(self, *, broker_got: bool, by_the_broker: bool, answered: bool) -> None:
        """`answered`: a ping was, on this link."""
        self.note_alone(by_the_broker, answered)
        self.lose_link(broker_got)
        self.outbox.close(BY_THE_BROKER if by_the_broker else BY_THE_NETWORK, proven=answered)

    @rule(disk_fails=st.booleans(), restarts=st.booleans())
    @precondition(lambda self: not self.stopping)
    def one_message_kills_every_link(self, *, disk_fails: bool, restarts: bool) -> None:
        """The broker receives it, and closes the link before it has answered anything but a ping."""
        for _ in range(LOSSES_BEFORE_ISOLATION + LOSSES_ALONE):
            if not self.broker_receives_something():
                return
            self.link_dies(broker_got=True, by_the_broker=True, answered=True)
        self.bury(disk_fails=disk_fails, restarts=restarts)

    @rule(disk_fails=st.booleans(), restarts=st.booleans())
    @precondition(lambda self: not self.stopping)
    def a_broker_with_the_same_session_takes_less(self, *, disk_fails: bool, restarts: bool) -> None:
        if self.broker_receives_something():
            self.link_dies(broker_got=True, by_the_broker=False, answered=True)
            self.open(Connack(session_present=True, maximum_qos=1))
            self.bury(disk_fails=disk_fails, restarts=restarts)

    def broker_receives_something(self) -> bool:
        """Whether there was something to send, at QoS 1 or 2, on the present link or on a new one."""
        if self.connack is None:
            self.open(Connack(session_present=self.had_session))
        if not self.ready:
            self.subscriptions_are_in()
        self.act()
        self.disk_is_quick()
        return bool(self.under_way)

    def bury(self, *, disk_fails: bool, restarts: bool) -> None:
        """Dead letters reach the disk, perhaps not with the first commit, and perhaps the next process finds them there."""
        self.act()
        if disk_fails and self.commit is not None:
            self.commit_fails()
            self.now += 9.0
            self.act()
        self.disk_is_quick()
        if restarts and self.durable:
            self.crash_and_restart(commit_survives=True, broker_got=True)

    def note_alone(self, by_the_broker: bool, answered: bool) -> None:
        """How often each was alone in flight when the broker closed a link that had answered a ping and nothing else."""
        self.losses = 0 if self.acknowledged_on_this_link or not by_the_broker else self.losses + 1
        if not self.losses:
            for track in self.tracks.values():
                track.alone_at_losses = 0
        elif len(self.under_way) == 1 and answered:
            (serial,) = self.under_way.values()
            self.tracks[serial].alone_at_losses += 1

    def lose_link(self, broker_got: bool) -> None:
        """`broker_got`: what was on the wire has arrived, and only its answers are lost."""
        self.happen(Happening.LOST)
        self.connack = None
        for identifier, serial in self.under_way.items():
            track = self.tracks[serial]
            if broker_got and track.message.qos == 2:
                if track.received and identifier not in self.releases_owed:
                    self.session.pop(identifier, None)
                elif not track.received:
                    self.broker_takes(identifier, serial)
        self.under_way.clear()
        self.on_this_link.clear()
        self.releases_owed.clear()
        self.strays.clear()
        self.unsent.clear()

    def broker_takes(self, identifier: int, serial: int) -> None:
        """A QoS 2 PUBLISH reaches the broker's session: a new one is delivered, one under a known identifier is a repeat."""
        known = self.session.setdefault(identifier, serial)
        assert known == serial, "the broker takes a new QoS 2 message for a repeat of another, and swallows it"

    def happen(self, *happenings: Happening) -> None:
        effects: list[Effect] = []
        for happening in happenings:
            step = advance(self.state, happening)
            self.state = step.state
            effects += step.effects
        assert (Effect.ADOPT_LINK in effects) != (Effect.ANNOUNCE_DOWN in effects)

    # ------------------------------------------------------------------------------------ the broker

    @rule(
        picks=st.lists(
            st.tuples(
                st.integers(0, 12),
                st.sampled_from((AckKind.PUBACK, AckKind.PUBREC, AckKind.PUBCOMP)),
                st.sampled_from(CODES),
            ),
            min_size=1,
            max_size=6,
        )
    )
    @precondition(lambda self: self.connack is not None)
    def broker_answers_anything(self, picks: list[tuple[int, AckKind, int]]) -> None:
        """About what is under way, about what is not, about what this link has not been sent again."""
        self.settle([Acknowledgement(kind, 1 + pick, code) for pick, kind, code in picks])

    @rule(most=st.integers(1, 8), code=st.sampled_from(CODES), backwards=st.booleans(), acts=MOSTLY)
    @precondition(lambda self: bool(self.under_way))
    def broker_answers_what_is_under_way(self, most: int, code: int, backwards: bool, acts: bool) -> None:
        identifiers = list(self.under_way)[-most:] if backwards else list(self.under_way)[:most]
        self.settle([self.expected_answer(identifier, code) for identifier in identifiers])
        if acts:
            self.act()

    @rule(most=st.integers(1, 8))
    @precondition(lambda self: bool(self.unsent))
    def socket_takes_qos_0(self, most: int) -> None:
        self.settle([], min(most, len(self.unsent)))

    def expected_answer(self, identifier: int, code: int = 0) -> Acknowledgement:
        track = self.tracks[self.under_way[identifier]]
        kind = AckKind.PUBACK if track.message.qos == 1 else AckKind.PUBCOMP if track.received else AckKind.PUBREC
        return Acknowledgement(kind, identifier, code)

    def settle(self, acknowledgements: list[Acknowledgement], sent: int = 0) -> None:
        # What has ended already is known to nobody any more.
        self.hear_answers()
        for acknowledgement in acknowledgements:
            self.take_note(acknowledgement)
        for serial in self.unsent[:sent]:
            self.tracks[serial].written = True
        del self.unsent[:sent]
        plain = [each.identifier for each in acknowledgements if each.kind is AckKind.PUBACK and not each.reason_code]
        if len(plain) == len(acknowledgements) and self.now % 1 < 0.5:
            self.outbox.settle([], sent, self.now, acknowledged=plain)
        else:
            self.outbox.settle(acknowledgements, sent, self.now)

    def take_note(self, acknowledgement: Acknowledgement) -> None:
        kind, identifier, code = acknowledgement
        serial = self.under_way.get(identifier)
        if serial is None:
            known = any(track.identifier == identifier and track.fate is None for track in self.tracks.values())
            if kind is AckKind.PUBREC and code < 0x80 and not known:
                self.strays[identifier] += 1
            return
        track = self.tracks[serial]
        if kind is not self.expected_answer(identifier).kind:
            return
        self.progress_at = self.now
        verdict = answer_of("PUBACK", code).verdict
        self.acknowledged_on_this_link = True
        if kind is AckKind.PUBREC and verdict is None:
            self.broker_takes(identifier, serial)
            track.received = True
            self.releases_owed.add(identifier)
            return
        if kind is not AckKind.PUBACK:
            # MQTT-4.3.3: an identifier is over with after PUBCOMP, and after a PUBREC that says no.
            self.session.pop(identifier, None)
        if kind is AckKind.PUBCOMP or verdict is None:
            track.acknowledged = True
        elif verdict is Verdict.NEVER:
            track.refused_for_good = True
        else:
            track.refusals += 1
        # A PUBREL that hawk still has to send stays owed: the broker was too quick, and gets it all the same.
        del self.under_way[identifier]
        track.identifier, track.received = 0, False

    # --------------------------------------------------------------------------------------- judging

    def judge(self, packet: Outgoing) -> None:
        assert self.connack is not None, "nothing goes out without a link"
        if isinstance(packet, Publish):
            self.judge_publish(packet)
            return
        if isinstance(packet, PingRequest):
            assert self.losses >= 3, "a ping goes before a message that is suspected, and before no other"
            assert not self.acknowledged_on_this_link
            return
        assert isinstance(packet, Acknowledgement)
        assert packet.kind is AckKind.PUBREL
        if packet.reason_code:
            self.strays[packet.identifier] -= 1
            assert self.strays[packet.identifier] >= 0, "a PUBREL with 0x92 answers a PUBREC that was not hawk's"
            return
        assert packet.identifier in self.releases_owed, "a PUBREL follows a PUBREC, once a link"
        if self.durable:
            stages = [record.stage for record in self.disk.records(self.now) if record.identifier == packet.identifier]
            assert stages == [Stage.RELEASED], "that the PUBREC came is on disk before the PUBREL"
        if not self.awaited():
            self.progress_at = self.now
        self.releases_owed.discard(packet.identifier)
        if serial := self.serial_received(packet.identifier):
            self.under_way[packet.identifier] = serial - 1

    def serial_received(self, identifier: int) -> int:
        for serial, track in self.tracks.items():
            if track.received and track.identifier == identifier:
                return serial + 1
        return 0

    def judge_publish(self, packet: Publish) -> None:
        assert self.connack is not None
        serial = serial_of(packet.message)
        track = self.tracks[serial]
        message = track.message
        expiry_s = message.properties.expiry_s
        if expiry_s is None:
            assert packet.message is message
        else:
            left_s = packet.message.properties.expiry_s
            assert left_s is not None
            assert 1 <= left_s <= max(1, math.ceil(expiry_s)), "what is left of its time, and at least a second"
            assert packet.message._replace(properties=message.properties) == message
        assert not track.acknowledged, "what is acknowledged is never sent again"
        assert not track.received, "no QoS 2 PUBLISH after its PUBREC while the session lives"
        assert track.fate is None, "what has met its fate is never sent"
        assert not self.stopped
        assert not forbids(self.connack, message)
        if self.durable and message.qos:
            (record,) = [each for each in self.disk.records(self.now) if serial_of(each.message) == serial]
            if message.qos == 2:
                assert (record.identifier, record.stage) == (packet.identifier, Stage.PUBLISHED), (
                    "known before it is sent"
                )
        if not track.refusals and not (track.recovered and message.qos == 0):
            position = serial + 1 if self.durable else track.position
            assert position > max(self.on_this_link, default=0), "C3: repeats and newcomers in the order of acceptance"
            self.on_this_link.append(position)
            if not track.sent:
                assert position > self.newest_first, "C3: first PUBLISHes in the order of acceptance"
                self.newest_first = position
        track.sent = True
        if not message.qos:
            assert packet.identifier == 0
            assert self.ready
            self.unsent.append(serial)
            return
        self.judge_identifier(packet, track)
        if message.qos == 2:
            assert self.session.get(packet.identifier, serial) == serial, "an identifier that the broker still holds"
            assert packet.identifier not in self.withheld, "an identifier that the broker may hold"
        payloads = sum(len(self.tracks[other].message.payload) for other in self.under_way.values())
        assert len(self.under_way) < self.window, "credit, resends included"
        assert not self.under_way or payloads + len(message.payload) <= MOST_BYTES_IN_FLIGHT
        if not self.awaited():
            self.progress_at = self.now
        self.under_way[packet.identifier] = serial

    def judge_identifier(self, packet: Publish, track: Track) -> None:
        if track.identifier:
            assert packet[1:] == (track.identifier, True), "a repeat in a living session"
            return
        assert not packet.duplicate, "DUP only for a repeat in a session that lives"
        left_over = self.connack is not None and self.connack.session_present and (track.sent or track.recovered)
        assert self.ready or left_over, "the backlog waits for the subscriptions"
        assert 1 <= packet.identifier <= HIGHEST_IDENTIFIER
        taken = [other.identifier for other in self.tracks.values() if other is not track and other.fate is None]
        assert packet.identifier not in taken, "identifiers are unique among the unfinished"
        track.identifier = packet.identifier

    def judge_rest(self) -> None:
        """At rest nothing waits whose time is over, and of the latest only the newest."""
        if self.stopping:
            return
        in_flight = {*self.under_way.values(), *self.unsent}
        waiting = [t for s, t in self.tracks.items() if t.accepted and t.fate is None and s not in in_flight]
        if self.commit is None and self.reading is None:
            for track in waiting:
                expiry_s = track.message.properties.expiry_s
                if expiry_s is not None and not track.received and not track.recovered and not self.pauses:
                    assert self.now < track.accepted_at + expiry_s or track.identifier, "expired, and not swept"

    @property
    def pauses(self) -> bool:
        """Whether the disk fails, so that what it alone has cannot be read."""
        return self.outbox.troubled

    def awaited(self) -> set[int]:
        """The identifiers about which it is the broker's turn to speak."""
        return self.under_way.keys() - self.releases_owed

    def judge_stall(self) -> None:
        due = bool(self.awaited()) and self.now >= self.progress_at + self.config.ack_timeout_s
        assert self.outbox.stalled(self.now) == due
        if due:
            self.progress_at = self.now

    def hear_answers(self) -> None:
        dropped_on_arrival: set[int] = set()
        for reply, message, fate, messages in self.outbox.take_answers():
            assert messages == 1 or fate is None
            track = self.track_of(reply, message)
            assert track.reply is reply or track.recovered
            assert track.message is message or not message.payload or track.recovered
            assert track.fate is None, "one fate, and no word after it"
            if fate is None:
                assert not track.accepted, "accepted once"
                if self.durable and message.qos and not self.on_disk(serial_of(message)):
                    # Only a policy lets a message in and out in one breath.
                    dropped_on_arrival.add(serial_of(message))
                self.accept(track)
                others = list(self.told_with(reply, message))
                assert len(others) >= messages - 1, "a run of one offer is let in, and told so, at once"
                for other in others[: messages - 1]:
                    self.accept(other)
                continue
            if fate.kind in (FateKind.DROPPED, FateKind.EXPIRED, FateKind.SUPERSEDED):
                dropped_on_arrival.discard(serial_of(track.message))
            track.fate = fate.kind
            self.judge_fate(track)
        assert not dropped_on_arrival, "what is not committed is not accepted"
        # Those that spoke since the last answers.
        self.connacks = [] if self.connack is None else [self.connack]

    def told_with(self, reply: ReplyReference, first: Message) -> Iterator[Track]:
        """The later messages of the same offer that may have been accepted with this one: of a disk's, those that it has."""
        for serial in range(serial_of(first) + 1, self.serials):
            track = self.tracks[serial]
            waits = track.reply is reply and not track.accepted and track.fate is None
            if waits and (not self.durable or self.on_disk(serial)):
                yield track

    def track_of(self, reply: ReplyReference, message: Message) -> Track:
        """Of a message that only the disk has no more is known than its topic and QoS, at a stop not even that."""
        if message.payload:
            return self.tracks[serial_of(message)]
        unsent = [
            track
            for _, track in sorted(self.tracks.items())
            if track.accepted and not track.fate and not track.sent and not track.recovered_whole
        ]
        if not message.topic:
            return next(track for track in unsent if track.reply is reply and track.message.qos)
        return next(track for track in unsent if track.message[0:3:2] == message[0:3:2])

    def judge_fate(self, track: Track) -> None:
        message, fate = track.message, track.fate
        if fate in NEVER_ACCEPTED:
            kept = self.stopped and self.durable and track.accepted
            assert not track.accepted or kept, "what was accepted is never turned away"
            assert not track.sent or kept
        elif fate is FateKind.ACKNOWLEDGED:
            assert track.acknowledged
        elif fate is FateKind.SENT:
            assert message.qos == 0
            assert track.written
        elif fate is FateKind.DROPPED:
            assert not track.sent or message.qos == 0, "only what was never sent is dropped"
            assert not track.sent or not track.written
        elif fate is FateKind.UNKNOWN:
            assert track.forgotten
        elif fate is FateKind.ABANDONED:
            assert self.stopped
        elif fate is FateKind.EXPIRED:
            assert message.properties.expiry_s is not None
            assert self.now >= track.offered_at + message.properties.expiry_s, "expired too early"
            assert not track.received, "what the broker has does not expire"
            assert not track.identifier, "nor what was sent, while its session may live"
        elif fate is FateKind.SUPERSEDED:
            assert message.topic.startswith("l/")
            mine = serial_of(message)
            newer = [s for s, other in self.tracks.items() if other.message.topic == message.topic and s > mine]
            assert any(self.tracks[s].accepted or not self.durable or self.on_disk(s) for s in newer)
        else:
            assert fate is FateKind.DEAD_LETTERED
            gave_up = track.refused_for_good or track.refusals > self.config.message_retry_limit
            assert gave_up or self.impossible(message) or track.alone_at_losses >= 3, "dead without a reason"
            if message.qos == 2 and track.identifier:
                self.withheld.add(track.identifier)

    def impossible(self, message: Message) -> bool:
        return any(forbids(connack, message) for connack in self.connacks)

    def accept(self, track: Track) -> None:
        self.positions += 1
        track.accepted, track.position, track.accepted_at = True, self.positions, self.now

    def of(self, reply: ReplyReference) -> list[Track]:
        return [track for track in self.tracks.values() if track.reply is reply]

    def in_line(self) -> list[Track]:
        unheard = [track for track in self.tracks.values() if not track.accepted and track.fate is None]
        return [track for track in unheard if not track.withdrawn]

    # ------------------------------------------------------------------------------------ invariants

    @invariant()
    def the_books_balance(self) -> None:
        ledger = self.outbox.ledger()
        assert ledger.balance == 0, "C4"
        columns = (ledger.queued, ledger.in_flight, ledger.accepted, ledger.waited, *self.ended().values())
        assert min(columns) >= 0
        if not self.durable:
            assert ledger.in_flight == len(self.under_way) + len(self.unsent) or self.releases_owed
            assert ledger.waited <= ledger.accepted
        assert ledger.taken == self.offered
        assert ledger.taken_bytes == self.offered_bytes

    @invariant()
    def room_is_never_lent_twice(self) -> None:
        waiting = [t.message for t in self.tracks.values() if t.accepted and not t.sent and t.fate is None]
        room, ledger = self.outbox.room(), self.outbox.ledger()
        assert 0 <= room.messages - ledger.taken <= max(0, 6 - len(waiting))
        free_bytes = self.config.message_queue_bytes - sum(message.size_bytes for message in waiting)
        assert 0 <= room.size_bytes - ledger.taken_bytes <= max(0, free_bytes)

    def ended(self) -> dict[str, int]:
        ledger = self.outbox.ledger()
        kinds = [kind for kind in FateKind if kind not in NEVER_ACCEPTED]
        return {kind.value: getattr(ledger, kind.value) for kind in kinds}

    # ------------------------------------------------------------------------------------- the end

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        if self.stops_at_the_end:
            self.stop()
        else:
            self.heal()
        self.hear_answers()
        self.the_books_balance()
        told = Counter(
            track.fate.value for track in self.tracks.values() if track.fate and track.fate not in NEVER_ACCEPTED
        )
        assert {kind: count for kind, count in self.ended().items() if count} == told, "counted as told"

    def stop(self) -> None:
        self.outbox.begin_stop()
        self.hear_answers()
        self.stopped = True
        report = self.outbox.end_stop()
        self.under_way.clear()
        self.unsent.clear()
        self.hear_answers()
        for track in self.tracks.values():
            if track.recovered and not track.fate:
                track.fate = FateKind.STOPPED  # nobody listens, and it is on disk
        assert all(track.fate for track in self.tracks.values() if track.accepted)
        assert not self.outbox.take_packets(self.now + 100)
        kept = [track for track in self.tracks.values() if track.fate is FateKind.STOPPED and track.accepted]
        assert report.kept == len(kept) == self.outbox.ledger().queued
        assert report.abandoned == self.ended()["abandoned"]
        for _ in range(3):
            if self.commit is not None:
                self.commit_succeeds()
            self.now += 100
            self.commit = self.outbox.take_commit(self.now)
        left = {serial_of(record.message) for record in self.disk.records(self.now)}
        assert left == {serial_of(track.message) for track in kept}
        if self.durable:
            assert set(self.disk.withheld) == self.withheld

    def heal(self) -> None:
        """A good link in a living session, a good disk, an honest broker: everything accepted ends in a fate."""
        if self.connack is not None:
            self.link_dies(broker_got=True, by_the_broker=False, answered=True)
        self.open(Connack(session_present=self.had_session))
        self.subscriptions_are_in()
        for _ in range(300):
            self.act()
            if self.commit is not None:
                self.commit_succeeds()
            if self.reading is not None:
                self.page_is_read()
            self.settle([self.expected_answer(identifier) for identifier in self.under_way], len(self.unsent))
            ledger = self.outbox.ledger()
            if (
                not (ledger.queued or ledger.in_flight or self.commit or self.reading or self.in_line())
                and self.outbox.deadline() == math.inf
            ):
                break
            self.now += 9.0
        missing = [
            track for track in self.tracks.values() if not track.fate and (track.accepted or not track.withdrawn)
        ]
        assert not missing, "nothing accepted vanishes"
        assert self.outbox.drained
        self.link_dies(broker_got=True, by_the_broker=False, answered=True)
        self.now += 100.0  # after a commit that failed what no sender waits for takes its turn
        self.open(Connack())
        self.act()
        while self.commit is not None:
            self.commit_succeeds()
            self.act()
        assert not self.disk.records(self.now), "the disk forgets all of it"
        assert not self.disk.withheld


def forbids(connack: Connack, message: Message) -> bool:
    too_large = publish_size_bytes(message) > (connack.maximum_packet_size or math.inf)
    return too_large or message.qos > connack.maximum_qos or (message.retain and not connack.retain_available)


def serial_of(message: Message) -> int:
    return int(message.payload[:8].partition(b":")[0])


OutboxMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestOutboxMachine = OutboxMachine.TestCase
