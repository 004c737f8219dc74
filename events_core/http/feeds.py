"""The feeds: who may read each one, which stream it reads, and what narrows it (docs/consumers.md)."""

from __future__ import annotations

import math
import time
import uuid
from array import array
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import azure.functions as func
from cachetools import TTLCache

from events_core.access import scopes
from events_core.access.identity import Caller, Kind
from events_core.access.names import RESOURCE_PREFIX, AppId
from events_core.cloudevent import json_text
from events_core.common import clock, errors
from events_core.common.errors import bad_field
from events_core.common.slices import in_slices
from events_core.feeds.ports import ReadRequest
from events_core.feeds.read import Verdicts
from events_core.feeds.stream import Filters, Stream
from events_core.http import authentication
from events_core.http.feed_query import FeedQuery, Takes
from events_core.http.page import page_response
from events_core.http.query import app_id
from events_core.http.request import Request
from events_core.operations.application import Application

REQUESTS_A_MINUTE = 60
MINUTE = 60.0
LONGEST_PARTY = 10
SHOWN_WITHOUT_LOGIN = ("specversion", "id", "source", "type", "time")
_NOBODY = Caller(Kind.NONE, "")
_requests: TTLCache[str, array[float]] = TTLCache(maxsize=10_000, ttl=MINUTE)  # times of recent ones, by instance

# -- Feeds of owners --------------------------------------------------------------------------------------------------


async def app_feed(request: Request, application: Application) -> func.HttpResponse:
    """Serve the events of one app to its owner."""
    caller = await _owner(request, application)
    app = _app(request.route("org"), request.route("app"))
    stream, owner = Stream.of_resource(app.resource), scopes.of_owner(app.org, app.app)
    return await _owner_feed(request, application, caller, stream, owner)


async def org_feed(request: Request, application: Application) -> func.HttpResponse:
    """Serve the events of all apps of an org to their owner."""
    caller = await _owner(request, application)
    org = _app(request.route("org"), "any").org
    return await _owner_feed(request, application, caller, Stream.of_org(org), scopes.of_owner(org))


def _app(org: str, name: str) -> AppId:
    """The app of an org. An org named `party` does not exist: its feed would stand where that of parties does."""
    if org.lower() == "party":
        raise errors.not_found()
    return app_id(org, name)


async def _owner(request: Request, application: Application) -> Caller:
    caller = await authentication.bearer(request, application.tokens)
    if caller.kind not in (Kind.SERVICE_OWNER, Kind.ORGANISATION):
        raise errors.forbidden("This feed is for service owners and organisations.")
    return caller


async def _owner_feed(
    request: Request, application: Application, caller: Caller, stream: Stream, owner: tuple[str, ...]
) -> func.HttpResponse:
    query = FeedQuery.of_url(request, Takes.PARTY, application.settings.max_page_size)
    filters = Filters(query.types, query.sources, await _party_subject(application, caller, query))
    verdicts = None if caller.has_scope(*owner) else _verdicts(application, caller, "read")
    return await _serve(application, query, caller, stream=stream, filters=filters, verdicts=verdicts)


# -- Feeds of parties -------------------------------------------------------------------------------------------------


async def party_feed(request: Request, application: Application) -> func.HttpResponse:
    """Serve the app events about one party to end users and their systems."""
    caller = await authentication.bearer(request, application.tokens)
    query = FeedQuery.of_url(request, Takes.PARTY | Takes.APP, application.settings.max_page_size)
    return await _party_feed(application, caller, query)


async def party_feed_by_post(request: Request, application: Application) -> func.HttpResponse:
    """Serve the party feed with its parameters in the body, so that no URL holds a person number."""
    caller = await authentication.bearer(request, application.tokens)
    query = FeedQuery.of_body(request, Takes.PARTY | Takes.APP, application.settings.max_page_size)
    return await _party_feed(application, caller, query)


async def _party_feed(application: Application, caller: Caller, query: FeedQuery) -> func.HttpResponse:
    subject = await _party_subject(application, caller, query)
    if subject is None:
        detail = "Subject must be specified using either query params party or unit or header value person."
        raise bad_field("party", detail)
    filters = Filters(query.types, query.sources, org=query.org, resource=query.app.resource if query.app else None)
    # A person's cursors are sealed separately: if they equalled the party's, they would reveal whose number it is.
    seal = Stream(f"person:{query.person}") if query.person else None
    verdicts = _verdicts(application, caller, "read")
    stream = Stream.of_subject(subject)
    return await _serve(application, query, caller, stream=stream, filters=filters, verdicts=verdicts, seal=seal)


async def _party_subject(application: Application, caller: Caller, query: FeedQuery) -> str | None:
    """The subject `/party/{id}` that `party`, `unit` or `person` names, None without any of them."""
    if query.unit:
        found = await application.register.party_of_unit(query.unit, caller)
        if found is None:
            raise errors.not_found("The unit is not known.")
        return f"/party/{found}"
    if query.person:
        found = await application.register.party_of_person(query.person, caller)
        # No subject holds a control character, so an unknown person looks like a person without events.
        return f"/party/{found}" if found is not None else f"/party/unknown\x1f{query.person}"
    return f"/party/{query.party}" if query.party else None


# -- The feed of any resource -----------------------------------------------------------------------------------------


async def resource_feed(request: Request, application: Application) -> func.HttpResponse:
    """Serve the events of any resource."""
    caller = await authentication.bearer(request, application.tokens)
    subscribes = caller.has_scope(scopes.SUBSCRIBE)
    if not subscribes and not any(scope.startswith(scopes.REPORTEES) for scope in caller.scopes):
        raise errors.forbidden(f"The scope {scopes.SUBSCRIBE} is required.")
    query = FeedQuery.of_url(request, Takes.RESOURCE, application.settings.max_page_size)
    resource = query.resource
    assert resource is not None  # the parameter is required
    reads_all = caller.has_scope(f"{scopes.REPORTEES}{resource.urn.removeprefix(RESOURCE_PREFIX)}")
    if not reads_all and not subscribes:
        raise errors.forbidden("The scope does not cover this resource.")
    filters = Filters(query.types, query.sources, query.subject, query.alternative_subject)
    verdicts = None if reads_all else _verdicts(application, caller, resource.action)
    stream = Stream.of_resource(resource.urn)
    return await _serve(application, query, caller, stream=stream, filters=filters, verdicts=verdicts)


# -- The feed of one instance, without login --------------------------------------------------------------------------


async def instance_feed(request: Request, application: Application) -> func.HttpResponse:
    """Serve the events of one instance without login, for the apps that allow it."""
    party, guid = _instance(request)
    _count_request(f"{party}/{guid}")
    app = await _app_of_instance(application, party, guid)
    query = FeedQuery.of_body(request, Takes.APP, application.settings.max_page_size)
    if query.org not in (None, app.org) or query.app not in (None, app):
        raise errors.not_found()
    filters = Filters(query.types, (_source_pattern(app, party, guid),), org=app.org, resource=app.resource)
    stream = Stream.of_subject(f"/party/{party}")
    return await _serve(
        application, query, _NOBODY, stream=stream, filters=filters, verdicts=None, reduced=_without_content
    )


def _instance(request: Request) -> tuple[str, str]:
    party, guid = request.route("partyId"), request.route("instanceGuid")
    try:
        canonical = str(uuid.UUID(guid))
    except ValueError:
        raise errors.not_found() from None
    if not (party.isascii() and party.isdigit() and len(party) <= LONGEST_PARTY) or canonical != guid.lower():
        raise errors.not_found()
    return party, canonical


def _count_request(instance: str) -> None:
    """Refuse the request if the last 60 of the instance came within a minute."""
    now = time.monotonic()
    recent = array("d", (time for time in _requests.get(instance, ()) if now - time < MINUTE))
    if len(recent) == REQUESTS_A_MINUTE:
        wait = math.ceil(MINUTE - (now - recent[0]))
        raise errors.too_many_requests("This instance was asked for too often.", wait)
    recent.append(now)
    _requests[instance] = recent


async def _app_of_instance(application: Application, party: str, guid: str) -> AppId:
    """The app that the instance belongs to. Any other instance is the same 404, whether or not it exists."""
    stream = Stream.of_subject(f"/party/{party}")
    for app in application.anonymous_apps:
        filters = Filters(sources=(_source_pattern(app, party, guid),), org=app.org, resource=app.resource)
        if (await application.store.read(ReadRequest(stream, filters=filters, limit=1, scan=100_000))).rows:
            return app
    raise errors.not_found()


def _source_pattern(app: AppId, party: str, guid: str) -> str:
    return f"http%://%/{app.org}/{app.app}/instances/{party}/{guid}"


def _without_content(event: bytes) -> bytes:
    """The event's text with the attributes alone that say that it happened."""
    return json_text.keep_members(event.decode(), SHOWN_WITHOUT_LOGIN).encode()


# -- All feeds --------------------------------------------------------------------------------------------------------


def _verdicts(application: Application, caller: Caller, action: str) -> Verdicts:
    return partial(application.authorization.verdicts, caller, action)


async def _serve(
    application: Application,
    query: FeedQuery,
    caller: Caller,
    *,
    stream: Stream,
    filters: Filters,
    verdicts: Verdicts | None,
    seal: Stream | None = None,
    reduced: Callable[[bytes], bytes] | None = None,
) -> func.HttpResponse:
    """Read the page that a query asks for, and wait for events if the client prefers that.

    The caller may read every event if `verdicts` is None. Cursors verify for `seal`, which is the stream by default.
    `reduced` makes the text that is served from the text of an event.
    """
    seal = seal or stream
    request = query.read_request(stream, filters, application.cursors, seal)
    seconds = _wait_seconds(query)
    page, waited = await application.reader.read_or_wait(request, verdicts, seconds, caller.consumer)
    if reduced:
        page = replace(page, events=[reduced(event) async for event in in_slices(page.events)])
    applied = ["handling=strict"] if query.strict else []
    applied += [f"wait={seconds}"] if seconds and waited else []
    headers = {"Preference-Applied": ", ".join(applied)} if applied else {}
    if caller is not _NOBODY:
        headers["Events-Authorized-By"] = "scope" if verdicts is None else "policy"
    return page_response(query, caller, page, application.cursors.encode(page.end, seal), headers)


def _wait_seconds(query: FeedQuery) -> int:
    """How long the request may wait: not at all where no new event can match."""
    return 0 if query.registered_to is not None and query.registered_to < clock.now() else query.wait_seconds
