"""A page of a feed as a response: media type, `next`, ETag."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote_plus, urlencode

import azure.functions as func

from events_core.access.identity import Caller
from events_core.access.names import may_name_person
from events_core.common import errors
from events_core.feeds.read import FeedPage, Permitted
from events_core.feeds.stream import Filters, Stream
from events_core.http.query import Window
from events_core.http.request import Request
from events_core.http.response import respond

MEDIA_TYPES = ("application/cloudevents+json", "application/cloudevents-batch+json", "application/json")
_COMMON = {
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Person, Altinn-Subject, Altinn-AlternativeSubject, Accept",
}
_NEVER_REPEATED = frozenset({"after", "at", "person"})


@dataclass(frozen=True, slots=True)
class Link:
    """Where a feed goes on: its URL and the parameters that `next` repeats."""

    url: str
    repeated: Sequence[tuple[str, str]] = ()

    @classmethod
    def of_query(cls, request: Request) -> Link:
        """The request's own parameters but for the place, and never a person."""
        kept = [pair for pair in request.query if pair[0].lower() not in _NEVER_REPEATED and not _is_person(*pair)]
        return cls(request.base_url + request.path, kept)

    @classmethod
    def of_post(cls, request: Request) -> Link:
        """The URL alone: the same body is posted to it again."""
        return cls(request.base_url + request.path)

    def to(self, place: str) -> str:
        """The absolute URL that continues at a place, which is given as encoded parameters."""
        return f"{self.url}?{_encoded(tuple(self.repeated))}{place}"


@lru_cache(maxsize=1_000)
def _encoded(pairs: tuple[tuple[str, str], ...]) -> str:
    return f"{urlencode(pairs)}&" if pairs else ""


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed as asked for: where, which events, and who decides of each (None: all may be read).

    `shown` makes what is shown of an event's text. Cursors are sealed for `sealed_for`, else for the stream.
    """

    window: Window
    stream: Stream
    filters: Filters
    permitted: Permitted | None
    caller: Caller
    link: Link
    shown: Callable[[bytes], bytes] | None = None
    sealed_for: Stream | None = None

    @property
    def seal(self) -> Stream:
        """What the feed's cursors verify for."""
        return self.sealed_for or self.stream


def _is_person(name: str, value: str) -> bool:
    return name.lower() in ("subject", "alternativesubject") and may_name_person(value)


@lru_cache(maxsize=1_000)
def negotiated(accept: str | None) -> str:
    """The media type that Accept prefers (RFC 9110, section 12.5.1), the first of ours when it does not care.

    Raises:
        EventsError: NOT_ACCEPTABLE when it takes none.
    """
    if accept is None:
        return MEDIA_TYPES[0]
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    weighed = [(_quality(media_type, ranges), media_type) for media_type in MEDIA_TYPES]
    best, chosen = max(weighed, key=lambda pair: pair[0])
    if best[0] <= 0:
        raise errors.not_acceptable(f"The feed is served as {', '.join(MEDIA_TYPES)}.")
    return chosen


def _range(part: str) -> tuple[str, float]:
    name, *details = (piece.strip().lower() for piece in part.split(";"))
    for detail in details:
        if detail.startswith("q="):
            try:
                return name, min(max(float(detail[2:]), 0.0), 1.0)
            except ValueError:
                return name, 0.0
    return name, 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> tuple[float, int]:
    """The weight of a media type, and how closely the range that gives it names the type."""
    for closeness, name in ((2, media_type), (1, "application/*"), (0, "*/*")):
        weights = [weight for range_name, weight in ranges if range_name == name]
        if weights:
            return max(weights), closeness
    return 0.0, 0


def page_response(
    request: Request, feed: Feed, page: FeedPage, cursor: str, applied: Mapping[str, str]
) -> func.HttpResponse:
    """200 with the page, or 304 when the caller has it; `next` is always there. `cursor` is the page's end."""
    place = f"after={cursor}" if page.last_id is None else f"after={quote_plus(page.last_id)}&at={cursor}"
    following = feed.link.to(place)
    media_type = negotiated(request.header("accept"))
    body = b"[" + b",".join(page.events) + b"]"
    caught_up = "true" if page.caught_up else "false"
    etag = _etag(feed.caller.consumer, media_type, following, caught_up, body)
    headers = {
        **_COMMON,
        **applied,
        "next": following,
        "Link": f'<{following}>; rel="next"',
        "ETag": etag,
        "Events-Caught-Up": caught_up,
    }
    if _matches(request.header("if-none-match"), etag):
        return func.HttpResponse(b"", status_code=304, headers=headers)
    return respond(body, f"{media_type}; charset=utf-8", headers=headers)


def _etag(consumer: str, media_type: str, following: str, caught_up: str, body: bytes) -> str:
    digest = hashlib.sha256(body)
    digest.update(f"\n{consumer}\n{media_type}\n{following}\n{caught_up}".encode())
    return f'"{digest.hexdigest()[:32]}"'


def _matches(if_none_match: str | None, etag: str) -> bool:
    """Weak comparison against the list of If-None-Match (RFC 9110, section 13.1.2)."""
    if if_none_match is None:
        return False
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in if_none_match.split(","))
