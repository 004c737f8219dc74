"""The feed of all apps of an org."""

from __future__ import annotations

import pytest

from tests.support.pdp_server import DENY
from tests.support.reading import app_events
from tests.support.service import ANCIENT, PARTY, PERSON, UNIT, Service, event, ids

ORG_FEED = "/events/api/v1/app/ttd"
OTHER_APP = "urn:altinn:resource:app_ttd_other-app"


@pytest.mark.on_cosmos
async def test_the_feed_holds_the_events_of_all_apps_of_the_org_in_one_order(service: Service) -> None:
    """The order is that of publication; other orgs and resources are left out."""
    one, other, foreign = app_events(3), app_events(3, resource=OTHER_APP), app_events(3)
    foreign = [{**sent, "resource": "urn:altinn:resource:app_skd_apps-test"} for sent in foreign]
    mixed = [sent for triple in zip(one, other, foreign, strict=True) for sent in triple]
    for sent in [*mixed, event()]:  # among resources, the order is that of requests
        await service.publish(sent)
    answer = await service.get(ORG_FEED, service.org(), from_=ANCIENT)
    assert ids(answer.json()) == [sent["id"] for sent in mixed if "_skd_" not in sent["resource"]]


@pytest.mark.on_cosmos
async def test_a_longer_name_is_another_org(service: Service) -> None:
    """The name of the org compares exactly."""
    await service.publish(*app_events(1, resource="urn:altinn:resource:app_ttd2_app"))
    answer = await service.get(ORG_FEED, service.org("altinn:events/ttd"), from_=ANCIENT)
    assert answer.json() == []


@pytest.mark.parametrize("kind", ["org", "organisation"])
async def test_the_scope_of_the_org_replaces_the_pdp(service: Service, kind: str) -> None:
    """With the scope of the org, the PDP is asked nothing."""
    service.pdp.decide = lambda _: DENY
    published = await service.publish_app_event()
    answer = await service.get(ORG_FEED, getattr(service, kind)("altinn:events/ttd"), from_=ANCIENT)
    assert (ids(answer.json()), service.pdp.requests) == ([published], [])


async def test_the_scope_of_one_app_does_not_open_the_org(service: Service) -> None:
    """The PDP decides about each event, with the action `read`."""
    service.pdp.decide = lambda _: DENY
    await service.publish_app_event()
    answer = await service.get(ORG_FEED, service.org("altinn:events/ttd/apps-test"), from_=ANCIENT)
    assert (answer.json(), [asked.action for asked in service.pdp.asked[0]]) == ([], ["read"])


@pytest.mark.parametrize("kind", ["user", "system_user"])
async def test_users_and_system_users_may_not_read(service: Service, kind: str) -> None:
    """They get 403 even with the org's scope."""
    answer = await service.get(ORG_FEED, getattr(service, kind)("altinn:events/ttd"), from_=ANCIENT)
    assert answer.status == 403


@pytest.mark.on_cosmos
@pytest.mark.parametrize(
    ("query", "headers"),
    [({"party": PARTY}, {}), ({}, {"Person": PERSON}), ({"source": "%/instances/50002108/%"}, {})],
)
async def test_the_feed_takes_the_filters_of_an_apps_feed(
    service: Service, query: dict[str, object], headers: dict[str, str]
) -> None:
    """Party, person and source narrow it."""
    wanted = app_events(2)
    await service.publish(*app_events(2, subject="/party/7", party=7), *wanted)
    answer = await service.get(ORG_FEED, service.org("altinn:events/ttd"), from_=ANCIENT, headers=headers, **query)
    assert ids(answer.json()) == ids(wanted)


async def test_unit_and_person_exclude_each_other(service: Service) -> None:
    """A request with both is refused."""
    answer = await service.get(ORG_FEED, service.org(), from_=ANCIENT, unit=UNIT, headers={"Person": PERSON})
    assert answer.status == 400


@pytest.mark.on_cosmos
async def test_a_cursor_of_an_app_is_unknown_in_the_orgs_feed(service: Service) -> None:
    """The org's events are a stream of their own."""
    published = app_events(3)
    await service.publish(*published)
    token = service.org("altinn:events/ttd")
    answer = await service.get(f"{ORG_FEED}/apps-test", token, from_=ANCIENT, size=2)
    at = dict(part.split("=") for part in answer.headers["next"].partition("?")[2].split("&"))["at"]
    assert ids((await service.get(ORG_FEED, token, at=at)).json()) == ids(published)


async def test_the_party_feed_wins_over_an_org_named_party(service: Service) -> None:
    """`/app/party` is the feed of parties."""
    answer = await service.get("/events/api/v1/app/party", service.org("altinn:events/party"), from_=ANCIENT)
    assert answer.status == 400
    assert answer.json()["detail"].startswith("Subject must be specified")
