"""The platform's own names: resources of apps, instance URLs, subjects (docs/consumers.md). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

RESOURCE_PREFIX = "urn:altinn:resource:"
APP_PREFIX = f"{RESOURCE_PREFIX}app_"
PERSON_PREFIX = "urn:altinn:person:identifier-no:"

_PERSON_NUMBER = re.compile(r"[:/][0-9]{11}\Z")
_ORG = "[A-Za-z0-9-]+"
_APP = "[A-Za-z0-9._-]+"
_APP_ID = re.compile(rf"{APP_PREFIX}({_ORG})_({_APP})")
_OLDER_APP_ID = re.compile(rf"{RESOURCE_PREFIX}altinnapp\.({_ORG})\.({_APP})")
_INSTANCE = re.compile(
    rf"https?://([^/?#@]+)/({_ORG})/({_APP})/instances/([0-9]{{1,10}})/"
    "([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"
)
_NAMED = re.compile(rf"({_ORG})/({_APP})")


@dataclass(frozen=True, slots=True)
class AppId:
    """An app, `{org}/{app}`."""

    org: str
    app: str

    @classmethod
    def parse(cls, text: str) -> AppId | None:
        """The app that `org/app` names, None when it cannot be one."""
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
    """An instance of an app, as its URL names it."""

    host: str
    app: AppId
    party: str
    guid: str

    @property
    def id(self) -> str:
        """`{party}/{guid}`."""
        return f"{self.party}/{self.guid}"


@lru_cache(maxsize=10_000)
def app_of(resource: str) -> AppId | None:
    """The app whose events the resource stands for, None for any other resource."""
    match = _APP_ID.fullmatch(resource)
    return AppId(*match.groups()) if match else None


@lru_cache(maxsize=10_000)
def instance_of(source: str) -> Instance | None:
    """The instance that an event source `https://…/{org}/{app}/instances/{party}/{guid}` names, or None."""
    match = _INSTANCE.fullmatch(source)
    if not match:
        return None
    host, org, app, party, guid = match.groups()
    return Instance(host, AppId(org, app), party, guid)


ORGANISATION_PREFIX = "urn:altinn:organization:identifier-no:"
_ORGANISATION = re.compile(rf"(?:/organisation/|{ORGANISATION_PREFIX})([0-9]{{9}})", re.IGNORECASE)
_PARTY = re.compile(r"/party/([0-9]{1,10})", re.IGNORECASE)


def register_urn_of(subject: str) -> str | None:
    """The URN under which Register knows the organisation that a subject may be; None for any other subject."""
    party, organisation = _PARTY.fullmatch(subject), _ORGANISATION.fullmatch(subject)
    if organisation:
        return ORGANISATION_PREFIX + organisation[1]
    return f"urn:altinn:party:id:{party[1]}" if party else None


def subjects_of_organisation(party_id: int, number: str) -> list[str]:
    """Every subject that an organisation can be."""
    return [f"/party/{party_id}", f"/organisation/{number}", ORGANISATION_PREFIX + number]


def modern(resource: str) -> str:
    """The resource itself, with the older notation `altinnapp.{org}.{app}` turned into `app_{org}_{app}`."""
    match = _OLDER_APP_ID.fullmatch(resource)
    return AppId(*match.groups()).resource if match else resource


def ends_in_person_number(identifier: str) -> bool:
    """Whether a URN or path ends in eleven digits; no identifier but a person's has so many."""
    return _PERSON_NUMBER.search(identifier) is not None
