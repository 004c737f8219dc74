"""Callers whose token is trusted but names nobody."""

from __future__ import annotations

from typing import Any

import pytest

from events_core.access import scopes
from tests.support.service import ANCIENT, APP_FEED, PARTY, PARTY_FEED, PUBLISH, RESOURCE, RESOURCE_FEED, Service, event
from tests.support.subscribing import SUBSCRIPTIONS

ALL_SCOPES = f"{scopes.SUBSCRIBE} {scopes.PUBLISH} {scopes.PUBLISH_ADMIN} {scopes.ERASE} {scopes.REPORTEES}ttd-mail"
STRUCTURED = "application/cloudevents+json"
NOBODY: dict[str, dict[str, Any]] = {
    "scopes alone": {},
    "a party": {"urn:altinn:partyid": PARTY},
    "a person": {"urn:altinn:person:uuid": "6158e32f-7fd2-4cef-93fd-d29dd78439c4"},
    "an unreadable user": {"urn:altinn:userid": "x", "urn:altinn:orgNumber": "974760673"},
    "a consumer that is no object": {"urn:altinn:org": "ttd", "consumer": "0192:974760673"},
    "a consumer that is null": {"urn:altinn:org": "ttd", "consumer": None},
    "details that are no object": {"urn:altinn:org": "ttd", "authorization_details": ["urn:altinn:systemuser"]},
    "details without a type": {"urn:altinn:userid": 20012345, "authorization_details": {"systemuser_id": ["1"]}},
}
GETS = [
    f"{APP_FEED}?from={ANCIENT}",
    f"{PARTY_FEED}?party={PARTY}&from={ANCIENT}",
    f"{RESOURCE_FEED}?resource={RESOURCE}&from={ANCIENT}",
    SUBSCRIPTIONS,
]


@pytest.mark.parametrize("claims", NOBODY.values(), ids=NOBODY.keys())
async def test_a_token_that_names_nobody_is_forbidden_on_every_route(service: Service, claims: dict[str, Any]) -> None:
    """Its scopes do not count, and the decision point is not asked."""
    await service.publish(event())
    token = service.issuer.token({**claims, "scope": ALL_SCOPES})
    answers = [await service.get(target, token) for target in GETS]
    answers.append(await service.request("POST", PUBLISH, token=token, json_body=event(), content_type=STRUCTURED))
    subscription = {"endPoint": "https://a.example/", "resourceFilter": RESOURCE}
    answers.append(await service.request("POST", SUBSCRIPTIONS, token=token, json_body=subscription))
    answers.append(await service.request("DELETE", f"{PUBLISH}/1?source=urn:x:y&resource={RESOURCE}", token=token))
    assert [answer.status for answer in answers] == [403] * len(answers)
    assert service.pdp.requests == []


async def test_a_platform_token_that_names_no_app_is_forbidden(service: Service) -> None:
    """Its issuer alone may not publish."""
    token = service.issuer.token({"iss": "ttd"})
    for target in ("/events/api/v1/app", PUBLISH):
        answer = await service.request("POST", target, platform_token=token, json_body=event(), content_type=STRUCTURED)
        assert answer.status == 403
    assert service.pdp.requests == []
