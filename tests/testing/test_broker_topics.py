"""Topic filters: what is valid, and what matches, held against the simplest matcher that can be written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.testing.broker.topics import FilterTree, SplitFilter, filter_matches, is_filter, is_topic, split_filter

levels = st.sampled_from(["", "a", "b", "$s"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
filters = (
    st.lists(st.one_of(levels, st.just("+")), min_size=0, max_size=4)
    .flatmap(lambda found: st.sampled_from([[*found, "#"], found]))
    .map("/".join)
    .filter(bool)
)


def plainly_matches(pattern: list[str], topic: list[str]) -> bool:
    if not pattern:
        return not topic
    if pattern[0] == "#":
        return True
    return bool(topic) and pattern[0] in ("+", topic[0]) and plainly_matches(pattern[1:], topic[1:])


@given(st.sets(filters, max_size=6), topics)
def test_the_tree_finds_exactly_the_filters_that_match(wanted: set[str], topic: str) -> None:
    tree: FilterTree[list[str]] = FilterTree(list)
    for pattern in wanted:
        tree.bucket(pattern).append(pattern)
    found = [pattern for bucket in tree.matching(topic) for pattern in bucket]
    hidden = topic.startswith("$")
    expected = {
        pattern
        for pattern in wanted
        if plainly_matches(pattern.split("/"), topic.split("/")) and not (hidden and pattern[0] in "+#")
    }
    assert sorted(found) == sorted(expected)


@given(st.lists(filters, max_size=6, unique=True), topics)
def test_what_was_removed_is_found_no_more_and_leaves_nothing_behind(wanted: list[str], topic: str) -> None:
    tree: FilterTree[list[str]] = FilterTree(list)
    for pattern in wanted:
        tree.bucket(pattern).append(pattern)
    for index, pattern in enumerate(wanted):
        tree.remove(pattern)
        tree.remove("never/there")
        left = set(wanted[index + 1 :])
        found = {name for bucket in tree.matching(topic) for name in bucket}
        assert found == {name for name in left if filter_matches(name, topic)}


@pytest.mark.parametrize("text", ["a", "/", "a//b", "+", "#", "a/+/b", "a/#", "+/+", "$SYS/#"])
def test_valid_filters(text: str) -> None:
    assert is_filter(text)


@pytest.mark.parametrize("text", ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a\0"])
def test_invalid_filters(text: str) -> None:
    assert not is_filter(text)


def test_topics_have_no_wildcards() -> None:
    assert is_topic("a/b")
    assert not any(map(is_topic, ["", "a/+", "#", "a\0b"]))


def test_shared_filters_are_split() -> None:
    assert split_filter("a/#") == SplitFilter(None, "a/#")
    assert split_filter("$share/g/a/#") == SplitFilter("g", "a/#")
    assert [split_filter(text) for text in ("$share/g", "$share/g/", "$share//a", "$share/+/a", "a#")] == [None] * 5
