"""What a broker that is not hawk's own has taken, told by one more hawk that subscribes past the proxy; and tidying up."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import anyio

from hawk.config import Config, ReconnectionConfig
from hawk.errors import GaveUp, HawkError
from hawk.interface import MQTTInterface, open_mqtt
from hawk.scenario.client import config_of, name_of
from hawk.scenario.elsewhere import BrokerMissing
from hawk.scenario.model import Scenario
from hawk.scenario.recorder import Recorder
from hawk.subscription import Subscription

_TIDYING_S = 30.0
_SHORTLY = ReconnectionConfig(max_retries=2, initial_retry_delay=0.5, max_retry_delay=1.0, connection_timeout=5.0)


@asynccontextmanager
async def observed(scenario: Scenario, config: Config, recorder: Recorder) -> AsyncIterator[None]:
    """Note what the broker takes, for the length of a block; then leave it as it was: no session, nothing retained.

    Raises `BrokerMissing` when it lets nobody in.
    """
    published: dict[str, int] = {}
    for each in scenario.traffic:
        if each.rate is not None:
            topic = each.topic.replace("{i}", "+")
            published[topic] = max(each.qos, published.get(topic, 0))
    async with open_mqtt(replace(config, reconnection=_SHORTLY)) as mqtt:
        try:
            await mqtt.connect()
        except GaveUp as error:
            raise BrokerMissing(f"the broker lets nobody in: {error}") from error
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            for topic_filter, qos in published.items():
                messages = await stack.enter_async_context(mqtt.subscribe(topic_filter, qos=qos))
                tasks.start_soon(_note, messages, recorder)
            yield
        with anyio.move_on_after(_TIDYING_S, shield=True):
            await _tidy_up(scenario, config, recorder, mqtt)


async def _note(messages: Subscription, recorder: Recorder) -> None:
    async for message in messages:
        # What an earlier run had retained is none of this run's.
        if not message.retain:
            recorder.taken("", message.topic, message.payload)


async def _tidy_up(scenario: Scenario, config: Config, recorder: Recorder, mqtt: MQTTInterface) -> None:
    retained = {
        each.topic_of(number) for each in scenario.traffic if each.retain for number in range(1, each.clients + 1)
    }
    for topic in sorted(retained):
        await (await mqtt.publish(topic, b"", qos=1, retain=True)).acknowledged()
    for number in range(1, scenario.clients + 1):
        # A clean start ends the session that there is, and an expiry of nothing the one that begins.
        client = config_of(scenario, f"{recorder.mark}{name_of(number)}")
        try:
            async with open_mqtt(replace(config, client_id=client.client_id, session_expiry_s=0)) as visitor:
                await visitor.connect()
        except HawkError:
            return
