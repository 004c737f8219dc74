"""The platform's names: apps, instances, resources and subjects. Each grammar stands here and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from urllib.parse import urlsplit

RESOURCE_PREFIX = "urn:altinn:resource:"
APP_PREFIX = f"{RESOURCE_PREFIX}app_"
ORGANISATION_NUMBER = "urn:altinn:organization:identifier-no"
PERSON_NUMBER = "urn:altinn:person:identifier-no"
PARTY_ID = "urn:altinn:partyid"
ORG = "urn:altinn:org"

_ORG = "[A-Za-z0-9-]+"
_APP = "[A-Za-z0-9._-]+"
_APP_ID = re.compile(rf"{APP_PREFIX}({_ORG})_({_APP})")
_OLDER_APP_ID = re.compile(rf"{RESOURCE_PREFIX}altinnapp\.({_ORG})\.({_APP})")
_INSTANCE = re.compile(
    rf"https?://([^/?#@]+)/({_ORG})/({_APP})/instances/([0-9]{{1,10}})/"
    "([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"
)
_NAMED = re.compile(rf"({_ORG})/({_APP})")
_LABELS = re.compile(r"(?:[a-z0-9-]+\.)*")
_PATH_SUBJECT = re.compile(r"/(party|user|org|organisation|systemuser|person)/([^/]+)", re.IGNORECASE)
_ORGANISATION_SUBJECT = re.compile(rf"{ORGANISATION_NUMBER}:([0-9]{{9}})", re.IGNORECASE)
_PERSON_SUBJECT = re.compile(rf"{PERSON_NUMBER}:(.*)", re.IGNORECASE | re.DOTALL)
_URN = re.compile(r"urn:[a-z0-9][a-z0-9-]*:.+", re.IGNORECASE | re.ASCII | re.DOTALL)
_PARTY_NUMBER = re.compile(r"[0-9]{1,10}")
_UNIT_NUMBER = re.compile(r"[0-9]{9}")
_ELEVEN_DIGITS_AT_THE_END = re.compile(r"[:/][0-9]{11}\Z")
_MAY_NAME_A_PERSON = re.compile(r"(?i)^/person/|^urn:altinn:person:|(?<![0-9a-f-])[0-9]{11}(?![0-9a-f-])")
_PARSED = 10_000
"""Parsed names that a process remembers, of each kind."""


@dataclass(frozen=True, slots=True)
class AppId:
    """An app, `{org}/{app}`."""

    org: str
    app: str

    @classmethod
    def parse(cls, text: str) -> AppId | None:
        """The app that `org/app` names, None if no app can have that name."""
        match = _NAMED.fullmatch(text)
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
    @lru_cache(maxsize=_PARSED)
    def parse(source: str) -> Instance | None:
        """The instance that an event source `https://…/{org}/{app}/instances/{party}/{guid}` names, or None."""
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
    """The resource of an event, a URN. `app` is the app that it stands for, None for any other resource."""

    urn: str
    app: AppId | None

    @staticmethod
    @lru_cache(maxsize=_PARSED)
    def parse(text: str) -> Resource:
        """The resource that a text names. The older notation `altinnapp.{org}.{app}` becomes `app_{org}_{app}`."""
        match = _APP_ID.fullmatch(text) or _OLDER_APP_ID.fullmatch(text)
        if match is None:
            return Resource(text, None)
        app = AppId(*match.groups())
        return Resource(app.resource, app)

    @property
    def action(self) -> str:
        """What a reader of its events does in the policy's words: `read` an app's, `subscribe` to any other's."""
        return "subscribe" if self.app is None else "read"

    @property
    def attribute(self) -> tuple[str, str]:
        """The XACML attribute of a resource other than an app's: the URN split at its last colon."""
        name, _, value = self.urn.rpartition(":")
        return name or RESOURCE_PREFIX.removesuffix(":"), value


class SubjectKind(Enum):
    """What an event is about."""

    PARTY = "party"
    USER = "user"
    ORG = "org"
    ORGANISATION = "organisation"
    SYSTEM_USER = "systemuser"
    PERSON = "person"
    """A person by the URN of the person number."""
    PERSON_PATH = "person path"
    """A person as alternative subjects name one, `/person/{number}`."""
    URN = "urn"
    OTHER = "other"


_ATTRIBUTES = {
    SubjectKind.PARTY: PARTY_ID,
    SubjectKind.USER: "urn:altinn:userid",
    SubjectKind.ORG: ORG,
    SubjectKind.ORGANISATION: ORGANISATION_NUMBER,
    SubjectKind.SYSTEM_USER: "urn:altinn:systemuser:uuid",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about. `value` is the number or name within `text`; for a URN or any other text, all of it.

    The word before the number is read without regard to case, as filters of subscriptions compare subjects.
    """

    text: str
    kind: SubjectKind
    value: str

    @staticmethod
    @lru_cache(maxsize=_PARSED)
    def parse(text: str) -> Subject:
        """The subject that a text names; every text is one."""
        if path := _PATH_SUBJECT.fullmatch(text):
            word, value = path[1].lower(), path[2]
            kind = SubjectKind.PERSON_PATH if word == "person" else SubjectKind(word)
            if kind is not SubjectKind.PARTY or _PARTY_NUMBER.fullmatch(value):
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
        """What stands after the URN of the person number; it need not be a number that exists."""
        return self.value if self.kind is SubjectKind.PERSON else None

    @property
    def organisation_number(self) -> str | None:
        """The nine digits of an organisation."""
        is_number = self.kind is SubjectKind.ORGANISATION and _UNIT_NUMBER.fullmatch(self.value)
        return self.value if is_number else None

    @property
    def register_urn(self) -> str | None:
        """The URN under which Register knows the organisation that this may be; None for any other subject."""
        if self.party is not None:
            return f"urn:altinn:party:id:{self.party}"
        number = self.organisation_number
        return None if number is None else f"{ORGANISATION_NUMBER}:{number}"

    @property
    def attribute(self) -> tuple[str, str] | None:
        """The XACML attribute that it is; None for a person's number and for a shape that is not in the contract."""
        if ends_in_person_number(self.text):
            return None
        if self.kind is SubjectKind.URN:
            name, _, value = self.text.rpartition(":")
            return name, value
        name_of_kind = _ATTRIBUTES.get(self.kind)
        return None if name_of_kind is None else (name_of_kind, self.value)

    @property
    def alternative_unit(self) -> str | None:
        """The nine digits of an organisation as alternative subjects write it, which may be `/org/{number}` too."""
        is_unit = self.kind in {SubjectKind.ORG, SubjectKind.ORGANISATION} and re.fullmatch("[0-9]{9}", self.value)
        return self.value if is_unit else None

    @property
    def alternative_person(self) -> str | None:
        """The eleven digits of a person as alternative subjects write it, a path or a URN."""
        is_person = self.kind in {SubjectKind.PERSON, SubjectKind.PERSON_PATH} and re.fullmatch("[0-9]{11}", self.value)
        return self.value if is_person else None


def subjects_of_organisation(party_id: int, number: str) -> list[str]:
    """Every subject that names an organisation."""
    return [f"/party/{party_id}", f"/organisation/{number}", f"{ORGANISATION_NUMBER}:{number}"]


def ends_in_person_number(identifier: str) -> bool:
    """Whether a URN or path ends in eleven digits; only person numbers have as many."""
    return _ELEVEN_DIGITS_AT_THE_END.search(identifier) is not None


def may_name_person(text: str) -> bool:
    """Whether a text names a person by number, or holds eleven digits that stand alone: it must not be in a URL."""
    return _MAY_NAME_A_PERSON.search(text) is not None


def is_under(url: str, domain: str) -> bool:
    """Whether a URL is `https` and its host (with port) is a domain or a name below it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host, domain = parts.netloc.lower(), domain.lower()
    below = host.removesuffix(domain)
    return parts.scheme == "https" and host.endswith(domain) and _LABELS.fullmatch(below) is not None
