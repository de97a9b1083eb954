"""The counters of the connection say what happened."""

from hypothesis import given
from hypothesis import strategies as st

from hawk.core import connection_record as record
from hawk.messages import ConnectionReport
from hawk.values import ConnectionState


@given(st.lists(st.sampled_from(["fails", "comes up", "opened afresh"]), max_size=60))
def test_the_counters_follow_any_history(history: list[str]) -> None:
    report, links, ended, in_a_row = ConnectionReport(), 0, 0, 0
    for wall_time, what in enumerate(history):
        before = report
        if what == "opened afresh":
            in_a_row = 0
            report = record.started_afresh(report)
        else:
            report = record.dial_begun(report, float(wall_time))
            assert report.last_connection_attempt == wall_time
            if what == "fails":
                in_a_row += 1
                report = record.dial_failed(report)
            else:
                links, ended, in_a_row = links + 1, ended + 1, 0
                up = record.link_adopted(report)
                assert up.total_connections - up.total_disconnections == 1
                report = record.link_ended(up)
        assert report.revision > before.revision
        assert (report.total_connections, report.total_disconnections) == (links, ended)
        assert report.total_reconnections == max(0, links - 1)
        assert report.consecutive_failures == in_a_row


@given(st.sampled_from(ConnectionState))
def test_a_change_of_state_is_a_new_revision(state: ConnectionState) -> None:
    report = record.moved(ConnectionReport(revision=7, total_connections=3), state)
    assert report == ConnectionReport(revision=8, state=state, total_connections=3)
