"""One topic filter that is wanted here: what the broker is to be asked for, and how far it knows of it."""

from dataclasses import dataclass, field
from zlib import crc32

from hawk.core.holders import Holder
from hawk.core.topics import is_shared, validate_filter
from hawk.errors import MessageInvalid
from hawk.packets import SubscribeFilter

UNSPECIFIED = 0x80
"""The first reason code that is a refusal."""

_NEVER = 2
_MOST_FIRST_NAMES = 1 << 28


@dataclass(eq=False, slots=True)
class Wanted:
    """A filter, its holders, and what its last SUBSCRIBE in the broker's present session came to.

    A SUBSCRIBE replaces the one before of the same filter (section 3.8.4), so holders share one: it asks for the highest
    QoS of them; `no_local` only if all want it, `retain_as_published` if one does.
    """

    filter: str
    declared: SubscribeFilter | None = None
    holders: dict[int, Holder] = field(default_factory=dict)
    identifier: int = 0
    """Of the SUBSCRIBE that is not answered yet, or 0."""
    asked: SubscribeFilter | None = None
    code: int | None = None
    granted: bool = False
    given_up: bool = False
    """The broker refused it for good: only somebody who subscribes anew has it asked for once more."""
    name: int = 0

    @property
    def refused(self) -> bool:
        """Whether the broker said no."""
        return self.code is not None and self.code >= UNSPECIFIED

    @property
    def must_be_asked(self) -> bool:
        """Whether the broker has not been asked for what is wanted now.

        A newcomer asks anew, if it wants retained messages: they are sent for a SUBSCRIBE, and never later.
        """
        if self.given_up:
            return False
        if self.asked is None or self.refused:
            return True
        wish, asked = self._wish(), self.asked
        differs = wish[2:4] != asked[2:4] or wish.qos > asked.qos
        return differs or any(not one.asked and not one.wanted.retain_handling for one in self.holders.values())

    @property
    def first_name(self) -> int:
        """The subscription identifier of its first SUBSCRIBE: always the same one for the same filter, for a session may
        bring messages that it queued for an earlier process.
        """
        return 1 + crc32(self.filter.encode()) % (_MOST_FIRST_NAMES - (1 << 20))

    def ask(self, identifier: int, name: int) -> SubscribeFilter:
        """A SUBSCRIBE goes out under this packet identifier, with this subscription identifier: what it asks for."""
        self.identifier, self.name, self.code = identifier, name, None
        self.asked = self._wish()
        for holder in self.holders.values():
            holder.takes_retained = self.asked.retain_as_published
            if not holder.asked:
                holder.asked, holder.asked_by = True, name
        return self.asked

    def conclude(self, code: int) -> None:
        """The broker has answered."""
        self.identifier, self.code = 0, code
        self.granted = self.granted or not self.refused
        for holder in self.holders.values():
            holder.refused = self.refused
            holder.asked = holder.asked and not self.refused

    def forget(self) -> None:
        """The session is new."""
        self.identifier, self.asked, self.code, self.granted, self.name = 0, None, None, False, 0
        for holder in self.holders.values():
            holder.asked, holder.asked_by = False, 0

    def forget_unanswered(self) -> None:
        """The session lives on, the link does not: what it did not answer or refused is to be asked again."""
        if self.identifier or self.code is None or self.refused:
            for holder in self.holders.values():
                if holder.asked_by == self.name:
                    holder.asked = False
            self.identifier, self.asked, self.code = 0, None, None

    def _wish(self) -> SubscribeFilter:
        wanted = [holder.wanted for holder in self.holders.values()]
        # Retained messages are for those who have not been asked for. Without a holder nobody is there to read them:
        # who comes asks for them.
        retained = min((one.wanted.retain_handling for one in self.holders.values() if not one.asked), default=_NEVER)
        if self.declared is not None:
            wanted.append(self.declared)
        return SubscribeFilter(
            self.filter,
            max(each.qos for each in wanted),
            all(each.no_local for each in wanted),
            any(each.retain_as_published for each in wanted),
            retained,
        )


def valid_wanted(wanted: SubscribeFilter) -> SubscribeFilter:
    """`wanted`, if a SUBSCRIBE can carry it. Raises `MessageInvalid`."""
    topic_filter, qos, no_local, retain_as_published, retain_handling = wanted
    validate_filter(topic_filter)
    if type(qos) is not int or qos not in (0, 1, 2):
        raise MessageInvalid(f"qos must be 0, 1 or 2, not {qos!r}")
    for name, value in (("no_local", no_local), ("retain_as_published", retain_as_published)):
        if not isinstance(value, bool):
            raise MessageInvalid(f"{name} must be True or False, not {value!r}")
    if type(retain_handling) is not int or retain_handling not in (0, 1, 2):
        raise MessageInvalid(f"retain_handling must be 0, 1 or 2, not {retain_handling!r}")
    if no_local and is_shared(topic_filter):
        raise MessageInvalid("a shared subscription cannot be no_local: others share it (MQTT 5 section 3.8.3.1)")
    return wanted
