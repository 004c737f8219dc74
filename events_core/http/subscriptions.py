"""Subscriptions: creating, reading, changing and ending them (docs/subscribers.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlencode

import azure.functions as func

from events_core.common import errors
from events_core.common.errors import bad_field, shown
from events_core.delivery.persons import shown_to_others
from events_core.delivery.rules import SubscriptionRequest
from events_core.delivery.subscribe import Change
from events_core.delivery.subscription import CLOUD_EVENTS, JSON, EventFilter, Subscription
from events_core.delivery.validate import PATH
from events_core.feeds.publish import PLATFORM
from events_core.http import authentication, query
from events_core.http.query import Parameters
from events_core.http.request import Request
from events_core.http.response import json_response, next_headers, rfc3339
from events_core.operations import audit
from events_core.operations.application import Application

MAX_LENGTH = 2_048
DEFAULT_SIZE = 1_000
_FIELDS = {
    "endpoint": "endPoint",
    "source": "sourceFilter",
    "subject": "subjectFilter",
    "alternative_subject": "alternativeSubjectFilter",
    "resource": "resourceFilter",
    "type": "typeFilter",
}
_TAKEN = (*_FIELDS.values(), "includeSubunits", "contentType")
_CHANGEABLE = ("paused", "endPoint", "contentType")
_READ_ONLY = (
    "id",
    "consumer",
    "createdBy",
    "created",
    "validated",
    "validation",
    "paused",
    "disabled",
    "endpointPausedUntil",
    "secret",
)
"""The members that an answer adds. A request may repeat them, with any value."""


async def create(request: Request, application: Application) -> func.HttpResponse:
    """Create a subscription, or validate the one that stands. Only a new one shows its secret."""
    caller = await authentication.bearer(request, application.tokens)
    subscribed = await application.subscriber.subscribe(
        caller, replace(_subscription_request(request.json_object()), base_url=request.base_url)
    )
    subscription = subscribed.subscription
    document = await _document(subscription, application)
    location = f"{request.base_url}{PATH}/{subscription.id}"
    headers = {"Location": location, "Cache-Control": "no-store"}
    secret = {} if subscribed.secret is None else {"secret": subscribed.secret}
    return json_response(document | secret, status=201, headers=headers)


async def list_own(request: Request, application: Application) -> func.HttpResponse:
    """List the caller's subscriptions by id. `next` is present if the list goes on."""
    caller = await authentication.bearer(request, application.tokens)
    parameters = Parameters(request.query)
    size = DEFAULT_SIZE if parameters.one("size") is None else query.size(parameters, DEFAULT_SIZE)
    after = query.number(parameters, "after") or 0
    found = await application.subscriber.list(caller, after, size + 1)
    found, more = found[:size], found[size:]
    document = {
        "count": len(found),
        "subscriptions": [await _document(subscription, application) for subscription in found],
    }
    if not more:
        return json_response(document)
    following = urlencode({"after": found[-1].id, "size": size})
    return json_response(document, headers=next_headers(f"{request.base_url}{PATH}?{following}"))


async def get(request: Request, application: Application) -> func.HttpResponse:
    """Return one of the caller's subscriptions."""
    caller = await authentication.bearer(request, application.tokens)
    return json_response(await _document(await application.subscriber.get(caller, id_of(request)), application))


async def change(request: Request, application: Application) -> func.HttpResponse:
    """Pause, resume or move a subscription, or change its content type."""
    caller = await authentication.bearer(request, application.tokens)
    number = id_of(request)
    wanted = _change(request.json_object())
    changed = await application.subscriber.change(caller, number, wanted)
    return json_response(await _document(changed, application))


async def delete(request: Request, application: Application) -> func.HttpResponse:
    """End a subscription."""
    caller = await authentication.bearer(request, application.tokens)
    await application.subscriber.delete(caller, id_of(request))
    return func.HttpResponse(b"", status_code=200)


async def validate(request: Request, application: Application) -> func.HttpResponse:
    """Mark an endpoint as validated. Only the platform may do this."""
    caller = await authentication.platform_app(request, application.tokens)
    if not caller.consumer.startswith(f"/app/{PLATFORM}/"):
        raise errors.forbidden("Only the platform may validate a subscription.")
    confirmed = await application.subscriber.confirm(id_of(request))
    return json_response(await _document(confirmed, application, shown_to_others(confirmed.filter)))


async def rotate_secret(request: Request, application: Application) -> func.HttpResponse:
    """Replace the secret of a subscription. The response is the only one that shows it."""
    caller = await authentication.bearer(request, application.tokens)
    number = id_of(request)
    secret = await application.subscriber.rotate_secret(caller, number)
    audit.record("rotate-secret", caller.consumer, subscriptionId=number)
    return json_response({"secret": secret}, headers={"Cache-Control": "no-store"})


def id_of(request: Request) -> int:
    """The id of the subscription in the route.

    Raises:
        EventsError: NOT_FOUND if the text is not a number, because no subscription has such an id.
    """
    text = request.route("id")
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise errors.not_found("There is no such subscription.")
    return int(text)


async def _document(
    subscription: Subscription, application: Application, filters: EventFilter | None = None
) -> dict[str, Any]:
    """A subscription as JSON: for its consumer, or for others with the `filters` that they may see."""
    filters, validation = filters or application.subscriber.written(subscription), subscription.validation
    return {
        "id": subscription.id,
        "endPoint": subscription.endpoint,
        "sourceFilter": filters.source,
        "subjectFilter": filters.subject,
        "alternativeSubjectFilter": filters.alternative_subject,
        "resourceFilter": filters.resource,
        "typeFilter": filters.type,
        "includeSubunits": filters.include_subunits,
        "consumer": subscription.consumer,
        "createdBy": subscription.created_by,
        "created": rfc3339(subscription.created),
        "validated": validation.validated,
        "validation": {
            "attempts": validation.tries,
            "at": rfc3339(validation.at),
            "status": validation.status,
            "error": validation.error,
            "nextAttempt": rfc3339(validation.next_try),
        },
        "paused": subscription.paused,
        "disabled": subscription.disabled,
        "contentType": subscription.content_type,
        "endpointPausedUntil": rfc3339(await application.subscriber.paused_until(subscription)),
    }


def _subscription_request(document: Mapping[str, Any]) -> SubscriptionRequest:
    """The subscription that a body asks for."""
    refuse_unknown(document, (*_TAKEN, *_READ_ONLY))
    subunits = document.get("includesubunits")
    if not (subunits is None or isinstance(subunits, bool)):
        raise bad_field("includeSubunits", "The field 'includeSubunits' must be true or false.")
    texts = {name: _text(document, field) for name, field in _FIELDS.items()}
    return SubscriptionRequest(**texts, include_subunits=bool(subunits), content_type=_content_type(document))


def _change(document: Mapping[str, Any]) -> Change:
    """The change that a body asks for. A member that is null counts as absent."""
    refuse_unknown(document, _CHANGEABLE)
    paused = document.get("paused")
    if not (paused is None or isinstance(paused, bool)):
        raise bad_field("paused", "The field 'paused' must be true or false.")
    wanted = Change(paused, _text(document, "endPoint"), _content_type(document))
    if wanted == Change():
        raise bad_field("paused", "At least one of 'paused', 'endPoint' and 'contentType' must be defined.")
    return wanted


def refuse_unknown(document: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse a body with a member that is not known: an ignored filter would let everything through."""
    names = {name.lower(): name for name in known}
    for name in document:
        if name not in names:
            nearest = [names[close] for close in get_close_matches(name, names, 1)]
            hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
            raise bad_field(name, f"The field '{shown(name)}' is not known.{hint}")


def _content_type(document: Mapping[str, Any]) -> str | None:
    """The media type of deliveries that a body asks for, None if it asks for none."""
    text = _text(document, "contentType")
    if text is not None and text.lower() not in (CLOUD_EVENTS, JSON):
        raise bad_field("contentType", f"The field 'contentType' must be {CLOUD_EVENTS} or {JSON}.")
    return text and text.lower()


def _text(document: Mapping[str, Any], field: str) -> str | None:
    """The text of a field. An empty text counts as absent."""
    value = document.get(field.lower())
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_LENGTH or not value.isprintable():
        raise bad_field(field, f"The field '{field}' must be text of at most {MAX_LENGTH:,} printable characters.")
    return value
