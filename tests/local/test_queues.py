"""Queues of the local host, in this process and in a storage account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import azure.functions as func
import pytest

from local.errors import HostError
from local.host import ROOT, Function, functions_of
from local.queues import POISON, QueueOptions, Queues, queue_trigger, texts_of
from tests.support.azurite import azurite

BINDING = {"type": "queueTrigger", "name": "message", "queueName": "deliveries", "connection": "STORAGE"}
OUTPUT = {"type": "queue", "name": "wakeups", "queueName": "deliveries", "connection": "STORAGE"}
QUICK = QueueOptions(at_once=4, most_tries=3, pause_seconds=0)


@pytest.fixture(scope="module")
def account() -> Iterator[str]:
    """A storage account."""
    with azurite() as connection:
        yield connection


@pytest.fixture(params=["in process", "in a storage account"])
async def queues(request: pytest.FixtureRequest) -> AsyncIterator[Queues]:
    """Empty queues of each kind."""
    environment = {}
    if request.param != "in process":
        environment = {"STORAGE": request.getfixturevalue("account")}
    queues = Queues(environment, lease_seconds=2)
    for suffix in ("", POISON):
        await _empty(queues, suffix)
    yield queues
    await queues.close()


async def _empty(queues: Queues, suffix: str) -> None:
    queue = queues.of(BINDING, suffix)
    await queue.send("the last")
    while (message := await queue.receive()).value.get_body() != b"the last":
        await message.delete()
    await message.delete()


class Worker:
    """A function that records its messages, sets outputs and fails as a test says."""

    def __init__(self) -> None:
        self.received: list[tuple[str, int | None]] = []
        self.calls: asyncio.Queue[str] = asyncio.Queue()
        self.fails = False
        self.output: list[str] | None = None

    async def __call__(self, message: func.QueueMessage, wakeups: func.Out[list[str]]) -> None:
        """Record a message."""
        text = message.get_body().decode()
        self.received.append((text, message.dequeue_count))
        self.calls.put_nowait(text)
        if self.output is not None:
            wakeups.set(self.output)
            self.output = None
        if self.fails:
            raise ValueError(text)


@asynccontextmanager
async def running(worker: Worker, queues: Queues, options: QueueOptions = QUICK) -> AsyncIterator[Function]:
    """Run a worker while the block runs."""

    async def function(message: func.QueueMessage, wakeups: func.Out[list[str]]) -> None:
        await worker(message, wakeups)

    made = Function("worker", BINDING, function, (OUTPUT,), queues)
    task = asyncio.create_task(queue_trigger(made, options))
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_message_reaches_the_function_once(queues: Queues) -> None:
    """It has its text, and it is the first try."""
    worker = Worker()
    async with running(worker, queues):
        await queues.of(BINDING).send("7")
        assert await asyncio.wait_for(worker.calls.get(), 10) == "7"
        await queues.of(BINDING).send("8r1")
        assert await asyncio.wait_for(worker.calls.get(), 10) == "8r1"
    assert worker.received == [("7", 1), ("8r1", 1)]


async def test_each_item_of_an_output_is_sent_as_a_message(queues: Queues) -> None:
    """The items are sent after the function has returned."""
    worker = Worker()
    worker.output = ["8", "9"]
    async with running(worker, queues):
        await queues.of(BINDING).send("7")
        first, *others = [await asyncio.wait_for(worker.calls.get(), 10) for _ in range(3)]
    assert (first, sorted(others)) == ("7", ["8", "9"])


async def test_a_message_whose_function_fails_is_retried_and_becomes_poison(queues: Queues) -> None:
    """It becomes poison after its last try. A failed function's output is not sent."""
    worker = Worker()
    worker.fails, worker.output = True, ["never"]
    async with running(worker, queues):
        await queues.of(BINDING).send("7")
        poison = await asyncio.wait_for(queues.of(BINDING, POISON).receive(), 20)
    assert poison.value.get_body() == b"7"
    assert worker.received == [("7", 1), ("7", 2), ("7", 3)]
    await poison.delete()


async def test_a_received_message_comes_back_unless_it_is_deleted(account: str) -> None:
    """Messages of a storage account outlive the process that received them."""
    first = Queues({"STORAGE": account}, lease_seconds=1)
    await first.of(BINDING).send("7")
    assert (await first.of(BINDING).receive()).value.get_body() == b"7"
    await first.close()
    again = Queues({"STORAGE": account}, lease_seconds=1)
    message = await asyncio.wait_for(again.of(BINDING).receive(), 10)
    assert (message.value.get_body(), message.value.dequeue_count) == (b"7", 2)
    await message.delete()
    await again.close()


async def test_a_local_queue_holds_each_waiting_wake_up_once() -> None:
    """A wake-up that was received may be sent again."""
    queue = Queues({}).of(BINDING)
    for text in ("7", "7", "8"):
        await queue.send(text)
    assert [(await queue.receive()).value.get_body() for _ in range(2)] == [b"7", b"8"]
    await queue.send("7")
    assert (await queue.receive()).value.get_body() == b"7"


async def test_a_function_runs_for_several_messages_at_once() -> None:
    """`at_once` is the limit."""
    queues, gate, begun = Queues({}), asyncio.Event(), asyncio.Queue[str]()

    async def function(message: func.QueueMessage) -> None:
        begun.put_nowait(message.get_body().decode())
        await gate.wait()

    task = asyncio.create_task(queue_trigger(Function("worker", BINDING, function, (), queues), QUICK))
    for number in range(6):
        await queues.of(BINDING).send(str(number))
    assert [await asyncio.wait_for(begun.get(), 5) for _ in range(4)] == ["0", "1", "2", "3"]
    assert begun.empty()
    gate.set()
    assert [await asyncio.wait_for(begun.get(), 5) for _ in range(2)] == ["4", "5"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_options_come_from_host_json() -> None:
    """`at_once` is the batch size plus the threshold for a new batch."""
    assert QueueOptions.read(ROOT) == QueueOptions(at_once=256, most_tries=5, pause_seconds=5)


def test_an_output_becomes_the_messages_that_the_worker_would_send() -> None:
    """A string or bytes are one message, a list is one message for each item, None is no message."""
    values: list[tuple[Any, list[str]]] = [(None, []), ("a", ["a"]), (b"a", ["a"]), (["a", "b"], ["a", "b"]), ([], [])]
    for value, texts in values:
        assert list(texts_of(value)) == texts


def test_a_bad_connection_string_is_refused() -> None:
    """The error names the setting and does not show its value."""
    with pytest.raises(HostError, match=r"^STORAGE: is not a connection string of a storage account$"):
        Queues({"STORAGE": "nonsense"}).of(BINDING)


def test_an_unknown_output_is_refused() -> None:
    """The error names its parameter."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.function_name("worker")
    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    @app.blob_output(arg_name="blob", path="a/b", connection="C")
    async def worker(timer: func.TimerRequest, blob: func.Out[str]) -> None:
        """Never called."""

    with pytest.raises(HostError, match="worker: the local host does not provide blob"):
        functions_of(app)
