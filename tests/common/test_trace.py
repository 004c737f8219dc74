"""The W3C trace context."""

import pytest

from events_core.common import trace

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_trace_is_continued() -> None:
    """The service keeps the trace id and the flags, and adds a span of its own."""
    ours = trace.begin(f"00-{TRACE_ID}-00f067aa0ba902b7-01")
    assert ours.trace_id == TRACE_ID
    assert ours.traceparent == f"00-{TRACE_ID}-{ours.span_id}-01"
    assert ours.span_id != "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "header",
    [None, "", "garbage", f"ff-{TRACE_ID}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01",
     f"00-{TRACE_ID}-{'0' * 16}-01", f"00-{TRACE_ID.upper()}-00f067aa0ba902b7-01"],
)  # fmt: skip
def test_without_a_valid_header_a_trace_begins(header: str | None) -> None:
    """A missing or malformed traceparent starts a new trace (Trace Context, section 3.2)."""
    ours = trace.begin(header)
    assert ours.trace_id != TRACE_ID
    assert len(ours.trace_id) == 32
    assert trace.current() == ours
