"""Subscriptions and deliveries as JSON documents, the same in every store. Each store keeps the version by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from events_core.delivery.delivery import Attempt, Delivery, Lane, State
from events_core.delivery.subscription import EndpointPause, EventFilter, SealedSecrets, Subscription, Validation
from events_core.feeds.stream import Stream

Document = dict[str, Any]


def document_of_subscription(subscription: Subscription) -> Document:
    """A subscription as a document."""
    document = asdict(subscription)
    del document["version"]
    return document


def subscription_of(document: Mapping[str, Any], version: str) -> Subscription:
    """The subscription in a document."""
    values = dict(document)
    values["filter"] = EventFilter(**values["filter"])
    values["secrets"] = SealedSecrets(**values["secrets"])
    values["validation"] = Validation(**values["validation"])
    values["endpoint_pause"] = EndpointPause(**values.get("endpoint_pause", {}))
    values |= {name: tuple(values.get(name, ())) for name in ("moves", "tests")}
    return Subscription(**values, version=version)


def document_of_delivery(delivery: Delivery) -> Document:
    """A delivery as a document. Only an undecidable delivery has the member `undecidable`."""
    document = {
        "deliveryId": delivery.id,
        "lane": str(delivery.lane),
        "stream": delivery.stream.name,
        "position": delivery.position,
        "eventId": delivery.event_id,
        "source": delivery.source,
        "size": delivery.size,
        "order": delivery.order,
        "registered": delivery.registered,
        "recorded": delivery.recorded,
        "state": delivery.state.value,
        "attempts": [[attempt.at, attempt.status, attempt.error, attempt.duration_ms] for attempt in delivery.attempts],
        "tries": delivery.tries,
        "nextAttempt": delivery.next_attempt,
        "permit": delivery.permit,
        "decided": delivery.decided,
        "unsure": delivery.unsure,
        "settled": delivery.settled,
    }
    return document | {"undecidable": delivery.undecidable} if delivery.undecidable else document


def delivery_of(document: Mapping[str, Any], version: str) -> Delivery:
    """The delivery in a document."""
    lane = Lane.parse(document["lane"])
    assert lane is not None  # `document_of_delivery` wrote it
    return Delivery(
        id=document["deliveryId"],
        lane=lane,
        stream=Stream(document["stream"]),
        position=document["position"],
        event_id=document["eventId"],
        source=document["source"],
        size=document["size"],
        order=document["order"],
        registered=document["registered"],
        recorded=document["recorded"],
        state=State(document["state"]),
        attempts=tuple(Attempt(*attempt) for attempt in document["attempts"]),
        tries=document["tries"],
        next_attempt=document["nextAttempt"],
        permit=document["permit"],
        decided=document["decided"],
        undecidable=document.get("undecidable", 0),
        unsure=document["unsure"],
        settled=document["settled"],
        version=version,
    )
