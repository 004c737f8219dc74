"""Callers of the service, and processes for them: support of `bench.neighbours`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp

from local.data_dir import open_issuer

NICE = 10
_SCOPES = "altinn:events.publish.admin altinn:events.subscribe"
_AT_ONCE = 8

Work = Callable[..., Coroutine[Any, Any, None]]


@contextmanager
def process(work: Work, *arguments: object) -> Iterator[Connection]:
    """Run `work(pipe, *arguments)` in a process at nice 10 until the block ends. Yield this end of its pipe."""
    context = get_context("fork")
    ours, theirs = context.Pipe()

    def run() -> None:
        os.nice(NICE)
        asyncio.run(work(theirs, *arguments))

    started = context.Process(target=run, daemon=True)
    started.start()
    theirs.close()
    try:
        yield ours
    finally:
        started.kill()
        started.join()
        ours.close()


@dataclass(frozen=True)
class Callers:
    """Service owners, by name, with every scope that publishing and subscribing need."""

    url: str
    data_dir: Path
    session: aiohttp.ClientSession
    _tokens: dict[str, str] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, data_dir: Path) -> AsyncIterator[Callers]:
        """Open callers of the service at `url`."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield cls(url, data_dir, session)

    async def publish(self, org: str, *events: Mapping[str, str]) -> None:
        """Publish events in one request. They are left out if it fails."""
        common = {"specversion": "1.0", "type": "mail", "source": "https://mail.example/box"}
        await self._post(org, "events", [{**common, **event} for event in events], "cloudevents-batch+json")

    async def subscribe(self, subscriptions: Sequence[tuple[str, Mapping[str, str]]]) -> None:
        """Create the subscriptions of service owners, a few at once. A refused one is left out."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def create(org: str, body: Mapping[str, str]) -> None:
            async with slots:
                await self._post(org, "subscriptions", body, "json")

        await asyncio.gather(*(create(org, body) for org, body in subscriptions))

    async def _post(self, org: str, path: str, body: object, media_type: str) -> None:
        token = self._tokens.get(org) or self._tokens.setdefault(
            org, open_issuer(self.data_dir).token_for_org(org, _SCOPES)
        )
        headers = {"Authorization": f"Bearer {token}", "Content-Type": f"application/{media_type}"}
        url = f"{self.url}/events/api/v1/{path}"
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self.session.post(url, data=json.dumps(body), headers=headers) as response:
                await response.read()
