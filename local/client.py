"""A client of the service for the command line: publish, follow a feed, erase."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from local.errors import ServiceError
from local.json_text import elements, one_line

WAIT_SECONDS = 20
_TIMEOUT_SECONDS = WAIT_SECONDS + 40
_BATCH_EVENTS = 100
_BATCH_BYTES = 1024 * 1024 - 1024
_BETWEEN_POLLS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A response with a status below 400."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Service:
    """The service at a URL. `token` makes the bearer token of each request.

    Raises:
        ServiceError: The URL is not an http(s) URL.
    """

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ServiceError(f"{url} is not an http(s) URL")
        self._url = url.rstrip("/")
        self._connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._path = parts.netloc, parts.path.rstrip("/")
        self._token = token

    def ask(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Reply:
        """Send a request. `target` is a path with its query.

        Raises:
            ServiceError: The service does not answer, or answers 400 or above.
        """
        authorized = {"Authorization": f"Bearer {self._token()}", **(headers or {})}
        connection = self._connect(self._host, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, self._path + target, body or None, authorized)
            response = connection.getresponse()
            reply = Reply(
                response.status, {name.lower(): text for name, text in response.headers.items()}, response.read()
            )
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(f"{self._url} does not answer: {str(error) or type(error).__name__}") from None
        finally:
            connection.close()
        if reply.status >= 400:
            raise ServiceError(_problem(reply))
        return reply

    def publish(self, events: Iterable[str]) -> Iterator[Mapping[str, Any]]:
        """Publish events, given as JSON texts. Yields the `id`, `source` and `duplicate` of each event.

        Raises:
            ServiceError: As for `ask`. Earlier batches stay published.
        """
        content_type = {"Content-Type": "application/cloudevents-batch+json"}
        for batch in _batches(events):
            reply = self.ask("POST", "/events/api/v1/events", content_type, f"[{','.join(batch)}]".encode())
            yield from orjson.loads(reply.body)["events"]

    def erase(self, resource: str, source: str, event_id: str) -> None:
        """Replace an event by a tombstone.

        Raises:
            ServiceError: As for `ask`.
        """
        query = urlencode({"id": event_id, "source": source, "resource": resource})
        self.ask("DELETE", f"/events/api/v1/events?{query}")

    def follow(self, path: str, parameters: Mapping[str, str]) -> Iterator[str]:
        """Follow a feed for ever. Yields each event as one line of JSON.

        Raises:
            ServiceError: As for `ask`.
        """
        target = f"{path}?{urlencode(parameters)}"
        while True:
            reply = self.ask("GET", target, {"Prefer": f"wait={WAIT_SECONDS}"})
            events = elements(reply.body.decode())
            yield from map(one_line, events)
            link = urlsplit(reply.headers["next"])  # it may name the service by its public base
            target = f"{link.path.removeprefix(self._path)}?{link.query}"
            if not events and "preference-applied" not in reply.headers:
                time.sleep(_BETWEEN_POLLS_SECONDS)


def _batches(events: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for event in events:
        length = len(event.encode()) + 1
        if batch and (len(batch) == _BATCH_EVENTS or size + length > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += length
    if batch:
        yield batch


def _problem(reply: Reply) -> str:
    try:
        problem = orjson.loads(reply.body)
        fields = "; ".join(f"{fault['field']}: {fault['detail']}" for fault in problem.get("errors", ()))
        return f"{reply.status}: {fields or problem['detail']}"
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{reply.status}: {http.client.responses.get(reply.status, 'unknown status')}"
