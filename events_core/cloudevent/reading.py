"""Structured and batch mode: from a body to raw events (CloudEvents 1.0.2, JSON format)."""

from __future__ import annotations

from events_core.cloudevent import json_text
from events_core.cloudevent.event import RawEvent
from events_core.common.errors import EventsError, FieldError, bad_request, too_large

MAX_EVENT_BYTES = 256 * 1024
MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH_EVENTS = 100


def read_structured(body: bytes) -> RawEvent:
    """The event that is the body of a structured-mode request.

    Raises:
        EventsError: 413 beyond 256 KiB; 400 when it is not one JSON object.
    """
    check_event_size(len(body))
    text = json_text.decode_utf8(body)
    value, start, end = json_text.parse_whole(text)
    if not isinstance(value, dict):
        raise bad_request("The body must be one event: a JSON object.")
    return RawEvent.of(value, text[start:end].encode())


def read_batch(body: bytes) -> list[RawEvent]:
    """The events of a batch, each with its own text.

    Raises:
        EventsError: 413 beyond 1 MiB, 100 events, or 256 KiB for one of them; 400 when it is not a JSON array of
            at least one object.
    """
    if len(body) > MAX_BATCH_BYTES:
        raise too_large("The batch is larger than 1 MiB.")
    text = json_text.decode_utf8(body)
    at = json_text.skip_blanks(text, 0)
    if not text.startswith("[", at):
        raise bad_request("The body must be a batch of events: a JSON array.")
    events = _elements(text, json_text.skip_blanks(text, at + 1))
    if not events:
        raise bad_request("The batch holds no event.")
    return events


def _elements(text: str, at: int) -> list[RawEvent]:
    """The elements of an array up to its end, from its first; nothing but white space may follow it."""
    events: list[RawEvent] = []
    end_of_array = text.startswith("]", at)
    while not end_of_array:
        if len(events) == MAX_BATCH_EVENTS:
            raise too_large(f"The batch holds more than {MAX_BATCH_EVENTS} events.")
        event, at = _element(text, at, len(events))
        events.append(event)
        at = json_text.skip_blanks(text, at)
        end_of_array = text.startswith("]", at)
        if not end_of_array:
            at = _after_comma(text, at)
    json_text.refuse_more(text, at + 1)
    return events


def _element(text: str, start: int, index: int) -> tuple[RawEvent, int]:
    try:
        value, end = json_text.parse_at(text, start)
        if not isinstance(value, dict):
            raise bad_request("Each element of a batch must be an event: a JSON object.")
        raw = text[start:end].encode()
        check_event_size(len(raw))
    except EventsError as error:
        error.errors = _of_element(index, error)
        raise
    return RawEvent.of(value, raw), end


def _of_element(index: int, error: EventsError) -> list[FieldError]:
    if not error.errors:
        return [FieldError(f"[{index}]", error.detail)]
    return [FieldError(f"[{index}].{fault.field}", fault.detail) for fault in error.errors]


def _after_comma(text: str, at: int) -> int:
    if not text.startswith(",", at):
        raise bad_request(f"The body is not valid JSON: expecting ',' or ']' (char {at}).")
    return json_text.skip_blanks(text, at + 1)


def check_event_size(size: int) -> None:
    """413 when the text of one event, in bytes, is beyond the limit."""
    if size > MAX_EVENT_BYTES:
        raise too_large("The event is larger than 256 KiB.")
