"""Topic names and topic filters: whether MQTT can carry them, and which filter matches which topic.

Pure text, MQTT 5 sections 1.5.4, 4.7 and 4.8.2. It knows no subscription: `core/subscriptions` asks it.
"""

from functools import lru_cache

from hawk.errors import MessageInvalid

MAXIMUM_BYTES = 65_535

_SHARE = "$share/"
# A bounded number of bounded texts: long ones are rare, and checking them anew costs less than keeping them.
_CACHED_TOPICS = 4_096
_CACHED_LENGTH = 256


def validate_topic(topic: object) -> str:
    """`topic`, if a PUBLISH can carry it. Raises `MessageInvalid`, saying what is wrong and where."""
    if not isinstance(topic, str):
        raise MessageInvalid(f"the topic must be text, not {type(topic).__name__}")
    return _checked_topic(topic) if len(topic) <= _CACHED_LENGTH else _check_topic(topic)


def validate_filter(topic_filter: object) -> str:
    """`topic_filter`, if a SUBSCRIBE can carry it. Raises `MessageInvalid`, saying what is wrong and where."""
    if not isinstance(topic_filter, str):
        raise MessageInvalid(f"the topic filter must be text, not {type(topic_filter).__name__}")
    _check_text("topic filter", topic_filter)
    start = 0
    if topic_filter.startswith(_SHARE):
        start = _check_share(topic_filter)
    _check_wildcards(topic_filter, start)
    return topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a valid `topic_filter` selects a valid `topic` (section 4.7); a shared one's group does not count."""
    levels = filter_levels(topic_filter)
    # A leading wildcard does not select the topics that a broker keeps for itself, as $SYS (MQTT-4.7.2-1).
    if topic.startswith("$") and levels[0] in ("+", "#"):
        return False
    names = topic.split("/")
    for index, level in enumerate(levels):
        if level == "#":
            return True
        if index == len(names) or (level != "+" and level != names[index]):
            return False
    return len(levels) == len(names)


@lru_cache(maxsize=512)
def filter_levels(topic_filter: str) -> tuple[str, ...]:
    """The levels of a valid filter; a shared one's `$share` and group do not count."""
    if topic_filter.startswith(_SHARE):
        topic_filter = topic_filter.split("/", 2)[2]
    return tuple(topic_filter.split("/"))


def is_shared(topic_filter: str) -> bool:
    """Whether `topic_filter` is a shared subscription's, `$share/group/filter` (section 4.8.2)."""
    return topic_filter.startswith(_SHARE)


def has_wildcard(topic_filter: str) -> bool:
    """Whether `topic_filter` may select more than one topic."""
    return "+" in topic_filter or "#" in topic_filter


def _check_topic(topic: str) -> str:
    _check_text("topic", topic)
    if has_wildcard(topic):
        position, wildcard = next((at, one) for at, one in enumerate(topic, start=1) if one in "+#")
        raise MessageInvalid(
            f"the topic {_shown(topic)} has the wildcard {wildcard!r} at character {position}; "
            "wildcards belong into topic filters"
        )
    return topic


_checked_topic = lru_cache(maxsize=_CACHED_TOPICS)(_check_topic)


def _check_text(what: str, text: str) -> None:
    if not text:
        raise MessageInvalid(f"the {what} must not be empty")
    nul = text.find("\0")
    if nul >= 0:
        raise MessageInvalid(f"the {what} {_shown(text)} has a NUL at character {nul + 1}")
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise MessageInvalid(
            f"the {what} {_shown(text)} has a lone surrogate at character {error.start + 1}, which UTF-8 cannot carry"
        ) from None
    if size_bytes > MAXIMUM_BYTES:
        raise MessageInvalid(
            f"the {what} {_shown(text)} is {size_bytes} bytes of UTF-8; MQTT carries at most {MAXIMUM_BYTES}"
        )


def _check_share(topic_filter: str) -> int:
    """Check `$share/group/` and return where the filter proper begins."""
    end = topic_filter.find("/", len(_SHARE))
    group = topic_filter[len(_SHARE) : end] if end >= 0 else topic_filter[len(_SHARE) :]
    if not group:
        raise MessageInvalid(f"the topic filter {_shown(topic_filter)} names no group: $share/group/filter")
    if has_wildcard(group):
        raise MessageInvalid(f"the topic filter {_shown(topic_filter)} has a wildcard in the name of its group")
    if end < 0 or end + 1 == len(topic_filter):
        raise MessageInvalid(
            f"the topic filter {_shown(topic_filter)} has no filter after its group: $share/group/filter"
        )
    return end + 1


def _check_wildcards(topic_filter: str, start: int) -> None:
    levels = topic_filter[start:].split("/")
    position = start + 1
    for number, level in enumerate(levels, start=1):
        if "#" in level and (level != "#" or number < len(levels)):
            raise MessageInvalid(
                f"the topic filter {_shown(topic_filter)} has '#' at character {position + level.index('#')}; "
                "it must be alone in the last level"
            )
        if "+" in level and level != "+":
            raise MessageInvalid(
                f"the topic filter {_shown(topic_filter)} has '+' at character {position + level.index('+')}; "
                "it must be alone in its level"
            )
        position += len(level) + 1


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= 80 else ascii(text[:77]) + "..."
