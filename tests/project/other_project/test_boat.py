"""Somebody else's project: nothing is installed there but hawk and pytest. Run by `tests/testing/test_plugin.py` and
by `.ci/run`, which has such an environment; it stands under a name that hawk's own run does not collect.
"""

import anyio
import pytest

import hawk


@pytest.fixture
async def positions(hawk_ports):
    """An async fixture of the project's own, in virtual time and in real."""
    async with hawk.open_mqtt(hawk.Config(), ports=hawk_ports) as mqtt, mqtt.subscribe("boat/#") as messages:
        yield messages


@pytest.mark.hawk_virtual(seeds=range(2))
async def test_ten_minutes_without_the_broker(hawk_broker, hawk_client, positions):
    await hawk_broker.kill()
    for number in range(10):
        await hawk_client.publish("boat/position", {"number": number})
        await anyio.sleep(60)
    await hawk_broker.restart()
    await hawk_client.connect()
    found = [(await anext(positions)).json()["number"] for _ in range(10)]
    assert found == list(range(10))
    assert anyio.current_time() > 600


@pytest.mark.hawk_virtual(backend="asyncio")
async def test_a_link_that_goes_silent_is_noticed(hawk_link, hawk_client, hawk_config):
    hawk_link.blackhole()
    await anyio.sleep(1.5 * hawk_config.health_check_interval + hawk_config.pong_deadline_s)
    assert hawk_client.connection_state is hawk.ConnectionState.RECONNECTING
    assert hawk_link.bites["blackhole"]


class TestInAClass:
    @pytest.fixture
    async def name(self, hawk_seed):
        await anyio.sleep(1)
        return f"{type(self).__name__}-{hawk_seed}"

    @pytest.mark.hawk_virtual(seeds=[7])
    @pytest.mark.parametrize("times", [1, 2])
    async def test_methods_and_parameters_are_as_usual(self, name, times, request):
        assert name == "TestInAClass-7"
        assert f"{times}" in request.node.name
        assert anyio.current_time() == 1


@pytest.mark.anyio
async def test_in_real_time_over_tcp(hawk_tcp_broker, hawk_tcp_proxy):
    async with hawk.open_mqtt(hawk_tcp_proxy.url, initial_retry_delay=0.01) as mqtt:
        await mqtt.connect()
        hawk_tcp_proxy.network.reset_all()
        receipt = await mqtt.publish("boat/position", "home")
        await receipt.acknowledged()
    assert ("boat/position", b"home") in hawk_tcp_broker.broker.received()


@pytest.mark.anyio
async def test_in_real_time_in_memory(hawk_client, hawk_broker, positions):
    await (await hawk_client.publish("boat/position", "home")).acknowledged()
    assert (await anext(positions)).text() == "home"
