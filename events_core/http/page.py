"""A page of a feed as a response: its body, `next` and ETag."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from urllib.parse import quote_plus

import azure.functions as func

from events_core.access.identity import Caller
from events_core.common.persons import names_person
from events_core.feeds.read import FeedPage
from events_core.http.feed_query import FeedQuery
from events_core.http.response import next_headers, respond

_COMMON = {
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Person, Altinn-Subject, Altinn-AlternativeSubject, Accept",
}


def page_response(
    query: FeedQuery, caller: Caller, page: FeedPage, cursor: str, more: Mapping[str, str]
) -> func.HttpResponse:
    """200 with the page, or 304 if the caller has it. `cursor` is the end of the page; `more` are further headers.

    `next` does not repeat an id that names a person.
    """
    last = page.last_id
    position = f"after={cursor}" if last is None or names_person(last) else f"after={quote_plus(last)}&at={cursor}"
    url = f"{query.link}{position}"
    body = b"[" + b",".join(page.events) + b"]"
    caught_up = "true" if page.caught_up else "false"
    tag = _tag(caller.consumer, query.media_type, url, caught_up, body)
    headers = {**_COMMON, **more, **next_headers(url), "ETag": f'"{tag}"', "Events-Caught-Up": caught_up}
    if query.etags.contains_weak(tag):
        return func.HttpResponse(b"", status_code=304, headers=headers)
    return respond(body, f"{query.media_type}; charset=utf-8", headers=headers)


def _tag(consumer: str, media_type: str, url: str, caught_up: str, body: bytes) -> str:
    """A hash of everything that is served and of the caller, so that no ETag confirms a page to somebody else."""
    digest = hashlib.sha256(body)
    digest.update(f"\n{consumer}\n{media_type}\n{url}\n{caught_up}".encode())
    return digest.hexdigest()[:32]
