"""Use case: publish events; validated and authorized whole before anything is stored (docs/publishers.md)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from events_core.access import scopes
from events_core.access.authorization import Authorization
from events_core.access.identity import Caller, Kind
from events_core.access.names import AppId, Instance, Resource, ends_in_person_number, is_under
from events_core.cloudevent import CloudEvent, RawEvent, validate
from events_core.common import clock, errors
from events_core.common.errors import EventsError, FieldError
from events_core.feeds.ports import Appended, EventStore
from events_core.feeds.stream import CursorCodec, Stream, projections_of
from events_core.feeds.wait import WaitingReaders

PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class Publisher:
    """The ports that publishing needs, the domain that app event sources must be under (None: any), and the cursors.

    An id that reads as a cursor is refused: who goes on from it would be led elsewhere, and perhaps in a circle.
    """

    store: EventStore
    authorization: Authorization
    waiting: WaitingReaders
    apps_domain: str | None = None
    cursors: CursorCodec | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """An event and what became of it."""

    event: CloudEvent
    outcome: Appended


async def publish_app_event(publisher: Publisher, caller: Caller, raw: RawEvent) -> Published:
    """Publish an app's event; its PlatformAccessToken is the authorization.

    Sets `id` (unless given), `time`, `resource` and `resourceinstance`.

    Raises:
        EventsError: BAD_REQUEST naming the attribute, FORBIDDEN for another app's source, UNAVAILABLE.
    """
    app = _app_of_token(caller)
    source = raw.attributes.get("source")
    instance = _own_instance(app, source) if isinstance(source, str) else None
    event = validate(_completed(raw, app, instance))
    _require_source_of_app(publisher, event)
    _require_subject(event)
    _refuse_reserved_types(caller, [event])
    await _refuse_unknown_persons(publisher, [event])
    return (await _store(publisher, [event]))[0]


async def publish(publisher: Publisher, caller: Caller, raws: Sequence[RawEvent]) -> list[Published]:
    """Publish events of any resource, all or none.

    Raises:
        EventsError: BAD_REQUEST naming event and attribute, FORBIDDEN, UNAVAILABLE (the same call again completes it).
    """
    if caller.kind is not Kind.APP and not caller.has_scope(scopes.PUBLISH, scopes.PUBLISH_ADMIN):
        raise errors.forbidden(f"The scope {scopes.PUBLISH} is required.")
    events = _validated(raws)
    _refuse_reserved_types(caller, events)
    _refuse_persons_as_resources(events)
    if not caller.has_scope(scopes.PUBLISH_ADMIN):
        for index, event in enumerate(events):
            if Resource.parse(event.resource).app:
                _require_source_of_app(publisher, event, _prefix(index, raws))
        await _refuse_unknown_persons(publisher, events)
        await _authorize(publisher, caller, events)
    return await _store(publisher, events)


def _app_of_token(caller: Caller) -> AppId:
    app = AppId.parse(caller.consumer.removeprefix("/app/")) if caller.kind is Kind.APP else None
    if app is None:
        raise errors.forbidden("The token names no app.")
    return app


def _own_instance(app: AppId, source: str) -> Instance | None:
    """The instance that the source names.

    Raises:
        EventsError: FORBIDDEN when its first two path segments are not the app's.
    """
    try:
        segments = urlsplit(source).path.split("/")
    except ValueError:
        return None  # validation says what is wrong with it
    if segments[1:3] != [app.org, app.app]:
        raise errors.forbidden("The source is not one of the app that the PlatformAccessToken names.")
    return Instance.parse(source)


def _completed(raw: RawEvent, app: AppId, instance: Instance | None) -> RawEvent:
    added = {"time": clock.to_rfc3339(clock.now()), "resource": app.resource}
    if raw.members.get("id") is None:
        added["id"] = str(uuid.uuid4())
    if instance:
        added["resourceinstance"] = instance.id
    return raw.set(**added)


def _validated(raws: Sequence[RawEvent]) -> list[CloudEvent]:
    events, faults = [], []
    for index, raw in enumerate(raws):
        resource = raw.attributes.get("resource")
        current = Resource.parse(resource).urn if isinstance(resource, str) else resource
        try:
            events.append(
                validate(
                    raw if current == resource else raw.set(resource=str(current)), field_prefix=_prefix(index, raws)
                )
            )
        except EventsError as error:
            if error.problem is not errors.Problem.BAD_REQUEST:
                raise
            faults.append(error)
    if faults:
        raise errors.bad_request(faults[0].detail, *(fault for error in faults for fault in error.errors))
    return events


def _prefix(index: int, batch: Sequence[object]) -> str:
    return f"[{index}]." if len(batch) > 1 else ""


def _require_source_of_app(publisher: Publisher, event: CloudEvent, prefix: str = "") -> None:
    instance = Instance.parse(event.source)
    if instance is None or instance.app.resource != event.resource:
        detail = "The source must be the URL of an instance of the app: https://…/{org}/{app}/instances/{party}/{guid}."
        raise errors.bad_request(detail, FieldError(f"{prefix}source", detail))
    if publisher.apps_domain and not is_under(event.source, publisher.apps_domain):
        detail = f"The source must be under https://{publisher.apps_domain}."
        raise errors.bad_request(detail, FieldError(f"{prefix}source", detail))


def _require_subject(event: CloudEvent) -> None:
    if event.subject is None:
        detail = "The attribute 'subject' is required."
        raise errors.bad_request(detail, FieldError("subject", detail))


def _refuse_reserved_types(caller: Caller, events: Sequence[CloudEvent]) -> None:
    if caller.kind is Kind.APP and caller.consumer.startswith(f"/app/{PLATFORM}/"):
        return
    if any(event.type.lower().startswith(f"{PLATFORM}.") for event in events):
        raise errors.forbidden("Event types that begin with 'platform.' are the platform's own.")


def _refuse_persons_as_resources(events: Sequence[CloudEvent]) -> None:
    """The resource goes to the decision point and stands in URLs, where no person's number may be."""
    for index, event in enumerate(events):
        if ends_in_person_number(event.resource):
            detail = "The resource must not be a person."
            raise errors.bad_request(detail, FieldError(f"{_prefix(index, events)}resource", detail))


async def _refuse_unknown_persons(publisher: Publisher, events: Sequence[CloudEvent]) -> None:
    if await publisher.authorization.unknown_persons(events):
        raise errors.forbidden("The subject names a person that Register does not know.")


async def _authorize(publisher: Publisher, caller: Caller, events: Sequence[CloudEvent]) -> None:
    permitted = await publisher.authorization.permitted(caller, "publish", events)
    if not all(permitted):
        index = permitted.index(False)
        where = f"[{index}]" if len(events) > 1 else "event"
        detail = "Publishing to this resource is not permitted."
        error = errors.forbidden(detail)
        raise EventsError(error.problem, detail, [FieldError(where, detail)])


async def _store(publisher: Publisher, events: Sequence[CloudEvent]) -> list[Published]:
    _refuse_cursors(publisher, events)
    outcomes = await publisher.store.append(events)
    publisher.waiting.wake(stream for event in events for stream in streams_of(event))
    return [Published(event, outcome) for event, outcome in zip(events, outcomes, strict=True)]


def _refuse_cursors(publisher: Publisher, events: Sequence[CloudEvent]) -> None:
    codec = publisher.cursors
    for index, event in enumerate(events):
        if codec and codec.may_be(event.id) and any(codec.decode(event.id, stream) for stream in streams_of(event)):
            detail = "The id must not be a place of a feed."
            raise errors.bad_request(detail, FieldError(f"{_prefix(index, events)}id", detail))


def streams_of(event: CloudEvent) -> list[Stream]:
    """The streams that hold an event: its resource's, and those that it is projected to."""
    return [Stream.of_resource(event.resource), *projections_of(event.resource, event.subject)]


def app_feed_path(app: AppId) -> str:
    """The path of the feed of an app's events."""
    return f"/events/api/v1/app/{app.org}/{app.app}"
