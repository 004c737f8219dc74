"""Binary mode: `ce-` headers and a body as a raw event (CloudEvents 1.0.2, HTTP binding, section 3.1)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from events_core.cloudevent import json_text, syntax
from events_core.cloudevent.event import ATTRIBUTE_NAME, RawEvent
from events_core.cloudevent.reading import check_event_size
from events_core.common.errors import EventsError, FieldError, bad_request, shown, unsupported_media_type

_PREFIX = "ce-"
_HEADER_VALUE = re.compile(r'(?:[\t !#-~]|"(?:[\t !#-\[\]-~]|\\[\t -~])*+")*+')
_QUOTED_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def read_binary(headers: Mapping[str, str], body: bytes) -> RawEvent:
    """The event of a binary-mode request, whose header names are in lower case.

    A JSON body becomes `data` and keeps its text. Text and XML in UTF-8 become a string, any other body becomes
    `data_base64`. Without a body the event has no data; a Content-Type is kept all the same.

    Raises:
        EventsError: 413 for an event beyond 256 KiB, 415 for a body without Content-Type and for JSON in another
            charset than UTF-8, 400 for invalid headers.
    """
    check_event_size(len(body))
    attributes = _attributes(headers)
    content_type = headers.get("content-type", "").strip(" \t").rstrip("; \t")
    if body and not content_type:
        raise unsupported_media_type("An event in binary mode needs a Content-Type for its body.")
    if content_type:
        attributes["datacontenttype"] = content_type
    return _event(attributes, _data(content_type, body) if body else None)


class _Data(NamedTuple):
    """The data member of an event: its name, its value, and the value's JSON text."""

    name: str
    value: object
    text: str


def _event(attributes: Mapping[str, str], data: _Data | None) -> RawEvent:
    added = {} if data is None else {data.name: data.text}
    text = json_text.add_members(json_text.as_json(attributes), added)
    check_event_size(len(text.encode()))
    return RawEvent.of({**attributes, **({} if data is None else {data.name: data.value})}, text)


def _attributes(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(_PREFIX): _attribute(name, value)
        for name, value in headers.items()
        if name.startswith(_PREFIX)
    }


def _attribute(header: str, value: str) -> str:
    name = header.removeprefix(_PREFIX)
    if not ATTRIBUTE_NAME.fullmatch(name) or name == "data":
        raise _bad_header(name, "is no attribute name: only a-z and 0-9, and not 'data'")
    if name == "datacontenttype":
        raise _bad_header(name, "is given by Content-Type in binary mode")
    return _decode(name, value.strip(" \t"))


def _decode(name: str, value: str) -> str:
    """The string that a header's value encodes (section 3.1.3.2)."""
    if not _HEADER_VALUE.fullmatch(value):
        raise _bad_header(name, "must be printable ASCII with quotes in pairs; percent-encode the rest")
    plain = _QUOTED_STRING.sub(lambda quoted: _QUOTED_PAIR.sub(r"\1", quoted[1]), value)
    if _STRAY_PERCENT.search(plain):
        raise _bad_header(name, "must be percent-encoded: '%' is followed by two hexadecimal digits")
    try:
        return unquote_to_bytes(plain).decode()
    except UnicodeDecodeError:
        raise _bad_header(name, "must be percent-encoded UTF-8") from None


def _bad_header(name: str, detail: str) -> EventsError:
    field = f"{_PREFIX}{shown(name)}"
    return bad_request(f"The header '{field}' {detail}.", FieldError(field, detail))


def _data(content_type: str, body: bytes) -> _Data:
    """The data member that a body becomes."""
    essence = syntax.media_type_essence(content_type)
    if essence.endswith(("/json", "+json")):
        json_text.check_charset(content_type)
        text = json_text.decode_utf8(body)
        value, start, end = json_text.parse_whole(text)
        return _Data("data", value, text[start:end])
    is_text = essence.startswith("text/") or essence.endswith(("/xml", "+xml"))
    if is_text and syntax.is_utf8(content_type):
        try:
            value = body.decode()
            return _Data("data", value, json_text.as_json(value))
        except UnicodeDecodeError:
            pass
    encoded = base64.b64encode(body).decode()
    return _Data("data_base64", encoded, f'"{encoded}"')
