"""The messages that one client sends (MQTT 5 sections 3.3 and 4.3): limits, topic aliases, acknowledgements. No I/O."""

import math
from typing import Final

from mqtt5 import PublishPacket

from hawk.testing.broker.behaviour import Behaviour, Limits
from hawk.testing.broker.codec import (
    MALFORMED_PACKET,
    PROTOCOL_ERROR,
    PUBACK,
    PUBCOMP,
    PUBREC,
    Refusal,
    write_acknowledgement,
)
from hawk.testing.broker.model import BrokerModel
from hawk.testing.broker.record import Recorder
from hawk.testing.broker.session import Session

TOPIC_NAME_INVALID: Final = 0x90
PACKET_IDENTIFIER_NOT_FOUND: Final = 0x92
RECEIVE_MAXIMUM_EXCEEDED: Final = 0x93
TOPIC_ALIAS_INVALID: Final = 0x94
RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B
FIRST_FAILURE: Final = 0x80


class Intake:
    """Takes PUBLISH and PUBREL of one connection, and appends the answers to `out`.

    A PUBLISH counts against the Receive Maximum until its last acknowledgement was written (section 4.9), so
    `answers_written` must be called when `out` was.
    """

    def __init__(
        self, model: BrokerModel, limits: Limits, behaviour: Behaviour, recorder: Recorder | None, out: list[bytes]
    ) -> None:
        self._model = model
        self._limits = limits
        self._behaviour = behaviour
        self._recorder = recorder
        self._out = out
        self._aliases: dict[int, str] = {}
        self._unreleased: set[int] = set()
        self._unanswered = 0
        self._answers_in_out = 0

    def answers_written(self) -> None:
        """Everything in `out` is on its way."""
        self._unanswered -= self._answers_in_out
        self._answers_in_out = 0

    def on_publish(self, session: Session, packet: PublishPacket, now: float) -> None:
        """Pass the message on, and acknowledge it. Raises `Refusal`."""
        topic, identifier = packet.topic, packet.packet_id
        qos = 0 if identifier is None else int(packet.qos)
        behaviour = self._behaviour
        answer = 0
        try:
            if not topic or packet.topic_alias is not None:
                topic = self._resolve(packet.topic_alias, topic)
            if behaviour.answers:
                answer = behaviour.answer_for(topic)
            self._check(packet, qos, identifier)
            if answer < FIRST_FAILURE and not (qos == 2 and identifier in session.awaiting_release):
                self._pass_on(session, packet, topic, qos, now)
        except Refusal as refusal:
            answer = refusal.reason_code
            raise
        finally:
            if self._recorder is not None:
                self._recorder.publish(
                    "in", identifier or 0, topic, packet.payload, qos, packet.duplicate, packet.retain, answer
                )
        if identifier is None:
            return
        if qos == 2 and answer < FIRST_FAILURE:
            session.awaiting_release.add(identifier)
        if behaviour.acknowledges:
            self._answer(qos, identifier, answer)
        else:
            behaviour.bites["no_ack"] += 1

    def on_pubrel(self, session: Session, identifier: int) -> None:
        """Let go of a QoS 2 identifier, and say so."""
        known = identifier in session.awaiting_release
        session.awaiting_release.discard(identifier)
        if not self._behaviour.acknowledges:
            self._behaviour.bites["no_ack"] += 1
            return
        self._unreleased.discard(identifier)
        answer = 0 if known else PACKET_IDENTIFIER_NOT_FOUND
        self._out.append(write_acknowledgement(PUBCOMP, identifier, answer))
        if self._recorder is not None:
            self._recorder.acknowledgement("out", "PUBCOMP", identifier, answer)

    def _check(self, packet: PublishPacket, qos: int, identifier: int | None) -> None:
        limits = self._limits
        if packet.retain and not limits.retain_available:
            raise Refusal(RETAIN_NOT_SUPPORTED)
        if identifier is None:
            return
        if not identifier:
            raise Refusal(MALFORMED_PACKET)
        if qos > limits.maximum_qos:
            raise Refusal(QOS_NOT_SUPPORTED)
        if qos == 1:
            self._unanswered += 1
        else:
            self._unreleased.add(identifier)
        if self._unanswered + len(self._unreleased) > limits.receive_maximum:
            raise Refusal(RECEIVE_MAXIMUM_EXCEEDED)

    def _pass_on(self, session: Session, packet: PublishPacket, topic: str, qos: int, now: float) -> None:
        expiry_s = packet.message_expiry_interval
        expires_at = math.inf if expiry_s is None else now + expiry_s
        if not self._model.publish(packet, topic, qos, packet.retain, session.client_identifier, expires_at, now):
            raise Refusal(TOPIC_NAME_INVALID)
        if self._behaviour.on_taken is not None:
            self._behaviour.on_taken(session.client_identifier, topic, packet.payload)

    def _answer(self, qos: int, identifier: int, reason_code: int) -> None:
        if qos == 1:
            kind, name = PUBACK, "PUBACK"
            self._answers_in_out += 1
        else:
            kind, name = PUBREC, "PUBREC"
            if reason_code >= FIRST_FAILURE:
                self._unreleased.discard(identifier)
        self._out.append(write_acknowledgement(kind, identifier, reason_code))
        if self._recorder is not None:
            self._recorder.acknowledgement("out", name, identifier, reason_code)

    def _resolve(self, alias: int | None, topic: str) -> str:
        """The topic of a PUBLISH that carries a Topic Alias (section 3.3.2.3.4)."""
        if alias is None:
            raise Refusal(PROTOCOL_ERROR)
        if alias > self._limits.topic_alias_maximum:
            raise Refusal(TOPIC_ALIAS_INVALID)
        if topic:
            self._aliases[alias] = topic
        elif alias not in self._aliases:
            raise Refusal(PROTOCOL_ERROR)
        return self._aliases[alias]
