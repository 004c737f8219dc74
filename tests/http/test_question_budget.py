"""One request of a feed asks the decision point a thousand questions at most."""

from __future__ import annotations

from tests.support.asgi import Answer
from tests.support.pdp_server import DENY
from tests.support.reading import app_events, hidden_events, hide, publish_all
from tests.support.service import ANCIENT, APP_FEED, PARTY, PARTY_FEED, Service, ids

MOST = 1_000


def questions(service: Service) -> int:
    """How many questions were asked since the last call."""
    count = sum(map(len, service.pdp.asked))
    service.pdp.requests.clear()
    return count


async def test_a_walk_over_hidden_events_asks_a_thousand_questions_a_request(service: Service) -> None:
    """Each page moves on, and the walk returns every readable event once."""
    hide(service)
    readable = app_events(3)
    await publish_all(service, [readable[0], *hidden_events(1_400), readable[1], *hidden_events(1_100), readable[2]])
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT)
    found, starts = [], set()
    while True:
        assert answer.status == 200, answer.body
        found += answer.json()
        assert 0 < questions(service) <= MOST
        assert answer.headers["next"] not in starts
        starts.add(answer.headers["next"])
        if answer.headers["events-caught-up"] == "true":
            break
        answer = await service.request("GET", answer.headers["next"], token=token)
    assert ids(found) == ids(readable)
    assert len(starts) >= 3


async def test_a_spent_budget_is_no_error(service: Service) -> None:
    """The page is empty, is not the last one, and names no hidden event."""
    service.pdp.decide = lambda _: DENY
    await publish_all(service, app_events(1_200))
    answer = await service.get(PARTY_FEED, service.user(), from_=ANCIENT, party=PARTY)
    assert (answer.status, answer.json(), answer.headers["events-caught-up"]) == (200, [], "false")
    assert questions(service) == MOST
    again = await service.request("GET", answer.headers["next"], token=service.user())
    assert (again.json(), again.headers["events-caught-up"], questions(service)) == ([], "true", 200)


async def test_a_long_poll_asks_a_thousand_questions_in_all(service: Service) -> None:
    """It does not wait once they are asked."""
    service.pdp.decide = lambda _: DENY
    await publish_all(service, app_events(2_300))
    answer = await service.get(PARTY_FEED, service.user(), from_=ANCIENT, party=PARTY, headers={"Prefer": "wait=30"})
    assert (answer.json(), answer.headers["events-caught-up"], questions(service)) == ([], "false", MOST)


async def test_a_page_of_a_thousand_readable_events_is_one_request(service: Service) -> None:
    """The largest page fits the budget."""
    await publish_all(service, published := app_events(MOST))
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, size=MOST)
    assert ids(answer.json()) == ids(published)
    assert [len(asked) for asked in service.pdp.asked] == [MOST]


async def test_cached_decisions_do_not_count(service: Service) -> None:
    """Events of one instance are one question, and the same page again asks nothing."""

    async def read() -> Answer:
        return await service.get(APP_FEED, service.org(), from_=ANCIENT, size=MOST)

    service.pdp.decide = lambda _: DENY
    await publish_all(service, app_events(600))
    source = app_events(1)[0]["source"]
    await publish_all(service, app_events(600, source=source))
    first = await read()
    assert (first.headers["events-caught-up"], questions(service)) == ("true", 601)
    assert (await read()).headers["events-caught-up"] == "true"
    assert questions(service) == 0


async def test_a_search_for_an_undecidable_question_stays_within_the_requests(service: Service) -> None:
    """Many hidden events, one of which the decision point cannot decide: no page is lost, none is repeated."""
    hide(service)
    odd = hidden_events(1)[0]
    service.pdp.fails = lambda asked: odd["source"].endswith(asked.resource["urn:altinn:instance-id"])
    last = app_events(1)
    await publish_all(service, [*hidden_events(700), odd, *hidden_events(700), *last])
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT)
    distinct = {frozenset(asked.resource.items()) for request in service.pdp.asked for asked in request}
    assert len(distinct) <= MOST + 8
    assert len(service.pdp.requests) <= 64 + 8
    assert ids(await service.walk(answer, service.org())) == ids(last)
