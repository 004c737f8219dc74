"""A clock that a test moves."""

from __future__ import annotations


class Clock:
    """Gives `now`, in seconds, which a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now
