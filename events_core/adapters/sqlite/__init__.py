"""The embedded edition: events, deliveries and subscriptions in one SQLite file."""

from events_core.adapters.sqlite.store import SqliteEventStore

__all__ = ["SqliteEventStore"]
