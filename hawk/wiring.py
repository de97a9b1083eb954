"""The map: which actor tells which, and what. A test holds this drawing against the code.

    application          -- Open ----------------------------------------> CONNECTOR
    application          -- Offers, Withdraw, WatchFates ----------------> QUEUE KEEPER
    application          -- Subscribe, Unsubscribe ----------------------> SUBSCRIPTION KEEPER
    application          -- Handled, Rejected, Returned -----------------> SUBSCRIPTION KEEPER
    application          -- Watch ---------------------------------------> STATS COLLECTOR
    QUEUE KEEPER         -- Room ----------------------------------------> application
    STATS COLLECTOR      -- Snapshot, events ----------------------------> application

    QUEUE KEEPER         -- Commit, ReadPage ----------------------------> STORE TASK          ==> disk
    STORE TASK           -- Committed, CommitFailed, Page, PageFailed ---> QUEUE KEEPER
    SUBSCRIPTION KEEPER  -- InboxCommit ---------------------------------> INBOX TASK          ==> disk
    INBOX TASK           -- InboxCommitted, InboxCommitFailed -----------> SUBSCRIPTION KEEPER

    CONNECTOR            -- Reset, StandDown, AttemptFailed, LinkUp, LinkDown -> BACKOFF SCHEDULER
    BACKOFF SCHEDULER    -- Dial, GaveUp --------------------------------> CONNECTOR
    CONNECTOR            -- LinkUp, LinkDown, Traffic -------------------> HEALTH PROBE
    QUEUE KEEPER         -- Stalled -------------------------------------> HEALTH PROBE
    HEALTH PROBE         -- Ping, Hangup --------------------------------> CONNECTOR

    CONNECTOR            -- LaneOpened, LinkDown, Settled ---------------> QUEUE KEEPER
    CONNECTOR            -- LaneOpened, LinkDown, Incoming --------------> SUBSCRIPTION KEEPER
    SUBSCRIPTION KEEPER  -- Ready ---------------------------------------> QUEUE KEEPER
    both keepers         == Transmit, on the link's lane ================> CONNECTOR           ==> broker

    wiring               -- StopReceiving -------------------------------> SUBSCRIPTION KEEPER (a stop, step 1)
    wiring               -- Stop ----------------------------------------> QUEUE KEEPER        (step 2)
    QUEUE KEEPER         -- Open ----------------------------------------> CONNECTOR           (one dial for what is in memory)
    wiring               -- Close ---------------------------------------> CONNECTOR           (step 3)
    every actor          -- Report --------------------------------------> STATS COLLECTOR

The Connector's own children, its dial, its watch and the two tasks of its link,
tell it `Dialed`, `DialFailed`, `Hangup` and `Lost`.

Why nothing can deadlock: an awaited send goes only down this order, and each actor below does nothing but receive:
application, store task, inbox task -> connector -> subscription keeper -> queue keeper -> backoff scheduler, health probe.
Upward goes only what is bounded by one outstanding request each, with `send_nowait`.
"""

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.actors.backoff_scheduler import BackoffScheduler
from hawk.actors.connector import Connector
from hawk.actors.health_probe import HealthProbe
from hawk.actors.inbox_task import InboxTask
from hawk.actors.mailbox import LatestSender, Reporter, take_all
from hawk.actors.mailbox import answer as reply
from hawk.actors.queue_keeper import QueueKeeper
from hawk.actors.refusal_policy import FencedPolicy
from hawk.actors.stats_collector import StatsCollector
from hawk.actors.store_task import StoreTask
from hawk.actors.subscription_keeper import SubscriptionKeeper
from hawk.config import Config
from hawk.core.dispatch import MOST_UNSENT_MESSAGES
from hawk.core.outbox import Outbox
from hawk.core.session_record import NO_SESSION, SessionRecord
from hawk.credit import Credit, OfferSender
from hawk.errors import Stopped
from hawk.interrupts import uninterrupted
from hawk.messages import (
    Close,
    ConnectionReport,
    Identity,
    InboxCommit,
    InboxRecovered,
    Recovered,
    Room,
    Snapshot,
    Stop,
    StopReceiving,
    StopReport,
    ToBackoff,
    ToConnector,
    ToHealthProbe,
    ToQueueKeeper,
    ToStatsCollector,
    ToStoreTask,
    ToSubscriptionKeeper,
)
from hawk.packets import SubscribeFilter
from hawk.ports import InboxStore, Ports

Q = TypeVar("Q")
T = TypeVar("T")
Answer = tuple[MemoryObjectSendStream[T], MemoryObjectReceiveStream[T]]
"""A channel for one answer: the end that travels in the question, and the end that the asker keeps."""


class _Closable(Protocol):
    def close(self) -> None: ...


class _Actor(Protocol):
    async def run(self) -> None: ...


SMALL_INBOX = 64
STATS_INBOX = 256
SUBSCRIBE_IDENTIFIERS = 512
PACKET_IDENTIFIERS = 65_535
CONNECTOR_PACKETS = 8
"""A PINGREQ and a DISCONNECT, with room to spare."""
STOP_MARGIN_S = 0.5


def lane_capacity(config: Config) -> int:
    """How many sends a lane must take without waiting: the sum of what its senders' credits allow."""
    publishes_and_releases = 2 * config.max_inflight
    # Each may travel alone, and one for each identifier, for the broker may exceed our Receive Maximum. The next one about
    # the same identifier answers what the broker sends only after it has read this one.
    return (
        publishes_and_releases + PACKET_IDENTIFIERS + SUBSCRIBE_IDENTIFIERS + MOST_UNSENT_MESSAGES + CONNECTOR_PACKETS
    )


class Service:
    """One run of all actors, from the first `connect()` or `publish()` to the end of a stop.

    The constructor opens the channels and starts nothing; `run` is the one task that a nursery is given.
    """

    def __init__(
        self,
        config: Config,
        ports: Ports,
        identity: Identity,
        *,
        name: str = "hawk",
        recovered: Recovered = Recovered(),
        opening: Snapshot = Snapshot(),
        inbox_store: InboxStore,
        remembered: InboxRecovered = InboxRecovered(),
        declared: Iterable[SubscribeFilter] = (),
    ) -> None:
        self._config = config
        self._store = ports.outbox_store
        self._inbox_store = inbox_store
        durable = self._store is not None
        self._scopes: list[anyio.CancelScope] = []
        self._waiting: set[anyio.CancelScope] = set()
        self._waited_for: dict[anyio.Event, int] = {}
        self.durable = durable
        # With a store acceptance is the store's word, so every offer asks.
        opening_room = Room(0, 0) if durable else Room(config.message_queue_size, config.most_queue_bytes)
        self.open = True
        self.ended = False
        self.crashed = False
        self._report: StopReport | None = None
        self._gone = anyio.Event()

        self.to_connector, connector_inbox = anyio.create_memory_object_stream[ToConnector](SMALL_INBOX)
        self.to_queue_keeper, queue_inbox = anyio.create_memory_object_stream[ToQueueKeeper](ports.keeper_inbox)
        self.to_subscription_keeper, subscription_inbox = anyio.create_memory_object_stream[ToSubscriptionKeeper](
            ports.keeper_inbox
        )
        self.to_stats, stats_inbox = anyio.create_memory_object_stream[ToStatsCollector](STATS_INBOX)
        to_backoff, backoff_inbox = anyio.create_memory_object_stream[ToBackoff](SMALL_INBOX)
        to_health_probe, probe_inbox = anyio.create_memory_object_stream[ToHealthProbe](SMALL_INBOX)
        to_store, store_inbox = anyio.create_memory_object_stream[ToStoreTask](2)
        to_inbox_task, inbox_task_inbox = anyio.create_memory_object_stream[InboxCommit](1)
        self._stops, self._stop_inbox = anyio.create_memory_object_stream[
            tuple[float, MemoryObjectSendStream[StopReport]]
        ](math.inf)
        self.room = LatestSender[Room]()
        self.snapshots = LatestSender[Snapshot]()
        self.credit = Credit(self.room, opening_room)
        self.offers = OfferSender(self.to_queue_keeper)
        self._channels: tuple[_Closable, ...] = (
            *(self.to_connector, self.to_queue_keeper, self.to_subscription_keeper, self.to_stats),
            *(connector_inbox, queue_inbox, subscription_inbox, stats_inbox),
            *(to_backoff, backoff_inbox, to_health_probe, probe_inbox, to_store, store_inbox),
            *(to_inbox_task, inbox_task_inbox),
            *(self._stops, self._stop_inbox, self.room, self.snapshots),
        )

        policy = FencedPolicy(config.refusal_policy, "hawk.queue_keeper")
        outbox = Outbox(
            config,
            durable=durable,
            opening=opening.ledger,
            identity=None if callable(config.client_id) else identity,
            judge=policy,
        )
        outbox.recover(recovered, anyio.current_time())
        self._connector = Connector(
            config,
            identity.client_identifier,
            name=name,
            dialer=ports.dialer,
            wall_clock=ports.wall_clock,
            lane_capacity=lane_capacity(config),
            inbox=connector_inbox,
            to_self=self.to_connector,
            to_backoff=to_backoff,
            to_health_probe=to_health_probe,
            to_queue_keeper=self.to_queue_keeper,
            to_subscription_keeper=self.to_subscription_keeper,
            reporter=Reporter(self.to_stats),
            opening=opening.connection,
            session=_session_of(identity, config),
        )
        self._backoff_scheduler = BackoffScheduler(
            config, ports.random, inbox=backoff_inbox, to_connector=self.to_connector
        )
        self._queue_keeper = QueueKeeper(
            outbox,
            inbox=queue_inbox,
            to_store=to_store if durable else None,
            to_connector=self.to_connector,
            to_health_probe=to_health_probe,
            room=self.room,
            reporter=Reporter(self.to_stats),
            policy=policy,
        )
        self._subscription_keeper = SubscriptionKeeper(
            config=config,
            inbox=subscription_inbox,
            to_queue_keeper=self.to_queue_keeper,
            to_inbox_task=to_inbox_task,
            reporter=Reporter(self.to_stats),
            recovered=remembered,
            declared=declared,
            # So that no two processes, nor two runs of one, give the same key to two deliveries.
            run=f"{ports.random.getrandbits(64):016x}",
        )
        self._inbox_task = InboxTask(
            inbox_store, inbox=inbox_task_inbox, to_subscription_keeper=self.to_subscription_keeper
        )
        self._health_probe = HealthProbe(config, inbox=probe_inbox, to_connector=self.to_connector)
        self._stats_collector = StatsCollector(inbox=stats_inbox, snapshots=self.snapshots, opening=opening)
        self._store_task = (
            None
            if self._store is None
            else StoreTask(self._store, inbox=store_inbox, to_queue_keeper=self.to_queue_keeper)
        )

    @property
    def leaves(self) -> Recovered:
        """What the next run has to know of the broker's session, where no store tells it. After the end of this one."""
        session = self._connector.session
        if session.client_identifier is None:
            return Recovered()
        identity = Identity(session.client_identifier, session=True, endpoint=session.endpoint, shared=session.shared)
        if self.crashed:
            # What was sent is not known any more: no session that any endpoint may hold is one to go on with.
            return Recovered(identity._replace(session=False, shared=False))
        return Recovered(identity, withheld=self._queue_keeper.withheld)

    async def run(self) -> None:
        """Run every actor until a stop has ended or one has crashed. The crash is raised.

        Cancelling stops within `cancel_drain_s` and half a second, shielded, and then goes on.
        """
        actors: list[_Actor] = [
            self._connector,
            self._backoff_scheduler,
            self._queue_keeper,
            self._subscription_keeper,
            self._health_probe,
            self._stats_collector,
            self._inbox_task,
        ]
        if self._store_task is not None:
            actors.append(self._store_task)
        try:
            async with anyio.create_task_group() as tasks:
                for actor in actors:
                    tasks.start_soon(uninterrupted(self._shielded), actor.run, name=f"hawk {type(actor).__name__}")
                tasks.start_soon(uninterrupted(self._watch), name="hawk watchman")
        finally:
            self._finish()
            try:
                with anyio.CancelScope(shield=True, deadline=anyio.current_time() + STOP_MARGIN_S):
                    await self._inbox_store.aclose()
                    if self._store is not None:
                        await self._store.aclose()
            finally:
                self._gone.set()

    async def stop(self, drain_s: float) -> StopReport:
        """Stop within `drain_s` and half a second, and report. Every further call waits for the same end.

        Cancelling ends the wait, not the stop.
        """
        self.open = False
        if self._report is not None:
            return self._report
        answer = anyio.create_memory_object_stream[StopReport](1)
        self._stops.send_nowait((drain_s, answer[0]))
        return await self.ask(answer)

    async def ask(self, answer: Answer[T]) -> T:
        """The answer that an actor owes, for as long as the actors live. Raises `Stopped`. Cancelling ends the wait."""
        sender, receiver = answer
        with sender, receiver:
            try:
                return await self.wait(receiver.receive)
            except anyio.EndOfStream:
                raise Stopped("hawk stopped before it could answer") from None

    async def request(self, channel: MemoryObjectSendStream[Q], question: Q, answer: Answer[T]) -> T:
        """Send an actor a question that carries `answer[0]`, and `ask`. Cancelled, both ends are closed."""
        sender, receiver = answer
        with sender, receiver:
            await self.send(channel, question)
            return await self.ask(answer)

    async def send(self, channel: MemoryObjectSendStream[T], message: T) -> None:
        """Send to an actor. Raises `Stopped` when there are none any more. Cancelled, it was sent or not."""
        try:
            await channel.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise Stopped("hawk has stopped") from None

    async def wait(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Wait, but no longer than the actors live. Raises `Stopped`. Cancelling ends the wait."""
        if not self.ended:
            with anyio.CancelScope() as scope:
                self._waiting.add(scope)
                try:
                    return await wait()
                finally:
                    self._waiting.discard(scope)
        self._raise_if_ended()
        raise AssertionError("a wait that nobody cancelled has no other end")

    def _raise_if_ended(self) -> None:
        if self.ended:
            raise Stopped("hawk has ended with an error in itself" if self.crashed else "hawk has stopped")

    async def wait_for(self, event: anyio.Event) -> None:
        """Wait until `event` is set, or no actor lives any more: that sets it. Raises `Stopped` when none did before.

        Cancelling ends the wait.
        """
        self._raise_if_ended()
        self._waited_for[event] = self._waited_for.get(event, 0) + 1
        try:
            await event.wait()
        finally:
            others = self._waited_for.pop(event) - 1
            if others:
                self._waited_for[event] = others

    async def wait_gone(self) -> None:
        """Wait until no actor runs and the store is closed. Cancelling ends the wait."""
        await self._gone.wait()

    async def _shielded(self, run: Callable[[], Awaitable[None]]) -> None:
        """An actor outlives the cancellation of its nursery, until the watchman has stopped it; one crash ends them all."""
        with anyio.CancelScope(shield=True) as scope:
            self._scopes.append(scope)
            try:
                await run()
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException:
                self.crashed = True
                self._end()
                raise

    async def _watch(self) -> None:
        """The watchman: the one task that cancellation reaches, and the one that stops."""
        waiting: list[MemoryObjectSendStream[StopReport]] = []
        report = StopReport()
        try:
            drain_s, answer = await self._stop_inbox.receive()
            waiting.append(answer)
            report = await self._stop(drain_s)
        except anyio.get_cancelled_exc_class():
            self.open = False
            if not self.crashed:
                with anyio.CancelScope(shield=True) as scope:
                    # A crash ends this one too: nobody would answer.
                    self._scopes.append(scope)
                    report = await self._stop(self._config.cancel_drain_s)
            raise
        finally:
            self._report = report
            self._end()
            waiting += [answer for _, answer in take_all(self._stop_inbox, None)]
            for answer in waiting:
                reply(answer, report)

    async def _stop(self, drain_s: float) -> StopReport:
        """End receiving, drain, say goodbye; each at the latest when `drain_s` and half a second are over."""
        report = StopReport()
        with anyio.CancelScope(deadline=anyio.current_time() + drain_s + STOP_MARGIN_S):
            receiving = anyio.create_memory_object_stream[None](1)
            await self.request(self.to_subscription_keeper, StopReceiving(receiving[0]), receiving)
            draining = anyio.create_memory_object_stream[StopReport](1)
            report = await self.request(self.to_queue_keeper, Stop(drain_s, draining[0]), draining)
            closing = anyio.create_memory_object_stream[ConnectionReport](1)
            forget = self._store is None and not self._config.client_id
            await self.request(self.to_connector, Close(forget, closing[0]), closing)
        return report

    def _end(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    def _finish(self) -> None:
        self.open = False
        self.ended = True
        self._stats_collector.finish()
        for end in self._channels:
            end.close()
        for scope in self._waiting:
            scope.cancel()
        for event in self._waited_for:
            event.set()


def _session_of(identity: Identity, config: Config) -> SessionRecord:
    """What an earlier run knew of its session, or of the endpoints alone."""
    if not identity.session or callable(config.client_id):
        return NO_SESSION._replace(shared=identity.shared)
    assigned = config.client_id == ""
    return SessionRecord(identity.client_identifier, identity.endpoint, assigned=assigned, shared=identity.shared)
