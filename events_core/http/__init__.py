"""HTTP: each handler parses a request, calls one use case and returns a response."""
