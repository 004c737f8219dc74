"""Queues as on the Functions host: in this process, or in a storage account when one is configured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from azure.functions.queue import QueueMessage
from typing_extensions import override

from events_core.adapters.storage_queue import client_of_string
from local.errors import HostError

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueClient

    from local.host import Function

POISON = "-poison"
"""The suffix of a queue's poison queue."""
LEASE_SECONDS = 60
"""How long a received message of a storage account is hidden from other receivers."""
SHORTEST_POLL, LONGEST_POLL = 0.05, 1.0
_log = logging.getLogger("local.host")


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """`extensions.queues` of `host.json`. A function runs for at most `at_once` messages at a time."""

    at_once: int = 24
    most_tries: int = 5
    pause_seconds: float = 0.0
    """How long a message waits after its function failed."""

    @classmethod
    def read(cls, root: Path) -> QueueOptions:
        """Read `host.json`. Options that it leaves out have the Functions host's defaults."""
        given = json.loads((root / "host.json").read_text()).get("extensions", {}).get("queues", {})
        batch = int(given.get("batchSize", 16))
        hours, minutes, seconds = str(given.get("visibilityTimeout", "00:00:00")).split(":")
        pause = int(hours) * 3_600 + int(minutes) * 60 + float(seconds)
        more = int(given.get("newBatchThreshold", batch // 2))
        return cls(batch + more, int(given.get("maxDequeueCount", 5)), pause)


class Message(Protocol):
    """A received message. It comes back unless it is deleted."""

    @property
    def value(self) -> QueueMessage:
        """The argument of the function."""

    async def delete(self) -> None:
        """Delete the message."""

    async def put_back(self, seconds: float) -> None:
        """Let the message come back after `seconds`."""


class Queue(Protocol):
    """A queue."""

    async def send(self, text: str) -> None:
        """Add a message."""

    async def receive(self) -> Message:
        """Wait for the next message."""

    async def close(self) -> None:
        """Release connections."""


@dataclass(slots=True)
class _LocalMessage(Message):
    queue: LocalQueue
    text: str
    tries: int = 1

    @property
    @override
    def value(self) -> QueueMessage:
        return _queue_message(f"{id(self):x}", self.text, self.tries)

    @override
    async def delete(self) -> None:
        """Nothing to do: receiving a message removed it."""

    @override
    async def put_back(self, seconds: float) -> None:
        message = _LocalMessage(self.queue, self.text, self.tries + 1)
        asyncio.get_running_loop().call_later(seconds, self.queue.put, message)


@dataclass(slots=True)
class LocalQueue(Queue):
    """A queue in this process. It holds each text once, because one wake-up is enough for any number of changes."""

    waiting: dict[str, _LocalMessage] = field(default_factory=dict)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, message: _LocalMessage) -> None:
        """Add a message unless the same text is waiting."""
        self.waiting.setdefault(message.text, message)
        self._more.set()

    @override
    async def send(self, text: str) -> None:
        self.put(_LocalMessage(self, text))

    @override
    async def receive(self) -> Message:
        while not self.waiting:
            self._more.clear()
            await self._more.wait()
        return self.waiting.pop(next(iter(self.waiting)))

    @override
    async def close(self) -> None:
        """Nothing to do: there are no connections."""


@dataclass(slots=True)
class _StoredMessage(Message):
    client: QueueClient
    message: Any

    @property
    @override
    def value(self) -> QueueMessage:
        return _queue_message(self.message.id, self.message.content, self.message.dequeue_count)

    @override
    async def delete(self) -> None:
        await self.client.delete_message(self.message)

    @override
    async def put_back(self, seconds: float) -> None:
        await self.client.update_message(self.message, visibility_timeout=round(seconds))


@dataclass(slots=True)
class StorageQueue(Queue):
    """A queue of a storage account. The first use creates it if it is missing."""

    client: QueueClient
    lease_seconds: int = LEASE_SECONDS
    _exists: bool = False

    @override
    async def send(self, text: str) -> None:
        await self._create()
        await self.client.send_message(text)

    @override
    async def receive(self) -> Message:
        await self._create()
        pause = SHORTEST_POLL
        while True:
            message = await self.client.receive_message(visibility_timeout=self.lease_seconds)
            if message is not None:
                return _StoredMessage(self.client, message)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL)

    @override
    async def close(self) -> None:
        await self.client.close()

    async def _create(self) -> None:
        if not self._exists:
            from azure.core.exceptions import ResourceExistsError  # noqa: PLC0415 - only with a storage account

            with contextlib.suppress(ResourceExistsError):
                await self.client.create_queue()
            self._exists = True


class Queues:
    """The queues of a host. Each is opened at its first use."""

    def __init__(self, environment: Mapping[str, str] = os.environ, *, lease_seconds: int = LEASE_SECONDS) -> None:
        self._environment = environment
        self._lease_seconds = lease_seconds
        self._open: dict[tuple[str, str], Queue] = {}

    def of(self, binding: Mapping[str, Any], suffix: str = "") -> Queue:
        """The queue that a binding names.

        Raises:
            HostError: The connection string cannot be read.
        """
        connection = str(binding.get("connection") or "AzureWebJobsStorage")
        key = connection, str(binding["queueName"]) + suffix
        if key not in self._open:
            self._open[key] = self._stored(*key) if self._environment.get(connection) else LocalQueue()
        return self._open[key]

    async def close(self) -> None:
        """Close every open queue."""
        while self._open:
            await self._open.popitem()[1].close()

    def _stored(self, setting: str, name: str) -> Queue:
        try:
            client = client_of_string(self._environment[setting], name)
        except ValueError:
            raise HostError(f"{setting}: is not a connection string of a storage account") from None
        return StorageQueue(client, self._lease_seconds)


def _queue_message(message_id: str, body: str, tries: int) -> QueueMessage:
    return QueueMessage(id=message_id, body=body, dequeue_count=tries)  # type: ignore[no-untyped-call] # the library's


def texts_of(value: Any) -> Iterable[str]:
    """The messages of a function's output: a string or bytes are one message, a list is one message for each item."""
    if value is None:
        return
    for item in value if isinstance(value, list | tuple) else [value]:
        yield item.decode() if isinstance(item, bytes) else str(item)


async def queue_trigger(function: Function, options: QueueOptions) -> None:
    """Call the function with each message of its queue until cancelled, several at a time.

    A message comes back after its function failed. After its last try it moves to the poison queue.
    """
    queue = function.queues.of(function.trigger)
    slots = asyncio.Semaphore(options.at_once)
    async with asyncio.TaskGroup() as group:
        while True:
            await slots.acquire()
            message = await _receive(queue)
            task = group.create_task(_handle(function, message, options))
            task.add_done_callback(lambda _: slots.release())


async def _receive(queue: Queue) -> Message:
    while True:
        try:
            return await queue.receive()
        except Exception:  # noqa: BLE001 - whatever the storage account answers, the trigger keeps trying
            _log.exception("queue does not answer")
            await asyncio.sleep(LONGEST_POLL)


async def _handle(function: Function, message: Message, options: QueueOptions) -> None:
    try:
        await function(message.value)
    except Exception:  # noqa: BLE001 - as on the Functions host, the message comes back
        _log.exception("function failed name=%s", function.name)
        async with _logging_failure("failed message not put back"):
            await _put_back(function, message, options)
        return
    async with _logging_failure("handled message not deleted"):
        await message.delete()


async def _put_back(function: Function, message: Message, options: QueueOptions) -> None:
    if (message.value.dequeue_count or 0) < options.most_tries:
        await message.put_back(options.pause_seconds)
        return
    _log.error("poison message queue=%s", function.trigger["queueName"])
    await function.queues.of(function.trigger, POISON).send(message.value.get_body().decode())
    await message.delete()


@asynccontextmanager
async def _logging_failure(event: str) -> AsyncIterator[None]:
    try:
        yield
    except Exception:  # noqa: BLE001 - the message comes back when its lease ends
        _log.exception(event)
