"""The feed of one party, for end users and their systems: by GET, and by POST with the parameters in the body."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.asgi import Answer
from tests.support.reading import app_events, hidden_events, hide, next_query, place
from tests.support.register_server import Person
from tests.support.service import ANCIENT, PARTY, PARTY_FEED, PERSON, UNIT, UNIT_PARTY, Service, event, ids

STRANGER, QUIET = "20868012804", "30889112345"
POST_ROUTES = ("/events/api/v1/app/party", "/events/api/v1/party")
NO_SUBJECT = "Subject must be specified using either query params party or unit or header value person."
OPAQUE = {"next", "link", "etag"}


async def ask(service: Service, method: str, token: str, **asked: Any) -> Answer:
    """Ask for the feed by GET, the person in the header, or by POST with everything in the body."""
    if method == "POST":
        return await service.request("POST", PARTY_FEED, token=token, json_body=asked)
    person = asked.pop("person", None)
    return await service.get(PARTY_FEED, token, headers={"Person": person} if person else {}, **asked)


@pytest.fixture(params=["GET", "POST"])
def method(request: pytest.FixtureRequest) -> str:
    """Both ways to ask."""
    return str(request.param)


@pytest.mark.on_cosmos
async def test_the_feed_holds_the_app_events_about_the_party(service: Service, method: str) -> None:
    """App events of any org whose subject is the party, in order; nothing of other parties or other resources."""
    wanted = [*app_events(2), *app_events(1, resource="urn:altinn:resource:app_skd_app")]
    for each in [event(subject=f"/party/{PARTY}"), *wanted, *app_events(1, subject="/party/7")]:
        await service.publish(each)
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "party": PARTY})
    assert (answer.status, ids(answer.json())) == (200, ids(wanted))


async def test_a_published_event_is_in_the_next_answer(service: Service, method: str) -> None:
    """On this store an acknowledged event is in the party's feed at once."""
    published = await service.publish_app_event()
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "party": PARTY})
    assert ids(answer.json()) == [published]


async def test_after_or_from_is_required(service: Service, method: str) -> None:
    """A request that says neither where nor when to start is refused."""
    answer = await ask(service, method, service.user(), party=PARTY)
    assert (answer.status, answer.json()["detail"]) == (400, "The 'From' or 'After' parameter must be defined.")


async def test_a_party_is_required(service: Service, method: str) -> None:
    """A request that names no party, unit or person is refused in the documented words."""
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
    """Exactly one of party, unit and person is taken."""
    answer = await ask(service, method, service.user(), **{"from": ANCIENT}, **named)
    assert (answer.status, answer.json()["detail"]) == (400, detail)
    assert PERSON not in answer.body.decode()


async def test_a_unit_is_looked_up_in_register(service: Service, method: str) -> None:
    """`unit` names the party that Register gives for the organisation number."""
    wanted = app_events(1, subject=f"/party/{UNIT_PARTY}")
    await service.publish(*wanted, *app_events(1))
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "unit": UNIT})
    assert ids(answer.json()) == ids(wanted)
    assert service.register.requests == [("/v1/parties/lookup", {"OrgNo": UNIT})]


async def test_a_person_is_looked_up_in_register(service: Service, method: str) -> None:
    """`person` names the party that Register gives for the person number."""
    wanted = app_events(1)
    await service.publish(*wanted, *app_events(1, subject="/party/7"))
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "person": PERSON})
    assert ids(answer.json()) == ids(wanted)
    assert service.register.requests == [("/v1/parties/lookup", {"Ssn": PERSON})]


async def test_an_unknown_unit_is_not_found(service: Service, method: str) -> None:
    """Units are public: one that Register does not know is 404."""
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "unit": "910000000"})
    assert answer.status == 404


@pytest.mark.parametrize("person", ["0189969955", "018996995520", "01899699-52", "xyz"])
async def test_a_person_number_that_is_none_is_refused_and_not_repeated(
    service: Service, method: str, person: str
) -> None:
    """A person number has 11 digits; what was sent instead stands nowhere in the answer."""
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "person": person})
    assert (answer.status, person in answer.body.decode()) == (400, False)


async def test_an_unknown_person_is_answered_as_one_without_readable_events(service: Service, method: str) -> None:
    """Status, body, headers but for what is opaque, and the lengths of that, are the same: nobody tries out numbers."""
    service.register.persons[QUIET] = Person(77, "a made up uuid")
    known, unknown = [
        await ask(service, method, service.user(), **{"from": ANCIENT, "size": 3, "person": number})
        for number in (QUIET, STRANGER)
    ]
    assert (unknown.status, unknown.body) == (known.status, known.body) == (200, b"[]")
    assert {n: len(v) if n in OPAQUE else v for n, v in unknown.headers.items()} == {
        n: len(v) if n in OPAQUE else v for n, v in known.headers.items()
    }


async def test_an_unknown_person_is_answered_as_one_whose_events_are_hidden(service: Service, method: str) -> None:
    """A person all of whose events are denied looks the same as one who is unknown."""
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


async def test_the_cursors_of_a_person_do_not_tell_which_party_that_is(service: Service, method: str) -> None:
    """A caller who may read nothing cannot find a party's number by comparing the places in `next`."""
    token = service.organisation(number="999999999")
    person = await ask(service, method, token, **{"from": ANCIENT, "person": PERSON})
    party = await ask(service, method, token, **{"from": ANCIENT, "party": PARTY})
    assert place(person) != place(party)


@pytest.mark.on_cosmos
async def test_a_cursor_of_a_party_is_none_of_its_person(service: Service, method: str) -> None:
    """Else what follows it would tell; an unknown place starts from the oldest event."""
    await service.publish(*app_events(2))
    first = await ask(service, method, service.user(), **{"from": ANCIENT, "party": PARTY, "size": 1})
    answer = await ask(service, method, service.user(), person=PERSON, at=place(first)["at"])
    assert len(answer.json()) == 2


async def test_the_feed_of_an_unknown_person_goes_on(service: Service, method: str) -> None:
    """Following `next` of an unknown person is answered as the first request was, and never becomes known."""
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "person": STRANGER})
    again = await ask(service, method, service.user(), person=STRANGER, **place(answer))
    assert (again.status, again.body, place(again)) == (200, b"[]", place(answer))


async def test_an_unknown_person_waits_as_long_as_a_known_one(service: Service) -> None:
    """`Prefer: wait` is honoured alike, so that time tells nothing either."""
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
    for each in [*app_events(1, resource="urn:altinn:resource:app_skd_app"), *wanted]:
        await service.publish(each)
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
    """`type` and `source` are taken here too, each perhaps several times."""
    wanted = [*app_events(1, type="a"), *app_events(1, type="b")]
    await service.publish(*wanted, *app_events(1, type="c"), *app_events(1, type="a", party=7))
    asked = {"from": ANCIENT, "party": PARTY, "type": ["a", "B"], "source": [f"%/{PARTY}/%", "nothing"]}
    assert ids((await ask(service, method, service.user(), **asked)).json()) == ids(wanted)


@pytest.mark.parametrize("kind", ["org", "user", "system_user", "organisation"])
async def test_anyone_with_a_name_may_ask_for_what_the_decision_point_permits(service: Service, kind: str) -> None:
    """End users, their systems and organisations ask alike: each event is authorized, with the action `read`."""
    hide(service)
    await service.publish(*(visible := app_events(1)), *hidden_events(1))
    answer = await service.get(PARTY_FEED, getattr(service, kind)("altinn:events/ttd"), from_=ANCIENT, party=PARTY)
    assert ids(answer.json()) == ids(visible)
    assert {asked.action for asked in service.pdp.asked[0]} == {"read"}


async def test_a_token_that_names_nobody_reads_nothing(service: Service, method: str) -> None:
    """A valid token without a consumer is 403."""
    answer = await ask(service, method, service.issuer.token({}), **{"from": ANCIENT, "party": PARTY})
    assert answer.status == 403


@pytest.mark.parametrize("route", POST_ROUTES)
async def test_both_post_routes_are_the_feed(service: Service, route: str) -> None:
    """The feed is posted to under either route, and goes on under the same."""
    published = app_events(5)
    await service.publish(*published)
    body, token = {"from": ANCIENT, "person": PERSON, "size": 2}, service.user()
    answer = await service.request("POST", route, token=token, json_body=body)
    assert answer.headers["next"].startswith(f"http://127.0.0.1:7071{route}?")
    rest = await service.request("POST", answer.headers["next"], token=token, json_body=body)
    assert ids([*answer.json(), *rest.json()]) == ids(published)[:4]


async def test_next_of_a_posted_feed_carries_the_place_alone(service: Service) -> None:
    """`next` of a feed asked by POST has `after` and `at` only, and never the person, on a page and on none."""
    await service.publish(*app_events(1))
    asked = {"from": ANCIENT, "person": PERSON, "type": "%", "size": 1}
    answer = await service.request("POST", f"{PARTY_FEED}?org=ttd&person=1", token=service.user(), json_body=asked)
    rest = await service.request("POST", answer.headers["next"], token=service.user(), json_body=asked)
    assert [[name for name, _ in next_query(each)] for each in (answer, rest)] == [["after", "at"], ["after"]]
    assert PERSON not in str(answer.headers) + str(rest.headers)


async def test_the_place_in_the_url_goes_before_the_one_in_the_body(service: Service) -> None:
    """`after` of the URL overrides `after` and `from` of the body."""
    published = app_events(4)
    await service.publish(*published)
    body = {"from": "2999-01-01T00:00:00Z", "after": published[0]["id"], "party": PARTY}
    target = f"{PARTY_FEED}?after={published[2]['id']}"
    answer = await service.request("POST", target, token=service.user(), json_body=body)
    assert ids(answer.json()) == ids(published)[3:]


@pytest.mark.on_cosmos
async def test_a_posted_feed_is_walked_by_the_same_body(service: Service) -> None:
    """Posting the same body to each `next` returns every event exactly once."""
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
    """Anything but an object of strings, numbers and lists of them is refused."""
    answer = await service.request("POST", PARTY_FEED, token=service.user(), body=body, content_type="application/json")
    assert answer.status == 400


async def test_the_header_person_serves_a_posted_feed_too(service: Service) -> None:
    """A POST may name the person in the header as a GET does."""
    await service.publish(*(published := app_events(1)))
    answer = await service.request(
        "POST", PARTY_FEED, token=service.user(), headers={"Person": PERSON}, json_body={"from": ANCIENT}
    )
    assert ids(answer.json()) == ids(published)


async def test_a_person_in_the_url_is_refused_and_not_repeated(service: Service) -> None:
    """A person number in the URL of a GET is 400 and stands nowhere in the answer."""
    answer = await service.get(PARTY_FEED, service.user(), from_=ANCIENT, person=PERSON)
    assert (answer.status, PERSON in answer.body.decode() + str(answer.headers)) == (400, False)


async def test_register_down_is_said(service: Service, method: str) -> None:
    """While Register does not answer, a feed that needs it is 503 with `Retry-After`."""
    service.register.status = 500
    answer = await ask(service, method, service.user(), **{"from": ANCIENT, "person": PERSON})
    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)


async def test_the_callers_own_token_goes_to_register(service: Service) -> None:
    """The lookup is made with the caller's bearer token, and its answer is not shared with other callers."""
    callers = [service.user(user=user) for user in (1, 2)]
    for token in [*callers, *callers]:
        await service.get(PARTY_FEED, token, from_=ANCIENT, unit=UNIT)
    sent = [{name.lower(): value for name, value in each.items()} for each in service.register.headers]
    assert [each["authorization"] for each in sent] == [f"Bearer {token}" for token in callers]
