"""The app owner's feed: callers, scopes, filters and order."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.pdp_server import DENY
from tests.support.reading import app_events, next_query
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    APP_TOKEN_SCOPES,
    PARTY,
    PERSON,
    UNIT,
    UNIT_PARTY,
    Service,
    ids,
)

STRANGER, UNKNOWN_UNIT = "20868012804", "910000000"


@pytest.mark.on_cosmos
async def test_the_feed_holds_the_apps_events_in_the_order_of_publication(service: Service) -> None:
    """A page is a JSON array of the app's events, and of no other app's."""
    published = [await service.publish_app_event() for _ in range(5)]
    await service.publish_app_event(app_name="ttd/other-app")
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT)
    assert (answer.status, ids(answer.json())) == (200, published)


@pytest.mark.on_cosmos
async def test_an_acknowledged_event_is_on_the_next_page(service: Service) -> None:
    """An event is in its owner's feed as soon as its publisher has the response."""
    token = service.org(APP_TOKEN_SCOPES)
    answer = await service.get(APP_FEED, token, from_=ANCIENT)
    for _ in range(20):
        published = await service.publish_app_event()
        answer = await service.request("GET", answer.headers["next"], token=token)
        assert ids(answer.json()) == [published]


async def test_after_or_from_is_required(service: Service) -> None:
    """A request without a start is refused."""
    answer = await service.get(APP_FEED, service.org())
    assert (answer.status, answer.json()["detail"]) == (400, "The 'From' or 'After' parameter must be defined.")


@pytest.mark.parametrize("kind", ["org", "organisation"])
async def test_service_owners_and_organisations_may_read(service: Service, kind: str) -> None:
    """The feed serves service owners and organisations."""
    answer = await service.get(APP_FEED, getattr(service, kind)(), from_=ANCIENT)
    assert answer.status == 200


@pytest.mark.parametrize("kind", ["user", "system_user"])
async def test_users_and_system_users_may_not_read(service: Service, kind: str) -> None:
    """End users and system users get 403 even with the app's scope."""
    answer = await service.get(APP_FEED, getattr(service, kind)(APP_TOKEN_SCOPES), from_=ANCIENT)
    assert (answer.status, service.pdp.requests) == (403, [])


async def test_a_token_without_a_consumer_is_forbidden(service: Service) -> None:
    """A valid token without a consumer gets 403 even with the app's scope."""
    token = service.issuer.token({"scope": APP_TOKEN_SCOPES})
    assert (await service.get(APP_FEED, token, from_=ANCIENT)).status == 403


async def test_a_request_without_a_token_is_unauthorized(service: Service) -> None:
    """Without a token the response is 401."""
    answer = await service.get(APP_FEED, from_=ANCIENT)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("scope", ["altinn:events/ttd/apps-test", "altinn:events/ttd"])
@pytest.mark.parametrize("kind", ["org", "organisation"])
async def test_the_scope_of_app_or_org_replaces_the_pdp(service: Service, kind: str, scope: str) -> None:
    """With the scope of the app or of its org, the service asks the PDP nothing."""
    service.pdp.decide = lambda _: DENY
    published = await service.publish_app_event()
    answer = await service.get(APP_FEED, getattr(service, kind)("other:scope", scope), from_=ANCIENT)
    assert (ids(answer.json()), service.pdp.requests) == ([published], [])


@pytest.mark.parametrize(
    "scope",
    ["altinn:events/ttd/apps", "altinn:events/ttd/apps-test/x", "altinn:events/skd", "altinn:events", "altinn:events/"],
)
async def test_any_other_scope_opens_nothing(service: Service, scope: str) -> None:
    """With the scope of another app or org, the PDP decides about each event."""
    service.pdp.decide = lambda _: DENY
    await service.publish_app_event()
    answer = await service.get(APP_FEED, service.org(scope), from_=ANCIENT)
    assert (answer.json(), len(service.pdp.requests)) == ([], 1)


async def test_without_the_scope_the_pdp_is_asked_for_read(service: Service) -> None:
    """The action of the question is `read`."""
    await service.publish_app_event()
    await service.get(APP_FEED, service.org(), from_=ANCIENT)
    assert [[asked.action for asked in questions] for questions in service.pdp.asked] == [["read"]]


@pytest.mark.on_cosmos
async def test_party_narrows_the_feed(service: Service) -> None:
    """`party` keeps the events about one party."""
    wanted, other = app_events(3), app_events(3, subject="/party/7")
    await service.publish(*[event for pair in zip(wanted, other, strict=True) for event in pair])
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, party=PARTY)
    assert ids(answer.json()) == ids(wanted)


async def test_unit_narrows_the_feed_to_its_party(service: Service) -> None:
    """Register gives the party of `unit`."""
    wanted = app_events(1, subject=f"/party/{UNIT_PARTY}")
    await service.publish(*wanted, *app_events(1))
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, unit=UNIT)
    assert ids(answer.json()) == ids(wanted)


async def test_person_narrows_the_feed_to_their_party(service: Service) -> None:
    """Register gives the party of the header `person`."""
    wanted = app_events(1)
    await service.publish(*wanted, *app_events(1, subject="/party/7"))
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, headers={"Person": PERSON})
    assert ids(answer.json()) == ids(wanted)


@pytest.mark.on_cosmos
async def test_a_narrowed_feed_stays_narrowed_on_every_page(service: Service) -> None:
    """A walk that sends the person with each request returns that party's events alone."""
    wanted = app_events(7)
    await service.publish(*app_events(3, subject="/party/7"), *wanted, *app_events(3, subject="/party/8"))
    token, person = service.org(), {"Person": PERSON}
    first = await service.get(APP_FEED, token, from_=ANCIENT, size=2, headers=person)
    assert ids(await service.walk(first, token, headers=person)) == ids(wanted)


async def test_an_unknown_unit_is_not_found(service: Service) -> None:
    """Units are public, so Register may tell that it does not know one."""
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, unit=UNKNOWN_UNIT)
    assert answer.status == 404


async def test_an_unknown_person_reads_an_empty_feed(service: Service) -> None:
    """An unknown person gets the response of a person without events."""
    await service.publish(*app_events(3))
    service.register.persons[STRANGER[::-1]] = service.register.persons[PERSON].__class__(77, "u")
    known, unknown = [
        await service.get(APP_FEED, service.org(), from_=ANCIENT, headers={"Person": number})
        for number in (STRANGER[::-1], STRANGER)
    ]
    assert (unknown.status, unknown.json()) == (known.status, known.json()) == (200, [])
    opaque = {"next", "link", "etag"}
    assert {n: v for n, v in unknown.headers.items() if n not in opaque} == {
        n: v for n, v in known.headers.items() if n not in opaque
    }


@pytest.mark.parametrize(
    ("parameters", "headers", "detail"),
    [
        ({"party": PARTY, "unit": UNIT}, {}, "Only one of 'Party' or 'Unit' can be defined."),
        ({"party": PARTY}, {"Person": PERSON}, "Only one of 'Party' or 'Person' can be defined."),
        ({"unit": "97476067"}, {}, "Value of 'Unit' needs to be exactly 9 digits."),
        ({"unit": "97476067x"}, {}, "Value of 'Unit' needs to be exactly 9 digits."),
        ({"size": 0}, {}, "The 'Size' parameter must be a number larger that 0."),
        ({"size": -1}, {}, "The 'Size' parameter must be a number larger that 0."),
        ({"size": "ten"}, {}, "The 'Size' parameter must be a number larger that 0."),
    ],
)
async def test_errors_have_the_documented_words(
    service: Service, parameters: dict[str, object], headers: dict[str, str], detail: str
) -> None:
    """Exclusive parameters and malformed numbers are refused in the words of the documentation."""
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, headers=headers, **parameters)
    assert (answer.status, answer.json()["detail"]) == (400, detail)


async def test_a_person_in_the_url_is_refused_and_not_repeated(service: Service) -> None:
    """A person's number belongs in a header; in the URL it gets 400, and the response does not repeat it."""
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, person=PERSON)
    assert answer.status == 400
    assert PERSON not in answer.body.decode() + str(answer.headers)


async def test_next_never_names_the_person(service: Service) -> None:
    """`next` holds neither the person nor their party."""
    await service.publish(*app_events(3))
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, size=2, headers={"Person": PERSON})
    assert [name for name, _ in next_query(answer)] == ["from", "size", "after", "at"]
    assert PERSON not in str(answer.headers)
    assert str(PARTY) not in str(answer.headers)


@pytest.mark.on_cosmos
async def test_readers_at_the_same_time_get_the_same_feed(service: Service) -> None:
    """All readers see one order."""
    published = app_events(30)
    await service.publish(*published)
    answers = await asyncio.gather(
        *(service.get(APP_FEED, service.org(org=org), from_=ANCIENT) for org in ("ttd", "skd", "brg"))
    )
    assert [ids(answer.json()) for answer in answers] == [ids(published)] * 3


@pytest.mark.on_cosmos
async def test_an_app_without_events_has_an_empty_feed(service: Service) -> None:
    """The feed of an app that never published is empty and can be walked."""
    answer = await service.get("/events/api/v1/app/ttd/unheard-of", service.org(), from_=ANCIENT)
    assert (answer.status, answer.json(), answer.headers["events-caught-up"]) == (200, [], "true")
    assert await service.walk(answer, service.org()) == []


@pytest.mark.on_cosmos
async def test_only_the_resource_makes_an_event_the_apps(service: Service) -> None:
    """An event belongs to an app by its resource, not by its source."""
    await service.publish(*app_events(1, resource="urn:altinn:resource:app_ttd_another"))
    await service.publish(wanted := app_events(1, resource=APP_RESOURCE, source="https://elsewhere.example/1")[0])
    answer = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT)
    assert ids(answer.json()) == [wanted["id"]]
