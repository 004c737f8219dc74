"""Structured and batch mode: a body as raw events (CloudEvents 1.0.2, JSON format)."""

from __future__ import annotations

from collections.abc import Iterator

from events_core.cloudevent import json_text
from events_core.cloudevent.event import RawEvent
from events_core.common.errors import EventsError, FieldError, bad_request, too_large

MAX_EVENT_BYTES = 256 * 1024
MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH_EVENTS = 100


def read_structured(body: bytes) -> RawEvent:
    """The event in the body of a structured-mode request.

    Raises:
        EventsError: 413 beyond 256 KiB, 400 if the body is not one JSON object.
    """
    check_event_size(len(body))
    text = json_text.decode_utf8(body)
    value, start, end = json_text.parse_whole(text)
    if not isinstance(value, dict):
        raise bad_request("The body must be one event: a JSON object.")
    return RawEvent.of(value, text[start:end])


def read_batch(body: bytes) -> Iterator[RawEvent]:
    """The events of a batch, each with its own text, one by one: a caller can let others run in between.

    Raises:
        EventsError: 413 beyond 1 MiB, beyond 100 events, or for an event beyond 256 KiB; 400 if the body is not a JSON
            array of objects.
    """
    if len(body) > MAX_BATCH_BYTES:
        raise too_large("The batch is larger than 1 MiB.")
    text = json_text.decode_utf8(body)
    at = json_text.skip_blanks(text, 0)
    if not text.startswith("[", at):
        raise bad_request("The body must be a batch of events: a JSON array.")
    at = json_text.skip_blanks(text, at + 1)
    if text.startswith("]", at):
        json_text.refuse_more(text, at + 1)
        return
    yield from _elements(text, at)


def _elements(text: str, at: int) -> Iterator[RawEvent]:
    """The events of an array whose first element begins at `at`. Only white space may follow the array."""
    for index in range(MAX_BATCH_EVENTS):
        event, at = _element(text, at, index)
        yield event
        at = json_text.skip_blanks(text, at)
        if text.startswith("]", at):
            json_text.refuse_more(text, at + 1)
            return
        if not text.startswith(",", at):
            raise bad_request(f"The body is not valid JSON: expecting ',' or ']' (char {at}).")
        at = json_text.skip_blanks(text, at + 1)
    raise too_large(f"The batch holds more than {MAX_BATCH_EVENTS} events.")


def _element(text: str, start: int, index: int) -> tuple[RawEvent, int]:
    try:
        value, end = json_text.parse_at(text, start)
        if not isinstance(value, dict):
            raise bad_request("Each element of a batch must be an event: a JSON object.")
        check_event_size(len(text[start:end].encode()))
    except EventsError as error:
        faults = [FieldError(f"[{index}].{fault.field}", fault.detail) for fault in error.errors]
        error.errors = faults or [FieldError(f"[{index}]", error.detail)]
        raise
    return RawEvent.of(value, text[start:end]), end


def check_event_size(size: int) -> None:
    """Raise 413 if the text of one event, whose size is given in bytes, is too large."""
    if size > MAX_EVENT_BYTES:
        raise too_large("The event is larger than 256 KiB.")
