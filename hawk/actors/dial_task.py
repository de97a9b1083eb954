"""One dial: ask the application what it wants to be asked, make the link, say how it went; all under one deadline.

Not an actor: a child of the Connector, which hears `Dialed` or `DialFailed`.
"""

from typing import NamedTuple, cast

import anyio

from hawk.asking import ask, ask_for, ask_for_credentials
from hawk.config import Config
from hawk.connecting import Endpoint, Will, parse_endpoints
from hawk.core.failover import choose
from hawk.core.session_record import SessionRecord
from hawk.errors import ConnectRefused, Unprepared, Unreachable, Untrusted
from hawk.messages import Dialed, DialFailed
from hawk.packets import Connack, ConnectRequest
from hawk.ports import Dialer
from hawk.values import Cause, CauseKind, Message


class Attempt(NamedTuple):
    """What one dial depends on. `failures`: dials in a row before it that did not reach CONNECTED."""

    number: int
    failures: int
    session: SessionRecord


class Dialing:
    """Makes the links of one hawk. `client_identifier` is used unless the configuration asks for it at each dial."""

    def __init__(self, config: Config, dialer: Dialer, client_identifier: str) -> None:
        self._config = config
        self._dialer = dialer
        self._client_identifier = client_identifier
        self._waits_for = ""
        self._asks = True

    async def dial(self, attempt: Attempt) -> Dialed | DialFailed:
        """Make one attempt, within `connection_timeout` for questions, name lookup, connection and CONNACK together.

        Nothing but cancellation is raised, and none is after the link is made: no link is forgotten between two tasks.
        """
        timeout_s = self._config.reconnection.connection_timeout
        endpoint: Endpoint | None = None
        try:
            with anyio.fail_after(timeout_s):
                endpoints = await self._endpoints()
                endpoint = choose(endpoints, attempt.failures)
                request, birth = await self._request(endpoint, attempt.session)
                self._asks, self._waits_for = False, f"no CONNACK from {endpoint}"
                link = await self._dialer.dial(request)
                first = None if endpoint == endpoints[0] else endpoints[0]
                return Dialed(attempt.number, link, request, first, birth)
        except TimeoutError:
            kind = CauseKind.UNPREPARED if self._asks else CauseKind.UNREACHABLE
            cause = Cause(kind, f"{self._waits_for} within {timeout_s:g} s")
        except Unprepared as unprepared:
            cause = Cause(CauseKind.UNPREPARED, str(unprepared))
        except Untrusted as untrusted:
            cause = Cause(CauseKind.UNTRUSTED, str(untrusted))
        except Unreachable as unreachable:
            cause = Cause(CauseKind.UNREACHABLE, str(unreachable))
        except ConnectRefused as refused:
            connack = cast(Connack, refused.connack)
            cause = Cause(CauseKind.REFUSED, connack.reason, connack.reason_code, connack.server_reference)
        return DialFailed(attempt.number, cause, endpoint)

    async def _endpoints(self) -> tuple[Endpoint, ...]:
        endpoints = self._config.endpoints
        if not callable(endpoints):
            return self._config.addresses
        self._now_asks("endpoints")
        answer = await ask("endpoints", endpoints)
        try:
            return parse_endpoints(answer)
        except (ValueError, TypeError, AttributeError):
            raise Unprepared("`endpoints` must return the URL of a broker, or a tuple of them") from None

    async def _request(self, endpoint: Endpoint, session: SessionRecord) -> tuple[ConnectRequest, Message | None]:
        config = self._config
        wanted = self._client_identifier
        if callable(config.client_id):
            self._now_asks("client_id")
            wanted = await ask_for("client_id", config.client_id, str)
        client_identifier = session.identifier_for(wanted)
        self._now_asks("credentials")
        credentials = await ask_for_credentials(config)
        self._now_asks("authentication")
        authenticator = None if config.authentication is None else await ask("authentication", config.authentication)
        self._now_asks("will")
        will = await ask("will", config.will)
        if not isinstance(will, Will | None):
            raise Unprepared(f"`will` must return a Will or None, and returned {type(will).__name__}")
        self._now_asks("birth")
        birth = await ask("birth", config.birth)
        if not isinstance(birth, Message | None):
            raise Unprepared(f"`birth` must return a Message or None, and returned {type(birth).__name__}")
        clean_start = session.wants_clean_start(client_identifier, endpoint)
        request = ConnectRequest(client_identifier, clean_start, endpoint, credentials, will, authenticator)
        return request, birth

    def _now_asks(self, name: str) -> None:
        self._asks, self._waits_for = True, f"`{name}` did not answer"
