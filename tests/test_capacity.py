"""The simulation behind docs/capacity.md loses nothing, and the plan uses its scenarios."""

from __future__ import annotations

import re
from dataclasses import fields
from statistics import mean

from bench.capacity_inputs import SCENARIOS, Inputs, Scenario
from bench.simulate_capacity import Service
from tests.infra.bicep import INFRA
from tests.support import documents

PLAN = documents.ROOT / "docs/capacity.md"
SHORT = Inputs(peak_seconds=2, resources=20, orgs=4)


def _run(scenario: Scenario) -> Service:
    """Run a scenario until all its work is done."""
    return Service(scenario).run(after=60)


def test_every_published_event_is_followed_up_and_delivered() -> None:
    """Exactly once, however the followers race."""
    service = _run(Scenario("", 200_000, 50_000, 50_000, inputs=SHORT))
    stored = sum(len(resource.times) for resource in service.resources)
    assert stored > 100
    assert len(service.took["hot"]) + len(service.took["others"]) == stored
    assert len(service.took["followed"]) == stored
    assert [resource.checkpoint for resource in service.resources] == [len(each.times) for each in service.resources]
    subscribed = sum(len(resource.times) for resource in service.resources if resource.lane is not None)
    assert len(service.took["sent hot"]) + len(service.took["sent"]) == subscribed


def test_a_second_run_gives_the_same_numbers() -> None:
    """The random numbers are fixed, so a changed number means a changed model."""
    scenario = Scenario("", 100_000, 50_000, 50_000, inputs=SHORT)
    assert _run(scenario).took == _run(scenario).took


def test_too_little_throughput_throttles_and_slows_following_up() -> None:
    """The plan compares such scenarios."""
    plenty = _run(Scenario("", 200_000, 50_000, 50_000, inputs=SHORT))
    little = _run(Scenario("", 200_000, 50_000, 200, inputs=SHORT))
    assert plenty.cursors.throttled == 0
    assert little.cursors.throttled > 0
    assert mean(little.took["followed"]) > 2 * mean(plenty.took["followed"])


def test_the_plan_shows_the_scenarios() -> None:
    """Its results are those of `python -m bench.simulate_capacity`, which is too slow for a test."""
    (results,) = documents.blocks(PLAN, "")
    titles = re.split(r"\s{2,}", results.splitlines()[0].strip())
    assert titles == [scenario.title for scenario in SCENARIOS]


def test_every_input_has_a_source_and_a_meaning() -> None:
    """The sources are the words that the plan explains."""
    sources = {*documents.table(PLAN, "word")} - {"simulated"} | {"code"}
    wrong = [
        given.name
        for given in fields(Inputs)
        if given.metadata["source"] not in sources or not given.metadata["meaning"]
    ]
    assert wrong == []


def test_the_plan_sets_parameters_of_the_template() -> None:
    """Their values are those of the simulated scenarios."""
    rows = documents.table(PLAN, "parameter")
    parameters = re.findall(r"^param (\w+)", (INFRA / "main.bicep").read_text(), re.MULTILINE)
    named = {name for name in rows if re.fullmatch(r"[a-z]+[A-Z]\w+", name)}
    assert named <= {*parameters}
    simulated = {f"{scenario.hourly:,.0f}": f"{scenario.progress:,.0f}" for scenario in SCENARIOS[:3]}
    assert rows["progressThroughput"][1:] == list(simulated.values())
