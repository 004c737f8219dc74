"""Errors of the command line."""

from __future__ import annotations


class LocalError(Exception):
    """An error that the user reads as one line. `status` is the exit status, 2 for a bad setting."""

    def __init__(self, line: str, status: int = 1) -> None:
        super().__init__(line)
        self.status = status


class HostError(LocalError):
    """The local host cannot run the app."""


class ServiceError(LocalError):
    """The service does not answer, or refuses the request."""
