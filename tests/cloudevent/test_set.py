"""Attributes set on a raw event, whose other text stays as it is."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.cloudevent import read_structured, validate
from tests.cloudevent.samples import EVENT, blanks, body, data_values, event, events, names, strings

members_as_text = st.dictionaries(names, data_values.map(json.dumps), max_size=6)


def spread(members: dict[str, str], blank: str) -> str:
    """An object of members given as JSON texts, with white space wherever JSON allows it."""
    pairs = [f'{blank}"{name}"{blank}:{blank}{value}{blank}' for name, value in members.items()]
    return f"{{{','.join(pairs) or blank}}}"


@given(members_as_text, blanks, st.data())
def test_a_member_is_replaced_in_place(members: dict[str, str], blank: str, data: st.DataObject) -> None:
    """Only the text of its value changes."""
    chosen = data.draw(st.dictionaries(st.sampled_from(sorted(members)), strings) if members else st.just({}))
    raw = read_structured(spread(members, blank).encode()).set(**chosen)
    expected = members | {name: json.dumps(value, ensure_ascii=False) for name, value in chosen.items()}
    assert raw.text == spread(expected, blank).encode()


@given(events(), st.dictionaries(names, strings, min_size=1))
def test_a_member_is_added_before_the_closing_brace(members: dict[str, object], added: dict[str, str]) -> None:
    """The text before the brace does not change."""
    added = {name: value for name, value in added.items() if name not in members}
    raw = read_structured(body(members)).set(**added)
    assert raw.text.startswith(body(members)[:-1])
    assert json.loads(raw.text) == members | added


@given(events(), st.dictionaries(names, strings))
def test_the_text_contains_the_members_that_were_set(members: dict[str, object], chosen: dict[str, str]) -> None:
    """Reading the text gives the same members."""
    raw = read_structured(body(members)).set(**chosen)
    again = read_structured(raw.text)
    assert (raw.members, raw.text) == (again.members, again.text)


def test_a_member_is_added_to_an_empty_object() -> None:
    """There is no comma before the first member."""
    assert read_structured(b" { } ").set(id="1", type="t").text == b'{ "id":"1","type":"t"}'


def test_an_escaped_name_is_the_same_name() -> None:
    """The member is replaced, not repeated."""
    assert read_structured(rb'{"\u0069d":"0"}').set(id="1").text == rb'{"\u0069d":"1"}'


@given(members_as_text, st.sets(names, min_size=1, max_size=3), blanks, st.randoms())
def test_nulls_leave_the_text(members: dict[str, str], nulls: set[str], blank: str, order: Random) -> None:
    """A member that is null counts as absent, wherever it stands. The other members keep their text."""
    mixed = list((members | dict.fromkeys(nulls, "null")).items())
    order.shuffle(mixed)
    kept = {name: value for name, value in mixed if name not in nulls}
    raw = read_structured(spread(dict(mixed), blank).encode())
    expected = spread(kept, blank) if kept else f"{{{blank}{blank}}}"
    assert (raw.text.decode(), set(raw.members)) == (expected, set(kept))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"data":null,"dataschema":null,"id":"1","subject":null}', '{"id":"1"}'),
        ('{ "a": 1,\n  "data": null,\n  "b": 1.50 }', '{ "a": 1,\n  "b": 1.50 }'),
        ('{"a":{"b":null,"c":[null]},"d":null}', '{"a":{"b":null,"c":[null]}}'),
        ('{"My_Ext":null}', "{}"),
        (r'{"\u0064ata":null,"id":"\u0031"}', r'{"id":"\u0031"}'),
    ],
)
def test_only_the_events_own_nulls_are_dropped(text: str, kept: str) -> None:
    """A null within data is data. The name of a member that is null is not judged."""
    assert read_structured(text.encode()).text == kept.encode()


def test_numbers_keep_their_form() -> None:
    """Only the member that was set changes."""
    text = '{"data":[100.00,1E400,%s],"subject":"x"}' % ("9" * 6000)
    assert read_structured(text.encode()).set(subject="/party/1").text == text.replace('"x"', '"/party/1"').encode()


def test_publishing_completes_an_event() -> None:
    """The attributes that the service sets make the event valid."""
    given_members = {name: EVENT[name] for name in ("specversion", "source", "type", "subject")}
    raw = read_structured(body(given_members)).set(
        id="1", time="2026-11-16T18:00:00Z", resource="urn:altinn:resource:x"
    )
    assert json.loads(validate(raw).json) == given_members | {
        "id": "1",
        "time": "2026-11-16T18:00:00Z",
        "resource": "urn:altinn:resource:x",
    }


def test_set_does_not_change_the_event() -> None:
    """It returns another event."""
    raw = read_structured(body(event()))
    raw.set(id="2")
    assert (raw.attributes["id"], raw.text) == (EVENT["id"], body(EVENT))


@given(st.text(max_size=10))
def test_every_string_can_be_set(value: str) -> None:
    """The text can be encoded as UTF-8, even with half of a surrogate pair."""
    raw = read_structured(b"{}").set(id=value)
    assert json.loads(raw.text) == {"id": value}
