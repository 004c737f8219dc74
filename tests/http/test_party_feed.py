"""The feed of a party for end users and systems, by GET and by POST with the parameters in the body."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.asgi import Answer
from tests.support.reading import app_events, cursor_of, hidden_events, hide, next_query
from tests.support.register_server import Person
from tests.support.service import ANCIENT, PARTY, PARTY_FEED, PERSON, UNIT, UNIT_PARTY, Service, event, ids

STRANGER, QUIET, MALFORMED = "20868012804", "09855930126", "30889112345"
POST_ROUTES = ("/events/api/v1/app/party", "/events/api/v1/party")
NO_SUBJECT = "Subject must be specified using either query params party or unit or header value person."
OPAQUE = {"next", "link", "etag"}


async def ask(service: Service, method: str, token: str, **asked: Any) -> Answer:
    """Ask by GET with the person in the header, or by POST with everything in the body."""
    if method == "POST":
        return await service.request("POST", PARTY_FEED, token=token, json_body=asked)
    person = asked.pop("person", None)
    return await service.get(PARTY_FEED, token, headers={"Person": person} if person else {}, **asked)


@pytest.fixture(params=["GET", "POST"])
def method(request: pytest.FixtureRequest) -> str:
    """Both methods."""
    return str(request.param)


@pytest.mark.on_cosmos
async def test_the_feed_holds_the_app_events_about_the_party(service: Service, method: str) -> None:
    """Apps of any org, in order; no other party and no other resource."""
    wanted = [*app_events(2), *app_events(1, resource="urn:altinn:resource:app_skd_app")]
    for sent in [event(subject=f"/party/{PARTY}"), *wanted, *app_events(1, subject="/party/7")]:
        await service.publish(sent)
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "party": PARTY})
    assert (answer.status, ids(answer.json())) == (200, ids(wanted))


async def test_a_published_event_is_in_the_next_response(service: Service, method: str) -> None:
    """On SQLite an acknowledged event is in the party's feed at once."""
    published = await service.publish_app_event()
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "party": PARTY})
    assert ids(answer.json()) == [published]


async def test_after_or_from_is_required(service: Service, method: str) -> None:
    """A request without a start is refused."""
    answer = await ask(service, method, service.user(), party=PARTY)
    assert (answer.status, answer.json()["detail"]) == (400, "The 'From' or 'After' parameter must be defined.")


async def test_a_party_is_required(service: Service, method: str) -> None:
    """The problem has the documented words."""
    answer = await ask(service, method, service.user(), **{"from": ANCIENT})
    assert (answer.status, answer.json()["detail"]) == (400, NO_SUBJECT)


@pytest.mark.parametrize(
    ("named", "detail"),
    [
        ({"party": PARTY, "person": PERSON}, "Only one of 'Party' or 'Person' can be defined."),
        ({"party": PARTY, "unit": UNIT}, "Only one of 'Party' or 'Unit' can be defined."),
        ({"unit": UNIT, "person": PERSON}, "Only one of 'Unit' or 'Person' can be defined."),
    ],
)
async def test_only_one_party_can_be_named(service: Service, method: str, named: dict[str, Any], detail: str) -> None:
    """Exactly one of party, unit and person is valid."""
    answer = await ask(service, method, service.user(), **{"from": ANCIENT}, **named)
    assert (answer.status, answer.json()["detail"]) == (400, detail)
    assert PERSON not in answer.body.decode()


async def test_a_unit_is_looked_up_in_register(service: Service, method: str) -> None:
    """Register gives the party of the organisation number."""
    wanted = app_events(1, subject=f"/party/{UNIT_PARTY}")
    await service.publish(*wanted, *app_events(1))
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "unit": UNIT})
    assert ids(answer.json()) == ids(wanted)
    assert service.register.requests == [("/v1/parties/lookup", {"OrgNo": UNIT})]


async def test_a_person_is_looked_up_in_register(service: Service, method: str) -> None:
    """Register gives the party of the person number."""
    wanted = app_events(1)
    await service.publish(*wanted, *app_events(1, subject="/party/7"))
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "person": PERSON})
    assert ids(answer.json()) == ids(wanted)
    assert service.register.requests == [("/v1/parties/lookup", {"Ssn": PERSON})]


async def test_an_unknown_unit_is_not_found(service: Service, method: str) -> None:
    """Units are public, so Register may tell that it does not know one."""
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "unit": "910000000"})
    assert answer.status == 404


@pytest.mark.parametrize("person", ["0189969955", "018996995520", "01899699-52", "xyz"])
async def test_an_invalid_person_number_is_refused_and_not_repeated(service: Service, method: str, person: str) -> None:
    """A person number has 11 digits."""
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "person": person})
    assert (answer.status, person in answer.body.decode()) == (400, False)


@pytest.mark.parametrize("stranger", [STRANGER, MALFORMED])
async def test_an_unknown_person_looks_like_one_without_events(service: Service, method: str, stranger: str) -> None:
    """Status, body, headers and the lengths of opaque values are equal, so that numbers cannot be probed."""
    service.register.persons[QUIET] = Person(77, "a made up uuid")
    known, unknown = [
        await ask(service, method, service.user(), **{"from": ANCIENT, "size": 3, "person": number})
        for number in (QUIET, stranger)
    ]
    assert (unknown.status, unknown.body) == (known.status, known.body) == (200, b"[]")
    assert {n: len(v) if n in OPAQUE else v for n, v in unknown.headers.items()} == {
        n: len(v) if n in OPAQUE else v for n, v in known.headers.items()
    }


async def test_an_unknown_person_looks_like_one_with_hidden_events(service: Service, method: str) -> None:
    """Denied events make no difference either."""
    hide(service)
    await service.publish(*hidden_events(3))
    known, unknown = [
        await ask(service, method, service.user(), **{"from": ANCIENT, "person": number})
        for number in (PERSON, STRANGER)
    ]
    assert (unknown.status, unknown.body) == (known.status, known.body) == (200, b"[]")
    assert {n: len(v) if n in OPAQUE else v for n, v in unknown.headers.items()} == {
        n: len(v) if n in OPAQUE else v for n, v in known.headers.items()
    }


async def test_the_cursors_of_a_person_do_not_reveal_the_party(service: Service, method: str) -> None:
    """A caller cannot find the party's number by comparing cursors."""
    token = service.organisation(number="999999999")
    person = await ask(service, method, token, **{"from": ANCIENT, "person": PERSON})
    party = await ask(service, method, token, **{"from": ANCIENT, "party": PARTY})
    assert cursor_of(person) != cursor_of(party)


@pytest.mark.on_cosmos
async def test_a_cursor_of_a_party_is_unknown_for_its_person(service: Service, method: str) -> None:
    """The page would reveal the party; an unknown cursor starts from the oldest event."""
    await service.publish(*app_events(2))
    first = await ask(service, method, service.user(), **{"from": ANCIENT, "party": PARTY, "size": 1})
    answer = await ask(service, method, service.user(), person=PERSON, at=cursor_of(first)["at"])
    assert len(answer.json()) == 2


async def test_the_feed_of_an_unknown_person_can_be_walked(service: Service, method: str) -> None:
    """Every page looks like the first."""
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "person": STRANGER})
    again = await ask(service, method, service.user(), person=STRANGER, **cursor_of(answer))
    assert (again.status, again.body, cursor_of(again)) == (200, b"[]", cursor_of(answer))


async def test_an_unknown_person_waits_as_long_as_a_known_one(service: Service) -> None:
    """Time reveals nothing either."""
    service.register.persons[QUIET] = Person(77, "a made up uuid")
    took = []
    for number in (QUIET, STRANGER):
        begun = time.perf_counter()
        headers = {"Person": number, "Prefer": "wait=1"}
        answer = await service.get(PARTY_FEED, service.user(), from_=ANCIENT, headers=headers)
        took.append((answer.status, answer.headers["preference-applied"], round(time.perf_counter() - begun)))
    assert took == [(200, "wait=1", 1)] * 2


@pytest.mark.on_cosmos
async def test_org_narrows_the_feed_to_its_apps(service: Service, method: str) -> None:
    """`org` keeps the events of all apps of one org."""
    wanted = [*app_events(1), *app_events(1, resource="urn:altinn:resource:app_ttd_other")]
    for sent in [*app_events(1, resource="urn:altinn:resource:app_skd_app"), *wanted]:
        await service.publish(sent)
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "party": PARTY, "org": "ttd"})
    assert ids(answer.json()) == ids(wanted)


@pytest.mark.on_cosmos
async def test_org_and_app_narrow_the_feed_to_one_app(service: Service, method: str) -> None:
    """`org` and `app` keep the events of one app."""
    wanted = app_events(1)
    await service.publish(*wanted, *app_events(1, resource="urn:altinn:resource:app_ttd_other"))
    asked = {"from": ANCIENT, "party": PARTY, "org": "ttd", "app": "apps-test"}
    assert ids((await ask(service, method, service.user(), **asked)).json()) == ids(wanted)


async def test_an_app_is_named_with_its_org(service: Service, method: str) -> None:
    """`app` without `org` is refused."""
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "party": PARTY, "app": "apps-test"})
    assert (answer.status, answer.json()["errors"][0]["field"]) == (400, "org")


@pytest.mark.on_cosmos
async def test_type_and_source_narrow_the_feed(service: Service, method: str) -> None:
    """Both may be given several times."""
    wanted = [*app_events(1, type="a"), *app_events(1, type="b")]
    await service.publish(*wanted, *app_events(1, type="c"), *app_events(1, type="a", party=7))
    asked = {"from": ANCIENT, "party": PARTY, "type": ["a", "B"], "source": [f"%/{PARTY}/%", "nothing"]}
    assert ids((await ask(service, method, service.user(), **asked)).json()) == ids(wanted)


@pytest.mark.parametrize("kind", ["org", "user", "system_user", "organisation"])
async def test_every_kind_of_caller_reads_what_the_pdp_permits(service: Service, kind: str) -> None:
    """The action of each question is `read`, whatever the scope."""
    hide(service)
    await service.publish(*(visible := app_events(1)), *hidden_events(1))
    answer = await service.get(PARTY_FEED, getattr(service, kind)("altinn:events/ttd"), from_=ANCIENT, party=PARTY)
    assert ids(answer.json()) == ids(visible)
    assert {asked.action for asked in service.pdp.asked[0]} == {"read"}


async def test_a_token_without_a_consumer_is_forbidden(service: Service, method: str) -> None:
    """A valid token without a consumer gets 403."""
    answer = await ask(service, method, service.issuer.token({}), **{"from": ANCIENT, "party": PARTY})
    assert answer.status == 403


@pytest.mark.parametrize("route", POST_ROUTES)
async def test_both_post_routes_are_the_feed(service: Service, route: str) -> None:
    """`next` stays on the route of the request."""
    published = app_events(5)
    await service.publish(*published)
    body, token = {"from": ANCIENT, "person": PERSON, "size": 2}, service.user()
    answer = await service.request("POST", route, token=token, json_body=body)
    assert answer.headers["next"].startswith(f"http://127.0.0.1:7071{route}?")
    rest = await service.request("POST", answer.headers["next"], token=token, json_body=body)
    assert ids([*answer.json(), *rest.json()]) == ids(published)[:4]


async def test_next_of_a_posted_feed_holds_the_cursor_alone(service: Service) -> None:
    """`next` has only `after` and `at`, and never the person."""
    await service.publish(*app_events(1))
    asked = {"from": ANCIENT, "person": PERSON, "type": "%", "size": 1}
    answer = await service.request("POST", f"{PARTY_FEED}?org=ttd&person=1", token=service.user(), json_body=asked)
    rest = await service.request("POST", answer.headers["next"], token=service.user(), json_body=asked)
    assert [[name for name, _ in next_query(page)] for page in (answer, rest)] == [["after", "at"], ["after"]]
    assert PERSON not in str(answer.headers) + str(rest.headers)


async def test_a_cursor_in_the_url_wins_over_the_body(service: Service) -> None:
    """`after` of the URL overrides `after` and `from` of the body."""
    published = app_events(4)
    await service.publish(*published)
    body = {"from": "2999-01-01T00:00:00Z", "after": published[0]["id"], "party": PARTY}
    target = f"{PARTY_FEED}?after={published[2]['id']}"
    answer = await service.request("POST", target, token=service.user(), json_body=body)
    assert ids(answer.json()) == ids(published)[3:]


@pytest.mark.on_cosmos
async def test_a_posted_feed_is_walked_by_the_same_body(service: Service) -> None:
    """The same body to each `next` returns every event once."""
    published = app_events(11)
    await service.publish(*published)
    body, token = {"from": ANCIENT, "party": str(PARTY), "size": "3"}, service.user()
    first = await service.request("POST", PARTY_FEED, token=token, json_body=body)
    seen = ids(first.json())
    answer = first
    while answer.json():
        answer = await service.request("POST", answer.headers["next"], token=token, json_body=body)
        seen += ids(answer.json())
    assert seen == ids(published)


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"{", b'{"party": {}}', b'{"party": true}', b"null"])
async def test_the_body_is_a_json_object_of_parameters(service: Service, body: bytes) -> None:
    """Strings, numbers and lists of them are valid values."""
    answer = await service.request("POST", PARTY_FEED, token=service.user(), body=body, content_type="application/json")
    assert answer.status == 400


async def test_the_header_person_serves_a_posted_feed_too(service: Service) -> None:
    """A POST may name the person in the header."""
    await service.publish(*(published := app_events(1)))
    answer = await service.request(
        "POST", PARTY_FEED, token=service.user(), headers={"Person": PERSON}, json_body={"from": ANCIENT}
    )
    assert ids(answer.json()) == ids(published)


async def test_a_person_in_the_url_is_refused_and_not_repeated(service: Service) -> None:
    """The person of a GET belongs in the header."""
    answer = await service.get(PARTY_FEED, service.user(), from_=ANCIENT, person=PERSON)
    assert (answer.status, PERSON in answer.body.decode() + str(answer.headers)) == (400, False)


async def test_an_outage_of_register_is_503(service: Service, method: str) -> None:
    """The response has `Retry-After`."""
    service.register.status = 500
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "person": PERSON})
    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)


async def test_the_callers_own_token_goes_to_register(service: Service) -> None:
    """Its answer is not shared with other callers."""
    callers = [service.user(user=user) for user in (1, 2)]
    for token in [*callers, *callers]:
        await service.get(PARTY_FEED, token, from_=ANCIENT, unit=UNIT)
    sent = [{name.lower(): value for name, value in headers.items()} for headers in service.register.headers]
    assert [headers["authorization"] for headers in sent] == [f"Bearer {token}" for token in callers]
