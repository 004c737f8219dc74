"""The service authorizes every event of a page: questions to the PDP, its decisions and its failures."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from events_core import app
from tests.support.asgi import Answer
from tests.support.pdp_server import (
    DENIED_BY_ACCESS_LIST,
    DENY,
    INDETERMINATE,
    NOT_APPLICABLE,
    PERMIT,
    Asked,
    Ruling,
)
from tests.support.reading import app_events, hidden_events, hide
from tests.support.service import ANCIENT, APP_FEED, APP_TOKEN_SCOPES, PARTY, PARTY_FEED, Service, ids, instance_source


async def owner(service: Service, token: str | None = None, **query: Any) -> Answer:
    """Read the app owner's feed, by default with a token that needs a decision about each event."""
    return await service.get(APP_FEED, token or service.org(), from_=ANCIENT, **query)


# -- which events are shown -------------------------------------------------------------------------------------------


async def test_only_permitted_events_are_shown(service: Service) -> None:
    """The service reads on until the page is full of permitted events."""
    hide(service)
    published = [hidden_events(1)[0] if number % 4 else app_events(1)[0] for number in range(40)]
    await service.publish(*published)
    assert ids((await owner(service, size=5)).json()) == ids(published[0:20:4])


@pytest.mark.parametrize("ruling", [DENY, DENIED_BY_ACCESS_LIST, INDETERMINATE, NOT_APPLICABLE])
async def test_every_decision_but_permit_denies(service: Service, ruling: Ruling) -> None:
    """Whether or not the result returns attributes."""
    service.pdp.decide = lambda _: ruling
    await service.publish(*app_events(2))
    answer = await owner(service)
    assert (answer.status, answer.json()) == (200, [])


async def test_an_unknown_decision_is_no_decision(service: Service) -> None:
    """The page is 503, because a denied event would be passed for good."""
    service.pdp.decide = lambda _: Ruling("permit")
    await service.publish(*app_events(2))
    assert (await owner(service)).status == 503


async def test_decisions_may_come_in_any_order(service: Service) -> None:
    """The attributes of a result, not its position, name its question."""
    hide(service)
    service.pdp.edit = lambda results: results[::-1]
    await service.publish(*hidden_events(3), *(visible := app_events(2)), *hidden_events(1))
    assert ids((await owner(service)).json()) == ids(visible)


@pytest.mark.parametrize(
    ("caller", "claimed", "ruling", "shown"),
    [
        ("user", 3, Ruling(level=3), True),
        ("user", 2, Ruling(level=3), False),
        ("user", 4, Ruling(level="3"), True),
        ("user", 2, Ruling(level=3, level_org=2), False),
        ("user", None, Ruling(level=1), False),
        ("user", None, Ruling(level=0), True),
        ("user", "high", Ruling(level=0), False),
        ("user", "high", Ruling(), True),
        ("user", 3, Ruling(level="high"), False),
        ("org", 2, Ruling(level=4, level_org=2), True),
        ("org", 2, Ruling(level=4, level_org=3), False),
        ("org", 2, Ruling(level=4), False),
        ("org", None, Ruling(level=1), False),
        ("organisation", None, Ruling(level=3), True),
        ("organisation", None, Ruling(level=4), False),
        ("organisation", None, Ruling(level=4, level_org=1), False),
        ("system_user", None, Ruling(level=3), True),
        ("system_user", None, Ruling(level=4, level_org=1), False),
    ],
)
async def test_obligations_demand_a_level_of_the_caller(
    service: Service, caller: str, claimed: object, ruling: Ruling, *, shown: bool
) -> None:
    """A service owner may meet the level for orgs instead.

    Without a claim, an organisation's own token and a system user have level 3, and any other caller has level 0.
    """
    service.pdp.decide = lambda _: ruling
    await service.publish(*app_events(1))
    token = getattr(service, caller)(**{"urn:altinn:authlevel": claimed})
    answer = await service.get(PARTY_FEED, token, from_=ANCIENT, party=PARTY)
    assert (answer.status, len(answer.json())) == (200, int(shown))


async def test_an_exchanged_organisation_token_has_no_level_of_its_own(service: Service) -> None:
    """An organisation named by `urn:altinn:orgNumber` has level 0 without a claim."""
    service.pdp.decide = lambda _: Ruling(level=1)
    await service.publish(*app_events(1))
    token = service.issuer.token({"urn:altinn:orgNumber": "974760673"})
    assert (await owner(service, token)).json() == []


# -- how often the PDP is asked ---------------------------------------------------------------------------------------


async def test_a_page_of_readable_events_is_one_request(service: Service) -> None:
    """The PDP gets one request for each chunk of rows."""
    await service.publish(*app_events(100))
    answer = await owner(service, size=30)
    assert (len(answer.json()), [len(questions) for questions in service.pdp.asked]) == (30, [30])


async def test_equal_questions_are_asked_once(service: Service) -> None:
    """The events of one instance share their question."""
    sources = [instance_source() for _ in range(3)]
    await service.publish(*[app_events(1, source=source)[0] for source in sources * 10])
    assert len((await owner(service)).json()) == 30
    assert [len(questions) for questions in service.pdp.asked] == [3]


async def test_a_decision_is_kept_for_its_caller(service: Service) -> None:
    """A repeated request asks nothing; another caller's request asks again."""
    await service.publish(*app_events(5))
    for _ in range(3):
        await owner(service)
    assert len(service.pdp.requests) == 1
    await owner(service, service.org(org="skd"))
    assert [len(questions) for questions in service.pdp.asked] == [5, 5]


async def test_the_event_id_is_no_part_of_a_kept_question(service: Service) -> None:
    """A later event of a decided instance asks nothing."""
    source = instance_source()
    await service.publish(*app_events(1, source=source))
    await owner(service)
    await service.publish(*app_events(1, source=source))
    assert (len((await owner(service)).json()), len(service.pdp.requests)) == (2, 1)


async def test_a_caller_at_another_level_is_another_question(service: Service) -> None:
    """A decision holds for the claims that it was made for."""
    await service.publish(*app_events(1))
    for level in ("3", "2"):
        await owner(service, service.org(**{"urn:altinn:authlevel": level}))
    assert len(service.pdp.requests) == 2


async def test_simultaneous_equal_questions_share_one_request(service: Service) -> None:
    """Five readers of one caller cause one request."""
    await service.publish(*app_events(5))
    service.pdp.gate.clear()
    readers = [asyncio.create_task(owner(service)) for _ in range(5)]
    await service.pdp.arrived.wait()
    service.pdp.gate.set()
    answers = await asyncio.gather(*readers)
    assert ([len(answer.json()) for answer in answers], len(service.pdp.requests)) == ([5] * 5, 1)


# -- when the PDP fails -----------------------------------------------------------------------------------------------


async def assert_unavailable(answer: Answer, *secrets: str) -> None:
    """Check for a 503 with `Retry-After` that shows nothing of any event."""
    assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
    assert int(answer.headers["retry-after"]) > 0
    assert not [secret for secret in secrets if secret in answer.body.decode()]
    assert "next" not in answer.headers


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (401, b""), (302, b""), (404, b"{}"), (200, b"not JSON"), (200, b"{}"), (200, b'{"Response": 1}')],
)
async def test_an_invalid_response_of_the_pdp_is_503(service: Service, status: int, body: bytes) -> None:
    """The service never sends an unfiltered page."""
    await service.publish(*(published := app_events(2)))
    service.pdp.status, service.pdp.body = status, body
    await assert_unavailable(await owner(service), *ids(published))


async def test_an_unreachable_pdp_is_503(service: Service) -> None:
    """The service never sends an unfiltered page."""
    await service.publish(*(published := app_events(2)))
    await service.pdp.stop()
    await assert_unavailable(await owner(service), *ids(published))


async def test_a_slow_pdp_is_503(service: Service) -> None:
    """The request to the PDP has a deadline."""
    await service.publish(*(published := app_events(2)))
    point: Any = (await app.current()).decision_point
    point._service = dataclasses.replace(point._service, deadline_seconds=0.1)
    service.pdp.gate.clear()
    await assert_unavailable(await owner(service), *ids(published))


async def test_a_pdp_that_fails_within_a_page_fails_the_page(service: Service) -> None:
    """Nothing of the page is shown, although its first chunk was decided."""
    await service.publish(*(published := app_events(50)))

    def last_answer(asked: Asked) -> Ruling:
        service.pdp.status = 500
        return PERMIT if asked.resource["urn:altinn:event-id"] == published[0]["id"] else DENY

    service.pdp.decide = last_answer
    await assert_unavailable(await owner(service, size=5), *ids(published))


async def test_failures_are_not_kept(service: Service) -> None:
    """The first request after an outage is served."""
    await service.publish(*(published := app_events(2)))
    service.pdp.status = 503
    await assert_unavailable(await owner(service))
    service.pdp.status = 200
    assert ids((await owner(service)).json()) == ids(published)


async def test_kept_decisions_serve_while_the_pdp_is_down(service: Service) -> None:
    """A scope needs no decision either."""
    await service.publish(*app_events(2))
    await owner(service)
    service.pdp.status = 503
    assert (await owner(service)).status == 200
    assert (await owner(service, service.org(APP_TOKEN_SCOPES, org="skd"))).status == 200


async def test_an_empty_feed_needs_no_decision(service: Service) -> None:
    """It is served while the PDP is down."""
    await service.pdp.stop()
    assert (await owner(service)).status == 200
