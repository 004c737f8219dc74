"""A request as the handlers see it: what azure.functions hands over, read carefully."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func

from events_core.common import errors

MAX_QUERY_FIELDS = 200


class Request:
    """An HTTP request; malformed parts raise BAD_REQUEST when they are asked for."""

    def __init__(self, raw: func.HttpRequest, base_url: str | None) -> None:
        self._raw = raw
        self._base_url = base_url

    @property
    def method(self) -> str:
        """The method, upper case."""
        return str(self._raw.method).upper()

    @cached_property
    def path(self) -> str:
        """The escaped path, as the client wrote it."""
        return urlsplit(str(self._raw.url)).path

    @cached_property
    def base_url(self) -> str:
        """The public base of absolute links: as configured, else (development) from the request."""
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
        """A header's value, None when it is absent or empty."""
        value: str | None = self._raw.headers.get(name)
        return value.strip() or None if value else None

    @property
    def headers(self) -> Mapping[str, str]:
        """All headers, names in lower case."""
        return {name.lower(): value for name, value in self._raw.headers.items()}

    @property
    def body(self) -> bytes:
        """The body, empty when there is none."""
        return self._raw.get_body()

    @cached_property
    def query(self) -> Sequence[tuple[str, str]]:
        """The query's (name, value) pairs in order; the host's own map keeps one value for a repeated name."""
        text = urlsplit(self._raw.url).query
        try:
            return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            raise errors.bad_request("The query is not URL-encoded UTF-8 of at most 200 parameters.") from None

    @cached_property
    def media_type(self) -> str | None:
        """The Content-Type without its parameters, lower case; None when absent."""
        value = self.header("content-type")
        return value.partition(";")[0].strip().lower() if value else None
