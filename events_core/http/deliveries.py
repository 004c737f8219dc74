"""Deliveries over HTTP: what became of them, sending them again, and the trace of an event (docs/subscribers.md)."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlencode

import azure.functions as func

from events_core.common.errors import bad_field
from events_core.delivery import replay
from events_core.delivery.attempt import message_id_of
from events_core.delivery.delivery import Attempt, Delivery, Lane, State
from events_core.delivery.subscribe import delivery_id
from events_core.delivery.trace_event import Entry
from events_core.delivery.validate import PATH
from events_core.feeds.stream import Stream
from events_core.http import authentication, bodies, query
from events_core.http.query import Parameters
from events_core.http.request import Request
from events_core.http.response import json_response
from events_core.http.subscriptions import id_of, moment, next_page
from events_core.operations.application import Application

MOST = 1_000


async def list_of_subscription(request: Request, application: Application) -> func.HttpResponse:
    """A page of a subscription's deliveries, in the order of their events; `next` continues it."""
    caller = await authentication.bearer(request, application.tokens)
    number = id_of(request)
    asked = query.from_query(request)
    size, state = query.size(asked, MOST), _state(asked)
    after = _after(asked, number)
    found = await application.subscriber.deliveries_of(caller, number, after, size, state)
    document = {"count": len(found), "deliveries": [_document(each) for each in found]}
    last = message_id_of(found[-1]) if found else asked.one("after")
    following = {"after": last, "size": size, "state": state.value if state else None}
    pairs = urlencode({name: value for name, value in following.items() if value is not None})
    return json_response(document, headers=next_page(f"{request.base_url}{PATH}/{number}/deliveries?{pairs}"))


async def replay_events(request: Request, application: Application) -> func.HttpResponse:
    """Begin to send again; 202, for it takes its time."""
    caller = await authentication.bearer(request, application.tokens)
    number = id_of(request)
    subscription = await application.subscriber.get(caller, number)
    wanted = _wanted(bodies.json_object(request), application, subscription.filter.stream)
    revived = await replay.replay(application.subscriber, caller, number, wanted)
    return json_response({} if revived is None else {"revived": revived}, status=202)


async def trace(request: Request, application: Application) -> func.HttpResponse:
    """What happened to an event, as far as the caller may know."""
    caller = await authentication.bearer_or_platform_app(request, application.tokens)
    source = query.from_query(request).one("source")
    if source is None:
        raise bad_field("source", "The 'source' parameter must be defined.")
    event_id = unquote(request.path.rstrip("/").removesuffix("/trace").rpartition("/")[2])
    entries = await application.tracer.trace(caller, source, event_id)
    return json_response({"entries": [_entry(each) for each in entries]})


def _state(asked: Parameters) -> State | None:
    text = asked.one("state")
    if text is None:
        return None
    try:
        return State(text.lower())
    except ValueError:
        raise bad_field("state", f"The state is one of {', '.join(each.value for each in State)}.") from None


def _after(asked: Parameters, subscription_id: int) -> tuple[int, int]:
    text = asked.one("after")
    if text is None:
        return 0, 0
    found = delivery_id(text)
    if found is None or found[0].subscription != subscription_id:
        raise bad_field("after", "The 'after' parameter must be the id of a delivery of this subscription.")
    lane, position = found
    return position, lane.replay


def _wanted(document: dict[str, Any], application: Application, stream: Stream) -> replay.Wanted:
    """What a body asks to replay: exactly one of `from`, `after`, `dead` and `delivery`; `to` bounds the first two."""
    given = [name for name in ("from", "after", "dead", "delivery") if document.get(name) not in (None, False, "")]
    if len(given) != 1:
        raise bad_field("from", "Exactly one of 'from', 'after', 'dead' and 'delivery' must be defined.")
    if given[0] in ("dead", "delivery") and document.get("to") is not None:
        raise bad_field("to", "The field 'to' goes with 'from' and 'after' only.")
    if document.get("dead") not in (None, False):
        if document["dead"] is not True:
            raise bad_field("dead", "The field 'dead' must be true or false.")
        return replay.Wanted(dead=True)
    texts = _texts(document)
    if "delivery" in texts:
        return replay.Wanted(delivery=_delivery(texts["delivery"]))
    asked = Parameters(texts.items())
    first, last = query.bounds(asked)
    after = asked.one("after")
    cursor = None if after is None else application.cursors.decode(after, stream)
    return replay.Wanted(start=first, cursor=cursor, event_id=after if cursor is None else None, end=last)


def _texts(document: dict[str, Any]) -> dict[str, str]:
    texts = {}
    for name in ("from", "to", "after", "delivery"):
        value = document.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise bad_field(name, f"The field '{name}' must be text.")
        texts[name] = value
    return texts


def _delivery(text: str) -> tuple[Lane, int]:
    found = delivery_id(text)
    if found is None:
        raise bad_field("delivery", "The field 'delivery' must be the id of a delivery of this subscription.")
    return found


def _document(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": message_id_of(delivery),
        "eventId": delivery.event_id,
        "source": delivery.source,
        "state": delivery.state.value,
        "attempts": [_attempt(each) for each in delivery.attempts],
        "nextAttempt": moment(delivery.next_attempt),
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": moment(attempt.at),
        "status": attempt.status,
        "error": attempt.error,
        "durationMs": attempt.duration_ms,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "at": moment(entry.at),
        "activity": entry.activity,
        "subscriptionId": entry.subscription_id,
        "consumer": entry.consumer,
        "status": entry.status,
    }
