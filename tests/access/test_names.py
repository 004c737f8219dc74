"""The platform's names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.access.names import (
    AppId,
    Instance,
    Resource,
    Subject,
    SubjectKind,
    is_under,
    subjects_of_organisation,
)
from events_core.common.persons import holds_person_number

GUID = "1b2c3d4e-0000-4000-8000-000000000001"
SOURCE = f"https://ttd.apps.altinn.no/ttd/apps-test/instances/50002108/{GUID}"
PERSON = "01899699552"
DOMAIN = "apps.altinn.no"


# -- Apps, resources and instances ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["ttd", "ttd/", "/apps-test", "ttd/a/b", "ttd_x/a", "ttd/a b", "ttd/æ", "ttd/a\n", ""])
def test_other_texts_name_no_app(text: str) -> None:
    """An org has letters, digits and hyphens; an app may also have dots and underscores."""
    assert AppId.parse("t-1/a.b_c-d") == AppId("t-1", "a.b_c-d")
    assert AppId.parse(text) is None


def test_the_org_ends_at_the_first_underscore_of_an_app_resource() -> None:
    """An app may have underscores in its name, an org may not."""
    assert Resource.parse("urn:altinn:resource:app_ttd_apps_test").app == AppId("ttd", "apps_test")


@pytest.mark.parametrize(
    "resource",
    ["urn:altinn:resource:ttd-service", "urn:altinn:resource:app_ttd", "urn:altinn:resource:app_ttd_a/b", "app_ttd_a"],
)
def test_a_resource_in_another_form_is_no_app(resource: str) -> None:
    """Only `urn:altinn:resource:app_{org}_{app}` is an app, and its events are read; others are subscribed to."""
    assert Resource.parse(resource).app is None
    assert Resource.parse(resource).action == "subscribe"
    assert Resource.parse("urn:altinn:resource:app_ttd_a").action == "read"


@pytest.mark.parametrize(
    ("older", "current"),
    [
        ("urn:altinn:resource:altinnapp.ttd.apps-test", "urn:altinn:resource:app_ttd_apps-test"),
        ("urn:altinn:resource:altinnapp.ttd.a.b", "urn:altinn:resource:app_ttd_a.b"),
        ("urn:altinn:resource:altinnapp.ttd", "urn:altinn:resource:altinnapp.ttd"),
        ("urn:altinn:resource:other", "urn:altinn:resource:other"),
    ],
)
def test_the_older_notation_of_an_app_is_understood(older: str, current: str) -> None:
    """`altinnapp.{org}.{app}` becomes `app_{org}_{app}`, and any other resource stays as it is."""
    assert Resource.parse(older) == Resource.parse(current)
    assert Resource.parse(older).urn == current


def test_an_app_and_its_resource_name_each_other() -> None:
    """An app's resource, parsed, is the app again."""
    app = AppId("ttd", "apps_test.x")
    assert Resource.parse(app.resource) == Resource(app.resource, app)


@pytest.mark.parametrize(
    ("resource", "attribute"),
    [
        ("urn:altinn:resource:ttd-letters", ("urn:altinn:resource", "ttd-letters")),
        ("urn:example:shelf:1", ("urn:example:shelf", "1")),
        ("letters", ("urn:altinn:resource", "letters")),
    ],
)
def test_a_resource_becomes_an_attribute_at_its_last_colon(resource: str, attribute: tuple[str, str]) -> None:
    """The part before the last colon is the attribute's name, `urn:altinn:resource` without a colon."""
    assert Resource.parse(resource).attribute == attribute


def test_a_source_names_its_instance() -> None:
    """An instance URL gives host, app, party and guid."""
    assert Instance.parse(SOURCE) == Instance("ttd.apps.altinn.no", AppId("ttd", "apps-test"), "50002108", GUID)
    assert Instance("ttd.apps.altinn.no", AppId("ttd", "apps-test"), "50002108", GUID).id == f"50002108/{GUID}"


@pytest.mark.parametrize(
    "source",
    [
        SOURCE + "/",
        SOURCE + "?a=b",
        SOURCE + "#x",
        SOURCE + "\n",
        SOURCE.replace("https", "ftp"),
        SOURCE.replace("50002108", "party"),
        SOURCE.replace("50002108", "\u0665"),
        SOURCE.replace("50002108", "1" * 11),
        SOURCE[:-1],
        SOURCE.replace("/ttd/", "/x/ttd/"),
        SOURCE.replace("ttd.apps", "user@ttd.apps"),
        "urn:x",
        "",
    ],
)
def test_a_source_in_another_form_names_no_instance(source: str) -> None:
    """Nothing may precede, separate or follow the parts of an instance URL."""
    assert Instance.parse(source) is None


# -- Subjects ---------------------------------------------------------------------------------------------------------

FORMS = [
    ("/party/50002108", SubjectKind.PARTY, "50002108", ("urn:altinn:partyid", "50002108")),
    ("/user/20012345", SubjectKind.USER, "20012345", ("urn:altinn:userid", "20012345")),
    ("/org/ttd", SubjectKind.ORG, "ttd", ("urn:altinn:org", "ttd")),
    (
        "/organisation/974760673",
        SubjectKind.ORGANISATION,
        "974760673",
        ("urn:altinn:organization:identifier-no", "974760673"),
    ),
    (
        "urn:altinn:organization:identifier-no:974760673",
        SubjectKind.ORGANISATION,
        "974760673",
        ("urn:altinn:organization:identifier-no", "974760673"),
    ),
    (f"/systemuser/{GUID}", SubjectKind.SYSTEM_USER, GUID, ("urn:altinn:systemuser:uuid", GUID)),
    (f"urn:altinn:person:identifier-no:{PERSON}", SubjectKind.PERSON, PERSON, None),
    ("urn:altinn:person:identifier-no:", SubjectKind.PERSON, "", None),
    (f"/person/{PERSON}", SubjectKind.PERSON_PATH, PERSON, None),
    ("urn:isbn:0451450523", SubjectKind.URN, "urn:isbn:0451450523", ("urn:isbn", "0451450523")),
    (
        f"urn:altinn:party:uuid:{GUID}",
        SubjectKind.URN,
        f"urn:altinn:party:uuid:{GUID}",
        ("urn:altinn:party:uuid", GUID),
    ),
    ("urn:altinn:a b:1", SubjectKind.URN, "urn:altinn:a b:1", None),
    ("letter", SubjectKind.OTHER, "letter", None),
]


@pytest.mark.parametrize(("text", "kind", "value", "attribute"), FORMS, ids=[form[0] for form in FORMS])
def test_each_form_of_subject_has_its_value_and_attribute(
    text: str, kind: SubjectKind, value: str, attribute: tuple[str, str] | None
) -> None:
    """A person and a subject of unknown form have no attribute; a URN is split at its last colon, after a name."""
    subject = Subject.parse(text)
    assert (subject.text, subject.kind, subject.value, subject.attribute) == (text, kind, value, attribute)


@pytest.mark.parametrize("text", [form[0] for form in FORMS if form[1] is not SubjectKind.URN])
def test_the_case_of_a_subject_does_not_change_its_kind(text: str) -> None:
    """Filters of subscriptions ignore case, so the decision about a subject must not depend on case either."""
    upper, lower = Subject.parse(text.upper()), Subject.parse(text)
    assert upper.kind is lower.kind
    assert upper.kind is SubjectKind.OTHER or upper.value.lower() == lower.value.lower()


@pytest.mark.parametrize(
    "text",
    ["", "/", "//", "/party/", "/party/abc", "/party/1/2", "/party/1/", "/party/٣", "/party/12345678901", "/party/1\n",
     "/car/1", "/user/", " /user/1", "urn:", "urn:x", "urn::x"],
)  # fmt: skip
def test_other_texts_are_subjects_of_unknown_form(text: str) -> None:
    """Such a subject has neither a number nor an attribute."""
    subject = Subject.parse(text)
    assert (subject.kind, subject.attribute) == (SubjectKind.OTHER, None)
    assert subject.party is subject.person_number is subject.organisation_number is subject.register_urn is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("/u\u017fer/7", SubjectKind.OTHER),
        ("/per\u017fon/1", SubjectKind.OTHER),
        ("/organi\u017fation/974760673", SubjectKind.OTHER),
        ("urn:altinn:per\u017fon:identifier-no:1", SubjectKind.URN),
    ],
)
def test_case_is_ignored_in_ascii_only(text: str, kind: SubjectKind) -> None:
    """U+017F is another letter than `s`, though its upper case is the same."""
    assert Subject.parse(text).kind is kind


@given(st.text() | st.from_regex(r"(?i)/(party|user|org|person|systemuser|organisation)/.*|urn:altinn:.*"))
def test_every_text_is_a_subject(text: str) -> None:
    """No subject makes parsing fail, and no attribute holds a person number."""
    subject = Subject.parse(text)
    assert subject.text == text
    assert subject.attribute is None or not any(map(holds_person_number, subject.attribute))


@pytest.mark.parametrize("text", [f"/user/{PERSON}", f"urn:altinn:ssn:{PERSON}", f"urn:x:person:{PERSON}"])
def test_eleven_digits_are_never_an_attribute(text: str) -> None:
    """The decision point gets no number that may be a person's, under whatever name."""
    assert Subject.parse(text).attribute is None


@pytest.mark.parametrize(
    ("text", "urn"),
    [
        ("/party/50002108", "urn:altinn:party:id:50002108"),
        ("/organisation/974760673", "urn:altinn:organization:identifier-no:974760673"),
        ("URN:altinn:organization:identifier-no:974760673", "urn:altinn:organization:identifier-no:974760673"),
        ("/organisation/97476067", None),
        ("/org/ttd", None),
        (f"/person/{PERSON}", None),
    ],
)
def test_a_subject_that_may_be_an_organisation_has_a_register_urn(text: str, urn: str | None) -> None:
    """Register knows an organisation by its party id or its nine digits."""
    assert Subject.parse(text).register_urn == urn


def test_an_organisation_has_three_subjects() -> None:
    """Register finds the organisation by each of them."""
    subjects = subjects_of_organisation(50002108, "974760673")
    assert len(subjects) == 3
    assert all(Subject.parse(subject).register_urn for subject in subjects)


# -- URLs under a domain ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"https://{DOMAIN}",
        f"https://{DOMAIN}/ttd/a",
        f"https://ttd.{DOMAIN}/ttd/a/instances/1/2?a=b#c",
        f"https://a.b-c.{DOMAIN}?x",
        f"HTTPS://TTD.{DOMAIN.upper()}/",
        f"https://%.{DOMAIN}/ttd/a".replace("%", "x"),
    ],
)
def test_the_domain_and_the_names_below_it_are_under_it(url: str) -> None:
    """Case does not matter. A filter replaces its wildcards by a letter before it asks."""
    assert is_under(url, DOMAIN)
    assert is_under(url, DOMAIN.upper())


@pytest.mark.parametrize(
    "url",
    [
        f"http://{DOMAIN}/",
        f"ftp://{DOMAIN}/",
        f"//{DOMAIN}/",
        DOMAIN,
        "https://altinn.no/",
        "https://evil.example/",
        f"https://evil{DOMAIN}/",
        f"https://%{DOMAIN}/".replace("%", "x"),
        f"https://{DOMAIN}.evil.example/",
        f"https://{DOMAIN}%/".replace("%", "x"),
        f"https://evil.example/{DOMAIN}",
        f"https://evil.example?https://{DOMAIN}",
        f"https://evil.example#.{DOMAIN}",
        f"https://user@{DOMAIN}/",
        f"https://user:pw@ttd.{DOMAIN}/",
        f"https://{DOMAIN}@evil.example/",
        f"https://evil.example\\.{DOMAIN}/",
        f"https://{DOMAIN}\\@evil.example/",
        f"https://{DOMAIN}:443/",
        f"https://ttd.{DOMAIN}:8443/",
        f"https://evil.example:80.{DOMAIN}/",
        f"https://{DOMAIN}./",
        f"https://.{DOMAIN}/",
        f"https://ttd..{DOMAIN}/",
        f"https://[::1].{DOMAIN}/",
        f"https://[{DOMAIN}]/",
        f"https://a b.{DOMAIN}/",
        f"https://ttd.apps.al\ttinn.no/{DOMAIN}",
        f"https://ttd.{DOMAIN}\n",
        f" https://{DOMAIN}/",
        f"https:///{DOMAIN}",
        f"https:{DOMAIN}/",
        "https://",
        "",
    ],
)
def test_any_other_url_is_not_under_the_domain(url: str) -> None:
    """Another scheme, user info, a port, an empty label or a stray character makes another host."""
    assert not is_under(url, DOMAIN)


def test_a_port_of_the_domain_belongs_to_the_host() -> None:
    """A local apps domain has a port, and URLs must have the same port."""
    assert is_under("https://ttd.localhost:8443/ttd/a", "localhost:8443")
    assert not is_under("https://ttd.localhost/ttd/a", "localhost:8443")
    assert not is_under("https://ttd.localhost:8444/ttd/a", "localhost:8443")


def test_the_domain_is_compared_in_ascii() -> None:
    """U+212A, whose lower case is `k`, is another letter than `k`."""
    assert not is_under("https://ttd.\u212aommune.no/", "kommune.no")


@pytest.mark.parametrize(
    ("text", "unit", "person"),
    [
        ("/org/974760673", "974760673", None),
        ("/organisation/974760673", "974760673", None),
        ("/ORGANISATION/974760673", "974760673", None),
        ("urn:altinn:organization:identifier-no:974760673", "974760673", None),
        ("/person/01899699552", None, "01899699552"),
        ("urn:altinn:person:identifier-no:01899699552", None, "01899699552"),
        ("/org/ttd", None, None),
        ("/org/9747606730", None, None),
        ("/org/97476067\u0663", None, None),
        ("/person/974760673", None, None),
        ("/party/974760673", None, None),
        ("urn:altinn:person:identifier-no:01899699552\n", None, None),
        ("974760673", None, None),
    ],
)
def test_an_alternative_subject_names_an_organisation_or_a_person(
    text: str, unit: str | None, person: str | None
) -> None:
    """Register finds the party by the number alone."""
    subject = Subject.parse(text)
    assert (subject.alternative_unit, subject.alternative_person) == (unit, person)
