"""Conditional writes, which are recognised when their answer is lost or is about a second try."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from events_core.adapters.cosmos.failures import FAILURES, REFUSALS, Meaning, failure_of
from events_core.adapters.cosmos.request_units import Operation

Document = dict[str, Any]

WRITE_SECONDS = 7.0
"""The longest time of a conditional write alone. The rest of a request's time is for the read after it."""

_MARK = "write"
"""The property that holds the text of a document's last conditional write."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request in progress: the container that it goes to, and how often it was sent."""

    proxy: ContainerProxy
    operation: Operation


@dataclass(frozen=True, slots=True)
class Write:
    """A conditional write of one document, marked with a random text.

    The SDK repeats any write that was answered 503, and aiohttp a replacement whose connection was cut. The second try
    of a write that was done is refused like another's write: its own change is what no longer meets its condition. So
    after a refusal of a write that may have been sent twice, and after any failure that leaves the outcome open, the
    document is read: if it has the mark, the write was done.
    """

    document_id: str
    partition: str
    is_repeated: bool = False
    """Whether aiohttp may repeat it, which nobody sees."""
    text: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def mark(self) -> Document:
        """The property to write along."""
        return {_MARK: self.text}

    async def done(self, request: Request, sending: Awaitable[Document]) -> Document:
        """Send the write. Return its answer, or the document as it is now if that shows that the write was done."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                return await sending
        except FAILURES as error:
            if self._may_be_done(request, error) and (found := await self._find(request)) is not None:
                return found
            raise

    def _may_be_done(self, request: Request, error: Exception) -> bool:
        if isinstance(error, REFUSALS):
            return self.is_repeated or request.operation.sent > 1
        return failure_of(error).meaning is Meaning.UNKNOWN

    async def _find(self, request: Request) -> Document | None:
        try:
            found = dict(await request.proxy.read_item(self.document_id, self.partition))
        except CosmosResourceNotFoundError:
            return None
        return found if found.get(_MARK) == self.text else None


def is_same(stored: Mapping[str, Any], sent: Document) -> bool:
    """Whether a stored document has exactly the properties that were sent, apart from the server's own."""
    own = {name: value for name, value in stored.items() if not name.startswith("_")}
    return bool(own == json.loads(json.dumps(sent)))
