"""The Connector owns the link and the connection state. It alone changes the state, and it alone logs the changes.

Dials (`dial_task`) and links (`link_tasks`) run in child tasks, so that `Close` and `Hangup` are heard at any moment. What
each happening leads to is `core/connection`'s table; this file carries out its effects, in their order.
"""

import math
from typing import assert_never, cast

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hawk.actors.connection_log import ConnectionLog
from hawk.actors.dial_task import Attempt, Dialing
from hawk.actors.first_watch import FirstWatch
from hawk.actors.link_tasks import LinkTasks
from hawk.actors.mailbox import RETRY_REPORT_S, Reporter, open_lane, receive_by
from hawk.actors.waiters import Waiters
from hawk.config import Config
from hawk.core import connection_record as record
from hawk.core.connection import Effect, Happening, State, advance, public_state
from hawk.core.session_record import NO_SESSION, SessionRecord
from hawk.interrupts import uninterrupted
from hawk.messages import (
    AttemptFailed,
    Close,
    ConnectionReport,
    Dial,
    Dialed,
    DialFailed,
    GaveUp,
    Hangup,
    LaneOpened,
    LinkDown,
    LinkUp,
    Lost,
    Open,
    Ping,
    Report,
    Reset,
    StandDown,
    StateChanged,
    ToBackoff,
    ToConnector,
    ToHealthProbe,
    ToQueueKeeper,
    ToSubscriptionKeeper,
    Transmit,
)
from hawk.packets import DisconnectRequest, PingRequest
from hawk.ports import Dialer, Link, WallClock
from hawk.values import Cause, CauseKind, ConnectionState

TRAFFIC_REPORTS_PER_KEEP_ALIVE = 4


class Connector:
    """The shell around the connection's table. `lane_capacity` is wiring's, from the bounds of those who send on it."""

    def __init__(
        self,
        config: Config,
        client_identifier: str,
        *,
        name: str,
        dialer: Dialer,
        wall_clock: WallClock,
        lane_capacity: int,
        inbox: MemoryObjectReceiveStream[ToConnector],
        to_self: MemoryObjectSendStream[ToConnector],
        to_backoff: MemoryObjectSendStream[ToBackoff],
        to_health_probe: MemoryObjectSendStream[ToHealthProbe],
        to_queue_keeper: MemoryObjectSendStream[ToQueueKeeper],
        to_subscription_keeper: MemoryObjectSendStream[ToSubscriptionKeeper],
        reporter: Reporter,
        opening: ConnectionReport = ConnectionReport(),
        session: SessionRecord = NO_SESSION,
    ) -> None:
        self._keep_alive_s = config.health_check_interval
        self._client_identifier = client_identifier
        self._dialing = Dialing(config, dialer, client_identifier)
        self._first_watch = FirstWatch(config, dialer, to_self)
        self._log = ConnectionLog(config, hawk=name)
        self._wall_clock = wall_clock
        self._lane_capacity = lane_capacity
        self._inbox = inbox
        self._to_self = to_self
        self._to_backoff = to_backoff
        self._to_health_probe = to_health_probe
        self._to_queue_keeper = to_queue_keeper
        self._to_subscription_keeper = to_subscription_keeper
        self._reporter = reporter
        self._state = State.FAILED if opening.state is ConnectionState.FAILED else State.DISCONNECTED
        self._report = opening
        self._waiters = Waiters()
        self._request = 0
        self._attempt = 0
        self._dial_scope: anyio.CancelScope | None = None
        self._links = 0
        self._link: LinkTasks | None = None
        self._session = session
        self._endpoint = config.addresses[0]
        self._cause: Cause | None = None
        self._traffic_every_s = math.inf
        self._traffic_at = math.inf

    @property
    def session(self) -> SessionRecord:
        """What is known of the session of the last link."""
        return self._session

    async def run(self) -> None:
        """Serve until cancelled. Cancelling closes the link without a DISCONNECT and leaves no socket behind."""
        try:
            async with anyio.create_task_group() as children:
                while True:
                    retry_at = anyio.current_time() + RETRY_REPORT_S if self._reporter.has_unsent else math.inf
                    message = await receive_by(self._inbox, min(retry_at, self._traffic_at))
                    if message is not None:
                        await self._take(message, children)
                    self._reporter.retry()
                    await self._tell_traffic()
        finally:
            self._abandon()

    def _abandon(self) -> None:
        """When hawk ends without a goodbye: without a Connector nothing is connected, and nobody shall read that it is."""
        before = public_state(self._state)
        if self._link is not None:
            self._link = None
            self._report = record.link_ended(self._report)
        if self._state is not State.FAILED:
            self._state = State.DISCONNECTED
        self._announce(before)

    async def _take(self, message: ToConnector, children: TaskGroup) -> None:
        step = advance(self._state, self._happening(message))
        before, self._state = public_state(self._state), step.state
        for effect in step.effects:
            if effect is Effect.ANSWER_OPENS or effect is Effect.ANSWER_CLOSES:
                # An answer tells of the state that it answers from.
                self._announce(before)
                before = public_state(self._state)
            await self._carry_out(effect, message, children)
        self._announce(before)

    def _happening(self, message: ToConnector) -> Happening:
        match message:
            case Open():
                self._waiters.add_open(message)
                return Happening.OPEN
            case Close():
                self._waiters.add_close(message)
                return Happening.CLOSE
            case Dial():
                return Happening.DIAL if message.request == self._request else Happening.STALE_DIAL
            case GaveUp():
                if message.request != self._request:
                    return Happening.STALE_GAVE_UP
                self._cause = message.cause
                return Happening.GAVE_UP
            case Dialed():
                return Happening.DIALED if message.attempt == self._attempt else Happening.STALE_DIALED
            case DialFailed():
                return Happening.DIAL_FAILED if message.attempt == self._attempt else Happening.STALE_DIAL_FAILED
            case Lost():
                return Happening.LOST if self._is_present(message.lane) else Happening.STALE_LOST
            case Ping():
                return Happening.PING if self._is_present(message.lane) else Happening.STALE_PING
            case Hangup():
                return Happening.HANGUP if self._is_present(message.lane) else Happening.STALE_HANGUP
            case _:
                assert_never(message)

    def _is_present(self, lane: object) -> bool:
        return self._link is not None and self._link.lane is lane

    async def _carry_out(self, effect: Effect, message: ToConnector, children: TaskGroup) -> None:
        match effect:
            case Effect.ASK_TO_DIAL:
                self._request += 1
                await self._to_backoff.send(Reset(self._request, afresh=False))
            case Effect.ASK_TO_DIAL_AFRESH:
                self._report = record.started_afresh(self._report)
                self._cause = None
                self._log.begin_episode()
                self._request += 1
                await self._to_backoff.send(Reset(self._request, afresh=True))
            case Effect.STAND_DOWN:
                self._request += 1
                await self._to_backoff.send(StandDown())
            case Effect.START_DIAL:
                self._attempt += 1
                self._report = record.dial_begun(self._report, self._wall_clock.now())
                self._dial_scope = anyio.CancelScope()
                attempt = Attempt(self._attempt, self._report.consecutive_failures, self._session)
                children.start_soon(uninterrupted(self._dial), attempt, self._dial_scope)
            case Effect.CANCEL_DIAL:
                self._attempt += 1
                if self._dial_scope is not None:
                    self._dial_scope.cancel()
            case Effect.REPORT_FAILURE:
                await self._report_failure(cast(DialFailed, message))
            case Effect.ADOPT_LINK:
                await self._adopt(cast(Dialed, message), children)
            case Effect.DISCARD_LINK:
                children.start_soon(cast(Link, cast(Dialed, message).link).aclose)
            case Effect.SEND_PING:
                self._send_ping(self._present_link)
            case Effect.HANG_UP:
                self._hang_up(self._present_link, cast(Hangup, message))
            case Effect.SAY_GOODBYE:
                self._first_watch.end()
                forget = self._waiters.forget_session
                self._present_link.say_goodbye(DisconnectRequest(session_expiry_s=0 if forget else None))
            case Effect.ANNOUNCE_DOWN:
                await self._announce_down(cast(Lost, message).cause)
            case Effect.ANSWER_OPENS:
                self._waiters.answer_opens(self._report, self._cause if self._state is State.FAILED else None)
            case Effect.ANSWER_CLOSES:
                self._waiters.answer_closes(self._report)
            case Effect.CANNOT_HAPPEN:
                raise AssertionError("advance() raises for this one")
            case _:
                assert_never(effect)

    @property
    def _present_link(self) -> LinkTasks:
        assert self._link is not None
        return self._link

    # ------------------------------------------------------------------------------------------- dials

    async def _dial(self, attempt: Attempt, scope: anyio.CancelScope) -> None:
        """One attempt. Cancelled, it says nothing."""
        with scope:
            # Without a checkpoint after the dial, so that a link is never forgotten between two tasks.
            self._to_self.send_nowait(await self._dialing.dial(attempt))

    async def _report_failure(self, failed: DialFailed) -> None:
        self._cause = failed.cause
        self._endpoint = failed.endpoint or self._endpoint
        self._report = record.dial_failed(self._report)
        failures = self._report.consecutive_failures
        verdict = self._log.attempt_failed(failed.cause, failures)
        await self._to_backoff.send(AttemptFailed(failed.cause, verdict, failures))

    # ------------------------------------------------------------------------------------------- links

    async def _adopt(self, dialed: Dialed, children: TaskGroup) -> None:
        link, request = cast(Link, dialed.link), dialed.request
        connack = link.connack
        self._links += 1
        self._cause, self._endpoint = None, request.endpoint or self._endpoint
        self._session = self._session.adopted(request, self._endpoint, connack)
        lane, outgoing = open_lane(self._links, self._lane_capacity)
        self._link = LinkTasks(
            link,
            lane,
            outgoing,
            to_connector=self._to_self,
            to_queue_keeper=self._to_queue_keeper,
            to_subscription_keeper=self._to_subscription_keeper,
        )
        self._report = record.link_adopted(self._report)
        keep_alive_s = float(connack.server_keep_alive_s or self._keep_alive_s)
        self._traffic_every_s = keep_alive_s / TRAFFIC_REPORTS_PER_KEEP_ALIVE
        self._traffic_at = anyio.current_time() + self._traffic_every_s
        self._log.connected(
            self._report, broker=str(self._endpoint), link=lane.number, session_present=connack.session_present
        )
        session = self._session
        await self._to_queue_keeper.send(
            LaneOpened(lane, connack, dialed.birth, endpoint=session.endpoint, shared=session.shared)
        )
        await self._to_subscription_keeper.send(LaneOpened(lane, connack))
        await self._to_backoff.send(LinkUp(lane, keep_alive_s))
        await self._to_health_probe.send(LinkUp(lane, keep_alive_s))
        # Last, so that no keeper hears of what arrives on a lane before it has heard of the lane.
        children.start_soon(uninterrupted(self._link.run))
        self._first_watch.begin(children, lane, dialed.first)

    def _hang_up(self, link: LinkTasks, hangup: Hangup) -> None:
        if hangup.politely:
            link.say_goodbye(DisconnectRequest(), why=hangup.why)
        else:
            link.hang_up(hangup.why)

    async def _announce_down(self, cause: Cause) -> None:
        link = self._present_link
        self._link, self._traffic_at = None, math.inf
        self._first_watch.end()
        self._report = record.link_ended(self._report)
        if cause.kind is not CauseKind.CLOSED:
            self._cause = cause
        verdict = self._log.link_ended(cause, link.lane.number)
        down = LinkDown(link.lane, cause, verdict, link.proven)
        await self._to_queue_keeper.send(down)
        await self._to_subscription_keeper.send(down)
        await self._to_health_probe.send(down)
        await self._to_backoff.send(down)

    def _send_ping(self, link: LinkTasks) -> None:
        try:
            link.lane.send_nowait(Transmit((PingRequest(),)))
        except anyio.BrokenResourceError:
            self._log.lane_broken(link.lane.number)

    async def _tell_traffic(self) -> None:
        now = anyio.current_time()
        if self._link is not None and now >= self._traffic_at:
            self._traffic_at = now + self._traffic_every_s
            await self._to_health_probe.send(self._link.traffic)

    # ---------------------------------------------------------------------------------- what others see

    def _announce(self, before: ConnectionState) -> None:
        """Report where the connection stands; a change of the public state is one event, and one record in the log."""
        after = public_state(self._state)
        events: tuple[StateChanged, ...] = ()
        if after is not before:
            self._report = record.moved(self._report, after)
            events = (StateChanged(before, after, self._cause),)
            self._log.moved(before, after)
            if after is ConnectionState.FAILED:
                self._log.gave_up(
                    self._cause,
                    broker=str(self._endpoint),
                    client_identifier=self._client_identifier or self._session.client_identifier or "",
                    attempts=self._report.consecutive_failures,
                )
        self._reporter.report(Report(self._report, events))
