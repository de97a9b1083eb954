"""Every row of the table of faults has a test that injects it and observes the outcome."""

import importlib.util
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from hawk import ConnectionState

CONNECTING = (
    *("refuse (ECONNREFUSED)", "accept then close / RST", "hang before CONNACK", "DNS failure, later answer"),
    *("flapping (CONNACK then dead)", "garbage / HTTP / wrong protocol / PUBLISH first", "second CONNACK"),
    *("CONNACK 0x80 0x83 0x88 0x89 0x97 0x9F", "CONNACK 0x86 0x87"),
    "CONNACK 0x81 0x82 0x84 0x85 0x8A 0x8C 0x90 0x95 0x99 0x9A 0x9B",
    *("CONNACK 0x9C 0x9D, Server Reference", "session_present=1 after clean start, reserved flags"),
    *("session_present=1 when hawk has no record of the session", "session_present=0 when we have state"),
    *("session_present=1", "TLS unknown CA / hostname / expired / handshake hang"),
)
ESTABLISHED_LINK = (
    *("broker SIGKILL / RST / FIN / half-close", "graceful restart, DISCONNECT 0x8B", "DISCONNECT 0x8E taken over"),
    *("DISCONNECT 0x89 0x93-0x98 0xA0..", "Server Reference in DISCONNECT", "blackhole, half-open, hang"),
    "idle, only incoming, Server Keep Alive, keepalive 0",
    "latency, throttle, slices of 1-7 bytes, coalesced, CONNACK+PUBLISH in one segment",
    "truncated packet then close",
    "garbage, bit flips, type 0, bad flags, QoS 3, id 0, bad UTF-8, wildcard topic, unknown/duplicate property, "
    "alias, client-only packets",
    *("256 MB length claimed / really sent", "slow reader (broker)", "connection dies inside our 4 MB PUBLISH"),
    "drop after N bytes each time",
)
PROTOCOL_FLOW = (
    *("no ack", "Receive Maximum 1, shrinking, after reconnect", "Maximum Packet Size, Maximum QoS, Retain Available"),
    *("PUBACK/PUBREC 0x87 0x90 0x99", "PUBACK 0x97 / 0x80 0x83", "PUBACK 0x10"),
    "unknown ids, duplicate PUBACK/PUBREC, wrong ack type, reversed acks",
    *("missing PUBCOMP, PUBREL resend, PUBCOMP 0x92", "inbound QoS 2 repeated, across reconnect", "SUBACK >= 0x80"),
    *("id exhaustion (65 535), 100k queued, huge payload", "queue overflow"),
)
ROWS = {*CONNECTING, *ESTABLISHED_LINK, *PROTOCOL_FLOW}

MODULES = ("test_connecting.py", "test_established_link.py", "test_protocol_flow.py")


def functions_by_row() -> dict[str, list[FunctionType]]:
    """The test functions of this folder, by the row that each names."""
    found: dict[str, list[FunctionType]] = {}
    for name in MODULES:
        path = Path(__file__).with_name(name)
        spec = importlib.util.spec_from_file_location(f"matrix_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for value in vars(module).values():
            for mark in getattr(value, "pytestmark", ()) if isinstance(value, FunctionType) else ():
                if mark.name == "fault_row":
                    found.setdefault(mark.args[0], []).append(value)
    return found


def test_every_row_has_a_test_and_no_test_names_another_row() -> None:
    assert set(functions_by_row()) == ROWS


def test_every_test_of_a_row_runs_where_its_injector_and_its_observation_are_checked() -> None:
    for row, functions in functions_by_row().items():
        for function in functions:
            names = function.__code__.co_varnames[: function.__code__.co_argcount]
            assert "rehearse" in names, f"{function.__name__} of {row!r}"


async def observe_a_good_link(world: Any) -> None:
    await world.connect()
    world.observe(state=ConnectionState.CONNECTED, stats={"total_connections": 1}, level=20, arrived=[])


def test_a_story_without_an_injected_fault_fails(rehearse: Any) -> None:
    with pytest.raises(AssertionError, match="no fault was injected"):
        rehearse(observe_a_good_link)


def test_a_story_without_an_observation_fails(rehearse: Any) -> None:
    async def look_away(world: Any) -> None:
        await world.connect()

    with pytest.raises(AssertionError, match="nothing was observed"):
        rehearse(look_away, ConnectionRefusedError())


def test_a_message_that_was_acknowledged_and_has_not_arrived_is_found(rehearse: Any) -> None:
    async def lie(peer: Any) -> None:
        await peer.welcome()
        packet = await peer.hear()
        await peer.inject("lie", b"\x40\x02" + packet.packet_id.to_bytes(2, "big"))
        await peer.serve()

    async def story(world: Any) -> None:
        await world.publish("a")
        await world.reach(lambda: world.mqtt.stats["acknowledged"] == 1)
        world.observe(state=ConnectionState.CONNECTED, stats={}, level=20, arrived=[])

    with pytest.raises(AssertionError, match="has never arrived"):
        rehearse(story, lie)
