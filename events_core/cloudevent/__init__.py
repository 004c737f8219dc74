"""CloudEvents 1.0 in structured, batch and binary mode, parsed strictly. An event keeps its own JSON text."""

from events_core.cloudevent.binary import read_binary
from events_core.cloudevent.event import CloudEvent, RawEvent
from events_core.cloudevent.reading import read_batch, read_structured
from events_core.cloudevent.rules import validate

__all__ = ["CloudEvent", "RawEvent", "read_batch", "read_binary", "read_structured", "validate"]
