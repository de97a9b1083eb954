"""What one `hawk sub` receives: prints it, acknowledges it then, and counts. The options are elsewhere."""

import base64
import json
import math
from collections.abc import Callable, Sequence

import anyio

from hawk.cli.exit_codes import ExitCode
from hawk.cli.outcome import Outcome, outcome_of
from hawk.cli.standard_streams import StandardOutput
from hawk.errors import HawkError
from hawk.interface import MQTTInterface
from hawk.received import ReceivedMessage

Shown = Callable[[ReceivedMessage], Sequence[bytes]]
"""A message as the parts of what is printed."""


class Reception:
    """Prints what arrives for any of `filters`. `shown` makes bytes of a message; none of them print nothing."""

    def __init__(self, filters: Sequence[str], qos: int, *, count: int | None, shown: Shown) -> None:
        self._filters = filters
        self._qos = qos
        self._unclaimed = math.inf if count is None else count
        self._unprinted = self._unclaimed
        self._shown = shown
        self._output = StandardOutput()
        self._outcome = Outcome(ExitCode.OK)

    async def run(self, mqtt: MQTTInterface) -> Outcome:
        """Until `count` messages are printed and handled, nobody reads any more, or the broker refuses a filter."""
        async with anyio.create_task_group() as tasks:
            for each in self._filters:
                tasks.start_soon(self._receive, mqtt, each, tasks.cancel_scope)
            tasks.start_soon(self._watch_reader, tasks.cancel_scope)
        return self._outcome

    async def _watch_reader(self, everybody: anyio.CancelScope) -> None:
        """`hawk sub | head -1` ends with head, not with the message after."""
        await self._output.wait_closed()
        everybody.cancel()

    async def _receive(self, mqtt: MQTTInterface, topic_filter: str, everybody: anyio.CancelScope) -> None:
        try:
            # What is raised in the block, such as by a closed pipe, leaves the message in hand with the broker.
            async with mqtt.subscribe(topic_filter, qos=self._qos) as messages:
                async for message in messages:
                    if not self._unclaimed:
                        # The last one is being printed by another task, which then ends this one.
                        await anyio.sleep_forever()
                    self._unclaimed -= 1
                    await self._output.write(self._shown(message))
                    self._unprinted -= 1
                    if not self._unprinted:
                        break
        except (HawkError, OSError) as error:
            self._outcome = outcome_of(error)
        everybody.cancel()


def as_payload(message: ReceivedMessage) -> Sequence[bytes]:
    """The payload and a newline; nothing for an empty one."""
    return (message.payload, b"\n") if message.payload else ()


def as_topic_and_payload(message: ReceivedMessage) -> Sequence[bytes]:
    """The topic, the payload or (null), and a newline."""
    return (message.topic.encode(), b" ", message.payload or b"(null)", b"\n")


def as_json(message: ReceivedMessage) -> Sequence[bytes]:
    """One object on one line. A payload that is not UTF-8 text stands as `payload_base64`."""
    told: dict[str, object] = {"topic": message.topic, "qos": message.qos, "retain": message.retain}
    try:
        told["payload"] = message.text()
    except UnicodeDecodeError:
        told["payload_base64"] = base64.b64encode(message.payload).decode()
    return (json.dumps(told, ensure_ascii=False).encode(), b"\n")
