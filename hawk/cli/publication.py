"""What one `hawk pub` publishes: reads it, hands it over, waits for the broker, and counts. The options are elsewhere."""

from collections.abc import Sequence
from dataclasses import replace

from hawk.cli.exit_codes import ExitCode
from hawk.cli.outcome import Outcome, outcome_of
from hawk.cli.session import TERMINATED
from hawk.cli.standard_streams import InputLines, StandardInput
from hawk.errors import HawkError
from hawk.interface import MQTTInterface
from hawk.receipt import Receipt
from hawk.values import Properties

_LOOK_AT_LEAST = 64


class Publication:
    """What one command publishes: what it has read, what it waits for, and what went wrong first.

    It counts by its own receipts: what an earlier command has left in the outbox file is none of its affair.
    """

    def __init__(self, topic: str, qos: int, *, retain: bool, properties: Properties, messages: int) -> None:
        self._topic = topic
        self._qos = qos
        self._retain = retain
        self._properties = properties
        self._source = StandardInput()
        self._receipts: list[Receipt] = []
        self._look_at = _LOOK_AT_LEAST
        self._delivered = 0
        self._read = messages
        self._first_failure: Outcome | None = None

    async def publish_one(self, mqtt: MQTTInterface, payload: bytes | None) -> None:
        """Publish `payload`, or all of standard input, as one message."""
        if payload is None:
            parts = []
            while data := await self._source.read():
                parts.append(data)
            if self._source.stopped:
                self._first_failure = TERMINATED
                return
            payload = b"".join(parts)
        await self._publish(mqtt, [payload])

    async def publish_lines(self, mqtt: MQTTInterface) -> None:
        """Publish each line until the input ends, is stopped, or holds what cannot be published."""
        lines = InputLines(self._source)
        while came := await lines.read():
            batch = [line for line in came if line]
            self._read += len(batch)
            try:
                await self._publish(mqtt, batch)
            except HawkError as error:
                # What was published before is still waited for.
                self._first_failure = self._first_failure or outcome_of(error)
                return
            if len(self._receipts) >= self._look_at:
                await self._let_go_of_settled()

    async def wait_for_acknowledgements(self) -> Outcome:
        """When every message has met its fate: how it went."""
        for receipt in self._receipts:
            await self._settle(receipt)
        return self._first_failure or Outcome(ExitCode.OK)

    def stop_reading(self) -> None:
        """SIGTERM: what was read is still delivered."""
        self._source.stop()

    @property
    def delivered(self) -> int:
        """How many messages the broker has."""
        return self._delivered + sum(receipt.delivered for receipt in self._receipts)

    def verdict(self, outcome: Outcome) -> Outcome:
        """How the command ended, once hawk has stopped."""
        missing = self._read - self.delivered
        if not missing:
            return outcome
        if self._read == 1 and outcome.code in (ExitCode.UNREACHABLE, ExitCode.REFUSED):
            return outcome
        how_many = f"{missing} of {self._read} messages not acknowledged" if self._read > 1 else "not acknowledged"
        if outcome.code is ExitCode.OK:
            outcome = replace(outcome, code=ExitCode.FAILED)
        elif outcome.code is ExitCode.INTERRUPTED:
            outcome = replace(outcome, why="interrupted")
        return replace(outcome, why=": ".join(filter(None, (outcome.why, how_many))))

    def facts(self) -> dict[str, object]:
        """What `--json` tells."""
        delivered = self.delivered
        return {"messages": self._read, "acknowledged": delivered, "unacknowledged": self._read - delivered}

    async def _publish(self, mqtt: MQTTInterface, payloads: Sequence[bytes]) -> None:
        await mqtt.publish_many(
            [(self._topic, payload) for payload in payloads],
            qos=self._qos,
            retain=self._retain,
            properties=self._properties,
            on_receipt=self._receipts.append,
        )

    async def _let_go_of_settled(self) -> None:
        """However long the input, no more receipts are kept than twice those that wait for the broker."""
        waiting = []
        for receipt in self._receipts:
            if receipt.settled:
                await self._settle(receipt)
                self._delivered += receipt.delivered
            else:
                waiting.append(receipt)
        self._receipts[:] = waiting
        self._look_at = max(_LOOK_AT_LEAST, 2 * len(waiting))

    async def _settle(self, receipt: Receipt) -> None:
        try:
            await receipt.acknowledged()
        except HawkError as error:
            self._first_failure = self._first_failure or outcome_of(error)
