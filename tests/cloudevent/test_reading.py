"""Structured and batch mode: which bodies are accepted, and that events keep their text."""

from __future__ import annotations

import contextlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.cloudevent import RawEvent, read_binary, read_structured, reading, validate
from events_core.common.errors import EventsError, Problem
from tests.cloudevent.samples import (
    EVENT,
    blanks,
    body,
    data_values,
    event,
    events,
    is_bad_request,
    names,
    problem_of,
)

MEMBERS = body(EVENT)[1:-1]
DATA = r"""
100.00 1E400 -0 -1e-999 "\u00e6\/\ud83d\ude00" "\u0000" [null] "\\ud83d" {"a":{"a":[{"a":1},{"a":2}]}} "" {"":0}
"""
NO_EVENT = r"""
{ [] 1 null "a" {,} {"a":1,} {"a":} {'a':1} {a:1} {"a":1}} {}// /**/{} {"a":" {"a":"\ {"a":"\" {"a"}
{"a":01} {"a":1.} {"a":.5} {"a":+1} {"a":-} {"a":1e} {"a":0x1} {"a":1_000} {"a":--1} {"a":[1,]} {"a":[,1]}
{"a":NaN} {"a":Infinity} {"a":-Infinity} {"a":nan} {"a":True} {"a":nul} {"a":"\x41"} {"a":"\u12"} {"a":"\u+123"}
"""
SPACED = [
    "",
    " ",
    "{} {}",
    '{"a" 1}',
    '{"a":"\t"}',
    '{"a":"\n"}',
    "{\f}",
    "\ufeff\ufeff{}",
    "{}\ufeff",
    "\xa0{}",
    "{}\0",
    '{"a":\u0661}',
]
DEEP = ["[" * 200_000, '{"a":' * 40_000]
NO_BATCH = "{} [ [{} [{},] [,{}] [{}{}] [{}]] [{}]x [1] [null] [[{}]] {}[{}] []]"
HALF_PAIRS = r"\ud83d \uDE00 \ude00\ud83d \ud83d\\ude00 \ud83d_\ude00 x\uDBFF"


def with_data(text: str) -> bytes:
    """The sample event with this JSON text as its data."""
    return b'{%b,"data":%b}' % (MEMBERS, text.encode())


def read_batch(batch: bytes) -> list[RawEvent]:
    """All events of a batch."""
    return list(reading.read_batch(batch))


def nested(depth: int) -> str:
    """Arrays within arrays, `depth` levels in all."""
    return "[" * depth + "]" * depth


@given(events(), st.sampled_from([None, 0, 2]), st.booleans(), blanks, blanks)
def test_a_structured_event_keeps_its_text(
    members: dict[str, object], indent: int | None, ascii_only: object, before: str, after: str
) -> None:
    """The text of an event is the body byte for byte, without white space around it."""
    text = json.dumps(members, indent=indent, ensure_ascii=bool(ascii_only))
    raw = read_structured(f"{before}{text}{after}".encode())
    assert raw.text == validate(raw).json == text.encode()


@given(st.lists(events(), min_size=1, max_size=5), blanks, blanks)
def test_a_batch_keeps_the_text_of_each_event(batch: list[dict[str, object]], before: str, after: str) -> None:
    """The text of an event is its part of the body."""
    texts = [json.dumps(members, ensure_ascii=False, indent=1) for members in batch]
    joined = f"{after},{before}".join(texts)
    raws = read_batch(f"{before}[{after}{joined}{after}]{before}".encode())
    assert [raw.text for raw in raws] == [text.encode() for text in texts]


@given(data_values)
def test_every_json_value_may_be_data(value: object) -> None:
    """The data of an event is any JSON."""
    raw = read_structured(body(event(data=value)))
    assert json.loads(validate(raw).json)["data"] == value


@pytest.mark.parametrize("data", [*DATA.split(), "9" * 6000, '{ "a" :\t1 }', '"\x7f\u2028\ufffe"'], ids=len)
def test_numbers_and_strings_keep_their_form(data: str) -> None:
    """Escapes and white space inside an event stay too."""
    assert validate(read_structured(with_data(data))).json == with_data(data)


@given(events())
def test_the_attributes_of_an_event_become_fields(members: dict[str, str]) -> None:
    """Absent attributes become None."""
    found = validate(read_structured(body(members)))
    assert (found.id, found.source, found.type) == (members["id"], members["source"], members["type"])
    assert (found.subject, found.alternative_subject) == (members.get("subject"), members.get("alternativesubject"))
    assert (found.resource, found.resource_instance) == (members["resource"], members.get("resourceinstance"))


def test_attributes_exclude_data() -> None:
    """Strings, integers and booleans are attributes of a raw event."""
    raw = read_structured(body(event(data=1, data_base64="", odd=[], half=0.5, count=3, open=True)))
    assert raw.attributes == EVENT | {"count": 3, "open": True}


@pytest.mark.parametrize("text", [*NO_EVENT.split(), *SPACED, *DEEP], ids=len)
def test_another_text_is_not_an_event(text: str) -> None:
    """The body must be exactly one JSON object."""
    assert is_bad_request(lambda: read_structured(text.encode()))


@pytest.mark.parametrize(
    "raw", [b"\xff", b'{"a":"\xc3"}', b'{"a":"\xc0\xa0"}', b'{"a":"\xed\xa0\x80"}', "{}".encode("utf-16")]
)
def test_another_encoding_is_refused(raw: bytes) -> None:
    """The body must be UTF-8."""
    assert is_bad_request(lambda: read_structured(raw))


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_outside_json_are_refused(constant: str) -> None:
    """NaN and the infinities are not JSON, at any depth."""
    assert is_bad_request(lambda: read_structured(with_data(f'{{"a":[{constant}]}}')))


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', '[{"b":{"a":1,"\\u0061":2}}]', '{"":1,"":2}', '{"a":null,"a":null}'])
def test_a_member_name_occurs_once_in_an_object(text: str) -> None:
    """Parsers disagree about repeated names, at any depth and with any escapes."""
    assert is_bad_request(lambda: read_structured(with_data(text)))


@given(names)
def test_a_repeated_attribute_is_refused(name: str) -> None:
    """Equal values do not help."""
    assert is_bad_request(lambda: read_structured(b'{"%b":1,%b,"%b":1}' % (name.encode(), MEMBERS, name.encode())))


def test_the_error_names_the_repeated_attribute() -> None:
    """The publisher must find it."""
    assert problem_of(lambda: read_structured(b'{"id":"1","id":"2"}')).errors[0].field == "id"


@pytest.mark.parametrize("text", HALF_PAIRS.split())
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    """It is not a character, neither in names nor in values."""
    for data in (f'"{text}"', f'[{{"a":["{text}"]}}]', f'{{"{text}":1}}'):
        assert is_bad_request(lambda data=data: read_structured(with_data(data)))  # type: ignore[misc]


def test_an_event_has_at_most_62_levels() -> None:
    """The event itself is one level."""
    assert read_structured(with_data(nested(61))).text
    assert is_bad_request(lambda: read_structured(with_data(nested(62))))


def test_many_shallow_values_are_not_deep() -> None:
    """The limit is on depth, not on the number of values."""
    assert read_structured(with_data(f"[{','.join([nested(60)] * 100)}]")).text


def test_an_event_of_256_kib_is_the_largest() -> None:
    """One more byte is refused with 413 before anything is parsed."""
    room = 256 * 1024 - len(with_data('""'))
    assert len(read_structured(with_data(f'"{"a" * room}"')).text) == 256 * 1024
    assert problem_of(lambda: read_structured(with_data(f'"{"a" * room}a"'))).problem is Problem.CONTENT_TOO_LARGE


@pytest.mark.parametrize("text", ["[]", " [ ]\n", "\ufeff[]"])
def test_a_batch_may_be_empty(text: str) -> None:
    """A publisher that has nothing to send does nothing wrong."""
    assert read_batch(text.encode()) == []


def test_a_byte_order_mark_is_skipped() -> None:
    """It is no part of the event."""
    assert read_structured(b"\xef\xbb\xbf" + body(EVENT)).text == body(EVENT)
    assert [raw.text for raw in read_batch(b"\xef\xbb\xbf" + body([EVENT]))] == [body(EVENT)]


def test_a_batch_has_at_most_100_events() -> None:
    """One more event is refused with 413."""
    assert len(read_batch(body([EVENT] * 100))) == 100
    assert problem_of(lambda: read_batch(body([EVENT] * 101))).problem is Problem.CONTENT_TOO_LARGE


def test_a_batch_of_1_mib_is_the_largest() -> None:
    """One more byte is refused with 413."""
    batch = body([EVENT])
    assert read_batch(batch.ljust(1024 * 1024))
    assert problem_of(lambda: read_batch(batch.ljust(1024 * 1024 + 1))).problem is Problem.CONTENT_TOO_LARGE


def test_each_event_of_a_batch_has_at_most_256_kib() -> None:
    """The error names the index of the event."""
    error = problem_of(lambda: read_batch(body([EVENT, event(data="a" * 256 * 1024)])))
    assert (error.problem, error.errors[0].field) == (Problem.CONTENT_TOO_LARGE, "[1]")


@pytest.mark.parametrize("text", [*NO_BATCH.split(), "", "[]x", "[{} {}]", "[" * 200_000], ids=len)
def test_another_text_is_not_a_batch(text: str) -> None:
    """The body must be a JSON array of objects."""
    assert is_bad_request(lambda: read_batch(text.encode()))


@pytest.mark.parametrize(
    ("second", "field"),
    [("1", "[1]"), ('{"a":1,"a":2}', "[1].a"), (f'{{"a":{nested(62)}}}', "[1]"), ('["\\ud800"]', "[1]")],
)
def test_the_error_names_the_bad_element_of_a_batch(second: str, field: str) -> None:
    """Its name is its index."""
    assert problem_of(lambda: read_batch(b"[{},%b]" % second.encode())).errors[0].field == field


def test_an_error_repeats_no_number_of_a_person() -> None:
    """A person number may stand in the place of a name."""
    error = problem_of(lambda: read_structured(b'{"01899699552":1,"01899699552":2}'))
    assert "018996" not in repr(error)


@given(st.binary(max_size=40))
def test_every_body_is_read_or_refused(raw: bytes) -> None:
    """No body raises anything but an error of the API."""
    for read in (read_structured, read_batch, lambda raw: read_binary({"content-type": "text/json"}, raw)):
        with contextlib.suppress(EventsError):
            read(raw)


@given(
    st.integers(0, len(MEMBERS)),
    st.integers(0, 3),
    st.text('{}[]",:\\ud8c0e1.-+EtN \n\t\0\x7f\ufeff\u2028', max_size=4),
)
def test_an_accepted_text_is_json_for_a_strict_reader(at: int, cut: int, inserted: str) -> None:
    """A damaged text is refused, or is still JSON for another strict implementation."""
    whole = with_data('{"a":[1.5,-2,"\\u00e6",null,true]}').decode()
    damaged = f"{whole[:at]}{inserted}{whole[at + cut :]}".encode()
    with contextlib.suppress(EventsError):
        assert orjson.loads(read_structured(damaged).text) is not None
