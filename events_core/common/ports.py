"""The part that all ports share."""

from __future__ import annotations

from typing import Protocol


class Pingable(Protocol):
    """A port that can check its connection."""

    async def ping(self) -> None:
        """Return if the technology behind the port answers.

        Raises:
            EventsError: UNAVAILABLE if it does not answer.
        """
