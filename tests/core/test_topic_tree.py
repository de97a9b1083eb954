"""The tree of filters against the naive matching of one filter at a time."""

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.core.topic_tree import TopicTree
from hawk.core.topics import matches

MOST_US = 20.0

levels = st.sampled_from(["", "a", "b", "$SYS", "+", "$share"])
names = st.lists(st.sampled_from(["", "a", "b", "$SYS", "$share"]), min_size=1, max_size=4).map("/".join).filter(bool)


@st.composite
def filters(draw: st.DrawFn) -> str:
    chosen = draw(st.lists(levels, min_size=1, max_size=4))
    if draw(st.booleans()):
        chosen = [*chosen, "#"]
    text = "/".join(chosen)
    shared = draw(st.booleans()) or text.startswith("$share/")
    return f"$share/group/{text or 'a'}" if shared else text or "#"


@given(st.lists(filters(), max_size=12), names)
def test_the_tree_finds_what_each_filter_by_itself_selects(wanted: list[str], topic: str) -> None:
    tree: TopicTree[int] = TopicTree()
    for number, each in enumerate(wanted):
        tree.add(each, number)
    assert sorted(tree.matching(topic)) == [number for number, each in enumerate(wanted) if matches(each, topic)]


@given(st.lists(filters(), min_size=1, max_size=12), st.data())
def test_what_is_removed_is_not_found_and_the_rest_is(wanted: list[str], data: st.DataObject) -> None:
    tree: TopicTree[int] = TopicTree()
    for number, each in enumerate(wanted):
        tree.add(each, number)
    gone = data.draw(st.sets(st.sampled_from(range(len(wanted)))))
    for number in gone:
        tree.remove(wanted[number], number)
    for topic in ("a", "a/b", "$SYS/a", "/a"):
        kept = [n for n, each in enumerate(wanted) if n not in gone and matches(each, topic)]
        assert sorted(tree.matching(topic)) == kept
    with pytest.raises(ValueError, match=r"nothing belongs|not in list"):
        tree.remove("never/added", 0)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "selected"),
    [
        *(("sport/#", "sport", True), ("#", "$SYS/x", False), ("+/x", "$SYS/x", False), ("$SYS/#", "$SYS/x", True)),
        *(("+", "", False), ("/+", "/", True), ("+/+", "/", True), ("a//b", "a//b", True), ("a/+/b", "a//b", True)),
    ],
)
def test_the_cases_of_the_specification(topic_filter: str, topic: str, selected: bool) -> None:
    """MQTT 5 section 4.7."""
    tree: TopicTree[str] = TopicTree()
    tree.add(topic_filter, "it")
    assert bool(topic and tree.matching(topic)) is (selected and bool(topic))


def test_one_topic_among_ten_thousand_filters_costs_less_than_20_us() -> None:
    """The best of many, in CPU time: what else the machine does is not the tree's."""
    random = Random(7)
    tree: TopicTree[int] = TopicTree()
    for number in range(10_000):
        site, device = random.randrange(100), random.randrange(1_000)
        tree.add(random.choice([f"site/{site}/+/value", f"site/+/{device}/#", f"site/{site}/{device}/value"]), number)
    topics = [f"site/{random.randrange(100)}/{random.randrange(1_000)}/value" for _ in range(1_000)]
    best_us = min(_cost_us(tree, topics) for _ in range(7))
    assert best_us < MOST_US, f"{best_us:.1f} us"


def _cost_us(tree: TopicTree[int], topics: list[str]) -> float:
    began = time.process_time()
    for topic in topics:
        tree.matching(topic)
    return (time.process_time() - began) / len(topics) * 1e6
