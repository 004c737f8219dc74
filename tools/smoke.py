"""Ask a service that has just been deployed or started whether it works: health, OpenAPI document, a feed.

    python tools/smoke.py https://func-events-dev.azurewebsites.net
    SMOKE_TOKEN=... python tools/smoke.py http://127.0.0.1:7071
    SMOKE_TOKEN=... SMOKE_PLATFORM_TOKEN=... python tools/smoke.py http://127.0.0.1:7071 --publish

Without a token the feed has to refuse; with one (its owner's, scope `altinn:events/ttd`) it has to give a page. With
`--publish` an event is published with a PlatformAccessToken of the app and has to be in that feed: never do that where
the events are real. Nothing but the standard library is needed.
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
    """What is wrong, in a line."""


@dataclass(frozen=True)
class Answer:
    """What a request got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise SmokeError(f"the body is no JSON (status {self.status})") from None


@dataclass(frozen=True)
class Service:
    """The service at a base URL; tokens come from the environment, so that no list of processes shows them."""

    url: str
    token: str = ""
    platform_token: str = ""
    timeout: float = 60.0

    def ask(self, path: str, headers: Mapping[str, str] | None = None, event: object = None) -> Answer:
        """One request; POST when there is an event."""
        body = None if event is None else json.dumps(event).encode()
        sent = {**(headers or {}), **({} if event is None else {"Content-Type": "application/json"})}
        request = Request(self.url + path, body, sent)  # noqa: S310 - the scheme is checked in `main`
        try:
            with urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                return Answer(answer.status, dict(answer.headers.items()), answer.read())
        except HTTPError as error:
            return Answer(error.code, dict(error.headers.items()), error.read())
        except (URLError, OSError) as error:
            raise SmokeError(f"no answer: {error}") from None


def _must(held: object, otherwise: str) -> None:
    if not held:
        raise SmokeError(otherwise)


def health(service: Service) -> None:
    """`/health` says that settings and store are right."""
    answer = service.ask("/health")
    _must(answer.status == 200, f"status {answer.status}: {answer.body[:300].decode(errors='replace')}")
    _must(answer.json().get("status") == "up", "the status is not 'up'")


def openapi(service: Service) -> None:
    """The API is described."""
    answer = service.ask("/events/api/v1/openapi.json")
    _must(answer.status == 200, f"status {answer.status}")
    document = answer.json()
    _must(str(document.get("openapi", "")).startswith("3.1"), "no OpenAPI 3.1 document")
    _must("/events/api/v1/app/{org}/{app}" in document.get("paths", {}), "the feed of an app is not in it")


def refusal(service: Service) -> None:
    """A feed is not given to anybody who comes along."""
    answer = service.ask(f"{FEED}?from=2020-01-01T00:00:00Z")
    _must(answer.status == 401, f"status {answer.status} instead of 401")
    kind = next((value for name, value in answer.headers.items() if name.lower() == "content-type"), "")
    _must(kind.startswith("application/problem+json"), "no problem document")


def page(service: Service) -> None:
    """A feed is given to its owner."""
    answer = service.ask(f"{FEED}?from=2020-01-01T00:00:00Z&size=1", {"Authorization": f"Bearer {service.token}"})
    _must(answer.status == 200, f"status {answer.status}: {answer.body[:300].decode(errors='replace')}")
    _must(isinstance(answer.json(), list), "the page is no list")


def publish(service: Service) -> None:
    """An event is taken, and its app's feed has it at once."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    event_id = str(uuid.uuid4())
    event = {
        "specversion": "1.0",
        "id": event_id,
        "type": "app.instance.created",
        "subject": "/party/50002108",
        "source": f"https://ttd.apps.altinn.no/{APP}/instances/50002108/{uuid.uuid4()}",
    }
    taken = service.ask("/events/api/v1/app", {"PlatformAccessToken": service.platform_token}, event)
    _must(taken.status == 201, f"publishing: status {taken.status}: {taken.body[:300].decode(errors='replace')}")
    answer = service.ask(f"{FEED}?from={since}&size=1000", {"Authorization": f"Bearer {service.token}"})
    _must(answer.status == 200, f"reading: status {answer.status}")
    _must(event_id in {each.get("id") for each in answer.json()}, "the feed does not have what was published")


def checks_for(service: Service, *, publishing: bool) -> list[Callable[[Service], None]]:
    """What is asked of a service."""
    checks: list[Callable[[Service], None]] = [health, openapi, refusal]
    if service.token:
        checks.append(page)
    if publishing:
        checks.append(publish)
    return checks


def wait_for(service: Service, seconds: float) -> None:
    """Wait until the service is healthy; whatever it says meanwhile counts only at the end."""
    ends = time.monotonic() + seconds
    while True:
        try:
            health(service)
        except SmokeError:
            if time.monotonic() > ends:
                return
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def main(arguments: list[str]) -> int:
    """Ask everything; 0 when all of it is right."""
    parser = argparse.ArgumentParser(description="Ask a service whether it works.")
    parser.add_argument("url")
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="how long it may take to become healthy"
    )
    parser.add_argument("--publish", action="store_true", help="publish an event and read it again")
    wanted = parser.parse_args(arguments)
    if not wanted.url.startswith(("https://", "http://")):
        parser.error("the URL begins with http:// or https://")
    tokens = os.environ.get("SMOKE_TOKEN", ""), os.environ.get("SMOKE_PLATFORM_TOKEN", "")
    if wanted.publish and not all(tokens):
        parser.error("--publish needs SMOKE_TOKEN and SMOKE_PLATFORM_TOKEN")
    service = Service(wanted.url.rstrip("/"), *tokens)
    wait_for(service, wanted.wait)
    failed = 0
    for check in checks_for(service, publishing=wanted.publish):
        try:
            check(service)
        except SmokeError as error:
            failed += 1
            print(f"FAILED  {check.__name__}: {error}")
        else:
            print(f"ok      {check.__name__}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
