"""Comparison with the SDK `cloudevents`, where it follows the specification."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import http
from cloudevents.core.exceptions import CloudEventValidationError
from hypothesis import given

from events_core.cloudevent import RawEvent, read_binary, read_structured, validate
from tests.cloudevent.samples import body, event, events, instants, is_bad_request

JSON = {"content-type": "application/cloudevents+json"}


def read_by_sdk(text: bytes) -> BaseCloudEvent:
    """The event that the SDK reads from a structured-mode body."""
    return http.from_structured_event(http.HTTPMessage(JSON, text))


def attributes_of(raw: RawEvent) -> dict[str, Any]:
    """The attributes in the types of the SDK, whose time is a datetime."""
    time = dt.datetime.fromisoformat(str(raw.attributes["time"]).upper())
    return {**raw.attributes, "time": time}


@given(events(), instants)
def test_the_sdk_reads_the_same_attributes(members: dict[str, Any], time: str) -> None:
    """The SDK accepts every event that the service accepts, and finds the same attributes and data."""
    raw = read_structured(body({**members, "time": time}))
    found = read_by_sdk(validate(raw).json)
    assert found.get_attributes() == attributes_of(raw)
    assert found.get_data() == members.get("data")


@given(events(), instants)
def test_an_event_that_the_sdk_writes_in_binary_mode_is_read(members: dict[str, Any], time: str) -> None:
    """Attributes and data stay the same."""
    plain = {name: str(value) for name, value in members.items() if name != "data"}
    text = body({**plain, "time": time, "datacontenttype": "application/json", "data": {"a": members.get("data")}})
    message = http.to_binary_event(read_by_sdk(text))
    raw = read_binary({name.lower(): value for name, value in message.headers.items()}, message.body)
    assert attributes_of(raw) == attributes_of(read_structured(text))
    assert json.loads(validate(raw).json)["data"] == {"a": members.get("data")}


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ""} for name in ("id", "source", "type", "subject", "datacontenttype", "dataschema")),
        *({name: 1} for name in ("id", "source", "type", "subject", "datacontenttype", "dataschema")),
        {"my-ext": "a"},
        {"Ext": "a"},
        {"time": "2026-11-16T18:00:00"},
    ],
    ids=repr,
)
def test_an_event_that_the_sdk_refuses_is_refused(changes: dict[str, object]) -> None:
    """Both refuse empty and mistyped attributes, invalid names and times without a zone."""
    text = body(event(**changes))
    with pytest.raises(CloudEventValidationError):
        read_by_sdk(text)
    assert is_bad_request(lambda: validate(read_structured(text)))
