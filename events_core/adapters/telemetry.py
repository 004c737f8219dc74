"""Structured logs: one JSON object a line, with the trace, without anything that a log must not hold."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson

from events_core import trace

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NEVER = re.compile(r"eyJ[\w-]+\.[\w.-]+|(?<![0-9A-Za-z-])\d{11}(?![0-9A-Za-z-])")
_MASK = "***"


class JsonLines(logging.Formatter):
    """A record as a JSON line: time, level, logger, message, traceId, and the fields given as `extra`.

    Of an exception its type and the places in the code, never its text, which may quote what was being handled.
    Our own messages hold no tokens and no person numbers; those of libraries are masked.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _NEVER.sub(_MASK, record.getMessage()),
        }
        if context := trace.current():
            line["traceId"] = context.trace_id
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
            line["at"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return orjson.dumps(line, default=str).decode()


def configure_logging() -> None:
    """Format the handlers that the host has set up, or log to standard error where it has none."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
    for handler in root.handlers:
        if handler.formatter is None:
            handler.setFormatter(JsonLines())
    logging.getLogger("events_core").setLevel(logging.INFO)
