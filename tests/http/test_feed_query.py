"""What a request asks of a feed, parsed without the service around it."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import azure.functions as func
import pytest

from events_core.access.names import AppId, Resource
from events_core.common.errors import EventsError, bad_field
from events_core.feeds.stream import NO_FILTERS, Cursor, CursorCodec, Stream
from events_core.http.feed_query import FeedQuery, Takes
from events_core.http.request import Request
from tests.support.service import PERSON

FROM = "2000-01-01T00:00:00Z"
FEED = "https://events.example/feed"
STREAM, OTHER = Stream("resource:a"), Stream("resource:b")
CURSORS = CursorCodec(bytes(64))
EVERY_GROUP = Takes.PARTY | Takes.APP | Takes.RESOURCE


def request(query: dict[str, str], body: object = None, **headers: str) -> Request:
    """A request for the feed; headers are named with underscores."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{FEED}?{urlencode(query)}"
    content = b"" if body is None else json.dumps(body).encode()
    return Request(func.HttpRequest("GET", url, headers=sent, params={}, route_params={}, body=content), None)


def of_url(takes: Takes, query: dict[str, str], **headers: str) -> FeedQuery:
    """The query of a GET."""
    return FeedQuery.of_url(request({"from": FROM, **query}, **headers), takes, 1_000)


def test_a_query_holds_every_parameter_of_url_and_headers() -> None:
    """One parse reads all of them."""
    headers = {"person": PERSON, "accept": "application/json", "prefer": "wait=5", "if_none_match": 'W/"tag"'}
    named = {"org": "ttd", "app": "apps-test", "resource": "urn:altinn:resource:altinnapp.ttd.apps-test"}
    query = of_url(EVERY_GROUP, {**named, "to": FROM, "size": "7", "eventType": "t", "source": "s"}, **headers)
    assert (query.registered_from, query.registered_to, query.size) == (946_684_800_000_000, 946_684_800_000_000, 7)
    assert (query.types, query.sources) == (("t",), ("s",))
    assert (query.party, query.unit, query.person) == (None, None, PERSON)
    assert (query.org, query.app) == ("ttd", AppId("ttd", "apps-test"))
    assert query.resource == Resource.parse("urn:altinn:resource:app_ttd_apps-test")
    assert (query.media_type, query.wait_seconds) == ("application/json", 5)
    assert query.etags.contains_weak("tag")


@pytest.mark.parametrize("takes", [Takes(0), Takes.PARTY, Takes.APP, Takes.RESOURCE])
def test_a_feed_ignores_the_parameters_of_other_feeds(takes: Takes) -> None:
    """A wrong value is no error where the parameter means nothing."""
    wrong = {
        Takes.PARTY: {"party": "x", "unit": "x"},
        Takes.APP: {"app": "x"},
        Takes.RESOURCE: {"resource": "x", "subject": "x"},
    }
    others = {name: value for group in Takes if group not in takes for name, value in wrong[group].items()}
    own = {"resource": "urn:altinn:resource:x"} if takes is Takes.RESOURCE else {}
    query = of_url(takes, {**others, **own}, altinn_alternativesubject="/user/1")
    assert (query.party, query.unit, query.person, query.org, query.app) == (None,) * 5
    assert (query.subject, query.alternative_subject) == (None, "/user/1" if takes is Takes.RESOURCE else None)


def test_next_of_a_get_repeats_known_parameters_but_the_position_and_persons() -> None:
    """The URL of the next page is logged by proxies, so it holds no person."""
    about = {"resource": "urn:altinn:resource:x", "Subject": "/party/1"}
    asked = {"after": "e1", "unknown": "1", "party": "2", "Type": "a b", "source[0]": "s", **about}
    query = of_url(Takes.RESOURCE, asked)
    start = "from=2000-01-01T00%3A00%3A00Z&Type=a+b&source%5B0%5D=s&resource=urn%3Aaltinn%3Aresource%3Ax"
    assert query.link == f"{FEED}?{start}&Subject=%2Fparty%2F1&"
    others = of_url(Takes(0), {"after": "e1", "Subject": f"/person/{PERSON}", "person": PERSON})
    assert others.link == f"{FEED}?from=2000-01-01T00%3A00%3A00Z&"


def test_a_post_continues_at_the_position_of_its_url() -> None:
    """The client posts the same body to every `next`, whose position replaces where the body starts."""
    body = {"from": FROM, "after": "e1", "at": "e0", "size": 7}
    query = FeedQuery.of_body(request({"after": "e2", "type": "ignored"}, body), Takes.PARTY, 1_000)
    assert (query.after, query.at, query.registered_from, query.size) == ("e2", None, None, 7)
    assert (query.types, query.link) == ((), f"{FEED}?")


def read_from(**position: str) -> tuple[Cursor | None, str | None]:
    """Where the read of a query starts: its cursor and its event id."""
    read = of_url(Takes(0), position).read_request(STREAM, NO_FILTERS, CURSORS, STREAM)
    return read.cursor, read.event_id


def test_at_decides_if_it_is_a_cursor_of_the_feed() -> None:
    """Any other `at` is ignored: `after` is a cursor or an event id."""
    first, second = Cursor(1, bytes(8)), Cursor(2, bytes(8))
    mine, next_one = CURSORS.encode(first, STREAM), CURSORS.encode(second, STREAM)
    foreign = CURSORS.encode(first, OTHER)
    assert read_from(at=mine, after=next_one) == (first, None)
    assert read_from(at=mine, after="e1") == (first, None)
    assert read_from(at=foreign, after=next_one) == (second, next_one)
    assert read_from(at=foreign, after="e1") == (None, "e1")
    assert read_from(after="e1") == (None, "e1")


def test_an_error_shows_no_person_number_in_a_name() -> None:
    """The client chose the name of the parameter, and errors are logged."""
    error: EventsError = bad_field(f"{PERSON}=æ", "Wrong.")
    assert (error.detail, error.errors[0].field) == ("Wrong.", "*=*")


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=5", 5),
        ('respond-async, Wait="7"', 7),
        ("wait=3; foo=bar", 3),
        ("wait=9999999999999", 30),
        ("wait=-1", 0),
        ("wait=\u0663", 0),
        ("wait", 0),
        ("waiting=5", 0),
        ("", 0),
    ],
)
def test_prefer_names_the_seconds_to_wait(prefer: str, seconds: int) -> None:
    """A preference that cannot be read is ignored (RFC 7240, section 2)."""
    assert of_url(Takes(0), {}, prefer=prefer).wait_seconds == seconds


@pytest.mark.parametrize(
    ("prefer", "strict"),
    [
        ("handling=strict", True),
        ('wait=5, Handling="Strict"', True),
        ("handling=strict; x=y", True),
        ("handling=lenient, handling=strict", False),
        ("handling=lenient", False),
        ("handling", False),
        ("strict", False),
        ("", False),
    ],
)
def test_prefer_names_strict_handling(prefer: str, *, strict: bool) -> None:
    """The first of several preferences of a name counts (RFC 7240, section 2)."""
    assert of_url(Takes(0), {}, prefer=prefer).strict is strict


SAME = [
    "2026-11-28T09:00:00Z",
    "2026-11-28T10:00:00.0000000+01:00",
    "2026-11-28 10:00+01:00",
    "2026-11-28T10:00:00 01:00",
    "11/28/2026 10:00:00 +01:00",
    "11/28/2026 10:00:00  01:00",
    "11/28/2026 09:00:00 +00:00",
    "11/28/2026 04:30:00 -04:30",
]


@pytest.mark.parametrize("text", SAME)
def test_a_time_is_read_in_every_form(text: str) -> None:
    """RFC 3339, and month first as .NET's invariant culture writes it; a `+` may have arrived as a space."""
    assert of_url(Takes(0), {"from": text}).registered_from == 1_795_856_400_000_000


@pytest.mark.parametrize(
    ("text", "midnight"),
    [
        ("2020-01-01Z", "2020-01-01T00:00:00Z"),
        ("2020-01-01z", "2020-01-01T00:00:00Z"),
        ("2020-01-01+01:00", "2019-12-31T23:00:00Z"),
        ("2020-01-01 01:00", "2019-12-31T23:00:00Z"),
        ("2020-01-01-04:30", "2020-01-01T04:30:00Z"),
    ],
)
def test_a_date_with_a_zone_is_its_midnight(text: str, midnight: str) -> None:
    """A date alone needs a zone too."""
    assert of_url(Takes(0), {"from": text}).registered_from == of_url(Takes(0), {"from": midnight}).registered_from


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01",
        "28/11/2026 10:00:00 +01:00",
        "02/30/2026 10:00:00 +01:00",
        "11/28/2026 10:00:00",
        "11/28/2026 10:00 +01:00",
        "11/28/2026 10:00:00+01:00",
        "11/28/2026 10:00:00.5 +01:00",
        "11/28/2026T10:00:00 +01:00",
        "11/28/2026 10:00:00 Z",
        "11/28/2026",
        "1/2/2026 10:00:00 +01:00",
        "11/28/2026 10:00:00 AM +01:00",
        "11-28-2026 10:00:00 +01:00",
        "2026/11/28 10:00:00 +01:00",
    ],
)
def test_any_other_form_of_a_time_is_refused(text: str) -> None:
    """The problem shows the forms that are taken."""
    with pytest.raises(EventsError) as failure:
        of_url(Takes(0), {"from": FROM, "to": text})
    assert failure.value.errors[0].field == "to"
    for form in ("2022-07-28T11:00:53.3917Z", "2022-07-28Z", "07/28/2022 13:00:00 +02:00"):
        assert form in failure.value.detail


@pytest.mark.parametrize("name", ["type[]", "TYPE[]", "type[0]", "eventType[12]", "EventType[]"])
def test_a_list_may_be_written_in_brackets(name: str) -> None:
    """Axios, PHP and ASP.NET write lists so; the values count with those of the plain name."""
    assert of_url(Takes(0), {name: "a", "type": "b"}).types in (("a", "b"), ("b", "a"))
    assert of_url(Takes(0), {name.lower().replace("eventtype", "source").replace("type", "source"): "s"}).sources == (
        "s",
    )
    body = request({}, {"from": FROM, name: ["a"]})
    assert FeedQuery.of_body(body, Takes(0), 1_000).types == ("a",)


BRACKETS = [
    "type[a]",
    "type[0][1]",
    "type[",
    "type]",
    "[type]",
    "type[-1]",
    "type[0",
    "type[0]x",
    "source[b]",
    "type [a]",
]
BRACKETS += [
    f"{name}[{index}]" for name in ("from", "size", "party", "person", "org", "subject", "at") for index in ("", 0)
]


@pytest.mark.parametrize("name", [*BRACKETS, f"person[{PERSON}]", "Person[x]"])
def test_other_brackets_are_refused(name: str) -> None:
    """The problem names the parameter, and repeats neither its value nor what stands in the brackets."""
    for value in ("canary", ""):
        asked = {"from": FROM, name: value}
        for parse, sent in ((FeedQuery.of_url, request(asked)), (FeedQuery.of_body, request({}, asked))):
            with pytest.raises(EventsError) as failure:
                parse(sent, Takes(0), 1_000)
            assert failure.value.errors[0].field == name.replace("]", "[").strip("[").partition("[")[0].strip().lower()
            assert "canary" not in failure.value.detail
            assert PERSON not in failure.value.detail


def test_brackets_of_an_unknown_parameter_are_ignored() -> None:
    """Unknown parameters may have any name."""
    assert of_url(Takes(0), {"filter[type]": "a", "[]": "b", "x[]": "c"}).types == ()


@pytest.mark.parametrize(("takes", "unknown", "nearest"), [
    (Takes(0), "tpye", "type"),
    (Takes(0), "eventtypes", "eventType"),
    (Takes.PARTY, "partyId", "party"),
    (Takes.RESOURCE, "subjects", "subject"),
    (Takes.APP, "ap", "app"),
    (Takes(0), "types[]", "type"),
])  # fmt: skip
def test_strict_handling_refuses_an_unknown_parameter(takes: Takes, unknown: str, nearest: str) -> None:
    """The problem names it and the nearest known one, in the URL and in a body, also without a value."""
    own = {"resource": "urn:altinn:resource:x"} if takes is Takes.RESOURCE else {}
    for value in ("canary", ""):
        asked = {"from": FROM, **own, unknown: value}
        in_url, in_body = request(asked, prefer="handling=strict"), request({}, asked, prefer="handling=strict")
        for parse, sent in ((FeedQuery.of_url, in_url), (FeedQuery.of_body, in_body)):
            with pytest.raises(EventsError) as failure:
                parse(sent, takes, 1_000)
            assert f"'{nearest}'" in failure.value.detail
            assert "canary" not in failure.value.detail


def test_strict_handling_takes_every_known_parameter() -> None:
    """Names in any case, lists in brackets, and what `next` adds."""
    asked = {
        "TO": FROM,
        "after": "a",
        "at": "b",
        "size": "1",
        "type[]": "t",
        "EVENTTYPE": "t",
        "source": "s",
    }
    named = {
        "org": "a",
        "app": "b",
        "party": "0",
        "unit": "",
        "resource": "urn:altinn:resource:x",
        "subject": "/party/1",
    }
    assert of_url(EVERY_GROUP, {**asked, **named}, prefer="handling=strict").strict


@pytest.mark.parametrize("count", [10, 11])
def test_a_request_has_ten_wildcards_at_most(count: int) -> None:
    """They count together in types and sources."""
    for asked in ({"type": "%" * count}, {"source": "a%" * count}, {"eventType": "%" * 5, "source": "%" * (count - 5)}):
        if count == 10:
            assert of_url(Takes(0), asked).link
        else:
            with pytest.raises(EventsError, match="at most 10 wildcards"):
                of_url(Takes(0), asked)


@pytest.mark.parametrize("name", ["source", "type", "eventType", "from", "after", "org"])
@pytest.mark.parametrize("value", [5, 1.5, True, {}])
def test_a_text_in_a_body_is_text(name: str, value: object) -> None:
    """A number is refused, and the problem names the member."""
    with pytest.raises(EventsError) as failure:
        FeedQuery.of_body(request({}, {"to": FROM, "from": FROM, name: value}), EVERY_GROUP, 1_000)
    assert failure.value.errors[0].field == name.lower()
    if name in ("source", "type", "eventType"):
        with pytest.raises(EventsError, match="list of texts"):
            FeedQuery.of_body(request({}, {"from": FROM, name: ["a", value]}), EVERY_GROUP, 1_000)


def test_a_number_in_a_body_is_taken_where_numbers_are_meant() -> None:
    """`party`, `unit` and `size`."""
    query = FeedQuery.of_body(request({}, {"from": FROM, "party": 1, "size": 7}), Takes.PARTY, 1_000)
    assert (query.party, query.size) == ("1", 7)
    assert FeedQuery.of_body(request({}, {"from": FROM, "unit": 974760673}), Takes.PARTY, 1_000).unit == "974760673"


@pytest.mark.parametrize("zero", [0, "0", "00"])
def test_the_party_zero_counts_as_absent(zero: object) -> None:
    """Generated clients send it beside a unit or a person."""
    asked = {"from": FROM, "party": zero, "unit": "974760673"}
    for query in (
        of_url(Takes.PARTY, {name: str(value) for name, value in asked.items()}),
        FeedQuery.of_body(request({}, asked), Takes.PARTY, 1_000),
    ):
        assert (query.party, query.unit) == (None, "974760673")


@pytest.mark.parametrize(
    "text",
    [
        '{"from": "%s", "type": "a", "type": "b"}',
        '{"from": "%s", "Type": "a", "type": "b"}',
        '{"from": "%s", "FROM": ""}',
    ],
)
def test_a_name_stands_once_in_a_body(text: str) -> None:
    """One of the values would be lost without a word."""
    body = (text % FROM).encode()
    raw = func.HttpRequest("POST", FEED, headers={}, params={}, route_params={}, body=body)
    with pytest.raises(EventsError) as failure:
        FeedQuery.of_body(Request(raw, None), Takes(0), 1_000)
    assert failure.value.errors[0].field.lower() in ("type", "from")


def test_unknown_members_of_a_body_are_ignored() -> None:
    """They may hold any JSON."""
    body = request({}, {"from": FROM, "$schema": {}, "unknown": [1.5, None, True]})
    assert FeedQuery.of_body(body, Takes(0), 1_000).types == ()
