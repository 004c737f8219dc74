"""Check that a deployed or started service works: its health, its OpenAPI document, a feed.

    python tools/smoke.py https://func-events-dev.azurewebsites.net
    SMOKE_TOKEN=... python tools/smoke.py http://127.0.0.1:7071
    SMOKE_TOKEN=... SMOKE_PLATFORM_TOKEN=... python tools/smoke.py http://127.0.0.1:7071 --publish

Without a token, the feed must answer 401. With a token of the owner (scope `altinn:events/ttd`) in SMOKE_TOKEN, it must
return a page. `--publish` publishes an event with the app's PlatformAccessToken, and the feed must contain it. A
second event goes in chunks, and the script says what the deployment does with it. Never use `--publish` where events
are real. The script needs only the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

APP = "ttd/apps-test"
FEED = f"/events/api/v1/app/{APP}"
_PAUSE_SECONDS = 3


class SmokeError(Exception):
    """A check failed. The text says in one line what is wrong."""


@dataclass(frozen=True)
class Response:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise SmokeError(f"the body is not JSON (status {self.status})") from None

    def summary(self) -> str:
        """The status and the beginning of the body, for an error."""
        return f"status {self.status}: {self.body[:300].decode(errors='replace')}"


@dataclass(frozen=True)
class Service:
    """The service at a base URL. Tokens come from the environment, so that no process list shows them."""

    url: str
    token: str = ""
    platform_token: str = ""
    timeout: float = 60.0

    def ask(
        self, path: str, headers: Mapping[str, str] | None = None, event: object = None, *, chunked: bool = False
    ) -> Response:
        """Send a request: POST with an event, in one chunk without Content-Length if wanted, otherwise GET."""
        text = json.dumps(event).encode()
        body = None if event is None else iter([text]) if chunked else text
        sent = {**(headers or {}), **({} if event is None else {"Content-Type": "application/json"})}
        request = Request(self.url + path, body, sent)  # noqa: S310 - the scheme is checked in `main`
        try:
            with urlopen(request, timeout=self.timeout) as response:  # noqa: S310 - as above
                return Response(response.status, dict(response.headers.items()), response.read())
        except HTTPError as error:
            return Response(error.code, dict(error.headers.items()), error.read())
        except (URLError, OSError) as error:
            raise SmokeError(f"no answer: {error}") from None


def _check(condition: object, otherwise: str) -> None:
    if not condition:
        raise SmokeError(otherwise)


def health(service: Service) -> None:
    """`/health` reports that the settings are valid and the store answers."""
    response = service.ask("/health")
    _check(response.status == 200, response.summary())
    _check(response.json().get("status") == "up", "the status is not 'up'")


def openapi(service: Service) -> None:
    """The OpenAPI document describes the feed of an app."""
    response = service.ask("/events/api/v1/openapi.json")
    _check(response.status == 200, f"status {response.status}")
    document = response.json()
    _check(str(document.get("openapi", "")).startswith("3.1"), "no OpenAPI 3.1 document")
    _check("/events/api/v1/app/{org}/{app}" in document.get("paths", {}), "it does not describe the feed of an app")


def refusal(service: Service) -> None:
    """A feed refuses a request without a token."""
    response = service.ask(f"{FEED}?from=2020-01-01T00:00:00Z")
    _check(response.status == 401, f"status {response.status} instead of 401")
    kind = next((value for name, value in response.headers.items() if name.lower() == "content-type"), "")
    _check(kind.startswith("application/problem+json"), "no problem document")


def page(service: Service) -> None:
    """A feed returns a page to its owner."""
    response = service.ask(f"{FEED}?from=2020-01-01T00:00:00Z&size=1", {"Authorization": f"Bearer {service.token}"})
    _check(response.status == 200, response.summary())
    _check(isinstance(response.json(), list), "the page is not a list")


def _publish(service: Service, *, chunked: bool = False) -> tuple[str, Response]:
    """Publish an event of the app. Returns its id and the response."""
    event_id = str(uuid.uuid4())
    event = {
        "specversion": "1.0",
        "id": event_id,
        "type": "app.instance.created",
        "subject": "/party/50002108",
        "source": f"https://ttd.apps.altinn.no/{APP}/instances/50002108/{uuid.uuid4()}",
    }
    headers = {"PlatformAccessToken": service.platform_token}
    return event_id, service.ask("/events/api/v1/app", headers, event, chunked=chunked)


def publish(service: Service) -> None:
    """A published event is in its app's feed at once."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    event_id, published = _publish(service)
    _check(published.status == 201, f"publishing: {published.summary()}")
    read = service.ask(f"{FEED}?from={since}&size=1000", {"Authorization": f"Bearer {service.token}"})
    _check(read.status == 200, f"reading: {read.summary()}")
    _check(event_id in {item.get("id") for item in read.json()}, "the feed does not contain the published event")


def chunked(service: Service) -> str:
    """A chunked event is published, or refused in a way that a publisher can act on. Returns what happened."""
    _, published = _publish(service, chunked=True)
    if published.status == 201:
        return "arrives: publishers may send chunks"
    _check(published.status in (400, 411), f"publishing in chunks: {published.summary()}")
    return f"lost ({published.status}): see docs/deploying.md, Chunked bodies"


def checks_for(service: Service, *, publishing: bool) -> list[Callable[[Service], str | None]]:
    """The checks to run. A check may return what it found."""
    checks: list[Callable[[Service], str | None]] = [health, openapi, refusal]
    if service.token:
        checks.append(page)
    if publishing:
        checks += [publish, chunked]
    return checks


def wait_for(service: Service, seconds: float) -> None:
    """Wait until the service is healthy, for `seconds` at most. The checks report what is wrong then."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            health(service)
        except SmokeError:
            time.sleep(max(0.0, min(_PAUSE_SECONDS, ends - time.monotonic())))
        else:
            return


def main(arguments: list[str]) -> int:
    """Run all checks. Returns the exit status, 0 if every check passes."""
    parser = argparse.ArgumentParser(description="Check that a service works.")
    parser.add_argument("url")
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="how long the service may take to become healthy"
    )
    parser.add_argument("--publish", action="store_true", help="publish an event and read it from the feed")
    wanted = parser.parse_args(arguments)
    if not wanted.url.startswith(("https://", "http://")):
        parser.error("the URL must begin with http:// or https://")
    tokens = os.environ.get("SMOKE_TOKEN", ""), os.environ.get("SMOKE_PLATFORM_TOKEN", "")
    if wanted.publish and not all(tokens):
        parser.error("--publish needs SMOKE_TOKEN and SMOKE_PLATFORM_TOKEN")
    service = Service(wanted.url.rstrip("/"), *tokens)
    wait_for(service, wanted.wait)
    failed = 0
    for check in checks_for(service, publishing=wanted.publish):
        try:
            found = check(service)
        except SmokeError as error:
            failed += 1
            print(f"FAILED  {check.__name__}: {error}")
        else:
            print(f"ok      {check.__name__}" + (f": {found}" if found else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
