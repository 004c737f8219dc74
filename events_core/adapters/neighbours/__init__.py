"""Services over HTTP: the policy decision point, Register and subscribers' endpoints."""
