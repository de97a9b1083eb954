"""The vocabulary: every message that one actor sends another, grouped by the inbox it goes to.

All are frozen. Requests are imperative (`Dial`, `Hangup`), facts are past or state (`Settled`, `LinkUp`).
Durations end in `_s`, instants in `_at` (hawk's own time, `anyio.current_time()`), sizes in `_bytes`.
A message about a network connection carries that connection's `Lane`; a receiver compares it by identity with its
present lane and drops what is not about it.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from hawk.connecting import Endpoint
from hawk.packets import Acknowledgement, Connack, ConnectRequest, Inbound, Outgoing, SubscribeFilter
from hawk.values import Cause, ConnectionState, Fate, Ledger, Message, Stage, Verdict

T_contra = TypeVar("T_contra", contravariant=True)

# ------------------------------------------------------------------------------------------ a lane


class Transmit(NamedTuple):
    """Packets for the wire, in this order. The one message of a lane.

    `opening`: the Queue keeper's first on this lane, sent even when it holds nothing: what of a living session is resumed
    goes before everything else (MQTT 5 section 4.4), so the writer holds the others back until it has come.
    """

    packets: tuple[Outgoing, ...]
    opening: bool = False


class Lane(Protocol):
    """The outgoing channel of one network connection, and that connection's identity. It breaks when the link dies."""

    @property
    def number(self) -> int:
        """Counts the links of one hawk from 1; for people to read, never for comparing."""

    def send_nowait(self, transmit: Transmit, /) -> None:
        """Hand packets to the writer. Raises `anyio.BrokenResourceError` when the link is gone."""


# ---------------------------------------------------------------------------------- to the Connector


class ConnectionReport(NamedTuple):
    """The Connector's cumulative state. `revision` orders two reports of one Connector."""

    revision: int = 0
    state: ConnectionState = ConnectionState.DISCONNECTED
    total_connections: int = 0
    total_disconnections: int = 0
    total_reconnections: int = 0
    consecutive_failures: int = 0
    last_connection_attempt: float | None = None


class Opened(NamedTuple):
    """The answer to `Open`: the report of the moment, and why it FAILED if it did."""

    report: ConnectionReport
    cause: Cause | None = None


class Channel(Protocol[T_contra]):
    """The sending end of a memory channel, as a message carries it: for an answer, or for a stream of them."""

    def send_nowait(self, item: T_contra, /) -> None:
        """Hand over `item` now. Raises `anyio.WouldBlock` when full, `anyio.BrokenResourceError` when nobody reads."""

    def close(self) -> None:
        """Say that nothing more will come."""


class Open(NamedTuple):
    """From an application, or from the Queue keeper that drains: be connected. Cuts a waiting delay short."""

    answer: Channel[Opened] | None = None


class Close(NamedTuple):
    """From wiring, when the keepers have drained: say DISCONNECT, close, be DISCONNECTED.

    `forget_session` asks the broker to end the session with the link (session expiry 0).
    """

    forget_session: bool
    answer: Channel[ConnectionReport]


class Dial(NamedTuple):
    """From the Backoff scheduler: now is the time for one attempt. `request` is the number of the `Reset` that it answers."""

    request: int


class GaveUp(NamedTuple):
    """From the Backoff scheduler: no further attempt will be allowed before another `Reset` than that of this number."""

    request: int
    cause: Cause


class Ping(NamedTuple):
    """From the Health probe: put a PINGREQ on this lane."""

    lane: Lane


class Hangup(NamedTuple):
    """From the Health probe: this link is dead. From the Connector's own watch, `politely`: it ends for a better one."""

    lane: Lane
    why: str
    politely: bool = False


class Dialed(NamedTuple):
    """From the Connector's own dial: a link is up; `link` is a `ports.Link`, with its `connack`.

    `first` is the endpoint that would have been preferred, None when this is that one. `birth` was asked for this link.
    """

    attempt: int
    link: object
    request: ConnectRequest
    first: Endpoint | None = None
    birth: Message | None = None


class DialFailed(NamedTuple):
    """From the Connector's own dial: this attempt, at `endpoint` if it came so far, ended without a link."""

    attempt: int
    cause: Cause
    endpoint: Endpoint | None = None


class Lost(NamedTuple):
    """From a link's own tasks, when all of them have ended."""

    lane: Lane
    cause: Cause


ToConnector = Open | Close | Dial | GaveUp | Ping | Hangup | Dialed | DialFailed | Lost

# ------------------------------------------------------------------------- to the Backoff scheduler


class Reset(NamedTuple):
    """From the Connector: dial at once. `afresh` also forgets the pace (after DISCONNECTED or FAILED).

    `request` counts the Connector's requests, and stands in every answer until the next one.
    """

    request: int
    afresh: bool


class StandDown(NamedTuple):
    """From the Connector: no dial is wanted any more."""


class AttemptFailed(NamedTuple):
    """From the Connector: a dial ended without CONNECTED. `failures` counts those in a row, this one included."""

    cause: Cause
    verdict: Verdict
    failures: int


class LinkUp(NamedTuple):
    """From the Connector: CONNECTED, on this lane; `keep_alive_s` is the one in force (Server Keep Alive obeyed)."""

    lane: Lane
    keep_alive_s: float


class LinkDown(NamedTuple):
    """From the Connector: that link has ended. `proven`: an acknowledgement or a PINGRESP had come over it."""

    lane: Lane
    cause: Cause
    verdict: Verdict
    proven: bool


ToBackoff = Reset | StandDown | AttemptFailed | LinkUp | LinkDown

# ------------------------------------------------------------------------------ to the Health probe


class Traffic(NamedTuple):
    """From the Connector, at most four times in a keep alive: when this link last heard and wrote.

    `write_since` is when the write now under way began, or got further as far as a report knew; None when none is.
    """

    lane: Lane
    heard_at: float
    wrote_at: float
    write_since: float | None


class Stalled(NamedTuple):
    """From the Queue keeper: nothing was acknowledged on this lane for `ack_timeout_s` although something is in flight.

    Said again each time that it is so for as long once more: what is still being written cannot be acknowledged.
    """

    lane: Lane


ToHealthProbe = LinkUp | LinkDown | Traffic | Stalled

# ------------------------------------------------------------------------------- to the store task


class Record(NamedTuple):
    """One accepted message as a store keeps it. `number` is hawk's own and grows with the order of acceptance.

    `identifier`: its packet identifier in the stored session, 0 for none; unique among what is kept. `refusals`: how often
    the broker refused it for now. `remaining_s`: what is left of its expiry at the moment it is written, or read; None
    for one that never expires. `latest`: the topic filter of the rule by which a newer message on its topic replaces it,
    "" for none.
    """

    number: int
    message: Message
    identifier: int = 0
    stage: Stage = Stage.QUEUED
    refusals: int = 0
    remaining_s: float | None = None
    latest: str = ""


class Progress(NamedTuple):
    """A change of a kept record; of one that is not kept any more it changes nothing."""

    number: int
    identifier: int
    stage: Stage
    refusals: int


class DeadLetter(NamedTuple):
    """A record moves to the dead letters, with the reason for people, MQTT's reason code, and how often it was sent."""

    number: int
    reason: str
    reason_code: int
    attempts: int


class Withheld(NamedTuple):
    """A packet identifier under which the broker's session may hold the QoS 2 message of that number, which is not kept.

    It may be received and not released: no other message is sent under it before that session ends (MQTT-4.3.3). The
    message is a dead letter, or was damaged or deleted; a negative number is that of a birth message, which no store keeps.
    """

    identifier: int
    number: int


class Identity(NamedTuple):
    """Who this hawk is for the broker. `session`: the broker may hold a session that was begun by us.

    `endpoint`: the URL of the broker that does, "" if nobody knows. `shared`: nothing has shown yet that the endpoints do
    not share their sessions.
    """

    client_identifier: str
    session: bool
    endpoint: str = ""
    shared: bool = True


class Commit(NamedTuple):
    """From the Queue keeper, at most one at a time: one transaction, applied in the order insert, progress, dead, delete,
    withheld, released.

    A number in `delete` that is not kept is no mistake, nor is an identifier in `released` that is not withheld: those are
    withheld no more. An identifier in `progress` or `insert` is one that no kept record has before the commit, so the order
    of the rows does not matter, and one that is not withheld.
    """

    insert: tuple[Record, ...] = ()
    delete: tuple[int, ...] = ()
    progress: tuple[Progress, ...] = ()
    dead: tuple[DeadLetter, ...] = ()
    identity: Identity | None = None
    withheld: tuple[Withheld, ...] = ()
    released: tuple[int, ...] = ()


class ReadPage(NamedTuple):
    """From the Queue keeper, at most one at a time: read what waits behind that number, oldest first.

    At least one record if there is any, then as many as both bounds allow. `expired`: only those whose time is over.
    """

    after: int
    most_messages: int
    most_bytes: int
    expired: bool = False


ToStoreTask = Commit | ReadPage


class LatestRecord(NamedTuple):
    """What is known of a waiting record that a newer message on its topic would replace."""

    topic: str
    number: int
    size_bytes: int
    qos: int


class Recovered(NamedTuple):
    """What a store holds when it is opened.

    `under_way`: every record up to the last one that has an identifier, oldest first, those without one included.
    `queued`, `queued_bytes`: how many records are behind those, and their sizes (`Message.size_bytes`) together; `latest`:
    those of them that a newer message would replace, and `next_expiry_s`: in how many seconds the first of them expires.
    `last_number`: the highest number ever given. `damaged`: records found unreadable and set aside by this opening; they
    are in no other count. `dead`: dead letters kept. `copied`: the file comes from another machine. `withheld`: by
    identifier.
    """

    identity: Identity | None = None
    under_way: tuple[Record, ...] = ()
    queued: int = 0
    queued_bytes: int = 0
    last_number: int = 0
    damaged: int = 0
    dead: int = 0
    latest: tuple[LatestRecord, ...] = ()
    next_expiry_s: float | None = None
    copied: bool = False
    withheld: tuple[Withheld, ...] = ()


# ------------------------------------------------------------------------------ to the Queue keeper


class Reply(Protocol):
    """The one-shot slot through which the Queue keeper tells a sender what became of its messages.

    Every call carries the ledger that it produced, so that a sender who reads `stats` next reads its own write.
    """

    def accept(self, ledger: Ledger, messages: int = 1) -> None:
        """So many messages of the offer are accepted."""

    def settle(self, fate: Fate, ledger: Ledger, messages: int = 1) -> None:
        """So many messages of the offer have met this fate."""


ReplyReference = Callable[[], Reply | None]
"""A weak reference: a sender that no longer cares costs no memory."""


class Offer(NamedTuple):
    """What an application wants accepted: messages in this order, of `size_bytes` together, all with the same properties.

    `asks` False: they were offered within the room that the keeper had lent, and without a file count as accepted.
    `asks` True: there was no room; the keeper decides by the overflow policy, or lets them wait.
    `refuse_if_full`: never wait (`publish_nowait`).
    """

    messages: tuple[Message, ...]
    reply: ReplyReference
    size_bytes: int
    asks: bool = False
    refuse_if_full: bool = False


class Offers:
    """From an application: offers in their order. It grows until the keeper takes it, so that many share one hop.

    `add` puts one more behind the others; only while it is not `taken`.
    """

    __slots__ = ("_offers", "add", "taken")

    def __init__(self, *offers: Offer) -> None:
        self._offers = list(offers)
        self.add = self._offers.append
        self.taken = False

    def take(self) -> list[Offer]:
        """All of them; from now on it grows no more, and keeps none of them alive."""
        offers, self._offers = self._offers, []
        self.add = self._offers.append
        self.taken = True
        return offers


class Withdraw(NamedTuple):
    """From an application: a `publish()` was cancelled while it waited for room; what is not yet admitted is not wanted."""

    reply: ReplyReference


class LaneOpened(NamedTuple):
    """From the Connector: a new link is up, and this is its lane. `birth` is to go out before the backlog.

    `endpoint` and `shared`: what the store is to know of the session, as `Identity` has it.
    """

    lane: Lane
    connack: Connack
    birth: Message | None = None
    endpoint: str = ""
    shared: bool = True


class Settled(NamedTuple):
    """From a link's tasks: what arrived about messages under way, and how many QoS 0 messages the socket took.

    `acknowledged` are the identifiers of the PUBACKs that came first and say success, `acknowledgements` all the others.
    """

    lane: Lane
    acknowledgements: tuple[Acknowledgement, ...] = ()
    sent: int = 0
    acknowledged: tuple[int, ...] = ()


class Ready(NamedTuple):
    """From the Subscription keeper: this lane's SUBACKs are in, or overdue; the backlog may flow."""

    lane: Lane


class Committed(NamedTuple):
    """From the store task: the commit that was asked for is done."""


class CommitFailed(NamedTuple):
    """From the store task: the commit that was asked for is not done; nothing of it may be relied on."""

    why: str


class Page(NamedTuple):
    """From the store task: what `ReadPage` asked for.

    `damaged`: numbers found unreadable on the way and set aside. `end`: nothing that was asked for lies behind the last of
    these. `next_expiry_s`: in how many seconds the first record behind `after` expires that is not in `records`; None for
    never.
    """

    records: tuple[Record, ...]
    end: bool
    damaged: tuple[int, ...] = ()
    next_expiry_s: float | None = None


class PageFailed(NamedTuple):
    """From the store task: the page that was asked for could not be read."""

    why: str


class Stop(NamedTuple):
    """From wiring: admit nothing more, drain for at most `drain_s`, then answer."""

    drain_s: float
    answer: Channel["StopReport"]


class WatchFates(NamedTuple):
    """From an application: somebody reads `events()` now, or nobody does any more."""

    watched: bool


ToQueueKeeper = (
    Offers
    | Withdraw
    | LaneOpened
    | LinkDown
    | Settled
    | Ready
    | Committed
    | CommitFailed
    | Page
    | PageFailed
    | Stop
    | WatchFates
)


class Room(NamedTuple):
    """From the Queue keeper to the application: offers may go out without asking up to these totals since the start."""

    messages: int
    size_bytes: int


class StopReport(NamedTuple):
    """What a stop came to, counted from the moment it was asked for.

    `lingering` names the outbox's thread, if it has not ended because the disk does not answer.
    """

    acknowledged: int = 0
    sent: int = 0
    failed: int = 0
    kept: int = 0
    abandoned: int = 0
    lingering: str | None = None


# ------------------------------------------------------------------------ to the Subscription keeper


class Subscribe(NamedTuple):
    """From an application: deliver what matches to `deliveries`, run by run, until `Unsubscribe`.

    `subscription` is the application's own number for it. `answer` gets the broker's reason code once it is known.
    """

    subscription: int
    filter: SubscribeFilter
    deliveries: Channel[tuple["Delivered", ...]]
    answer: Channel[int]


class Unsubscribe(NamedTuple):
    """From an application: this subscription ends; what it was given and has not handled is returned.

    `unseen` are those of them that nobody has looked at: being given back does not count against them.
    """

    subscription: int
    unseen: tuple[int, ...] = ()


class Delivered(NamedTuple):
    """From the Subscription keeper to one subscription: a message to handle. `delivery` names it in `Handled`.

    `key` is the same however often this delivery is given; over a crash as well, at QoS 2 with an outbox file.
    """

    delivery: int
    message: Message
    redelivered: bool
    key: str


class Handled(NamedTuple):
    """From an application: these deliveries of this subscription are done with."""

    subscription: int
    deliveries: tuple[int, ...]


class Rejected(NamedTuple):
    """From an application: it will never handle this delivery. `reason` is for the log."""

    subscription: int
    delivery: int
    reason: str


class Returned(NamedTuple):
    """From an application: a handler failed on these; they are given again, or set aside after `max_deliveries`."""

    subscription: int
    deliveries: tuple[int, ...]


class Incoming(NamedTuple):
    """From a link's reader: what arrived for those who receive, in the order of the wire."""

    lane: Lane
    packets: tuple[Inbound, ...]


class StopReceiving(NamedTuple):
    """From wiring: acknowledge what is handled, end every iteration, then answer."""

    answer: Channel[None]


class InboxCommitted(NamedTuple):
    """From the inbox task: the commit that was asked for is done."""


class InboxCommitFailed(NamedTuple):
    """From the inbox task: the commit that was asked for is not done; nothing of it may be relied on."""

    why: str


ToSubscriptionKeeper = (
    Subscribe
    | Unsubscribe
    | Handled
    | Rejected
    | Returned
    | LaneOpened
    | LinkDown
    | Incoming
    | InboxCommitted
    | InboxCommitFailed
    | StopReceiving
)

# ------------------------------------------------------------------------------- to the inbox task


class InboxRecord(NamedTuple):
    """A QoS 2 message from the broker as a store keeps it, from before it is delivered until its PUBREL.

    `key` is the application's `delivery_key`. `handled`: nobody is to be given it again. `fingerprint`: a checksum of its
    topic and payload, None if an older hawk kept it. Whatever else comes under its identifier is another message.
    """

    identifier: int
    key: str
    handled: bool = False
    fingerprint: int | None = None


class InboxCommit(NamedTuple):
    """From the Subscription keeper, at most one at a time: one transaction, in the order of the fields.

    `forget`: the broker has begun a new session, so every record is void. `delete`: by identifier. `insert` also
    replaces. `leave` and `join` are the topic filters that the broker's session no longer has, and has from now on.
    """

    forget: bool = False
    delete: tuple[int, ...] = ()
    insert: tuple[InboxRecord, ...] = ()
    leave: tuple[str, ...] = ()
    join: tuple[str, ...] = ()


class InboxRecovered(NamedTuple):
    """What an inbox store kept of the broker's session: QoS 2 messages under way, and the filters subscribed."""

    records: tuple[InboxRecord, ...] = ()
    filters: tuple[str, ...] = ()


# ---------------------------------------------------------------------------- to the Stats collector


class InboundReport(NamedTuple):
    """The Subscription keeper's cumulative state: received = handled + rejected + abandoned + dropped + unhandled.

    `returned` counts how often something was given back. `slots`: who holds how many of those that the broker waits for,
    the ten that hold most, by filter; "" are those that wait for somebody to come.
    """

    revision: int = 0
    received: int = 0
    handled: int = 0
    rejected: int = 0
    abandoned: int = 0
    dropped: int = 0
    unhandled: int = 0
    returned: int = 0
    slots: tuple[tuple[str, int], ...] = ()


class StateChanged(NamedTuple):
    """An event: the public state went from `before` to `after`. `cause` says why, where a link or a dial failed."""

    before: ConnectionState
    after: ConnectionState
    cause: Cause | None = None


class MessageSettled(NamedTuple):
    """An event: a message met its fate."""

    topic: str
    qos: int
    fate: Fate


class Missed(NamedTuple):
    """An event: the reader was too slow, and this many events before this one were not kept for it."""

    events: int


Event = StateChanged | MessageSettled | Missed


class Report(NamedTuple):
    """From any actor: its cumulative state, and the events since its last report."""

    state: ConnectionReport | Ledger | InboundReport | None
    events: tuple[Event, ...] = ()


class Watch(NamedTuple):
    """From an application: send every event to this channel until nobody reads it.

    `missed` is for the end: how many more there were that found no room.
    """

    events: Channel[Event]
    missed: Channel[Missed] | None = None


ToStatsCollector = Report | Watch


class Snapshot(NamedTuple):
    """From the Stats collector to the application: the newest report of every actor."""

    connection: ConnectionReport = ConnectionReport()
    ledger: Ledger = Ledger()
    inbound: InboundReport = InboundReport()
