"""A process that publishes to a file until it is done or killed: `publisher FILE PREFIX COUNT`.

It prints a line for each acknowledged batch, with the ids of its events.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from events_core.adapters.sqlite import SqliteEventStore
from tests.contract.event_store import event

BATCH = 5


async def publish(path: Path, prefix: str, count: int) -> None:
    """Publish `count` events in batches."""
    store = SqliteEventStore(path)
    for start in range(0, count, BATCH):
        batch = [event(f"{prefix}-{n}") for n in range(start, start + BATCH)]
        await store.append(batch)
        print(*(published.id for published in batch), flush=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(publish(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
