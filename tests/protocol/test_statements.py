"""The normative statements that bind a client, each with a test that exists; and the tests that only they ask for."""

import ast
import re
import tomllib
from functools import lru_cache
from pathlib import Path

import mqtt5
import pytest

from hawk.packets import Delivery, Publish, SubscribeFilter, SubscribeRequest
from hawk.protocol.version5 import Decoder, Encoder, encode
from hawk.values import Message, Properties

TESTS = Path(__file__).parents[1]
STATEMENTS = tomllib.loads((Path(__file__).with_name("statements.toml")).read_text())["statement"]
WHOLE_FILES = {"core/test_outbox_machine.py", "interface/test_config.py", "interface/test_publish.py"}
"""Where the property is that of a state machine, or of a whole file."""


@lru_cache
def guards_in(file: str) -> set[str]:
    """The names of the test functions and state machines of a file; none if there is no such file."""
    path = TESTS / file
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text())
    functions = (node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    machines = (
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    )
    return {name for name in (*functions, *machines) if name.startswith(("test_", "Test"))}


@pytest.mark.parametrize("number", STATEMENTS)
def test_every_statement_is_guarded_by_tests_that_exist_or_says_why_none_can_be(number: str) -> None:
    statement = STATEMENTS[number]
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?-\d+", number)
    assert set(statement) in ({"says", "by"}, {"says", "none"})
    assert statement["says"]
    assert statement.get("by") or statement.get("none")
    for guard in statement.get("by", ()):
        file, separator, name = guard.partition("::")
        assert guards_in(file), f"{file} has no tests"
        if separator:
            assert name in guards_in(file), guard
        else:
            assert file in WHOLE_FILES, f"{guard} names no test"


def test_the_list_is_long_and_in_the_order_of_the_specification() -> None:
    assert len(STATEMENTS) >= 120
    keys = [tuple(int(part) for part in re.split(r"[.-]", number)) for number in STATEMENTS]
    assert keys == sorted(keys)


def test_a_byte_order_mark_is_kept() -> None:
    message = Message(
        "\ufefftopic", b"", 0, properties=Properties(content_type="\ufeff", user=(("\ufeffn", "\ufeff"),))
    )
    (data,) = encode([Publish(message)])
    (delivery,) = Decoder(maximum_packet_size=1000).feed(data).inbound
    assert isinstance(delivery, Delivery)
    assert delivery.message == message


def test_no_publish_has_a_subscription_identifier() -> None:
    properties = Properties(60, True, "c", "r", b"d", (("n", "v"),))
    packets = [Publish(Message("topic", b"x", 1, True, each), 1) for each in (Properties(), properties)]
    for data in (*encode(packets), *Encoder(topic_alias_maximum=5).encode([*packets, *packets])):
        packet, _ = mqtt5.read(memoryview(data))
        assert isinstance(packet, mqtt5.PublishPacket)
        assert packet.subscription_ids == []


def test_a_subscribe_sets_no_option_but_the_qos() -> None:
    filters = tuple(SubscribeFilter(text, qos) for text in ("a", "$share/g/a") for qos in range(3))
    (data,) = encode([SubscribeRequest(7, filters)])
    options = []
    at = 2 + 2 + 1  # behind the fixed header, the identifier and the property length
    for each in filters:
        at += 2 + len(each.filter)
        options.append(data[at])
        at += 1
    assert at == len(data)
    assert options == [0, 1, 2, 0, 1, 2]
