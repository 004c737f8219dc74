"""Events and callers as XACML 3.0 questions (JSON profile, Multiple Decision Profile), and their levels. Pure.

The answers are read in events_core.xacml_response.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, TypeVar

from events_core.access.identity import Caller, Kind
from events_core.access.names import Instance, Resource, Subject

Attributes = tuple[tuple[str, str], ...]
T = TypeVar("T")

ACTION_ID = "urn:oasis:names:tc:xacml:1.0:action:action-id"
ORG = "urn:altinn:org"
APP = "urn:altinn:app"
PARTY_ID = "urn:altinn:partyid"
INSTANCE_ID = "urn:altinn:instance-id"
APP_RESOURCE = "urn:altinn:appresource"
EVENT_ID = "urn:altinn:event-id"
EVENT_TYPE = "urn:altinn:event-type"
EVENT_SOURCE = "urn:altinn:event-source"
RESOURCE = "urn:altinn:resource"
RESOURCE_INSTANCE = "urn:altinn:resourceinstance"
PARTY_UUID_PREFIX = "urn:altinn:party:uuid:"

_NEVER_FROM_SUBJECT = {EVENT_ID, EVENT_TYPE, EVENT_SOURCE, RESOURCE, RESOURCE_INSTANCE, APP, APP_RESOURCE, INSTANCE_ID}
_MEMORY = 10_000


class EventLike(Protocol):
    """What a question needs of an event; a CloudEvent and a StoredEvent have it."""

    @property
    def id(self) -> str:
        """The event's `id`."""

    @property
    def source(self) -> str:
        """The event's `source`."""

    @property
    def type(self) -> str:
        """The event's `type`."""

    @property
    def subject(self) -> str | None:
        """The event's `subject`."""

    @property
    def resource(self) -> str:
        """The event's `resource`."""

    @property
    def resource_instance(self) -> str | None:
        """The event's `resourceinstance`."""


@dataclass(frozen=True, slots=True)
class Question:
    """May this subject do this action on this resource?

    Attributes are sorted (name, value) pairs, so equal questions are equal values. `event_id` is sent along
    as `urn:altinn:event-id` and is no part of the question's identity.
    """

    subject: Attributes
    action: str
    resource: Attributes
    event_id: str | None = field(default=None, compare=False)

    @property
    def digest(self) -> bytes:
        """What stands for the question: as many bytes for any, and others for each."""
        return hashlib.blake2b(repr((self.subject, self.action, self.resource)).encode(), digest_size=32).digest()


@dataclass(frozen=True, slots=True)
class Decision:
    """Permit or not, and the authentication levels that its obligations ask for (None: no such obligation)."""

    permit: bool
    level: int | None = None
    level_org: int | None = None


DENY = Decision(permit=False)


def subject_of(caller: Caller) -> Attributes:
    """The access subject that a caller is."""
    return caller.attributes


def resource_of(event: EventLike, subject_override: str | None = None) -> Attributes:
    """The resource attributes of an event, without its id.

    `subject_override` stands in for the event's subject, as a person's must be: `urn:altinn:party:uuid:…`.
    A person's number never becomes an attribute; a subject of an unknown shape gives none.
    """
    subject = event.subject if subject_override is None else subject_override
    if Resource.parse(event.resource).app is not None:
        return _of_app_event(event.resource, event.source, subject)
    return _of_other_event(event.resource, event.source, event.type, subject, event.resource_instance)


@lru_cache(maxsize=_MEMORY)
def _of_app_event(resource: str, source: str, subject: str | None) -> Attributes:
    app = Resource.parse(resource).app
    assert app is not None
    attributes = [(ORG, app.org), (APP, app.app), (APP_RESOURCE, "events")]
    instance = Instance.parse(source)
    party = Subject.parse(subject or "").party
    if instance is not None and instance.app == app:
        attributes.append((INSTANCE_ID, instance.id))
        party = party or instance.party
    if party is not None:
        attributes.append((PARTY_ID, party))
    return tuple(sorted(attributes))


@lru_cache(maxsize=_MEMORY)
def _of_other_event(resource: str, source: str, kind: str, subject: str | None, instance: str | None) -> Attributes:
    own = Resource.parse(resource).attribute
    attributes = [(EVENT_TYPE, kind), (EVENT_SOURCE, source), own]
    if instance is not None:
        attributes.append((RESOURCE_INSTANCE, instance))
    return tuple(sorted([*attributes, *_about(subject, own)]))


def resource_of_subscription(resource: str, subject: str | None) -> Attributes:
    """The resource attributes of a subscription to a resource's events, all of them or those about a subject."""
    if Resource.parse(resource).app is not None:
        return _of_app_event(resource, "", subject)
    own = Resource.parse(resource).attribute
    return tuple(sorted([own, *_about(subject, own)]))


def _about(subject: str | None, own: tuple[str, str]) -> list[tuple[str, str]]:
    """The attribute of a subject, if it has one that cannot pass for a second resource.

    A policy would match a bag of two values if it matched either.
    """
    about = Subject.parse(subject or "").attribute
    return [] if about is None or about[0].lower() in _NEVER_FROM_SUBJECT | {own[0].lower()} else [about]


def to_request(questions: Sequence[Question]) -> dict[str, object]:
    """The XACML JSON request that asks distinct questions at once, referenced in their order.

    What tells the questions apart is asked back (`IncludeInResult`), so that results are matched by it. With one
    subject or action in the whole request there is nothing to tell apart.
    """
    subjects = _numbered("s", [question.subject for question in questions])
    actions = _numbered("a", [question.action for question in questions])
    resources = _numbered("r", [question.resource for question in questions])
    references = [
        {"ReferenceId": [subjects[question.subject], actions[question.action], resources[question.resource]]}
        for question in questions
    ]
    return {
        "Request": {
            "ReturnPolicyIdList": False,
            "AccessSubject": [_category(i, attributes, back=len(subjects) > 1) for attributes, i in subjects.items()],
            "Action": [_category(i, ((ACTION_ID, action),), back=True) for action, i in actions.items()],
            "Resource": _resources(resources, event_ids(questions)),
            "MultiRequests": {"RequestReference": references},
        }
    }


def event_ids(questions: Sequence[Question]) -> dict[Attributes, str]:
    """The event id that is sent along with each distinct resource: of the first question that has one."""
    chosen: dict[Attributes, str] = {}
    for question in questions:
        if question.event_id is not None:
            chosen.setdefault(question.resource, question.event_id)
    return chosen


def _numbered(prefix: str, values: Sequence[T]) -> dict[T, str]:
    return {value: f"{prefix}{number}" for number, value in enumerate(dict.fromkeys(values), start=1)}


def _category(category_id: str, attributes: Attributes, *, back: bool) -> dict[str, object]:
    return {"Id": category_id, "Attribute": [_attribute(name, value, back=back) for name, value in attributes]}


def _attribute(name: str, value: str, *, back: bool) -> dict[str, object]:
    attribute: dict[str, object] = {"AttributeId": name, "Value": value}
    if back:
        attribute["IncludeInResult"] = True
    return attribute


def _resources(resources: dict[Attributes, str], chosen: dict[Attributes, str]) -> list[dict[str, object]]:
    categories = []
    for attributes, category_id in resources.items():
        category = _category(category_id, attributes, back=True)
        if attributes in chosen:
            listed = category["Attribute"]
            assert isinstance(listed, list)
            listed.append(_attribute(EVENT_ID, chosen[attributes], back=False))
        categories.append(category)
    return categories


def allows(decision: Decision, caller: Caller) -> bool:
    """Whether a decision lets this caller through, its authentication level held against the obligations.

    A level that could not be read meets no obligation. Of a PlatformAccessToken no level is asked.
    """
    if not decision.permit:
        return False
    if decision.level is None or not caller.level_applies:
        return True
    if caller.level is None:
        return False
    meets_org = decision.level_org is not None and caller.level >= decision.level_org
    return caller.level >= decision.level or (caller.kind is Kind.SERVICE_OWNER and meets_org)
