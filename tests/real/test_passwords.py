"""A broker with a password file: the right password, the wrong one, and one that becomes right."""

from typing import Any

import anyio
import pytest

import hawk

pytestmark = pytest.mark.anyio

NOT_AUTHORIZED = 0x87
PATIENCE_S = 20


@pytest.fixture
def guarded(start_mosquitto: Any, set_password: Any, tmp_path: Any) -> Any:
    """A broker that lets in nobody but `hawk` with `feathers`."""
    passwords = tmp_path / "passwords"
    set_password(passwords, "hawk", "feathers")
    return start_mosquitto(allow_anonymous="false", password_file=passwords)


async def test_the_right_password_is_let_in(guarded: Any) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(guarded.url, username="hawk", password="feathers") as mqtt:
            await mqtt.connect()
            await (await mqtt.publish("inside", "yes")).acknowledged()


async def test_the_wrong_password_is_final_when_told_so(guarded: Any) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(guarded.url, username="hawk", password="fur", on_auth_failure="fail") as mqtt:
            with pytest.raises(hawk.GaveUp) as told:
                await mqtt.connect()
            assert (told.value.attempts, told.value.reason_code) == (1, NOT_AUTHORIZED)
            assert mqtt.connection_state is hawk.ConnectionState.FAILED
    assert "fur" not in str(told.value)


async def test_the_wrong_password_is_tried_again_as_often_as_any_failure(guarded: Any) -> None:
    settings = {"username": "hawk", "password": "fur", "initial_retry_delay": 0.02, "max_retries": 2}
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(guarded.url, **settings) as mqtt:
            with pytest.raises(hawk.GaveUp) as told:
                await mqtt.connect()
    assert (told.value.attempts, told.value.reason_code) == (3, NOT_AUTHORIZED)


async def test_a_password_that_becomes_right_lets_the_waiting_message_in(
    guarded: Any, set_password: Any, tmp_path: Any
) -> None:
    settings = {"initial_retry_delay": 0.05, "max_retry_delay": 0.2, "max_retries": None}
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(guarded.url, username="hawk", password="talons", **settings) as mqtt:
            receipt = await mqtt.publish("inside", "at last")
            while mqtt.stats["consecutive_failures"] < 2:
                await anyio.sleep(0.01)
            set_password(tmp_path / "passwords", "hawk", "talons")
            guarded.reload()
            await receipt.acknowledged()
