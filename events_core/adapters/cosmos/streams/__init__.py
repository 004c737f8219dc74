"""Streams of events in Cosmos DB. store.py is the EventStore, queries.py has every query."""
