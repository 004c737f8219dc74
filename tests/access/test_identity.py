"""Callers, from the claims of tokens and from consumers of subscriptions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.access.identity import (
    Caller,
    Kind,
    caller_from_claims,
    caller_from_platform_claims,
    caller_of_consumer,
)

UUID = "6b3c2f7e-9a41-4d0b-8a57-0d1f6f1c2a10"
PERSON_UUID = "6158e32f-7fd2-4cef-93fd-d29dd78439c4"
SYSTEM_USER = {"type": "urn:altinn:systemuser", "systemuser_id": [UUID]}
MASKINPORTEN = {"authority": "iso6523-actorid-upis", "ID": "0192:974760673"}


def caller(**claims: Any) -> Caller:
    """The caller with these claims. `altinn_x` means urn:altinn:x."""
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
    """The claims of a row make a token a service owner, a user, a system user or an organisation."""
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
    """The order is service owner, user, system user, organisation."""
    claims = {
        "altinn_org": "ttd",
        "altinn_userid": 20012345,
        "authorization_details": SYSTEM_USER,
        "altinn_orgNumber": "405003309",
        "consumer": MASKINPORTEN,
    }
    assert caller(**{name: value for name, value in claims.items() if name not in left_out}).consumer == consumer


def test_the_case_of_a_system_user_id_is_ignored() -> None:
    """A UUID in upper case and in lower case is one consumer."""
    details = {**SYSTEM_USER, "systemuser_id": [UUID.upper()]}
    assert caller(authorization_details=details) == caller(authorization_details=SYSTEM_USER)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ({"scope": "a  b\tc"}, {"a", "b", "c"}),
        ({"altinn_scope": "a b"}, {"a", "b"}),
        ({"scope": "a", "altinn_scope": "b"}, {"a", "b"}),
        ({"scope": ["a b", "c"]}, {"a", "b", "c"}),
        ({"scope": ["a", ""], "altinn_scope": ["a"]}, {"a"}),
        ({"scope": None}, set()),
        ({}, set()),
    ],
)
def test_the_scopes_of_both_claims_count(scopes: dict[str, Any], expected: set[str]) -> None:
    """`scope` and `urn:altinn:scope` hold a list, or a text that is split at white space."""
    assert caller(altinn_org="ttd", **scopes).scopes == expected


def test_one_of_several_scopes_is_enough() -> None:
    """A part of a scope is not."""
    made = caller(scope="altinn:events/ttd")
    assert made.has_scope("altinn:events/ttd/apps-test", "altinn:events/ttd")
    assert not made.has_scope("altinn:events", "altinn:events/tt")


IDENTIFIERS: dict[str, Any] = {
    "altinn_person:uuid": PERSON_UUID,
    "altinn_userid": 20012345,
    "altinn_partyid": 50002108,
    "altinn_orgNumber": "974760673",
}
ORGANISATION = (
    ("urn:altinn:organization:identifier-no", "974760673"),
    ("urn:altinn:organizationnumber", "974760673"),
)


@pytest.mark.parametrize(
    ("claims", "attributes"),
    [
        (list(IDENTIFIERS), (("urn:altinn:person:uuid", PERSON_UUID),)),
        (["altinn_userid", "altinn_partyid", "altinn_orgNumber"], (("urn:altinn:userid", "20012345"),)),
        (["altinn_partyid", "altinn_orgNumber"], (("urn:altinn:partyid", "50002108"),)),
        (["altinn_orgNumber"], ORGANISATION),
    ],
)
def test_the_first_identifier_is_the_subject_alone(claims: list[str], attributes: tuple[tuple[str, str], ...]) -> None:
    """The order is person, user, party, organisation. An organisation number has two names."""
    assert caller(**{name: IDENTIFIERS[name] for name in claims}).attributes == attributes


def test_the_number_of_a_maskinporten_token_is_the_subject_under_both_names() -> None:
    """Older policies name `urn:altinn:organizationnumber`."""
    assert caller(consumer=MASKINPORTEN).attributes == ORGANISATION


def test_a_service_owner_has_its_number_beside_its_org() -> None:
    """The org is a claim like any other."""
    made = caller(altinn_org="ttd", altinn_orgNumber="974760673")
    assert made.attributes == (("urn:altinn:org", "ttd"), *ORGANISATION)


def test_a_system_user_is_the_subject_alone() -> None:
    """The decision point refuses a system user's id beside any other attribute, a scope or another claim included."""
    claims: dict[str, Any] = {"altinn_authlevel": 3, "scope": "a b", "altinn_partyid": 50002108, "altinn_x": "y"}
    made = caller(authorization_details=SYSTEM_USER, consumer=MASKINPORTEN, **claims)
    assert made.attributes == (("urn:altinn:systemuser:uuid", UUID),)


@pytest.mark.parametrize("first", ["altinn_org", "altinn_userid"])
def test_a_system_users_id_stands_beside_nothing(first: str) -> None:
    """A token whose consumer is a service owner or a user keeps its own identifier."""
    claims: dict[str, Any] = {"altinn_org": "ttd", "altinn_userid": 20012345}
    made = caller(authorization_details=SYSTEM_USER, **{first: claims[first]}, **{"altinn_systemuser:uuid": UUID})
    assert made.attributes == ((first.replace("altinn_", "urn:altinn:"), str(claims[first])),)


@pytest.mark.parametrize(
    "name", ["systemuser:uuid", "organization:identifier-no", "organizationnumber", "ORGNUMBER", "UserId"]
)
def test_a_claim_that_is_named_like_an_identifier_is_not_copied(name: str) -> None:
    """A second identifier would make the decision point refuse the question, or decide about somebody else."""
    assert caller(**{"altinn_userid": 20012345, f"altinn_{name}": "974760673"}).attributes == (
        ("urn:altinn:userid", "20012345"),
    )


@pytest.mark.parametrize(
    ("scopes", "value"),
    [
        ({"scope": "a  b c"}, "a  b c"),
        ({"altinn_scope": "a b"}, "a b"),
        ({"scope": ["a b", "c"]}, "a b c"),
        ({"scope": "a", "altinn_scope": "b"}, "a"),
        ({"scope": "a", "urn:scope": "b"}, "a"),
        ({"scope": " ", "altinn_scope": "b"}, "b"),
    ],
)
def test_the_scopes_are_one_attribute(scopes: dict[str, Any], value: str) -> None:
    """The whole text of the claim is one value of `urn:scope`."""
    assert caller(altinn_userid=1, **scopes).attributes == (("urn:altinn:userid", "1"), ("urn:scope", value))


@pytest.mark.parametrize("scopes", [{}, {"scope": None}, {"scope": ""}, {"scope": []}, {"scope": [""]}])
def test_without_scopes_there_is_no_attribute_of_them(scopes: dict[str, Any]) -> None:
    """A policy that demands a scope does not match."""
    assert caller(altinn_userid=1, **scopes).attributes == (("urn:altinn:userid", "1"),)


def test_the_remaining_urn_claims_become_attributes() -> None:
    """Strings, numbers and booleans become text, each element of a list becomes an attribute."""
    claims: dict[str, Any] = {"urn:other:x": 1, "x": 1, "acr": "Level3", "URN:altinn:y": "z", "urnaltinn": "z"}
    made = caller(altinn_userid=20012345, altinn_selfidentified=True, altinn_role=["b", "a", "b"], **claims)
    assert made.attributes == (
        ("urn:altinn:role", "a"),
        ("urn:altinn:role", "b"),
        ("urn:altinn:selfidentified", "true"),
        ("urn:altinn:userid", "20012345"),
        ("urn:other:x", "1"),
    )


def test_objects_and_nulls_do_not_become_attributes() -> None:
    """An XACML attribute is a text."""
    assert caller(altinn_x={"a": "b"}, altinn_y=None, altinn_z=[{"a": 1}, None, ["n"], ""]).attributes == ()


@pytest.mark.parametrize(
    "name",
    ["altinn_ssn", "altinn_person:identifier-no", "altinn_PERSON:Identifier-No", "altinn_SSN", "urn:x:pid", "urn:fnr"],
)
@pytest.mark.parametrize("value", ["01899699552", "018996 99552", ["x"]])
def test_a_claim_named_for_a_person_number_does_not_become_an_attribute(name: str, value: Any) -> None:
    """Its value does not matter, nor the case of its name."""
    assert caller(**{name: value}).attributes == ()


@pytest.mark.parametrize("name", ["altinn_x", "altinn_userid", "altinn_partyid", "altinn_person:uuid", "scope"])
@pytest.mark.parametrize("value", ["21876112989", 21876112989, "/person/21876112989", "urn:altinn:ssn: 21876112989 "])
def test_eleven_digits_never_become_an_attribute(name: str, value: Any) -> None:
    """They may be a person number, alone or in a URN, which never goes to the decision point."""
    assert caller(**{name: value}).attributes == ()
    assert caller_of_consumer("/user/21876112989", 3).attributes == ()


def test_eleven_digits_in_a_list_are_left_out() -> None:
    """The other elements stay."""
    assert caller(altinn_x=["01899699552", " 01899699552 ", "y"]).attributes == (("urn:altinn:x", "y"),)


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
    """Without the claim a system user and an unexchanged Maskinporten token have level 3, any other has 0."""
    assert caller(**claims).level == level


@pytest.mark.parametrize("unreadable", ["high", "", -1, 5, 3.5, True, ["3"], {}, " 3", "\uff13", "03"])
def test_an_unreadable_level_is_none(unreadable: Any) -> None:
    """Such a caller meets no obligation, not even a system user."""
    assert caller(authorization_details=SYSTEM_USER, altinn_authlevel=unreadable).level is None


def test_a_platform_token_is_an_app() -> None:
    """`iss` and urn:altinn:app name the app. Its scopes and other claims do not count, and it needs no level."""
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
    """An issuer with `/` or `_` and an app with `/` are nobody, so that two pairs never give one app."""
    made = caller_from_platform_claims({"iss": iss, "urn:altinn:app": app}, "token")
    assert (made.kind, made.consumer, made.attributes, made.level) == (Kind.NONE, "", (), None)


@pytest.mark.parametrize(
    ("consumer", "kind", "attributes"),
    [
        ("/org/ttd", Kind.SERVICE_OWNER, (("urn:altinn:org", "ttd"),)),
        ("/user/20012345", Kind.USER, (("urn:altinn:userid", "20012345"),)),
        (f"/systemuser/{UUID}", Kind.SYSTEM_USER, (("urn:altinn:systemuser:uuid", UUID),)),
        ("/organisation/974760673", Kind.ORGANISATION, ORGANISATION),
    ],
)
def test_a_subscriptions_consumer_is_a_caller(
    consumer: str, kind: Kind, attributes: tuple[tuple[str, str], ...]
) -> None:
    """The decision point gets what the consumer names, and the level comes from the subscription."""
    assert caller_of_consumer(consumer, 3) == Caller(kind, consumer, attributes=attributes, level=3)


@pytest.mark.parametrize(
    "claims",
    [
        {"altinn_userid": 20012345, "altinn_partyid": 50002108},
        {"authorization_details": SYSTEM_USER, "consumer": MASKINPORTEN, "scope": "a"},
        {"consumer": MASKINPORTEN},
    ],
)
def test_a_token_and_its_consumer_are_the_same_subject(claims: dict[str, Any]) -> None:
    """A delivery asks about the consumer as a page asks about the token, apart from scopes and further claims."""
    made = caller(**claims)
    assert caller_of_consumer(made.consumer, made.level).attributes == made.attributes


@pytest.mark.parametrize("consumer", ["", "/", "/org", "/org/", "/app/ttd/apps-test", "/party/1"])
def test_another_consumer_has_no_rights(consumer: str) -> None:
    """An app cannot subscribe, and a consumer without a name is nobody."""
    assert caller_of_consumer(consumer, 3) == Caller(Kind.NONE, consumer, level=None)


def test_the_token_is_not_in_the_callers_text() -> None:
    """A caller may be logged."""
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
def test_all_claims_make_a_caller(claims: dict[str, Any]) -> None:
    """Claims that a trusted issuer signs never raise an error."""
    assert caller_from_claims(claims, "t").level in {0, 1, 2, 3, 4, None}
    assert caller_from_platform_claims(claims, "t").scopes == frozenset()
