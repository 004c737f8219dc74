"""Queues as the Functions host has them: messages in this process, or in a storage account when one is configured."""

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

from local.errors import HostError

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueClient

    from local.host import Function

POISON = "-poison"
LEASE_SECONDS = 60
"""How long a message of a storage account is nobody else's; who has it longer shares it."""
SHORTEST_POLL, LONGEST_POLL = 0.05, 1.0
_log = logging.getLogger("local.host")


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """How queues are read: host.json's `extensions.queues`. At most `at_once` messages are worked on."""

    at_once: int = 24
    most_tries: int = 5
    pause_seconds: float = 0.0
    """How long a message waits whose function failed."""

    @classmethod
    def read(cls, root: Path) -> QueueOptions:
        """The options that host.json gives, and the host's own for those that it leaves out."""
        given = json.loads((root / "host.json").read_text()).get("extensions", {}).get("queues", {})
        batch = int(given.get("batchSize", 16))
        hours, minutes, seconds = str(given.get("visibilityTimeout", "00:00:00")).split(":")
        pause = int(hours) * 3_600 + int(minutes) * 60 + float(seconds)
        more = int(given.get("newBatchThreshold", batch // 2))
        return cls(batch + more, int(given.get("maxDequeueCount", 5)), pause)


class Message(Protocol):
    """A message that was received; it comes again unless it is done."""

    @property
    def value(self) -> QueueMessage:
        """What the function gets."""

    async def done(self) -> None:
        """Take it away."""

    async def again(self, seconds: float) -> None:
        """Let it come again after so long."""


class Queue(Protocol):
    """A queue by its name."""

    async def send(self, text: str) -> None:
        """Add a message."""

    async def receive(self) -> Message:
        """The next message, once there is one."""

    async def close(self) -> None:
        """Release what it holds."""


@dataclass(slots=True)
class _LocalMessage:
    queue: LocalQueue
    text: str
    tries: int = 1

    @property
    def value(self) -> QueueMessage:
        return _message(f"{id(self):x}", self.text, self.tries)

    async def done(self) -> None:
        """It was taken away when it was received."""

    async def again(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(
            seconds, self.queue.put, _LocalMessage(self.queue, self.text, self.tries + 1)
        )


@dataclass(slots=True)
class LocalQueue:
    """A queue in this process. A message that waits already need not wait twice: whoever gets it does all there is."""

    waiting: dict[str, _LocalMessage] = field(default_factory=dict)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, message: _LocalMessage) -> None:
        """Add a message."""
        self.waiting.setdefault(message.text, message)
        self._more.set()

    async def send(self, text: str) -> None:
        """Add a message."""
        self.put(_LocalMessage(self, text))

    async def receive(self) -> Message:
        """The next message, once there is one."""
        while not self.waiting:
            self._more.clear()
            await self._more.wait()
        return self.waiting.pop(next(iter(self.waiting)))

    async def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class _StoredMessage:
    client: QueueClient
    message: Any

    @property
    def value(self) -> QueueMessage:
        return _message(self.message.id, self.message.content, self.message.dequeue_count)

    async def done(self) -> None:
        await self.client.delete_message(self.message)

    async def again(self, seconds: float) -> None:
        await self.client.update_message(self.message, visibility_timeout=round(seconds))


@dataclass(slots=True)
class StorageQueue:
    """A queue of a storage account, made when it is not there."""

    client: QueueClient
    lease_seconds: int = LEASE_SECONDS
    _is_there: bool = False

    async def send(self, text: str) -> None:
        """Add a message."""
        await self._make()
        await self.client.send_message(text)

    async def receive(self) -> Message:
        """The next message, once there is one."""
        await self._make()
        pause = SHORTEST_POLL
        while True:
            message = await self.client.receive_message(visibility_timeout=self.lease_seconds)
            if message is not None:
                return _StoredMessage(self.client, message)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    async def _make(self) -> None:
        if not self._is_there:
            from azure.core.exceptions import ResourceExistsError  # noqa: PLC0415 - only with a storage account

            with contextlib.suppress(ResourceExistsError):
                await self.client.create_queue()
            self._is_there = True


class Queues:
    """The queues of a host, each opened when it is first used."""

    def __init__(self, environment: Mapping[str, str] = os.environ, *, lease_seconds: int = LEASE_SECONDS) -> None:
        self._environment = environment
        self._lease_seconds = lease_seconds
        self._open: dict[tuple[str, str], Queue] = {}

    def of(self, binding: Mapping[str, Any], suffix: str = "") -> Queue:
        """The queue that a binding names."""
        connection = str(binding.get("connection") or "AzureWebJobsStorage")
        key = connection, str(binding["queueName"]) + suffix
        if key not in self._open:
            text = self._environment.get(connection)
            self._open[key] = self._stored(text, key[1]) if text else LocalQueue()
        return self._open[key]

    async def close(self) -> None:
        """Close what was opened."""
        while self._open:
            await self._open.popitem()[1].close()

    def _stored(self, connection: str, name: str) -> Queue:
        from azure.storage.queue.aio import QueueClient  # noqa: PLC0415 - only with a storage account

        try:
            client = QueueClient.from_connection_string(_spelled_out(connection), name)
        except ValueError:
            raise HostError("AzureWebJobsStorage: is no connection string of a storage account") from None
        return StorageQueue(client, self._lease_seconds)


def _message(message_id: str, body: str, tries: int) -> QueueMessage:
    return QueueMessage(id=message_id, body=body, dequeue_count=tries)  # type: ignore[no-untyped-call] # the library's


def texts_of(value: Any) -> Iterable[str]:
    """The messages that a function's output is: a text or bytes are one, a list is one for each of its items."""
    if value is None:
        return
    for each in value if isinstance(value, list | tuple) else [value]:
        yield each.decode() if isinstance(each, bytes) else str(each)


async def queue_trigger(function: Function, options: QueueOptions) -> None:
    """Call the function with each message of its queue until cancelled, with some at once.

    A message whose function failed comes again, and after some tries goes to the queue's poison queue.
    """
    queue = function.queues.of(function.trigger)
    places = asyncio.Semaphore(options.at_once)
    async with asyncio.TaskGroup() as group:
        while True:
            await places.acquire()
            message = await _received(queue)
            task = group.create_task(_handle(function, message, options))
            task.add_done_callback(lambda _: places.release())


async def _received(queue: Queue) -> Message:
    while True:
        try:
            return await queue.receive()
        except Exception:  # noqa: BLE001 - whatever a storage account has, the next call gets its chance
            _log.exception("A queue does not answer")
            await asyncio.sleep(LONGEST_POLL)


async def _handle(function: Function, message: Message, options: QueueOptions) -> None:
    try:
        await function(message.value)
    except Exception:  # noqa: BLE001 - as in the Functions host, the message comes again
        _log.exception("the function %s failed", function.name)
        async with _logged("A message that failed could not be put back"):
            await _put_back(function, message, options)
        return
    async with _logged("A message that is done could not be taken away"):
        await message.done()


async def _put_back(function: Function, message: Message, options: QueueOptions) -> None:
    if (message.value.dequeue_count or 0) < options.most_tries:
        await message.again(options.pause_seconds)
        return
    _log.error("a message of %s is poison", function.trigger["queueName"])
    await function.queues.of(function.trigger, POISON).send(message.value.get_body().decode())
    await message.done()


@asynccontextmanager
async def _logged(what: str) -> AsyncIterator[None]:
    try:
        yield
    except Exception:  # noqa: BLE001 - it comes again when its lease ends
        _log.exception(what)


def _spelled_out(connection: str) -> str:
    """A connection string as the SDK takes it: `UseDevelopmentStorage=true` is Azurite on its own ports."""
    if "UseDevelopmentStorage=true" not in connection.replace(" ", ""):
        return connection
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    account = f"AccountName=devstoreaccount1;AccountKey={key}"
    return f"DefaultEndpointsProtocol=http;{account};QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;"
