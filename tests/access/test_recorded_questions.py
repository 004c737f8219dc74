"""Questions against exchanges that were recorded with Altinn's own decision engine (tests/contract/recorded/pdp)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from events_core.access.identity import caller_from_claims
from events_core.access.xacml_request import Question, resource_of, subject_of, to_request
from events_core.cloudevent import CloudEvent
from tests.support.askers import app_event, instance_url, other_event

PAIRS = Path(__file__).parents[1] / "contract/recorded/pdp/pairs"
USER = {
    "urn:altinn:userid": 20012345,
    "urn:altinn:partyid": 50002108,
    "urn:altinn:authlevel": "3",
    "urn:altinn:authenticatemethod": "BankID",
}
SYSTEM_USER = {
    "authorization_details": [
        {"type": "urn:altinn:systemuser", "systemuser_id": ["5f2b1c64-0d3e-4f1b-9a55-0f1f6f0b2a11"]}
    ],
    "consumer": {"authority": "iso6523-actorid-upis", "ID": "0192:310000002"},
    "scope": "altinn:events.subscribe",
}
RENAMED = {
    "urn:altinn:event-type": "urn:altinn:eventtype",
    "urn:altinn:event-source": "urn:altinn:eventsource",
    "urn:altinn:resourceinstance": "urn:altinn:resource:instance-id",
}


def _recorded(name: str) -> Any:
    return json.loads((PAIRS / f"{name}.json").read_text())


def _asked(claims: dict[str, Any], action: str, *events: CloudEvent) -> dict[str, object]:
    """The request about events and the caller with these claims."""
    subject = subject_of(caller_from_claims(claims, "token"))
    return to_request([Question(subject, action, resource_of(event), event.id) for event in events])


def _mended(request: Any) -> Any:
    """A recorded request with the names that Altinn's policies use, and without the party beside the user."""
    for category in request["Request"]["AccessSubject"] + request["Request"]["Resource"]:
        for attribute in category["Attribute"]:
            attribute["AttributeId"] = RENAMED.get(attribute["AttributeId"], attribute["AttributeId"])
    for subject in request["Request"]["AccessSubject"]:
        subject["Attribute"] = [one for one in subject["Attribute"] if one["AttributeId"] != "urn:altinn:partyid"]
    return request


@pytest.mark.parametrize("name", sorted(path.stem for path in PAIRS.glob("*.json")))
def test_a_request_has_the_form_that_altinns_decision_point_takes(name: str) -> None:
    """The engine was asked in this form, with these references and these attributes to return."""
    pair = _recorded(name)
    questions = [
        Question(
            tuple(map(tuple, asked["subject"])), asked["action"], tuple(map(tuple, asked["resource"])), asked["eventId"]
        )
        for asked in pair["questions"]
    ]
    assert to_request(questions) == pair["request"]


def test_a_system_users_token_is_asked_about_by_its_id_alone() -> None:
    """The engine refused the organisation beside the id, and decided about the id alone."""
    events = [
        app_event("e1"),
        app_event("e2", resource="urn:altinn:resource:app_skd_other", source=instance_url(app="skd/other")),
    ]
    refused, decided = _recorded("app-systemuser-token"), _recorded("app-systemuser-alone")
    assert _asked(SYSTEM_USER, "read", *events) == decided["request"] != refused["request"]
    assert decided["allowed"] == refused["allowed"]


def test_a_policy_on_types_finds_the_type() -> None:
    """The ids of type and source have no hyphen."""
    events = [
        other_event(f"e{number}", resource="urn:altinn:resource:ttd-typed", kind=kind)
        for number, kind in enumerate(("dialog.created", "x"), start=1)
    ]
    assert _asked(USER, "subscribe", *events) == _mended(_recorded("event-type-rule")["request"])


def test_a_policy_on_instances_finds_the_instance() -> None:
    """An event's `resourceinstance` is the resource's instance-id."""
    events = [
        other_event(f"e{number}", resource="urn:altinn:resource:ttd-instanced", instance=str(number))
        for number in (1, 2)
    ]
    assert _asked(USER, "subscribe", *events) == _mended(_recorded("instance-rule")["request"])


def test_a_subject_that_names_an_instance_does_not_pass_for_the_instance() -> None:
    """The question has the event's own instance, and no other."""
    event = other_event(
        resource="urn:altinn:resource:ttd-instanced", instance="2", subject="urn:altinn:resource:instance-id:1"
    )
    expected = _mended(_recorded("instance-from-subject")["request"])
    [resource] = expected["Request"]["Resource"]
    resource["Attribute"] = [one for one in resource["Attribute"] if one["Value"] != "1"]
    assert _asked(USER, "subscribe", event) == expected
