"""Every reason code that answers a PUBLISH, SUBSCRIBE or UNSUBSCRIBE has its row, and the row says what FAULTS promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.core.answers import (
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Answer,
    Packet,
    answer_of,
    explain_refused_publish,
    hawks_own,
    judge_refusal,
)
from hawk.values import Judgement, Verdict

# Copied from the tables of the MQTT 5.0 specification, so that a forgotten row is seen.
OF_PUBACK = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
OF_SUBACK = {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}
OF_UNSUBACK = {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}
codes = st.integers(0, 255)


def test_every_listed_code_has_its_row() -> None:
    assert set(PUBLISH) == OF_PUBACK
    # 0x95 is hawk's own word for a filter that fits into no packet of the broker's.
    assert set(SUBSCRIBE) == OF_SUBACK | {0x95}
    assert set(UNSUBSCRIBE) == OF_UNSUBACK


PACKETS: tuple[Packet, ...] = ("PUBACK", "PUBREC", "SUBACK", "UNSUBACK")


@given(codes)
def test_a_publish_is_done_tried_again_or_refused(code: int) -> None:
    for packet in PACKETS[:2]:
        verdict = answer_of(packet, code).verdict
        if code in (0x00, 0x10):
            assert verdict is None
        elif code in (0x87, 0x90, 0x99):
            assert verdict is Verdict.NEVER
        else:
            # An identifier that is in use says nothing against the message, which goes out under another one.
            assert verdict is Verdict.AGAIN


@given(codes)
def test_a_filter_is_granted_or_asked_for_on_the_next_link(code: int) -> None:
    assert answer_of("SUBACK", code).verdict is (None if code in (0, 1, 2) else Verdict.SLOWLY)
    assert answer_of("UNSUBACK", code).verdict is (None if code in (0x00, 0x11) else Verdict.SLOWLY)


@given(st.sampled_from(PACKETS), st.integers(0x80, 255), st.sampled_from(Verdict))
def test_a_judge_is_told_all_of_it_and_has_the_last_word(packet: Packet, code: int, verdict: Verdict) -> None:
    told: list[Judgement] = []

    def judge(judgement: Judgement) -> Verdict:
        told.append(judgement)
        return verdict

    name, own, _ = answer_of(packet, code)
    assert judge_refusal(packet, code, judge) is verdict
    assert told == [(packet, code, name, own)]
    assert judge_refusal(packet, code, hawks_own) is own


@pytest.mark.parametrize("table", [PUBLISH, SUBSCRIBE, UNSUBSCRIBE], ids=["PUBACK", "SUBACK", "UNSUBACK"])
def test_whoever_is_refused_is_told_what_to_do(table: dict[int, Answer]) -> None:
    for code, (name, _, remedy) in table.items():
        assert name
        assert bool(remedy) == (code >= 0x80)


def test_a_refused_message_says_why_and_what_to_do() -> None:
    assert explain_refused_publish(0x87).startswith("Not authorized; check the broker's access rules")
    assert explain_refused_publish(0xFE) == explain_refused_publish(0x80)
    assert explain_refused_publish(0x00) == "Success"


@given(codes)
def test_an_unknown_code_is_the_generic_error(code: int) -> None:
    for packet, listed in zip(PACKETS, (OF_PUBACK, OF_PUBACK, SUBSCRIBE, OF_UNSUBACK), strict=True):
        if code not in listed:
            assert answer_of(packet, code) is answer_of(packet, 0x80)
