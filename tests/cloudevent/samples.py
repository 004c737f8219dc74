"""Sample events, and strategies that generate events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from events_core.common.errors import EventsError, Problem

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "6fb3738d-6372-48e3-a2d2-f40ab0531fc1",
    "source": "https://ttd.apps.altinn.no/ttd/apps-test/instances/50002108/3ab8d4f0-5d2b-4d0e-9c4c-d1c2a1b0e0aa",
    "type": "app.instance.created",
    "subject": "/party/50002108",
    "time": "2026-11-16T18:00:00.123Z",
    "resource": "urn:altinn:resource:app_ttd_apps-test",
}
KNOWN = frozenset({*EVENT, "alternativesubject", "resourceinstance", "dataschema", "datacontenttype", "data"})


def event(**members: Any) -> dict[str, Any]:
    """The sample event with these members replaced or added."""
    return {**EVENT, **members}


def without(name: str) -> dict[str, Any]:
    """The sample event without one of its members."""
    return {key: value for key, value in EVENT.items() if key != name}


def body(members: object) -> bytes:
    """A value as JSON text."""
    return json.dumps(members, ensure_ascii=False).encode()


def problem_of(call: Callable[[], object]) -> EventsError:
    """The error that a call raises."""
    with pytest.raises(EventsError) as caught:
        call()
    return caught.value


def is_bad_request(call: Callable[[], object]) -> bool:
    """Whether a call raises 400. Fails if the call raises nothing."""
    return problem_of(call).problem is Problem.BAD_REQUEST


characters = st.characters(exclude_categories=["Cc", "Cs", "Cn"])
strings = st.text(characters, max_size=30)
names = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(lambda name: name not in KNOWN)
extensions = st.dictionaries(names, strings | st.booleans() | st.integers(-(2**31), 2**31 - 1), max_size=5)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(characters, max_size=8), inner, max_size=4),
    max_leaves=12,
)
data_values = json_values.filter(lambda value: value is not None)
blanks = st.text(" \t\r\n", max_size=3)
instants = st.builds(
    "{}{}".format,
    st.datetimes().map(lambda time: time.isoformat()),
    st.sampled_from(["Z", "z", "+00:00", "-00:00", "+05:30", "-11:59", "+23:59"]),
)


@st.composite
def uri_references(draw: st.DrawFn) -> str:
    """URI-references, absolute and relative, of at most about 80 characters."""
    part = st.text("abcXYZ019-._~!$&'()*+,;=", max_size=8)
    scheme = draw(st.sampled_from(["", "https:", "urn:", "x-a.b+c:"]))
    authority = draw(st.sampled_from(["", "//", "//user:pw@example.com:8443", "//[2001:db8::1]:80", "//10.0.0.1"]))
    path = "".join(f"/{segment}" for segment in draw(st.lists(part, max_size=4)) if segment)
    query = draw(st.just("") | part.map("?a=%2F{}".format))
    fragment = draw(st.just("") | part.map("#{}".format))
    return f"{scheme}{authority}{path}{query}{fragment}" or "."


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Valid events, with any optional attributes, extensions and JSON data."""
    short = strings.filter(bool)
    members = {
        "specversion": "1.0",
        "id": draw(short),
        "source": draw(uri_references()),
        "type": draw(short),
        "resource": "urn:altinn:resource:" + draw(st.text("abc-_.:019", max_size=20)) + "x",
    }
    optional = {
        "subject": short,
        "time": instants,
        "datacontenttype": st.sampled_from(["application/json", 'application/x+json; charset="utf-8"']),
        "dataschema": st.just("https://example.com/schema?v=1"),
        "alternativesubject": short,
        "resourceinstance": short,
        "data": data_values,
    }
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    return members | {name: draw(optional[name]) for name in sorted(chosen)} | draw(extensions)
