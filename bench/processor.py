"""Processor time of requests to Cosmos DB, on the emulator of the tests: `python -m bench.processor`.

The floor of a page is the SDK alone, with a query like that of a page. The emulator is another process and does not
count. Rounds of all rows take turns, so that other work on the machine meets each of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median

from azure.core.pipeline.transport import AioHttpTransport
from azure.cosmos.aio import CosmosClient

from bench.cosmos import Act, Bench, cursor_after, empty, row
from bench.store import PAGE, STREAM, event
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE, Names, partition
from events_core.feeds.ports import ReadRequest
from tests.support.cosmos import cosmos_server

ROUNDS, TIMES, AT_ONCE = 31, 96, 8
FIRST = 60
MOST = 1.25
"""The most that a page may take of what the SDK alone takes."""
SQL = """SELECT TOP 51 c.seq, c.ukey, c.registered, c.eventId, c.type, c.source, c.subject, c.resource, c.org,
c.instance, c._ts, c.json FROM c WHERE c.partition = @partition AND c.seq >= @first AND c.seq <= @last
ORDER BY c.partition, c.seq"""


async def milliseconds(act: Act, at_once: int) -> float:
    """The processor time of one run of `act`, of `TIMES` runs."""

    async def some() -> None:
        for _ in range(TIMES // at_once):
            await act()

    began = time.process_time()
    await asyncio.gather(*(some() for _ in range(at_once)))
    return (time.process_time() - began) / TIMES * 1_000


def page_of(client: CosmosClient, database: str) -> Act:
    """Read a page with the SDK alone, by the query that the store sends."""
    streams = client.get_database_client(database).get_container_client("streams")
    key = partition(Names(bytes(32)).of(STREAM), 0)
    values = {"partition": key, "first": FIRST, "last": SEGMENT_SIZE}
    parameters: list[dict[str, object]] = [{"name": f"@{name}", "value": value} for name, value in values.items()]

    async def read() -> object:
        pages = streams.query_items(SQL, parameters=parameters, partition_key=key, max_item_count=PAGE + 1)
        found = [document async for document in pages]
        assert len(found) == PAGE + 1
        return found

    return read


@asynccontextmanager
async def acts(bench: Bench) -> AsyncIterator[dict[str, tuple[Act, int]]]:
    """What is measured, and how much of it at once, by the name of its row."""
    store = await bench.open(SEGMENT_SIZE)
    for start in range(0, 200, 20):
        await store.append([event(n) for n in range(start, start + 20)])
    request = ReadRequest(STREAM, await cursor_after(store, FIRST), limit=PAGE)
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(bench.server.client())
        ours = await stack.enter_async_context(bench.server.client(transport=AioHttpTransport(use_env_settings=False)))
        yield {
            "page of 50": (lambda: store.read(request), AT_ONCE),
            "the SDK alone, with our transport": (page_of(ours, bench.database), AT_ONCE),
            "the SDK alone, as it comes": (page_of(plain, bench.database), AT_ONCE),
            "publish one": (lambda: store.append([event(1)]), 1),
        }


async def measure() -> None:
    """Measure all rows, and print them."""
    async with cosmos_server() as server, empty(server) as bench, acts(bench) as rows:
        took: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(ROUNDS):
            for name, (act, at_once) in rows.items():
                took[name].append(await milliseconds(act, at_once))
    print(f"processor time of one operation, median of {ROUNDS} rounds")
    for name, values in took.items():
        row(name, f"{median(values):.2f} ms", f"fastest {min(values):.2f}", kept=True)
    share = median(took["page of 50"]) / median(took["the SDK alone, with our transport"])
    row("page of 50, of the SDK alone", f"{share:.0%}", f"at most {MOST:.0%}", kept=share <= MOST)


if __name__ == "__main__":
    asyncio.run(measure())
