"""The queue of wake-ups in a storage account, for messages with a delay, which no output binding can give them."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from events_core.adapters.entra import EntraCredential
from events_core.common.errors import unavailable
from events_core.delivery.delivery import Lane

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueClient

QUEUE = "deliveries"
"""The queue of the trigger `deliver`."""
DEADLINE_SECONDS = 5.0
_AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_AZURITE = (
    f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={_AZURITE_KEY};"
    "QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;"
)
"""`UseDevelopmentStorage=true` in full, since the SDK does not know the short form."""


def client_of_string(connection: str, queue: str = QUEUE) -> QueueClient:
    """A client of a queue, from a connection string.

    Raises:
        ValueError: The text is not a connection string of a storage account.
    """
    from azure.storage.queue.aio import QueueClient  # noqa: PLC0415 - only with a storage account

    if "UseDevelopmentStorage=true" in connection.replace(" ", ""):
        connection = _AZURITE
    return QueueClient.from_connection_string(connection, queue)


class DelayedWakeups:
    """Sends wake-ups that the queue hands out after a while."""

    def __init__(self, client: QueueClient) -> None:
        self._client = client

    @classmethod
    def of_identity(cls, service_uri: str, credential: EntraCredential) -> DelayedWakeups:
        """Send with tokens of an identity. `service_uri` is the account's URL for queues.

        Raises:
            ValueError: The URL is not one of a storage account. Tokens are sent over TLS alone.
        """
        from azure.storage.queue.aio import QueueClient  # noqa: PLC0415 - only with a storage account

        return cls(QueueClient(service_uri, QUEUE, credential=credential))  # type: ignore[arg-type] # its tuple

    async def send(self, lane: Lane, seconds: float) -> None:
        """Send a wake-up of a lane that is handed out after so many seconds, rounded up.

        Raises:
            EventsError: UNAVAILABLE when the storage account does not take the message.
        """
        from azure.core.exceptions import AzureError  # noqa: PLC0415 - only with a storage account

        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._client.send_message(str(lane), visibility_timeout=math.ceil(seconds))
        except (AzureError, TimeoutError):
            raise unavailable("The queue of wake-ups does not answer.") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
