"""The feed of one instance without login, for apps that allow it (docs/consumers.md, "One instance, no login")."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections import deque

import azure.functions as func
import orjson
from cachetools import TTLCache

from events_core.access.identity import Caller, Kind
from events_core.access.names import AppId
from events_core.common import errors
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import Filters, Stream
from events_core.http import feeds, query
from events_core.http.page import Feed, Link
from events_core.http.request import Request
from events_core.operations.application import Application

REQUESTS_A_MINUTE = 60
MINUTE = 60.0
SHOWN = ("specversion", "id", "source", "type", "time")
_NOBODY = Caller(Kind.NONE, "")
_answered: TTLCache[str, deque[float]] = TTLCache(maxsize=100_000, ttl=MINUTE)


async def instance_feed(request: Request, application: Application) -> func.HttpResponse:
    """What happened to one instance: of each event only what says that it happened."""
    party, guid = _instance(request)
    _count(f"{party}/{guid}")
    app = await _app_of_instance(application, party, guid)
    asked = feeds.posted(request)
    window = query.window(asked, application.settings.max_page_size)
    org, named = query.app(asked)
    if org not in (None, app.org) or named not in (None, app):
        raise errors.not_found()
    filters = Filters(asked.many("type", "eventType"), (_source(app, party, guid),), org=app.org, resource=app.resource)
    stream = Stream.of_subject(f"/party/{party}")
    feed = Feed(window, stream, filters, None, _NOBODY, Link.of_post(request), shown=_shown)
    return await feeds.answer(request, application, feed)


def _instance(request: Request) -> tuple[str, str]:
    party, guid = request.route("partyId"), request.route("instanceGuid")
    try:
        plain = str(uuid.UUID(guid))
    except ValueError:
        raise errors.not_found() from None
    if not (party.isascii() and party.isdigit()) or plain != guid.lower():
        raise errors.not_found()
    return party, plain


def _count(instance: str) -> None:
    """Refuse the request when 60 were answered within the last minute."""
    now = time.monotonic()
    answered = _answered.setdefault(instance, deque(maxlen=REQUESTS_A_MINUTE))
    if len(answered) == REQUESTS_A_MINUTE and now - answered[0] < MINUTE:
        wait = math.ceil(MINUTE - (now - answered[0]))
        raise errors.too_many_requests("This instance was asked for too often.", wait)
    answered.append(now)
    _answered[instance] = answered


async def _app_of_instance(application: Application, party: str, guid: str) -> AppId:
    """The app without login that the instance is of; the same 404 for every other instance, existing or not."""
    for app in application.anonymous_apps:
        filters = Filters(sources=(_source(app, party, guid),), org=app.org, resource=app.resource)
        request = ReadRequest(Stream.of_subject(f"/party/{party}"), filters=filters, limit=1, scan=100_000)
        if (await application.store.read(request)).rows:
            return app
    raise errors.not_found()


def _source(app: AppId, party: str, guid: str) -> str:
    return f"http%://%/{app.org}/{app.app}/instances/{party}/{guid}"


def _shown(event: bytes) -> bytes:
    attributes = json.loads(event, parse_int=str, parse_float=str)  # numbers of any size: what is shown has none
    return orjson.dumps({name: attributes[name] for name in SHOWN if attributes.get(name) is not None})
