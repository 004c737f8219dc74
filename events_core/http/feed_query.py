"""The query of a feed: its URL, headers and body are parsed here, once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Flag, auto
from functools import cache
from typing import Any, Self
from urllib.parse import urlencode

from werkzeug.datastructures import ETags
from werkzeug.http import parse_etags

from events_core.access.names import RESOURCE_PREFIX, AppId, Resource
from events_core.common import errors
from events_core.common.errors import bad_field, shown
from events_core.common.persons import names_person, surely_names_person
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import CursorCodec, Filters, Stream
from events_core.http.query import Parameters, app_id, bounds, size
from events_core.http.request import Request

MAX_WAIT_SECONDS = 30
MAX_WILDCARDS = 10
MEDIA_TYPES = ("application/cloudevents+json", "application/cloudevents-batch+json", "application/json")
_DIGITS = re.compile(r"\d+", re.ASCII)
_OF_EVERY_FEED = ("after", "at", "from", "to", "size", "type", "eventType", "source")
_REPEATABLE = frozenset({"type", "eventtype", "source"})
_MAY_BE_NUMBERS = frozenset({"party", "unit", "size"})
_NEVER_REPEATED = frozenset({"after", "at", "person"})
_NEVER_PERSONS = frozenset({"type", "eventtype", "source", "org", "app"})
_LIST = re.compile(r"([^\[\]]+)\[[0-9]*\]")
_BRACKETS = re.compile(r"[\[\]]")


class Takes(Flag):
    """The groups of parameters that a feed takes besides those of every feed. It ignores all others."""

    PARTY = auto()
    """`party`, `unit` and `person`."""
    APP = auto()
    """`org` and `app`."""
    RESOURCE = auto()
    """`resource`, `subject` and the headers Altinn-Subject and Altinn-AlternativeSubject."""


_NAMES = {Takes.PARTY: ("party", "unit", "person"), Takes.APP: ("org", "app"), Takes.RESOURCE: ("resource", "subject")}


@cache
def _known(takes: Takes) -> Mapping[str, str]:
    """The parameters of a feed as the documentation writes them, by their names in lower case."""
    names = [*_OF_EVERY_FEED, *(name for group in takes for name in _NAMES[group])]
    return {name.lower(): name for name in names}


@dataclass(frozen=True, slots=True)
class FeedQuery:
    """What a request asks of a feed. Every value is checked; None stands for an absent one.

    `registered_from` and `registered_to` are microseconds since the epoch, both inclusive. `link` is the URL of the
    next page without its position. `etags` are the pages that the client has. `strict`: unknown parameters were
    refused.
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
    strict: bool
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
        pairs = [(_plain(name), value) for name, value in request.query]
        _refuse_unknown(request, takes, (name for name, _ in pairs))
        parameters = Parameters(pairs)
        if Takes.PARTY in takes and parameters.one("person"):
            raise bad_field("person", "The person is taken in the header 'person' only, never in a URL.")
        kept = [pair for pair in request.query if _is_repeated(_plain(pair[0]).lower(), takes)]
        repeated = tuple((name, _clamped(name, value, max_size)) for name, value in kept)
        query = cls._parse(request, parameters, takes, max_size, _encoded(repeated))
        _refuse_persons(repeated)
        return query

    @classmethod
    def of_body(cls, request: Request, takes: Takes, max_size: int) -> Self:
        """The query of a POST. `next` repeats no parameter: the client posts the same body to it."""
        members = [(_plain(name), value) for name, value in request.json_object().items()]
        _refuse_unknown(request, takes, (name for name, _ in [*members, *request.query]))
        known = [(name, value) for name, value in members if name in _known(takes)]
        parameters = Parameters(pair for name, value in known for pair in _flattened(name, value))
        parameters = parameters.continued_at(Parameters(request.query))
        return cls._parse(request, parameters, takes, max_size, "")

    @classmethod
    def _parse(cls, request: Request, parameters: Parameters, takes: Takes, max_size: int, repeated: str) -> Self:
        after, at = parameters.one("after"), parameters.one("at")
        if after is None and at is None and parameters.one("from") is None:
            raise bad_field("from", "The 'From' or 'After' parameter must be defined.")
        first, last = bounds(parameters)
        types, sources = parameters.many("type", "eventType"), parameters.many("source")
        _check_wildcards(types, sources)
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
            types=types,
            sources=sources,
            media_type=_media_type(request),
            wait_seconds=_wait_seconds(request),
            strict=_is_strict(request),
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
        """The read that answers the query. An `at` that opens decides alone; else `after`, a cursor or id."""
        at = cursors.decode(self.at, seal) if self.at else None
        cursor = cursors.decode(self.after, seal) if at is None and self.after else at
        event_id = self.after if at is None else None
        return ReadRequest(stream, cursor, event_id, self.registered_from, self.registered_to, filters, self.size)


def _plain(name: str) -> str:
    """The name of a parameter without the brackets of a list: `type[]` and `type[0]` are `type`."""
    if not _BRACKETS.search(name):
        return name
    found = _LIST.fullmatch(name)
    if found and found[1].lower() in _REPEATABLE:
        return found[1]
    word = next((word.strip().lower() for word in _BRACKETS.split(name) if word), "")
    if any(word in _known(takes) for takes in (Takes.PARTY, Takes.APP, Takes.RESOURCE)):
        raise bad_field(word, "Brackets stand after 'type', 'eventType' and 'source' only: 'type[]' or 'type[0]'.")
    return name


def _refuse_unknown(request: Request, takes: Takes, names: Iterable[str]) -> None:
    """Refuse a parameter that the feed does not take, if the client prefers that (RFC 7240, `handling=strict`)."""
    if not _is_strict(request):
        return
    known = _known(takes)
    for name in names:
        if name.lower() not in known:
            (nearest,) = get_close_matches(name[:64].lower(), known, n=1, cutoff=0.0)
            raise bad_field(name, f"The parameter '{shown(name)}' is not known; the nearest is '{known[nearest]}'.")


def _is_strict(request: Request) -> bool:
    return (request.preference("handling") or "").lower() == "strict"


def _wait_seconds(request: Request) -> int:
    """The seconds of `Prefer: wait=N`, at most 30. HEAD does not wait."""
    digits = request.preference("wait") or ""
    if request.method == "HEAD" or not (digits.isascii() and digits.isdigit()):
        return 0
    return min(int(digits[:9]), MAX_WAIT_SECONDS)


def _check_wildcards(types: Sequence[str], sources: Sequence[str]) -> None:
    in_types, in_sources = (sum(value.count("%") for value in values) for values in (types, sources))
    if in_types + in_sources > MAX_WILDCARDS:
        name = "source" if in_sources > in_types else "type"
        raise bad_field(name, f"The types and sources of a request have at most {MAX_WILDCARDS} wildcards '%'.")


def _flattened(name: str, value: Any) -> Iterable[tuple[str, str]]:
    """The values of a JSON member: text, a whole number where numbers are meant, or a list of texts."""
    values = value if isinstance(value, list) and name in _REPEATABLE else [value]
    kinds = (str, int) if name in _MAY_BE_NUMBERS else (str,)
    for item in values:
        if isinstance(item, bool) or not (item is None or isinstance(item, kinds)):
            what = (
                "text or a whole number"
                if int in kinds
                else "text, or a list of texts"
                if name in _REPEATABLE
                else "text"
            )
            raise bad_field(name, f"The parameter '{name}' is {what}.")
        if item is not None:
            yield name, str(item)


def _party(request: Request, parameters: Parameters) -> tuple[str | None, str | None, str | None]:
    """`party` without leading zeros, `unit` and `person`: at most one of them. No error repeats a person number.

    The party 0 counts as absent, because generated clients send it.
    """
    in_header, in_body = request.header("person"), parameters.one("person")
    if in_header and in_body and in_header != in_body:
        raise bad_field("person", "The person is given once, in the body or in the header 'person'.")
    party, unit, person = parameters.one("party"), parameters.one("unit"), in_body or in_header
    if party is not None:
        if not _DIGITS.fullmatch(party) or len(party) > 10:
            raise bad_field("party", "The 'Party' parameter must be a number larger than 0.")
        party = str(int(party)) if int(party) else None
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
    if names_person(text):
        raise bad_field("resource", "The resource must not be a person.")
    if in_url and names_person(in_url):
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


def _is_repeated(name: str, takes: Takes) -> bool:
    """Whether `next` repeats a parameter: not the position, which it replaces, no person, and nothing unknown."""
    return name in _known(takes) and name not in _NEVER_REPEATED


def _clamped(name: str, value: str, max_size: int) -> str:
    """The value of a parameter as `next` repeats it: a huge size has as many digits as a person's number."""
    return str(max_size) if name.lower() == "size" and len(value) > 9 and value.isdigit() else value


def _refuse_persons(repeated: Iterable[tuple[str, str]]) -> None:
    """Refuse texts that name a person in a URL, because `next` would repeat them."""
    for name, value in repeated:
        if _plain(name).lower() in _NEVER_PERSONS and surely_names_person(value):
            raise bad_field(_plain(name), "A text that names a person is not taken in a URL.")


def _encoded(pairs: tuple[tuple[str, str], ...]) -> str:
    return f"{urlencode(pairs)}&" if pairs else ""
