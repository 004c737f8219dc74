"""Person numbers in filters: HMACs stand for them wherever filters are stored and compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from events_core.adapters.secrets import KeyRing
from events_core.delivery.matching import Comparison
from events_core.delivery.persons import PersonNumbers, masked
from events_core.delivery.subscription import EventFilter
from tests.contract.event_store import APP, event
from tests.support.deliveries import subscription

NUMBER = "01899699552"
GUID = "00000000-0000-4000-8000-a12345678901"
PERSONS = PersonNumbers(bytes(32), KeyRing([bytes(32)]))


def stored(**fields: str) -> EventFilter:
    """Filters as they are stored."""
    return PERSONS.sealed(EventFilter(APP, **fields), "/org/ttd")  # type: ignore[arg-type] # texts only


def test_no_key_of_a_subscription_can_be_made_without_the_subject_key() -> None:
    """Whoever has the database cannot try out numbers until one fits."""
    keys = {
        replace(subscription(), filter=PersonNumbers(key, PERSONS.secrets).sealed(wanted, "/org/ttd")).key
        for key in (bytes(32), bytes([1]) * 32)
        for wanted in [EventFilter(APP, subject="/party/1", alternative_subject=f"/person/{NUMBER}")]
    }
    assert len(keys) == 2
    assert replace(subscription(), filter=stored(alternative_subject=f"/person/{NUMBER}")).key == (
        replace(subscription(), filter=stored(alternative_subject=f"/person/{NUMBER}")).key
    )


@pytest.mark.parametrize(
    "subject", ["/party/50002108", "/organisation/974760673", f"urn:altinn:party:uuid:{GUID}", "%"]
)
def test_filters_and_events_without_a_person_stay_as_they_are(subject: str) -> None:
    """Eleven digits within a GUID are no number of a person."""
    wanted = EventFilter(APP, subject=subject)
    assert PERSONS.sealed(wanted, "/org/ttd") == wanted
    assert PERSONS.comparison(event(subject=subject)).subjects == [subject]


@pytest.mark.parametrize(
    ("wanted", "subject"),
    [
        ("/case/2026%", "/case/20261130124"),
        ("/CASE/%0124/", "/case/20261130124"),
        ("/case/20261130124%", "/case/20261130124567"),
        ("%20261130124", "order20261130124"),
        ("/case/20261130124", "/case/20261130124/"),
        ("/case/20261130124/%", "/case/20261130124/1"),
        ("%/%01899%", f"/user/{NUMBER}"),
        (f"/user/{NUMBER}", f"/USER/{NUMBER}"),
    ],
)
def test_stored_filters_match_what_their_texts_match(wanted: str, subject: str) -> None:
    """Numbers of cases have eleven digits too, and a wildcard may stand for some of them."""
    for field, attribute in (("subject", "subject"), ("alternative_subject", "alternativesubject")):
        about = event(**{"subject": "/party/1", attribute: subject})
        written = EventFilter(APP, **{field: wanted})  # type: ignore[arg-type] # texts only
        assert written.compiled().lets_through(Comparison(about))
        assert stored(**{field: wanted}).compiled().lets_through(PERSONS.comparison(about))


@pytest.mark.parametrize("digit", "347abcdef")
def test_no_wildcard_matches_a_part_of_an_hmac(digit: str) -> None:
    """Otherwise events about persons would match filters by chance."""
    about = PERSONS.comparison(event(subject=f"/user/{NUMBER}"))
    assert not stored(subject=f"/user/%{digit}%").compiled().lets_through(about)
    assert stored(subject="/user/%").compiled().lets_through(about)


def test_a_masked_filter_shows_no_hmac() -> None:
    """It would tell which subscriptions name the same person."""
    subject = stored(subject=f"/user/{NUMBER}").subject
    assert subject is not None
    assert masked(subject) == "/user/***"
