"""The platform's own names."""

import pytest

from events_core.access.names import AppId, Instance, Resource, Subject, ends_in_person_number

GUID = "1b2c3d4e-0000-4000-8000-000000000001"
SOURCE = f"https://ttd.apps.altinn.no/ttd/apps-test/instances/50002108/{GUID}"


def test_an_apps_resource_names_its_app() -> None:
    """The org ends at the first underscore; the app may hold more of them."""
    assert Resource.parse("urn:altinn:resource:app_ttd_apps_test").app == AppId("ttd", "apps_test")


@pytest.mark.parametrize(
    "resource",
    ["urn:altinn:resource:ttd-service", "urn:altinn:resource:app_ttd", "urn:altinn:resource:app_ttd_a/b", "app_ttd_a"],
)
def test_any_other_resource_names_no_app(resource: str) -> None:
    """What is not `app_{org}_{app}` is another kind of resource."""
    assert Resource.parse(resource).app is None


def test_a_source_names_its_instance() -> None:
    """An instance URL tells app, party and guid."""
    instance = Instance.parse(SOURCE)
    assert instance is not None
    assert (str(instance.app), instance.id, instance.host) == (
        "ttd/apps-test",
        f"50002108/{GUID}",
        "ttd.apps.altinn.no",
    )


@pytest.mark.parametrize(
    "source",
    [
        SOURCE + "/",
        SOURCE + "?a=b",
        SOURCE + "#x",
        SOURCE.replace("https", "ftp"),
        SOURCE.replace("50002108", "party"),
        SOURCE.replace("50002108", "\u0665"),
        SOURCE[:-1],
        SOURCE.replace("/ttd/", "/x/ttd/"),
        SOURCE.replace("ttd.apps", "user@ttd.apps"),
        "urn:x",
        "",
    ],
)
def test_what_is_not_exactly_an_instance_url_names_none(source: str) -> None:
    """Nothing may stand before, between or behind the parts of an instance URL."""
    assert Instance.parse(source) is None


@pytest.mark.parametrize(
    ("older", "current"),
    [
        ("urn:altinn:resource:altinnapp.ttd.apps-test", "urn:altinn:resource:app_ttd_apps-test"),
        ("urn:altinn:resource:altinnapp.ttd", "urn:altinn:resource:altinnapp.ttd"),
        ("urn:altinn:resource:other", "urn:altinn:resource:other"),
    ],
)
def test_the_older_notation_of_an_app_is_understood(older: str, current: str) -> None:
    """`altinnapp.{org}.{app}` becomes `app_{org}_{app}`, anything else stays."""
    assert Resource.parse(older).urn == current


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("urn:altinn:person:identifier-no:01899699552", True),
        ("urn:altinn:ssn:01899699552", True),
        ("/user/01899699552", True),
        ("/party/50002108", False),
        (f"urn:altinn:party:uuid:{GUID}", False),
        ("urn:altinn:resource:ttd-01899699552", False),
    ],
)
def test_eleven_digits_at_the_end_are_a_persons(identifier: str, *, expected: bool) -> None:
    """Whatever name a number of eleven digits comes under, it is taken for a person's."""
    assert ends_in_person_number(identifier) is expected


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
