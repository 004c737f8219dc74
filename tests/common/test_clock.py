"""RFC 3339, compared with a second implementation (Rust, in jsonschema_rs)."""

from __future__ import annotations

from datetime import UTC, datetime

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.common.clock import SECOND, Instant, parse_rfc3339, to_rfc3339
from tests.cloudevent.samples import instants


def second_opinion(name: str, text: str) -> bool:
    """Whether `text` has the JSON Schema format `name`."""
    return jsonschema_rs.is_valid({"format": name}, text, validate_formats=True)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_written_time_is_parsed_to_the_same_instant(time: datetime) -> None:
    """No microsecond is lost."""
    microseconds = int(time.timestamp()) * SECOND + time.microsecond
    assert parse_rfc3339(to_rfc3339(microseconds)) == Instant(microseconds, exact=True)


def test_a_fraction_below_the_microsecond_is_not_exact() -> None:
    """Zeros below the microsecond do not matter."""
    assert parse_rfc3339("1970-01-01T00:00:00.0000019Z") == Instant(1, exact=False)
    assert parse_rfc3339("1970-01-01T00:00:00.0000010Z") == Instant(1, exact=True)


def test_an_offset_is_subtracted() -> None:
    """A time zone east of Greenwich is ahead of UTC."""
    assert (
        parse_rfc3339("1970-01-01T01:00:01+01:00")
        == parse_rfc3339("1969-12-31T23:30:01-00:30")
        == Instant(SECOND, exact=True)
    )


@given(instants)
def test_every_date_and_time_is_parsed(text: str) -> None:
    """RFC 3339 can express every time of the calendar."""
    assert parse_rfc3339(text) is not None


@given(
    st.builds(
        "{}{}{}-{}{}{}:{}:{}{}{}".format,
        st.sampled_from(["1990", "0000", "2020", "1900", "9999", "20"]),
        st.sampled_from("-/"),
        st.sampled_from(["02", "12", "13", "06", "00"]),
        st.sampled_from(["28", "29", "30", "31", "00", "32"]),
        st.sampled_from("Tt "),
        st.sampled_from(["23", "24", "00", "15"]),
        st.sampled_from(["59", "60", "00"]),
        st.sampled_from(["59", "61", "00"]),
        st.sampled_from(["", ".1", ".", ".123456789012345"]),
        st.sampled_from(["Z", "z", "", "+00:00", "-08:00", "+24:00", "+0100", "-00:00", "+08:30", " Z"]),
    )
)
def test_another_implementation_accepts_the_same_texts(text: str) -> None:
    """The texts combine valid and invalid dates, times and zones."""
    assert (parse_rfc3339(text) is not None) == second_opinion("date-time", text)


@pytest.mark.parametrize(
    "text", ["2016-12-31T23:59:60Z", "1990-12-31T15:59:60.5-08:00", "2015-07-01T01:59:60+02:00", "2024-02-29T23:59:60z"]
)
def test_a_leap_second_ends_a_month(text: str) -> None:
    """A leap second can be inserted in the last minute of a month in UTC."""
    assert parse_rfc3339(text) is not None


@pytest.mark.parametrize("text", ["2016-12-31T12:00:60Z", "2016-12-30T23:59:60Z", "1990-12-31T23:59:60-08:00"])
def test_another_minute_has_no_leap_second(text: str) -> None:
    """RFC 3339, section 5.7, forbids it."""
    assert parse_rfc3339(text) is None
