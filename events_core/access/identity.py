"""Who asks: a Caller, made from the claims of a verified token (docs/consumers.md). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from events_core.access.names import PERSON_NUMBER, AppId

_ALTINN = "urn:altinn:"
_ORG = "urn:altinn:org"
_APP = "urn:altinn:app"
_ORGANISATION_NUMBER = "urn:altinn:orgNumber"
_USER_ID = "urn:altinn:userid"
_PARTY_ID = "urn:altinn:partyid"
_LEVEL = "urn:altinn:authlevel"
_SYSTEM_USER = "urn:altinn:systemuser"
_PERSONAL = frozenset({PERSON_NUMBER, "urn:altinn:ssn"})

_ORG_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_NINE_DIGITS = re.compile(r"[0-9]{9}")
_ISO6523 = re.compile(r"0192:([0-9]{9})")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_LEVELS = re.compile(r"[0-4]")

_MACHINE_LEVEL = 3
"""What a system user and an unexchanged Maskinporten token count as when no level is claimed."""


class Kind(Enum):
    """Which row of the token table named the consumer."""

    SERVICE_OWNER = "service-owner"
    USER = "user"
    SYSTEM_USER = "system-user"
    ORGANISATION = "organisation"
    APP = "app"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    `consumer` is `/org/ttd`, `/user/20012345`, `/systemuser/UUID`, `/organisation/974760673`, `/app/ttd/apps-test`
    for a PlatformAccessToken, or "" for a valid token that names nobody. `attributes` are the XACML subject
    attributes, sorted. `level` is the authentication level 0 to 4, None when the claim cannot be read (denies),
    and `level_applies` is False for a PlatformAccessToken, of which no level is asked.
    `bearer` is the token itself, forwarded to Register and never logged.
    """

    kind: Kind
    consumer: str
    attributes: tuple[tuple[str, str], ...] = ()
    scopes: frozenset[str] = frozenset()
    level: int | None = 0
    level_applies: bool = True
    bearer: str = field(default="", repr=False, compare=False)

    def has_scope(self, *any_of: str) -> bool:
        """Whether the token carries at least one of the scopes."""
        return not self.scopes.isdisjoint(any_of)


def caller_from_claims(claims: Mapping[str, object], bearer: str) -> Caller:
    """Make the caller that a verified bearer token's claims describe.

    A claim that names somebody and cannot be read makes the token name nobody and grant nothing: falling
    through to another claim would turn one caller into another.
    """
    try:
        names = _Names.read(claims)
    except _UnreadableError:
        return Caller(Kind.NONE, "", level=None, bearer=bearer)
    kind, consumer = names.consumer()
    return Caller(
        kind,
        consumer,
        attributes=_attributes(claims, names),
        scopes=frozenset(_scopes(claims)),
        level=_level(claims, kind, names),
        bearer=bearer,
    )


@lru_cache(maxsize=10_000)
def caller_of_consumer(consumer: str, level: int | None) -> Caller:
    """The caller that a consumer string names, with the authentication level of the token that it came from.

    What a token says besides is not known any more: a decision on such a caller holds without that token.
    """
    kind, name = _CONSUMERS.get(consumer.split("/")[1] if "/" in consumer else "", (Kind.NONE, ""))
    if kind is Kind.NONE:
        return Caller(Kind.NONE, consumer, level=None)
    return Caller(kind, consumer, attributes=((name, consumer.split("/", 2)[2]),), level=level)


def caller_from_platform_claims(claims: Mapping[str, object], token: str) -> Caller:
    """Make the app `{iss}/{app}` that a verified PlatformAccessToken's claims describe; it carries no scopes."""
    app = _app(claims.get("iss"), claims.get(_APP))
    if app is None:
        return Caller(Kind.NONE, "", level=None, bearer=token)
    attributes = ((_APP, app.app), (_ORG, app.org))
    return Caller(Kind.APP, f"/app/{app}", attributes=attributes, level_applies=False, bearer=token)


_CONSUMERS = {
    "org": (Kind.SERVICE_OWNER, _ORG),
    "user": (Kind.USER, _USER_ID),
    "systemuser": (Kind.SYSTEM_USER, f"{_SYSTEM_USER}:uuid"),
    "organisation": (Kind.ORGANISATION, "urn:altinn:organization:identifier-no"),
}


class _UnreadableError(Exception):
    """A claim that names somebody is there and cannot be read."""


@dataclass(frozen=True, slots=True)
class _Names:
    """Everybody whom the claims name; the first in the order of the token table is the consumer."""

    org: str | None
    user: str | None
    system_user: str | None
    organisation: str | None
    exchanged: bool

    @classmethod
    def read(cls, claims: Mapping[str, object]) -> _Names:
        organisation = _text(claims, _ORGANISATION_NUMBER, _NINE_DIGITS)
        _text(claims, _PARTY_ID, _NUMBER)
        return cls(
            org=_text(claims, _ORG, _ORG_NAME),
            user=_text(claims, _USER_ID, _NUMBER),
            system_user=_system_user(claims.get("authorization_details")),
            organisation=organisation or _maskinporten_consumer(claims.get("consumer")),
            exchanged=organisation is not None,
        )

    def consumer(self) -> tuple[Kind, str]:
        if self.org:
            return Kind.SERVICE_OWNER, f"/org/{self.org}"
        if self.user:
            return Kind.USER, f"/user/{self.user}"
        if self.system_user:
            return Kind.SYSTEM_USER, f"/systemuser/{self.system_user}"
        if self.organisation:
            return Kind.ORGANISATION, f"/organisation/{self.organisation}"
        return Kind.NONE, ""


def _text(claims: Mapping[str, object], name: str, shape: re.Pattern[str]) -> str | None:
    """The claim as text of the given shape, None when it is absent, null or empty."""
    value = claims.get(name)
    if value is None or value == "":
        return None
    text = _scalar(value)
    if text is None or not shape.fullmatch(text):
        raise _UnreadableError(name)
    return text


def _scalar(value: object) -> str | None:
    """A JSON string, number or boolean as text; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


def _system_user(details: object) -> str | None:
    """The UUID in RFC 9396 `authorization_details`, an object or a list of one."""
    entries: list[Any] = details if isinstance(details, list) else [details]
    if not any(isinstance(entry, dict) and entry.get("type") == _SYSTEM_USER for entry in entries):
        return None
    ids = entries[0].get("systemuser_id") if len(entries) == 1 else None
    match ids:
        case [str() as uuid] | (str() as uuid) if _UUID.fullmatch(uuid):
            return uuid.lower()
        case _:
            raise _UnreadableError("authorization_details")


def _maskinporten_consumer(consumer: object) -> str | None:
    """The organisation number in an ISO 6523 `consumer` claim."""
    match consumer:
        case {"authority": "iso6523-actorid-upis", "ID": str() as number}:
            found = _ISO6523.fullmatch(number)
            if not found:
                raise _UnreadableError("consumer")
            return found[1]
        case _:
            return None


def _app(iss: object, name: object) -> AppId | None:
    """The app that issuer and name make; neither can hold a `/`, so no pair reads as another app."""
    if not isinstance(iss, str) or not isinstance(name, str) or not name.strip("."):
        return None
    return AppId.parse(f"{iss}/{name}")


def _attributes(claims: Mapping[str, object], names: _Names) -> tuple[tuple[str, str], ...]:
    claimed = [name for name in claims if name.startswith(_ALTINN) and name not in _PERSONAL]
    pairs = {(name, value) for name in claimed for value in _values(claims[name])}
    if names.system_user:
        pairs.add((f"{_SYSTEM_USER}:uuid", names.system_user))
    if names.organisation:
        pairs.add(("urn:altinn:organization:identifier-no", names.organisation))
    return tuple(sorted(pairs))


def _values(value: object) -> Iterator[str]:
    """The claim's values as text, one for each element of a list; objects and nulls have none."""
    elements = value if isinstance(value, list) else [value]
    return filter(None, map(_scalar, elements))


def _scopes(claims: Mapping[str, object]) -> Iterator[str]:
    for name in ("scope", "urn:altinn:scope"):
        value = claims.get(name)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield from text.split()


def _level(claims: Mapping[str, object], kind: Kind, names: _Names) -> int | None:
    value = claims.get(_LEVEL)
    if value is None:
        maskinporten = kind is Kind.ORGANISATION and not names.exchanged
        return _MACHINE_LEVEL if maskinporten or kind is Kind.SYSTEM_USER else 0
    text = _scalar(value)
    return int(text) if text and _LEVELS.fullmatch(text) else None
