"""Subscriptions over HTTP: a JSON object in, the subscription out (docs/subscribers.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import azure.functions as func

from events_core.common import clock, errors
from events_core.common.errors import bad_field
from events_core.delivery.rules import Wanted
from events_core.delivery.subscription import Subscription
from events_core.delivery.validate import PATH
from events_core.feeds.publish import PLATFORM
from events_core.http import authentication, bodies, query
from events_core.http.request import Request
from events_core.http.response import json_response
from events_core.operations.application import Application

LONGEST = 2_048
DEFAULT_SIZE = 1_000
_FIELDS = {
    "endpoint": "endPoint",
    "source": "sourceFilter",
    "subject": "subjectFilter",
    "alternative_subject": "alternativeSubjectFilter",
    "resource": "resourceFilter",
    "type": "typeFilter",
}


async def create(request: Request, application: Application) -> func.HttpResponse:
    """Make a subscription: 201 with its secret, or 200 when it stands already."""
    caller = await authentication.bearer(request, application.tokens)
    wanted = _wanted(bodies.json_object(request))
    subscribed = await application.subscriber.subscribe(caller, wanted)
    subscription = subscribed.subscription
    document = document_of(subscription)
    if subscribed.secret is None:
        return json_response(document)
    location = f"{request.base_url}{PATH}/{subscription.id}"
    headers = {"Location": location, "Cache-Control": "no-store"}
    return json_response(document | {"secret": subscribed.secret}, status=201, headers=headers)


async def list_own(request: Request, application: Application) -> func.HttpResponse:
    """The caller's subscriptions, by id; `next` is there when there are more."""
    caller = await authentication.bearer(request, application.tokens)
    asked = query.from_query(request)
    size = DEFAULT_SIZE if asked.one("size") is None else query.size(asked, DEFAULT_SIZE)
    after = query.number(asked, "after") or 0
    found = await application.subscriber.list(caller, after, size)
    document = {"count": len(found), "subscriptions": [document_of(each) for each in found]}
    if len(found) < size:
        return json_response(document)
    following = urlencode({"after": found[-1].id, "size": size})
    return json_response(document, headers=next_page(f"{request.base_url}{PATH}?{following}"))


async def get(request: Request, application: Application) -> func.HttpResponse:
    """One of the caller's subscriptions."""
    caller = await authentication.bearer(request, application.tokens)
    return json_response(document_of(await application.subscriber.get(caller, id_of(request))))


async def change(request: Request, application: Application) -> func.HttpResponse:
    """Pause a subscription, or resume it."""
    caller = await authentication.bearer(request, application.tokens)
    number = id_of(request)
    paused = bodies.json_object(request).get("paused")
    if not isinstance(paused, bool):
        raise bad_field("paused", "The field 'paused' must be true or false.")
    return json_response(document_of(await application.subscriber.pause(caller, number, paused=paused)))


async def delete(request: Request, application: Application) -> func.HttpResponse:
    """End a subscription."""
    caller = await authentication.bearer(request, application.tokens)
    await application.subscriber.delete(caller, id_of(request))
    return func.HttpResponse(b"", status_code=200)


async def validate(request: Request, application: Application) -> func.HttpResponse:
    """Count an endpoint as validated; the platform alone may say so."""
    caller = await authentication.platform_app(request, application.tokens)
    if not caller.consumer.startswith(f"/app/{PLATFORM}/"):
        raise errors.forbidden("Only the platform may validate a subscription.")
    return json_response(document_of(await application.subscriber.confirm(id_of(request))))


async def rotate_secret(request: Request, application: Application) -> func.HttpResponse:
    """A new secret, shown once."""
    caller = await authentication.bearer(request, application.tokens)
    secret = await application.subscriber.rotate_secret(caller, id_of(request))
    return json_response({"secret": secret}, headers={"Cache-Control": "no-store"})


def id_of(request: Request) -> int:
    """The subscription's id in the route.

    Raises:
        EventsError: NOT_FOUND when it is no number: nothing has such an id.
    """
    text = request.route("id")
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise errors.not_found("There is no such subscription.")
    return int(text)


def next_page(url: str) -> Mapping[str, str]:
    """The headers that say where a list goes on."""
    return {"next": url, "Link": f'<{url}>; rel="next"'}


def document_of(subscription: Subscription) -> dict[str, Any]:
    """A subscription as its consumer sees it."""
    wanted, validation = subscription.filter, subscription.validation
    return {
        "id": subscription.id,
        "endPoint": subscription.endpoint,
        "sourceFilter": wanted.source,
        "subjectFilter": wanted.subject,
        "alternativeSubjectFilter": wanted.alternative_subject,
        "resourceFilter": wanted.resource,
        "typeFilter": wanted.type,
        "includeSubunits": wanted.include_subunits,
        "consumer": subscription.consumer,
        "createdBy": subscription.created_by,
        "created": moment(subscription.created),
        "validated": validation.validated,
        "validation": {
            "attempts": validation.tries,
            "at": moment(validation.at),
            "status": validation.status,
            "error": validation.error,
            "nextAttempt": moment(validation.next_try),
        },
        "paused": subscription.paused,
        "disabled": subscription.disabled,
    }


def moment(at: int | None) -> str | None:
    """Microseconds since the epoch as RFC 3339, in UTC."""
    return None if at is None else clock.to_rfc3339(at)


def _wanted(document: Mapping[str, Any]) -> Wanted:
    subunits = document.get("includesubunits")
    if not (subunits is None or isinstance(subunits, bool)):
        raise bad_field("includeSubunits", "The field 'includeSubunits' must be true or false.")
    texts = {name: _text(document, field) for name, field in _FIELDS.items()}
    return Wanted(**texts, include_subunits=bool(subunits))


def _text(document: Mapping[str, Any], field: str) -> str | None:
    """A field's text; an empty one counts as absent."""
    value = document.get(field.lower())
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        raise bad_field(field, f"The field '{field}' must be text of at most {LONGEST:,} printable characters.")
    return value
