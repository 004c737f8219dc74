"""The rules of subscription requests, and the error texts of the API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from events_core.access import scopes
from events_core.access.identity import Caller, Kind, caller_of_consumer
from events_core.common.errors import EventsError
from events_core.delivery.rules import SubscriptionRequest, filter_for

TTD = Caller(Kind.SERVICE_OWNER, "/org/ttd", scopes=frozenset({scopes.SUBSCRIBE}))
USER = Caller(Kind.USER, "/user/20012345")
SYSTEM_USER = Caller(Kind.SYSTEM_USER, "/systemuser/6b3c2f7e-9a41-4d0b-8a57-0d1f6f1c2a10")
ORGANISATION = Caller(Kind.ORGANISATION, "/organisation/974760673")
NOBODY = Caller(Kind.NONE, "")
APP, MAIL = "urn:altinn:resource:app_ttd_apps-test", "urn:altinn:resource:ttd-mail"
DOMAIN = "apps.altinn.example"
SOURCE = f"https://ttd.{DOMAIN}/ttd/apps-test"


def refusal(caller: Caller, domain: str | None = DOMAIN, **wanted: Any) -> tuple[int, str, list[str]]:
    """The status, the text and the fields of a refusal."""
    with pytest.raises(EventsError) as refused:
        filter_for(caller, SubscriptionRequest(**wanted), domain)
    error = refused.value
    return error.problem.status, error.detail, [fault.field for fault in error.errors]


@pytest.mark.parametrize(
    ("wanted", "resource"),
    [
        ({"resource": APP}, APP),
        ({"resource": "urn:altinn:resource:altinnapp.ttd.apps-test"}, APP),
        ({"source": SOURCE}, APP),
        ({"source": f"{SOURCE}/"}, APP),
        ({"source": f"{SOURCE}/%"}, APP),
        ({"source": SOURCE, "resource": APP}, APP),
        ({"source": f"https://%.{DOMAIN}/ttd/apps-test"}, APP),
        ({"resource": MAIL}, MAIL),
        ({"resource": MAIL, "subject": "/party/1", "include_subunits": True}, MAIL),
    ],
)
def test_a_request_names_one_resource(wanted: dict[str, Any], resource: str) -> None:
    """An app is named by its resource, in older notation too, or its URL; anything else by its resource."""
    assert filter_for(TTD, SubscriptionRequest(**wanted), DOMAIN).resource == resource


def test_without_an_apps_domain_any_host_can_have_apps() -> None:
    """A laptop has no apps domain."""
    assert filter_for(TTD, SubscriptionRequest(source="https://local.example/ttd/apps-test"), None).resource == APP


@pytest.mark.parametrize(
    ("wanted", "words", "field"),
    [
        ({"source": f"{SOURCE}/instances/1337"}, "A valid app id is required in source filter", "sourceFilter"),
        ({"source": f"http://ttd.{DOMAIN}/ttd/apps-test"}, "must be an absolute URL", "sourceFilter"),
        ({"source": f"https://ttd.{DOMAIN}/ttd"}, "A valid app id is required in source filter", "sourceFilter"),
        ({"source": f"https://ttd.{DOMAIN}//ttd/apps-test"}, "A valid app id is required", "sourceFilter"),
        ({"source": f"https://ttd.{DOMAIN}/ttd/%"}, "A valid app id is required", "sourceFilter"),
        ({"source": f"{SOURCE}?a=b"}, "A valid app id is required", "sourceFilter"),
        ({"source": SOURCE, "resource": f"{APP}2"}, "Provided resource filter and source", "resourceFilter"),
        ({"resource": APP, "source": "https://evil.example/ttd/apps-test"}, "The source must be under", "sourceFilter"),
        ({"resource": "urn:altinn:resource:app_ttd"}, "The resource must be urn:altinn:", "resourceFilter"),
        ({"resource": MAIL, "source": "https://x.example/a"}, "Source filter is not supported", "sourceFilter"),
        ({"resource": MAIL, "alternative_subject": "/org/1"}, "AlternativeSubject filter", "alternativeSubjectFilter"),
        ({}, "Resource filter is required.", "resourceFilter"),
        ({"source": "https://x.example/ttd/apps-test"}, "Resource filter is required.", "resourceFilter"),
        ({"resource": "mail"}, "The resource must be one URN", "resourceFilter"),
        ({"resource": "urn:altinn:resource:%"}, "The resource must be one URN", "resourceFilter"),
        ({"resource": "urn:altinn:resource:"}, "The resource must be one URN", "resourceFilter"),
        ({"resource": MAIL, "type": "%" * 11}, "at most 10 wildcards", "typeFilter"),
        ({"resource": MAIL, "subject": "%a" * 11}, "at most 10 wildcards", "subjectFilter"),
        ({"resource": APP, "alternative_subject": "%a" * 11}, "at most 10 wildcards", "alternativeSubjectFilter"),
        ({"source": f"https://{'%.' * 11}{DOMAIN}/ttd/apps-test"}, "at most 10 wildcards", "sourceFilter"),
        ({"resource": MAIL, "type": "a" * 257}, "at most 256 characters", "typeFilter"),
        ({"resource": MAIL, "subject": "a" * 513}, "at most 512 characters", "subjectFilter"),
        ({"resource": APP, "alternative_subject": "a" * 513}, "at most 512 characters", "alternativeSubjectFilter"),
        ({"source": f"https://{'a' * 2_048}.{DOMAIN}/ttd/apps-test"}, "at most 2,048 characters", "sourceFilter"),
        ({"resource": MAIL, "subject": "/party/%", "include_subunits": True}, "requires a subject", "includeSubunits"),
        ({"resource": "urn:altinn:person:identifier-no:01899699552"}, "must not be a person", "resourceFilter"),
        ({"resource": f"{APP}-01899699552"}, "must not be a person", "resourceFilter"),
        ({"source": f"https://ttd.{DOMAIN}/ttd/01899699552"}, "must not hold the number of a person", "sourceFilter"),
        ({"resource": MAIL, "include_subunits": True}, "IncludeSubunits requires a subject filter.", "includeSubunits"),
        ({"resource": APP, "include_subunits": True}, "IncludeSubunits requires a subject filter.", "includeSubunits"),
    ],
)
def test_a_refusal_names_the_field_in_the_words_of_the_api(wanted: dict[str, Any], words: str, field: str) -> None:
    """It repeats no part of the value."""
    status, detail, fields = refusal(TTD, **wanted)
    assert (status, fields) == (400, [field])
    assert words in detail
    assert "01899699552" not in detail


def test_only_a_service_owner_may_omit_the_subject() -> None:
    """For an app's events, any other caller names a subject."""
    status, detail, _ = refusal(USER, resource=APP)
    assert (status, detail) == (400, "A valid subject to the authenticated identity is required")
    assert filter_for(USER, SubscriptionRequest(resource=APP, subject="/party/1"), DOMAIN).subject == "/party/1"
    assert (
        filter_for(USER, SubscriptionRequest(resource=APP, alternative_subject="/org/974760673"), DOMAIN).resource
        == APP
    )


def test_a_subject_with_a_wildcard_is_no_subject() -> None:
    """It would stand for every subject, so only a service owner may use it alone."""
    for caller in (USER, SYSTEM_USER, ORGANISATION):
        for text in ("%", "/party/%", "%/party/1", "urn:altinn:partyid:%", "/%", "%25"):
            for wanted in (
                {"subject": text},
                {"alternative_subject": text},
                {"subject": text, "alternative_subject": "%"},
            ):
                status, detail, _ = refusal(caller, resource=APP, **wanted)
                assert (status, detail) == (400, "A valid subject to the authenticated identity is required")
    assert filter_for(TTD, SubscriptionRequest(resource=APP, subject="/party/%"), DOMAIN).subject == "/party/%"


@pytest.mark.parametrize("blank", [" ", "/", " / ", "//"])
def test_a_subject_of_spaces_and_slashes_is_no_subject(blank: str) -> None:
    """Nothing is called that."""
    assert refusal(USER, resource=APP, subject=blank)[0] == 400
    assert refusal(TTD, resource=APP, subject=blank, include_subunits=True)[2] == ["includeSubunits"]


@pytest.mark.parametrize("subject", ["%", "/party/%", " "])
def test_a_subject_that_is_none_gives_way_to_the_alternative_subject(subject: str) -> None:
    """The party of the alternative subject is looked up, and the decision point is asked about it."""
    wanted = SubscriptionRequest(resource=APP, subject=subject, alternative_subject="/org/974760673")
    assert filter_for(USER, wanted, DOMAIN).subject is None
    assert filter_for(TTD, replace(wanted, include_subunits=True), DOMAIN).subject is None
    assert filter_for(TTD, wanted, DOMAIN).subject == subject


def test_ten_wildcards_are_taken() -> None:
    """More would make matching slow."""
    assert filter_for(TTD, SubscriptionRequest(resource=MAIL, type="%a" * 10), DOMAIN).type == "%a" * 10


def test_resources_other_than_apps_need_a_scope() -> None:
    """The form of a request is checked before the scope."""
    status, detail, _ = refusal(USER, resource=MAIL)
    assert (status, detail) == (403, f"The scope {scopes.SUBSCRIBE} is required.")
    assert refusal(USER)[0] == 400


@pytest.mark.parametrize(
    "source",
    [
        "http://altinn.no/ttd/",
        "/ttd/app",
        "ttd/app",
        "urn:x:y",
        "https:///ttd/app",
        "https://[/ttd/app",
        "//a.no/ttd/app",
        f"http://ttd.{DOMAIN}/ttd/apps-test",
    ],
)
def test_the_form_of_a_source_is_checked_before_the_scope(source: str) -> None:
    """A caller without the scope learns what is wrong, too."""
    for caller in (TTD, USER):
        for domain in (DOMAIN, None):
            status, detail, fields = refusal(caller, domain, source=source)
            assert (status, fields) == (400, ["sourceFilter"])
            assert detail == "The source filter must be an absolute URL that begins with https://."


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("app_ttd_apps-test", f" Did you mean {APP}?"),
        ("ttd/apps-test", f" Did you mean {APP}?"),
        ("altinnapp.ttd.apps-test", f" Did you mean {APP}?"),
        ("altinn:resource:app_ttd_apps-test", f" Did you mean {APP}?"),
        ("ttd-mail", f" Did you mean {MAIL}?"),
        ("01899699552", ""),
        ("two words", ""),
    ],
)
def test_a_resource_that_is_no_urn_is_named_as_it_should_be(written: str, hint: str) -> None:
    """Before the scope is checked, and without repeating a person number."""
    status, detail, fields = refusal(USER, resource=written)
    assert (status, fields) == (400, ["resourceFilter"])
    assert detail == f"The resource must be one URN, which begins with urn:.{hint}"


def test_a_caller_without_a_consumer_cannot_subscribe() -> None:
    """The decision point could not be asked about anyone."""
    status, detail, _ = refusal(NOBODY, resource=APP)
    assert (status, detail) == (400, "Missing event consumer")


def test_an_unknown_consumer_is_a_caller_without_attributes() -> None:
    """It may read nothing that requires a level."""
    caller = caller_of_consumer("/app/ttd/apps-test", 4)
    assert (caller.kind, caller.attributes, caller.level) == (Kind.NONE, (), None)
