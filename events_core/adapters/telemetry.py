"""Structured logs: one JSON object a line, with the trace, without anything that a log must not hold."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from events_core.common import trace

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NEVER = re.compile(r"eyJ[\w-]+\.[\w.-]+|(?<![0-9A-Za-z-])\d{11}(?![0-9A-Za-z-])")
_MASK = "***"


class JsonLines(logging.Formatter):
    """A record as a JSON line: time, level, logger, message, traceId, and the fields given as `extra`.

    Of an exception its type and the places in the code, never its text, which may quote what was being handled.
    Our own records hold no tokens and no person numbers; those of libraries are masked.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if context := trace.current():
            line["traceId"] = context.trace_id
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
            line["at"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(_masked(line))


def _masked(value: object) -> object:
    """The value as JSON has it, without tokens and person numbers, at any depth."""
    match value:
        case None | bool():
            return value
        case dict():
            return {_NEVER.sub(_MASK, str(name)): _masked(each) for name, each in value.items()}
        case list() | tuple():
            return [_masked(each) for each in value]
        case int() if abs(value) < 10**10:  # fewer digits than a person number
            return value
        case float() if math.isfinite(value):
            return value
        case _:
            return _NEVER.sub(_MASK, str(value))


def configure_logging() -> None:
    """Format the handlers that the host has set up, or log to standard error where it has none."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
    for handler in root.handlers:
        if handler.formatter is None:
            handler.setFormatter(JsonLines())
    logging.getLogger("events_core").setLevel(logging.INFO)
