"""What a request asks of a feed, parsed without the service around it."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import azure.functions as func
import pytest

from events_core.access.names import AppId, Resource
from events_core.common.errors import EventsError, bad_field
from events_core.feeds.stream import NO_FILTERS, Cursor, CursorCodec, Stream
from events_core.http.query import FeedQuery, Takes
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


def test_next_of_a_get_repeats_everything_but_the_position_and_persons() -> None:
    """The URL of the next page is logged by proxies, so it holds no person."""
    asked = {"after": "e1", "unknown": "1", "Subject": f"/person/{PERSON}", "type": "a b"}
    query = of_url(Takes(0), asked)
    assert query.link == f"{FEED}?from=2000-01-01T00%3A00%3A00Z&unknown=1&type=a+b&"


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
    assert read_from(at=mine, after=next_one) == (first, next_one)
    assert read_from(at=foreign, after=next_one) == (second, next_one)
    assert read_from(at=foreign, after="e1") == (None, "e1")
    assert read_from(after="e1") == (None, "e1")


def test_an_error_shows_no_person_number_in_a_name() -> None:
    """The client chose the name of the parameter, and errors are logged."""
    error: EventsError = bad_field(f"{PERSON}=æ", "Wrong.")
    assert (error.detail, error.errors[0].field) == ("Wrong.", "*=*")
