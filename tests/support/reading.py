"""Reading in tests: feeds, events that a reader may not see, the store's clock, waiting readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from events_core import app
from events_core.adapters.cosmos import CosmosEventStore
from tests.support.asgi import Answer
from tests.support.pdp_server import DENY, PERMIT, Asked, Ruling
from tests.support.service import (
    APP_FEED,
    APP_RESOURCE,
    PARTY,
    PARTY_FEED,
    RESOURCE_FEED,
    Service,
    event,
    instance_source,
)
from tests.support.waiting import until_readers_wait

HIDDEN_PARTY = 66
FEEDS: list[tuple[str, dict[str, Any]]] = [
    (APP_FEED, {}),
    ("/events/api/v1/app/ttd", {}),
    (PARTY_FEED, {"party": PARTY}),
    (RESOURCE_FEED, {"resource": APP_RESOURCE}),
]
"""The feeds that hold the events of `app_events`: path, and query besides a start."""
START_OF_TIME = 1_700_000_000_000_000
"""The first time of a test's clock: 2023-11-14T22:13:20Z, in microseconds since the epoch."""


def app_events(count: int, *, party: int = PARTY, **attributes: Any) -> list[dict[str, Any]]:
    """Events of one app about one party, each of its own instance."""
    about = {"resource": APP_RESOURCE, "subject": f"/party/{PARTY}", **attributes}
    return [event(**{"source": instance_source(party=party), **about}) for _ in range(count)]


def hidden_events(count: int, **attributes: Any) -> list[dict[str, Any]]:
    """Events of instances that the PDP denies after `hide`."""
    return app_events(count, party=HIDDEN_PARTY, **attributes)


def hide(service: Service) -> None:
    """Let the PDP deny the events that `hidden_events` makes."""
    service.pdp.decide = _ruling


def _ruling(asked: Asked) -> Ruling:
    return DENY if asked.resource["urn:altinn:instance-id"].startswith(f"{HIDDEN_PARTY}/") else PERMIT


async def publish_all(service: Service, events: Sequence[Mapping[str, Any]]) -> None:
    """Publish any number of events, in batches."""
    for start in range(0, len(events), 100):
        await service.publish(*events[start : start + 100])


def next_query(answer: Answer) -> list[tuple[str, str]]:
    """The parameters of `next`, in order."""
    return parse_qsl(urlsplit(answer.headers["next"]).query)


def cursor_of(answer: Answer) -> dict[str, str]:
    """The parameters `after` and `at` of `next`."""
    return {name: value for name, value in next_query(answer) if name in ("after", "at")}


class StoreClock:
    """Gives the store the time, in microseconds since the epoch, which a test sets."""

    now = START_OF_TIME

    def __call__(self) -> int:
        """The time."""
        return self.now


async def store_clock() -> StoreClock:
    """Give the store of the running service a clock that the test moves, before the first event."""
    clock = StoreClock()
    events = await app.current()
    events.store._clock = clock  # type: ignore[attr-defined] # the port has no clock
    return clock


async def expire(registered_before: int) -> None:
    """Let the running service's store remove the events registered before a time, at once."""
    store = (await app.current()).store
    if isinstance(store, CosmosEventStore):
        days = store._retention.days
        object.__setattr__(store._retention, "clock", lambda: registered_before + days * 86_400_000_000)
    await store.expire(registered_before)


async def until_waiting(readers: int = 1) -> None:
    """Return once this number of requests wait for events."""
    await until_readers_wait((await app.current()).waiting, readers)
