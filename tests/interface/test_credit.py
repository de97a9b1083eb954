"""Credit and the line of offers beside a keeper's outbox: bounds hold, nobody overtakes, and what waits travels together."""

from collections import deque
from random import Random

import anyio
import pytest

from hawk.actors.mailbox import LatestSender, take_all
from hawk.config import Config
from hawk.core.outbox import Outbox
from hawk.credit import Credit, OfferSender
from hawk.errors import Stopped
from hawk.messages import Offer, Offers, Reply, Room, ToQueueKeeper, Withdraw
from hawk.packets import Connack, Publish
from hawk.testing.virtual_time import Backend, run
from hawk.values import Message

MOST, MOST_BYTES = 4, 60
BOTH = pytest.mark.parametrize("backend", ["trio", "asyncio"])
PADDING = {"small": 0, "medium": 20, "large": 40}
STEPS = [*PADDING, *PADDING, "keeper", "keeper", "answers", "cancel"]


def nobody() -> Reply | None:
    return None


def offer(number: int, padding: int = 0) -> Offer:
    message = Message("t", b"%d" % number + b" " * padding)
    return Offer((message,), nobody, message.size_bytes)


class Door:
    """An application's tasks and a keeper, one step at a time, over a link that takes two messages at once."""

    def __init__(self) -> None:
        self.room = LatestSender[Room]()
        self.credit = Credit(self.room, Room(MOST, MOST_BYTES))
        self.outbox = Outbox(Config(message_queue_size=MOST, message_queue_bytes=MOST_BYTES, max_inflight=2))
        self.outbox.open(Connack(), 0.0)
        self.outbox.ready()
        self.inbox: list[Offer | Withdraw] = []
        self.asking: deque[tuple[Offer, list[bool]]] = deque()
        self.numbers = 0
        self.sizes: dict[int, int] = {}
        """Of what is accepted and was not sent yet."""
        self.sent: list[int] = []
        self.unanswered: list[int] = []

    def publish(self, padding: int) -> None:
        self.numbers += 1
        ours = offer(self.numbers, padding)
        if self.credit.spend(ours.size_bytes):
            self.inbox.append(ours)
            self.accept(ours)
            return
        said: list[bool] = []

        def hears() -> Reply | None:
            said.append(True)
            return None

        ours = ours._replace(asks=True, reply=hears)
        self.credit.__enter__()
        self.inbox.append(ours)
        self.asking.append((ours, said))

    def accept(self, ours: Offer) -> None:
        self.sizes[int(ours.messages[0].payload)] = ours.size_bytes

    def cancel(self, which: int) -> None:
        if self.asking:
            ours, said = self.asking[which % len(self.asking)]
            self.asking.remove((ours, said))
            self.inbox.append(Withdraw(ours.reply))
            self.credit.__exit__(KeyboardInterrupt, None, None)

    def keeper_looks(self) -> None:
        inbox, self.inbox = self.inbox, []
        for message in inbox:
            if isinstance(message, Offer):
                self.outbox.offer([message])
            else:
                self.outbox.withdraw(message.reply)
        packets = [packet for packet in self.outbox.take_packets(0.0) if isinstance(packet, Publish)]
        answers = self.outbox.take_answers()
        self.room.send(self.outbox.room())
        for answer in answers:
            answer.reply()
        for ours, said in tuple(self.asking):
            if said:
                self.asking.remove((ours, said))
                self.accept(ours)
                self.credit.__exit__(None)
        self.unanswered += [packet.identifier for packet in packets]
        self.sent += [int(packet.message.payload) for packet in packets]
        for number in self.sent:
            self.sizes.pop(number, None)

    def answers_come(self) -> None:
        self.outbox.settle((), 0, 0.0, acknowledged=self.unanswered)
        self.unanswered.clear()


def test_never_more_than_the_bounds_waits_and_nobody_is_overtaken() -> None:
    for seed in range(500):
        rng, door = Random(seed), Door()
        for _ in range(rng.randrange(60)):
            match rng.choice(STEPS):
                case "keeper":
                    door.keeper_looks()
                case "answers":
                    door.answers_come()
                case "cancel":
                    door.cancel(rng.randrange(8))
                case step:
                    door.publish(PADDING[step])
            assert len(door.sizes) <= MOST, f"seed {seed}"
            assert sum(door.sizes.values()) <= MOST_BYTES, f"seed {seed}"
        while door.inbox or door.unanswered or door.asking:
            door.answers_come()
            door.keeper_looks()
        assert door.sent == sorted(door.sent), f"seed {seed}"
        door.room.close()


@BOTH
def test_offers_travel_together_until_the_keeper_takes_them(backend: Backend) -> None:
    async def main() -> None:
        to_keeper, inbox = anyio.create_memory_object_stream[ToQueueKeeper](1)
        with to_keeper, inbox:
            sender = OfferSender(to_keeper)
            for number in (1, 2, 3):
                sender.send_nowait(offer(number))
            (together,) = take_all(inbox, None)
            assert isinstance(together, Offers)
            sender.send_nowait(offer(4))  # it has not been taken yet
            assert [each.messages[0].payload for each in together.take()] == [b"1", b"2", b"3", b"4"]
            assert together.take() == [], "what was taken is not kept alive"
            sender.send_nowait(offer(5))
            (later,) = take_all(inbox, None)
            assert isinstance(later, Offers)
            assert [each.messages[0].payload for each in later.take()] == [b"5"]

    run(main, backend=backend)


@BOTH
def test_with_a_full_inbox_an_offer_waits_its_turn_and_cancelling_does_not_lose_it(backend: Backend) -> None:
    async def main() -> None:
        to_keeper, inbox = anyio.create_memory_object_stream[ToQueueKeeper](1)
        with to_keeper, inbox:
            to_keeper.send_nowait(Withdraw(nobody))
            sender = OfferSender(to_keeper)
            with pytest.raises(anyio.WouldBlock):
                sender.send_nowait(offer(1))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.send, offer(2))
                await anyio.sleep(1.0)
                tasks.cancel_scope.cancel()
                assert isinstance(inbox.receive_nowait(), Withdraw)
            (waited,) = take_all(inbox, None)
            assert isinstance(waited, Offers)
            assert [each.messages[0].payload for each in waited.take()] == [b"2"]

    run(main, backend=backend)


@BOTH
def test_nothing_is_offered_to_a_keeper_that_has_gone(backend: Backend) -> None:
    async def main() -> None:
        to_keeper, inbox = anyio.create_memory_object_stream[ToQueueKeeper](1)
        sender = OfferSender(to_keeper)
        sender.send_nowait(offer(1))
        (taken,) = take_all(inbox, None)
        assert isinstance(taken, Offers)
        taken.take()
        inbox.close()
        with pytest.raises(Stopped):
            sender.send_nowait(offer(2))
        to_keeper.close()
        with pytest.raises(Stopped):
            await sender.send(offer(3))

    run(main, backend=backend)
