"""Streams of events: publish, read, wait, and follow up."""
