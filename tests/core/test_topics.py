"""Topics and filters: what MQTT can carry, and section 4.7's matching against a reference that is obviously right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.core.topics import has_wildcard, is_shared, matches, validate_filter, validate_topic
from hawk.errors import MessageInvalid

FROM_THE_SPECIFICATION = [
    # section 4.7.1.2
    ("sport/tennis/player1/#", "sport/tennis/player1", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
    ("sport/#", "sport", True),
    ("#", "sport/tennis", True),
    ("#", "/", True),
    # section 4.7.1.3
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player2", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("+", "/finance", False),
    ("+/tennis/#", "sport/tennis", True),
    ("sport/+/player1", "sport/tennis/player1", True),
    # section 4.7.2
    ("#", "$SYS/monitor/Clients", False),
    ("+/monitor/Clients", "$SYS/monitor/Clients", False),
    ("$SYS/#", "$SYS/monitor/Clients", True),
    ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
    # section 4.7.3: names are case sensitive, and a leading or trailing slash makes another topic
    ("ACCOUNTS", "Accounts", False),
    ("/finance", "finance", False),
    ("finance/", "finance", False),
    ("finance", "finance", True),
    # section 4.8.2
    ("$share/consumer1/sport/tennis/+", "sport/tennis/player1", True),
    ("$share/consumer1//finance", "/finance", True),
    ("$share/consumer1/#", "$SYS/monitor", False),
]


@pytest.mark.parametrize(("topic_filter", "topic", "expected"), FROM_THE_SPECIFICATION)
def test_the_examples_of_the_specification_hold(topic_filter: str, topic: str, expected: bool) -> None:
    assert validate_filter(topic_filter) == topic_filter
    assert validate_topic(topic) == topic
    assert matches(topic_filter, topic) is expected


def naive(topic_filter: list[str], topic: list[str]) -> bool:
    """Section 4.7 by recursion over the levels."""
    if topic_filter == ["#"]:
        return True
    if not topic_filter or not topic:
        return not topic_filter and not topic
    return topic_filter[0] in ("+", topic[0]) and naive(topic_filter[1:], topic[1:])


names = st.sampled_from(["", "a", "b", "$x", "é"])
topics = st.lists(names, min_size=1, max_size=5).filter(any).map("/".join)
filters = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(names | st.just("+"), min_size=0, max_size=5),
    st.sampled_from([[], ["#"]]),
).filter(bool)


@given(filters, topics)
def test_matching_agrees_with_the_reference(topic_filter: str, topic: str) -> None:
    expected = naive(topic_filter.split("/"), topic.split("/"))
    if topic.startswith("$") and topic_filter[0] in "+#":
        expected = False
    assert matches(validate_filter(topic_filter), validate_topic(topic)) is expected
    assert matches(f"$share/group/{topic_filter}", topic) is expected


@given(topics)
def test_a_topic_is_a_filter_that_matches_itself(topic: str) -> None:
    assert matches(validate_filter(topic), topic)
    assert not has_wildcard(topic)


@given(st.text(max_size=20) | st.text(alphabet="a/+#$\0\ud800", max_size=20))
def test_a_topic_is_valid_exactly_when_the_specification_says_so(text: str) -> None:
    carried = bool(text) and not set(text) & set("+#\0") and not any("\ud800" <= c <= "\udfff" for c in text)
    if carried:
        assert validate_topic(text) == text
    else:
        with pytest.raises(MessageInvalid):
            validate_topic(text)


BAD_TOPICS = [
    (b"a", "must be text, not bytes"),
    (None, "must be text, not NoneType"),
    (["a"], "must be text, not list"),
    ("", "must not be empty"),
    ("a\0b", "NUL at character 2"),
    ("a/+/b", "wildcard '+' at character 3"),
    ("a/b#", "wildcard '#' at character 4"),
    ("ab\ud800", "lone surrogate at character 3"),
    ("é" * 32_768, "65536 bytes"),
]


@pytest.mark.parametrize(("topic", "said"), BAD_TOPICS)
def test_a_bad_topic_is_told_what_is_wrong_and_where(topic: object, said: str) -> None:
    for _ in range(2):
        with pytest.raises(MessageInvalid) as raised:
            validate_topic(topic)
        assert said in str(raised.value)
        assert len(str(raised.value)) < 400
        str(raised.value).encode()


BAD_FILTERS = [
    (7, "must be text, not int"),
    ("", "must not be empty"),
    ("a/\0", "NUL at character 3"),
    ("\udfff", "lone surrogate at character 1"),
    ("a" * 65_536, "65536 bytes"),
    ("sport/tennis#", "'#' at character 13"),
    ("sport/#/ranking", "'#' at character 7"),
    ("##", "'#' at character 1"),
    ("sport+", "'+' at character 6"),
    ("a/+b/c", "'+' at character 3"),
    ("$share/", "names no group"),
    ("$share//a", "names no group"),
    ("$share/group", "no filter after its group"),
    ("$share/group/", "no filter after its group"),
    ("$share/g+/a", "wildcard in the name of its group"),
    ("$share/#/a", "wildcard in the name of its group"),
    ("$share/g/a/#/b", "'#' at character 12"),
]


@pytest.mark.parametrize(("topic_filter", "said"), BAD_FILTERS)
def test_a_bad_filter_is_told_what_is_wrong_and_where(topic_filter: object, said: str) -> None:
    with pytest.raises(MessageInvalid) as raised:
        validate_filter(topic_filter)
    assert said in str(raised.value)


def test_the_longest_topic_and_filter_are_valid() -> None:
    longest = "é" * 32_767 + "a"
    assert validate_topic(longest) == longest
    assert validate_filter(longest) == longest


def test_shared_and_wildcard_filters_are_told_apart() -> None:
    assert is_shared("$share/g/a")
    assert not is_shared("$SYS/a")
    assert has_wildcard("a/+")
    assert has_wildcard("#")
