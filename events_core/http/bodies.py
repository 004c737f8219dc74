"""JSON objects in requests' bodies."""

from __future__ import annotations

from typing import Any

import orjson

from events_core.common import errors
from events_core.http.request import Request

MOST_BYTES = 64 * 1024


def json_object(request: Request) -> dict[str, Any]:
    """The members of the object in the body, their names in lower case: they are read without regard to case.

    Raises:
        EventsError: BAD_REQUEST when it is none, UNSUPPORTED_MEDIA_TYPE, CONTENT_TOO_LARGE.
    """
    if request.media_type not in (None, "application/json"):
        raise errors.unsupported_media_type("The body is taken as application/json.")
    if len(request.body) > MOST_BYTES:
        raise errors.too_large(f"The body has at most {MOST_BYTES // 1024} KiB.")
    try:
        document = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        raise errors.bad_request("The body must be a JSON object.") from None
    if not isinstance(document, dict):
        raise errors.bad_request("The body must be a JSON object.")
    return {name.lower(): value for name, value in document.items()}
