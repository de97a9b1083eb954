"""From what an application passes to `publish()` to a `Message` that a PUBLISH can carry, or to a `MessageInvalid`."""

from collections.abc import Iterable

from hawk.config import Config
from hawk.core.properties import with_properties
from hawk.core.topics import validate_topic
from hawk.errors import MessageInvalid
from hawk.payload import Payload, encode_payload
from hawk.values import NO_PROPERTIES, Message, Properties


class Composer:
    """Composes one hawk's messages, with the configuration's `qos` and `message_expiry_s` where nothing else is said."""

    def __init__(self, config: Config) -> None:
        self.unencodable = 0
        """How many calls could not be composed."""
        self._qos = config.qos
        self._valid_topic = "valid"
        """One that is known to be: an application mostly names the same again."""
        expires = config.message_expiry_s is not None
        self._properties = Properties(expiry_s=config.message_expiry_s) if expires else NO_PROPERTIES

    def message(
        self,
        topic: str,
        payload: Payload,
        qos: int | None,
        retain: bool,
        properties: Properties,
        expiry_s: float | None,
    ) -> Message:
        """One message. Raises `MessageInvalid`."""
        try:
            if topic is not self._valid_topic:
                self._valid_topic = validate_topic(topic)
            message = Message(
                topic,
                payload if type(payload) is bytes else encode_payload(topic, payload),
                self._qos if qos is None else self.valid_qos(qos),
                retain is not False and _valid_retain(retain),
            )
            if expiry_s is not None or properties is not self._properties:
                properties = self._with_expiry(properties, expiry_s)
            return message if properties is NO_PROPERTIES else with_properties(message, properties)
        except MessageInvalid:
            self.unencodable += 1
            raise

    def messages(
        self,
        messages: Iterable[tuple[str, Payload]],
        qos: int | None,
        retain: bool,
        properties: Properties,
        expiry_s: float | None,
    ) -> tuple[Message, ...]:
        """What `message` does for each, with what is the same for all looked at once. Raises `MessageInvalid`."""
        try:
            qos, retain, properties = (
                self.valid_qos(qos),
                _valid_retain(retain),
                self._with_expiry(properties, expiry_s),
            )
            batch = list[Message]()
            new_message = tuple.__new__  # at half the price of Message()
            for topic, payload in messages:
                if topic is not self._valid_topic:
                    self._valid_topic = validate_topic(topic)
                encoded = payload if type(payload) is bytes else encode_payload(topic, payload)
                batch.append(new_message(Message, (topic, encoded, qos, retain, NO_PROPERTIES)))
            if properties is NO_PROPERTIES:
                return tuple(batch)
            return tuple([with_properties(message, properties) for message in batch])
        except MessageInvalid:
            self.unencodable += 1
            raise

    def valid_qos(self, qos: object) -> int:
        """`qos`, or the configuration's for None. Raises `MessageInvalid`."""
        if qos is None:
            return self._qos
        if not isinstance(qos, int) or isinstance(qos, bool) or qos not in (0, 1, 2):
            raise MessageInvalid(f"qos must be 0, 1 or 2, not {qos!r}")
        return int(qos)

    def _with_expiry(self, properties: Properties, expiry_s: float | None) -> Properties:
        """`properties` with the expiry that counts."""
        default = self._properties
        if expiry_s is None:
            if properties is NO_PROPERTIES:
                return default
            if default is NO_PROPERTIES:
                return properties
        given: object = properties
        if not isinstance(given, Properties):
            return properties  # what is wrong with it is said where the message is made
        if expiry_s is None:
            expiry_s = default.expiry_s if given.expiry_s is None else given.expiry_s
        return given._replace(expiry_s=expiry_s)


def _valid_retain(retain: object) -> bool:
    # The codec takes nothing but a bool, and what it cannot encode would end the link's writer.
    if isinstance(retain, bool):
        return retain
    raise MessageInvalid(f"retain must be True or False, not {retain!r}")
