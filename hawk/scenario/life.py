"""One life of a client: an application with one hawk that publishes and receives as the script says, until it is killed.

It notes what it does and what hawk tells it; its hold on the world is mortal (`mortal.py`).
"""

from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING

import anyio

from hawk.errors import (
    Dropped,
    Expired,
    HawkError,
    OutboxFull,
    OutboxUnavailable,
    Refused,
    Stopped,
    Superseded,
    UnknownFate,
)
from hawk.interface import MQTTInterface
from hawk.messages import MessageSettled, Missed, StateChanged
from hawk.receipt import Receipt
from hawk.scenario.journal import Accepted, FateMet, Logged, Received, Subscribed
from hawk.scenario.model import Traffic
from hawk.scenario.moments import moments
from hawk.scenario.mortal import Mortality
from hawk.scenario.recorder import TellingRandom
from hawk.streams import EventStream
from hawk.values import ConnectionState, FateKind

if TYPE_CHECKING:
    from hawk.scenario.client import Client

_FATES: dict[type[HawkError], FateKind] = {
    Expired: FateKind.EXPIRED,
    Dropped: FateKind.DROPPED,
    Superseded: FateKind.SUPERSEDED,
    UnknownFate: FateKind.UNKNOWN,
    Refused: FateKind.DEAD_LETTERED,
    Stopped: FateKind.ABANDONED,
    OutboxFull: FateKind.FULL,
    OutboxUnavailable: FateKind.UNAVAILABLE,
}


class Life:
    """One process: from its start to its death. `kill` ends it as `kill -9` does."""

    def __init__(self, client: "Client", random: TellingRandom) -> None:
        self.state = ConnectionState.DISCONNECTED
        self.size_bytes = 0
        self._client = client
        self._recorder = client.recorder
        self._random = random
        self._mortality = Mortality()
        self._scope = anyio.CancelScope()
        self._mqtt: MQTTInterface | None = None
        self._pending: dict[tuple[str, int], deque[tuple[int, int, Receipt]]] = {}

    @property
    def queue_size(self) -> int:
        """What waits, or is in flight."""
        return 0 if self._mqtt is None else self._mqtt.stats["queue_size"]

    async def kill(self) -> None:
        """The process is gone at once; what is left of its hawk touches nothing any more."""
        await self._mortality.kill()
        self._scope.cancel()

    async def run(self) -> None:
        """Live until killed or cancelled. Raises, in a group, what hawk raises when it cannot begin."""
        with self._scope:
            async with anyio.create_task_group() as nursery:
                ports = self._client.ports(self._mortality, self._random)
                mqtt = self._mqtt = MQTTInterface(self._client.config, nursery, ports=ports)
                nursery.start_soon(self._watch, mqtt.events())
                async with mqtt:
                    self._look()
                    for line, traffic in self._client.lines:
                        if traffic.rate is None:
                            nursery.start_soon(self._receive, mqtt, traffic)
                        else:
                            nursery.start_soon(self._publish, mqtt, line, traffic)
                    await anyio.sleep_forever()

    async def _watch(self, events: EventStream) -> None:
        with closing(events):
            async for event in events:
                if not self._mortality.alive:
                    return
                match event:
                    case StateChanged(_, after, cause):
                        self.state = after
                        self._client.enter(after, "" if cause is None else str(cause))
                    case MessageSettled(topic, qos, _):
                        await self._settle(topic, qos)
                    case Missed():
                        for topic, qos in list(self._pending):
                            await self._settle(topic, qos)
                self._look()

    async def _receive(self, mqtt: MQTTInterface, traffic: Traffic) -> None:
        name, topic_filter = self._client.name, traffic.topic_of(self._client.number)
        try:
            async with mqtt.subscribe(topic_filter, qos=traffic.qos) as messages:
                self._recorder.note(Subscribed(self._recorder.now_s, name, topic_filter, traffic.qos))
                async for message in messages:
                    number = self._recorder.number_in(message.payload)
                    if number is not None and self._mortality.alive:
                        self._recorder.note(Received(self._recorder.now_s, name, number))
        except (Refused, Stopped) as error:
            if self._mortality.alive:
                fields = {"filter": topic_filter, "cause": str(error)}
                self._recorder.note(Logged(self._recorder.now_s, name, "ERROR", "not subscribed", fields))

    async def _publish(self, mqtt: MQTTInterface, line: int, traffic: Traffic) -> None:
        scenario, recorder = self._client.scenario, self._recorder
        stop_s = scenario.duration_s if traffic.stop_s is None else min(traffic.stop_s, scenario.duration_s)
        born_at_s = recorder.now_s
        topic = traffic.topic_of(self._client.number)
        for at_s in moments(traffic, client=self._client.number, seed=scenario.seed, line=line, stop_s=stop_s):
            if at_s < born_at_s:
                continue
            if at_s > recorder.now_s:
                await anyio.sleep_until(recorder.began_at + at_s)
            await self._publish_one(mqtt, topic, traffic)

    async def _publish_one(self, mqtt: MQTTInterface, topic: str, traffic: Traffic) -> None:
        recorder, name, qos = self._recorder, self._client.name, traffic.qos
        number, payload = recorder.new_message(name, topic, qos, traffic.size_bytes)
        try:
            receipt = await mqtt.publish(topic, payload, qos=qos, retain=traffic.retain)
        except HawkError as error:
            if self._mortality.alive:
                recorder.note(FateMet(recorder.now_s, name, number, fate_of(error).value, str(error)))
            return
        if self._mortality.alive:
            recorder.note(Accepted(recorder.now_s, name, number))
            size_bytes = len(payload) + len(topic)
            self._pending.setdefault((topic, qos), deque()).append((number, size_bytes, receipt))
            self.size_bytes += size_bytes
            self._look()

    async def _settle(self, topic: str, qos: int) -> None:
        """Note the fate of every message there that has met it; the oldest come first, unless a newer one was dropped."""
        pending = self._pending.get((topic, qos))
        if not pending:
            return
        if pending[0][2].settled:
            while pending and pending[0][2].settled:
                await self._tell(qos, *pending.popleft())
            return
        settled = [each for each in pending if each[2].settled]
        for each in settled:
            pending.remove(each)
            await self._tell(qos, *each)

    async def _tell(self, qos: int, number: int, size_bytes: int, receipt: Receipt) -> None:
        fate, detail = FateKind.ACKNOWLEDGED if qos else FateKind.SENT, ""
        try:
            await receipt.acknowledged()
        except HawkError as error:
            fate, detail = fate_of(error), str(error)
        self.size_bytes -= size_bytes
        self._recorder.note(FateMet(self._recorder.now_s, self._client.name, number, fate.value, detail))

    def _look(self) -> None:
        if self._mqtt is not None and self._mortality.alive:
            stats = self._mqtt.stats
            self._recorder.check_balance(stats)
            self._client.track.look(stats["queue_size"], self.size_bytes)


def fate_of(error: HawkError) -> FateKind:
    """The fate that an error tells."""
    return next((fate for kind, fate in _FATES.items() if isinstance(error, kind)), FateKind.ABANDONED)
