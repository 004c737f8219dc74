"""CloudEvents 1.0, strictly: structured, batch and binary mode; an event keeps its own JSON text. Pure."""

from events_core.cloudevent.binary import read_binary
from events_core.cloudevent.event import CloudEvent, RawEvent
from events_core.cloudevent.reading import read_batch, read_structured
from events_core.cloudevent.rules import validate

__all__ = ["CloudEvent", "RawEvent", "read_batch", "read_binary", "read_structured", "validate"]
