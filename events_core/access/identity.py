"""The caller of a request, made from the claims of a verified token (docs/consumers.md, "Tokens")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import islice
from typing import Any

from events_core.access.names import (
    APP,
    GUID,
    OLDER_ORGANISATION_NUMBER,
    ORG,
    ORGANISATION_NUMBER,
    PARTY_ID,
    PERSON_UUID,
    SYSTEM_USER,
    SYSTEM_USER_ID,
    USER_ID,
    AppId,
)
from events_core.common.persons import holds_person_number

_CLAIMED_ORGANISATION_NUMBER = "urn:altinn:orgNumber"
_CLAIMED_SCOPE = "urn:altinn:scope"
_LEVEL = "urn:altinn:authlevel"
_SCOPE = "urn:scope"
_ORGANISATION = (ORGANISATION_NUMBER, OLDER_ORGANISATION_NUMBER)
"""The names of an organisation number. Policies use either."""
_IDENTIFIERS = frozenset(
    {PERSON_UUID, USER_ID, PARTY_ID, *_ORGANISATION, SYSTEM_USER_ID}
    | {_CLAIMED_ORGANISATION_NUMBER.lower(), _CLAIMED_SCOPE, _SCOPE}
)
"""Claims, in lower case, that become attributes by rules of their own, or not at all."""
_PERSONAL = re.compile("urn:(.*:)?(person:identifier-no|ssn|pid|fnr)(:.*)?", re.IGNORECASE | re.ASCII | re.DOTALL)
"""The names of claims that hold a person number. They never become attributes."""

_ORG_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_PERSON_ID = re.compile(r"[!-~]{1,200}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_NINE_DIGITS = re.compile(r"[0-9]{9}")
_ISO6523 = re.compile(r"0192:([0-9]{9})")
_GUID = re.compile(GUID)
_LEVELS = re.compile(r"[0-4]")

_MACHINE_LEVEL = 3
"""The level of a system user and of an unexchanged Maskinporten token if no level is claimed."""


class Kind(Enum):
    """The row of the token table that applies to a caller."""

    SERVICE_OWNER = "service-owner"
    USER = "user"
    SYSTEM_USER = "system-user"
    ORGANISATION = "organisation"
    APP = "app"
    NONE = "none"


_CONSUMERS = {
    "org": (Kind.SERVICE_OWNER, (ORG,)),
    "user": (Kind.USER, (USER_ID,)),
    "systemuser": (Kind.SYSTEM_USER, (SYSTEM_USER_ID,)),
    "organisation": (Kind.ORGANISATION, _ORGANISATION),
}
"""The kind and the XACML attributes of each form of consumer that may subscribe."""

_Pairs = Iterator[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    `consumer` is `/org/ttd`, `/user/20012345`, `/systemuser/UUID` or `/organisation/974760673`. It is
    `/app/ttd/apps-test` for a PlatformAccessToken, and "" for a valid token that identifies nobody.
    `attributes` are the XACML subject attributes, sorted. `level` is the authentication level 0 to 4, None if the
    claim is unreadable: such a caller meets no obligation. A PlatformAccessToken needs no level (`level_applies`).
    `bearer` is the token itself. The service forwards it to Register and never logs it.
    """

    kind: Kind
    consumer: str
    attributes: tuple[tuple[str, str], ...] = ()
    scopes: frozenset[str] = frozenset()
    level: int | None = 0
    level_applies: bool = True
    bearer: str = field(default="", repr=False, compare=False)

    def __hash__(self) -> int:
        return hash(self.consumer)  # the generated hash covers every attribute, and would be taken for every row

    def has_scope(self, *any_of: str) -> bool:
        """Whether the token carries at least one of the scopes."""
        return not self.scopes.isdisjoint(any_of)


def caller_from_claims(claims: Mapping[str, object], bearer: str) -> Caller:
    """The caller that the claims of a verified bearer token describe.

    If a claim that identifies somebody is there and cannot be read, or one of scopes, the caller is nobody and has no
    rights. Falling through to another claim would turn one caller into another.
    """
    try:
        identities, scopes = _Identities.read(claims), [*_scope_texts(claims)]
    except _UnreadableError:
        return Caller(Kind.NONE, "", level=None, bearer=bearer)
    kind, consumer = identities.consumer()
    return Caller(
        kind,
        consumer,
        attributes=tuple(sorted({*_subject(claims, identities, kind, scopes)})),
        scopes=frozenset(" ".join(scopes).split()),
        level=_level(claims, kind, identities),
        bearer=bearer,
    )


def caller_from_platform_claims(claims: Mapping[str, object], token: str) -> Caller:
    """The app `{iss}/{app}` that the claims of a verified PlatformAccessToken describe. It has no scopes."""
    app = _app(claims.get("iss"), claims.get(APP))
    if app is None:
        return Caller(Kind.NONE, "", level=None, bearer=token)
    return Caller(
        Kind.APP, f"/app/{app}", attributes=((APP, app.app), (ORG, app.org)), level_applies=False, bearer=token
    )


@lru_cache(maxsize=2_000)
def caller_of_consumer(consumer: str, level: int | None) -> Caller:
    """The caller that a subscription's `consumer` names, at the authentication level of the subscriber's token.

    The other claims of that token are not kept, so a decision about this caller does not depend on them.
    """
    word, _, name = consumer.removeprefix("/").partition("/")
    if word not in _CONSUMERS or not name:
        return Caller(Kind.NONE, consumer, level=None)
    kind, names = _CONSUMERS[word]
    return Caller(kind, consumer, attributes=tuple(_named(names, [name])), level=level)


class _UnreadableError(Exception):
    """A claim is there and cannot be read."""


@dataclass(frozen=True, slots=True)
class _Identities:
    """Everybody that the claims identify. The consumer is the first in the order of the token table."""

    org: str | None
    person: str | None
    user: str | None
    party: str | None
    system_user: str | None
    organisation: str | None
    exchanged: bool

    @classmethod
    def read(cls, claims: Mapping[str, object]) -> _Identities:
        organisation = _number(claims, _CLAIMED_ORGANISATION_NUMBER, _NINE_DIGITS)
        maskinporten = _maskinporten_consumer(claims)
        return cls(
            org=_text(claims, ORG, _ORG_NAME),
            person=_text(claims, PERSON_UUID, _PERSON_ID),
            user=_number(claims, USER_ID, _NUMBER),
            party=_number(claims, PARTY_ID, _NUMBER),
            system_user=_system_user(claims),
            organisation=organisation or maskinporten,
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

    def identifier(self) -> _Pairs:
        """The attributes of the one identifier that the decision point gets, unless the consumer is a system user."""
        if self.person:
            return _named([PERSON_UUID], [self.person])
        if self.user:
            return _named([USER_ID], [self.user])
        if self.party:
            return _named([PARTY_ID], [self.party])
        return _named(_ORGANISATION, [self.organisation] if self.organisation else [])


def _text(claims: Mapping[str, object], name: str, form: re.Pattern[str]) -> str | None:
    """The claim as text of the given form without a person's number, None only if it is absent."""
    if name not in claims:
        return None
    text = claims[name]
    if not isinstance(text, str) or not form.fullmatch(text) or holds_person_number(text):
        raise _UnreadableError(name)
    return text


def _number(claims: Mapping[str, object], name: str, form: re.Pattern[str]) -> str | None:
    """The claim as digits of the given form, also where it is a JSON number; see `_text`."""
    value = claims.get(name)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return _text({name: str(value)} if is_integer else claims, name, form)


def _scalar(value: object) -> str | None:
    """A JSON string, number or boolean as text, None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


def _system_user(claims: Mapping[str, object]) -> str | None:
    """The UUID of the one system user in RFC 9396 `authorization_details`, an object or a list of objects.

    Entries of other types are ignored. An entry without a type may be anything, so it cannot be read.
    """
    details = claims.get("authorization_details", [])
    entries: list[Any] = details if isinstance(details, list) else [details]
    if not all(isinstance(entry, dict) and _is_named(entry.get("type")) for entry in entries):
        raise _UnreadableError("authorization_details")
    match [entry.get("systemuser_id") for entry in entries if entry["type"].lower() == SYSTEM_USER]:
        case []:
            return None
        case [[str() as uuid]] | [str() as uuid] if _GUID.fullmatch(uuid):
            return uuid.lower()
        case _:
            raise _UnreadableError("authorization_details")


def _is_named(kind: object) -> bool:
    return isinstance(kind, str) and bool(kind.strip())


def _maskinporten_consumer(claims: Mapping[str, object]) -> str | None:
    """The organisation number in an ISO 6523 `consumer` claim."""
    if "consumer" not in claims:
        return None
    match claims["consumer"]:
        case {"authority": "iso6523-actorid-upis", "ID": str() as number} if found := _ISO6523.fullmatch(number):
            return found[1]
        case _:
            raise _UnreadableError("consumer")


def _app(iss: object, name: object) -> AppId | None:
    """The app with this issuer and name. Neither may contain `/`, so two different pairs never give the same app."""
    if not isinstance(iss, str) or not isinstance(name, str) or not name.strip("."):
        return None
    return AppId.parse(f"{iss}/{name}")


def _subject(claims: Mapping[str, object], identities: _Identities, kind: Kind, scope_texts: Iterable[str]) -> _Pairs:
    """The subject attributes of a token, as Altinn's own enforcement library builds them (Altinn.Common.PEP 4).

    The decision point refuses a system user's id beside any other attribute.
    """
    if kind is Kind.SYSTEM_USER:
        yield SYSTEM_USER_ID, str(identities.system_user)
        return
    yield from identities.identifier()
    yield from _named([_SCOPE], islice(scope_texts, 1))
    for name, value in claims.items():
        if name.startswith("urn:") and name.lower() not in _IDENTIFIERS and not _PERSONAL.fullmatch(name):
            yield from _named([name], _texts(value))


def _named(names: Iterable[str], texts: Iterable[str]) -> _Pairs:
    """Each text under each of the names, unless name or text holds a person's number."""
    return ((name, text) for text in texts for name in names if not holds_person_number(f"{name} {text}"))


def _texts(value: object) -> Iterator[str]:
    """The texts of a claim, one for each element of a list. Objects, nulls and empty strings have none."""
    elements = value if isinstance(value, list) else [value]
    return filter(None, map(_scalar, elements))


def _scope_texts(claims: Mapping[str, object]) -> Iterator[str]:
    """The text of each claim that holds scopes: a text or a list of texts, which is joined by spaces. Null has none."""
    for name in ("scope", _CLAIMED_SCOPE):
        if (value := claims.get(name)) is None:
            continue
        listed = value if isinstance(value, list) else [value]
        texts = [part for part in listed if isinstance(part, str)]
        if len(texts) < len(listed):
            raise _UnreadableError(name)
        if any(map(str.strip, texts)):
            yield " ".join(texts)


def _level(claims: Mapping[str, object], kind: Kind, identities: _Identities) -> int | None:
    value = claims.get(_LEVEL)
    if value is None:
        is_maskinporten = kind is Kind.ORGANISATION and not identities.exchanged
        return _MACHINE_LEVEL if is_maskinporten or kind is Kind.SYSTEM_USER else 0
    text = _scalar(value)
    return int(text) if text and _LEVELS.fullmatch(text) else None
