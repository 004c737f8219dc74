"""Synthetic events for a first look. Their ids never change, so a restart stores no event twice."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from events_core.cloudevent import CloudEvent, read_structured, validate
from events_core.common.clock import SECOND, now, to_rfc3339
from events_core.feeds.ports import EventStore
from events_core.feeds.publish import streams_of
from local.persona import PARTY

RESOURCE = "urn:altinn:resource:ttd-altinn-events-automated-tests"
_REGISTER = Path(__file__).with_name("register.json")
_APPS = ("ttd/apps-test", "ttd/apps-test", "ttd/other", "skd/mva")
_TYPES = (
    "app.instance.created",
    "app.instance.process.movedTo.task_1",
    "app.instance.process.movedTo.task_2",
    "app.instance.process.completed",
)
_INSTANCES = 60
_REPORTS = 60
_PERIOD = 7 * 86_400 * SECOND
_NAMESPACE = uuid.UUID("8b3f3c1e-6a55-4f0e-9d0a-6f6e2f0b7a11")
_BATCH = 100


async def insert_sample_data(store: EventStore, *, progress: bool) -> int:
    """Store the sample events, unless a stream of theirs holds an event. Returns how many events were stored.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer.
    """
    events = list(sample_events(now()))
    for stream in {stream for event in events for stream in streams_of(event)}:
        if await store.head(stream):
            return 0
    batches: Iterable[list[CloudEvent]] = [events[at : at + _BATCH] for at in range(0, len(events), _BATCH)]
    for batch in _with_progress(batches) if progress else batches:
        await store.append(batch)
    return len(events)


def _with_progress(batches: Iterable[list[CloudEvent]]) -> Iterable[list[CloudEvent]]:
    from rich.console import Console  # noqa: PLC0415 - its import takes 0.1 s, and only a terminal needs it
    from rich.progress import track  # noqa: PLC0415 - as above

    return track(batches, "Sample data", console=Console(stderr=True), transient=True)


def sample_events(until: int) -> Iterator[CloudEvent]:
    """300 events of the week before `until` (microseconds since the epoch), ordered by time."""
    happened = sorted((*_app_events(), *_reports()), key=lambda pair: pair[0])
    for index, (_, event) in enumerate(happened, start=1):
        event["time"] = to_rfc3339(until - _PERIOD + _PERIOD * index // len(happened))
        yield validate(read_structured(orjson.dumps({"specversion": "1.0", **event})))


def _app_events() -> Iterator[tuple[int, dict[str, Any]]]:
    """Events of app instances whose processes overlap. Each event comes with its sort key in time."""
    parties = [entry["partyId"] for entry in orjson.loads(_REGISTER.read_bytes())["parties"]]
    for number in range(_INSTANCES):
        party = PARTY if number % 3 == 0 else parties[number % len(parties)]
        org, _, app = _APPS[number % len(_APPS)].partition("/")
        instance = f"{party}/{uuid.uuid5(_NAMESPACE, f'instance {number}')}"
        for step, kind in enumerate(_TYPES):
            yield (
                4 * number + 15 * step,
                {
                    "id": str(uuid.uuid5(_NAMESPACE, f"{instance} {kind}")),
                    "source": f"https://{org}.apps.altinn.no/{org}/{app}/instances/{instance}",
                    "type": kind,
                    "subject": f"/party/{party}",
                    "resource": f"urn:altinn:resource:app_{org}_{app}",
                    "resourceinstance": instance,
                },
            )


def _reports() -> Iterator[tuple[int, dict[str, Any]]]:
    for number in range(_REPORTS):
        yield (
            4 * number,
            {
                "id": str(uuid.uuid5(_NAMESPACE, f"report {number}")),
                "source": f"https://reports.example/runs/{number}",
                "type": "automated-tests.run.failed" if number % 7 == 0 else "automated-tests.run.passed",
                "subject": f"/party/{PARTY + number % 5}",
                "resource": RESOURCE,
                "datacontenttype": "application/json",
                "data": {"run": number, "seconds": 40 + number * 17 % 50},
            },
        )
