"""Subscriptions: which events match, which subscriptions are the same, and an index that compares only a few."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from events_core.common.slices import Slices
from events_core.delivery.matching import Comparison
from events_core.delivery.subscription import EndpointPause, EventFilter, SubscriptionIndex
from tests.contract.event_store import APP, OTHER_APP, PARTY, event
from tests.support.deliveries import subscription

SOURCE = "https://vfkl.apps.example/vfkl/vfkl"


def lets_through(filters: dict[str, Any], main_units: tuple[str, ...] = (), **attributes: Any) -> bool:
    """Whether an event with these attributes passes the filters of a subscription to the app."""
    wanted = EventFilter(**{"resource": APP, **filters}).compiled()
    return wanted.lets_through(Comparison(event(**attributes), main_units))


@pytest.mark.parametrize(
    ("filters", "attributes", "passes"),
    [
        ({}, {}, True),
        ({}, {"resource": OTHER_APP}, False),
        ({"type": "app.instance.created"}, {"type": "App.Instance.Created"}, True),
        ({"type": "app.%"}, {"type": "app.instance.created"}, True),
        ({"type": "app"}, {"type": "app.instance.created"}, False),
        ({"type": "a_p"}, {"type": "app"}, False),
        ({"source": SOURCE}, {"source": f"{SOURCE}/instances/1/2"}, True),
        ({"source": f"{SOURCE}/"}, {"source": f"{SOURCE}/instances/1/2"}, True),
        ({"source": f"{SOURCE}/%"}, {"source": f"{SOURCE}/instances/1/2"}, True),
        ({"source": SOURCE.upper()}, {"source": f"{SOURCE}/instances/1/2"}, True),
        ({"source": SOURCE}, {"source": f"{SOURCE}-invitasjon/instances/1/2"}, False),
        ({"source": "https://%.example/vfkl/vfkl"}, {"source": f"{SOURCE}/instances/1/2"}, True),
        ({"subject": PARTY}, {"subject": PARTY}, True),
        ({"subject": f"{PARTY}/"}, {"subject": PARTY}, True),
        ({"subject": PARTY}, {"subject": f"{PARTY}0"}, False),
        ({"subject": PARTY}, {"subject": None}, False),
        ({"subject": "/party/%"}, {"subject": PARTY}, True),
        ({"alternative_subject": "/person/1"}, {"alternativesubject": "/person/1"}, True),
        ({"alternative_subject": "/person/1"}, {}, False),
        ({"alternative_subject": "/person/1", "subject": PARTY, "subject_is_derived": True}, {"subject": PARTY}, True),
    ],
)
def test_filters_match(filters: dict[str, Any], attributes: dict[str, Any], *, passes: bool) -> None:
    """Without regard to case, by the segments of a path, with `%` as the only wildcard."""
    assert lets_through(filters, **attributes) is passes


def test_sub_units_match_by_their_main_unit() -> None:
    """Under every name of the main unit, if the subscription asks for sub-units."""
    main = ("/party/9", "/organisation/974760673")
    assert lets_through({"subject": "/party/9", "include_subunits": True}, main, subject="/party/10")
    assert lets_through({"subject": "/organisation/974760673", "include_subunits": True}, main, subject="/party/10")
    assert not lets_through({"subject": "/party/9"}, main, subject="/party/10")
    assert not lets_through({"subject": "/party/8", "include_subunits": True}, main, subject="/party/10")


def test_the_key_ignores_case_and_trailing_slashes() -> None:
    """Another consumer, endpoint or filter makes another subscription."""
    first = subscription(type="app.%", subject=PARTY)
    same = subscription(
        type="APP.%", subject=f"{PARTY}/", endpoint="HTTPS://Example.com.:443/x/../hook", id=7, paused=True
    )
    assert first.key == same.key
    others = [
        subscription(type="app.%", subject=PARTY, consumer="/org/skd"),
        subscription(type="app.%", subject=PARTY, endpoint="https://example.com/HOOK"),
        subscription(type="app.%", subject="/party/1"),
        subscription(type="app.%", subject=PARTY, include_subunits=True),
        subscription(type="app.%"),
    ]
    assert len({first.key, *(other.key for other in others)}) == 6


async def test_an_index_finds_the_subscriptions_that_match() -> None:
    """By id; only subscriptions that start before the event, and no deleted or replaced version."""
    index = SubscriptionIndex()
    every, own, other, late = (
        subscription(id=1),
        subscription(id=2, subject=PARTY),
        subscription(id=3, subject="/party/1"),
        subscription(id=4, start=10),
    )
    for added in (every, own, other, late):
        index.put(added)

    async def found(position: int = 5, **attributes: Any) -> list[int]:
        return [found.id for found in await index.matching(Comparison(event(**attributes)), position, Slices())]

    assert await found() == [1, 2]
    assert await found(11) == [1, 2, 4]
    assert await found(subject="/party/1") == [1, 3]
    assert await found(resource=OTHER_APP) == []
    index.put(replace(own, filter=replace(own.filter, subject="/party/7")))
    index.put(replace(every, deleted=True))
    assert (await found(), await found(subject="/party/7"), index.get(1), len(index)) == ([], [2], None, 3)
    for remaining in (own, other, late):
        index.put(replace(remaining, deleted=True))
    assert (index.any_of(APP), len(index)) == (False, 0)


async def test_an_index_knows_the_subscriptions_to_sub_units() -> None:
    """Register is asked only if there are any."""
    asks = subscription(id=1, subject="/party/9", include_subunits=True)
    index = SubscriptionIndex([asks, subscription(id=2, subject=PARTY)])
    about_a_unit = event(subject="/party/10")
    assert index.asks_for_subunits(APP)
    assert await index.matching(Comparison(about_a_unit, ["/PARTY/9"]), 1, Slices()) == [asks]
    assert await index.matching_for_subunits(Comparison(about_a_unit), 1, Slices()) == [asks]
    index.put(replace(asks, deleted=True))
    assert not index.asks_for_subunits(APP)


def test_a_pause_is_of_a_consumer_and_an_endpoint() -> None:
    """The longest one counts, and it stays when its subscription moves or is deleted."""
    paused = subscription(id=1)
    paused = paused.with_pause(EndpointPause(paused.target, 9))
    assert paused.with_pause(EndpointPause(paused.target, 8)) is paused
    index = SubscriptionIndex([paused])
    same = subscription(id=2, endpoint="HTTPS://Example.com/hook", type="b")
    others = [subscription(consumer="/org/skd"), subscription(endpoint="https://example.com/other")]
    assert index.paused_until(same) == 9
    assert [index.paused_until(other) for other in others] == [0, 0]
    index.put(replace(paused, endpoint="https://example.com/moved"))
    assert index.paused_until(replace(paused, endpoint="https://example.com/moved")) == 0
    assert index.paused_until(same) == 9
    assert SubscriptionIndex([replace(paused, endpoint="https://example.com/moved")]).paused_until(same) == 9
    index.put(paused.deletion_marker())
    assert index.paused_until(same) == 9
    index.pause(EndpointPause(same.target, 5))
    assert index.paused_until(same) == 9


def test_subscriptions_to_other_resources_and_subjects_are_not_compared() -> None:
    """Ten thousand of them make no event slower."""

    class Counting(SubscriptionIndex):
        def count(self) -> int:
            candidates = [self._by_subject.get((APP, subject), ()) for subject in (None, PARTY)]
            return sum(map(len, candidates))

    index = Counting([subscription(id=1), subscription(id=2, subject=PARTY)])
    before = index.count()
    for n in range(10_000):
        index.put(subscription(id=10 + n, resource=OTHER_APP))
        index.put(subscription(id=100_000 + n, subject=f"/party/{n}"))
    assert index.count() == before
