"""Log records as JSON lines."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any

import pytest

from events_core.adapters.telemetry import JsonLines, configure_logging
from events_core.common import trace
from local.host import ROOT
from tests.support.issuer import SigningKey

PERSON = "01899699552"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def record(message: str, *args: object, **extra: Any) -> logging.LogRecord:
    """A record of a logger named `lib`."""
    return logging.getLogger("lib").makeRecord("lib", logging.WARNING, "file.py", 1, message, args, None, extra=extra)


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    """The formatted record, parsed."""
    text = JsonLines().format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def failure(error: Exception) -> logging.LogRecord:
    """The record of a caught exception."""
    with pytest.raises(type(error)) as caught:
        failing(error)
    exception = (caught.type, caught.value, caught.tb)
    return logging.getLogger("lib").makeRecord("lib", logging.ERROR, "file.py", 1, "failed", (), exception)


def failing(error: Exception) -> None:
    """Raise the error from a function with a name of its own."""
    raise error


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger without handlers; handlers and levels are restored."""
    root, ours = logging.getLogger(), logging.getLogger("events_core")
    handlers, level = root.handlers[:], ours.level
    root.handlers[:] = []
    yield root
    root.handlers[:] = handlers
    ours.setLevel(level)


def test_a_record_is_one_json_object() -> None:
    """It holds the time in UTC, level, logger, message and the extra fields."""
    line = line_of(record("%s happened", "it", attempts=3))
    time = datetime.fromisoformat(line.pop("time"))
    assert time.utcoffset() == UTC.utcoffset(None)
    assert line == {"level": "WARNING", "logger": "lib", "message": "it happened", "attempts": 3}


def test_a_line_holds_the_trace_id_of_its_request() -> None:
    """The trace id comes from the current context."""
    context = copy_context()
    context.run(trace.begin, f"00-{TRACE}-b7ad6b7169203331-01")
    assert context.run(line_of, record("a"))["traceId"] == TRACE


@pytest.mark.parametrize("message", ["a\nb", 'quote " and \\', "\x00\x1b[31m", "blåbær 😀", "half \ud800 a pair"])
def test_any_message_is_one_line(message: str) -> None:
    """Line breaks, quotes, control characters and broken text cannot split or drop a line."""
    assert line_of(record(message))["message"] == message


@pytest.mark.parametrize("value", [2**70, {1, 2}, object(), b"x", "\ud800", {"a": {1: 2}}, float("nan")])
def test_any_extra_is_written(value: object) -> None:
    """A value without a JSON form is written as text."""
    assert "value" in line_of(record("a", value=value))


def test_tokens_of_libraries_are_masked() -> None:
    """A JWT is masked anywhere in a message."""
    token = SigningKey.ec("test").sign({"sub": "somebody"})
    line = line_of(record("GET /?token=%s failed: Bearer %s", token, token))
    assert line["message"] == "GET /?token=*** failed: Bearer ***"


@pytest.mark.parametrize("text", [PERSON, f"pid={PERSON},", f"/person/{PERSON}/x", f"identifier-no:{PERSON}"])
def test_person_numbers_of_libraries_are_masked(text: str) -> None:
    """A word of eleven digits is masked."""
    assert PERSON not in line_of(record("said %s", text))["message"]


@pytest.mark.parametrize("text", ["1234567890", "123456789012", f"{TRACE}", "6fb3738d-6372-48e3-a2d2-001234567890"])
def test_other_numbers_are_not_masked(text: str) -> None:
    """Ids, counts and trace ids stay readable."""
    assert text in line_of(record("said %s", text))["message"]


def test_extras_are_masked_too() -> None:
    """Tokens and person numbers are masked in fields, at any depth."""
    token = SigningKey.ec("test").sign({"sub": "somebody"})
    text = JsonLines().format(record("a", token=token, person=PERSON, nested={PERSON: [PERSON, int("1" + PERSON[1:])]}))
    assert not any(secret in text for secret in (PERSON, PERSON[1:], token))
    assert json.loads(text)["person"] == "***"


def test_an_exception_is_logged_by_type_and_code_locations() -> None:
    """Its text, its cause's text and its notes may quote data, so they are not logged."""
    error = ValueError("secret")
    error.__cause__ = KeyError("secret too")
    error.add_note("secret note")
    line = line_of(failure(error))
    assert line["exception"] == "ValueError"
    assert line["at"][-1].endswith(" failing")
    assert "secret" not in json.dumps({**line, "at": []})


def test_an_exception_group_is_logged_by_its_own_type() -> None:
    """The texts of its members are not logged."""
    line = line_of(failure(ExceptionGroup("secret", [ValueError("secret")])))
    assert (line["exception"], "secret" in json.dumps({**line, "at": []})) == ("ExceptionGroup", False)


def test_a_record_without_exception_has_no_exception_field() -> None:
    """`exc_info` may be a tuple of None."""
    empty = logging.getLogger("lib").makeRecord("lib", logging.ERROR, "f", 1, "a", (), (None, None, None))
    assert "exception" not in line_of(empty)


def test_handlers_of_the_host_get_the_json_format(root: logging.Logger) -> None:
    """A handler without a format writes JSON lines; a handler with a format keeps it."""
    bare, own = logging.NullHandler(), logging.NullHandler()
    own.setFormatter(logging.Formatter("%(message)s"))
    root.handlers += [bare, own]
    configure_logging()
    assert (type(bare.formatter), type(own.formatter)) == (JsonLines, logging.Formatter)


def test_without_handlers_lines_go_to_standard_error(root: logging.Logger) -> None:
    """One handler is added, and only once."""
    root.handlers[:] = []
    configure_logging()
    configure_logging()
    [handler] = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    assert handler.stream is sys.stderr
    assert isinstance(handler.formatter, JsonLines)


def test_the_services_own_loggers_log_from_info_on(root: logging.Logger) -> None:
    """The host sets the level of libraries."""
    level = root.level
    configure_logging()
    assert (logging.getLogger("events_core").level, root.level) == (logging.INFO, level)


def test_a_process_writes_json_lines_to_standard_error() -> None:
    """Records below INFO are left out."""
    code = (
        "import logging; from events_core.adapters.telemetry import configure_logging as c; c();"
        "log = logging.getLogger('events_core.x'); log.info('one'); log.debug('two'); log.error('three')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["one", "three"]
