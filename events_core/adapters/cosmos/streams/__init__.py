"""Streams of events in Cosmos DB."""
