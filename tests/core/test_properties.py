"""Properties that MQTT cannot carry are refused before anything is accepted, and the refusal says which and why."""

from typing import Any

import pytest

from hawk.core.properties import with_properties
from hawk.errors import MessageInvalid
from hawk.values import NO_PROPERTIES, Message, Properties

BARE = Message("a", b"caf\xc3\xa9")

Given: Any = Properties
"""Without its types: an application may hand over anything."""

BAD: list[tuple[str, Any, str]] = [
    ("expiry below 0", Given(expiry_s=-1), "expiry_s must be from 0"),
    ("expiry beyond 32 bits", Given(expiry_s=4_294_967_296), "expiry_s must be from 0"),
    ("expiry that is no number", Given(expiry_s=float("nan")), "expiry_s must be from 0"),
    ("endless expiry", Given(expiry_s=float("inf")), "expiry_s must be from 0"),
    ("true as expiry", Given(expiry_s=True), "number of seconds, not bool"),
    ("words as expiry", Given(expiry_s="60"), "number of seconds, not str"),
    ("content type of bytes", Given(content_type=b"x"), "content_type must be text"),
    ("content type with NUL", Given(content_type="a\0"), "content_type has a NUL at character 2"),
    ("content type with a surrogate", Given(content_type="\ud800"), "lone surrogate at character 1"),
    ("long content type", Given(content_type="\u00e9" * 32_768), "65536 bytes of UTF-8"),
    ("response topic with a wildcard", Given(response_topic="a/+"), "wildcard"),
    ("empty response topic", Given(response_topic=""), "must not be empty"),
    ("text as correlation data", Given(correlation_data="x"), "correlation_data must be bytes"),
    ("long correlation data", Given(correlation_data=bytes(65_536)), "65536 bytes"),
    ("user property of one", Given(user=(("a",),)), "user property 1 must be a pair"),
    ("text as user properties", Given(user="ab"), "pairs of names and values, not str"),
    ("number as user properties", Given(user=7), "pairs of names and values, not int"),
    ("number as a value", Given(user=(("a", "b"), ("c", 1))), "value of user property 2"),
    ("name with NUL", Given(user=(("\0", ""),)), "name of user property 1 has a NUL"),
    ("text of no text", Given(text=1), "text must be True or False"),
    ("a dict", {"content_type": "x"}, "must be hawk.Properties, not dict"),
    ("nothing", None, "must be hawk.Properties, not NoneType"),
]


@pytest.mark.parametrize(("properties", "what"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_cannot_be_carried_is_refused_by_name(properties: Any, what: str) -> None:
    with pytest.raises(MessageInvalid, match=what):
        with_properties(BARE, properties)


def test_text_must_be_text_and_the_refusal_does_not_show_the_payload() -> None:
    assert with_properties(BARE, Properties(text=True)).properties.text
    with pytest.raises(MessageInvalid, match="byte 2 is not") as refused:
        with_properties(Message("a", b"ab\xff"), Properties(text=True))
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_what_is_whole_is_taken_as_it_is() -> None:
    whole = Properties(1.5, True, "text/plain", "b", b"\0", (("n", "v"), ("n", "w")))
    assert with_properties(BARE, whole) == Message("a", b"caf\xc3\xa9", 1, False, whole)


def test_user_properties_may_be_a_mapping_or_lists_and_the_data_any_bytes() -> None:
    given: Any = Properties(user={"n": "v"}, correlation_data=bytearray(b"x"))
    assert with_properties(BARE, given).properties == Properties(user=(("n", "v"),), correlation_data=b"x")
    pairs: Any = Properties(user=[["n", "v"]])
    assert with_properties(BARE, pairs).properties == Properties(user=(("n", "v"),))


def test_properties_without_any_are_no_properties_itself() -> None:
    none: Any = Properties(user={})
    assert with_properties(BARE, none).properties is NO_PROPERTIES
    assert with_properties(BARE, Properties()).properties is NO_PROPERTIES


def test_a_message_counts_its_properties_against_a_bound_in_bytes() -> None:
    properties = Properties(60, True, "c" * 10, "r" * 20, b"d" * 30, (("n" * 40, "v" * 50),))
    assert Message("a", b"bc").size_bytes == 3
    assert with_properties(BARE, properties).size_bytes == BARE.size_bytes + 150


def test_a_packet_beyond_what_mqtt_can_express_is_refused() -> None:
    # One text shared by all pairs: only the arithmetic sees 256 MiB.
    text = "x" * 65_535
    with pytest.raises(MessageInvalid, match="at most 268435460"):
        with_properties(BARE, Properties(user=((text, text),) * 2_050))
