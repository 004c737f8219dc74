"""Questions to the decision point as XACML 3.0 requests (JSON profile, Multiple Decision Profile), and its decisions.

`xacml_response` reads the responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from events_core.access.identity import Caller, Kind
from events_core.access.names import (
    APP,
    OLDER_ORGANISATION_NUMBER,
    ORG,
    ORGANISATION_NUMBER,
    PARTY_ID,
    PARTY_UUID,
    PERSON_UUID,
    RESOURCE,
    AppId,
    Instance,
    Resource,
    Subject,
    SubjectKind,
)
from events_core.common.persons import masked
from events_core.common.texts import digest

Attributes = tuple[tuple[str, str], ...]
T = TypeVar("T")

ACTION_ID = "urn:oasis:names:tc:xacml:1.0:action:action-id"
INSTANCE_ID = "urn:altinn:instance-id"
APP_RESOURCE = "urn:altinn:appresource"
EVENT_ID = "urn:altinn:event-id"
EVENT_TYPE = "urn:altinn:eventtype"
EVENT_SOURCE = "urn:altinn:eventsource"
RESOURCE_INSTANCE = "urn:altinn:resource:instance-id"
PARTY_UUID_PREFIX = f"{PARTY_UUID}:"

_NAMES_OF_THE_RESOURCE = frozenset(
    {
        *(RESOURCE, RESOURCE_INSTANCE, ORG, APP, APP_RESOURCE, INSTANCE_ID),
        *(EVENT_ID, EVENT_TYPE, EVENT_SOURCE, ACTION_ID, "urn:altinn:task", "urn:altinn:end-event"),
    }
)
"""Attributes in lower case that a subject never names, since a policy decides by them what the event belongs to."""
_NAMES_OF_A_PARTY = frozenset({PARTY_ID, PARTY_UUID, PERSON_UUID, ORGANISATION_NUMBER, OLDER_ORGANISATION_NUMBER})


class EventLike(Protocol):
    """The attributes of an event that a question depends on. CloudEvent and StoredEvent have them."""

    __slots__ = ()

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
    """The question whether a subject may do an action on a resource.

    Attributes are sorted (name, value) pairs, so equal questions are equal values. The request carries `event_id` as
    `urn:altinn:event-id`; `resource_urn` is the URN of the event's resource, for logs. Two questions that differ in
    these two alone are equal.
    """

    subject: Attributes
    action: str
    resource: Attributes
    event_id: str | None = field(default=None, compare=False)
    resource_urn: str = field(default="", compare=False)

    @property
    def digest(self) -> bytes:
        """A hash of the question."""
        return digest(repr((self.subject, self.action, self.resource)))

    @property
    def length(self) -> int:
        """How many characters the texts of the question have."""
        named = sum(len(name) + len(value) for name, value in (*self.subject, *self.resource))
        return named + len(self.action) + len(self.event_id or "") + len(self.resource_urn)


@dataclass(frozen=True, slots=True)
class Decision:
    """Permit or deny, and the minimum authentication levels in the obligations (None without such an obligation)."""

    permit: bool
    level: int | None = None
    level_org: int | None = None


DENY = Decision(permit=False)


def subject_of(caller: Caller) -> Attributes:
    """The XACML subject attributes of a caller."""
    return caller.attributes


def resource_of(event: EventLike, subject_override: str | None = None) -> Attributes:
    """The resource attributes of an event, without its id.

    A subject of unknown form never becomes an attribute, and a person's number is never sent: a subject that holds one
    gives no attribute, and it is masked in the others. For a person, `subject_override` replaces the event's subject by
    `urn:altinn:party:uuid:…`.
    """
    subject = event.subject if subject_override is None else subject_override
    resource = Resource.parse(event.resource)
    if resource.app is not None:
        return _of_app_event(resource.app, event.source, subject)
    return _of_other_event(resource, event.source, event.type, subject, event.resource_instance)


def question_about(event: EventLike, caller: Caller, action: str, resource: Attributes) -> Question:
    """The question about an event with these resource attributes. A person's number in its id is masked."""
    return Question(subject_of(caller), action, resource, masked(event.id), Resource.parse(event.resource).urn)


def _of_app_event(app: AppId, source: str, subject: str | None) -> Attributes:
    attributes = [(ORG, app.org), (APP, app.app), (APP_RESOURCE, "events")]
    named = Instance.parse(source)
    instance = named if named is not None and named.app == app else None
    if instance is not None:
        attributes.append((INSTANCE_ID, instance.id))
    about = _about(subject)
    if instance is not None and not any(name.lower() in _NAMES_OF_A_PARTY for name, _ in about):
        attributes.append((PARTY_ID, instance.party))
    return _sent([*attributes, *about])


def _of_other_event(
    resource: Resource, source: str, kind: str, subject: str | None, instance: str | None
) -> Attributes:
    attributes = [(EVENT_TYPE, kind), (EVENT_SOURCE, source)]
    if instance is not None:
        attributes.append((RESOURCE_INSTANCE, instance))
    return _sent([*attributes, resource.attribute, *_about(subject)])


def resource_of_subscription(resource: str, subject: str | None) -> Attributes:
    """The resource attributes of a subscription to the events of a resource, or to those about one subject."""
    named = Resource.parse(resource)
    if named.app is not None:
        return _of_app_event(named.app, "", subject)
    return _sent([named.attribute, *_about(subject)])


def _about(subject: str | None) -> list[tuple[str, str]]:
    """The attribute of a subject, unless a URN names the resource by it."""
    parsed = Subject.parse(subject or "")
    about = parsed.attribute
    names_resource = parsed.kind is SubjectKind.URN and about is not None and about[0].lower() in _NAMES_OF_THE_RESOURCE
    return [] if about is None or names_resource else [about]


def _sent(attributes: Iterable[tuple[str, str]]) -> Attributes:
    """The attributes of a question: the first of each name, without numbers of persons.

    A second value of an attribute would be dangerous: a policy matches a bag of two values if it matches either.
    """
    first: dict[str, tuple[str, str]] = {}
    for name, value in attributes:
        first.setdefault(name.lower(), (masked(name), masked(value)))
    return tuple(sorted(first.values()))


def to_request(questions: Sequence[Question]) -> dict[str, object]:
    """The XACML JSON request for distinct questions, with one reference per question in the given order.

    `IncludeInResult` asks the decision point to return the attributes that differ between the questions, so that
    `xacml_response` can match results by them. A request with a single subject does not ask for its attributes.
    """
    with_subject = subjects_returned(questions)
    subjects = _numbered("s", [question.subject for question in questions])
    actions = _numbered("a", [question.action for question in questions])
    resources = _numbered("r", [question.resource for question in questions])
    references = [
        {"ReferenceId": [subjects[question.subject], actions[question.action], resources[question.resource]]}
        for question in questions
    ]
    chosen = _event_ids(questions)
    return {
        "Request": {
            "ReturnPolicyIdList": False,
            "AccessSubject": [_category(key, subject, back=with_subject) for subject, key in subjects.items()],
            "Action": [_category(key, ((ACTION_ID, action),), back=True) for action, key in actions.items()],
            "Resource": [
                _category(key, resource, back=True, event_id=chosen.get(resource))
                for resource, key in resources.items()
            ],
            "MultiRequests": {"RequestReference": references},
        }
    }


def subjects_returned(questions: Sequence[Question]) -> bool:
    """Whether the request asks for the attributes of its subjects: only if there are several."""
    return len({question.subject for question in questions}) > 1


def _event_ids(questions: Sequence[Question]) -> dict[Attributes, str]:
    """The event id to send with each distinct resource: that of the first question that has one."""
    chosen: dict[Attributes, str] = {}
    for question in questions:
        if question.event_id is not None:
            chosen.setdefault(question.resource, question.event_id)
    return chosen


def _numbered(prefix: str, values: Sequence[T]) -> dict[T, str]:
    return {value: f"{prefix}{number}" for number, value in enumerate(dict.fromkeys(values), start=1)}


def _category(key: str, attributes: Attributes, *, back: bool, event_id: str | None = None) -> dict[str, object]:
    """A category of the request. With `back`, the decision point returns its attributes, all but the event id."""
    included = {"IncludeInResult": True} if back else {}
    listed: list[dict[str, object]] = [{"AttributeId": name, "Value": value, **included} for name, value in attributes]
    if event_id is not None:
        listed.append({"AttributeId": EVENT_ID, "Value": event_id})
    return {"Id": key, "Attribute": listed}


def allows(decision: Decision, caller: Caller) -> bool:
    """Whether a decision permits this caller, whose authentication level must meet the obligations.

    An unreadable level meets no obligation. A PlatformAccessToken needs no level.
    """
    if not decision.permit:
        return False
    if decision.level is None or not caller.level_applies:
        return True
    if caller.level is None:
        return False
    meets_org = decision.level_org is not None and caller.level >= decision.level_org
    return caller.level >= decision.level or (caller.kind is Kind.SERVICE_OWNER and meets_org)
