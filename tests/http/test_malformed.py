"""Bad input is refused in one way: a 4xx problem+json that names the field, repeats nothing, and changes nothing."""

from __future__ import annotations

import pytest

from tests.support.malformed import CANARY, Malformed, all_requests
from tests.support.publishing import feed, fields, stored
from tests.support.service import ANCIENT, APP_FEED, APP_RESOURCE, PARTY, PARTY_FEED, PERSON, Service, app_event, event

REQUESTS = all_requests()
SCOPES = (
    "altinn:events.publish",
    "altinn:events.subscribe",
    "altinn:events.erase",
    "altinn:events/ttd",
)


MAIL = event(id="mail")
APP = app_event(id="app", resource=APP_RESOURCE)


async def contents(service: Service) -> list[object]:
    """What every feed shows: owner, org, party, resources; and how many events the store holds."""
    owner, user = service.org(*SCOPES), service.user()
    pages = [
        await service.get(APP_FEED, owner, from_=ANCIENT),
        await service.get("/events/api/v1/app/ttd", owner, from_=ANCIENT),
        await service.get(PARTY_FEED, user, from_=ANCIENT, party=PARTY),
    ]
    feeds = [page.json() for page in pages]
    return [*feeds, await feed(service, APP_RESOURCE), await feed(service), len(await stored())]


def test_there_are_many_of_them() -> None:
    """At least 150 different requests."""
    assert (
        len({(each.method, each.target, str(each.headers), each.body, each.content_type) for each in REQUESTS}) >= 150
    )


@pytest.mark.parametrize("bad", REQUESTS, ids=[f"{number}-{each.status}" for number, each in enumerate(REQUESTS)])
async def test_a_malformed_request_changes_nothing(service: Service, bad: Malformed) -> None:
    """Each is a 4xx problem that names the field if there is one, repeats no value, and leaves every feed as it was."""
    await service.publish(APP, MAIL)
    tokens = {"token": service.org(*SCOPES), "platform_token": service.app()} if bad.with_tokens else {}
    answer = await service.request(
        bad.method, bad.target, headers=bad.headers, body=bad.body, content_type=bad.content_type, **tokens
    )
    shown = answer.body.decode()
    assert (answer.status, answer.headers["content-type"]) == (bad.status, "application/problem+json"), bad.what
    assert bad.field is None or bad.field in fields(answer), (bad.what, shown)
    assert (CANARY in shown, PERSON in shown) == (False, False), bad.what
    assert await contents(service) == [[APP], [APP], [APP], [APP], [MAIL], 2]
