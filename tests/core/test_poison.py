"""Which message the broker cannot bear: what counts as evidence, how much of it, and what ends the suspicion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.core.poison import LOSSES_ALONE, LOSSES_BEFORE_ISOLATION, Poison, is_evidence
from hawk.values import Cause, CauseKind

CLOSED = Cause(CauseKind.CLOSED_BY_PEER, "closed")
SILENT = Cause(CauseKind.HUNG_UP, "silent")


@pytest.mark.parametrize(
    ("cause", "evidence"),
    [
        (CLOSED, True),
        (Cause(CauseKind.RESET_BY_PEER, "reset"), True),
        (Cause(CauseKind.DISCONNECT, "Malformed Packet", 0x81), True),
        (Cause(CauseKind.DISCONNECT, "Packet too large", 0x95), True),
        (SILENT, False),
        (Cause(CauseKind.CLOSED, "by us"), False),
        (Cause(CauseKind.UNREACHABLE, "no answer"), False),
        (Cause(CauseKind.PROTOCOL_ERROR, "garbage"), False),
    ],
)
def test_only_what_the_broker_does_is_evidence(cause: Cause, evidence: bool) -> None:
    assert is_evidence(cause) is evidence


@pytest.mark.parametrize("code", [0x89, 0x8B, 0x8D, 0x8E, 0x93, 0x96, 0x97, 0x98, 0x9C, 0x9D])
def test_a_reason_that_lies_in_the_link_or_the_broker_is_none(code: int) -> None:
    assert not is_evidence(Cause(CauseKind.DISCONNECT, "busy", code))


def test_three_losses_isolate_and_three_more_alone_set_aside() -> None:
    poison = Poison()
    for _ in range(LOSSES_BEFORE_ISOLATION):
        assert not poison.isolating
        assert not poison.lost(CLOSED, 7, alone=True, proven=True)
    assert poison.isolating
    assert [poison.lost(CLOSED, 7, alone=True, proven=True) for _ in range(LOSSES_ALONE)] == [False, False, True]
    assert not poison.isolating, "and then everybody is innocent"


def test_in_isolation_a_loss_in_company_counts_nothing() -> None:
    poison = Poison()
    for _ in range(LOSSES_BEFORE_ISOLATION):
        poison.lost(CLOSED, 7, alone=False, proven=True)
    assert not any(poison.lost(CLOSED, 7, alone=False, proven=True) for _ in range(10))
    assert poison.isolating


def test_a_broker_that_closes_every_link_at_once_convicts_nobody() -> None:
    poison = Poison()
    assert not any(poison.lost(CLOSED, 7, alone=True, proven=False) for _ in range(100))
    assert poison.isolating


@given(st.lists(st.sampled_from(["close", "close alone", "other", "silence", "acknowledged"]), max_size=60))
def test_nobody_is_set_aside_without_six_unbroken_losses(happenings: list[str]) -> None:
    poison, unbroken, alone = Poison(), 0, 0
    for happening in happenings:
        set_aside = False
        match happening:
            case "close" | "close alone":
                unbroken += 1
                alone += happening == "close alone"
                set_aside = poison.lost(CLOSED, 7, alone=happening == "close alone", proven=True)
            case "other":
                poison.lost(CLOSED, 8, alone=False, proven=True)
                unbroken = alone = 0
            case "silence":
                poison.lost(SILENT, 7, alone=True, proven=True)
                unbroken = alone = 0
            case _:
                poison.acquit()
                unbroken = alone = 0
        if set_aside:
            assert unbroken >= LOSSES_BEFORE_ISOLATION + LOSSES_ALONE
            assert alone >= LOSSES_ALONE
            unbroken = alone = 0


def test_an_empty_link_is_no_evidence() -> None:
    poison = Poison()
    assert not any(poison.lost(CLOSED, 0, alone=False, proven=True) for _ in range(10))
