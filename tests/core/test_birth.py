"""The birth message in its place: behind what is resumed, before everything else; and gone with the link it was for."""

import pytest

from hawk.config import Config
from hawk.core.outbox import Outbox
from hawk.messages import Offer, Reply, ReplyReference
from hawk.packets import AckKind, Acknowledgement, Connack, Publish
from hawk.values import Message

NEW, LIVING = Connack(), Connack(session_present=True)


def nobody() -> Reply | None:
    return None


def offer_of(messages: tuple[Message, ...], reply: ReplyReference, *, asks: bool = False) -> Offer:
    return Offer(messages, reply, sum(message.size_bytes for message in messages), asks)


def birth(qos: int = 1) -> Message:
    return Message("status", b"here", qos)


def offered(outbox: Outbox, *payloads: str) -> None:
    messages = tuple(Message("t", payload.encode()) for payload in payloads)
    outbox.offer([offer_of(messages, nobody, asks=True)])


def sent(outbox: Outbox) -> list[str]:
    return [packet.message.payload.decode() for packet in outbox.take_packets(0.0) if isinstance(packet, Publish)]


def fates(outbox: Outbox) -> list[tuple[str, str]]:
    return [
        (message.payload.decode(), fate.kind.value) for _, message, fate, _ in outbox.take_answers() if fate is not None
    ]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_it_waits_for_ready_and_goes_before_the_backlog(qos: int) -> None:
    outbox = Outbox(Config())
    offered(outbox, "a", "b")
    outbox.open(NEW, 0.0, birth(qos))
    assert sent(outbox) == []
    outbox.ready()
    assert sent(outbox) == ["here", "a", "b"]
    assert outbox.ledger().balance == 0


def test_what_a_living_session_resumes_goes_before_it_and_what_a_lost_one_sends_anew_after_it() -> None:
    for connack, order in ((LIVING, [["a"], ["here", "b"]]), (NEW, [[], ["here", "a", "b"]])):
        outbox = Outbox(Config(max_inflight=1))
        offered(outbox, "a")
        outbox.open(NEW, 0.0)
        outbox.ready()
        assert sent(outbox) == ["a"]
        outbox.close()
        offered(outbox, "b")
        outbox.open(connack, 0.0, birth(0))
        first = sent(outbox)
        outbox.ready()
        then = sent(outbox)
        for identifier in (1, 2, 3):
            outbox.settle([Acknowledgement(AckKind.PUBACK, identifier)], 1, 0.0)
            then += sent(outbox)
        assert [first, then] == order


def test_without_credit_it_waits_and_so_does_everything_behind_it() -> None:
    outbox = Outbox(Config(max_inflight=1))
    offered(outbox, "a")
    outbox.open(NEW, 0.0)
    outbox.ready()
    assert sent(outbox) == ["a"]
    outbox.close()
    offered(outbox, "b")
    outbox.open(LIVING, 0.0, birth())
    outbox.ready()
    assert sent(outbox) == ["a"]
    outbox.settle([Acknowledgement(AckKind.PUBACK, 1)], 0, 0.0)
    assert sent(outbox) == ["here"]
    outbox.settle([Acknowledgement(AckKind.PUBACK, 2)], 0, 0.0)
    assert sent(outbox) == ["b"]


def test_one_that_never_went_out_is_superseded_with_its_link() -> None:
    outbox = Outbox(Config())
    outbox.open(NEW, 0.0, birth())
    outbox.close()
    assert fates(outbox) == [("here", "superseded")]
    outbox.open(NEW, 0.0, birth())
    outbox.ready()
    assert sent(outbox) == ["here"]
    ledger = outbox.ledger()
    assert (ledger.accepted, ledger.superseded, ledger.queued, ledger.balance) == (2, 1, 0, 0)


def test_one_that_went_out_is_a_message_like_any_other() -> None:
    outbox = Outbox(Config())
    outbox.open(NEW, 0.0, birth())
    outbox.ready()
    assert sent(outbox) == ["here"]
    outbox.close()
    assert fates(outbox) == []
    outbox.open(LIVING, 0.0, Message("status", b"here again", 1))
    outbox.ready()
    assert sent(outbox) == ["here", "here again"]


def test_one_that_the_broker_can_never_take_is_a_dead_letter_and_blocks_nothing() -> None:
    outbox = Outbox(Config())
    offered(outbox, "a")
    outbox.open(Connack(maximum_qos=1), 0.0, birth(2))
    outbox.ready()
    assert sent(outbox) == ["a"]
    assert fates(outbox) == [("here", "dead_lettered")]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_file_does_not_keep_it_for_the_next_process_has_its_own(qos: int) -> None:
    outbox = Outbox(Config(), durable=True)
    outbox.open(NEW, 0.0, birth(qos))
    outbox.ready()
    first = sent(outbox)
    commit = outbox.take_commit(0.0)
    assert commit is None or commit.insert == ()
    if commit is not None:
        # At QoS 2 the identifier is committed before the PUBLISH.
        outbox.committed()
    assert first + sent(outbox) == ["here"]


def test_nothing_is_born_after_the_end() -> None:
    outbox = Outbox(Config())
    outbox.begin_stop()
    outbox.end_stop()
    outbox.open(NEW, 0.0, birth())
    outbox.ready()
    assert sent(outbox) == []
    assert outbox.ledger().accepted == 0
