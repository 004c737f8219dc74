"""A request as handlers see it: its path, parameters, headers and body, decoded strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func
import orjson
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_list_header

from events_core.cloudevent import json_text
from events_core.common import errors

MAX_QUERY_FIELDS = 200
MAX_JSON_BYTES = 64 * 1024
SHORT_ACCEPT = 200
"""The longest `Accept` whose preference is remembered."""
_WITH_BODY = frozenset({"POST", "PATCH"})


class Request:
    """An HTTP request. Reading a malformed part of it raises BAD_REQUEST."""

    def __init__(self, raw: func.HttpRequest, base_url: str | None) -> None:
        self._raw = raw
        self._base_url = base_url

    @property
    def method(self) -> str:
        """The method in upper case."""
        return str(self._raw.method)

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return urlsplit(str(self._raw.url)).path

    @property
    def base_url(self) -> str:
        """The start of absolute links: the configured base URL, or (in development) the one of the request."""
        if self._base_url:
            return self._base_url
        parts = urlsplit(str(self._raw.url))
        return f"{parts.scheme}://{parts.netloc}"

    def route(self, name: str) -> str:
        """A parameter of the route."""
        return str(self._raw.route_params[name])

    @property
    def route_params(self) -> Mapping[str, str]:
        """All parameters of the route."""
        return dict(self._raw.route_params)

    def header(self, name: str) -> str | None:
        """A header's value, None if the header is absent or empty."""
        value: str | None = self._raw.headers.get(name)
        return value.strip() or None if value else None

    @property
    def headers(self) -> Mapping[str, str]:
        """All headers, names in lower case."""
        return {name.lower(): value for name, value in self._raw.headers.items()}

    @property
    def body(self) -> bytes:
        """The body, empty if the request has none.

        Raises:
            EventsError: LENGTH_REQUIRED if a body is announced and is not there, because the Functions host drops
                chunked bodies; UNSUPPORTED_MEDIA_TYPE if the body is encoded.
        """
        self.refuse_encoded_body()
        body: bytes = self._raw.get_body()
        if not body and self._raw.method in _WITH_BODY and self._announces_body():
            raise errors.length_required()
        return body

    def refuse_encoded_body(self) -> None:
        """Raise UNSUPPORTED_MEDIA_TYPE if there is a body that is still encoded: no host undoes more than chunks."""
        content, transfer = self._codings("content-encoding"), self._codings("transfer-encoding")
        if self._raw.get_body() and (content - {"identity"} or transfer - {"chunked", "identity"}):
            raise errors.encoded_body()

    def _codings(self, name: str) -> set[str]:
        return {coding.strip().lower() for coding in (self.header(name) or "").split(",")} - {""}

    def _announces_body(self) -> bool:
        is_typed = self.header("content-type") is not None and self.header("content-length") is None
        return self.header("transfer-encoding") is not None or is_typed

    @cached_property
    def query(self) -> Sequence[tuple[str, str]]:
        """The (name, value) pairs of the URL in order. The host's own map keeps one value of a repeated name."""
        text = urlsplit(self._raw.url).query
        try:
            return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            raise errors.bad_request("The query is not URL-encoded UTF-8 of at most 200 parameters.") from None

    @property
    def media_type(self) -> str | None:
        """The Content-Type without its parameters, in lower case; None if the header is absent."""
        value = self.header("content-type")
        return value.partition(";")[0].strip().lower() if value else None

    def json_body(self, *media_types: str | None) -> bytes:
        """The body, JSON of one of these media types. None stands for a request without Content-Type.

        Raises:
            EventsError: BAD_REQUEST if the body is empty, UNSUPPORTED_MEDIA_TYPE, LENGTH_REQUIRED.
        """
        body = self.body
        if not body:
            raise errors.bad_request("The body is empty.")
        if self.media_type not in media_types:
            raise errors.unsupported_media_type(f"The body is taken as {' or '.join(filter(None, media_types))}.")
        json_text.check_charset(self.header("content-type") or "")
        return body

    def json_object(self) -> dict[str, Any]:
        """The members of the JSON object in the body. Names are in lower case: clients may write them in any case.

        Raises:
            EventsError: CONTENT_TOO_LARGE, BAD_REQUEST if the body is not a JSON object or a name occurs twice; and
                what `json_body` raises.
        """
        body = self.json_body("application/json", None)
        if len(body) > MAX_JSON_BYTES:
            raise errors.too_large(f"The body has at most {MAX_JSON_BYTES // 1024} KiB.")
        document = _parsed(json_text.decode_utf8(body))
        if not isinstance(document, dict):
            raise errors.bad_request("The body must be a JSON object.")
        members: dict[str, Any] = {}
        for name, value in document.items():
            if name.lower() in members:
                raise json_text.duplicate_name(name)
            members[name.lower()] = value
        return members

    def preferred(self, offered: tuple[str, ...]) -> str | None:
        """The offered media type that Accept prefers (RFC 9110, section 12.5.1), None if Accept allows none.

        Without Accept, and between equals, the first one wins.
        """
        accept = self.header("accept")
        if accept is None:
            return offered[0]
        return _known_preference(accept, offered) if len(accept) <= SHORT_ACCEPT else _preferred(accept, offered)

    def preference(self, name: str) -> str | None:
        """The value of a preference in Prefer (RFC 7240), None without the preference. The first of several counts."""
        for preference in parse_list_header(self.header("prefer") or ""):
            found, _, value = preference.partition(";")[0].partition("=")
            if found.strip().lower() == name:
                return value.strip().strip('"')
        return None


def _parsed(text: str) -> object:
    """The JSON value of a text, parsed as strictly as an event. Integers stay exact."""
    json_text.parse_whole(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise errors.bad_request("The body holds a number that is too large.") from None


def _preferred(accept: str, offered: tuple[str, ...]) -> str | None:
    ranges = map(_media_range, accept.split(","))
    well_formed = [weighted for weighted in ranges if weighted[0].count("/") == 1]  # werkzeug ignores a second slash
    return MIMEAccept(well_formed).best_match(offered)


_known_preference = lru_cache(maxsize=200)(_preferred)


def _media_range(text: str) -> tuple[str, float]:
    """A media range without its parameters, and its weight.

    werkzeug's own parser skips weights such as `q=.2`, which Java sends, and keeps parameters such as `charset`,
    which match no type: such clients would get 406.
    """
    name, *parameters = (piece.strip().lower() for piece in text.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, min(max(0.0, float(parameter[2:])), 1.0)  # 0.0 first: it wins over NaN
            except ValueError:
                return name, 0.0
    return name, 1.0
