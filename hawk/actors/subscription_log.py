"""What the Subscription keeper logs, each event once in its episode, with a remedy. Never a payload (promise C10)."""

import logging
import math
from collections.abc import Iterable

from hawk.config import Config
from hawk.core.acknowledgements import BLOCKED_TOO_LONG_S, FULL_TOO_LONG_S
from hawk.core.answers import answer_of
from hawk.core.deliveries import MOST_UNACKNOWLEDGED, MOST_UNACKNOWLEDGED_BYTES
from hawk.core.holders import Decisions, Overrun
from hawk.eventlog import log_event

QUIET_AFTER_REJECTION_S = 60.0
"""After a WARNING about a rejected message: for so long others are only counted."""

_REMEDY = "raise receive_maximum, or upgrade the broker to a release that keeps to it"

logger = logging.getLogger("hawk.subscription_keeper")


class SubscriptionLog:
    """The records of one Subscription keeper."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._rejections_told_at = -math.inf

    def tell(self, decisions: Decisions, slots: Iterable[tuple[str, int]], now: float) -> None:
        """Log what `decisions` say. `slots` are those that are held, by filter."""
        self._tell_of_filters(decisions)
        self._tell_of_the_broker(decisions)
        self._tell_of_the_application(decisions, slots, now)

    def inbox_unavailable(self, why: str) -> None:
        """What receiving must remember cannot be written."""
        log_event(
            logger,
            logging.ERROR,
            "inbox unavailable",
            why=why,
            effect="messages of QoS 2 are neither delivered nor acknowledged until it can be written again",
        )

    def _tell_of_filters(self, decisions: Decisions) -> None:
        for topic_filter, code in decisions.refused:
            name, _, remedy = answer_of("SUBACK", code)
            log_event(
                logger,
                logging.WARNING,
                "subscription refused",
                filter=topic_filter,
                reason=name,
                reason_code=f"0x{code:02x}",
                remedy=remedy,
            )
        for topic_filter, code in decisions.still_subscribed:
            reason = answer_of("UNSUBACK", code).name
            code_text = f"0x{code:02x}"
            log_event(
                logger, logging.INFO, "still subscribed", filter=topic_filter, reason=reason, reason_code=code_text
            )
        for topic_filter in decisions.overflowing:
            log_event(
                logger,
                logging.WARNING,
                "subscription overflows",
                filter=topic_filter,
                qos=0,
                policy=self._config.receive_overflow,
                remedy="handle faster, subscribe at QoS 1, or raise receive_queue_size and receive_queue_bytes",
            )

    def _tell_of_the_broker(self, decisions: Decisions) -> None:
        for link in decisions.receive_maximum_exceeded:
            log_event(
                logger,
                logging.WARNING,
                "receive maximum exceeded",
                link=link,
                receive_maximum=self._config.receive_maximum,
                why="the broker sends more unacknowledged messages than hawk has announced to take; they are taken",
                remedy=_REMEDY,
            )
        for overrun in decisions.overruns:
            _tell_of_overrun(overrun)

    def _tell_of_the_application(self, decisions: Decisions, slots: Iterable[tuple[str, int]], now: float) -> None:
        if decisions.abandoning:
            log_event(
                logger,
                logging.ERROR,
                "deliveries abandoned",
                deliveries=decisions.abandoned,
                why=f"nobody subscribed for {self._config.return_grace_s:g} s, or handlers failed "
                f"{self._config.max_deliveries} times on each; the broker is told that they are rejected",
            )
        if decisions.blocking is not None:
            topic, key, behind = decisions.blocking
            log_event(
                logger,
                logging.WARNING,
                "delivery blocks others",
                topic=topic,
                delivery_key=key,
                behind=behind,
                why=f"it has not been handled for {BLOCKED_TOO_LONG_S:g} s, and acknowledgements keep the order of arrival",
                remedy="handle, acknowledge or reject it",
            )
        if decisions.is_too_slow:
            log_event(
                logger,
                logging.WARNING,
                "consumer too slow",
                receive_maximum=self._config.receive_maximum,
                held_by=" ".join(f"{each or '(nobody)'}:{count}" for each, count in slots),
                why=f"all slots have been taken for {FULL_TOO_LONG_S:g} s: the broker holds back QoS 1 and 2",
                remedy="handle faster, with more workers perhaps, or raise receive_maximum",
            )
        if decisions.rejected and now >= self._rejections_told_at + QUIET_AFTER_REJECTION_S:
            self._rejections_told_at = now
            topic, reason = decisions.rejected[0]
            log_event(logger, logging.WARNING, "message rejected", topic=topic, reason=reason)


def _tell_of_overrun(overrun: Overrun) -> None:
    if overrun.given_up:
        log_event(
            logger,
            logging.WARNING,
            "receive maximum exceeded too far",
            link=overrun.link,
            messages_beyond=overrun.messages,
            why=f"{MOST_UNACKNOWLEDGED} messages or {MOST_UNACKNOWLEDGED_BYTES} bytes are unacknowledged, and more came",
            remedy=_REMEDY,
        )
    else:
        log_event(
            logger,
            logging.INFO,
            "receive maximum was exceeded",
            link=overrun.link,
            messages_beyond=overrun.messages,
        )
