"""Questions that the PDP cannot decide, over HTTP: pages and publishing."""

from __future__ import annotations

from typing import Any

from tests.support.asgi import Answer
from tests.support.pdp_server import Asked
from tests.support.reading import app_events
from tests.support.service import ANCIENT, PARTY, PARTY_FEED, PUBLISH, Service, event, ids, instance_source

GONE = "urn:altinn:resource:app_ttd_gone"
SAYS_WHY = "One reason is a resource that has no policy there."


def _of_gone(count: int) -> list[dict[str, Any]]:
    """Events of an app without a policy."""
    return [event(resource=GONE, source=instance_source("ttd/gone"), subject=f"/party/{PARTY}") for _ in range(count)]


def _app_without_policy(asked: Asked) -> bool:
    return asked.resource.get("urn:altinn:app") == "gone"


async def _party(service: Service, *, after: str | None = None) -> Answer:
    if after is not None:
        return await service.request("GET", after, token=service.user())
    return await service.get(PARTY_FEED, service.user(), party=PARTY, from_=ANCIENT)


async def test_a_page_shows_all_but_the_events_that_cannot_be_decided(service: Service) -> None:
    """Five of fifty: at most 48 requests, sent side by side, and none when the page is read again."""
    published = [(_of_gone(1) if number % 10 == 7 else app_events(1))[0] for number in range(50)]
    await service.publish(*published)
    service.pdp.fails = _app_without_policy
    service.pdp.requests.clear()
    page = await _party(service)
    assert ids(page.json()) == [one["id"] for one in published if one["resource"] != GONE]
    assert len(service.pdp.requests) <= 48
    assert 1 < service.pdp.most_at_once <= 8
    sent = len(service.pdp.requests)
    assert ids((await _party(service)).json()) == ids(page.json())
    assert len(service.pdp.requests) <= sent + 1


async def test_a_feed_that_cannot_be_decided_at_all_is_unavailable(service: Service) -> None:
    """Nothing is passed: the events are there once the PDP decides."""
    await service.publish(*(published := app_events(3)))
    service.pdp.fails = lambda _: True
    page = await _party(service)
    assert page.status == 503
    assert int(page.headers["retry-after"]) > 0
    assert SAYS_WHY in page.json()["detail"]
    service.pdp.fails = lambda _: False
    assert ids((await _party(service)).json()) == ids(published)


async def test_an_outage_within_the_pdp_passes_no_event(service: Service) -> None:
    """Also for a caller whose questions the PDP answered a moment ago."""
    await service.publish(*(first := app_events(2)))
    page = await _party(service)
    assert ids(page.json()) == ids(first)
    await service.publish(*(later := app_events(2)))
    service.pdp.fails = lambda _: True
    assert (await _party(service, after=page.headers["next"])).status == 503
    service.pdp.fails = lambda _: False
    assert ids((await _party(service, after=page.headers["next"])).json()) == ids(later)


async def test_a_walk_passes_a_long_run_of_undecidable_events(service: Service) -> None:
    """Each page sends at most 64 requests and moves on."""
    await service.publish(*(before := app_events(1)), *_of_gone(99))
    await service.publish(*_of_gone(60), *(after := app_events(1)))
    service.pdp.fails = _app_without_policy
    seen: list[str] = []
    page = await _party(service)
    while True:
        assert page.status == 200
        assert len(service.pdp.requests) <= 64
        seen += ids(page.json())
        if page.headers["events-caught-up"] == "true":
            break
        service.pdp.requests.clear()
        page = await _party(service, after=page.headers["next"])
    assert seen == [*ids(before), *ids(after)]


async def test_publishing_to_a_resource_without_a_policy_is_unavailable_or_forbidden(service: Service) -> None:
    """It is 503 while nothing shows that the PDP decides for the publisher, then 403. Nothing is stored."""
    service.pdp.fails = lambda asked: asked.resource.get("urn:altinn:resource") == "gone"
    gone, known = event(resource="urn:altinn:resource:gone"), event(resource="urn:altinn:resource:known")

    async def publish(*events: dict[str, Any]) -> Answer:
        token = service.org("altinn:events.publish")
        kind = "application/cloudevents-batch+json"
        return await service.request("POST", PUBLISH, token=token, json_body=[*events], content_type=kind)

    answer = await publish(gone)
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert SAYS_WHY in answer.json()["detail"]
    answer = await publish(known, gone)
    assert (answer.status, answer.json()["errors"][0]["field"]) == (403, "[1]")
    assert (await publish(known)).json()["events"][0]["duplicate"] is False
