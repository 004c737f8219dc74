"""The simulation that the plan of capacity rests on: it loses nothing, and the plan shows what it prints."""

from __future__ import annotations

import re
from dataclasses import fields
from statistics import mean

from bench.capacity_inputs import SCENARIOS, Inputs, Scenario
from bench.simulate_capacity import Service, inputs_as_printed
from tests.infra.bicep import INFRA
from tests.support import documents

PLAN = documents.ROOT / "docs/capacity.md"
SHORT = Inputs(peak_seconds=2, resources=20, orgs=4)


def made(scenario: Scenario) -> Service:
    """A scenario that was run until all was done."""
    return Service(scenario).run(after=60)


def test_what_is_published_is_followed_up_and_delivered() -> None:
    """Every event once, however the followers race."""
    service = made(Scenario("", 200_000, 50_000, 50_000, inputs=SHORT))
    stored = sum(len(each.times) for each in service.resources)
    assert stored > 100
    assert len(service.took["hot"]) + len(service.took["others"]) == stored
    assert len(service.took["followed"]) == stored
    assert [each.checkpoint for each in service.resources] == [len(each.times) for each in service.resources]
    wanted = sum(len(each.times) for each in service.resources if each.lane is not None)
    assert len(service.took["sent hot"]) + len(service.took["sent"]) == wanted


def test_the_same_numbers_come_out_again() -> None:
    """Its random numbers are fixed."""
    scenario = Scenario("", 100_000, 50_000, 50_000, inputs=SHORT)
    assert made(scenario).took == made(scenario).took


def test_too_little_throughput_is_throttled() -> None:
    """And slows what it is of."""
    plenty = made(Scenario("", 200_000, 50_000, 50_000, inputs=SHORT))
    little = made(Scenario("", 200_000, 50_000, 200, inputs=SHORT))
    assert plenty.cursors.throttled == 0
    assert little.cursors.throttled > 0
    assert mean(little.took["followed"]) > 2 * mean(plenty.took["followed"])


def test_the_plan_shows_the_inputs_and_the_scenarios() -> None:
    """As they are printed; the results are those of `python -m bench.simulate_capacity`, which takes a while."""
    blocks = documents.blocks(PLAN, "")
    assert blocks[0].splitlines() == list(inputs_as_printed())
    titles = re.split(r"\s{2,}", blocks[1].splitlines()[0].strip())
    assert titles == [each.title for each in SCENARIOS]


def test_every_input_says_where_it_comes_from() -> None:
    """And what it is."""
    for each in fields(Inputs):
        assert each.metadata["source"] in ("code", "measured", "documented", "estimated", "assumed")
        assert each.metadata["meaning"]


def test_the_plan_sets_parameters_that_there_are() -> None:
    """By their names in the template, to what the simulated scenarios have."""
    rows = documents.table(PLAN, "parameter")
    parameters = re.findall(r"^param (\w+)", (INFRA / "main.bicep").read_text(), re.MULTILINE)
    named = {name for name in rows if re.fullmatch(r"[a-z]+[A-Z]\w+", name)}
    assert named <= {*parameters}
    simulated = {f"{each.hourly:,.0f}": f"{each.progress:,.0f}" for each in SCENARIOS[:3]}
    assert rows["progressThroughput"][1:] == list(simulated.values())
