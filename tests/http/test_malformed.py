"""Malformed requests get a 4xx problem that names the field and repeats no value, and change nothing."""

from __future__ import annotations

import pytest

from tests.support.malformed import CANARY, GROUPS, Malformed
from tests.support.publishing import feed, fields, stored
from tests.support.service import ANCIENT, APP_FEED, APP_RESOURCE, PARTY, PARTY_FEED, PERSON, Service, app_event, event

SCOPES = (
    "altinn:events.publish",
    "altinn:events.subscribe",
    "altinn:events.erase",
    "altinn:events/ttd",
)
MAIL = event(id="mail")
APP = app_event(id="app", resource=APP_RESOURCE)


async def feeds(service: Service) -> list[object]:
    """The feeds of owner, org, party, the app's resource and another resource."""
    owner, user = service.org(*SCOPES), service.user()
    pages = [
        await service.get(APP_FEED, owner, from_=ANCIENT),
        await service.get("/events/api/v1/app/ttd", owner, from_=ANCIENT),
        await service.get(PARTY_FEED, user, from_=ANCIENT, party=PARTY),
    ]
    return [*(page.json() for page in pages), await feed(service, APP_RESOURCE), await feed(service)]


async def fault(service: Service, bad: Malformed) -> str | None:
    """The rule that the response to a request breaks, if any."""
    tokens = {"token": service.org(*SCOPES), "platform_token": service.app()} if bad.with_tokens else {}
    answer = await service.request(
        bad.method, bad.target, headers=bad.headers, body=bad.body, content_type=bad.content_type, **tokens
    )
    shown = answer.body.decode()
    if (answer.status, answer.headers["content-type"]) != (bad.status, "application/problem+json"):
        return f"status {answer.status} instead of {bad.status}"
    if bad.field is not None and bad.field not in fields(answer):
        return f"{bad.field} is not named: {shown}"
    if CANARY in shown or PERSON in shown:
        return f"a value is repeated: {shown}"
    return None if len(await stored()) == 2 else "the store has changed"


@pytest.mark.parametrize("group", GROUPS)
async def test_malformed_requests_are_refused_and_change_nothing(service: Service, group: str) -> None:
    """Each request of the group breaks no rule, and every feed is as before."""
    await service.publish(APP, MAIL)
    faults = [(bad.what, broken) for bad in GROUPS[group] if (broken := await fault(service, bad))]
    assert faults == []
    assert await feeds(service) == [[APP], [APP], [APP], [APP], [MAIL]]
