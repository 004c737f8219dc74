"""Publishing and erasing events (docs/publishers.md)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

import azure.functions as func

from events_core.access import scopes
from events_core.access.identity import Kind
from events_core.access.names import Resource
from events_core.cloudevent import RawEvent, read_batch, read_binary, read_structured
from events_core.common import errors
from events_core.common.errors import bad_field
from events_core.common.persons import names_person
from events_core.common.slices import in_slices
from events_core.feeds.publish import Published
from events_core.feeds.stream import Cursor, Stream
from events_core.http import authentication, query
from events_core.http.query import Parameters
from events_core.http.request import Request
from events_core.http.response import json_response
from events_core.operations import audit
from events_core.operations.application import Application

ERASE_BY_PARAMETER = "DELETE /events/api/v1/events?id=…&source=…&resource=…"
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


async def publish_app(request: Request, application: Application) -> func.HttpResponse:
    """Publish an app's event about one of its instances."""
    caller = await authentication.platform_app(request, application.tokens)
    body = request.json_body("application/json", STRUCTURED)
    (event,) = [raw async for raw in in_slices(map(read_structured, [body]))]
    published = await application.publisher.publish_app_event(caller, event)
    status = 200 if published.outcome.duplicate else 201
    return json_response(
        published.event.id, status=status, headers={"Location": _location(request, application, published)}
    )


def _location(request: Request, application: Application, published: Published) -> str:
    """The URL of the page of the owner feed that holds only this event."""
    app = Resource.parse(published.event.resource).app
    assert app is not None  # an app's event has its app's resource
    cursor = published.outcome.cursor
    before = application.cursors.encode(
        Cursor(cursor.position, cursor.proof, before=True), Stream.of_resource(app.resource)
    )
    return f"{request.base_url}/events/api/v1/app/{app}?{urlencode({'after': before, 'size': 1})}"


async def publish_events(request: Request, application: Application) -> func.HttpResponse:
    """Publish events of any resource: one structured event, a batch, or one event in binary mode."""
    caller = await authentication.bearer_or_platform_app(request, application.tokens)
    if caller.kind is not Kind.APP and not caller.has_scope(scopes.PUBLISH, scopes.PUBLISH_ADMIN):
        raise errors.forbidden(f"The scope {scopes.PUBLISH} is required.")
    raws = [raw async for raw in in_slices(_events_in(request))]
    published = await application.publisher.publish(caller, raws)
    outcomes = [
        {"id": result.event.id, "source": result.event.source, "duplicate": result.outcome.duplicate}
        for result in published
    ]
    return json_response({"events": outcomes})


def _events_in(request: Request) -> Iterable[RawEvent]:
    """The events of the body, one by one. Its content type is the mode (CloudEvents HTTP binding 1.0.2, section 3)."""
    is_format = (request.media_type or "").startswith("application/cloudevents")
    if not is_format and any(name.startswith("ce-") for name in request.headers):
        return [read_binary(request.headers, request.body)]
    body = request.json_body(STRUCTURED, BATCH)
    return read_batch(body) if request.media_type == BATCH else map(read_structured, [body])


async def erase_event(request: Request, application: Application) -> func.HttpResponse:
    """Replace an event with a tombstone in every stream."""
    caller = await authentication.bearer(request, application.tokens)
    if not caller.has_scope(scopes.ERASE):
        raise errors.forbidden(f"The scope {scopes.ERASE} is required.")
    parameters = Parameters(request.query)
    event_id = query.event_id(request, parameters, ERASE_BY_PARAMETER)
    source, resource = parameters.one("source"), parameters.one("resource")
    if source is None or resource is None:
        name = "source" if source is None else "resource"
        raise bad_field(name, f"The '{name}' parameter must be defined.")
    if names_person(resource):
        raise bad_field("resource", "The resource must not be a person.")
    urn = Resource.parse(resource).urn
    if not await application.store.erase(urn, source, event_id):
        raise errors.not_found("There is no such event.")
    audit.record("erase", caller.consumer, resource=urn, source=source, id=event_id)
    return func.HttpResponse(b"", status_code=204)
