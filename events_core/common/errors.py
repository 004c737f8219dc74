"""Every error of the API in one table (RFC 9457), and the exception that carries a row of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

_NOT_SHOWN = re.compile(r"[0-9]{5,}|[^!-~]+")


class Problem(Enum):
    """A kind of problem: the anchor of its documentation, its title and its HTTP status."""

    BAD_REQUEST = ("bad-request", "Bad request", 400)
    UNAUTHORIZED = ("unauthorized", "Unauthorized", 401)
    FORBIDDEN = ("forbidden", "Forbidden", 403)
    NOT_FOUND = ("not-found", "Not found", 404)
    METHOD_NOT_ALLOWED = ("method-not-allowed", "Method not allowed", 405)
    NOT_ACCEPTABLE = ("not-acceptable", "Not acceptable", 406)
    CONFLICT = ("conflict", "Conflict", 409)
    LENGTH_REQUIRED = ("length-required", "Length required", 411)
    CONTENT_TOO_LARGE = ("content-too-large", "Content too large", 413)
    UNSUPPORTED_MEDIA_TYPE = ("unsupported-media-type", "Unsupported media type", 415)
    TOO_MANY_REQUESTS = ("too-many-requests", "Too many requests", 429)
    INTERNAL = ("internal", "Internal server error", 500)
    UNAVAILABLE = ("unavailable", "Service unavailable", 503)

    @property
    def slug(self) -> str:
        """The anchor of the problem on the documentation page."""
        return self.value[0]

    @property
    def title(self) -> str:
        """A short summary, the same for every occurrence."""
        return self.value[1]

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return self.value[2]


@dataclass(frozen=True, slots=True)
class FieldError:
    """A fault in one field, which is a parameter, a header or an attribute."""

    field: str
    detail: str


@dataclass(eq=False)
class EventsError(Exception):
    """A failure that the API answers with a problem document.

    The caller sees `detail`, so it must not contain another caller's data or a person number.
    """

    problem: Problem
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.problem.status} {self.detail}"


def bad_request(detail: str, *errors: FieldError) -> EventsError:
    """400: the request is malformed, and nothing was changed."""
    return EventsError(Problem.BAD_REQUEST, detail, errors)


def bad_field(name: str, detail: str) -> EventsError:
    """400 that names the wrong field or parameter. `detail` repeats no value."""
    return bad_request(detail, FieldError(shown(name), detail))


def shown(name: str) -> str:
    """A name that a caller chose, safe for an error: short, printable ASCII, without a person number."""
    return _NOT_SHOWN.sub("*", name[:64])


def unauthorized(detail: str = "A valid token is required.") -> EventsError:
    """401: there is no token, or the token is not trusted. `detail` must not say more than that."""
    return EventsError(Problem.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


def forbidden(detail: str) -> EventsError:
    """403: the caller is known but may not do this."""
    return EventsError(Problem.FORBIDDEN, detail)


def not_found(detail: str = "There is nothing here.") -> EventsError:
    """404: the thing does not exist."""
    return EventsError(Problem.NOT_FOUND, detail)


def method_not_allowed(allow: Sequence[str]) -> EventsError:
    """405: the route takes only the methods in `allow`."""
    methods = ", ".join(allow)
    return EventsError(Problem.METHOD_NOT_ALLOWED, f"This route answers {methods}.", headers={"Allow": methods})


def not_acceptable(detail: str) -> EventsError:
    """406: the service can produce none of the media types in Accept."""
    return EventsError(Problem.NOT_ACCEPTABLE, detail)


def conflict(detail: str) -> EventsError:
    """409: the state of the thing does not allow this. Nothing was changed."""
    return EventsError(Problem.CONFLICT, detail)


def length_required() -> EventsError:
    """411: the request announces a body, and none arrived."""
    detail = (
        "The body did not arrive. Send it with a Content-Length and not chunked "
        "(.NET: await content.LoadIntoBufferAsync() before sending)."
    )
    return EventsError(Problem.LENGTH_REQUIRED, detail)


def too_large(detail: str) -> EventsError:
    """413: the content exceeds a limit."""
    return EventsError(Problem.CONTENT_TOO_LARGE, detail)


def unsupported_media_type(detail: str) -> EventsError:
    """415: the route does not take the request's Content-Type."""
    return EventsError(Problem.UNSUPPORTED_MEDIA_TYPE, detail)


def encoded_body() -> EventsError:
    """415: the body has a Content-Encoding or a like Transfer-Encoding, and the service decodes none."""
    detail = "The body is taken as it is, not compressed: without Content-Encoding, and in chunks or with a length."
    return EventsError(Problem.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Encoding": "identity"})


def too_many_requests(detail: str, retry_after: int | None) -> EventsError:
    """429: the caller should ask again in `retry_after` seconds; None if no time alone makes room."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return EventsError(Problem.TOO_MANY_REQUESTS, detail, headers=headers)


class StreamHoleError(EventsError):
    """503: a row of a stream is missing although later rows exist. Readers stop before the hole."""

    def __init__(self) -> None:
        super().__init__(Problem.UNAVAILABLE, "A part of the stream is missing.", (), {"Retry-After": "60"})


def unavailable(detail: str, retry_after: int = 5) -> EventsError:
    """503: a dependency is down or slow. Nothing was lost; the caller should ask again in `retry_after` seconds."""
    return EventsError(Problem.UNAVAILABLE, detail, headers={"Retry-After": str(retry_after)})


class MisconfiguredError(EventsError):
    """503: a setting is missing or invalid. `line` names the setting; only /health shows it."""

    def __init__(self, line: str) -> None:
        headers = {"Retry-After": "60"}
        super().__init__(Problem.UNAVAILABLE, "The service is not configured; /health names the setting.", (), headers)
        self.line = line
