"""The feeds: what each asks for, who may ask, and the page as a response (docs/consumers.md)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import azure.functions as func

from events_core.access import scopes
from events_core.access.identity import Caller, Kind
from events_core.access.names import RESOURCE_PREFIX, Resource, may_name_person
from events_core.common import clock, errors
from events_core.common.errors import bad_field
from events_core.feeds.ports import ReadRequest
from events_core.feeds.read import Permitted, read_or_wait
from events_core.feeds.stream import Filters, Stream
from events_core.http import authentication, query
from events_core.http.page import Feed, Link, negotiated, page_response
from events_core.http.query import Parameters
from events_core.http.request import Request
from events_core.operations.application import Application


async def app_feed(request: Request, application: Application) -> func.HttpResponse:
    """The events of one app, for its owner."""
    caller = await _owner(request, application)
    app = query.app_id(request.route("org"), request.route("app"))
    owner = scopes.of_owner(app.org, app.app)
    return await _owner_feed(request, application, caller, Stream.of_resource(app.resource), owner)


async def org_feed(request: Request, application: Application) -> func.HttpResponse:
    """The events of all apps of an org, for their owner."""
    caller = await _owner(request, application)
    org = query.app_id(request.route("org"), "any").org
    return await _owner_feed(request, application, caller, Stream.of_org(org), scopes.of_owner(org))


async def _owner(request: Request, application: Application) -> Caller:
    caller = await authentication.bearer(request, application.tokens)
    if caller.kind not in (Kind.SERVICE_OWNER, Kind.ORGANISATION):
        raise errors.forbidden("This feed is for service owners and organisations.")
    return caller


async def _owner_feed(
    request: Request, application: Application, caller: Caller, stream: Stream, owner: tuple[str, ...]
) -> func.HttpResponse:
    asked = _in_url(request)
    window = query.window(asked, application.settings.max_page_size)
    subject = await _subject(application, caller, asked)
    filters = Filters(_types(asked), asked.many("source"), subject)
    permitted = None if caller.has_scope(*owner) else _permission(application, caller)
    return await answer(request, application, Feed(window, stream, filters, permitted, caller, Link.of_query(request)))


async def party_feed(request: Request, application: Application) -> func.HttpResponse:
    """The app events about one party, for end users and their systems."""
    caller = await authentication.bearer(request, application.tokens)
    return await _party_feed(request, application, caller, _in_url(request), Link.of_query(request))


async def party_feed_by_post(request: Request, application: Application) -> func.HttpResponse:
    """The same, with the parameters in the body, so that a person's number is in no URL."""
    caller = await authentication.bearer(request, application.tokens)
    asked = _with_person_of_header(request, posted(request))
    return await _party_feed(request, application, caller, asked, Link.of_post(request))


async def _party_feed(
    request: Request, application: Application, caller: Caller, asked: Parameters, link: Link
) -> func.HttpResponse:
    if caller.kind is Kind.NONE:
        raise errors.forbidden("The token names nobody.")
    window = query.window(asked, application.settings.max_page_size)
    subject = await _subject(application, caller, asked)
    if subject is None:
        detail = "Subject must be specified using either query params party or unit or header value person."
        raise bad_field("party", detail)
    org, app = query.app(asked)
    filters = Filters(_types(asked), asked.many("source"), org=org, resource=app.resource if app else None)
    feed = Feed(window, Stream.of_subject(subject), filters, _permission(application, caller), caller, link)
    return await answer(request, application, replace(feed, sealed_for=_seal_of_person(asked)))


def _seal_of_person(asked: Parameters) -> Stream | None:
    """A seal of the person's own: equal cursors would tell which party has which person's number."""
    person = query.person(asked)
    return Stream(f"person:{person}") if person else None


async def resource_feed(request: Request, application: Application) -> func.HttpResponse:
    """The events of any resource."""
    caller = await authentication.bearer(request, application.tokens)
    if not caller.has_scope(scopes.SUBSCRIBE) and not any(s.startswith(scopes.REPORTEES) for s in caller.scopes):
        raise errors.forbidden(f"The scope {scopes.SUBSCRIBE} is required.")
    asked = query.from_query(request)
    window = query.window(asked, application.settings.max_page_size, below_one_is_default=True)
    resource = query.resource(asked)
    sees_all = caller.has_scope(f"{scopes.REPORTEES}{resource.removeprefix(RESOURCE_PREFIX)}")
    if not sees_all and not caller.has_scope(scopes.SUBSCRIBE):
        raise errors.forbidden("The scope does not cover this resource.")
    subject, alternative = _subject_of_resource_feed(request, asked)
    filters = Filters(_types(asked), asked.many("source"), subject, alternative)
    action = "read" if Resource.parse(resource).app else "subscribe"
    permitted = None if sees_all else _permission(application, caller, action)
    stream, link = Stream.of_resource(resource), Link.of_query(request)
    return await answer(request, application, Feed(window, stream, filters, permitted, caller, link))


def _subject_of_resource_feed(request: Request, asked: Parameters) -> tuple[str | None, str | None]:
    in_url, in_header = asked.one("subject"), request.header("altinn-subject")
    alternative = request.header("altinn-alternativesubject")
    if in_url and may_name_person(in_url):
        raise bad_field("subject", "A subject that names a person is taken in the header Altinn-Subject only.")
    if in_url and in_header and in_url != in_header:
        raise bad_field("subject", "The subject is given once, as a parameter or in the header Altinn-Subject.")
    subject = in_header or in_url
    if subject and alternative:
        raise bad_field("subject", "Only one of 'subject' or 'alternativeSubject' can be defined.")
    return subject, alternative


def posted(request: Request) -> Parameters:
    """The parameters of the body; `after` and `at` of the URL take the place of the body's `after` and `from`."""
    asked, url = query.from_body(request), query.from_query(request)
    place = Parameters((name, value) for name in ("after", "at") if (value := url.one(name)) is not None)
    if place.one("after") is None and place.one("at") is None:
        return asked
    return asked.without("after", "at", "from") | place


def _in_url(request: Request) -> Parameters:
    """The parameters of the URL, with the person of the header."""
    asked = query.from_query(request)
    if asked.one("person"):
        raise bad_field("person", "The person is taken in the header 'person' only, never in a URL.")
    return _with_person_of_header(request, asked)


def _with_person_of_header(request: Request, asked: Parameters) -> Parameters:
    person, in_body = request.header("person"), asked.one("person")
    if person and in_body and person != in_body:
        raise bad_field("person", "The person is given once, in the body or in the header 'person'.")
    return Parameters([("person", person)]) | asked if person else asked


async def _subject(application: Application, caller: Caller, asked: Parameters) -> str | None:
    """The subject `/party/{id}` that `party`, `unit` or `person` name, None without any of them."""
    party, unit, person = query.party(asked), query.unit(asked), query.person(asked)
    _exclusive(("Party", party), ("Person", person))
    _exclusive(("Party", party), ("Unit", unit))
    _exclusive(("Unit", unit), ("Person", person))
    if unit:
        found = await application.register.party_of_unit(unit, caller)
        if found is None:
            raise errors.not_found("The unit is not known.")
        return f"/party/{found}"
    if person:
        known = await application.register.party_of_person(person, caller)
        # no event has a subject with a control character, so the answer is that of a person without events
        return f"/party/{known}" if known is not None else f"/party/unknown\x1f{person}"
    return f"/party/{party}" if party else None


def _exclusive(one: tuple[str, str | None], other: tuple[str, str | None]) -> None:
    if one[1] is not None and other[1] is not None:
        raise bad_field(one[0].lower(), f"Only one of '{one[0]}' or '{other[0]}' can be defined.")


def _types(asked: Parameters) -> tuple[str, ...]:
    return asked.many("type", "eventType")


def _permission(application: Application, caller: Caller, action: str = "read") -> Permitted:
    return partial(application.authorization.permitted, caller, action)


async def answer(request: Request, application: Application, feed: Feed) -> func.HttpResponse:
    """Read the page and answer with it, waiting for it where the request prefers that."""
    negotiated(request.header("accept"))
    wanted = _read_request(application, feed)
    seconds = 0 if _takes_others_place(application, feed) else _seconds(request, wanted)
    page, met = await read_or_wait(application.store, application.waiting, wanted, feed.permitted, seconds)
    if feed.shown:
        page = replace(page, events=[feed.shown(event) for event in page.events])
    applied = {"Preference-Applied": f"wait={seconds}"} if seconds and met else {}
    return page_response(request, feed, page, application.cursors.encode(page.end, feed.seal), applied)


def _takes_others_place(application: Application, feed: Feed) -> bool:
    """Whether who has not logged in would wait where only half of the places are left, which are for callers."""
    return not feed.caller.consumer and application.waiting.half_full


def _seconds(request: Request, wanted: ReadRequest) -> int:
    """How long to wait when nothing is there; not at all once `to` has passed."""
    if wanted.registered_to is not None and wanted.registered_to < clock.now():
        return 0
    return query.wait_seconds(request)


def _read_request(application: Application, feed: Feed) -> ReadRequest:
    window = feed.window
    cursor = application.cursors.decode(window.at, feed.seal) if window.at else None
    if cursor is None and window.after:
        cursor = application.cursors.decode(window.after, feed.seal)
    return ReadRequest(feed.stream, cursor, window.after, window.first, window.last, feed.filters, window.limit)
