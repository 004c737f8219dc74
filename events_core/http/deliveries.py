"""Deliveries: listing them, sending them again, and the trace of an event (docs/subscribers.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import azure.functions as func

from events_core.common.errors import bad_field
from events_core.delivery import replay
from events_core.delivery.delivery import Attempt, Delivery, State
from events_core.delivery.ports import DeliveryFilter
from events_core.delivery.trace_event import Entry
from events_core.delivery.validate import PATH
from events_core.feeds.stream import PROOF_BYTES, Cursor, CursorCodec, Stream
from events_core.http import authentication, query
from events_core.http.query import Parameters
from events_core.http.request import Request
from events_core.http.response import json_response, next_headers, rfc3339
from events_core.http.subscriptions import id_of, refuse_unknown
from events_core.operations.application import Application

MAX_SIZE = 1_000
_ID = re.compile("[0-9a-f]{32}")
_REPLAYS = ("from", "after", "dead", "delivery", "eventId")
TRACE_BY_PARAMETER = "GET /events/api/v1/trace?id=…&source=…"


async def list_of_subscription(request: Request, application: Application) -> func.HttpResponse:
    """List the deliveries of a subscription in the order of their events, or the newest first. `next` continues."""
    caller = await authentication.bearer(request, application.tokens)
    number = id_of(request)
    parameters = Parameters(request.query)
    size, wanted = query.size(parameters, MAX_SIZE), _filter(parameters)
    cursors, its_list = application.cursors, Stream(f"deliveries:{number}")
    after = _after(parameters, cursors, its_list)
    found = await application.subscriber.deliveries_of(caller, number, after, size, wanted)
    document = {"count": len(found), "deliveries": [_document(delivery) for delivery in found]}
    last = cursors.encode(_cursor(found[-1]), its_list) if found else parameters.one("after")
    repeated = {name: parameters.one(name) for name in ("state", "eventId", "source", "order")}
    following = {"after": last, "size": size, **repeated}
    pairs = urlencode({name: value for name, value in following.items() if value is not None})
    return json_response(document, headers=next_headers(f"{request.base_url}{PATH}/{number}/deliveries?{pairs}"))


async def replay_events(request: Request, application: Application) -> func.HttpResponse:
    """Start a replay. The response is 202, because deliveries are sent later."""
    caller = await authentication.bearer(request, application.tokens)
    number = id_of(request)
    subscription = await application.subscriber.get(caller, number)
    replay_request = _replay_request(request.json_object(), application, subscription.filter.stream)
    revived = await application.replays.begin(caller, number, replay_request)
    return json_response({} if revived is None else {"revived": revived}, status=202)


async def send_test(request: Request, application: Application) -> func.HttpResponse:
    """Send a test event to an endpoint, and return the attempt."""
    caller = await authentication.bearer(request, application.tokens)
    return json_response(_attempt(await application.endpoint_test.send(caller, id_of(request))))


async def trace(request: Request, application: Application) -> func.HttpResponse:
    """Return what happened to an event, limited to what the caller may know."""
    caller = await authentication.bearer_or_platform_app(request, application.tokens)
    parameters = Parameters(request.query)
    event_id, source = _named_event(request, parameters)
    entries = await application.tracer.trace(caller, source, event_id, explain=_flag(parameters, "explain"))
    return json_response({"entries": [_entry(entry) for entry in entries]})


def _named_event(request: Request, parameters: Parameters) -> tuple[str, str | None]:
    """The id and the source of the event that a request names. The source may be missing if the id is a parameter."""
    event_id, source = query.event_id(request, parameters, TRACE_BY_PARAMETER), parameters.one("source")
    if source is None and "id" in request.route_params:
        raise bad_field("source", "The 'source' parameter must be defined.")
    return event_id, source


def _flag(parameters: Parameters, name: str) -> bool:
    text = (parameters.one(name) or "false").lower()
    if text not in ("true", "false"):
        raise bad_field(name, f"The '{name}' parameter must be true or false.")
    return text == "true"


def _filter(parameters: Parameters) -> DeliveryFilter:
    order = (parameters.one("order") or "asc").lower()
    if order not in ("asc", "desc"):
        raise bad_field("order", "The order is asc or desc.")
    return DeliveryFilter(
        _state(parameters), parameters.one("eventId"), parameters.one("source"), newest_first=order == "desc"
    )


def _state(parameters: Parameters) -> State | None:
    text = parameters.one("state")
    if text is None:
        return None
    try:
        return State(text.lower())
    except ValueError:
        raise bad_field("state", f"The state is one of {', '.join(state.value for state in State)}.") from None


def _cursor(delivery: Delivery) -> Cursor:
    """A cursor just after a delivery. Its proof is the number of the replay: rows of a list expire unverified."""
    return Cursor(delivery.position, delivery.lane.replay.to_bytes(PROOF_BYTES))


def _after(parameters: Parameters, cursors: CursorCodec, its_list: Stream) -> tuple[int, int] | None:
    """The position and the replay number of the delivery to start after."""
    text = parameters.one("after")
    if text is None:
        return None
    cursor = cursors.decode(text, its_list)
    if cursor is None:
        raise bad_field("after", "The 'after' parameter must be that of the header 'next' of this list.")
    return cursor.position, int.from_bytes(cursor.proof)


def _replay_request(document: Mapping[str, Any], application: Application, stream: Stream) -> replay.ReplayRequest:
    """The replay that a body asks for: exactly one of `from`, `after`, `dead`, `delivery` and `eventId`.

    `to` bounds a replay from `from` or `after`, and `source` goes with `eventId`.
    """
    refuse_unknown(document, (*_REPLAYS, "to", "source"))
    given = [name for name in _REPLAYS if document.get(name.lower()) not in (None, False, "")]
    if len(given) != 1:
        raise bad_field("from", "Exactly one of 'from', 'after', 'dead', 'delivery' and 'eventId' must be defined.")
    if given[0] not in ("from", "after") and document.get("to") is not None:
        raise bad_field("to", "The field 'to' goes with 'from' and 'after' only.")
    if (given[0] == "eventId") == (document.get("source") in (None, "")):
        raise bad_field("source", "The fields 'eventId' and 'source' go together.")
    if document.get("dead") not in (None, False):
        if document["dead"] is not True:
            raise bad_field("dead", "The field 'dead' must be true or false.")
        return replay.ReplayRequest(dead=True)
    texts = _texts(document)
    if given[0] == "eventId":
        wanted = DeliveryFilter(event_id=texts["eventId"], source=texts["source"], newest_first=True)
        return replay.ReplayRequest(delivery=wanted)
    if "delivery" in texts:
        if not _ID.fullmatch(texts["delivery"]):
            raise bad_field("delivery", "The field 'delivery' must be the id of a delivery of this subscription.")
        return replay.ReplayRequest(delivery=DeliveryFilter(id=texts["delivery"]))
    parameters = Parameters(texts.items())
    first, last = query.bounds(parameters)
    after = parameters.one("after")
    cursor = None if after is None else application.cursors.decode(after, stream)
    return replay.ReplayRequest(start=first, cursor=cursor, event_id=after if cursor is None else None, end=last)


def _texts(document: Mapping[str, Any]) -> dict[str, str]:
    texts = {}
    for name in ("from", "to", "after", "delivery", "eventId", "source"):
        value = document.get(name.lower())
        if value is None:
            continue
        if not isinstance(value, str):
            raise bad_field(name, f"The field '{name}' must be text.")
        texts[name] = value
    return texts


def _document(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "eventId": delivery.event_id if delivery.is_shown else None,
        "source": delivery.source if delivery.is_shown else None,
        "state": delivery.state.value,
        "attempts": [_attempt(attempt) for attempt in delivery.attempts],
        "nextAttempt": rfc3339(delivery.next_attempt),
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": rfc3339(attempt.at),
        "status": attempt.status,
        "error": attempt.error,
        "durationMs": attempt.duration_ms,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "at": rfc3339(entry.at),
        "activity": entry.activity,
        "subscriptionId": entry.subscription_id,
        "deliveryId": entry.delivery_id,
        "consumer": entry.consumer,
        "status": entry.status,
        "attempt": entry.attempt,
        "durationMs": entry.duration_ms,
        "nextAttempt": rfc3339(entry.next_attempt),
        "reason": entry.reason,
    }
