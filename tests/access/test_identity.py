from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.access.identity import Caller, Kind, caller_from_claims, caller_from_platform_claims

UUID = "6b3c2f7e-9a41-4d0b-8a57-0d1f6f1c2a10"
SYSTEM_USER = {"type": "urn:altinn:systemuser", "systemuser_id": [UUID]}
MASKINPORTEN = {"authority": "iso6523-actorid-upis", "ID": "0192:974760673"}


def caller(**claims: Any) -> Caller:
    """The caller of these claims; `altinn_x` stands for urn:altinn:x."""
    return caller_from_claims(
        {name.replace("altinn_", "urn:altinn:"): value for name, value in claims.items()}, "token"
    )


@pytest.mark.parametrize(
    ("claims", "kind", "consumer"),
    [
        ({"altinn_org": "ttd", "altinn_orgNumber": "405003309"}, Kind.SERVICE_OWNER, "/org/ttd"),
        ({"altinn_userid": 20012345, "altinn_partyid": 50002108}, Kind.USER, "/user/20012345"),
        ({"altinn_userid": "20012345"}, Kind.USER, "/user/20012345"),
        ({"authorization_details": SYSTEM_USER}, Kind.SYSTEM_USER, f"/systemuser/{UUID}"),
        ({"authorization_details": [SYSTEM_USER]}, Kind.SYSTEM_USER, f"/systemuser/{UUID}"),
        ({"altinn_orgNumber": "974760673"}, Kind.ORGANISATION, "/organisation/974760673"),
        ({"altinn_orgNumber": 974760673}, Kind.ORGANISATION, "/organisation/974760673"),
        ({"consumer": MASKINPORTEN}, Kind.ORGANISATION, "/organisation/974760673"),
        ({"sub": "somebody"}, Kind.NONE, ""),
    ],
)
def test_each_row_of_the_token_table_names_its_consumer(claims: dict[str, Any], kind: Kind, consumer: str) -> None:
    """A token is a service owner, a user, a system user or an organisation by the claims of its row."""
    made = caller(**claims)
    assert (made.kind, made.consumer) == (kind, consumer)


@pytest.mark.parametrize(
    ("left_out", "consumer"),
    [
        ((), "/org/ttd"),
        (("altinn_org",), "/user/20012345"),
        (("altinn_org", "altinn_userid"), f"/systemuser/{UUID}"),
        (("altinn_org", "altinn_userid", "authorization_details"), "/organisation/405003309"),
    ],
)
def test_the_first_row_that_applies_names_the_consumer(left_out: tuple[str, ...], consumer: str) -> None:
    """The rows are tried in the order service owner, user, system user, organisation."""
    claims = {
        "altinn_org": "ttd",
        "altinn_userid": 20012345,
        "authorization_details": SYSTEM_USER,
        "altinn_orgNumber": "405003309",
        "consumer": MASKINPORTEN,
    }
    assert caller(**{name: value for name, value in claims.items() if name not in left_out}).consumer == consumer


@pytest.mark.parametrize("absent", [None, ""])
def test_a_null_or_empty_claim_counts_as_absent(absent: str | None) -> None:
    """A row whose claim is null or empty does not apply, and the next one may."""
    assert caller(altinn_org=absent, altinn_userid=20012345).consumer == "/user/20012345"


@pytest.mark.parametrize(
    "malformed",
    [
        {"altinn_org": "ttd/apps-test"},
        {"altinn_org": "ttd_x"},
        {"altinn_org": "ttd\n"},
        {"altinn_org": ["ttd", "skd"]},
        {"altinn_org": "t" * 65},
        {"altinn_userid": "twenty"},
        {"altinn_userid": -1},
        {"altinn_userid": 0},
        {"altinn_userid": True},
        {"altinn_userid": 1.5},
        {"altinn_userid": "\u0663"},
        {"altinn_partyid": "50002108; 1"},
        {"altinn_orgNumber": "97476067"},
        {"altinn_orgNumber": {"ID": "974760673"}},
        {"authorization_details": {"type": "urn:altinn:systemuser"}},
        {"authorization_details": {"type": "urn:altinn:systemuser", "systemuser_id": ["1"]}},
        {"authorization_details": {"type": "urn:altinn:systemuser", "systemuser_id": [UUID, UUID]}},
        {"authorization_details": {"type": "urn:altinn:systemuser", "systemuser_id": [None]}},
        {"authorization_details": [SYSTEM_USER, SYSTEM_USER]},
        {"authorization_details": [{"type": "other"}, SYSTEM_USER]},
        {"consumer": {**MASKINPORTEN, "ID": "0192:97476067"}},
        {"consumer": {**MASKINPORTEN, "ID": "974760673"}},
    ],
)
def test_a_claim_that_names_somebody_and_cannot_be_read_grants_nothing(malformed: dict[str, Any]) -> None:
    """A malformed identity never falls through to another one, and the token's scopes count no more."""
    made = caller(**{"altinn_userid": 20012345, "scope": "altinn:events.publish.admin", **malformed})
    assert made == Caller(Kind.NONE, "", level=None, bearer="token")


def test_authorization_details_of_another_type_are_no_system_user() -> None:
    """Only the type urn:altinn:systemuser makes a system user; other details (RFC 9396) are ignored."""
    details = [{"type": "payment", "systemuser_id": [UUID]}, "text", None]
    assert caller(authorization_details=details, altinn_orgNumber="974760673").kind is Kind.ORGANISATION


def test_a_consumer_of_another_authority_names_nobody() -> None:
    """Only ISO 6523 numbers of Maskinporten are organisation numbers."""
    assert caller(consumer={**MASKINPORTEN, "authority": "other"}).kind is Kind.NONE


def test_a_system_user_id_has_one_spelling() -> None:
    """Upper and lower case of a UUID are one consumer."""
    details = {**SYSTEM_USER, "systemuser_id": [UUID.upper()]}
    assert caller(authorization_details=details) == caller(authorization_details=SYSTEM_USER)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ({"scope": "a  b\tc"}, {"a", "b", "c"}),
        ({"altinn_scope": "a b"}, {"a", "b"}),
        ({"scope": "a", "altinn_scope": "b"}, {"a", "b"}),
        ({"scope": ["a b", "c", 1]}, {"a", "b", "c"}),
        ({"scope": {"a": 1}}, set()),
        ({"scope": None}, set()),
        ({}, set()),
    ],
)
def test_scopes_are_those_of_both_claims(scopes: dict[str, Any], expected: set[str]) -> None:
    """`scope` and `urn:altinn:scope` are one claim, space-separated or a list."""
    assert caller(altinn_org="ttd", **scopes).scopes == expected


def test_has_scope_asks_for_any_of_several() -> None:
    """One of the scopes suffices, and a part of one does not."""
    made = caller(scope="altinn:events/ttd")
    assert made.has_scope("altinn:events/ttd/apps-test", "altinn:events/ttd")
    assert not made.has_scope("altinn:events", "altinn:events/tt")


def test_attributes_are_all_altinn_claims_as_text() -> None:
    """Strings, numbers and booleans become text, a list one attribute for each element, sorted by name."""
    made = caller(
        altinn_userid=20012345, altinn_partyid="50002108", altinn_selfidentified=True, altinn_role=["b", "a", "b"], x=1
    )
    assert made.attributes == (
        ("urn:altinn:partyid", "50002108"),
        ("urn:altinn:role", "a"),
        ("urn:altinn:role", "b"),
        ("urn:altinn:selfidentified", "true"),
        ("urn:altinn:userid", "20012345"),
    )


def test_objects_and_nulls_are_no_attributes() -> None:
    """A XACML attribute is a text; what is none, at any depth, is left out."""
    assert caller(altinn_x={"a": "b"}, altinn_y=None, altinn_z=[{"a": 1}, None, ["n"], ""]).attributes == ()


def test_the_system_user_is_an_attribute() -> None:
    """The system user id is sent as urn:altinn:systemuser:uuid, beside its organisation's number."""
    assert caller(authorization_details=SYSTEM_USER, consumer=MASKINPORTEN).attributes == (
        ("urn:altinn:organization:identifier-no", "974760673"),
        ("urn:altinn:systemuser:uuid", UUID),
    )


def test_the_organisation_number_is_an_attribute_of_every_kind() -> None:
    """The number is sent as urn:altinn:organization:identifier-no, also of a service owner."""
    made = caller(altinn_org="ttd", altinn_orgNumber="405003309")
    assert ("urn:altinn:organization:identifier-no", "405003309") in made.attributes


@pytest.mark.parametrize("name", ["altinn_ssn", "altinn_person:identifier-no"])
def test_a_persons_number_is_no_attribute(name: str) -> None:
    """A person's number never goes to the decision point."""
    assert caller(**{name: "01899699552"}).attributes == ()


@pytest.mark.parametrize(
    ("claims", "level"),
    [
        ({"altinn_userid": 1, "altinn_authlevel": 4}, 4),
        ({"altinn_userid": 1, "altinn_authlevel": "2"}, 2),
        ({"altinn_userid": 1, "altinn_authlevel": 0}, 0),
        ({"altinn_userid": 1}, 0),
        ({"altinn_org": "ttd"}, 0),
        ({"altinn_org": "ttd", "consumer": MASKINPORTEN}, 0),
        ({"altinn_orgNumber": "974760673"}, 0),
        ({"altinn_orgNumber": "974760673", "consumer": MASKINPORTEN}, 0),
        ({"consumer": MASKINPORTEN}, 3),
        ({"authorization_details": SYSTEM_USER}, 3),
        ({"authorization_details": SYSTEM_USER, "altinn_authlevel": 2}, 2),
        ({"consumer": MASKINPORTEN, "altinn_authlevel": "1"}, 1),
    ],
)
def test_the_level_is_claimed_or_follows_from_the_kind(claims: dict[str, Any], level: int) -> None:
    """Without the claim a system user and an unexchanged Maskinporten token count as 3, anybody else as 0."""
    assert caller(**claims).level == level


@pytest.mark.parametrize("unreadable", ["high", "", -1, 5, 3.5, True, ["3"], {}, " 3", "\uff13", "03"])
def test_a_level_that_cannot_be_read_is_none(unreadable: Any) -> None:
    """A level that is no number from 0 to 4 denies, of a system user too."""
    assert caller(authorization_details=SYSTEM_USER, altinn_authlevel=unreadable).level is None


def test_a_platform_token_is_an_app() -> None:
    """`iss` and urn:altinn:app name the app; no scope and no other claim of it counts, and no level is asked."""
    claims = {"iss": "ttd", "urn:altinn:app": "apps-test", "urn:altinn:org": "skd", "scope": "altinn:events.erase"}
    assert caller_from_platform_claims(claims, "token") == Caller(
        Kind.APP,
        "/app/ttd/apps-test",
        attributes=(("urn:altinn:app", "apps-test"), ("urn:altinn:org", "ttd")),
        level_applies=False,
    )


@pytest.mark.parametrize(
    ("iss", "app"),
    [
        ("ttd/apps-test", "x"),
        ("ttd", "apps-test/x"),
        ("ttd", "../skd/apps-test"),
        ("ttd_apps", "test"),
        ("ttd", ".."),
        ("ttd", "."),
        ("ttd", ""),
        ("", "apps-test"),
        ("ttd", "apps%2Ftest"),
        ("ttd", "apps test"),
        ("ttd\n", "apps-test"),
        ("ttd", "apps-test\n"),
        ("http://127.0.0.1:7072", "apps-test"),
        ("ttd", ["apps-test"]),
        ("ttd", None),
        (None, "apps-test"),
        (7, "apps-test"),
    ],
)
def test_a_platform_token_cannot_spell_another_app(iss: Any, app: Any) -> None:
    """An issuer with `/` or `_` and an app with `/` are nobody, so that no pair reads as another pair."""
    made = caller_from_platform_claims({"iss": iss, "urn:altinn:app": app}, "token")
    assert (made.kind, made.consumer, made.attributes, made.level) == (Kind.NONE, "", (), None)


def test_the_token_is_not_shown() -> None:
    """A caller's text, as a log might hold it, is without the token."""
    assert "secret" not in repr(caller_from_claims({"urn:altinn:org": "ttd"}, "secret"))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(
    ["iss", "scope", "consumer", "authorization_details", *(f"urn:altinn:{n}" for n in ("org", "userid", "authlevel"))]
)


@given(st.dictionaries(_NAMES | st.text(max_size=8), _JSON | st.just(SYSTEM_USER) | st.just(MASKINPORTEN)))
def test_no_claims_are_too_odd(claims: dict[str, Any]) -> None:
    """Whatever a trusted issuer signs becomes a caller, never an error."""
    assert caller_from_claims(claims, "t").level in {0, 1, 2, 3, 4, None}
    assert caller_from_platform_claims(claims, "t").scopes == frozenset()
