"""Structured logs: one JSON object a line, with the trace id, without tokens and person numbers."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from typing_extensions import override

from events_core.common import persons, trace

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w.-]+")


class JsonLines(logging.Formatter):
    """Formats a record as a JSON line: time, level, logger, message, traceId, and the fields given as `extra`.

    An exception is logged with its type and code locations, never with its text, which may quote data. The service's
    own records hold no tokens and no person numbers; in records of libraries they are masked.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
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
    """Convert a value to JSON types, and mask tokens and person numbers at any depth."""
    match value:
        case None | bool():
            return value
        case dict():
            return {_masked_text(str(name)): _masked(item) for name, item in value.items()}
        case list() | tuple():
            return [_masked(item) for item in value]
        case int() if abs(value) < 10**10:  # fewer digits than a person number
            return value
        case float() if math.isfinite(value):
            return value
        case _:
            return _masked_text(str(value))


def _masked_text(text: str) -> str:
    return persons.masked(_TOKEN.sub(persons.MASK, text))


def configure_logging() -> None:
    """Give the host's log handlers the JSON format, or log to standard error if there are none."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
    for handler in root.handlers:
        if handler.formatter is None:
            handler.setFormatter(JsonLines())
    logging.getLogger("events_core").setLevel(logging.INFO)
