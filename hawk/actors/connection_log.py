"""What the Connector says in the log, and how loud; and what a failure means, by hawk's tables or the application's policy.

Once per episode: the first refusal in a row is as loud as its row says, those that follow are warnings.
"""

import logging

from hawk.actors.refusal_policy import FencedPolicy
from hawk.config import Config
from hawk.core.refusals import Refusal, judge
from hawk.eventlog import log_event
from hawk.messages import ConnectionReport
from hawk.values import Cause, CauseKind, ConnectionState, Judgement, Verdict

logger = logging.getLogger("hawk.connector")

_CHECK_THE_ADDRESS = "check `broker` and `port`, the network between, and that an MQTT 5 broker runs there"


class ConnectionLog:
    """The log records of one Connector. `hawk` tells two hawks of one process apart."""

    def __init__(self, config: Config, *, hawk: str) -> None:
        self._config = config
        self._hawk = hawk
        self._was_loud = False
        self._policy = FencedPolicy(config.refusal_policy, logger.name)
        self._judged: Refusal | None = None

    def begin_episode(self) -> None:
        """Whatever fails next is the first of its kind."""
        self._was_loud, self._judged = False, None
        self._policy.begin_episode()

    def connected(self, report: ConnectionReport, *, broker: str, link: int, session_present: bool) -> None:
        """A link is up."""
        self.begin_episode()
        event = "reconnected" if report.total_reconnections else "connected"
        log_event(logger, logging.INFO, event, broker=broker, link=link, session_present=session_present)

    def attempt_failed(self, cause: Cause, attempt: int) -> Verdict:
        """A dial failed: say so, and return what that means for the next one."""
        refusal = self._judged = self._judge(cause)
        level = logging.WARNING if refusal is None or self._was_loud else int(refusal.level)
        # One that was not loud does not begin an episode.
        self._was_loud = self._was_loud or level >= logging.ERROR
        log_event(logger, level, "connection attempt failed", attempt=attempt, **_told(cause, refusal))
        return Verdict.AGAIN if refusal is None else refusal.verdict

    def link_ended(self, cause: Cause, link: int) -> Verdict:
        """A link ended: say so, and return what that means for the next dial."""
        refusal = self._judged = self._judge(cause)
        if cause.kind is CauseKind.CLOSED:
            log_event(logger, logging.INFO, "disconnected", link=link, why=cause.text)
        else:
            log_event(logger, logging.WARNING, "connection lost", link=link, **_told(cause, refusal))
        return Verdict.AGAIN if refusal is None else refusal.verdict

    def moved(self, before: ConnectionState, after: ConnectionState) -> None:
        """The public state changed."""
        log_event(logger, logging.DEBUG, "connection state", before=before, after=after, hawk=self._hawk)

    def gave_up(self, cause: Cause | None, *, broker: str, client_identifier: str, attempts: int) -> None:
        """The connection is FAILED."""
        remedy = _CHECK_THE_ADDRESS if self._judged is None else self._judged.remedy
        log_event(
            logger,
            logging.ERROR,
            "connection failed",
            broker=broker,
            client_identifier=client_identifier,
            attempts=attempts,
            cause=cause,
            remedy=f"{remedy}; nothing is dialled any more until connect() is called",
        )

    def lane_broken(self, link: int) -> None:
        """A ping found no link any more."""
        log_event(logger, logging.DEBUG, "lane broken", lane=link)

    def _judge(self, cause: Cause) -> Refusal | None:
        refusal = judge(cause, on_auth_failure=self._config.on_auth_failure)
        if refusal is None or cause.reason_code is None:
            return refusal
        packet = "CONNACK" if cause.kind is CauseKind.REFUSED else "DISCONNECT"
        judgement = Judgement(packet, cause.reason_code, refusal.name, refusal.verdict)
        return refusal._replace(verdict=self._policy(judgement))


def _told(cause: Cause, refusal: Refusal | None) -> dict[str, object]:
    fields: dict[str, object] = {"cause": cause}
    if refusal is not None:
        fields["remedy"] = refusal.remedy
    if cause.server_reference is not None:
        fields["server_reference"] = cause.server_reference
    return fields
