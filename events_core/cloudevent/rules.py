"""The rules of CloudEvents 1.0.2 for attributes, and the limits of this service."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import cast

from events_core.cloudevent import syntax
from events_core.cloudevent.event import ATTRIBUTE_NAME, CloudEvent, RawEvent
from events_core.common.clock import parse_rfc3339
from events_core.common.errors import FieldError, bad_request, shown

_MAX_FAULTS = 20
_REQUIRED = ("specversion", "id", "source", "type", "resource")
_PLANES = "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
_NO_CHARACTER = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_PLANES}]")


def _is_timestamp(text: str) -> bool:
    return parse_rfc3339(text) is not None


@dataclass(frozen=True, slots=True)
class _Rule:
    """The rule for a string attribute: at most `longest` characters, and `valid`. `fault` names what is wrong."""

    longest: int | None = None
    valid: Callable[[str], bool] | None = None
    fault: str = ""

    def fault_of(self, value: str) -> str | None:
        if not value:
            return "must not be empty"
        if self.longest is not None and len(value) > self.longest:
            return f"must be at most {self.longest} characters long"
        return self.fault if self.valid is not None and not self.valid(value) else None


_RULES: Mapping[str, _Rule] = {
    "specversion": _Rule(None, "1.0".__eq__, "must be '1.0'"),
    "id": _Rule(256),
    "source": _Rule(2048, syntax.is_uri_reference, "must be a URI-reference (RFC 3986)"),
    "type": _Rule(256),
    "resource": _Rule(2048, syntax.is_resource, "must be a URN (RFC 8141) that ends in a name"),
    "subject": _Rule(512),
    "alternativesubject": _Rule(512),
    "resourceinstance": _Rule(2048),
    "time": _Rule(None, _is_timestamp, "must be an RFC 3339 timestamp with a zone"),
    "dataschema": _Rule(None, syntax.is_absolute_uri, "must be an absolute URI (RFC 3986, section 4.3)"),
    "datacontenttype": _Rule(None, syntax.is_media_type, "must be a media type (RFC 2046)"),
}


def validate(raw: RawEvent, *, field_prefix: str = "") -> CloudEvent:
    """The raw event as an event that keeps every rule of CloudEvents 1.0.2 and every limit of this service.

    Raises:
        EventsError: 400 naming each attribute that breaks a rule, with `field_prefix` before its name.
    """
    faults = tuple(islice(_faults(raw.members, field_prefix), _MAX_FAULTS))
    if faults:
        raise bad_request(" ".join(f"'{fault.field}' {fault.detail}." for fault in faults[:5]), *faults)
    strings = cast("Mapping[str, str]", raw.members)
    return CloudEvent(
        id=strings["id"],
        source=strings["source"],
        type=strings["type"],
        subject=strings.get("subject"),
        resource=strings["resource"],
        resource_instance=strings.get("resourceinstance"),
        alternative_subject=strings.get("alternativesubject"),
        json=raw.text,
    )


def _faults(members: Mapping[str, object], prefix: str) -> Iterator[FieldError]:
    for name in _REQUIRED:
        if name not in members:
            yield FieldError(f"{prefix}{name}", "is required")
    for name, value in members.items():
        fault = _fault(name, value)
        if fault is not None:
            yield FieldError(f"{prefix}{shown(name)}", fault)
    if "data" in members and "data_base64" in members:
        yield FieldError(f"{prefix}data_base64", "must not stand beside 'data'")


def _fault(name: str, value: object) -> str | None:
    if name == "data":
        return None
    if name == "data_base64":
        return _base64_fault(value)
    if not ATTRIBUTE_NAME.fullmatch(name):
        return "is no attribute name: only a-z and 0-9 may occur"
    rule = _RULES.get(name)
    if isinstance(value, str):
        return _string_fault(value, rule)
    if rule is None and isinstance(value, int):
        return None
    return "must be a string" if rule else "must be a string, a boolean or an integer of 32 bits"


def _string_fault(value: str, rule: _Rule | None) -> str | None:
    if not value.isprintable() and _NO_CHARACTER.search(value):
        return "must not hold control characters, surrogates or non-characters"
    return rule.fault_of(value) if rule else None


def _base64_fault(value: object) -> str | None:
    if isinstance(value, str) and syntax.is_base64(value):
        return None
    return "must be a string of padded base64 (RFC 4648, section 4)"
