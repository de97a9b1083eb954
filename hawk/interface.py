"""What an application holds: `MQTTInterface` in a nursery of its own choosing, or `open_mqtt` as a block.

Between here and the actors there are channels only. While the Queue keeper has lent room, a publish is one `send_nowait`, or
joins what is on its way; the loop yields every 128 of them or every millisecond, so that a plain loop fills batches and
starves nobody.
"""

import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from random import Random
from types import TracebackType
from typing import Any, Literal, Protocol, get_args

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from hawk.clock import SystemWallClock
from hawk.composing import Composer
from hawk.config import Config
from hawk.core.tally import Offered, Stats, newest, tally
from hawk.core.wanted import valid_wanted
from hawk.errors import GaveUp, MessageInvalid, OutboxFull, OutboxUnavailable, Stopped, StoreFailed
from hawk.eventlog import log_event
from hawk.interrupts import uninterrupted
from hawk.links.dialing import NetworkDialer
from hawk.messages import Identity, InboxRecovered, Offer, Open, Opened, Recovered, Snapshot, StopReport, Withdraw
from hawk.packets import SubscribeFilter
from hawk.payload import Payload
from hawk.ports import Ports
from hawk.receipt import Receipt
from hawk.received import ReceivedMessage
from hawk.requests import Requests, response_topic_of
from hawk.stores.memory_inbox import MemoryInboxStore
from hawk.streams import EventStream, Watchers
from hawk.subscription import AckMode, Handler, Subscription
from hawk.values import NO_PROPERTIES, ConnectionState, Ledger, Message, Properties
from hawk.wiring import Service

RetainHandling = Literal["always", "if_new", "never"]
RETAIN_HANDLING = get_args(RetainHandling)
"""MQTT's 0, 1 and 2, in words."""
logger = logging.getLogger("hawk.interface")

OFFERS_WITHOUT_YIELDING = 128
OFFERS_WITHOUT_THE_CLOCK = 8
LONGEST_WITHOUT_YIELDING_S = 0.001


_numbers = itertools.count(1)


class Nursery(Protocol):
    """An anyio TaskGroup or a trio Nursery."""

    def start_soon(self, func: Callable[..., Any], /, *args: Any, name: object = None) -> object:
        """Start a task in it."""


class MQTTInterface:
    """One hawk. The constructor starts nothing; the first `connect()` or `publish()` starts the actors in `nursery`.

    `async with` connects in the background on entering and disconnects on leaving. `ports` replaces the outside world.
    `subscriptions`: topic filters to subscribe from the first link on, also while no `subscribe()` block holds them: what
    comes for them meanwhile waits `return_grace_s` for one. Raises `MessageInvalid` for a bad one.
    """

    def __init__(
        self,
        config: Config,
        nursery: Nursery,
        *,
        subscriptions: Iterable[str | SubscribeFilter] = (),
        ports: Ports | None = None,
    ) -> None:
        self._config = config
        self._declared = tuple(
            valid_wanted(each if isinstance(each, SubscribeFilter) else SubscribeFilter(each, config.qos))
            for each in subscriptions
        )
        self._nursery = nursery
        self._ports = ports or _ports_of(config)
        random_identifier = f"hawk-{self._ports.random.getrandbits(64):016x}"
        # None: this one is used; a callable: it is asked at each dial; "": the broker assigns one.
        given = "" if callable(config.client_id) else config.client_id
        self._client_identifier = random_identifier if given is None else given
        # Two hawks may be given one client identifier; a log must tell them apart all the same.
        self._name = f"{given or random_identifier}#{next(_numbers)}"
        self._service: Service | None = None
        self._starting = anyio.Lock()
        self._snapshot = Snapshot()
        self._left = Recovered()
        self._inbox_store = self._ports.inbox_store or MemoryInboxStore()
        self._watchers = Watchers()
        self._requests = Requests(
            response_topic_of(given or random_identifier),
            start=self._start,
            start_task=nursery.start_soon,
            subscribe=lambda topic, qos: self.subscribe(topic, qos=qos),
            publish=self.publish,
            random=self._ports.random,
        )
        self._composer = Composer(config)
        self._asked_to_connect = False
        self._unyielded = 0
        self._yielded_at = 0.0

    # ------------------------------------------------------------------------------------- connection

    async def connect(self) -> None:
        """Return when CONNECTED. Cuts a waiting delay short; tries afresh after FAILED and after `disconnect()`.

        Raises `GaveUp` when the connection FAILED, `Stopped` when somebody disconnects meanwhile, `OutboxUnavailable`.
        Cancelling ends only the wait: hawk goes on trying.
        """
        service = await self._start()
        self._asked_to_connect = True
        answer = anyio.create_memory_object_stream[Opened](1)
        opened = await service.request(service.to_connector, Open(answer[0]), answer)
        self._snapshot = newest(self._snapshot, connection=opened.report)
        if opened.report.state is ConnectionState.FAILED:
            cause = opened.cause
            why = "the connection failed" if cause is None else str(cause)
            code = None if cause is None else cause.reason_code
            raise GaveUp(why, attempts=opened.report.consecutive_failures, reason_code=code)
        if opened.report.state is not ConnectionState.CONNECTED:
            raise Stopped("disconnect() was called before the connection came up")

    async def disconnect(self, *, drain_s: float | None = None) -> StopReport:
        """Deliver what is left within `drain_s` seconds (default: the configuration's), say DISCONNECT, end every actor.

        Returns what was acknowledged meanwhile, what stays on disk and what was abandoned. Idempotent. Over at the
        latest one second after `drain_s`. Cancelling ends only the wait: the stop goes on by itself.
        """
        service = self._service
        if service is None:
            return StopReport()
        await self._requests.aclose()
        report = await service.stop(self._config.drain_s if drain_s is None else drain_s)
        await service.wait_gone()
        self._refresh()
        # Only a store with a thread has one to name.
        return report._replace(lingering=getattr(self._ports.outbox_store, "lingering_thread", None))

    @property
    def connection_state(self) -> ConnectionState:
        """Where the connection stands."""
        self._refresh()
        return self._snapshot.connection.state

    @property
    def stats(self) -> Stats:
        """SPEC.md's ten keys, and beside them every column of the ledger. Reads your own writes."""
        self._refresh()
        offered = 0 if self._service is None else self._service.credit.offered
        return tally(self._snapshot, Offered(offered, self._composer.unencodable))

    def events(self) -> EventStream:
        """Every state change and every fate from now on, as an async iterator; it ends when hawk disconnects.

        A reader that falls more than 10,000 events behind misses some, and reads a `Missed` that counts them.
        """
        return self._watchers.open()

    # ---------------------------------------------------------------------------------------- publish

    async def publish(
        self,
        topic: str,
        payload: Payload,
        *,
        qos: int | None = None,
        retain: bool = False,
        expiry_s: float | None = None,
        properties: Properties = NO_PROPERTIES,
    ) -> Receipt:
        """Hand over one message. When this returns, QoS 1 and 2 are on disk with an outbox file, else in the bounded queue.

        It never waits for the network while there is room or the link is down, except under the policy "wait".
        After `expiry_s` seconds nobody wants it any more: it is not sent then, and a broker forgets it; without it the
        `expiry_s` of `properties` counts, then `message_expiry_s` of the configuration.
        Raises `MessageInvalid`, `OutboxFull`, `OutboxUnavailable`, `Dropped` or `Stopped`.
        Cancelling: the message is accepted or not, never half.
        """
        message = self._composer.message(topic, payload, qos, retain, properties, expiry_s)
        service = self._service
        if service is None or not service.open:
            service = await self._start()
        size_bytes = message.size_bytes
        if service.durable:
            await checkpoint_if_cancelled()
            return await self._hand_over(service, (message,), size_bytes)
        self._unyielded += 1
        if not self._unyielded % OFFERS_WITHOUT_THE_CLOCK and self._has_kept_others_waiting():
            await self._let_others_run()
        else:
            await checkpoint_if_cancelled()
        if not service.open:
            raise Stopped("hawk is stopping")
        if not service.credit.spend(size_bytes):
            return await self._ask(service, (message,), size_bytes)
        receipt = Receipt(1, 0, service, self._learn)
        offer = Offer((message,), receipt.reference, size_bytes)
        try:
            service.offers.send_nowait(offer)
        except anyio.WouldBlock:
            await service.offers.send(offer)
        return receipt

    def publish_nowait(
        self,
        topic: str,
        payload: Payload,
        *,
        qos: int | None = None,
        retain: bool = False,
        expiry_s: float | None = None,
        properties: Properties = NO_PROPERTIES,
    ) -> Receipt:
        """Hand over one message without waiting; `await receipt.accepted()` is the promise that `publish()` makes.

        Raises `OutboxFull` when there is no room (with the link down and a policy that drops, the receipt tells
        instead), `MessageInvalid`, and `Stopped` before the first `connect()` or `publish()`.
        """
        message = self._composer.message(topic, payload, qos, retain, properties, expiry_s)
        service = self._service
        if service is None or not service.open:
            raise Stopped("hawk is stopping, has stopped or was never started: call connect() first")
        size_bytes = message.size_bytes
        room = service.credit.spend(size_bytes)
        up = self.connection_state is ConnectionState.CONNECTED
        if not room and not service.durable and (up or self._config.overflow in ("wait", "reject")):
            raise OutboxFull(f"no room in the outbox for a message on {topic!r}")
        receipt = Receipt(1, 0 if room else 1, service, self._learn)
        try:
            service.offers.send_nowait(
                Offer((message,), receipt.reference, size_bytes, asks=not room, refuse_if_full=True)
            )
        except anyio.WouldBlock:
            if room:
                service.credit.take_back(size_bytes)
            raise OutboxFull("the Queue keeper's inbox is full: let other tasks run between two calls") from None
        if not room:
            service.credit.forget()
        return receipt

    async def publish_many(
        self,
        messages: Iterable[tuple[str, Payload]],
        *,
        qos: int | None = None,
        retain: bool = False,
        expiry_s: float | None = None,
        properties: Properties = NO_PROPERTIES,
        on_receipt: Callable[[Receipt], None] | None = None,
    ) -> Receipt:
        """Hand over a batch of (topic, payload) in one hop, with one receipt for all. Returns when all are accepted.

        All are encoded first: a bad one raises `MessageInvalid` before any is accepted. What finds no room waits for it
        while the link is up, and meets the overflow policy while it is down. Raises and cancels as `publish()`, except
        that of a cancelled batch some may be accepted: those before the rest, in order. `on_receipt` is given the receipt
        before anything is waited for: it tells also what became of those.
        """
        batch = self._composer.messages(messages, qos, retain, properties, expiry_s)
        service = await self._start()
        await checkpoint()
        if not service.open:
            raise Stopped("hawk is stopping")
        if not batch:
            return Receipt(0, 0, service, self._learn)
        size_bytes = sum([message.size_bytes for message in batch])
        if service.durable:
            return await self._hand_over(service, batch, size_bytes, on_receipt)
        if not service.credit.spend(size_bytes, len(batch)):
            return await self._ask(service, batch, size_bytes, on_receipt)
        receipt = Receipt(len(batch), 0, service, self._learn)
        if on_receipt is not None:
            try:
                on_receipt(receipt)
            except BaseException:
                service.credit.take_back(size_bytes, len(batch))
                raise
        await service.offers.send(Offer(batch, receipt.reference, size_bytes))
        return receipt

    async def request(
        self,
        topic: str,
        payload: Payload,
        *,
        timeout_s: float = 10.0,
        qos: int | None = None,
        properties: Properties = NO_PROPERTIES,
    ) -> ReceivedMessage:
        """Publish a request and return the first response to it (MQTT 5 section 4.10). Any number may be under way.

        Whoever answers publishes to the message's `properties.response_topic`, with its `properties.correlation_data`.
        The request expires with `timeout_s`, unless its `properties` say otherwise. Raises `NoResponse` after
        `timeout_s` seconds, which is a `TimeoutError` too; what `publish()` and `Receipt.acknowledged()` raise;
        `Refused` when the broker does not let hawk receive responses. Cancelling: what comes later is ignored.
        """
        return await self._requests.ask(topic, payload, timeout_s=timeout_s, qos=qos, properties=properties)

    # -------------------------------------------------------------------------------------- subscribe

    def subscribe(
        self,
        topic_filter: str,
        *,
        qos: int | None = None,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: RetainHandling = "always",
        ack: AckMode = "auto",
        handler: Handler | None = None,
        workers: int = 1,
    ) -> Subscription:
        """Receive what matches: `async with mqtt.subscribe("a/#") as messages: async for message in messages: ...`.

        A message is acknowledged when the next one is asked for, or the block ends; not when the block raises. With
        `handler`, an async function of one message, `workers` tasks call it for as long as the block lasts; what it
        raises on is given again, at most `max_deliveries` times. With `ack="manual"` only `message.acknowledge()` and
        `message.reject(reason)` end a message. Acknowledgements go out in MQTT's order, however handlers finish.

        `no_local`: not what this hawk publishes. `retain_as_published`: keep the retain flag of what is passed on.
        `retain_handling`: retained messages are sent "always", only "if_new" to the broker's session, or "never" (MQTT 5
        section 3.8.3.1). Of blocks with the same filter the broker is asked for the most: the highest QoS, `no_local` only
        if all want it, `retain_as_published` if one does. `$share/group/filter` shares the messages with others.

        Raises `MessageInvalid` for a bad filter or option; `Refused` at the `async with` when the broker refuses.
        """
        if retain_handling not in RETAIN_HANDLING:
            raise MessageInvalid(
                f"retain_handling must be one of {', '.join(RETAIN_HANDLING)}, not {retain_handling!r}"
            )
        if ack not in ("auto", "manual"):
            raise MessageInvalid(f"ack must be auto or manual, not {ack!r}")
        _check_workers(workers)
        wanted = valid_wanted(
            SubscribeFilter(
                topic_filter,
                self._composer.valid_qos(qos),
                no_local,
                retain_as_published,
                RETAIN_HANDLING.index(retain_handling),
            )
        )
        return Subscription(
            wanted, start=self._start, patience_s=self._patience_s, ack=ack, handler=handler, workers=workers
        )

    # ------------------------------------------------------------------------------------- as a block

    async def __aenter__(self) -> "MQTTInterface":
        service = await self._start()
        self._asked_to_connect = True
        await service.send(service.to_connector, Open())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()

    # ----------------------------------------------------------------------------------------- inside

    async def _start(self) -> Service:
        """The running service; starts one when there is none. Raises `OutboxUnavailable`, `OutboxInUse` or `Stopped`."""
        async with self._starting:
            service = self._service
            if service is not None:
                if service.open:
                    return service
                if not service.ended:
                    raise Stopped("hawk is stopping")
                # The store is closed by then, and can be opened again.
                await service.wait_gone()
                self._left = service.leaves
            if not self._config.enabled:
                raise Stopped("MQTT is disabled in the configuration (enabled: false)")
            recovered, remembered = await self._open_stores()
            self._refresh()
            # A new run takes its offers from the first again.
            self._snapshot = self._snapshot._replace(ledger=self._snapshot.ledger._replace(taken=0, taken_bytes=0))
            identity = self._identify(recovered)
            service = Service(
                self._config,
                self._ports,
                identity,
                name=self._name,
                recovered=recovered,
                opening=self._snapshot,
                inbox_store=self._inbox_store,
                remembered=remembered,
                declared=self._declared,
            )
            self._asked_to_connect = False
            self._nursery.start_soon(uninterrupted(service.run))
            self._service = service
            await self._watchers.attach(service)
            return service

    async def _open_stores(self) -> tuple[Recovered, InboxRecovered]:
        """Both or none. Raises `OutboxUnavailable`, `OutboxInUse`. Cancelling leaves both closed."""
        store = self._ports.outbox_store
        try:
            recovered = self._left if store is None else await store.open()
            try:
                return recovered, await self._inbox_store.open()
            except BaseException:
                if store is not None:
                    with anyio.CancelScope(shield=True):
                        await store.aclose()
                raise
        except StoreFailed as failed:
            raise OutboxUnavailable(f"the outbox cannot be opened: {failed}") from failed

    def _identify(self, recovered: Recovered) -> Identity:
        """Who this hawk is for its broker: what the configuration says, else who the outbox file says, else somebody new."""
        kept = recovered.identity
        if left := recovered.queued + len(recovered.under_way):
            log_event(logger, logging.INFO, "recovered", messages=left, dead_letters=recovered.dead)
        if self._config.client_id is None and recovered.copied:
            log_event(
                logger,
                logging.WARNING,
                "outbox file copied",
                client_identifier=self._client_identifier,
                why="the file comes from another machine, whose hawk may still use the client identifier in it",
            )
        elif self._config.client_id is None and kept is not None:
            self._client_identifier = kept.client_identifier
        elif self._config.client_id == "" and kept is not None:
            return kept  # what the broker has assigned
        if kept is not None and kept.client_identifier == self._client_identifier:
            return kept
        return Identity(self._client_identifier, session=False, shared=kept is None or kept.shared)

    def _patience_s(self) -> float:
        """How long a SUBACK is waited for: not at all while it cannot come."""
        soon = {ConnectionState.CONNECTING, ConnectionState.CONNECTED}
        if self._asked_to_connect:
            # Whoever subscribes right after that is faster than the first report of it.
            soon.add(ConnectionState.DISCONNECTED)
        return self._config.suback_timeout_s if self.connection_state in soon else 0.0

    async def _ask(
        self,
        service: Service,
        messages: tuple[Message, ...],
        size_bytes: int,
        on_receipt: Callable[[Receipt], None] | None = None,
    ) -> Receipt:
        """Offer beyond the room, and wait until the keeper has accepted them."""
        with service.credit:
            return await self._hand_over(service, messages, size_bytes, on_receipt)

    async def _hand_over(
        self,
        service: Service,
        messages: tuple[Message, ...],
        size_bytes: int,
        on_receipt: Callable[[Receipt], None] | None = None,
    ) -> Receipt:
        """Offer, and wait until the keeper has accepted: with an outbox file what the disk has, else what finds room."""
        receipt = Receipt(len(messages), len(messages), service, self._learn)
        if on_receipt is not None:
            on_receipt(receipt)
        reference = receipt.reference
        await service.offers.send(Offer(messages, reference, size_bytes, asks=True))
        if service.durable:
            receipt.share(service.offers.answered)
        try:
            await receipt.accepted()
        except anyio.get_cancelled_exc_class():
            if not service.ended:
                with anyio.CancelScope(shield=True):
                    await service.send(service.to_queue_keeper, Withdraw(reference))
            raise
        return receipt

    def _has_kept_others_waiting(self) -> bool:
        """Whether it is time to let other tasks run: after 128 offers, or when a look at the clock shows a millisecond.

        The clock costs as much as half an offer, so this is asked with every eighth.
        """
        if self._unyielded >= OFFERS_WITHOUT_YIELDING:
            return True
        return anyio.current_time() - self._yielded_at >= LONGEST_WITHOUT_YIELDING_S

    async def _let_others_run(self) -> None:
        self._unyielded = 0
        await checkpoint()
        self._yielded_at = anyio.current_time()

    def _learn(self, ledger: Ledger) -> None:
        if ledger.revision > self._snapshot.ledger.revision:
            self._snapshot = self._snapshot._replace(ledger=ledger)

    def _refresh(self) -> None:
        service = self._service
        if service is not None and (snapshot := service.snapshots.latest()) is not None:
            connection, ledger, inbound = snapshot
            self._snapshot = newest(self._snapshot, connection=connection, ledger=ledger, inbound=inbound)


@asynccontextmanager
async def open_mqtt(
    target: str | Sequence[str] | Config = "mqtt://localhost",
    *,
    subscriptions: Iterable[str | SubscribeFilter] = (),
    ports: Ports | None = None,
    **settings: Any,
) -> AsyncIterator[MQTTInterface]:
    """A hawk for the length of a block: connects in the background, delivers what is left on leaving.

    `target` is a URL (`mqtt://[user:password@]host[:port]`, `mqtts://`, `mqtt+unix:///path`), a list of them for
    `endpoints`, or a `Config`; `settings` are `Config`'s and
    `ReconnectionConfig`'s names. Raises `ConfigInvalid`, with every problem at once, before anything starts.
    `subscriptions`: topic filters to subscribe before anything else, each a text or a `SubscribeFilter`; what the broker's
    session has for them waits `return_grace_s` for a `subscribe()` block. Raises `MessageInvalid` for a bad one.
    What the block raises leaves it as it is, and so does an outbox that cannot be opened (`OutboxUnavailable`).
    Cancelling the block stops within `cancel_drain_s` and half a second.
    """
    if isinstance(target, Config):
        if settings:
            raise TypeError(f"settings belong into the Config that was given: {', '.join(settings)}")
        config = target
    else:
        config = Config.from_url(target, **settings)
    raised: BaseException | None = None
    try:
        async with anyio.create_task_group() as nursery:
            try:
                async with MQTTInterface(config, nursery, subscriptions=subscriptions, ports=ports) as mqtt:
                    yield mqtt
            except BaseException as error:
                if _cancels(error):
                    raise
                # The nursery is hawk's own affair: what goes through it comes out in a group.
                raised = error
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if raised is None:
            raise
        raise group.derive((raised, *group.exceptions)) from None
    if raised is not None:
        try:
            raise raised
        finally:
            del raised


def _cancels(error: BaseException) -> bool:
    """Whether there is a cancellation in it, which must reach its scope."""
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(cancelled) is not None
    return isinstance(error, cancelled)


def _ports_of(config: Config) -> Ports:
    """The outside world as it is."""
    wall_clock = SystemWallClock()
    if config.outbox is None:
        return Ports(NetworkDialer(config), None, wall_clock, Random())
    from hawk.stores.sqlite import SQLiteStore  # not every Python has SQLite
    from hawk.stores.sqlite_inbox import SQLiteInboxStore

    store = SQLiteStore(config.outbox, durability=config.durability, wall_clock=wall_clock)
    inbox_store = SQLiteInboxStore(config.outbox, durability=config.durability)
    return Ports(NetworkDialer(config), store, wall_clock, Random(), inbox_store=inbox_store)


def _check_workers(workers: object) -> None:
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise MessageInvalid(f"workers must be a whole number of at least 1, not {workers!r}")
