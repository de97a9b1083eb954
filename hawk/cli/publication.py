"""What one `hawk pub` publishes: reads it, hands it over, waits for the broker, and counts. The options are elsewhere."""

from collections import deque
from dataclasses import replace

from hawk.cli.exit_codes import ExitCode
from hawk.cli.outcome import Outcome, outcome_of
from hawk.cli.standard_streams import InputLines, StandardInput
from hawk.errors import HawkError
from hawk.interface import MQTTInterface
from hawk.receipt import Receipt
from hawk.values import Properties


class Publication:
    """What one command publishes: what it has read, what it waits for, and what went wrong first."""

    def __init__(self, topic: str, qos: int, *, retain: bool, properties: Properties, messages: int) -> None:
        self._topic = topic
        self._qos = qos
        self._retain = retain
        self._properties = properties
        self._source = StandardInput()
        self._receipts: deque[Receipt] = deque()
        self._read = messages
        self._first_failure: Outcome | None = None

    async def publish_one(self, mqtt: MQTTInterface, payload: bytes | None) -> None:
        """Publish `payload`, or all of standard input, as one message."""
        if payload is None:
            parts = []
            while data := await self._source.read():
                parts.append(data)
            if self._source.stopped:
                return
            payload = b"".join(parts)
        receipt = await mqtt.publish(
            self._topic, payload, qos=self._qos, retain=self._retain, properties=self._properties
        )
        self._receipts.append(receipt)

    async def publish_lines(self, mqtt: MQTTInterface) -> None:
        """Publish each line until the input ends, is stopped, or holds what cannot be published."""
        lines = InputLines(self._source)
        while came := await lines.read():
            batch = [(self._topic, line) for line in came if line]
            self._read += len(batch)
            try:
                receipt = await mqtt.publish_many(
                    batch, qos=self._qos, retain=self._retain, properties=self._properties
                )
                self._receipts.append(receipt)
            except HawkError as error:
                # What was published before is still waited for.
                self._first_failure = self._first_failure or outcome_of(error)
                return
            while self._receipts and self._receipts[0].settled:
                await self._settle(self._receipts.popleft())

    async def wait_for_acknowledgements(self) -> Outcome:
        """When every message has met its fate: how it went."""
        while self._receipts:
            await self._settle(self._receipts.popleft())
        return self._first_failure or Outcome(ExitCode.OK)

    def stop_reading(self) -> None:
        """SIGTERM: what was read is still delivered."""
        self._source.stop()

    def verdict(self, outcome: Outcome, delivered: int) -> Outcome:
        """How the command ended, given how many messages the broker has."""
        missing = self._read - delivered
        if not missing:
            return outcome
        if self._read == 1 and outcome.code in (ExitCode.UNREACHABLE, ExitCode.REFUSED):
            return outcome
        how_many = f"{missing} of {self._read} messages not acknowledged" if self._read > 1 else "not acknowledged"
        if outcome.code is ExitCode.OK:
            outcome = replace(outcome, code=ExitCode.FAILED, why="stopped by SIGTERM")
        elif outcome.code is ExitCode.INTERRUPTED:
            outcome = replace(outcome, why="interrupted")
        return replace(outcome, why=f"{outcome.why}: {how_many}")

    def facts(self, delivered: int) -> dict[str, object]:
        """What `--json` tells."""
        return {"messages": self._read, "acknowledged": delivered, "unacknowledged": self._read - delivered}

    async def _settle(self, receipt: Receipt) -> None:
        try:
            await receipt.acknowledged()
        except HawkError as error:
            self._first_failure = self._first_failure or outcome_of(error)
