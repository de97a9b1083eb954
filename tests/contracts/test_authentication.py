"""Enhanced authentication (MQTT 5 section 4.12): an exchange of AUTH between CONNECT and CONNACK, and how it fails."""

from collections.abc import Callable
from typing import Any

import anyio
import mqtt5
import pytest

from hawk.config import Config
from hawk.connecting import Authenticator
from hawk.errors import ConnectRefused, Unprepared, Unreachable
from hawk.links.stream import StreamLink, open_link
from hawk.packets import Connack, ConnectRequest

pytestmark = pytest.mark.anyio

CONFIG = Config()
PATIENCE_S = 5.0
SECRET = b"correct-horse"
GO_ON = mqtt5.AuthReasonCode.CONTINUE_AUTHENTICATION


class Script:
    """An `Authenticator` that answers with what it heard, backwards; it raises where `raises_at` says."""

    method = "BACKWARDS"

    def __init__(self, *, raises_at: str = "") -> None:
        self.raises_at = raises_at
        self.heard: list[bytes | None] = []

    async def start(self) -> bytes | None:
        return self._say("start", b"first")

    async def answer(self, challenge: bytes | None) -> bytes | None:
        self.heard.append(challenge)
        return self._say("answer", None if challenge is None else challenge[::-1])

    async def finish(self, proof: bytes | None) -> None:
        self.heard.append(proof)
        self._say("finish", None)

    def _say(self, step: str, data: bytes | None) -> bytes | None:
        if step == self.raises_at:
            raise PermissionError(SECRET)
        return data


def challenge(data: bytes | None, *, method: str = "BACKWARDS") -> mqtt5.AuthPacket:
    return mqtt5.AuthPacket(reason_code=GO_ON, authentication_method=method, authentication_data=data)


async def exchange(ends: Any, authenticator: Authenticator | None, *said: Any) -> tuple[Any, list[Any]]:
    """What `open_link` comes to, and what the broker heard while it said all that, one after each packet it heard."""
    outcome: list[Any] = []
    heard: list[Any] = []

    async def open_it() -> None:
        request = ConnectRequest("me", clean_start=True, authenticator=authenticator)
        try:
            outcome.append(await open_link(ends.client, config=CONFIG, request=request))
        except (Unreachable, Unprepared, ConnectRefused) as error:
            outcome.append(error)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_it)
            try:
                for packet in said:
                    heard.append(await ends.peer.hear())
                    await ends.peer.say(packet)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                heard.append("closed")
    if isinstance(outcome[0], StreamLink):
        await outcome[0].aclose()
    await ends.peer.close()
    return outcome[0], heard


async def test_an_exchange_of_several_steps_ends_in_a_link(memory_ends: Callable[[], Any]) -> None:
    script = Script()
    welcome = mqtt5.ConnAckPacket(authentication_method="BACKWARDS", authentication_data=b"proof")
    link, heard = await exchange(memory_ends(), script, challenge(b"abc"), challenge(None), welcome)
    assert isinstance(link, StreamLink)
    connect, *answers = heard
    assert (connect.authentication_method, connect.authentication_data) == ("BACKWARDS", b"first")
    assert [(each.reason_code, each.authentication_data) for each in answers] == [(GO_ON, b"cba"), (GO_ON, None)]
    assert {each.authentication_method for each in answers} == {"BACKWARDS"}
    assert script.heard == [b"abc", None, b"proof"]
    assert "proof" not in repr(link.connack)


@pytest.mark.parametrize("step", ["start", "answer", "finish"])
async def test_what_an_authenticator_raises_ends_the_attempt_and_tells_no_secret(
    memory_ends: Callable[[], Any], step: str
) -> None:
    said = (challenge(b"abc"), mqtt5.ConnAckPacket()) if step != "start" else (mqtt5.ConnAckPacket(),)
    error, _ = await exchange(memory_ends(), Script(raises_at=step), *said)
    assert isinstance(error, Unprepared)
    assert str(error) == "`authentication` raised PermissionError"


async def test_a_refusal_ends_the_exchange(memory_ends: Callable[[], Any]) -> None:
    script = Script()
    refusal = mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.BAD_AUTHENTICATION_METHOD)
    error, _ = await exchange(memory_ends(), script, refusal)
    assert isinstance(error, ConnectRefused)
    assert isinstance(error.connack, Connack)
    assert error.connack.reason_code == 0x8C
    assert script.heard == []


@pytest.mark.parametrize(
    ("packet", "what"),
    [
        (challenge(b"x", method="FORWARDS"), "another authentication method"),
        (mqtt5.AuthPacket(authentication_method="BACKWARDS"), "does not go on"),
        (
            mqtt5.AuthPacket(reason_code=mqtt5.AuthReasonCode.RE_AUTHENTICATE, authentication_method="BACKWARDS"),
            "does not go on",
        ),
    ],
    ids=["method", "success", "again"],
)
async def test_an_auth_out_of_place_is_a_protocol_error(
    memory_ends: Callable[[], Any], packet: mqtt5.AuthPacket, what: str
) -> None:
    error, _ = await exchange(memory_ends(), Script(), packet)
    assert isinstance(error, Unreachable)
    assert what in str(error)


async def test_a_connack_by_another_method_is_a_protocol_error(memory_ends: Callable[[], Any]) -> None:
    """MQTT-4.12.0-5. Its proof, of a method that hawk does not speak, is shown to nobody."""
    script = Script()
    welcome = mqtt5.ConnAckPacket(authentication_method="FORWARDS", authentication_data=b"proof")
    error, _ = await exchange(memory_ends(), script, welcome)
    assert isinstance(error, Unreachable)
    assert "another authentication method" in str(error)
    assert script.heard == []


async def test_an_auth_that_nobody_asked_for_is_a_protocol_error(memory_ends: Callable[[], Any]) -> None:
    """MQTT-4.12.0-6."""
    error, (connect,) = await exchange(memory_ends(), None, challenge(b"x"))
    assert connect.authentication_method is None
    assert isinstance(error, Unreachable)
    assert "must be a CONNACK" in str(error)


async def test_data_that_mqtt_cannot_carry_ends_the_attempt(memory_ends: Callable[[], Any]) -> None:
    class Verbose(Script):
        async def start(self) -> bytes | None:
            return bytes(70_000)

    error, heard = await exchange(memory_ends(), Verbose(), mqtt5.ConnAckPacket())
    assert isinstance(error, Unprepared)
    assert heard == ["closed"]
