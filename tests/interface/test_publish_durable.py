"""`publish()` with a store, from many tasks at once: they are woken together, and each is told what is its own."""

from contextlib import suppress
from typing import cast

import anyio
import pytest

from hawk import Config, Dropped, MQTTInterface, Receipt, ReconnectionConfig, Stopped
from hawk.messages import WatchFates
from hawk.stores.memory import MemoryStore
from hawk.testing.rehearsal import Rehearsal
from hawk.values import Fate, FateKind, Ledger
from hawk.wiring import Service

RECONNECTION = ReconnectionConfig(max_retries=None, initial_retry_delay=1.0, jitter_factor=0.0)
CONFIG = Config(reconnection=RECONNECTION)
SYNC_S = 0.01


class Senders:
    """Tasks that publish one message each, at the same moment."""

    def __init__(self, mqtt: MQTTInterface) -> None:
        self._mqtt = mqtt
        self.accepted: list[int] = []
        self.stopped: list[int] = []
        self.cancelled: list[int] = []

    async def publish(self, number: int, patience_s: float = 60.0) -> None:
        with anyio.move_on_after(patience_s) as scope:
            try:
                await self._mqtt.publish("n", number, qos=1)
                self.accepted.append(number)
            except Stopped:
                self.stopped.append(number)
        if scope.cancelled_caught:
            self.cancelled.append(number)


async def test_who_offers_together_with_others_is_accepted_when_its_own_message_is() -> None:
    """Two find room at once; each of the others when the broker has taken one."""
    config = Config(message_queue_size=2, max_inflight=1, overflow="wait", reconnection=RECONNECTION)
    store = MemoryStore(sync_s=SYNC_S)
    async with Rehearsal() as rehearsal:
        rehearsal.network.refuse()
        async with (
            rehearsal.open_mqtt(config, ports=rehearsal.ports(config, outbox_store=store)) as mqtt,
            anyio.create_task_group() as tasks,
        ):
            senders = Senders(mqtt)
            for number in range(8):
                tasks.start_soon(senders.publish, number)
            await anyio.sleep(5.0)
            assert len(senders.accepted) == 2 == len(store.records)
            rehearsal.network.allow()
            while len(senders.accepted) < 8:
                await anyio.sleep(0.1)
        assert sorted(int(payload) for _, payload in rehearsal.broker.received()) == list(range(8))


async def test_one_of_many_that_is_cancelled_ends_only_itself() -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as tasks:
        store = MemoryStore(sync_s=1.0)
        async with rehearsal.open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG, outbox_store=store)) as mqtt:
            await mqtt.connect()
            senders = Senders(mqtt)
            for number in range(10):
                tasks.start_soon(senders.publish, number, 0.5 if number == 3 else 60.0)
            await anyio.sleep(5.0)
            assert senders.cancelled == [3]
            assert sorted(senders.accepted) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("drain_s", [0.0, 1.0])
async def test_all_who_wait_for_a_disk_that_hangs_are_told_of_the_end(drain_s: float) -> None:
    async with Rehearsal() as rehearsal, anyio.create_task_group() as tasks:
        store = MemoryStore()
        async with rehearsal.open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG, outbox_store=store)) as mqtt:
            await mqtt.connect()
            await (await mqtt.publish("n", "before")).acknowledged()
            store.stall()
            senders = Senders(mqtt)
            for number in range(10):
                tasks.start_soon(senders.publish, number)
            await anyio.sleep(1.0)
            assert not senders.accepted
            await mqtt.disconnect(drain_s=drain_s)
            await anyio.sleep(0.1)
            assert sorted(senders.stopped) == list(range(10))
            store.flow()


async def test_a_sender_after_another_shares_no_event_that_was_set_before() -> None:
    """Each waits for a commit of its own: an event of an earlier one wakes nobody, and keeps no task busy."""
    async with Rehearsal() as rehearsal:
        store = MemoryStore(sync_s=SYNC_S)
        async with rehearsal.open_mqtt(CONFIG, ports=rehearsal.ports(CONFIG, outbox_store=store)) as mqtt:
            await mqtt.connect()
            for number in range(5):
                began_at = anyio.current_time()
                await mqtt.publish("n", number, qos=1)
                assert SYNC_S * 0.99 <= anyio.current_time() - began_at <= 3 * SYNC_S


@pytest.mark.parametrize("breaths", [1, 2])
async def test_a_message_that_is_lost_after_it_was_accepted_is_no_failure_of_its_acceptance(breaths: int) -> None:
    """QoS 0 whose link dies before its sender has run again; a policy that lets in and out in one breath is another matter."""
    learned: list[Ledger] = []
    receipt = Receipt(1, 1, cast(Service, None), learned.append)
    receipt.accept(Ledger(revision=1))
    receipt.settle(Fate(FateKind.DROPPED, "the link died"), Ledger(revision=breaths))
    if breaths == 1:
        with pytest.raises(Dropped):
            await receipt.accepted()
    else:
        await receipt.accepted()
    with pytest.raises(Dropped):
        await receipt.acknowledged()


class FullInbox:
    """An inbox that is full when the next offer comes, so that its sender has to wait."""

    def __init__(self, mqtt: MQTTInterface) -> None:
        service = mqtt._service  # noqa: SLF001 - an application cannot fill it at will
        assert service is not None
        self._to_queue_keeper = service.to_queue_keeper

    def fill(self) -> None:
        with suppress(anyio.WouldBlock):
            while True:
                self._to_queue_keeper.send_nowait(WatchFates(False))


async def test_an_event_that_is_shared_takes_the_place_of_none_that_somebody_waits_for() -> None:
    """`on_receipt` gives a batch's receipt away before it is offered, and so before it shares an event."""
    async with Rehearsal() as rehearsal:
        ports = rehearsal.ports(CONFIG, outbox_store=MemoryStore(sync_s=SYNC_S), keeper_inbox=1)
        async with rehearsal.open_mqtt(CONFIG, ports=ports) as mqtt, anyio.create_task_group() as tasks:
            await mqtt.connect()
            inbox = FullInbox(mqtt)
            acknowledged: list[Receipt] = []

            async def wait_for(receipt: Receipt) -> None:
                await receipt.acknowledged()
                acknowledged.append(receipt)

            def give_away(receipt: Receipt) -> None:
                tasks.start_soon(wait_for, receipt)
                inbox.fill()

            for _ in range(10):
                await mqtt.publish_many([("n", "x")], qos=1, on_receipt=give_away)
            await anyio.sleep(5.0)
            assert len(acknowledged) == 10
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("durable", [False, True])
async def test_a_callback_that_raises_costs_no_room(durable: bool) -> None:
    config = Config(message_queue_size=4, reconnection=RECONNECTION)

    def complain(receipt: Receipt) -> None:
        raise LookupError(receipt)

    async with Rehearsal() as rehearsal:
        ports = rehearsal.ports(config, outbox_store=MemoryStore() if durable else None)
        async with rehearsal.open_mqtt(config, ports=ports) as mqtt:
            await mqtt.connect()
            for _ in range(5):
                with pytest.raises(LookupError):
                    await mqtt.publish_many([("n", "a"), ("n", "b")], on_receipt=complain)
            assert mqtt.stats["accepted"] == 0
            await (await mqtt.publish("n", "c")).acknowledged()
            assert mqtt.stats["accepted"] == 1
