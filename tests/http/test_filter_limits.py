"""How many types, sources and wildcards a request of a feed may have, in a URL and in a body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.asgi import Answer
from tests.support.reading import app_events
from tests.support.service import ANCIENT, APP_FEED, PARTY, PARTY_FEED, Service, ids

MOST_BYTES = 64 * 1024


async def by_post(service: Service, **members: Any) -> Answer:
    """Ask for the party feed with the parameters in the body."""
    body = {"from": ANCIENT, "party": PARTY, **members}
    return await service.request("POST", PARTY_FEED, token=service.user(), json_body=body)


async def by_get(service: Service, **members: Any) -> Answer:
    """Ask for the party feed with the parameters in the URL."""
    return await service.get(PARTY_FEED, service.user(), from_=ANCIENT, party=PARTY, **members)


@pytest.mark.parametrize("ask", [by_get, by_post])
@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"type": "%a" * 11}, "type"),
        ({"eventType": "%a" * 11}, "type"),
        ({"source": "%a" * 11}, "source"),
        ({"type": ["%a" * 6, "%b" * 5]}, "type"),
        ({"type[]": ["%a" * 6, "%b" * 5]}, "type"),
        ({"source[0]": "%a" * 6, "source[1]": "%a" * 5}, "source"),
        ({"type": "%a" * 4, "eventType": "%a", "source": "%a" * 6}, "source"),
        ({"type": [str(number) for number in range(101)]}, "type"),
        ({"type": [str(number) for number in range(60)], "eventType": ["%"] * 41}, "type"),
        ({"source": [str(number) for number in range(101)]}, "source"),
        ({"source": "a" * 2_049}, "source"),
    ],
)
async def test_too_many_patterns_are_refused(service: Service, ask: Any, members: dict[str, Any], name: str) -> None:
    """The problem names the parameter."""
    answer = await ask(service, **members)
    assert (answer.status, [error["field"] for error in answer.json()["errors"]]) == (400, [name])


@pytest.mark.on_cosmos
async def test_the_largest_request_is_answered(service: Service) -> None:
    """A body of 64 KiB with 100 types, 100 sources and 10 wildcards, and a URL with 2,048 characters in each value."""
    await service.publish(*(published := app_events(3)))
    types = [f"{number:03}".ljust(300, "t") for number in range(90)] + [f"%{number}%" for number in range(5)]
    sources = [f"{number:03}".ljust(330, "s") for number in range(99)]
    members = {"type": [*types, published[0]["type"]], "source": [*sources, published[0]["source"]]}
    assert MOST_BYTES * 0.9 < len(json.dumps(members)) < MOST_BYTES - 100
    answer = await by_post(service, **members)
    assert (answer.status, ids(answer.json())) == (200, ids(published[:1]))
    long = [f"{number:03}".ljust(2_048, "s") for number in range(50)]
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, type=["%" * 10, *long], source=long)
    assert (answer.status, answer.json()) == (200, [])


async def test_a_larger_body_is_refused(service: Service) -> None:
    """Before it is parsed."""
    answer = await by_post(service, source=["s" * 2_000] * 40)
    assert answer.status == 413
