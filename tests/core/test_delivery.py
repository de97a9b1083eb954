"""The window: identifiers, credit, and MQTT 5 sections 4.3.3 and 4.4 row by row."""

import pytest

from hawk.core.delivery import TRACK, Awaits, Entry, Next, obstacle_to
from hawk.core.window import HIGHEST_IDENTIFIER, MOST_BYTES_IN_FLIGHT, Window
from hawk.messages import Reply, Withheld
from hawk.packets import AckKind, Acknowledgement, Connack, Publish
from hawk.values import FateKind, Message

NEW, LIVING = Connack(), Connack(session_present=True)
TOO_SMALL = Connack(session_present=True, maximum_packet_size=10)


def nobody() -> Reply | None:
    return None


def entries(count: int, qos: int = 1, payload: bytes = b"") -> list[Entry]:
    return [Entry(number, Message("t", payload, qos), nobody) for number in range(1, count + 1)]


def opened(connack: Connack = NEW, *, max_inflight: int = 1000) -> Window:
    window = Window(max_inflight)
    assert window.open(connack) == ([], [], [])
    return window


def resumed(window: Window, *, ready: bool = True) -> list[Publish | Acknowledgement]:
    packets, prepared, _ = window.resume(0.0, ready=ready)
    assert prepared == []
    return packets


def test_the_table_has_a_row_for_all_that_an_entry_can_hear() -> None:
    heard = (AckKind.PUBACK, AckKind.PUBREC, AckKind.PUBCOMP)
    assert set(TRACK) == {(awaits, kind) for awaits in Awaits for kind in heard}
    assert all(Next.JUDGE not in row[:1] for row in TRACK.values()), "only what is refused is judged"


@pytest.mark.parametrize("code", [0x00, 0x10, 0x80, 0x87, 0x97, 0xFF])
@pytest.mark.parametrize(
    ("awaits", "kind"),
    [
        (Awaits.PUBACK, AckKind.PUBREC),
        (Awaits.PUBACK, AckKind.PUBCOMP),
        (Awaits.PUBREC, AckKind.PUBACK),
        (Awaits.PUBREC, AckKind.PUBCOMP),
        (Awaits.PUBCOMP, AckKind.PUBACK),
        (Awaits.PUBCOMP, AckKind.PUBREC),
    ],
)
def test_the_wrong_acknowledgement_changes_nothing(awaits: Awaits, kind: AckKind, code: int) -> None:
    window = opened()
    (entry,) = entries(1, qos=1 if awaits is Awaits.PUBACK else 2)
    window.send(entry)
    if awaits is Awaits.PUBCOMP:
        window.acknowledge(Acknowledgement(AckKind.PUBREC, 1))
    assert window.acknowledge(Acknowledgement(kind, 1, code)) == (Next.IGNORE, entry)
    assert (window.in_flight, entry.identifier, entry.awaits) == (1, 1, awaits)


@pytest.mark.parametrize("code", [0x00, 0x80, 0x92])
def test_whatever_pubcomp_says_the_entry_is_complete(code: int) -> None:
    window = opened()
    (entry,) = entries(1, qos=2)
    window.send(entry)
    assert window.acknowledge(Acknowledgement(AckKind.PUBREC, 1))[0] is Next.RELEASE
    assert window.acknowledge(Acknowledgement(AckKind.PUBCOMP, 1, code)) == (Next.COMPLETE, entry)
    assert window.in_flight == 0


def test_identifiers_wrap_at_65_023_and_pass_over_those_that_are_unfinished() -> None:
    """The first five stay unfinished, two of them on an earlier link and one between PUBREC and PUBCOMP."""
    window = opened()
    unfinished = entries(5, qos=2)
    for entry in unfinished:
        window.send(entry)
    window.acknowledge(Acknowledgement(AckKind.PUBREC, 3))
    held = {entry.identifier for entry in unfinished}
    (other,) = entries(1)
    seen = []
    for _ in range(HIGHEST_IDENTIFIER + 10):
        identifier = window.send(other).identifier
        assert identifier not in held
        assert 1 <= identifier <= HIGHEST_IDENTIFIER
        seen.append(identifier)
        window.acknowledge(Acknowledgement(AckKind.PUBACK, identifier))
    assert seen[HIGHEST_IDENTIFIER - 6 : HIGHEST_IDENTIFIER - 3] == [HIGHEST_IDENTIFIER, 6, 7]
    assert window.in_flight == 5


def test_an_identifier_waiting_to_be_sent_again_is_not_given_to_another() -> None:
    window = opened()
    for entry in entries(3):
        window.send(entry)
    window.close()
    window.open(Connack(session_present=True, receive_maximum=1))
    resumed(window)
    window.acknowledge(Acknowledgement(AckKind.PUBACK, 1))
    (other,) = entries(1)
    for _ in range(HIGHEST_IDENTIFIER):
        identifier = window.send(other).identifier
        assert identifier not in (2, 3)
        window.acknowledge(Acknowledgement(AckKind.PUBACK, identifier))


@pytest.mark.parametrize("qos", [1, 2])
def test_with_a_store_an_identifier_is_free_when_the_deletion_is_committed(qos: int) -> None:
    window = Window(HIGHEST_IDENTIFIER, durable=True)
    window.open(NEW)
    (first, other) = entries(2, qos=qos)
    window.send(first)
    if qos == 2:
        window.acknowledge(Acknowledgement(AckKind.PUBREC, 1))
    assert window.acknowledge(Acknowledgement(AckKind.PUBACK if qos == 1 else AckKind.PUBCOMP, 1))[0] is Next.COMPLETE
    (pebble,) = entries(1)
    for _ in range(HIGHEST_IDENTIFIER):
        identifier = window.send(pebble).identifier
        assert identifier != 1
        window.complete_run([identifier])
        window.free([identifier])
    window.free([1])
    identifiers = set()
    for _ in range(HIGHEST_IDENTIFIER):
        identifiers.add(window.send(other).identifier)
        window.complete_run([other.identifier])
        if other.message.qos == 2:
            window.acknowledge(Acknowledgement(AckKind.PUBREC, other.identifier))
            window.acknowledge(Acknowledgement(AckKind.PUBCOMP, other.identifier))
            other.awaits = Awaits.PUBREC
        window.free([other.identifier])
    assert 1 in identifiers


def test_an_identifier_under_which_the_broker_may_hold_a_message_is_not_used_again_in_its_session() -> None:
    """It would take another QoS 2 message of that identifier for a repeat, and swallow it."""
    window = opened()
    (given_up,) = entries(1, qos=2, payload=b"x" * 50)
    window.send(given_up)
    window.close()
    window.open(TOO_SMALL)
    ((ended, fate, may_hold),) = window.give_up(lambda entry, _: obstacle_to(entry.message, TOO_SMALL))
    assert (ended, fate.kind, may_hold) == (given_up, FateKind.DEAD_LETTERED, True)
    (other,) = entries(1)
    for _ in range(HIGHEST_IDENTIFIER):
        identifier = window.send(other).identifier
        assert identifier != 1
        window.acknowledge(Acknowledgement(AckKind.PUBACK, identifier))
    window.close()
    *_, released = window.open(NEW)
    assert released == [1]
    identifiers = set()
    for _ in range(HIGHEST_IDENTIFIER):
        identifiers.add(window.send(other).identifier)
        window.acknowledge(Acknowledgement(AckKind.PUBACK, other.identifier))
    assert 1 in identifiers, "a new session knows nothing of it"


@pytest.mark.parametrize(("qos", "withheld"), [(1, []), (2, [1])])
def test_what_is_set_aside_at_qos_2_may_be_at_the_broker(qos: int, withheld: list[int]) -> None:
    window = opened()
    (poison,) = entries(1, qos=qos)
    window.send(poison)
    assert window.set_aside(poison) is bool(withheld)
    window.close()
    *_, released = window.open(NEW)
    assert released == withheld


def test_a_store_has_to_forget_what_was_withheld_before_another_message_has_the_identifier() -> None:
    window = Window(1, durable=True)
    window.recover([], [Withheld(1, 7)])
    window.open(LIVING)
    (pebble,) = entries(1)
    assert window.send(pebble).identifier == 2
    window.close()
    *_, released = window.open(NEW)
    assert released == [1]
    for expected in (False, True):
        identifiers = set()
        for _ in range(HIGHEST_IDENTIFIER):
            (pebble,) = entries(1)
            identifiers.add(window.send(pebble).identifier)
            window.complete_run([pebble.identifier])
            window.free([pebble.identifier])
        assert (1 in identifiers) is expected
        window.free(released)
    assert window.has_credit_for(pebble.message)


def test_what_is_left_at_the_broker_is_what_it_may_hold_at_qos_2() -> None:
    window = opened()
    window.recover([], [Withheld(500, 7)])
    acknowledged, released, published, poison = entries(4, qos=2)
    for entry in (acknowledged, released, published, poison, *entries(1)):
        window.send(entry)
    window.acknowledge(Acknowledgement(AckKind.PUBREC, 1, 0x87))
    window.acknowledge(Acknowledgement(AckKind.PUBREC, 2))
    window.set_aside(poison)
    left = ((2, 2), (3, 3), (4, 4), (500, 7))
    assert window.left_at_the_broker == left
    window.close()
    assert window.left_at_the_broker == left
    window.clear()
    assert window.left_at_the_broker == left
    window.open(NEW)
    assert not window.left_at_the_broker


@pytest.mark.parametrize("isolated", [False, True])
def test_there_is_no_credit_without_an_identifier(isolated: bool) -> None:
    window = Window(1000)
    window.recover([], [Withheld(identifier, identifier) for identifier in range(1, HIGHEST_IDENTIFIER + 1)])
    window.open(LIVING)
    window.isolated = isolated
    (pebble,) = entries(1)
    assert not window.has_credit_for(pebble.message)
    window.close()
    window.open(NEW)
    assert window.has_credit_for(pebble.message)


@pytest.mark.parametrize(("receive_maximum", "max_inflight", "window_size"), [(3, 10, 3), (65_535, 4, 4), (1, 1, 1)])
def test_credit_is_the_smallest_of_the_bounds(receive_maximum: int, max_inflight: int, window_size: int) -> None:
    window = opened(Connack(receive_maximum=receive_maximum), max_inflight=max_inflight)
    sent = 0
    for entry in entries(window_size + 1):
        if window.has_credit_for(entry.message):
            window.send(entry)
            sent += 1
    assert sent == window.in_flight == window_size


def test_between_pubrec_and_pubcomp_the_credit_is_still_spent() -> None:
    window = opened(Connack(receive_maximum=1))
    first, second = entries(2, qos=2)
    window.send(first)
    window.acknowledge(Acknowledgement(AckKind.PUBREC, 1))
    assert not window.has_credit_for(second.message)
    window.acknowledge(Acknowledgement(AckKind.PUBCOMP, 1))
    assert window.has_credit_for(second.message)


def test_no_more_than_4_mib_of_payload_but_always_one() -> None:
    window = opened()
    half = b"x" * (MOST_BYTES_IN_FLIGHT // 2)
    for entry in entries(2, payload=half):
        assert window.has_credit_for(entry.message)
        window.send(entry)
    assert not window.has_credit_for(Message("t", b"x"))
    assert window.has_credit_for(Message("t", b"")), "exactly at the bound"
    window.close()
    window.open(NEW)
    assert window.has_credit_for(Message("t", half * 3)), "alone it may be of any size"


def test_without_a_link_there_is_no_credit() -> None:
    window = opened()
    window.close()
    assert not window.has_credit_for(Message("t", b""))


def test_what_is_unfinished_keeps_its_order_over_links_that_die_half_way() -> None:
    """Receive Maximum 2 of 5, then the link dies, then the session is lost: still the order of acceptance."""
    window = opened()
    order = entries(5)
    for entry in order:
        window.send(entry)
    window.close()
    for connack in (Connack(session_present=True, receive_maximum=2), Connack(receive_maximum=3)):
        window.open(connack)
        packets = resumed(window)
        assert [packet.identifier for packet in packets] == [entry.identifier for entry in order[: len(packets)]]
        assert resumed(window) == []
        assert window.entries() == order
        window.close()
    assert window.returned == 5


def test_a_half_resent_new_session_that_lives_on_repeats_what_it_knows_and_sends_the_rest_anew() -> None:
    window = opened()
    first, second = entries(2)
    window.send(first)
    window.send(second)
    window.close()
    window.open(Connack(receive_maximum=1))
    assert resumed(window, ready=False) == []
    (packet,) = resumed(window)
    assert (packet.identifier, window.in_flight, window.returned) == (3, 1, 1)
    window.close()
    window.open(LIVING)
    assert [(p.identifier, p.duplicate) for p in resumed(window) if not isinstance(p, Acknowledgement)] == [
        (3, True),
        (4, False),
    ]


def test_clear_forgets_everything() -> None:
    window = opened()
    for entry in entries(3):
        window.send(entry)
    window.close()
    window.clear()
    assert (window.entries(), window.returned, window.in_flight) == ([], 0, 0)
