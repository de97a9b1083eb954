"""What a broker answers on one connection, packet by packet (MQTT 5 chapter 3). No I/O, no waiting.

`hear` takes what one read brought, `take_bytes` gives what one write should carry.
"""

from typing import Final

import mqtt5
from mqtt5 import (
    ConnectPacket,
    DisconnectPacket,
    PingReqPacket,
    PubAckPacket,
    PubCompPacket,
    PublishPacket,
    PubRecPacket,
    PubRelPacket,
    SubscribePacket,
    UnsubscribePacket,
)

from hawk.testing.broker import codec
from hawk.testing.broker.admission import connack_of, refusal_of, will_of
from hawk.testing.broker.behaviour import Behaviour, Limits
from hawk.testing.broker.codec import PROTOCOL_ERROR, PUBREL, Refusal
from hawk.testing.broker.intake import FIRST_FAILURE, PACKET_IDENTIFIER_NOT_FOUND, Intake
from hawk.testing.broker.model import Attachment, BrokerModel
from hawk.testing.broker.record import Direction, Recorder
from hawk.testing.broker.session import Outlet, Session

SUBACK_BYTE: Final = 0x90
UNSUBACK_BYTE: Final = 0xB0


class Conversation:
    """See the module. `outlet` must be set before the first packet is heard."""

    outlet: Outlet

    def __init__(
        self, model: BrokerModel, limits: Limits, behaviour: Behaviour, recorder: Recorder | None, *, number: int
    ) -> None:
        self.limits = limits
        self.behaviour = behaviour
        self.keep_alive_s = 0
        self.is_over = False
        self._model = model
        self._recorder = recorder
        self._number = number
        self._session: Session | None = None
        self._connect_expiry_s = 0
        self._out: list[bytes] = []
        self._intake = Intake(model, limits, behaviour, recorder, self._out)

    @property
    def is_open(self) -> bool:
        """Whether a CONNECT was accepted, so that a DISCONNECT may be said."""
        return self._session is not None

    @property
    def unwritten_bytes(self) -> int:
        """What waits for `take_bytes`, without what waits in the session."""
        return sum(map(len, self._out))

    def hear(self, packets: list[mqtt5.Packet], now: float) -> None:
        """Do what `packets` ask. Raises `Refusal`; what came before the offending packet is done."""
        if self._recorder is not None:
            self._recorder.at = now
        on_publish = self._intake.on_publish
        for packet in packets:
            if self.is_over:
                return
            session = self._session
            if session is None:
                self._on_connect(packet, now)
            elif isinstance(packet, PublishPacket):
                on_publish(session, packet, now)
            else:
                self._on_other(session, packet, now)

    def take_bytes(self, now: float, most_bytes: float) -> bytes:
        """What to write next, in one piece: all answers, and about `most_bytes` of the session's messages."""
        out = self._out
        session = self._session
        # Taken over: the session's messages belong to the newer connection.
        if session is not None and session.outlet is self.outlet:
            if self._recorder is not None:
                self._recorder.at = now
            session.write_into(out, now, most_bytes, self._recorder)
        if not out:
            return b""
        data = b"".join(out)
        out.clear()
        self._intake.answers_written()
        return data

    def leave(self, now: float) -> Session | None:
        """The connection is over: let go of the session, and return it if it was still ours. Idempotent."""
        session, self._session = self._session, None
        if session is None or session.outlet is not self.outlet:
            return None
        self._model.detach(session, now)
        return session

    def note_disconnect(self, reason_code: int, now: float) -> None:
        """The connection is about to write a DISCONNECT."""
        if self._recorder is not None:
            self._recorder.at = now
            self._recorder.packet("out", "DISCONNECT", reason_code=reason_code)

    def _on_connect(self, packet: mqtt5.Packet, now: float) -> None:
        if not isinstance(packet, ConnectPacket):
            raise Refusal(PROTOCOL_ERROR)
        identifier = packet.client_id or f"assigned-{self._number}"
        if self._recorder is not None:
            self._recorder.client_identifier = identifier
            self._recorder.packet("in", "CONNECT", clean_start=packet.clean_start)
        limits = self.limits
        if self.behaviour.refusal:
            self.behaviour.bites["refusal"] += 1
        refusal = self.behaviour.refusal or refusal_of(packet, limits)
        if refusal:
            self.is_over = True
            self._out.append(codec.write_refusal(refusal))
            if self._recorder is not None:
                self._recorder.packet("out", "CONNACK", reason_code=refusal)
            return
        self.keep_alive_s = packet.keep_alive if limits.server_keep_alive_s is None else limits.server_keep_alive_s
        self._connect_expiry_s = packet.session_expiry_interval
        attachment = Attachment(
            client_identifier=identifier,
            clean_start=packet.clean_start,
            expiry_s=packet.session_expiry_interval,
            receive_maximum=packet.receive_max,
            maximum_packet_bytes=packet.max_packet_size,
            will=will_of(packet, identifier),
        )
        self._session, present = self._model.attach(attachment, self.outlet, now)
        assigned = None if packet.client_id else identifier
        self._out.append(connack_of(limits, session_present=present, assigned_client_identifier=assigned))
        if self._recorder is not None:
            self._recorder.packet("out", "CONNACK", session_present=present)

    def _on_other(self, session: Session, packet: mqtt5.Packet, now: float) -> None:
        match packet:
            case PubAckPacket(packet_id=identifier):
                self._note_acknowledgement("in", "PUBACK", identifier, int(packet.reason_code))
                session.on_puback(identifier)
            case PubRecPacket():
                self._on_pubrec(session, packet.packet_id, int(packet.reason_code))
            case PubRelPacket(packet_id=identifier):
                self._note_acknowledgement("in", "PUBREL", identifier, int(packet.reason_code))
                self._intake.on_pubrel(session, identifier)
            case PubCompPacket(packet_id=identifier):
                self._note_acknowledgement("in", "PUBCOMP", identifier, int(packet.reason_code))
                session.on_pubcomp(identifier)
            case SubscribePacket():
                self._on_subscribe(session, packet, now)
            case UnsubscribePacket():
                self._on_unsubscribe(session, packet)
            case PingReqPacket():
                self._on_ping()
            case DisconnectPacket():
                self._on_disconnect(session, packet)
            case _:
                raise Refusal(PROTOCOL_ERROR)

    def _on_pubrec(self, session: Session, identifier: int, reason_code: int) -> None:
        self._note_acknowledgement("in", "PUBREC", identifier, reason_code)
        known = session.on_pubrec(identifier, reason_code)
        if known and reason_code >= FIRST_FAILURE:
            return
        answer = 0 if known else PACKET_IDENTIFIER_NOT_FOUND
        self._out.append(codec.write_acknowledgement(PUBREL, identifier, answer))
        self._note_acknowledgement("out", "PUBREL", identifier, answer)

    def _on_subscribe(self, session: Session, packet: SubscribePacket, now: float) -> None:
        filters, identifier = packet.topic_filters, packet.packet_id
        if self._recorder is not None:
            self._recorder.packet("in", "SUBSCRIBE", identifier, filters=tuple(each.pattern for each in filters))
        if not identifier or not filters:
            raise Refusal(PROTOCOL_ERROR)
        if any(each.no_local and each.pattern.startswith("$share/") for each in filters):
            raise Refusal(PROTOCOL_ERROR)
        reason_codes, subscribed = self._model.subscribe(session, filters, packet.subscription_id)
        self._answer_filters(SUBACK_BYTE, "SUBACK", identifier, reason_codes)
        self._model.send_retained(session, subscribed, now)

    def _on_unsubscribe(self, session: Session, packet: UnsubscribePacket) -> None:
        filters, identifier = packet.patterns, packet.packet_id
        if self._recorder is not None:
            self._recorder.packet("in", "UNSUBSCRIBE", identifier, filters=tuple(filters))
        if not identifier or not filters:
            raise Refusal(PROTOCOL_ERROR)
        self._answer_filters(UNSUBACK_BYTE, "UNSUBACK", identifier, self._model.unsubscribe(session, filters))

    def _on_ping(self) -> None:
        if self._recorder is not None:
            self._recorder.packet("in", "PINGREQ")
        if not self.behaviour.answers_pings:
            self.behaviour.bites["no_pingresp"] += 1
        else:
            self._out.append(codec.PINGRESP_BYTES)
            if self._recorder is not None:
                self._recorder.packet("out", "PINGRESP")

    def _on_disconnect(self, session: Session, packet: DisconnectPacket) -> None:
        reason_code = int(packet.reason_code)
        if self._recorder is not None:
            self._recorder.packet("in", "DISCONNECT", reason_code=reason_code)
        expiry_s = packet.session_expiry_interval
        if expiry_s is not None:
            if expiry_s and not self._connect_expiry_s:
                raise Refusal(PROTOCOL_ERROR)
            session.expiry_s = expiry_s
        if not reason_code:
            session.will = None
        self.is_over = True

    def _answer_filters(self, first_byte: int, name: str, identifier: int, reason_codes: list[int]) -> None:
        self._out.append(codec.write_suback(first_byte, identifier, reason_codes))
        if self._recorder is not None:
            self._recorder.packet("out", name, identifier, reason_code=max(reason_codes))

    def _note_acknowledgement(self, direction: Direction, name: str, identifier: int, reason_code: int) -> None:
        if self._recorder is not None:
            self._recorder.acknowledgement(direction, name, identifier, reason_code)
