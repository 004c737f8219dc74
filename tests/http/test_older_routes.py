"""The older routes answer like their successors and name them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.service import ANCIENT, APP_FEED, PARTY, PARTY_FEED, PERSON, UNIT, Service, event, ids

BASE = "http://127.0.0.1:7071"
FEEDS = [
    ("/events/instanceevents/ttd/apps-test", APP_FEED, {}),
    ("/events/instanceevents/ttd", "/events/api/v1/app/ttd", {}),
    ("/events/instanceeventsforparty/", PARTY_FEED, {"party": PARTY}),
    ("/events/instanceeventsforparty", PARTY_FEED, {"party": PARTY, "org": "ttd", "app": "apps-test"}),
    ("/events/instanceeventsforparty", PARTY_FEED, {"party": PARTY, "type": "app.%"}),
]


@pytest.mark.parametrize(("older", "newer", "query"), FEEDS)
async def test_an_older_feed_answers_like_its_successor(
    service: Service, older: str, newer: str, query: dict[str, Any]
) -> None:
    """The page is the same, byte for byte, with the same cursor."""
    for _ in range(3):
        await service.publish_app_event()
    answers = [await service.get(path, service.org(), from_=ANCIENT, size=2, **query) for path in (older, newer)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body
    assert len({answer.headers["next"].partition("?")[2] for answer in answers}) == 1


@pytest.mark.parametrize(("older", "newer", "query"), FEEDS)
async def test_an_older_feed_names_its_successor(
    service: Service, older: str, newer: str, query: dict[str, Any]
) -> None:
    """The response has `Deprecation` (RFC 9745), and `Link` names the next page and the successor."""
    answer = await service.get(older, service.org(), from_=ANCIENT, **query)
    assert answer.headers["deprecation"] == "@1688169600"
    following = answer.headers["next"]
    assert answer.headers["link"] == f'<{following}>; rel="next", <{BASE}{newer}>; rel="successor-version"'


@pytest.mark.parametrize(("older", "newer", "query"), FEEDS)
async def test_an_older_feed_is_walked_under_its_own_route(
    service: Service, older: str, newer: str, query: dict[str, Any]
) -> None:
    """`next` stays on the older route."""
    published = [await service.publish_app_event() for _ in range(5)]
    answer = await service.get(older, service.org(), from_=ANCIENT, size=2, **query)
    assert answer.headers["next"].startswith(f"{BASE}{older}?")
    assert newer not in answer.headers["next"]
    assert ids(await service.walk(answer, service.org())) == published


@pytest.mark.parametrize(("older", "newer", "query"), FEEDS)
async def test_the_successor_itself_is_not_deprecated(
    service: Service, older: str, newer: str, query: dict[str, Any]
) -> None:
    """Today's routes carry neither header."""
    assert older != newer
    answer = await service.get(newer, service.org(), from_=ANCIENT, **query)
    assert "deprecation" not in answer.headers
    assert "successor-version" not in answer.headers["link"]


@pytest.mark.parametrize(("older", "newer", "query"), FEEDS)
async def test_an_error_of_an_older_route_names_the_successor_too(
    service: Service, older: str, newer: str, query: dict[str, Any]
) -> None:
    """The problem is that of the successor."""
    answer, today = [await service.get(path, service.org(), **query) for path in (older, newer)]
    assert (answer.status, answer.json()["detail"]) == (today.status, today.json()["detail"])
    assert answer.headers["deprecation"] == "@1688169600"
    assert answer.headers["link"] == f'<{BASE}{newer}>; rel="successor-version"'


async def test_a_304_of_an_older_route_names_the_successor_too(service: Service) -> None:
    """An unchanged page has both headers."""
    older, token = "/events/instanceevents/ttd/apps-test", service.org()
    etag = (await service.get(older, token, from_=ANCIENT)).headers["etag"]
    answer = await service.get(older, token, from_=ANCIENT, headers={"If-None-Match": etag})
    assert (answer.status, answer.headers["deprecation"]) == (304, "@1688169600")


@pytest.mark.parametrize(("query", "headers"), [({"unit": UNIT}, {}), ({}, {"Person": PERSON}), ({"party": PARTY}, {})])
async def test_the_older_party_feed_accepts_unit_person_and_party(
    service: Service, query: dict[str, Any], headers: dict[str, str]
) -> None:
    """A party has three names there too."""
    route = "/events/instanceeventsforparty/"
    answer = await service.get(route, service.user(), from_=ANCIENT, headers=headers, **query)
    assert answer.status == 200


@pytest.mark.parametrize("route", ["/events", "/events/"])
async def test_the_older_route_of_publishing_publishes(service: Service, route: str) -> None:
    """`POST /events/` stores an event and names its successor."""
    token = service.org("altinn:events.publish.admin")
    published = event()
    answer = await service.request(
        "POST", route, token=token, json_body=published, content_type="application/cloudevents+json"
    )
    outcome = {"id": published["id"], "source": published["source"], "duplicate": False}
    assert (answer.status, answer.json()) == (200, {"events": [outcome]})
    assert answer.headers["deprecation"] == "@1688169600"
    assert answer.headers["link"] == f'<{BASE}/events/api/v1/events>; rel="successor-version"'
