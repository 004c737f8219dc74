"""A clock that a test moves."""

from __future__ import annotations


class Clock:
    """Tells `now`, in seconds, until a test sets it to something else."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now
