"""Every reason code of the specification has its row, and the row says what FAULTS promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawk.core.refusals import (
    CONNACK,
    DISCONNECT,
    Level,
    judge,
    judge_connack,
    judge_disconnect,
    reason_name,
)
from hawk.values import Cause, CauseKind, Verdict

# Copied from the tables of the MQTT 5.0 specification, so that a forgotten row is seen.
OF_CONNACK = {0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99}
OF_CONNACK |= {0x9A, 0x9B, 0x9C, 0x9D, 0x9F}
OF_DISCONNECT = {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96}
OF_DISCONNECT |= {0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2}
NAMED = {
    "CONNACK": OF_CONNACK | {0x00},
    "DISCONNECT": OF_DISCONNECT,
    "PUBACK": {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    "PUBREC": {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    "PUBREL": {0x00, 0x92},
    "PUBCOMP": {0x00, 0x92},
    "SUBACK": {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    "UNSUBACK": {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
}
FOR_GOOD = {0x81, 0x82, 0x84, 0x85, 0x8A, 0x8C, 0x90, 0x95, 0x99, 0x9A, 0x9B}
SLOWLY = {0x89, 0x97, 0x9F}
codes = st.integers(0, 255)


def test_every_listed_code_has_its_row() -> None:
    assert set(CONNACK) == OF_CONNACK
    # Section 2.4 lists 0x8C for a DISCONNECT too, section 3.14.2.1 does not.
    assert set(DISCONNECT) == OF_DISCONNECT | {0x8C}


@pytest.mark.parametrize("packet", NAMED)
def test_every_listed_code_has_its_own_name(packet: str) -> None:
    names = [reason_name(packet, code) for code in NAMED[packet]]
    assert len(set(names)) == len(names)
    assert [code for code in NAMED[packet] if reason_name(packet, code) == "Unspecified error"] in ([0x80], [])


@pytest.mark.parametrize("code", sorted(OF_CONNACK))
def test_a_refused_connect_is_judged_as_promised(code: int) -> None:
    refusal = judge_connack(code, on_auth_failure="retry")
    wanted = Verdict.NEVER if code in FOR_GOOD else Verdict.SLOWLY if code in SLOWLY else Verdict.AGAIN
    assert refusal.verdict is wanted
    assert refusal.remedy
    loud = code in FOR_GOOD | {0x86, 0x87}
    assert refusal.level is (Level.ERROR if loud else Level.WARNING)


@given(codes)
def test_failing_on_authentication_changes_only_0x86_and_0x87(code: int) -> None:
    retried, failing = judge_connack(code, on_auth_failure="retry"), judge_connack(code, on_auth_failure="fail")
    if code in (0x86, 0x87):
        assert (retried.verdict, failing.verdict) == (Verdict.AGAIN, Verdict.NEVER)
    else:
        assert failing == retried


@pytest.mark.parametrize("code", sorted(OF_DISCONNECT))
def test_a_disconnect_is_never_for_good(code: int) -> None:
    wanted = Verdict.AT_THE_CAP if code == 0x8E else Verdict.SLOWLY if code in SLOWLY else Verdict.AGAIN
    assert judge_disconnect(code).verdict is wanted
    assert judge_disconnect(code).remedy


def test_a_take_over_names_the_setting_to_change() -> None:
    assert "client_id" in judge_disconnect(0x8E).remedy


@given(codes)
def test_an_unknown_code_is_the_generic_error(code: int) -> None:
    if code not in OF_CONNACK:
        assert judge_connack(code, on_auth_failure="fail") == judge_connack(0x80, on_auth_failure="fail")
    if code not in OF_DISCONNECT | {0x8C}:
        assert judge_disconnect(code) == judge_disconnect(0x80)
    for packet, listed in NAMED.items():
        if code not in listed | {0x8C, 0x95}:
            assert reason_name(packet, code) == "Unspecified error"


@given(codes)
def test_each_kind_of_cause_is_judged_by_its_own_table(code: int) -> None:
    refused, disconnected = (Cause(kind, "why", code) for kind in (CauseKind.REFUSED, CauseKind.DISCONNECT))
    assert judge(refused, on_auth_failure="fail") == judge_connack(code, on_auth_failure="fail")
    assert judge(disconnected, on_auth_failure="fail") == judge_disconnect(code)
    assert judge(Cause(CauseKind.PROTOCOL_ERROR, "why", code), on_auth_failure="fail") is None


@pytest.mark.parametrize("kind", CauseKind)
def test_what_happens_before_connect_is_judged_without_a_code(kind: CauseKind) -> None:
    refusal = judge(Cause(kind, "why"), on_auth_failure="retry")
    match kind:
        case CauseKind.UNTRUSTED:
            assert refusal is not None
            assert (refusal.verdict, refusal.level) == (Verdict.SLOWLY, Level.WARNING)
        case CauseKind.UNPREPARED:
            assert refusal is not None
            assert (refusal.verdict, refusal.level) == (Verdict.AGAIN, Level.ERROR)
        case _:
            assert refusal is None
