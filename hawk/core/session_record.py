"""What hawk knows of its session at the broker: which identifier to dial with, and whether to ask for a clean start. Pure.

Clean Start is asked for whenever hawk has no record of the session that a broker may still have: packet identifiers that
are used again in a session that hawk does not know make a broker swallow a new QoS 2 message as a repeat.
"""

from typing import NamedTuple

from hawk.connecting import Endpoint
from hawk.packets import Connack, ConnectRequest


class SessionRecord(NamedTuple):
    """The session of the last link, if there was one.

    `endpoint`: the URL of where that link led, "" if nobody knows. `assigned`: the broker chose the identifier, and later
    dials use it (MQTT 5 section 3.2.2.3.7). `shared`: nothing has shown yet that the endpoints do not share their sessions.
    """

    client_identifier: str | None = None
    endpoint: str = ""
    assigned: bool = False
    shared: bool = True

    def identifier_for(self, wanted: str) -> str:
        """The client identifier of the next CONNECT; `wanted` "" lets the broker assign one, once."""
        if not wanted and self.assigned and self.client_identifier is not None:
            return self.client_identifier
        return wanted

    def wants_clean_start(self, client_identifier: str, endpoint: Endpoint) -> bool:
        """Whether the next CONNECT, with that identifier and to there, begins a new session."""
        if self.client_identifier is None or client_identifier != self.client_identifier:
            return True
        return not self.shared and endpoint.url != self.endpoint

    def adopted(self, request: ConnectRequest, endpoint: Endpoint, connack: Connack) -> "SessionRecord":
        """The record once this link is up."""
        moved = self.endpoint not in ("", endpoint.url)
        # Another endpoint that does not know a session which must still live is no part of one cluster.
        apart = moved and not request.clean_start and not connack.session_present
        # One that was not asked for names nothing: the next CONNECT finds the session under the name of this one.
        assigned = None if request.client_identifier else connack.assigned_client_identifier
        return SessionRecord(
            assigned or request.client_identifier,
            endpoint.url,
            assigned=assigned is not None or (self.assigned and request.client_identifier == self.client_identifier),
            shared=self.shared and not apart,
        )


NO_SESSION = SessionRecord()
