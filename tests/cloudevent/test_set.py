"""Members set on a raw event: what publishing adds, and that all else keeps its text."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from events_core.cloudevent import read_structured, validate
from tests.cloudevent.samples import EVENT, blanks, body, event, events, json_values, names, strings

members_as_text = st.dictionaries(names, json_values.map(json.dumps), max_size=6)


def spread(members: dict[str, str], blank: str) -> str:
    """An object of members given as JSON texts, with white space wherever it may stand."""
    pairs = [f'{blank}"{name}"{blank}:{blank}{value}{blank}' for name, value in members.items()]
    return f"{{{','.join(pairs) or blank}}}"


@given(members_as_text, blanks, st.data())
def test_a_member_is_replaced_in_place(members: dict[str, str], blank: str, data: st.DataObject) -> None:
    """Setting members that are there, nulls too, changes their values' text and no other byte."""
    chosen = data.draw(st.dictionaries(st.sampled_from(sorted(members)), strings) if members else st.just({}))
    raw = read_structured(spread(members, blank).encode()).set(**chosen)
    expected = members | {name: json.dumps(value, ensure_ascii=False) for name, value in chosen.items()}
    assert raw.text == spread(expected, blank).encode()


@given(events(), st.dictionaries(names, strings, min_size=1))
def test_members_are_added_before_the_closing_brace(members: dict[str, object], added: dict[str, str]) -> None:
    """Setting members that are not there leaves the text as it is, up to its closing brace."""
    added = {name: value for name, value in added.items() if name not in members}
    raw = read_structured(body(members)).set(**added)
    assert raw.text.startswith(body(members)[:-1])
    assert json.loads(raw.text) == members | added


@given(events(), st.dictionaries(names, strings))
def test_what_was_set_is_read_again(members: dict[str, object], chosen: dict[str, str]) -> None:
    """An event with members set is the event that its new text says."""
    raw = read_structured(body(members)).set(**chosen)
    again = read_structured(raw.text)
    assert (raw.members, raw.text) == (again.members, again.text)
    assert raw.size == len(body(members))


def test_members_are_set_on_an_empty_object() -> None:
    """An object without members gets its first one without a comma."""
    assert read_structured(b" { } ").set(id="1", type="t").text == b'{ "id":"1","type":"t"}'


def test_an_escaped_name_is_the_same_name() -> None:
    """A member whose name is written with escapes is replaced, not doubled."""
    assert read_structured(rb'{"\u0069d":null}').set(id="1").text == rb'{"\u0069d":"1"}'


def test_forms_of_numbers_survive_setting() -> None:
    """Numbers of any form beside a member that is set keep their text."""
    text = '{"data":[100.00,1E400,%s],"subject":null}' % ("9" * 6000)
    assert read_structured(text.encode()).set(subject="/party/1").text == text.replace("null", '"/party/1"').encode()


def test_publishing_completes_an_event() -> None:
    """An event that lacks what the service sets is valid once it is set, and its text says so."""
    given_members = {name: EVENT[name] for name in ("specversion", "source", "type", "subject")}
    raw = read_structured(body(given_members)).set(
        id="1", time="2026-11-16T18:00:00Z", resource="urn:altinn:resource:x"
    )
    assert json.loads(validate(raw).json) == given_members | {
        "id": "1",
        "time": "2026-11-16T18:00:00Z",
        "resource": "urn:altinn:resource:x",
    }


def test_setting_leaves_the_first_event_alone() -> None:
    """A raw event does not change; setting makes another one."""
    raw = read_structured(body(event()))
    raw.set(id="2")
    assert (raw.attributes["id"], raw.text) == (EVENT["id"], body(EVENT))


@given(st.text(max_size=10))
def test_any_string_can_be_set_and_the_rules_judge_it(value: str) -> None:
    """A string of whatever characters makes a text that UTF-8 can carry."""
    raw = read_structured(b"{}").set(id=value)
    assert json.loads(raw.text) == {"id": value}
