"""What every port of the service has in common."""

from __future__ import annotations

from typing import Protocol


class Pingable(Protocol):
    """A port that can say whether its technology answers."""

    async def ping(self) -> None:
        """Return when the technology behind the port answers.

        Raises:
            EventsError: UNAVAILABLE when it does not.
        """
