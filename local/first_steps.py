"""Commands to paste into another terminal, each with a valid token."""

from __future__ import annotations

import json
import uuid

from events_core.common.clock import to_rfc3339
from local.issuer import DevelopmentIssuer
from local.persona import PARTY, USER

_LONG_AGO = "2020-01-01T00:00:00Z"


def first_steps(issuer: DevelopmentIssuer, url: str, start: int) -> str:
    """Commands that read as an app owner and as an end user, publish as an app, and read the published event."""
    owner = f"Authorization: Bearer {issuer.token_for_org('ttd', 'altinn:events/ttd')}"
    user = f"Authorization: Bearer {issuer.token_for_user(USER, PARTY)}"
    app = f"PlatformAccessToken: {issuer.platform_token('ttd/apps-test')}"
    owner_feed = f"{url}/events/api/v1/app/ttd/apps-test?from="
    party_feed = f"{url}/events/api/v1/app/party?party={PARTY}&from="
    steps = {
        "Read as the owner of the app ttd/apps-test": _read(owner, f"{owner_feed}{_LONG_AGO}&size=5"),
        f"Read as an end user who represents party {PARTY}": _read(user, f"{party_feed}{_LONG_AGO}&size=5"),
        "Publish as the app": _publish(app, f"{url}/events/api/v1/app"),
        "Read the events published since the start": _read(owner, f"{owner_feed}{to_rfc3339(start)}"),
    }
    return "".join(f"\n# {title}\n{command}\n" for title, command in steps.items())


def _read(header: str, url: str) -> str:
    return f"curl -sS -H '{header}' '{url}'"


def _publish(header: str, url: str) -> str:
    source = f"https://ttd.apps.altinn.no/ttd/apps-test/instances/{PARTY}/{uuid.uuid4()}"
    event = {
        "specversion": "1.0",
        "source": source,
        "type": "app.instance.created",
        "subject": f"/party/{PARTY}",
    }
    return f"curl -sS -H '{header}' -H 'Content-Type: application/json' -d '{json.dumps(event)}' '{url}'"
