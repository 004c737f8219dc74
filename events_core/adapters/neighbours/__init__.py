"""Services over HTTP: decision point, Register, and subscribers' endpoints."""
