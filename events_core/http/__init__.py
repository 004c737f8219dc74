"""HTTP: parses a request, calls one use case, maps the outcome to a response."""
