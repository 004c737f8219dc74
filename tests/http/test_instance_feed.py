"""The feed of one instance, without login."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import Answer
from tests.support.reading import app_events, next_query, until_waiting
from tests.support.service import ANCIENT, APP_FEED, APP_RESOURCE, PARTY, Service, event, ids, instance_source, running

FUTURE = "2999-01-01T00:00:00Z"
OPEN_APPS = "ttd/apps-test,ttd/second"
SHOWN = {"specversion", "id", "source", "type", "time"}


@pytest.fixture
async def open_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with two apps whose instances may be read without login."""
    async with running(tmp_path / "data", monkeypatch, EVENTS_ANONYMOUS_APPS=OPEN_APPS) as service:
        yield service


async def ask(service: Service, guid: str, party: object = PARTY, place: str = "", **asked: Any) -> Answer:
    """Post the parameters to the feed of an instance, without any token."""
    target = f"/events/instanceeventsforinstance/{party}/{guid}{place}"
    return await service.request("POST", target, json_body={"from": ANCIENT, **asked})


async def publish(service: Service, guid: str, app_name: str = "ttd/apps-test", **attributes: Any) -> str:
    """Publish an event of one instance of an app."""
    source = instance_source(app_name, guid=guid)
    return await service.publish_app_event(app_name=app_name, source=source, **attributes)


@pytest.mark.on_cosmos
async def test_the_feed_holds_the_events_of_that_instance_only(open_service: Service) -> None:
    """The events of the instance, in order, and of no other instance of the same app and party."""
    guid = str(uuid.uuid4())
    published = []
    for _ in range(3):
        published.append(await publish(open_service, guid))
        await open_service.publish_app_event()
    answer = await ask(open_service, guid)
    assert (answer.status, ids(answer.json())) == (200, published)


async def test_of_each_event_only_what_says_that_it_happened_is_shown(open_service: Service) -> None:
    """Five attributes are shown, and neither data, subject, resource nor any extension."""
    guid = str(uuid.uuid4())
    await publish(open_service, guid, data={"secret": 1}, alternativesubject="/user/1", extension="x")
    (shown,) = (await ask(open_service, guid)).json()
    assert shown.keys() == SHOWN
    assert shown["source"] == instance_source(guid=guid)


async def test_an_event_without_time_is_shown_without(open_service: Service) -> None:
    """Nothing is made up for an attribute that the event does not have."""
    source = instance_source(guid=(guid := str(uuid.uuid4())))
    await open_service.publish(event(APP_RESOURCE, source=source, subject=f"/party/{PARTY}"))
    (shown,) = (await ask(open_service, guid)).json()
    assert shown.keys() == SHOWN - {"time"}


async def test_no_token_is_looked_at_and_no_decision_asked(open_service: Service) -> None:
    """Neither the decision point nor Register nor an issuer is asked for this feed."""
    await publish(open_service, guid := str(uuid.uuid4()))
    answer = await open_service.request(
        "POST",
        f"/events/instanceeventsforinstance/{PARTY}/{guid}",
        token="not a token",
        json_body={"from": ANCIENT},
    )
    assert (answer.status, open_service.pdp.requests, open_service.register.requests) == (200, [], [])


async def test_every_app_of_the_setting_is_open(open_service: Service) -> None:
    """The setting lists apps, and an instance of each may be read."""
    published = await publish(open_service, guid := str(uuid.uuid4()), "ttd/second")
    assert ids((await ask(open_service, guid)).json()) == [published]


async def not_found(service: Service) -> Answer:
    """What is said of an instance that does not exist."""
    answer = await ask(service, str(uuid.uuid4()))
    assert answer.status == 404
    return answer


async def test_an_instance_of_any_other_app_is_as_one_that_does_not_exist(open_service: Service) -> None:
    """For an app that is not named the answer is 404 and the same, trace id aside, whether or not it exists."""
    await publish(open_service, guid := str(uuid.uuid4()), "ttd/closed")
    answer, unknown = await ask(open_service, guid), await not_found(open_service)
    assert {**answer.json(), "traceId": ""} == {**unknown.json(), "traceId": ""}
    assert answer.headers == unknown.headers


async def test_without_the_setting_no_instance_is_open(service: Service) -> None:
    """No app is open unless it is named, whatever is asked of it."""
    await publish(service, guid := str(uuid.uuid4()))
    answers = [await ask(service, guid), await service.request("POST", f"/events/instanceeventsforinstance/1/{guid}")]
    assert [answer.status for answer in answers] == [404, 404]


@pytest.mark.parametrize(
    ("party", "guid"),
    [("x", None), ("7", None), (f"0{PARTY}", None), (PARTY, "x"), (PARTY, "{6fb3738d-6372-48e3-a2d2-f40ab0531fc1}")],
)
async def test_what_is_no_instance_is_not_found(open_service: Service, party: object, guid: str | None) -> None:
    """A party or guid of another shape, and the instance under another party, are 404."""
    await publish(open_service, real := str(uuid.uuid4()))
    assert (await ask(open_service, guid or real, party)).status == 404


async def test_a_wildcard_is_no_instance(open_service: Service) -> None:
    """No pattern stands in for an instance."""
    await publish(open_service, str(uuid.uuid4()))
    assert [(await ask(open_service, guid)).status for guid in ("%25", "%25%25", "-" * 36)] == [404] * 3


async def test_an_event_of_another_resource_cannot_pass_for_one_of_the_instance(open_service: Service) -> None:
    """What names the instance as its source under another resource is not shown."""
    published = await publish(open_service, guid := str(uuid.uuid4()))
    about = {"source": instance_source(guid=guid), "subject": f"/party/{PARTY}"}
    await open_service.publish(event(**about), event(f"{APP_RESOURCE}-2", **about))
    assert ids((await ask(open_service, guid)).json()) == [published]


async def test_the_guid_is_understood_in_either_case(open_service: Service) -> None:
    """A GUID in capitals names the same instance."""
    published = await publish(open_service, guid := str(uuid.uuid4()))
    assert ids((await ask(open_service, guid.upper())).json()) == [published]


async def test_type_and_to_narrow_the_feed(open_service: Service) -> None:
    """The body takes the parameters of a feed."""
    await publish(open_service, guid := str(uuid.uuid4()), type="a")
    wanted = await publish(open_service, guid, type="b")
    assert ids((await ask(open_service, guid, type="b")).json()) == [wanted]
    assert (await ask(open_service, guid, to="2000-01-02T00:00Z")).json() == []


@pytest.mark.parametrize("named", [{"org": "ttd", "app": "second"}, {"org": "skd"}])
async def test_an_instance_of_another_app_than_asked_for_is_not_found(
    open_service: Service, named: dict[str, str]
) -> None:
    """`org` and `app` in the body hold the instance to them."""
    await publish(open_service, guid := str(uuid.uuid4()))
    assert (await ask(open_service, guid, org="ttd", app="apps-test")).status == 200
    assert (await ask(open_service, guid, **named)).status == 404


@pytest.mark.parametrize("body", [{}, {"from": "yesterday"}, {"from": ANCIENT, "size": 0}])
async def test_bad_parameters_are_refused(open_service: Service, body: dict[str, Any]) -> None:
    """A start is required here too, and what is wrong with a parameter is 400."""
    await publish(open_service, guid := str(uuid.uuid4()))
    target = f"/events/instanceeventsforinstance/{PARTY}/{guid}"
    assert (await open_service.request("POST", target, json_body=body)).status == 400


@pytest.mark.on_cosmos
async def test_the_feed_goes_on_by_posting_to_next(open_service: Service) -> None:
    """`next` carries the place alone, and the same body posted to it walks the instance."""
    guid = str(uuid.uuid4())
    published = [await publish(open_service, guid) for _ in range(5)]
    answer, seen = await ask(open_service, guid, size=2), []
    while answer.json():
        seen += ids(answer.json())
        assert [name for name, _ in next_query(answer)] == ["after", "at"]
        answer = await open_service.request("POST", answer.headers["next"], json_body={"from": ANCIENT, "size": 2})
    assert seen == published


async def test_more_than_sixty_requests_a_minute_are_refused(open_service: Service) -> None:
    """At most 60 requests a minute for an instance; then 429 that says when to come again, and others are served."""
    await publish(open_service, guid := str(uuid.uuid4()))
    await publish(open_service, other := str(uuid.uuid4()))
    answers = [await ask(open_service, guid) for _ in range(121)]
    refused = [answer for answer in answers if answer.status == 429]
    assert [answer.status for answer in answers[:60]] == [200] * 60
    assert refused
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60
    assert (await ask(open_service, other)).status == 200


async def test_instances_that_do_not_exist_are_counted_as_well(open_service: Service) -> None:
    """Guessing is limited as reading is, so that the limit tells nothing either."""
    await publish(open_service, closed := str(uuid.uuid4()), "ttd/closed")
    for guid in (closed, str(uuid.uuid4())):
        assert {(await ask(open_service, guid)).status for _ in range(121)} == {404, 429}


async def test_who_has_not_logged_in_leaves_half_of_the_places_to_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can keep the long polls of callers out by waiting without login."""
    async with running(tmp_path, monkeypatch, EVENTS_ANONYMOUS_APPS=OPEN_APPS, EVENTS_MAX_WAITERS="2") as service:
        await publish(service, guid := str(uuid.uuid4()))
        target, wait = f"/events/instanceeventsforinstance/{PARTY}/{guid}", {"Prefer": "wait=2"}
        first = asyncio.create_task(service.request("POST", target, json_body={"from": FUTURE}, headers=wait))
        await until_waiting()
        second = await service.request("POST", target, json_body={"from": FUTURE}, headers=wait)
        owner = await service.get(APP_FEED, service.org(), from_=FUTURE, headers=wait)
        answers = [await first, second, owner]
    assert ["preference-applied" in answer.headers for answer in answers] == [True, False, True]


@pytest.mark.on_cosmos
async def test_the_events_of_an_instance_are_found_behind_many_others(open_service: Service) -> None:
    """An instance is found among thousands of the same party."""
    for _ in range(30):
        await open_service.publish(*app_events(100))
    published = await publish(open_service, guid := str(uuid.uuid4()))
    assert ids((await ask(open_service, guid)).json()) == [published]
