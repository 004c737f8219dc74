"""Events, callers and questions for tests of authorization."""

from __future__ import annotations

from events_core.access.identity import Caller, Kind
from events_core.access.xacml_request import Question
from events_core.cloudevent import CloudEvent

APP_RESOURCE = "urn:altinn:resource:app_ttd_apps-test"
OTHER_RESOURCE = "urn:altinn:resource:ttd-letters"
GUID = "6fb3738d-6372-48e3-a2d2-f40ab0531fc1"
OTHER_GUID = "0c5a1f0e-88a2-4f8b-9c8b-2d0c56b40f9a"
PERSON = "01899699552"
PERSON_UUID = "6158e32f-7fd2-4cef-93fd-d29dd78439c4"
STRANGER = "20868012804"
PERSON_SUBJECT = f"urn:altinn:person:identifier-no:{PERSON}"
STRANGER_SUBJECT = f"urn:altinn:person:identifier-no:{STRANGER}"

USER = Caller(Kind.USER, "/user/20012345", (("urn:altinn:userid", "20012345"),), level=3)
OWNER = Caller(Kind.SERVICE_OWNER, "/org/ttd", (("urn:altinn:org", "ttd"),), level=3)
APP = Caller(
    Kind.APP, "/app/ttd/apps-test", (("urn:altinn:app", "apps-test"), ("urn:altinn:org", "ttd")), level_applies=False
)


def instance_url(guid: str = GUID, app: str = "ttd/apps-test", party: int = 50002108) -> str:
    """The URL of an instance of an app."""
    return f"https://ttd.apps.altinn.no/{app}/instances/{party}/{guid}"


def app_event(
    event_id: str = "e1",
    *,
    source: str = instance_url(),
    subject: str | None = "/party/50002108",
    resource: str = APP_RESOURCE,
) -> CloudEvent:
    """An event of an app."""
    return CloudEvent(event_id, source, "app.instance.created", subject, resource, f"50002108/{GUID}", None, b"{}")


def other_event(
    event_id: str = "e1",
    *,
    subject: str | None = None,
    resource: str = OTHER_RESOURCE,
    source: str = "https://letters.example/1",
    kind: str = "letter.sent",
    instance: str | None = None,
) -> CloudEvent:
    """An event of a resource that is not an app."""
    return CloudEvent(event_id, source, kind, subject, resource, instance, None, b"{}")


def question(subject: str = "20012345", resource: str = "ttd-letters", action: str = "subscribe") -> Question:
    """The question whether a user may do an action on a resource."""
    return Question((("urn:altinn:userid", subject),), action, (("urn:altinn:resource", resource),), f"e-{resource}")
