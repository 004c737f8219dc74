"""A request as handlers see it: its path, parameters, headers and body, decoded strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func
import orjson
from werkzeug.datastructures import MIMEAccept

from events_core.common import errors

MAX_QUERY_FIELDS = 200
MAX_JSON_BYTES = 64 * 1024


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
        """The body, empty if the request has none."""
        return self._raw.get_body()

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

    def json_object(self) -> dict[str, Any]:
        """The members of the JSON object in the body. Names are in lower case: clients may write them in any case.

        Raises:
            EventsError: BAD_REQUEST if the body is not a JSON object, UNSUPPORTED_MEDIA_TYPE, CONTENT_TOO_LARGE.
        """
        if self.media_type not in (None, "application/json"):
            raise errors.unsupported_media_type("The body is taken as application/json.")
        if len(self.body) > MAX_JSON_BYTES:
            raise errors.too_large(f"The body has at most {MAX_JSON_BYTES // 1024} KiB.")
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise errors.bad_request("The body must be a JSON object.")
        return {name.lower(): value for name, value in document.items()}

    def preferred(self, offered: tuple[str, ...]) -> str | None:
        """The offered media type that Accept prefers (RFC 9110, section 12.5.1), None if Accept allows none.

        Without Accept, and between equals, the first one wins.
        """
        accept = self.header("accept")
        return offered[0] if accept is None else _preferred(accept, offered)

    def preference(self, name: str) -> str | None:
        """The value of a preference in Prefer (RFC 7240), None without the preference. The first of several counts."""
        prefer = self.header("prefer")
        for preference in prefer.split(",") if prefer else ():
            found, _, value = preference.partition(";")[0].partition("=")
            if found.strip().lower() == name:
                return value.strip().strip('"')
        return None


@lru_cache(maxsize=1_000)
def _preferred(accept: str, offered: tuple[str, ...]) -> str | None:
    ranges = map(_media_range, accept.split(","))
    well_formed = [weighted for weighted in ranges if weighted[0].count("/") == 1]  # werkzeug ignores a second slash
    return MIMEAccept(well_formed).best_match(offered)


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
