"""Queues of the local host: in process, and in a storage account with real messages."""

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
    """Queues of each kind, empty."""
    environment = {}
    if request.param != "in process":
        environment = {"STORAGE": request.getfixturevalue("account")}
    queues = Queues(environment, lease_seconds=2)
    for suffix in ("", POISON):
        await _emptied(queues, suffix)
    yield queues
    await queues.close()


async def _emptied(queues: Queues, suffix: str) -> None:
    queue = queues.of(BINDING, suffix)
    await queue.send("the last")
    while (message := await queue.receive()).value.get_body() != b"the last":
        await message.done()
    await message.done()


class Worker:
    """A function that keeps what it is given, and does what a test wants."""

    def __init__(self) -> None:
        self.got: list[tuple[str, int | None]] = []
        self.calls: asyncio.Queue[str] = asyncio.Queue()
        self.fails = False
        self.sets: list[str] | None = None

    async def __call__(self, message: func.QueueMessage, wakeups: func.Out[list[str]]) -> None:
        """Take a message."""
        text = message.get_body().decode()
        self.got.append((text, message.dequeue_count))
        self.calls.put_nowait(text)
        if self.sets is not None:
            wakeups.set(self.sets)
            self.sets = None
        if self.fails:
            raise ValueError(text)


@asynccontextmanager
async def running(worker: Worker, queues: Queues, options: QueueOptions = QUICK) -> AsyncIterator[Function]:
    """Run a worker's function."""

    async def function(message: func.QueueMessage, wakeups: func.Out[list[str]]) -> None:
        await worker(message, wakeups)

    made = Function("worker", BINDING, function, (OUTPUT,), queues)
    task = asyncio.create_task(queue_trigger(made, options))
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_message_reaches_the_function_once(queues: Queues) -> None:
    """With its text, and as the first of its tries."""
    worker = Worker()
    async with running(worker, queues):
        await queues.of(BINDING).send("7")
        assert await asyncio.wait_for(worker.calls.get(), 10) == "7"
        await queues.of(BINDING).send("8r1")
        assert await asyncio.wait_for(worker.calls.get(), 10) == "8r1"
    assert worker.got == [("7", 1), ("8r1", 1)]


async def test_what_a_function_sets_is_sent_each_as_a_message(queues: Queues) -> None:
    """Once the function has returned."""
    worker = Worker()
    worker.sets = ["8", "9"]
    async with running(worker, queues):
        await queues.of(BINDING).send("7")
        got = [await asyncio.wait_for(worker.calls.get(), 10) for _ in range(3)]
    assert (got[0], sorted(got[1:])) == ("7", ["8", "9"])


async def test_a_message_whose_function_fails_comes_again_and_ends_as_poison(queues: Queues) -> None:
    """After its last try; what the function had set is not sent."""
    worker = Worker()
    worker.fails, worker.sets = True, ["never"]
    async with running(worker, queues):
        await queues.of(BINDING).send("7")
        poison = await asyncio.wait_for(queues.of(BINDING, POISON).receive(), 20)
    assert poison.value.get_body() == b"7"
    assert worker.got == [("7", 1), ("7", 2), ("7", 3)]
    await poison.done()


async def test_a_message_that_was_received_and_not_done_comes_again(account: str) -> None:
    """In a storage account, whose messages outlive the process that had one."""
    first = Queues({"STORAGE": account}, lease_seconds=1)
    await first.of(BINDING).send("7")
    assert (await first.of(BINDING).receive()).value.get_body() == b"7"
    await first.close()
    again = Queues({"STORAGE": account}, lease_seconds=1)
    message = await asyncio.wait_for(again.of(BINDING).receive(), 10)
    assert (message.value.get_body(), message.value.dequeue_count) == (b"7", 2)
    await message.done()
    await again.close()


async def test_a_wake_up_that_waits_need_not_wait_twice() -> None:
    """In process; one that is worked on may come again."""
    queue = Queues({}).of(BINDING)
    for text in ("7", "7", "8"):
        await queue.send(text)
    assert [(await queue.receive()).value.get_body() for _ in range(2)] == [b"7", b"8"]
    await queue.send("7")
    assert (await queue.receive()).value.get_body() == b"7"


async def test_as_many_are_worked_on_as_the_host_takes() -> None:
    """And no more."""
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


def test_the_host_reads_its_options() -> None:
    """As host.json gives them."""
    assert QueueOptions.read(ROOT) == QueueOptions(at_once=64, most_tries=5, pause_seconds=5)


def test_outputs_are_messages_as_the_worker_makes_them() -> None:
    """A text or bytes are one, a list is one for each of its items, nothing is none."""
    values: list[tuple[Any, list[str]]] = [(None, []), ("a", ["a"]), (b"a", ["a"]), (["a", "b"], ["a", "b"]), ([], [])]
    for value, texts in values:
        assert list(texts_of(value)) == texts


def test_what_is_no_connection_string_is_refused() -> None:
    """By the name of the setting, without its value."""
    with pytest.raises(HostError, match=r"^AzureWebJobsStorage: is no connection string of a storage account$"):
        Queues({"STORAGE": "nonsense"}).of(BINDING)


def test_an_output_that_this_host_does_not_know_is_refused() -> None:
    """By the name of its parameter."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.function_name("worker")
    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    @app.blob_output(arg_name="blob", path="a/b", connection="C")
    async def worker(timer: func.TimerRequest, blob: func.Out[str]) -> None:
        """Never called."""

    with pytest.raises(HostError, match="worker: this host provides no blob"):
        functions_of(app)
