"""What goes wrong on the command line."""

from __future__ import annotations


class LocalError(Exception):
    """Its text is the one line that the user reads; `status` is the exit status, 2 for a bad setting."""

    def __init__(self, line: str, status: int = 1) -> None:
        super().__init__(line)
        self.status = status


class HostError(LocalError):
    """The app cannot be run here."""


class ServiceError(LocalError):
    """The service cannot be reached, or refused."""
