"""The platform's names: apps, instances, resources and subjects. Their grammar is defined here only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from events_core.common.persons import holds_person_number

RESOURCE = "urn:altinn:resource"
RESOURCE_PREFIX = f"{RESOURCE}:"
APP_PREFIX = f"{RESOURCE_PREFIX}app_"
ORG = "urn:altinn:org"
APP = "urn:altinn:app"
PARTY_ID = "urn:altinn:partyid"
PARTY_UUID = "urn:altinn:party:uuid"
PERSON_UUID = "urn:altinn:person:uuid"
USER_ID = "urn:altinn:userid"
SYSTEM_USER = "urn:altinn:systemuser"
SYSTEM_USER_ID = f"{SYSTEM_USER}:uuid"
ORGANISATION_NUMBER = "urn:altinn:organization:identifier-no"
OLDER_ORGANISATION_NUMBER = "urn:altinn:organizationnumber"
PERSON_NUMBER = "urn:altinn:person:identifier-no"

GUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
"""The form of a GUID, as a regular expression."""

_ORG = "[A-Za-z0-9-]+"
_APP = "[A-Za-z0-9._-]+"
_APP_ID = re.compile(rf"({_ORG})/({_APP})")
_APP_RESOURCE = re.compile(rf"{APP_PREFIX}({_ORG})_({_APP})")
_OLDER_APP_RESOURCE = re.compile(rf"{RESOURCE_PREFIX}altinnapp\.({_ORG})\.({_APP})")
_INSTANCE = re.compile(rf"https?://([^/?#@]+)/({_ORG})/({_APP})/instances/([0-9]{{1,10}})/({GUID})")
# With re.ASCII: without it, re.IGNORECASE also takes U+017F for "s" and U+212A for "k".
_ANY_CASE = re.IGNORECASE | re.ASCII
_PATH_SUBJECT = re.compile("/(party|user|org|organisation|systemuser|person)/([^/]+)", _ANY_CASE)
_ORGANISATION_SUBJECT = re.compile(f"{ORGANISATION_NUMBER}:([0-9]{{9}})", _ANY_CASE)
_PERSON_SUBJECT = re.compile(f"{PERSON_NUMBER}:(.*)", _ANY_CASE | re.DOTALL)
_URN = re.compile("urn:[a-z0-9][a-z0-9-]*:.+", _ANY_CASE | re.DOTALL)
_ATTRIBUTE_NAME = re.compile("[A-Za-z0-9:._-]+")
_PARTY_ID_DIGITS = re.compile("[0-9]{1,10}")
_ORGANISATION_DIGITS = re.compile("[0-9]{9}")
_PERSON_DIGITS = re.compile("[0-9]{11}")
_HTTPS_URL = re.compile(r"https://((?:[a-z0-9-]++\.)*+[a-z0-9-]++(?::[0-9]++)?)(?:[/?#].*)?", _ANY_CASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class AppId:
    """An app, `{org}/{app}`."""

    org: str
    app: str

    @classmethod
    def parse(cls, text: str) -> AppId | None:
        """The app that `org/app` names, None if no app can have that name. A person's number is in no name."""
        match = None if holds_person_number(text) else _APP_ID.fullmatch(text)
        return cls(*match.groups()) if match else None

    @property
    def resource(self) -> str:
        """The resource of the app's events."""
        return f"{APP_PREFIX}{self.org}_{self.app}"

    def __str__(self) -> str:
        return f"{self.org}/{self.app}"


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance of an app, named by its URL."""

    host: str
    app: AppId
    party: str
    guid: str

    @staticmethod
    def parse(source: str) -> Instance | None:
        """The instance that the source `https://…/{org}/{app}/instances/{party}/{guid}` names, None for any other."""
        match = _INSTANCE.fullmatch(source)
        if not match:
            return None
        host, org, app, party, guid = match.groups()
        return Instance(host, AppId(org, app), party, guid)

    @property
    def id(self) -> str:
        """`{party}/{guid}`."""
        return f"{self.party}/{self.guid}"


@dataclass(frozen=True, slots=True)
class Resource:
    """The resource of an event, a URN. `app` is None unless the resource is an app."""

    urn: str
    app: AppId | None

    @staticmethod
    def parse(text: str) -> Resource:
        """The resource that a text names. The older notation `altinnapp.{org}.{app}` becomes `app_{org}_{app}`."""
        match = _APP_RESOURCE.fullmatch(text) or _OLDER_APP_RESOURCE.fullmatch(text)
        if match is None:
            return Resource(text, None)
        app = AppId(*match.groups())
        return Resource(app.resource, app)

    @property
    def action(self) -> str:
        """The action in a policy that lets a caller receive the resource's events."""
        return "subscribe" if self.app is None else "read"

    @property
    def attribute(self) -> tuple[str, str]:
        """The XACML attribute of a resource that is not an app: the URN split at its last colon."""
        name, _, value = self.urn.rpartition(":")
        return name or RESOURCE, value


class SubjectKind(Enum):
    """What an event is about. The value of a path's kind is the path's first word."""

    PARTY = "party"
    USER = "user"
    ORG = "org"
    ORGANISATION = "organisation"
    SYSTEM_USER = "systemuser"
    PERSON_PATH = "person"
    """`/person/{number}`, a form that only alternative subjects have."""
    PERSON = PERSON_NUMBER
    URN = "urn"
    OTHER = "other"


_ATTRIBUTES = {
    SubjectKind.PARTY: PARTY_ID,
    SubjectKind.USER: USER_ID,
    SubjectKind.ORG: ORG,
    SubjectKind.ORGANISATION: ORGANISATION_NUMBER,
    SubjectKind.SYSTEM_USER: SYSTEM_USER_ID,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about. `value` is the number or name within `text`, or all of `text` if it has neither.

    The case of everything but `value` is ignored, since filters of subscriptions ignore it too.
    """

    text: str
    kind: SubjectKind
    value: str

    @staticmethod
    def parse(text: str) -> Subject:
        """The subject that a text names. Every text is a subject."""
        if path := _PATH_SUBJECT.fullmatch(text):
            kind, value = SubjectKind(path[1].lower()), path[2]
            if kind is not SubjectKind.PARTY or _PARTY_ID_DIGITS.fullmatch(value):
                return Subject(text, kind, value)
        elif organisation := _ORGANISATION_SUBJECT.fullmatch(text):
            return Subject(text, SubjectKind.ORGANISATION, organisation[1])
        elif person := _PERSON_SUBJECT.fullmatch(text):
            return Subject(text, SubjectKind.PERSON, person[1])
        elif _URN.fullmatch(text):
            return Subject(text, SubjectKind.URN, text)
        return Subject(text, SubjectKind.OTHER, text)

    @property
    def party(self) -> str | None:
        """The party id of `/party/{id}`, 1 to 10 digits."""
        return self.value if self.kind is SubjectKind.PARTY else None

    @property
    def person_number(self) -> str | None:
        """The text after `urn:altinn:person:identifier-no:`. It may be malformed: see `is_person_number`."""
        return self.value if self.kind is SubjectKind.PERSON else None

    @property
    def organisation_number(self) -> str | None:
        """The nine digits of an organisation."""
        is_number = self.kind is SubjectKind.ORGANISATION and _ORGANISATION_DIGITS.fullmatch(self.value)
        return self.value if is_number else None

    @property
    def register_urn(self) -> str | None:
        """The URN under which Register may know the subject as an organisation, None if it cannot be one."""
        if self.party is not None:
            return f"urn:altinn:party:id:{self.party}"
        number = self.organisation_number
        return None if number is None else f"{ORGANISATION_NUMBER}:{number}"

    @property
    def attribute(self) -> tuple[str, str] | None:
        """The XACML attribute of the subject.

        None for a subject that holds a person's number, in the name of the attribute too, and for a form that no policy
        knows.
        """
        if holds_person_number(self.text):
            return None
        if self.kind is SubjectKind.URN:
            name, _, value = self.text.rpartition(":")
            return (name, value) if value.strip() and _ATTRIBUTE_NAME.fullmatch(name) else None
        name_of_kind = _ATTRIBUTES.get(self.kind)
        return None if name_of_kind is None else (name_of_kind, self.value)

    @property
    def alternative_unit(self) -> str | None:
        """The nine digits of an organisation as alternative subjects write it, which may be `/org/{number}` too."""
        may_be = self.kind in {SubjectKind.ORG, SubjectKind.ORGANISATION}
        return self.value if may_be and _ORGANISATION_DIGITS.fullmatch(self.value) else None

    @property
    def alternative_person(self) -> str | None:
        """The eleven digits of a person as alternative subjects write it, a path or a URN."""
        may_be = self.kind in {SubjectKind.PERSON, SubjectKind.PERSON_PATH}
        return self.value if may_be and is_person_number(self.value) else None


def subjects_of_organisation(party_id: int, number: str) -> list[str]:
    """Every subject that names an organisation."""
    return [f"/party/{party_id}", f"/organisation/{number}", f"{ORGANISATION_NUMBER}:{number}"]


def is_person_number(text: str) -> bool:
    """Whether a text has the form of a person number: eleven digits."""
    return _PERSON_DIGITS.fullmatch(text) is not None


def is_under(url: str, domain: str) -> bool:
    """Whether a URL is `https` and its host is a domain or a name below it. A port belongs to the host."""
    match = _HTTPS_URL.fullmatch(url)
    if match is None:
        return False
    host, domain = match[1].lower(), domain.lower()
    return host == domain or host.endswith(f".{domain}")
