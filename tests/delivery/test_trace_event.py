"""Traces: an event may be named by its id alone, and explanations compare as deliveries are matched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from events_core.access import scopes
from events_core.access.identity import Caller, caller_of_consumer
from events_core.common.errors import EventsError, Problem
from events_core.delivery.persons import masked
from events_core.feeds.ports import FOUND
from tests.contract.event_store import event
from tests.support.delivering import KNOWN_PERSON, KNOWN_UNIT, TTD, Deployment
from tests.support.pdp_server import DENY, PERMIT

OWNER = caller_of_consumer(TTD, 3)
ADMIN = replace(caller_of_consumer("/org/digdir", 3), scopes=frozenset({scopes.PUBLISH_ADMIN}))


async def activities(deployment: Deployment, caller: Caller, source: str | None, event_id: str) -> list[str]:
    """The activities of a trace."""
    return [entry.activity for entry in await deployment.application.tracer.trace(caller, source, event_id)]


async def refusal(deployment: Deployment, caller: Caller, event_id: str) -> EventsError:
    """The error of a trace without a source."""
    with pytest.raises(EventsError) as refused:
        await deployment.application.tracer.trace(caller, None, event_id)
    return refused.value


async def test_a_trace_without_a_source_is_of_the_only_event_that_the_asker_may_see(deployment: Deployment) -> None:
    """Events of others do not count, and nobody learns of them."""
    await deployment.subscribe(type="app.mine")
    await deployment.publish(event("a", type="app.mine", source="urn:mine"), event("a", source="urn:other"))
    await deployment.deliver()
    deployment.pdp.decide = lambda asked: DENY if asked.action == "publish" else PERMIT
    deployment.forget_decisions()
    assert await activities(deployment, OWNER, None, "a") == ["matched", "attempted", "delivered"]
    assert (await refusal(deployment, caller_of_consumer("/org/skd", 3), "a")).problem is Problem.NOT_FOUND
    assert (await refusal(deployment, OWNER, "unknown")).problem is Problem.NOT_FOUND


async def test_a_trace_of_several_events_names_their_sources(deployment: Deployment) -> None:
    """An error of the parameter `source`, without numbers of persons."""
    await deployment.publish(
        event("a", source="urn:one"), event("a", source=f"https://two.example/person/{KNOWN_PERSON}")
    )
    refused = await refusal(deployment, ADMIN, "a")
    assert (refused.problem, [fault.field for fault in refused.errors]) == (Problem.BAD_REQUEST, ["source"])
    assert refused.detail.endswith("https://two.example/person/***, urn:one")
    assert await activities(deployment, ADMIN, "urn:one", "a") == ["registered"]


async def test_a_trace_of_very_many_events_needs_a_source(deployment: Deployment) -> None:
    """A hundred events with one id are not looked at one by one."""
    await deployment.application.store.append([event("a", source=f"urn:{number}") for number in range(FOUND)])
    refused = await refusal(deployment, ADMIN, "a")
    assert (refused.problem, [fault.field for fault in refused.errors]) == (Problem.BAD_REQUEST, ["source"])


async def test_an_explanation_knows_sub_units(deployment: Deployment) -> None:
    """An event about a sub-unit matches, so its subject is not the reason."""
    await deployment.subscribe(subject=f"/organisation/{KNOWN_UNIT}", include_subunits=True, type="app.other")
    await deployment.publish(event("a", subject="/party/7"))
    entries = await deployment.application.tracer.trace(OWNER, None, "a", explain=True)
    (reason,) = [entry.reason for entry in entries if entry.activity == "unreached"]
    assert reason is not None
    assert reason.startswith("typeFilter")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/party/50002108", "/party/50002108"),
        ("/organisation/974760673", "/organisation/974760673"),
        (f"/person/{KNOWN_PERSON}", "/person/***"),
        (f"urn:altinn:person:identifier-no:{KNOWN_PERSON}", "urn:altinn:person:identifier-no:***"),
        (f"https://x.example/?person={KNOWN_PERSON}&a=1", "https://x.example/?person=***&a=1"),
        (
            "https://x.example/6fb3738d-6372-48e3-a2d2-f40ab0531fc1",
            "https://x.example/6fb3738d-6372-48e3-a2d2-f40ab0531fc1",
        ),
    ],
)
def test_numbers_of_persons_are_masked(text: str, shown: str) -> None:
    """Other numbers stay as they are."""
    assert masked(text) == shown
