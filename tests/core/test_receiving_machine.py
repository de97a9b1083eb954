"""Receiving against a model broker that keeps a session, an inbox that is slow, fails and outlives crashes, and an
application that comes, handles, fails, rejects and goes: acknowledged implies handled, in order, nothing lost, QoS 2 once.
"""

import math
import sys
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hawk.config import Config
from hawk.core.holders import Decisions, fingerprint_of
from hawk.core.subscriptions import Subscriptions
from hawk.core.topics import matches
from hawk.messages import InboxCommit, InboxRecord, InboxRecovered, Subscribe, Transmit
from hawk.packets import (
    AckKind,
    Acknowledgement,
    Connack,
    Delivery,
    Inbound,
    SubscribeFilter,
    SubscribeOutcome,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hawk.values import Message

RECEIVE_MAXIMUM = 6
# What much must have come together for, comes often: messages that somebody waits for, of a session that lives on.
FILTERS = st.sampled_from(["a", "a", "a", "#", "+", "a/#", "b"])
TOPICS = st.sampled_from(["a", "a", "a", "b", "a/c", "$x"])
MOSTLY = st.sampled_from([True, True, True, False])
IDENTIFIERS = st.integers(0, 2 * RECEIVE_MAXIMUM - 1)
SELDOM = st.sampled_from([False, False, False, True])
CONFIG = Config(receive_maximum=RECEIVE_MAXIMUM)


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


@dataclass
class Sent:
    """What the model broker has sent and not seen the end of."""

    text: bytes
    topic: str
    qos: int
    named: tuple[int, ...]
    identifier: int
    sent_before: bool = False
    received: bool = False

    @property
    def message(self) -> Message:
        return Message(self.topic, self.text, self.qos)


@dataclass
class Life:
    """What the model knows of one message since the broker first sent it."""

    qos: int
    keys: set[str] = field(default_factory=set)
    held: int = 0
    """By how many readers now."""
    returns: int = 0
    given: int = 0
    done: bool = False
    """Some reader handled it."""
    rejected: bool = False
    run: int = 0
    """The last process that it was sent to."""
    unwanted: bool = False
    """A filter of its topic was being left when that process first saw it."""
    waits_since: float = math.inf
    waited: bool = False
    """Long enough for somebody to take it."""
    crashed: bool = False
    acknowledged: bool = False


@dataclass
class Reader:
    """One subscription of the application: what it holds by delivery, and which texts it was given."""

    filter: str
    channel: FakeChannel
    holds: dict[int, bytes] = field(default_factory=dict)
    had: list[bytes] = field(default_factory=list)
    returned: set[bytes] = field(default_factory=set)


class Disk:
    """An inbox store: what was committed outlives a crash."""

    def __init__(self) -> None:
        self.records: dict[int, InboxRecord] = {}
        self.void: set[str] = set()
        """Keys of earlier sessions. They stay if a process dies before it has kept that the session is a new one."""
        self.filters: dict[str, None] = {}
        self.asked: InboxCommit | None = None

    def apply(self) -> None:
        changes, self.asked = self.asked, None
        assert changes is not None
        if changes.forget:
            self.records.clear()
        for identifier in changes.delete:
            self.records.pop(identifier, None)
        self.records |= {record.identifier: record for record in changes.insert}
        self.void &= {record.key for record in self.records.values()}
        for text in changes.leave:
            self.filters.pop(text, None)
        self.filters |= dict.fromkeys(changes.join)

    @property
    def recovered(self) -> InboxRecovered:
        return InboxRecovered(tuple(self.records.values()), tuple(self.filters))


class Receiving(RuleBasedStateMachine):
    """See the module."""

    @initialize(names=st.booleans(), one_copy=st.booleans(), prompt=SELDOM, first=FILTERS)
    def start(self, names: bool, one_copy: bool, prompt: bool, first: str) -> None:
        self.names, self.one_copy, self.prompt, self.first = names, one_copy, prompt, first
        self.disk = Disk()
        self.now = 0.0
        self.runs = 0
        self.lane: FakeLane | None = None
        self.session: dict[int, Sent] = {}
        self.granted: dict[str, int] = {}
        self.texts = 0
        self.lives: dict[bytes, Life] = {}
        self.text_of: dict[str, bytes] = {}
        self.numbers = 0
        self.lanes: list[FakeLane] = []
        self.begin()
        self.link_up(session_present=False)

    def begin(self) -> None:
        """A process."""
        self.runs += 1
        self.core = Subscriptions(CONFIG, recovered=self.disk.recovered, run=f"run{self.runs}")
        self.disk.asked = None
        self.readers: dict[int, Reader] = {}
        self.lines: dict[int, list[int]] = {1: [], 2: []}
        self.asked: list[SubscribeRequest | UnsubscribeRequest] = []
        self.known: set[int] = set()
        self.readies: dict[int, int] = {}
        self.lane = None
        self.opened_at = self.now
        self.warned, self.most = False, 0
        self.subscribe(self.first, 2)

    # ------------------------------------------------------------------------------------ what it decides

    def act(self) -> Decisions:
        self.core.tick(self.now)
        decisions = self.core.take()
        for run in decisions.runs:
            reader = next(one for one in self.readers.values() if one.channel is run.channel)
            for delivered in run.delivered:
                text = delivered.message.payload
                life = self.lives[text]
                assert matches(reader.filter, delivered.message.topic)
                again = text in reader.had
                assert not again or text in reader.returned or not life.qos, "each matching one once, until it fails"
                assert self.text_of.setdefault(delivered.key, text) == text, "one delivery for one key"
                if life.qos == 2:
                    assert not life.acknowledged, "QoS 2 is not given once it was acknowledged"
                    assert not life.keys or delivered.key in life.keys, "one key for one delivery"
                assert delivered.redelivered or not (again or life.crashed)
                life.keys.add(delivered.key)
                life.held += delivered.delivery not in reader.holds
                life.given += 1
                if not again:
                    # Who gets once more what is parked for somebody else does not take it from there.
                    life.waits_since = math.inf
                reader.had.append(text)
                reader.holds[delivered.delivery] = text
        assert decisions.lane is self.lane
        if decisions.abandoned:
            for life in self.lives.values():
                life.waited |= self.now >= life.waits_since + CONFIG.return_grace_s
        if decisions.receive_maximum_exceeded:
            assert self.most > RECEIVE_MAXIMUM, "who keeps to it is not accused"
            assert not self.warned, "one warning for each link"
            self.warned = True
        for packet in decisions.packets:
            self.hear(packet)
        if decisions.ready is not None:
            assert decisions.ready is self.lane
            self.readies[id(decisions.ready)] = self.readies.get(id(decisions.ready), 0) + 1
        if decisions.commit is not None:
            assert self.disk.asked is None, "one commit at a time"
            self.disk.asked = decisions.commit
            if self.prompt:
                self.commit()
        return decisions

    def hear(self, packet: object) -> None:
        match packet:
            case SubscribeRequest() | UnsubscribeRequest():
                self.asked.append(packet)
                if isinstance(packet, SubscribeRequest):
                    self.known.add(packet.subscription_identifier)
            case Acknowledgement(AckKind.PUBCOMP, identifier, code):
                assert code == 0 or identifier not in self.disk.records
                assert identifier not in self.disk.records, "forgotten before the identifier is free"
                del self.session[identifier]
            case Acknowledgement(kind, identifier, code):
                sent = self.session[identifier]
                assert kind is (AckKind.PUBREC if sent.qos == 2 else AckKind.PUBACK)
                assert self.lines[sent.qos].pop(0) == identifier, "acknowledgements keep the order of arrival"
                self.check_end(sent, code)
                if sent.qos == 2 and not code:
                    assert self.disk.records[identifier].handled, "kept before it is acknowledged"
                    sent.received = True
                    self.lives[sent.text].acknowledged = True
                else:
                    del self.session[identifier]
            case _:
                raise AssertionError(packet)

    def check_end(self, sent: Sent, code: int) -> None:
        life = self.lives[sent.text]
        assert not life.held, "acknowledged implies handled"
        if code:
            assert life.rejected or life.returns >= CONFIG.max_deliveries or life.waited
        else:
            assert not life.rejected
            assert life.done or (life.unwanted and not life.given)

    # ------------------------------------------------------------------------------------------- the inbox

    def commit(self) -> None:
        self.disk.apply()
        self.core.committed(self.now)
        self.act()

    @precondition(lambda self: self.disk.asked is not None)
    @rule()
    def the_inbox_keeps(self) -> None:
        self.commit()

    @precondition(lambda self: self.disk.asked is not None)
    @rule()
    def the_inbox_fails(self) -> None:
        self.disk.asked = None
        self.core.commit_failed(self.now)
        self.act()

    def crash(self) -> None:
        """SIGKILL: what was committed is there, nobody holds anything any more."""
        for reader in self.readers.values():
            for text in reader.holds.values():
                self.lives[text].crashed |= self.lives[text].qos == 2
        for life in self.lives.values():
            # What only memory knew begins anew: at QoS 1 all of it, at QoS 2 what was not kept, handled or not.
            life.held, life.returns, life.given, life.rejected, life.waited = 0, 0, 0, False, False
            life.waits_since = math.inf
        for sent in self.session.values():
            life = self.lives[sent.text]
            record = self.disk.records.get(sent.identifier)
            if record is None or record.fingerprint != fingerprint_of(sent.message):
                life.crashed = life.done = False
                life.keys.clear()
            else:
                life.done = record.handled
        self.begin()

    # ------------------------------------------------------------------------------------- the application

    @precondition(lambda self: len(self.readers) < 4)
    @rule(text=FILTERS, qos=st.integers(0, 2))
    def subscribe(self, text: str, qos: int) -> None:
        self.numbers += 1
        reader = self.readers[self.numbers] = Reader(text, FakeChannel())
        self.core.subscribe(Subscribe(self.numbers, SubscribeFilter(text, qos), reader.channel, FakeChannel()))
        self.act()

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.readers)))
        reader = self.readers.pop(number)
        unseen = data.draw(st.lists(st.sampled_from(sorted(reader.holds)), unique=True)) if reader.holds else []
        for delivery, text in reader.holds.items():
            life = self.lives[text]
            life.held -= 1
            if delivery not in unseen:
                life.returns += 1
            life.waits_since = min(life.waits_since, self.now)
        self.core.unsubscribe(number, self.now, unseen)
        assert reader.channel in self.act().ended

    def pick(self, data: st.DataObject) -> tuple[int, Reader, list[int]]:
        number = data.draw(st.sampled_from([n for n, reader in self.readers.items() if reader.holds]))
        reader = self.readers[number]
        return number, reader, data.draw(st.lists(st.sampled_from(sorted(reader.holds)), min_size=1, unique=True))

    @precondition(lambda self: any(reader.holds for reader in self.readers.values()))
    @rule(data=st.data())
    def handle_some(self, data: st.DataObject) -> None:
        self.handle(*self.pick(data))

    @precondition(lambda self: any(reader.holds for reader in self.readers.values()))
    @rule()
    def handle_all(self) -> None:
        for number, reader in self.readers.items():
            self.handle(number, reader, [*reader.holds])

    def handle(self, number: int, reader: Reader, done: list[int]) -> None:
        for delivery in done:
            life = self.lives[reader.holds.pop(delivery)]
            life.held, life.done = life.held - 1, True
        self.core.handled(number, done)
        self.act()

    @precondition(lambda self: any(reader.holds for reader in self.readers.values()))
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        number, reader, done = self.pick(data)
        life = self.lives[reader.holds.pop(done[0])]
        life.held, life.rejected = life.held - 1, True
        self.core.reject(number, done[0], "why")
        self.act()

    @precondition(lambda self: any(reader.holds for reader in self.readers.values()))
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        number, reader, failed = self.pick(data)
        for delivery in failed:
            text = reader.holds.pop(delivery)
            life = self.lives[text]
            life.held, life.returns = life.held - 1, life.returns + 1
            reader.returned.add(text)
        self.core.give_back(number, failed, self.now)
        self.act()

    # ------------------------------------------------------------------------------------------- the broker

    @rule(session_present=MOSTLY)
    def link_up(self, session_present: bool) -> None:
        self.drop_link()
        session_present = session_present and bool(self.lanes)
        if not session_present:
            asked = self.disk.asked.insert if self.disk.asked is not None else ()
            self.disk.void |= {record.key for record in (*self.disk.records.values(), *asked)}
            self.session.clear()
            self.granted.clear()
        self.lane = FakeLane()
        self.lanes.append(self.lane)
        self.opened_at = self.now
        self.warned, self.most = False, len(self.session)
        connack = Connack(session_present=session_present, subscription_identifier_available=self.names)
        self.core.open_lane(self.lane, connack, self.now)
        self.act()
        for sent in tuple(self.session.values()):
            if sent.received:
                self.arrive(Acknowledgement(AckKind.PUBREL, sent.identifier))
            else:
                self.send(sent)
        for qos in range(3):
            self.an_old_lane_speaks(qos)

    def an_old_lane_speaks(self, qos: int) -> None:
        before = self.core.counters
        for lane in self.lanes[-2:-1]:
            stray = Delivery(Message("a", b"", qos), 1 if qos else 0)
            self.core.incoming(lane, (stray, Acknowledgement(AckKind.PUBREL, 1)), self.now)
            self.core.link_down(lane)
        self.act()
        assert self.core.counters == before

    def drop_link(self) -> None:
        if self.lane is not None:
            self.core.link_down(self.lane)
            self.lane = None
            self.lines = {1: [], 2: []}
            self.asked.clear()
            self.act()

    @precondition(lambda self: self.session)
    @rule(crashes=SELDOM)
    def link_down(self, crashes: bool) -> None:
        if crashes:
            self.crash()
        else:
            self.drop_link()

    @precondition(lambda self: self.asked)
    @rule(refuse=SELDOM)
    def suback(self, refuse: bool) -> None:
        request = self.asked.pop(0)
        refuse = refuse and isinstance(request, SubscribeRequest)
        code = 0x87 if refuse else 0
        for each in request.filters:
            if isinstance(request, UnsubscribeRequest):
                self.granted.pop(str(each), None)
            elif isinstance(each, SubscribeFilter) and not refuse:
                self.granted[each.filter] = request.subscription_identifier
        self.answer(request, code)

    def answer(self, request: SubscribeRequest | UnsubscribeRequest, code: int) -> None:
        leaving = isinstance(request, UnsubscribeRequest)
        self.arrive(SubscribeOutcome(request.identifier, (code,) * len(request.filters), leaving))

    @precondition(lambda self: self.lane is not None)
    @rule(topic=TOPICS, identifier=IDENTIFIERS, obedient=MOSTLY)
    def publish_at_qos_2(self, topic: str, identifier: int, obedient: bool) -> None:
        self.publish(topic, 2, identifier, obedient)

    @precondition(lambda self: self.lane is not None)
    @rule(topic=TOPICS, qos=st.integers(0, 1), identifier=IDENTIFIERS, obedient=MOSTLY)
    def publish(self, topic: str, qos: int, identifier: int, obedient: bool) -> None:
        """One message, as one copy or as a copy for each subscription that the broker knows."""
        identifiers = [1 + (identifier + step) % (2 * RECEIVE_MAXIMUM) for step in range(3)]
        named = tuple(name for text, name in self.granted.items() if name and matches(text, topic))
        copies = [named] if self.one_copy or not named else [(name,) for name in named]
        for identifier, names in zip(identifiers, copies, strict=False):
            if qos and (identifier in self.session or (obedient and len(self.session) >= RECEIVE_MAXIMUM)):
                continue
            self.texts += 1
            sent = Sent(b"%d" % self.texts, topic, qos, names, identifier if qos else 0)
            self.lives[sent.text] = Life(qos)
            if qos:
                self.session[identifier] = sent
                self.most = max(self.most, len(self.session))
            owed = sum(map(len, self.lines.values()))
            self.send(sent)
            assert self.warned or not qos or owed < RECEIVE_MAXIMUM
            if self.prompt:
                self.check_given(sent)

    def check_given(self, sent: Sent) -> None:
        """Each copy reaches each holder of the filters that it names; without names, of all that match."""
        filters = [text for text, name in self.granted.items() if name in sent.named]
        for reader in self.readers.values():
            # A name that an earlier process gave says nothing to this one.
            meant = not set(sent.named) <= self.known or not sent.named or reader.filter in filters
            assert reader.had.count(sent.text) == (meant and matches(reader.filter, sent.topic))

    def send(self, sent: Sent) -> None:
        life = self.lives[sent.text]
        if sent.qos:
            self.lines[sent.qos].append(sent.identifier)
            if life.run != self.runs:
                leaving = [text for one in self.asked if isinstance(one, UnsubscribeRequest) for text in one.filters]
                life.run, life.waits_since = self.runs, self.now
                life.unwanted = any(matches(text, sent.topic) for text in leaving)
        again, sent.sent_before = sent.sent_before, True
        self.arrive(Delivery(sent.message, sent.identifier, again and sent.qos > 0, sent.named))

    @precondition(lambda self: self.lane is not None and any(sent.received for sent in self.session.values()))
    @rule(data=st.data())
    def pubrel(self, data: st.DataObject) -> None:
        identifier = data.draw(st.sampled_from([i for i, sent in self.session.items() if sent.received]))
        self.arrive(Acknowledgement(AckKind.PUBREL, identifier))

    @precondition(lambda self: self.core.deadline < math.inf or self.disk.asked is not None)
    @rule(seconds=st.sampled_from([0.1, 5.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        """No disk needs that long, unless it fails."""
        self.now += seconds
        self.act()
        if self.disk.asked is not None:
            self.commit()

    def arrive(self, *packets: Inbound) -> None:
        assert self.lane is not None
        self.core.incoming(self.lane, packets, self.now)
        self.act()

    # ------------------------------------------------------------------------------------------- always true

    @invariant()
    def ready_is_said_exactly_once_for_each_lane(self) -> None:
        assert all(count == 1 for count in self.readies.values())
        overdue = self.now >= self.opened_at + CONFIG.suback_timeout_s
        if self.lane is not None and (overdue or not self.readers):
            assert self.readies.get(id(self.lane)) == 1

    @invariant()
    def everything_that_came_is_in_one_column(self) -> None:
        counters = self.core.counters
        ended = counters.handled + counters.rejected + counters.abandoned + counters.dropped
        assert counters.received == ended + counters.unhandled
        assert counters.unhandled >= len({one for reader in self.readers.values() for one in reader.holds})

    def teardown(self) -> None:
        """Once the network holds, the disk keeps, and the application handles what it is given, everything ends."""
        if not hasattr(self, "core") or sys.exc_info()[0] is not None:
            # What a rule has found stands alone.
            return
        self.prompt = True
        if self.disk.asked is not None:
            self.commit()
        self.link_up(session_present=True)
        for _ in range(4):
            self.handle_all()
            while self.asked:
                self.grant()
            self.time_passes(61.0)
            for identifier in [i for i, sent in self.session.items() if sent.received]:
                self.arrive(Acknowledgement(AckKind.PUBREL, identifier))
        assert self.session == {}
        assert {record.key for record in self.disk.records.values()} <= self.disk.void
        assert self.core.counters.unhandled == 0
        assert self.core.deadline == math.inf

    def grant(self) -> None:
        request = self.asked.pop(0)
        self.answer(request, 1)


TestReceiving = Receiving.TestCase
TestReceiving.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
