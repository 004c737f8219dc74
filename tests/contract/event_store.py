"""Events, walks and harnesses for the suites of the EventStore port."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from events_core.adapters.sqlite import SqliteEventStore
from events_core.cloudevent import CloudEvent
from events_core.feeds.ports import EventStore, ReadRequest, StoredEvent
from events_core.feeds.stream import Cursor, Stream

APP = "urn:altinn:resource:app_ttd_apps-test"
OTHER_APP = "urn:altinn:resource:app_ttd_other_app"
ANY = "urn:altinn:resource:a-service"
PARTY = "/party/50002108"
PERSON = "urn:altinn:person:identifier-no:01899699552"
SECOND = 1_000_000
_ids = itertools.count(1)


def event(event_id: str | None = None, **attributes: Any) -> CloudEvent:
    """A valid event with these attributes, by their CloudEvents names."""
    values: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id or f"event-{next(_ids)}",
        "source": "https://ttd.apps.altinn.no/ttd/apps-test/instances/50002108/3f1c",
        "type": "app.instance.created",
        "subject": PARTY,
        "resource": APP,
        **attributes,
    }
    values = {name: value for name, value in values.items() if value is not None}
    return CloudEvent(
        id=values["id"],
        source=values["source"],
        type=values["type"],
        subject=values.get("subject"),
        resource=values["resource"],
        resource_instance=values.get("resourceinstance"),
        alternative_subject=values.get("alternativesubject"),
        json=json.dumps(values).encode(),
    )


def events(count: int, **attributes: Any) -> list[CloudEvent]:
    """Different events with these attributes."""
    return [event(**attributes) for _ in range(count)]


def ids(rows: Sequence[StoredEvent | CloudEvent]) -> list[str]:
    """The ids of events, in their order."""
    return [row.id for row in rows]


async def walk(store: EventStore, request: ReadRequest) -> list[StoredEvent]:
    """Every row from the request's start until the store is caught up, chunk by chunk."""
    rows: list[StoredEvent] = []
    while True:
        chunk = await store.read(request)
        rows += chunk.rows
        if chunk.caught_up:
            return rows
        assert chunk.end != request.cursor, "a walk must not get stuck"
        request = replace(request, cursor=chunk.end, event_id=None)


async def everything(store: EventStore, stream: str | Stream = APP) -> list[StoredEvent]:
    """Every row of a stream, named by itself or by its resource."""
    return await walk(store, ReadRequest(Stream.of_resource(stream) if isinstance(stream, str) else stream))


async def published(store: EventStore, *some: CloudEvent) -> list[Cursor]:
    """Publish events one by one; return their cursors."""
    return [(await store.append([event]))[0].cursor for event in some]


@dataclass
class Clock:
    """A clock that a test sets; microseconds since the epoch."""

    now: int = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        """The time that was set."""
        return self.now


class Harness(Protocol):
    """An adapter with a store of its own."""

    clock: Clock

    def open(self, clock: Callable[[], int] | None = None) -> EventStore:
        """Open another store on the same data, as another process would."""

    async def close(self) -> None:
        """Close every store that was opened."""

    async def discard(self) -> None:
        """Close every store and delete the data."""

    async def wipe(self) -> EventStore:
        """Close every store, delete the data, and open an empty store."""

    async def back_up(self) -> None:
        """Close every store and copy the data."""

    async def restore(self) -> EventStore:
        """Close every store, put the copy back, and open a store."""


@dataclass
class SqliteHarness:
    """The SQLite store in a directory."""

    directory: Path
    clock: Clock = field(default_factory=Clock)
    opened: list[SqliteEventStore] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The store's file."""
        return self.directory / "events.db"

    def open(self, clock: Callable[[], int] | None = None) -> SqliteEventStore:
        """Open the file."""
        self.opened.append(SqliteEventStore(self.path, clock=clock or self.clock, idle=0.02))
        return self.opened[-1]

    async def close(self) -> None:
        """Close every store."""
        while self.opened:
            await self.opened.pop().close()

    async def discard(self) -> None:
        """Close every store; the directory is the caller's."""
        await self.close()

    async def wipe(self) -> SqliteEventStore:
        """Delete the file and open an empty one."""
        await self.close()
        with suppress(FileNotFoundError):
            self.path.unlink()
        return self.open()

    async def back_up(self) -> None:
        """Copy the file, which holds everything once the stores are closed."""
        await self.close()
        shutil.copy(self.path, self.directory / "copy.db")

    async def restore(self) -> SqliteEventStore:
        """Replace the file by the copy."""
        await self.close()
        shutil.copy(self.directory / "copy.db", self.path)
        return self.open()
