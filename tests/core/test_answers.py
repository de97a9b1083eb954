"""Every reason code that answers a PUBLISH, SUBSCRIBE or UNSUBSCRIBE has its row, and the row says what FAULTS promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.core.answers import (
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
    FilterVerdict,
    PublishVerdict,
    explain_refused_publish,
    judge_puback,
    judge_suback,
    judge_unsuback,
)

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


@given(codes)
def test_a_publish_is_done_tried_again_or_refused(code: int) -> None:
    verdict = judge_puback(code)
    if code in (0x00, 0x10):
        assert verdict is PublishVerdict.DONE
    elif code in (0x87, 0x90, 0x99):
        assert verdict is PublishVerdict.REFUSED
    else:
        # An identifier that is in use says nothing against the message, which goes out under another one.
        assert verdict is PublishVerdict.RETRY


@given(codes)
def test_a_filter_is_granted_or_asked_for_on_the_next_link(code: int) -> None:
    assert (judge_suback(code).verdict is FilterVerdict.DONE) == (code in (0, 1, 2))
    assert (judge_unsuback(code).verdict is FilterVerdict.DONE) == (code in (0x00, 0x11))


@pytest.mark.parametrize("table", [PUBLISH, SUBSCRIBE, UNSUBSCRIBE], ids=["PUBACK", "SUBACK", "UNSUBACK"])
def test_whoever_is_refused_is_told_what_to_do(table: dict[int, tuple[str, object, str]]) -> None:
    for code, (name, _, remedy) in table.items():
        assert name
        assert bool(remedy) == (code >= 0x80)


def test_a_refused_message_says_why_and_what_to_do() -> None:
    assert explain_refused_publish(0x87).startswith("Not authorized; check the broker's access rules")
    assert explain_refused_publish(0xFE) == explain_refused_publish(0x80)
    assert explain_refused_publish(0x00) == "Success"


@given(codes)
def test_an_unknown_code_is_the_generic_error(code: int) -> None:
    if code not in OF_PUBACK:
        assert judge_puback(code) is judge_puback(0x80)
    if code not in SUBSCRIBE:
        assert judge_suback(code) is judge_suback(0x80)
    if code not in UNSUBSCRIBE:
        assert judge_unsuback(code) is judge_unsuback(0x80)
