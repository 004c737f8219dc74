"""Events that pass for something else in XACML questions: another resource, or a person by number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from events_core.access.xacml_request import (
    question_about,
    resource_of,
    to_request,
)
from events_core.cloudevent import CloudEvent
from tests.support.askers import (
    OWNER,
    PERSON,
    PERSON_SUBJECT,
    app_event,
    other_event,
)


@pytest.mark.parametrize("event", [app_event, partial(other_event, instance="2")], ids=["app", "other"])
@pytest.mark.parametrize("spelt", [str, str.upper, str.title])
@pytest.mark.parametrize(
    "name",
    [
        "urn:altinn:resource",
        "urn:altinn:org",
        "urn:altinn:app",
        "urn:altinn:appresource",
        "urn:altinn:instance-id",
        "urn:altinn:resource:instance-id",
        "urn:altinn:event-id",
        "urn:altinn:eventtype",
        "urn:altinn:eventsource",
        "urn:oasis:names:tc:xacml:1.0:action:action-id",
        "urn:altinn:task",
        "urn:altinn:end-event",
    ],
)
def test_a_subject_never_passes_for_the_resource(
    event: Callable[..., CloudEvent], spelt: Callable[[str], str], name: str
) -> None:
    """A policy on the value in the subject would permit an event that has another value."""
    assert resource_of(event(subject=f"{spelt(name)}:1")) == resource_of(event(subject=None))


@pytest.mark.parametrize(
    "name",
    [
        *("urn:altinn:x y", "urn:altinn:é", "urn:altinn:x/y", "urn:altinn:\u017f", "urn:a:x\n"),
        *("urn:altinn:resource ", " urn:altinn:resource", "urn:altinn:resource\t", "urn:altinn:resource\u00a0"),
        *("urn:altinn:%72esource", "urn:altinn:resource%20", "urn%3aaltinn:resource", "urn:altinn:%2572esource"),
        *(
            "urn:altinn:resource\u200b",
            "urn:altinn:re\u00adsource",
            "\ufeffurn:altinn:resource",
            "urn:altinn:resource\0",
        ),
        *(
            "urn:altinn:re\u0455ource",
            "urn:altinn:\uff52esource",
            "urn:altinn\uff1aresource",
            "urn:altinn:re\u017fource",
        ),
        *("urn:altinn:x/../resource", "urn:altinn:resource?", "urn:altinn:resource#", "urn:altinn:resource\u3002"),
    ],
)
def test_a_subject_with_odd_characters_before_its_last_colon_gives_no_attribute(name: str) -> None:
    """An attribute's name has letters, digits, colons, dots, underscores and hyphens."""
    assert resource_of(other_event(subject=f"{name}:1")) == resource_of(other_event())
    assert ("urn:altinn:a.b_c-D1", "é /?") in resource_of(other_event(subject="urn:altinn:a.b_c-D1:é /?"))


@pytest.mark.parametrize("value", ["", " ", "\u00a0", "\n"])
@pytest.mark.parametrize("event", [app_event, other_event])
def test_a_subject_with_nothing_after_its_last_colon_gives_no_attribute(
    event: Callable[..., CloudEvent], value: str
) -> None:
    """An empty party would take the place of the instance's."""
    assert resource_of(event(subject=f"urn:altinn:partyid:{value}")) == resource_of(event(subject=None))


@pytest.mark.parametrize("name", ["eventtype", "EVENTSOURCE", "resource:instance-id"])
def test_a_resource_never_adds_a_value_to_another_attribute_of_its_event(name: str) -> None:
    """A question holds each attribute once: a policy would match either value."""
    attributes = resource_of(other_event(resource=f"urn:altinn:{name}:mine", instance="7"))
    names = [attribute.lower() for attribute, _ in attributes]
    assert len(set(names)) == len(names)
    assert "mine" not in dict(attributes).values()


def test_subject_never_adds_a_value_to_a_resource_of_another_namespace() -> None:
    """The attribute's name comes from the resource, and belongs to the resource alone."""
    event = other_event(resource="urn:example:shelf:1", subject="urn:example:shelf:2")
    assert dict(resource_of(event))["urn:example:shelf"] == "1"


@pytest.mark.parametrize(
    "subject", [PERSON_SUBJECT, PERSON_SUBJECT.upper(), PERSON_SUBJECT + ":1", PERSON_SUBJECT + "?"]
)
def test_persons_number_never_becomes_an_attribute(subject: str) -> None:
    """The spelling of the URN does not matter."""
    assert PERSON not in str(resource_of(other_event(subject=subject)))


@pytest.mark.parametrize(
    "subject",
    [
        *(f"urn:altinn:ssn:{PERSON}", f"/user/{PERSON}", f"urn:x:person:{PERSON}", f"urn:altinn:ssn:{PERSON} "),
        *(
            f"/user/ {PERSON}\u00a0",
            f"urn:x:{PERSON}:1",
            f"urn:{PERSON}:x:1",
            f"urn:x:a-{PERSON}:b",
            f"urn:x:{PERSON}/",
        ),
        *(
            f"/org/{PERSON}x",
            f"/user/%30{PERSON[1:]}",
            f"urn:x:%2530{PERSON[1:]}:1",
            f"urn:x:{PERSON[:6]} {PERSON[6:]}",
        ),
    ],
)
@pytest.mark.parametrize("event", [app_event, other_event])
def test_eleven_digits_never_become_an_attribute(event: Callable[..., CloudEvent], subject: str) -> None:
    """A subject gives no attribute if the digits stand in it, in the attribute's name too."""
    assert resource_of(event(subject=subject)) == resource_of(event(subject=None))


@pytest.mark.parametrize(
    ("given", "name", "sent"),
    [
        ({"kind": f"letter.{PERSON}"}, "urn:altinn:eventtype", "letter.***"),
        ({"instance": f"{PERSON}/1"}, "urn:altinn:resource:instance-id", "***/1"),
        ({"source": f"https://x.example/{PERSON}/1"}, "urn:altinn:eventsource", "https://x.example/***/1"),
        ({"source": f"https://x.example/%30{PERSON[1:]}"}, "urn:altinn:eventsource", "***"),
        ({"resource": f"urn:altinn:resource:x-{PERSON}"}, "urn:altinn:resource", "x-***"),
        ({"resource": f"urn:x:{PERSON}:1"}, "urn:x:***", "1"),
    ],
)
def test_a_persons_number_in_another_attribute_is_masked(given: dict[str, str], name: str, sent: str) -> None:
    """The decision point gets the rest, which policies name: the beginning of a source, for example."""
    attributes = dict(resource_of(other_event(**given)))
    assert attributes[name] == sent
    assert PERSON not in str(attributes)


def test_a_persons_number_in_an_events_id_is_masked() -> None:
    """The id is sent and decides nothing."""
    about = replace(other_event(), id=f"letter-{PERSON}")
    sent = to_request([question_about(about, OWNER, "read", resource_of(about))])
    assert "letter-***" in str(sent)
    assert PERSON not in str(sent)
