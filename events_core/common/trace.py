"""The W3C trace context of the current request (Trace Context, section 3)."""

from __future__ import annotations

import random
import re
from contextvars import ContextVar
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """A span of a trace. `trace_id` has 32 hexadecimal digits, `span_id` 16 and `flags` 2."""

    trace_id: str
    span_id: str
    flags: str = "00"

    @property
    def traceparent(self) -> str:
        """The header that hands the trace to a service that this one calls."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


_random = random.Random().getrandbits  # noqa: S311 - ids must be unique, not secret
_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def begin(traceparent: str | None) -> Trace:
    """Continue the trace that the header names, or begin a new one, and make it the current trace."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    trace_id, flags = match.groups() if match else (f"{_random(128):032x}", "00")
    trace = Trace(trace_id, f"{_random(64):016x}", flags)
    _current.set(trace)
    return trace


def current() -> Trace | None:
    """The trace of the current request, None outside a request."""
    return _current.get()
