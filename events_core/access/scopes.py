"""Scopes of tokens, as docs/consumers.md and docs/publishers.md list them."""

from __future__ import annotations

SUBSCRIBE = "altinn:events.subscribe"
PUBLISH = "altinn:events.publish"
PUBLISH_ADMIN = "altinn:events.publish.admin"
ERASE = "altinn:events.erase"
REPORTEES = "altinn:events.reportees/"
"""The beginning of a scope. The name of a resource follows, and the holder may read every event of the resource."""


def of_owner(org: str, app: str | None = None) -> tuple[str, ...]:
    """The scopes that let a service owner read every event of an org, or of one of its apps."""
    return (f"altinn:events/{org}",) if app is None else (f"altinn:events/{org}/{app}", f"altinn:events/{org}")
