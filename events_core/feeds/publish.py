"""Publish events: validate and authorize all of them before any is stored (docs/publishers.md)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from events_core.access import scopes
from events_core.access.authorization import Authorization, RequestBudget, Verdict
from events_core.access.identity import Caller, Kind
from events_core.access.names import AppId, Instance, Resource, is_under
from events_core.access.ports import UndecidedError
from events_core.cloudevent import CloudEvent, RawEvent, validate
from events_core.common import clock, errors
from events_core.common.errors import EventsError, FieldError, Problem
from events_core.common.persons import names_person
from events_core.common.slices import in_slices
from events_core.feeds.ports import Appended, EventStore
from events_core.feeds.stream import CursorCodec, Stream, projections_of
from events_core.feeds.wait import WaitingReaders

PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class Published:
    """An event, and its outcome in the store."""

    event: CloudEvent
    outcome: Appended


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes events. The sources of app events must be under `apps_domain`, if there is one."""

    store: EventStore
    authorization: Authorization
    waiting: WaitingReaders
    apps_domain: str | None = None
    cursors: CursorCodec | None = None

    async def publish_app_event(self, caller: Caller, raw: RawEvent) -> Published:
        """Publish an app's event; the PlatformAccessToken is its authorization.

        Sets `time`, `resource`, `resourceinstance`, and `id` unless it is given.

        Raises:
            EventsError: BAD_REQUEST naming the attribute, FORBIDDEN for another app's source, UNAVAILABLE.
        """
        app = _app_of(caller)
        source = raw.attributes.get("source")
        instance = _own_instance(app, source) if isinstance(source, str) else None
        event = validate(_completed(raw, app, instance))
        self._require_source_of_app(event)
        if event.subject is None:
            raise _bad_attribute("subject", "The attribute 'subject' is required.")
        _refuse_reserved_types(caller, [event])
        await self._refuse_unknown_persons([event], RequestBudget())
        return (await self._store([event]))[0]

    async def publish(self, caller: Caller, raws: Sequence[RawEvent]) -> list[Published]:
        """Publish events of any resource, all or none. The caller has the scope to publish.

        Raises:
            EventsError: BAD_REQUEST naming event and attribute, FORBIDDEN, UNAVAILABLE (the same call completes it).
        """
        events = await _validated(raws)
        _refuse_reserved_types(caller, events)
        await _refuse_persons_as_resources(events)
        if not caller.has_scope(scopes.PUBLISH_ADMIN):
            for index, event in enumerate(events):
                if Resource.parse(event.resource).app:
                    self._require_source_of_app(event, _prefix(index, events))
            budget = RequestBudget()
            await self._refuse_unknown_persons(events, budget)
            await self._authorize(caller, events, budget)
        return await self._store(events)

    def _require_source_of_app(self, event: CloudEvent, prefix: str = "") -> None:
        instance = Instance.parse(event.source)
        if instance is None or instance.app.resource != event.resource:
            url = "https://…/{org}/{app}/instances/{party}/{guid}"
            raise _bad_attribute(f"{prefix}source", f"The source must be the URL of an instance of the app: {url}.")
        if self.apps_domain and not is_under(event.source, self.apps_domain):
            raise _bad_attribute(f"{prefix}source", f"The source must be under https://{self.apps_domain}.")

    async def _refuse_unknown_persons(self, events: Sequence[CloudEvent], budget: RequestBudget) -> None:
        if await self.authorization.unknown_persons(events, budget):
            raise errors.forbidden("The subject names a person that Register does not know.")

    async def _authorize(self, caller: Caller, events: Sequence[CloudEvent], budget: RequestBudget) -> None:
        verdicts = await self.authorization.verdicts(caller, "publish", events, budget)
        if Verdict.UNDECIDED in verdicts:
            raise UndecidedError
        refused = [index for index, verdict in enumerate(verdicts) if verdict is not Verdict.PERMITTED]
        if refused:
            field = f"[{refused[0]}]" if len(events) > 1 else "event"
            detail = "Publishing to this resource is not permitted."
            raise EventsError(Problem.FORBIDDEN, detail, [FieldError(field, detail)])

    async def _store(self, events: Sequence[CloudEvent]) -> list[Published]:
        self._refuse_cursors(events)
        outcomes = await self.store.append(events)
        self.waiting.wake(stream for event in events for stream in streams_of(event))
        return [Published(event, outcome) for event, outcome in zip(events, outcomes, strict=True)]

    def _refuse_cursors(self, events: Sequence[CloudEvent]) -> None:
        """Refuse ids that decode as cursors, because `after=<id>` would be read as a cursor."""
        codec = self.cursors
        for index, event in enumerate(events):
            if codec and codec.may_be(event.id) and any(codec.decode(event.id, stream) for stream in streams_of(event)):
                raise _bad_attribute(f"{_prefix(index, events)}id", "The id must not be a cursor of a feed.")


def streams_of(event: CloudEvent) -> list[Stream]:
    """The streams that hold an event: its resource's, and those that it is projected to."""
    return [Stream.of_resource(event.resource), *projections_of(event.resource, event.subject)]


def _app_of(caller: Caller) -> AppId:
    app = AppId.parse(caller.consumer.removeprefix("/app/")) if caller.kind is Kind.APP else None
    if app is None:
        raise errors.forbidden("The token does not identify an app.")
    return app


def _own_instance(app: AppId, source: str) -> Instance | None:
    """The instance that the source names; None when validation will say what is wrong with the source.

    Raises:
        EventsError: FORBIDDEN when its first two path segments are not the app's.
    """
    try:
        segments = urlsplit(source).path.split("/")
    except ValueError:
        return None
    if segments[1:3] != [app.org, app.app]:
        raise errors.forbidden("The source does not belong to the app named in the PlatformAccessToken.")
    return Instance.parse(source)


def _completed(raw: RawEvent, app: AppId, instance: Instance | None) -> RawEvent:
    added = {"time": clock.to_rfc3339(clock.now()), "resource": app.resource}
    if "id" not in raw.members:
        added["id"] = str(uuid.uuid4())
    if instance:
        added["resourceinstance"] = instance.id
    return raw.set(**added)


async def _validated(raws: Sequence[RawEvent]) -> list[CloudEvent]:
    """Validate all events, in slices. Raise BAD_REQUEST with every fault."""
    events, faults = [], []
    async for index, raw in in_slices(enumerate(raws)):
        try:
            events.append(validate(_with_current_resource(raw), field_prefix=_prefix(index, raws)))
        except EventsError as error:
            if error.problem is not Problem.BAD_REQUEST:
                raise
            faults.append(error)
    if faults:
        raise errors.bad_request(faults[0].detail, *(fault for error in faults for fault in error.errors))
    return events


def _with_current_resource(raw: RawEvent) -> RawEvent:
    """The event with the older notation of its resource replaced."""
    resource = raw.attributes.get("resource")
    if not isinstance(resource, str):
        return raw
    current = Resource.parse(resource).urn
    return raw if current == resource else raw.set(resource=current)


def _prefix(index: int, batch: Sequence[object]) -> str:
    return f"[{index}]." if len(batch) > 1 else ""


def _refuse_reserved_types(caller: Caller, events: Sequence[CloudEvent]) -> None:
    if caller.kind is Kind.APP and caller.consumer.startswith(f"/app/{PLATFORM}/"):
        return
    if any(event.type.lower().startswith(f"{PLATFORM}.") for event in events):
        raise errors.forbidden("Event types that begin with 'platform.' are the platform's own.")


async def _refuse_persons_as_resources(events: Sequence[CloudEvent]) -> None:
    """Refuse resources that name a person anywhere: a resource goes to the decision point and into URLs."""
    async for index, event in in_slices(enumerate(events)):
        if names_person(event.resource):
            raise _bad_attribute(f"{_prefix(index, events)}resource", "The resource must not be a person.")


def _bad_attribute(name: str, detail: str) -> EventsError:
    return errors.bad_request(detail, FieldError(name, detail))
