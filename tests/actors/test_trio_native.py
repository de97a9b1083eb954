"""hawk as trio runs it: in a plain trio nursery, with trio's own autojump clock, against the broker of `hawk.testing`.

What is timed here is timed by the broker's record, not by what hawk says of itself.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from hawk import Config, ConnectionState, MQTTInterface, ReconnectionConfig
from hawk.testing.rehearsal import Rehearsal

KEEP_ALIVE_S = 8.0
PING_TIMEOUT_S = 3.0
DETECTED_WITHIN_S = 1.5 * KEEP_ALIVE_S + PING_TIMEOUT_S
CONFIG = Config(
    reconnection=ReconnectionConfig(max_retries=None, initial_retry_delay=1.0, max_retry_delay=8.0, jitter_factor=0.2),
    health_check_interval=KEEP_ALIVE_S,
    ping_timeout_s=PING_TIMEOUT_S,
    ack_timeout_s=1000.0,
    drain_s=2.0,
)


@pytest.fixture
def anyio_backend() -> str:
    """These run on trio alone."""
    return "trio"


@asynccontextmanager
async def connected(rehearsal: Rehearsal) -> AsyncIterator[MQTTInterface]:
    """A hawk in a trio nursery, connected; disconnected at the end."""
    async with trio.open_nursery() as nursery:
        mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
        await mqtt.connect()
        yield mqtt
        await mqtt.disconnect()


async def wait_for(mqtt: MQTTInterface, state: ConnectionState) -> float:
    """How long it takes until hawk is there."""
    began_at = trio.current_time()
    with trio.fail_after(300):
        while mqtt.connection_state is not state:
            await trio.sleep(0.02)
    return trio.current_time() - began_at


@pytest.mark.trio
async def test_what_is_published_in_an_outage_arrives_after_it_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Rehearsal() as rehearsal, connected(rehearsal) as mqtt:
        await rehearsal.broker.kill()
        await wait_for(mqtt, ConnectionState.RECONNECTING)
        receipts = [await mqtt.publish("trio/outage", str(number), qos=1 + number % 2) for number in range(40)]
        await trio.sleep(3600)
        await rehearsal.broker.restart()
        with trio.fail_after(2 * CONFIG.reconnection.max_retry_delay):
            for receipt in receipts:
                await receipt.acknowledged()
        assert [payload for _, payload in rehearsal.broker.received()] == [b"%d" % number for number in range(40)]


@pytest.mark.trio
async def test_the_waits_between_dials_are_drawn_from_their_bounds(autojump_clock: trio.testing.MockClock) -> None:
    async with Rehearsal(seed=3) as rehearsal, connected(rehearsal) as mqtt:
        rehearsal.broker.refuse_with(0x88)
        rehearsal.network.reset_all()
        await wait_for(mqtt, ConnectionState.RECONNECTING)
        lost_at = trio.current_time()
        await trio.sleep(60)
        rehearsal.broker.refuse_with(None)
        await wait_for(mqtt, ConnectionState.CONNECTED)
        dials = [each.at for each in rehearsal.broker.records if each.packet == "CONNECT" and each.connection > 1]
        waits = [later - sooner for sooner, later in zip([lost_at, *dials], dials, strict=False)]
        assert len(waits) > 7
        reconnection = CONFIG.reconnection
        share, cap = reconnection.jitter_factor, reconnection.max_retry_delay
        for retry, wait_s in enumerate(waits):
            delay_s = min(cap, reconnection.initial_retry_delay * reconnection.backoff_multiplier**retry)
            assert delay_s * (1 - share) - 0.05 <= wait_s <= min(cap, delay_s * (1 + share)) + 0.05
        at_the_cap = waits[4:]
        assert len({round(wait_s, 3) for wait_s in at_the_cap}) == len(at_the_cap)


@pytest.mark.trio
@pytest.mark.parametrize("activity", ["idle", "sending", "blocked write", "pings unanswered"])
async def test_a_dead_peer_is_noticed_in_time(activity: str, autojump_clock: trio.testing.MockClock) -> None:
    async with Rehearsal() as rehearsal, connected(rehearsal) as mqtt:
        await trio.sleep(5.0)

        async def send(size_bytes: int) -> None:
            for _ in range(200):
                await mqtt.publish("trio/dead", bytes(size_bytes))
                await trio.sleep(0.25)

        async with trio.open_nursery() as nursery:
            match activity:
                case "idle":
                    rehearsal.network.blackhole()
                case "sending":
                    rehearsal.network.blackhole("down")
                    nursery.start_soon(send, 10)
                case "blocked write":
                    rehearsal.network.blackhole()
                    nursery.start_soon(send, 1_000_000)
                case _:
                    rehearsal.broker.answers_pings = False
            # The last that was heard may be a ping's answer of just now.
            took_s = await wait_for(mqtt, ConnectionState.RECONNECTING)
            nursery.cancel_scope.cancel()
        pings = [each for each in rehearsal.broker.records if each.packet == "PINGREQ"]
        quiet_before_s = KEEP_ALIVE_S if activity == "pings unanswered" else 0.0
        assert took_s <= DETECTED_WITHIN_S + quiet_before_s
        assert bool(pings) == (activity == "pings unanswered") or activity == "sending"
        rehearsal.network.heal()
        rehearsal.broker.answers_pings = True
        await wait_for(mqtt, ConnectionState.CONNECTED)


@pytest.mark.trio
async def test_a_healthy_idle_link_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with Rehearsal() as rehearsal, connected(rehearsal) as mqtt:
        await trio.sleep(3600)
        assert mqtt.stats["total_disconnections"] == 0
        pings = [each for each in rehearsal.broker.records if each.packet == "PINGREQ"]
        assert len(pings) >= 3600 / KEEP_ALIVE_S


@pytest.mark.trio
@pytest.mark.parametrize("heals", [True, False])
async def test_a_stop_is_bounded(heals: bool, autojump_clock: trio.testing.MockClock) -> None:
    async with Rehearsal() as rehearsal, connected(rehearsal) as mqtt:
        if not heals:
            rehearsal.network.blackhole()
        for number in range(20):
            await mqtt.publish("trio/stop", str(number))
        began_at = trio.current_time()
        report = await mqtt.disconnect()
        assert trio.current_time() - began_at <= CONFIG.drain_s + 1.0
        assert (report.acknowledged, report.abandoned) == ((20, 0) if heals else (0, 20))
        assert mqtt.connection_state is ConnectionState.DISCONNECTED
        last = rehearsal.broker.records[-1].packet
        assert (last == "DISCONNECT") is heals
        rehearsal.network.heal()


@pytest.mark.trio
async def test_cancelling_the_nursery_stops_hawk_within_its_second(autojump_clock: trio.testing.MockClock) -> None:
    async with Rehearsal() as rehearsal:
        async with trio.open_nursery() as nursery:
            mqtt = MQTTInterface(CONFIG, nursery, ports=rehearsal.ports(CONFIG))
            await mqtt.connect()
            for number in range(20):
                await mqtt.publish("trio/cancel", str(number))
            began_at = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began_at <= CONFIG.cancel_drain_s + 0.5
        assert len(rehearsal.broker.received()) == 20
        assert rehearsal.broker.records[-1].packet == "DISCONNECT"
