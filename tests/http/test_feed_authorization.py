"""Every event of a page is authorized: how the decision point and Register are asked, and what their answers do."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from events_core import app
from tests.support.asgi import Answer
from tests.support.pdp_server import DENY, PERMIT, Asked, Ruling
from tests.support.reading import app_events, hidden_events, hide
from tests.support.service import ANCIENT, APP_FEED, APP_TOKEN_SCOPES, PARTY, PARTY_FEED, Service, ids, instance_source


async def owner(service: Service, token: str | None = None, **query: Any) -> Answer:
    """Read the app owner's feed, by default with a token whose events are authorized one by one."""
    return await service.get(APP_FEED, token or service.org(), from_=ANCIENT, **query)


# -- which events are shown -------------------------------------------------------------------------------------------


async def test_only_what_is_permitted_is_shown(service: Service) -> None:
    """The page holds the permitted events, and reads on until it is full of them."""
    hide(service)
    published = [hidden_events(1)[0] if number % 4 else app_events(1)[0] for number in range(40)]
    await service.publish(*published)
    assert ids((await owner(service, size=5)).json()) == ids(published[0:20:4])


@pytest.mark.parametrize("decision", ["Deny", "Indeterminate", "NotApplicable", "permit", ""])
async def test_whatever_is_not_permit_denies(service: Service, decision: str) -> None:
    """Indeterminate counts as deny, and so does any word but Permit."""
    service.pdp.decide = lambda _: Ruling(decision)
    await service.publish(*app_events(2))
    assert (await owner(service)).json() == []


async def test_the_answers_may_come_in_any_order(service: Service) -> None:
    """Answers are matched by the attributes that they return, not by position."""
    hide(service)
    service.pdp.edit = lambda results: results[::-1]
    await service.publish(*hidden_events(3), *(visible := app_events(2)), *hidden_events(1))
    assert ids((await owner(service)).json()) == ids(visible)


async def test_a_question_that_is_not_answered_is_denied(service: Service) -> None:
    """A result that is left out denies the events of its question alone."""
    service.pdp.edit = lambda results: results[1:]
    await service.publish(*(published := app_events(3)))
    assert len((await owner(service)).json()) == 2
    assert len(published) == 3


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
async def test_obligations_hold_the_callers_level(
    service: Service, caller: str, claimed: object, ruling: Ruling, *, shown: bool
) -> None:
    """A minimum level denies who is below it, save a service owner who meets the one for orgs.

    Without a claim a Maskinporten token and a system user are of level 3 and anybody else of 0.
    """
    service.pdp.decide = lambda _: ruling
    await service.publish(*app_events(1))
    token = getattr(service, caller)(**{"urn:altinn:authlevel": claimed})
    answer = await service.get(PARTY_FEED, token, from_=ANCIENT, party=PARTY)
    assert (answer.status, len(answer.json())) == (200, int(shown))


async def test_an_exchanged_organisation_token_has_no_level_of_its_own(service: Service) -> None:
    """An organisation named by `urn:altinn:orgNumber` counts as 0 without a level."""
    service.pdp.decide = lambda _: Ruling(level=1)
    await service.publish(*app_events(1))
    token = service.issuer.token({"urn:altinn:orgNumber": "974760673"})
    assert (await owner(service, token)).json() == []


# -- how often the decision point is asked ----------------------------------------------------------------------------


async def test_a_page_of_readable_events_is_one_request(service: Service) -> None:
    """One request for each chunk of rows; a page whose events are all readable is one chunk."""
    await service.publish(*app_events(100))
    answer = await owner(service, size=30)
    assert (len(answer.json()), [len(each) for each in service.pdp.asked]) == (30, [30])


async def test_one_question_is_asked_for_each_distinct_one(service: Service) -> None:
    """The events of one instance share their question."""
    sources = [instance_source() for _ in range(3)]
    await service.publish(*[app_events(1, source=source)[0] for source in sources * 10])
    assert len((await owner(service)).json()) == 30
    assert [len(each) for each in service.pdp.asked] == [3]


async def test_a_decision_is_kept_for_its_caller(service: Service) -> None:
    """The next request of the same caller asks nothing; another caller is asked about anew."""
    await service.publish(*app_events(5))
    for _ in range(3):
        await owner(service)
    assert len(service.pdp.requests) == 1
    await owner(service, service.org(org="skd"))
    assert [len(each) for each in service.pdp.asked] == [5, 5]


async def test_the_event_id_is_no_part_of_a_kept_question(service: Service) -> None:
    """A later event of an instance that was decided on asks nothing."""
    source = instance_source()
    await service.publish(*app_events(1, source=source))
    await owner(service)
    await service.publish(*app_events(1, source=source))
    assert (len((await owner(service)).json()), len(service.pdp.requests)) == (2, 1)


async def test_a_caller_at_another_level_is_another_question(service: Service) -> None:
    """What was permitted to a caller says nothing of the same caller with other claims."""
    await service.publish(*app_events(1))
    for level in ("3", "2"):
        await owner(service, service.org(**{"urn:altinn:authlevel": level}))
    assert len(service.pdp.requests) == 2


async def test_who_asks_the_same_at_once_shares_one_request(service: Service) -> None:
    """Readers of one caller who come together cause one request."""
    await service.publish(*app_events(5))
    service.pdp.gate.clear()
    readers = [asyncio.create_task(owner(service)) for _ in range(5)]
    await service.pdp.arrived.wait()
    service.pdp.gate.set()
    answers = await asyncio.gather(*readers)
    assert ([len(answer.json()) for answer in answers], len(service.pdp.requests)) == ([5] * 5, 1)


# -- when the decision point fails ------------------------------------------------------------------------------------


async def assert_unavailable(answer: Answer, *secrets: str) -> None:
    """503 with `Retry-After`, and nothing of any event."""
    assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
    assert int(answer.headers["retry-after"]) > 0
    assert not [secret for secret in secrets if secret in answer.body.decode()]
    assert "next" not in answer.headers


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (401, b""), (302, b""), (404, b"{}"), (200, b"not JSON"), (200, b"{}"), (200, b'{"Response": 1}')],
)
async def test_a_broken_decision_point_is_503(service: Service, status: int, body: bytes) -> None:
    """Whatever is no answer of a decision point makes the page 503, never an unfiltered one."""
    await service.publish(*(published := app_events(2)))
    service.pdp.status, service.pdp.body = status, body
    await assert_unavailable(await owner(service), *ids(published))


async def test_an_unreachable_decision_point_is_503(service: Service) -> None:
    """So does one that does not listen."""
    await service.publish(*(published := app_events(2)))
    await service.pdp.stop()
    await assert_unavailable(await owner(service), *ids(published))


async def test_a_slow_decision_point_is_503(service: Service) -> None:
    """So does one that has not answered at the deadline."""
    await service.publish(*(published := app_events(2)))
    point: Any = (await app.current()).decision_point
    point._service = dataclasses.replace(point._service, deadline_seconds=0.1)
    service.pdp.gate.clear()
    await assert_unavailable(await owner(service), *ids(published))


async def test_a_decision_point_that_fails_within_a_page_fails_the_page(service: Service) -> None:
    """When only the later chunks of a page cannot be decided, nothing of the page is shown."""
    await service.publish(*(published := app_events(50)))

    def last_answer(asked: Asked) -> Ruling:
        service.pdp.status = 500
        return PERMIT if asked.resource["urn:altinn:event-id"] == published[0]["id"] else DENY

    service.pdp.decide = last_answer
    await assert_unavailable(await owner(service, size=5), *ids(published))


async def test_failures_are_not_kept(service: Service) -> None:
    """Once the decision point is back the very next request is served."""
    await service.publish(*(published := app_events(2)))
    service.pdp.status = 503
    await assert_unavailable(await owner(service))
    service.pdp.status = 200
    assert ids((await owner(service)).json()) == ids(published)


async def test_what_was_decided_is_served_while_the_decision_point_is_down(service: Service) -> None:
    """Decisions that are kept serve on, and a scope needs none."""
    await service.publish(*app_events(2))
    await owner(service)
    service.pdp.status = 503
    assert (await owner(service)).status == 200
    assert (await owner(service, service.org(APP_TOKEN_SCOPES, org="skd"))).status == 200


async def test_an_empty_feed_asks_nobody(service: Service) -> None:
    """Where there is nothing to decide, nothing is asked."""
    await service.pdp.stop()
    assert (await owner(service)).status == 200
