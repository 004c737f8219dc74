"""The rules of CloudEvents 1.0 for attributes, and this service's limits."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.cloudevent import read_structured, syntax, validate
from events_core.common.clock import parse_rfc3339
from events_core.common.errors import EventsError, Problem
from tests.cloudevent.samples import EVENT, body, event, events, extensions, names, problem_of, without

REQUIRED = ["specversion", "id", "source", "type", "resource"]
STRINGS = [*REQUIRED, "subject", "alternativesubject", "resourceinstance", "time", "dataschema", "datacontenttype"]
NO_CHARACTERS = ["\0", "\t", "\n", "\x1f", "\x7f", "\x85", "\x9f", "\ufdd0", "\ufdef", "\ufffe", "\uffff", "\U0010ffff"]


def is_valid(members: dict[str, Any]) -> bool:
    """Whether the rules accept an event."""
    try:
        validate(read_structured(body(members)))
    except EventsError:
        return False
    return True


def faulty_fields(members: dict[str, Any]) -> list[str]:
    """The attributes that the error about an event names."""
    error = problem_of(lambda: validate(read_structured(body(members))))
    assert error.problem is Problem.BAD_REQUEST
    return [fault.field for fault in error.errors]


@given(events())
def test_events_of_the_specification_are_valid(members: dict[str, Any]) -> None:
    """An event may combine the specification's attributes, extensions and data in any way."""
    assert is_valid(members)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_attribute_must_not_be_absent_null_or_empty(name: str) -> None:
    """The error names the attribute."""
    assert faulty_fields(without(name)) == faulty_fields(event(**{name: None})) == [name]
    assert faulty_fields(event(**{name: ""})) == [name]


@pytest.mark.parametrize("name", sorted({*STRINGS} - {*REQUIRED}))
def test_an_optional_attribute_may_be_null_but_not_empty(name: str) -> None:
    """Null means absent."""
    assert is_valid(event(**{name: None}))
    assert faulty_fields(event(**{name: ""})) == [name]


@pytest.mark.parametrize("name", STRINGS)
@pytest.mark.parametrize("value", [1, True, 0.5, [], {}, ["a"], {"a": "b"}], ids=repr)
def test_attributes_of_the_specification_are_strings(name: str, value: object) -> None:
    """So are the attributes that this service defines."""
    assert faulty_fields(event(**{name: value})) == [name]


@given(extensions)
def test_extensions_are_strings_booleans_and_integers(members: dict[str, Any]) -> None:
    """JSON can tell these types apart."""
    assert is_valid(EVENT | members)


@pytest.mark.parametrize(
    "value", ["2147483648", "-2147483649", "1.0", "1e3", "0.5", "9" * 5000, "[]", "{}", '["a"]'], ids=len
)
def test_an_extension_of_another_type_is_refused(value: str) -> None:
    """That includes integers beyond 32 bits."""
    text = body(EVENT)[:-1] + b',"extension":%b}' % value.encode()
    assert problem_of(lambda: validate(read_structured(text))).errors[0].field == "extension"


@given(st.text(max_size=12).filter(lambda name: not re.fullmatch("[a-z0-9]+|data_base64", name)))
def test_attribute_names_are_lower_case_letters_and_digits(name: str) -> None:
    """Another member is refused. One that is null counts as absent."""
    assert not is_valid(event(**{name: "x"}))
    assert is_valid(event(**{name: None}))


@pytest.mark.parametrize(
    "name", ["", "Id", "my-ext", "my_ext", "my.ext", "data_", "data_base", "æ", "a\n", "a b", "DATA"]
)
def test_the_error_shows_an_invalid_name(name: str) -> None:
    """Characters that are not printable ASCII are replaced."""
    assert faulty_fields(event(**{name: "x"})) == [name.translate({0xE6: "*", 10: "*", 32: "*"})]


@pytest.mark.parametrize("name", ["id", "type", "subject", "extension"])
@pytest.mark.parametrize("character", NO_CHARACTERS, ids=ascii)
def test_control_characters_are_refused(name: str, character: str) -> None:
    """So are non-characters, in every attribute."""
    assert faulty_fields(event(**{name: f"a{character}b"})) == [name]


@pytest.mark.parametrize(
    "value", ["æøå", "\xa0", "\xad", "\u200b", "\ufeff", "\ue000", "\u0378", "😀", "%", "%zz", "' OR 1"]
)
def test_other_characters_are_kept(value: str) -> None:
    """The specification allows unassigned and unprintable characters."""
    assert validate(read_structured(body(event(id=value)))).id == value


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("id", 256),
        ("type", 256),
        ("source", 2048),
        ("resource", 2048),
        ("subject", 512),
        ("alternativesubject", 512),
        ("resourceinstance", 2048),
    ],
)
def test_an_attribute_has_a_greatest_length(name: str, limit: int) -> None:
    """One more character is refused."""
    longest = "urn:ab:".ljust(limit, "x")
    assert is_valid(event(**{name: longest}))
    assert faulty_fields(event(**{name: f"{longest}x"})) == [name]


def test_lengths_count_characters_and_not_bytes() -> None:
    """The limit holds for all languages alike."""
    assert is_valid(event(id="😀" * 256))


@pytest.mark.parametrize("value", ["1", "1.0.2", "0.3", "1.1", "2.0", " 1.0", "1.0 ", "v1.0", "1,0"])
def test_the_specversion_is_1_0(value: str) -> None:
    """The service supports no other version."""
    assert faulty_fields(event(specversion=value)) == ["specversion"]


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("source", syntax.is_uri_reference),
        ("resource", syntax.is_urn),
        ("dataschema", syntax.is_absolute_uri),
        ("time", parse_rfc3339),
        ("datacontenttype", syntax.is_media_type),
    ],
)
@pytest.mark.parametrize(
    "value", ["a b", "a/b", "urn:ab:c", "https://x/?y", "https://x/#y", "2026-01-31T00:00:00Z", "2026-02-30"]
)
def test_each_attribute_follows_its_rfc(name: str, check: Any, value: str) -> None:
    """Source, resource, dataschema, time and datacontenttype have the syntax of their RFCs."""
    assert is_valid(event(**{name: value})) == bool(check(value))


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-16",
        "2026-11-16T18:00",
        "2026-11-16T18:00:00",
        "2026-11-16 18:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
    ],
)
def test_a_time_needs_a_zone_and_a_day_that_exists(time: str) -> None:
    """The error names the attribute."""
    assert faulty_fields(event(time=time)) == ["time"]


@pytest.mark.parametrize("value", ["Q", "QQ", "QUJD=", "Q Q=", "QQ==\n", "-_-_", 1, {}, ["QQ=="], True], ids=repr)
def test_binary_data_is_base64(value: object) -> None:
    """`data_base64` is padded and in the standard alphabet."""
    assert faulty_fields(event(data_base64=value)) == ["data_base64"]


@given(st.binary(max_size=40))
def test_every_sequence_of_bytes_may_be_binary_data(data: bytes) -> None:
    """Base64 can express all bytes."""
    assert is_valid(event(data_base64=base64.b64encode(data).decode()))


def test_an_event_has_data_only_once() -> None:
    """`data` and `data_base64` exclude each other, unless one of them is null."""
    assert faulty_fields(event(data=0, data_base64="QQ==")) == ["data_base64"]
    assert is_valid(event(data=None, data_base64="QQ=="))
    assert is_valid(event(data=0, data_base64=None))


def test_one_error_names_all_faults() -> None:
    """The text and the fields name every invalid attribute."""
    error = problem_of(lambda: validate(read_structured(body({"id": "", "time": "now", "A": 1}))))
    assert {fault.field for fault in error.errors} == {*REQUIRED, "time", "A"}
    assert "'source' is required." in error.detail


def test_the_prefix_stands_before_the_attribute() -> None:
    """In a batch the prefix is the index of the event."""
    error = problem_of(lambda: validate(read_structured(body(event(time="now"))), field_prefix="[3]."))
    assert [fault.field for fault in error.errors] == ["[3].time"]


def test_an_error_names_at_most_20_faults() -> None:
    """An event with many faults must not make a large error."""
    error = problem_of(lambda: validate(read_structured(body({f"A{'b' * n}": 1 for n in range(400)}))))
    assert len(error.errors) == 20
    assert all(len(fault.field) <= 64 for fault in error.errors)


@given(names)
def test_an_error_repeats_no_value(name: str) -> None:
    """A value may be a person number."""
    members = event(**{name: "01899699552\t", "x01899699552": [], "time": "01899699552"})
    error = problem_of(lambda: validate(read_structured(body(members))))
    assert "018996" not in repr(error)
