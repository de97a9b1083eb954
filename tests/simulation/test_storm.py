"""The storm: one hawk publishes while its broker and its network fail in every way, in virtual time (C2, C3, C4, C5).

`pytest tests/simulation --seed N` runs one seed; without it all forty run, on both backends and with inboxes of 1,024 and 1.
"""

from collections.abc import Sequence
from random import Random

import anyio
import pytest

from hawk import Config, MQTTInterface, Receipt, ReconnectionConfig, UnknownFate
from hawk.packets import AckKind, Acknowledgement, Arrivals, Connack, ConnectRequest, Outgoing, Publish
from hawk.ports import Dialer, Link
from hawk.testing.history import Verdict, judge
from hawk.testing.rehearsal import Rehearsal
from hawk.testing.virtual_time import Backend, run

SEEDS = 40
OUTAGES = 30
MESSAGES = 300
HEALED_WITHIN_S = 600.0

CONFIG = Config(
    reconnection=ReconnectionConfig(
        max_retries=None, initial_retry_delay=0.5, max_retry_delay=8.0, connection_timeout=5.0
    ),
    health_check_interval=5.0,
    message_queue_size=2 * MESSAGES,
    max_inflight=20,
    ack_timeout_s=20.0,
)


async def bad_weather(rehearsal: Rehearsal, sessions_lost: list[int]) -> None:
    """Thirty outages of every kind, then clear sky."""
    random, network, broker = rehearsal.random, rehearsal.network, rehearsal.broker
    for outage in range(OUTAGES):
        network.latency_s, network.jitter_s = random.choice([(0.0, 0.0), (0.05, 0.02), (0.4, 0.3)])
        network.slice_bytes = random.choice([None, None, 1, 7])
        await anyio.sleep(random.uniform(0.0, 6.0))
        match random.randrange(9):
            case 0:
                network.reset_all()
            case 1:
                network.cut_all()
            case 2:
                network.cut_after(random.randrange(1, 2000))
            case 3:
                network.blackhole(random.choice(["both", "up", "down"]))
                await anyio.sleep(random.uniform(0.1, 20.0))
                network.heal()
            case 4:
                network.stall()
                await anyio.sleep(random.uniform(0.1, 20.0))
                network.heal()
            case 5:
                network.refuse()
                network.reset_all()
                await anyio.sleep(random.uniform(0.1, 10.0))
                network.allow()
            case 6:
                await broker.kill()
                await anyio.sleep(random.uniform(0.0, 10.0))
                sessions = random.choice(["keep", "keep", "lose"])
                await broker.restart(sessions=sessions)
                if sessions == "lose":
                    sessions_lost.append(outage)
            case 7:
                await broker.stop()
                await anyio.sleep(random.uniform(0.0, 10.0))
                await broker.restart(sessions="keep")
            case 8:
                broker.refuse_with(random.choice([0x88, 0x89, 0x97]))
                broker.disconnect_all(0x89)
                await anyio.sleep(random.uniform(0.1, 10.0))
                broker.refuse_with(None)
    network.latency_s = network.jitter_s = 0.0
    network.slice_bytes = None
    network.cut_after(None)


def qos_of(number: int) -> int:
    """The QoS of the message of that number."""
    return 2 if number % 3 == 0 else 1


async def publish_all(mqtt: MQTTInterface, random: Random) -> list[Receipt]:
    """Three hundred numbered messages, one after another: every third at QoS 2, the others at QoS 1."""
    receipts = []
    for number in range(MESSAGES):
        receipts.append(await mqtt.publish("storm/number", str(number), qos=qos_of(number)))
        if random.random() < 0.5:
            await anyio.sleep(random.uniform(0.0, 1.0))
    return receipts


async def storm(
    seed: int, keeper_inbox: int, planted: "type[Dialer] | None" = None
) -> tuple[Verdict[int], dict[str, int]]:
    """Run one storm; return the verdict over what was accepted and what arrived, and the last ledger."""
    async with Rehearsal(seed=seed) as rehearsal:
        dialer = rehearsal.dialer(CONFIG) if planted is None else planted(rehearsal.dialer(CONFIG))  # type: ignore[call-arg]
        ports = rehearsal.ports(CONFIG, dialer=dialer, keeper_inbox=keeper_inbox)
        random = Random(rehearsal.random.getrandbits(64))
        unknown: list[int] = []
        sessions_lost: list[int] = []
        async with rehearsal.open_mqtt(CONFIG, ports=ports) as mqtt:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(bad_weather, rehearsal, sessions_lost)
                receipts = await publish_all(mqtt, random)
            with anyio.fail_after(HEALED_WITHIN_S):
                for number, receipt in enumerate(receipts):
                    try:
                        await receipt.acknowledged()
                    except UnknownFate:
                        unknown.append(number)
        stats = mqtt.stats
        assert stats["accepted"] == MESSAGES
        assert stats["acknowledged"] + stats["unknown"] == MESSAGES
        assert stats["queue_size"] == 0
        arrived = [int(payload) for topic, payload in rehearsal.broker.received() if topic == "storm/number"]
        verdict = judge(range(MESSAGES), arrived, excused=unknown)
        if not sessions_lost:
            # QoS 2 never repeats while the session lives, and then no fate is unknown either (C3).
            assert not unknown
            assert not [number for number in verdict.duplicated if qos_of(number) == 2]
        return verdict, {"connections": stats["total_connections"]}


@pytest.mark.parametrize("keeper_inbox", [1024, 1])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_nothing_is_lost_or_reordered_in_a_storm(backend: Backend, keeper_inbox: int, seeds: Sequence[int]) -> None:
    for seed in seeds:
        verdict, seen = run(storm, seed, keeper_inbox, backend=backend, seed=seed)
        assert not verdict.lost, f"seed {seed}: {verdict}"
        assert not verdict.reordered, f"seed {seed}: {verdict}"
        assert seen["connections"] > 5, f"seed {seed}: the weather was too good to prove anything"


class LosesOneReplay:
    """A dialer whose links swallow a repeated PUBLISH and answer for the broker: a bug that loses one replay."""

    def __init__(self, inner: Dialer) -> None:
        self._inner = inner

    async def dial(self, request: ConnectRequest) -> Link:
        return _Losing(await self._inner.dial(request))


class ReordersOneReplay:
    """A dialer whose links send the first two repeated PUBLISHes in the other order."""

    def __init__(self, inner: Dialer) -> None:
        self._inner = inner

    async def dial(self, request: ConnectRequest) -> Link:
        return _Reordering(await self._inner.dial(request))


class _Losing:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._forged: list[Acknowledgement] = []

    @property
    def connack(self) -> Connack:
        return self._link.connack

    @property
    def written_bytes(self) -> int:
        return self._link.written_bytes

    async def send(self, packets: Sequence[Outgoing]) -> None:
        kept = []
        for packet in packets:
            if isinstance(packet, Publish) and packet.duplicate and packet.message.qos == 1 and not self._forged:
                self._forged.append(Acknowledgement(AckKind.PUBACK, packet.identifier))
            else:
                kept.append(packet)
        if kept:
            await self._link.send(kept)

    async def receive(self) -> Arrivals:
        arrivals = await self._link.receive()
        arrivals.acknowledgements += self._forged
        return arrivals

    async def aclose(self) -> None:
        await self._link.aclose()


class _Reordering:
    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def connack(self) -> Connack:
        return self._link.connack

    @property
    def written_bytes(self) -> int:
        return self._link.written_bytes

    async def send(self, packets: Sequence[Outgoing]) -> None:
        repeated = [n for n, packet in enumerate(packets) if isinstance(packet, Publish) and packet.duplicate]
        swapped = list(packets)
        if len(repeated) > 1:
            first, second = repeated[:2]
            swapped[first], swapped[second] = swapped[second], swapped[first]
        await self._link.send(swapped)

    async def receive(self) -> Arrivals:
        return await self._link.receive()

    async def aclose(self) -> None:
        await self._link.aclose()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_storm_catches_a_lost_replay(backend: Backend) -> None:
    verdicts = [run(storm, seed, 1024, LosesOneReplay, backend=backend, seed=seed)[0] for seed in range(5)]
    assert any(verdict.lost for verdict in verdicts)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_storm_catches_a_reordered_replay(backend: Backend) -> None:
    verdicts = [run(storm, seed, 1024, ReordersOneReplay, backend=backend, seed=seed)[0] for seed in range(5)]
    assert any(verdict.reordered for verdict in verdicts)
