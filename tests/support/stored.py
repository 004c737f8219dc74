"""What the store of a running service holds, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

from events_core.adapters.cosmos.containers import CONTAINERS
from tests.support.cosmos import started_server
from tests.support.service import COSMOS, Running


async def stored_text(data_dir: Path) -> str:
    """Everything in the store of the service in a data directory: every byte of its files, or every document."""
    if Running.store != COSMOS:
        return _bytes_of_files(data_dir)
    async with (await started_server()).client() as client:
        database = client.get_database_client(Running.databases[data_dir])
        documents = [
            document
            for container in CONTAINERS
            async for document in database.get_container_client(container.name).read_all_items()
        ]
    return json.dumps(documents)


def _bytes_of_files(data_dir: Path) -> str:
    """The database, its log and its index of the log, freed pages included."""
    return "".join(file.read_bytes().decode("latin-1") for file in sorted(data_dir.glob("events.db*")))
