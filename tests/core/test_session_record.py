"""What hawk knows of its session: a clean start whenever it knows none, and an assigned identifier is kept."""

from hypothesis import given
from hypothesis import strategies as st

from hawk.connecting import Endpoint, Transport
from hawk.core.session_record import NO_SESSION, SessionRecord
from hawk.packets import Connack, ConnectRequest

A, B = Endpoint(Transport.TCP, "a", 1883), Endpoint(Transport.TLS, "b", 8883)


def linked(
    record: SessionRecord, wanted: str, endpoint: Endpoint, *, present: bool = False, assigned: str | None = None
) -> tuple[ConnectRequest, SessionRecord]:
    """The CONNECT that the record leads to, and the record after its CONNACK."""
    identifier = record.identifier_for(wanted)
    request = ConnectRequest(identifier, record.wants_clean_start(identifier, endpoint), endpoint)
    connack = Connack(session_present=present, assigned_client_identifier=assigned)
    return request, record.adopted(request, endpoint, connack)


def test_the_first_dial_is_clean_and_those_after_a_link_are_not() -> None:
    first, record = linked(NO_SESSION, "me", A)
    second, record = linked(record, "me", A, present=True)
    third, _ = linked(record, "me", A, present=False)
    assert [each.clean_start for each in (first, second, third)] == [True, False, False]


def test_a_session_that_is_known_from_before_is_resumed() -> None:
    assert not SessionRecord("me", A.url).wants_clean_start("me", A)


def test_where_nobody_knows_which_endpoint_has_it_a_link_to_any_shows_nothing() -> None:
    """So it is after an update: older files do not say."""
    request, record = linked(SessionRecord("me"), "me", B, present=False)
    assert (request.clean_start, record.shared, record.endpoint) == (False, True, "mqtts://b:8883")


def test_endpoints_that_share_nothing_are_known_from_before() -> None:
    known = SessionRecord("me", B.url, shared=False)
    assert known.wants_clean_start("me", A)
    assert not known.wants_clean_start("me", B)


def test_another_identifier_begins_a_session_of_its_own() -> None:
    _, record = linked(NO_SESSION, "me", A)
    other, record = linked(record, "other", A)
    back, _ = linked(record, "me", A)
    assert (other.clean_start, back.clean_start) == (True, True)


def test_an_assigned_identifier_is_asked_for_from_then_on() -> None:
    """MQTT 5 section 3.2.2.3.7."""
    first, record = linked(NO_SESSION, "", A, assigned="broker-7")
    second, record = linked(record, "", A, present=True)
    third, _ = linked(record, "", A)
    assert [(each.client_identifier, each.clean_start) for each in (first, second, third)] == [
        ("", True),
        ("broker-7", False),
        ("broker-7", False),
    ]


def test_an_identifier_that_nobody_asked_the_broker_for_changes_nothing() -> None:
    """Some brokers tell another name than they were given; to them hawk's own is still the session's."""
    for wanted, said in (("me", ["me"] * 3), ("", ["", "broker-1", "broker-1"])):
        first, record = linked(NO_SESSION, wanted, A, assigned="broker-1")
        second, record = linked(record, wanted, A, present=True, assigned="broker-2")
        third, record = linked(record, wanted, A, present=True, assigned="broker-3")
        assert [each.client_identifier for each in (first, second, third)] == said
        assert [each.clean_start for each in (first, second, third)] == [True, False, False]


def test_an_identifier_that_was_not_assigned_is_never_used_in_its_place() -> None:
    _, record = linked(NO_SESSION, "me", A)
    assert record.identifier_for("") == ""


def test_a_cluster_keeps_the_session_over_a_move() -> None:
    _, record = linked(NO_SESSION, "me", A)
    moved, record = linked(record, "me", B, present=True)
    back, _ = linked(record, "me", A, present=True)
    assert (moved.clean_start, back.clean_start) == (False, False)


def test_endpoints_that_turn_out_not_to_share_sessions_get_a_clean_start_with_each_move() -> None:
    """The session that A kept meanwhile holds identifiers that hawk has used for other messages since."""
    _, record = linked(NO_SESSION, "me", A)
    _, record = linked(record, "me", B, present=False)
    again, record = linked(record, "me", B, present=True)
    back, _ = linked(record, "me", A)
    assert (again.clean_start, back.clean_start) == (False, True)


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.booleans())), st.booleans())
def test_no_dial_ever_resumes_a_session_that_another_has_overtaken(
    links: list[tuple[Endpoint, bool]], cluster: bool
) -> None:
    """Whatever an endpoint forgets. `sessions`: the number of the last link for which each endpoint keeps a session."""
    record, sessions = NO_SESSION, dict[str, int]()
    for number, (endpoint, forgets) in enumerate(links):
        place = "cluster" if cluster else endpoint.url
        if forgets:
            sessions.pop(place, None)
        request = ConnectRequest("me", record.wants_clean_start("me", endpoint), endpoint)
        present = place in sessions and not request.clean_start
        assert not present or sessions[place] == number - 1
        record = record.adopted(request, endpoint, Connack(session_present=present))
        sessions[place] = number


@given(st.lists(st.tuples(st.sampled_from(["me", "you"]), st.sampled_from([A, B]), st.booleans()), max_size=8))
def test_a_dial_is_never_unclean_without_a_link_of_that_identifier_just_before(
    links: list[tuple[str, Endpoint, bool]],
) -> None:
    record, last = NO_SESSION, ""
    for wanted, endpoint, present in links:
        request, record = linked(record, wanted, endpoint, present=present)
        assert request.clean_start or request.client_identifier == last
        last = request.client_identifier
