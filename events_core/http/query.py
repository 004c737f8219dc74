"""Parameters of requests, and the query of a feed: URL, headers and body are parsed here, once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Flag, auto
from functools import lru_cache
from typing import Any, Self
from urllib.parse import urlencode

from werkzeug.datastructures import ETags
from werkzeug.http import parse_etags

from events_core.access.names import RESOURCE_PREFIX, AppId, Resource, may_name_person
from events_core.common import clock, errors
from events_core.common.clock import Instant
from events_core.common.errors import bad_field
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import CursorCodec, Filters, Stream
from events_core.http.request import Request

DEFAULT_SIZE = 50
MAX_VALUES = 100
MAX_LENGTH = 2_048
MEDIA_TYPES = ("application/cloudevents+json", "application/cloudevents-batch+json", "application/json")
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d(?:\.\d{1,20})?)?([Zz]|[+ -]\d\d:\d\d)?", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_REPEATABLE = frozenset({"type", "eventtype", "source"})
_NEVER_REPEATED = frozenset({"after", "at", "person"})
_SUBJECTS = frozenset({"subject", "alternativesubject"})


class Parameters:
    """Named values. Names are read without regard to case, and an empty value counts as absent."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            if value:
                self._values.setdefault(name.lower(), []).append(_checked(name.lower(), value))

    def one(self, name: str) -> str | None:
        """The value of a parameter that may be given once."""
        values = self._values.get(name.lower(), [])
        if len(values) > 1:
            raise bad_field(name, f"The parameter '{name}' may be given once.")
        return values[0] if values else None

    def many(self, *names: str) -> tuple[str, ...]:
        """The values of a parameter that may be repeated, under any of its names."""
        values = tuple(value for name in names for value in self._values.get(name.lower(), []))
        if len(values) > MAX_VALUES:
            raise bad_field(names[0], f"The parameter '{names[0]}' may be given {MAX_VALUES} times at most.")
        return values

    def continued_at(self, url: Parameters) -> Parameters:
        """These parameters; an `after` or `at` in `url` replaces their `after`, `at` and `from`."""
        start = {name: [value] for name in ("after", "at") if (value := url.one(name)) is not None}
        if not start:
            return self
        continued = Parameters(())
        continued._values = {
            name: values for name, values in self._values.items() if name not in ("after", "at", "from")
        }
        continued._values |= start
        return continued


def _checked(name: str, value: str) -> str:
    if len(value) > MAX_LENGTH:
        raise bad_field(name, f"A parameter has at most {MAX_LENGTH:,} characters.")
    if "\0" in value:
        raise bad_field(name, "A parameter holds no NUL character.")
    return value


def bounds(parameters: Parameters) -> tuple[int | None, int | None]:
    """`from` and `to` in microseconds since the epoch, both inclusive."""
    start, end = _timestamp(parameters, "from"), _timestamp(parameters, "to")
    first = None if start is None else start.microseconds + (not start.exact)
    last = None if end is None else end.microseconds
    if first is not None and last is not None and last < first:
        raise bad_field("to", "The 'To' parameter must not be before 'From'.")
    return first, last


def _timestamp(parameters: Parameters, name: str) -> Instant | None:
    text = parameters.one(name)
    return None if text is None else _instant(name, text)


@lru_cache(maxsize=1_000)
def _instant(name: str, text: str) -> Instant:
    """The instant of an RFC 3339 time. Seconds may be missing, and a space may stand for `T` or `+`."""
    label = name.capitalize()
    match = _TIMESTAMP.fullmatch(text)
    if not match:
        raise bad_field(name, f"The '{label}' parameter must be a time as in RFC 3339, 2022-07-07T11:00:53.3917Z.")
    day, minute, second, zone = match.groups()
    if zone is None:
        detail = f"The '{label}' parameter must specify timezone. E.g. 2022-07-07T11:00:53.3917Z for UTC"
        raise bad_field(name, detail)
    instant = clock.parse_rfc3339(f"{day}T{minute}{second or ':00'}{zone.replace(' ', '+')}")
    if instant is None:
        raise bad_field(name, f"The '{label}' parameter must be a time that exists.")
    return instant


def size(parameters: Parameters, maximum: int, *, below_one_is_default: bool = False) -> int:
    """The page size, at most `maximum`."""
    text = parameters.one("size")
    if text is None:
        return min(DEFAULT_SIZE, maximum)
    digits = text.removeprefix("-")
    if not _DIGITS.fullmatch(digits):
        raise bad_field("size", "The 'Size' parameter must be a number larger that 0.")
    value = -1 if digits != text else int(digits) if len(digits) < 10 else maximum
    if value < 1 and not below_one_is_default:
        raise bad_field("size", "The 'Size' parameter must be a number larger that 0.")
    return min(value if value >= 1 else DEFAULT_SIZE, maximum)


def number(parameters: Parameters, name: str) -> int | None:
    """A whole number that is not negative."""
    text = parameters.one(name)
    if text is None:
        return None
    if not _DIGITS.fullmatch(text) or len(text) > 18:
        raise bad_field(name, f"The '{name}' parameter must be a whole number.")
    return int(text)


def app_id(org: str, name: str) -> AppId:
    """The app of an org, named in a route or by parameters."""
    parsed = AppId.parse(f"{org}/{name}")
    if parsed is None:
        raise bad_field("app", "Org and app are names of letters, digits and hyphens.")
    return parsed


class Takes(Flag):
    """The groups of parameters that a feed takes besides those of every feed. It ignores all others."""

    PARTY = auto()
    """`party`, `unit` and `person`."""
    APP = auto()
    """`org` and `app`."""
    RESOURCE = auto()
    """`resource`, `subject` and the headers Altinn-Subject and Altinn-AlternativeSubject."""


@dataclass(frozen=True, slots=True)
class FeedQuery:
    """What a request asks of a feed. Every value is checked; None stands for an absent one.

    `registered_from` and `registered_to` are microseconds since the epoch, both inclusive. `link` is the URL of the
    next page without its position. `etags` are the pages that the client has.
    """

    after: str | None
    at: str | None
    registered_from: int | None
    registered_to: int | None
    size: int
    types: tuple[str, ...]
    sources: tuple[str, ...]
    media_type: str
    wait_seconds: int
    etags: ETags
    link: str
    party: str | None = None
    unit: str | None = None
    person: str | None = None
    org: str | None = None
    app: AppId | None = None
    resource: Resource | None = None
    subject: str | None = None
    alternative_subject: str | None = None

    @classmethod
    def of_url(cls, request: Request, takes: Takes, max_size: int) -> Self:
        """The query of a GET. `next` repeats its parameters except the position and persons."""
        parameters = Parameters(request.query)
        if Takes.PARTY in takes and parameters.one("person"):
            raise bad_field("person", "The person is taken in the header 'person' only, never in a URL.")
        repeated = _encoded(tuple(pair for pair in request.query if not _is_hidden(*pair)))
        return cls._parse(request, parameters, takes, max_size, repeated)

    @classmethod
    def of_body(cls, request: Request, takes: Takes, max_size: int) -> Self:
        """The query of a POST. `next` repeats no parameter: the client posts the same body to it."""
        members = request.json_object().items()
        parameters = Parameters(pair for name, value in members for pair in _flattened(name, value))
        parameters = parameters.continued_at(Parameters(request.query))
        return cls._parse(request, parameters, takes, max_size, "")

    @classmethod
    def _parse(cls, request: Request, parameters: Parameters, takes: Takes, max_size: int, repeated: str) -> Self:
        after, at = parameters.one("after"), parameters.one("at")
        if after is None and at is None and parameters.one("from") is None:
            raise bad_field("from", "The 'From' or 'After' parameter must be defined.")
        first, last = bounds(parameters)
        limit = size(parameters, max_size, below_one_is_default=Takes.RESOURCE in takes)
        party, unit, person = _party(request, parameters) if Takes.PARTY in takes else (None, None, None)
        org, app = _app(parameters) if Takes.APP in takes else (None, None)
        resource, subject, alternative = (
            _resource(request, parameters) if Takes.RESOURCE in takes else (None, None, None)
        )
        return cls(
            after=after,
            at=at,
            registered_from=first,
            registered_to=last,
            size=limit,
            types=parameters.many("type", "eventType"),
            sources=parameters.many("source"),
            media_type=_media_type(request),
            wait_seconds=request.wait_seconds,
            etags=parse_etags(request.header("if-none-match")),
            link=f"{request.base_url}{request.path}?{repeated}",
            party=party,
            unit=unit,
            person=person,
            org=org,
            app=app,
            resource=resource,
            subject=subject,
            alternative_subject=alternative,
        )

    def read_request(self, stream: Stream, filters: Filters, cursors: CursorCodec, seal: Stream) -> ReadRequest:
        """The read that answers the query. Its cursor is `at`; if that does not verify for `seal`, it is `after`."""
        cursor = cursors.decode(self.at, seal) if self.at else None
        if cursor is None and self.after:
            cursor = cursors.decode(self.after, seal)
        return ReadRequest(stream, cursor, self.after, self.registered_from, self.registered_to, filters, self.size)


def _flattened(name: str, value: Any) -> Iterable[tuple[str, str]]:
    """The values of a JSON member: a string, a whole number, or a list of them where repetition is allowed."""
    values = value if isinstance(value, list) and name in _REPEATABLE else [value]
    for item in values:
        if isinstance(item, bool) or not (item is None or isinstance(item, str | int)):
            raise bad_field(name, "A parameter is a string, a whole number, or a list of strings.")
        if item is not None:
            yield name, str(item)


def _party(request: Request, parameters: Parameters) -> tuple[str | None, str | None, str | None]:
    """`party` without leading zeros, `unit` and `person`: at most one of them. No error repeats a person number."""
    in_header, in_body = request.header("person"), parameters.one("person")
    if in_header and in_body and in_header != in_body:
        raise bad_field("person", "The person is given once, in the body or in the header 'person'.")
    party, unit, person = parameters.one("party"), parameters.one("unit"), in_body or in_header
    if party is not None:
        if not _DIGITS.fullmatch(party) or len(party) > 10 or int(party) < 1:
            raise bad_field("party", "The 'Party' parameter must be a number larger than 0.")
        party = str(int(party))
    if unit is not None and not (_DIGITS.fullmatch(unit) and len(unit) == 9):
        raise bad_field("unit", "Value of 'Unit' needs to be exactly 9 digits.")
    if person is not None and not (_DIGITS.fullmatch(person) and len(person) == 11):
        raise bad_field("person", "Value of 'Person' needs to be exactly 11 digits.")
    if party is not None and person is not None:
        raise bad_field("party", "Only one of 'Party' or 'Person' can be defined.")
    if party is not None and unit is not None:
        raise bad_field("party", "Only one of 'Party' or 'Unit' can be defined.")
    if unit is not None and person is not None:
        raise bad_field("unit", "Only one of 'Unit' or 'Person' can be defined.")
    return party, unit, person


def _app(parameters: Parameters) -> tuple[str | None, AppId | None]:
    """`org`, and the app if `app` is given too."""
    org, name = parameters.one("org"), parameters.one("app")
    if name is not None and org is None:
        raise bad_field("org", "The 'Org' parameter is required with 'App'.")
    return org, app_id(org, name) if org is not None and name is not None else None


def _resource(request: Request, parameters: Parameters) -> tuple[Resource, str | None, str | None]:
    """The resource, and the subject or the alternative subject that narrows its feed."""
    text = parameters.one("resource")
    if text is None:
        raise bad_field("resource", "The 'resource' parameter must be defined.")
    if not text.startswith(RESOURCE_PREFIX) or text == RESOURCE_PREFIX:
        raise bad_field("resource", f"The 'resource' parameter must begin with `{RESOURCE_PREFIX}`")
    in_url, in_header = parameters.one("subject"), request.header("altinn-subject")
    alternative = request.header("altinn-alternativesubject")
    if in_url and may_name_person(in_url):
        raise bad_field("subject", "A subject that names a person is taken in the header Altinn-Subject only.")
    if in_url and in_header and in_url != in_header:
        raise bad_field("subject", "The subject is given once, as a parameter or in the header Altinn-Subject.")
    subject = in_header or in_url
    if subject and alternative:
        raise bad_field("subject", "Only one of 'subject' or 'alternativeSubject' can be defined.")
    return Resource.parse(text), subject, alternative


def _media_type(request: Request) -> str:
    found = request.preferred(MEDIA_TYPES)
    if found is None:
        raise errors.not_acceptable(f"The feed is served as {', '.join(MEDIA_TYPES)}.")
    return found


def _is_hidden(name: str, value: str) -> bool:
    """Whether `next` leaves a parameter out: the position is replaced, and a person stands in no URL."""
    name = name.lower()
    return name in _NEVER_REPEATED or (name in _SUBJECTS and may_name_person(value))


@lru_cache(maxsize=1_000)
def _encoded(pairs: tuple[tuple[str, str], ...]) -> str:
    return f"{urlencode(pairs)}&" if pairs else ""
